"""Where an exposure lies on its reference, by the celestial coordinates of both."""

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.errors import ContradictionError
from dip_pipeline.frames import Frame, places_on
from dip_pipeline.preparing.cutting import Window
from dip_pipeline.registration import Geometry, fit_affine

_MOST_PX = 3072  # a side of what is looked at to register an exposure
_GRID = 9  # places a side at which coordinates are compared
_AFFINE_TOLERANCE_PX = 0.1
_MOST_OF_IT = 0.5


def middle_of(shape: tuple[int, int]) -> Window:
    """Middle of a frame, of a size that can be looked at."""
    spans = []
    for side in shape:
        length = min(side, _MOST_PX)
        first = (side - length) // 2
        spans.append(slice(first, first + length))
    return spans[0], spans[1]


def whole_if_most(window: Window, shape: tuple[int, int]) -> Window:
    """Give all of a frame that can be looked at for a window that holds most of it."""
    whole = middle_of(shape)
    area, most = (np.prod([span.stop - span.start for span in spans]) for spans in (window, whole))
    held = all(
        own.start >= span.start and own.stop <= span.stop
        for own, span in zip(window, whole, strict=True)
    )
    return whole if held and area > _MOST_OF_IT * most else window


def by_sky(frame: Frame, reference: Frame, window: Window) -> tuple[Geometry | None, Window]:
    """Geometry by celestial coordinates, and what of the exposure lies in a reference's window."""
    grid = _grid_over(frame.shape)
    mapped = places_on(grid, frame, reference)
    if mapped is None:
        return None, middle_of(frame.shape)
    good = np.isfinite(mapped).all(axis=1)
    near = good & _near(mapped, reference.shape)
    if near.sum() < _GRID and (part := _part_seen(frame, reference)) is not None:
        # A small reference falls between the places of a grid over all of the exposure.
        grid, mapped = part
        near = np.isfinite(mapped).all(axis=1) & _near(mapped, reference.shape)
    if near.sum() < _GRID:
        raise ContradictionError(
            f"{frame.path}: does not overlap with {reference.path}, by the celestial coordinates "
            "of both; give exposures of the same sky"
        )
    geometry = fit_affine(grid[near], mapped[near])
    apart = np.hypot(*(geometry.to_reference(grid[near]) - mapped[near]).T)
    if float(apart.max()) > _AFFINE_TOLERANCE_PX:
        raise ContradictionError(
            f"{frame.path}: by its celestial coordinates it is bent against {reference.path} by "
            f"{float(apart.max()):.2f} px, more than {_AFFINE_TOLERANCE_PX:g}; resample it onto "
            "that frame's pixels first"
        )
    corners = np.array([(r, c) for r in _ends(window[0]) for c in _ends(window[1])], float)
    places = geometry.to_exposure(corners)
    spans = []
    for low, high, side in zip(places.min(axis=0), places.max(axis=0), frame.shape, strict=True):
        first, last = max(0, int(low)), min(side, int(high) + 1)
        if last - first < _GRID:
            raise ContradictionError(
                f"{frame.path}: does not overlap with the middle of {reference.path}; give "
                "exposures of the same sky"
            )
        spans.append(slice(first, last))
    return geometry, (spans[0], spans[1])


def _part_seen(
    frame: Frame, reference: Frame
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Places of a frame that its reference covers, and where they lie there, pixel by pixel."""
    there = _grid_over(reference.shape)
    here = places_on(there, reference, frame)
    if here is None:
        return None
    last = np.array(frame.shape) - 1.0
    inside = np.isfinite(here).all(axis=1) & np.all((here >= 0) & (here <= last), axis=1)
    return here[inside], there[inside]


def _grid_over(shape: tuple[int, int]) -> NDArray[np.float64]:
    rows, cols = (np.linspace(0, side - 1, _GRID) for side in shape)
    return np.stack(np.meshgrid(rows, cols, indexing="ij"), axis=-1).reshape(-1, 2)


def _near(places: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Whether places lie on a frame, or at most half a side beside it."""
    sides = np.array(shape)
    inside: NDArray[np.bool_] = np.all((places > -sides / 2) & (places < 1.5 * sides), axis=1)
    return inside


def _ends(span: slice) -> tuple[int, int]:
    return span.start, span.stop - 1


def origin_of(window: Window) -> NDArray[np.float64]:
    """First pixel of a window, as a place."""
    return np.array([window[0].start, window[1].start], dtype=float)


def in_windows(
    geometry: Geometry, own: NDArray[np.float64], reference: NDArray[np.float64]
) -> Geometry:
    """Geometry between frames as one between windows that begin at these pixels."""
    shift = np.asarray(geometry.shift_px) + np.asarray(geometry.matrix) @ own - reference
    return Geometry(geometry.matrix, (float(shift[0]), float(shift[1])))


def in_frames(
    geometry: Geometry, own: NDArray[np.float64], reference: NDArray[np.float64]
) -> Geometry:
    """Geometry between windows as one between their frames."""
    shift = np.asarray(geometry.shift_px) - np.asarray(geometry.matrix) @ own + reference
    return Geometry(geometry.matrix, (float(shift[0]), float(shift[1])))
