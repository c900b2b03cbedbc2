"""Holes whose rim is brighter than what lies beyond: what they hide is wider than their mask.

The halo of a satellite's trail that reaches beyond the pixels that are masked is light to those
that fill the hole, and is drawn through it.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dip_pipeline.exposures.light import usable_pixels
from dip_pipeline.frames import Frame, Pixels, around
from dip_pipeline.sensor import NoiseKind, NoiseModel
from dip_pipeline.sensor.noise_sigma import sigma_plane

log = logging.getLogger(__name__)

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

_BLOCK_PX = 1024  # side of what is looked at at once
_LEAST_HOLE_PX = 40  # pixels of a hole; of smaller ones no rim can be told from a star's wing
_CELL_PX = 16  # side of the cells along a rim that are looked at for themselves
_MARGIN_PX = 16
# Distances to the hole: its rim, and what tells how bright it should be, on a line through both.
_RIM_PX, _NEAR_PX, _FAR_PX = (0.0, 2.0), (3.0, 6.0), (6.0, 9.0)
_FEWEST_RIM, _FEWEST_BESIDE = 8, 20  # pixels of each in a cell
_SIGNIFICANT = 2.0  # standard errors of one cell
_LEAST_SIGMA = 0.5
_LONG_CELLS = 8  # in a row, beside one hole: no star's or galaxy's wing is so long
_MORE_OFTEN = 3  # times as often brighter than fainter: a nebula is both
_OF_MEDIAN = 1.2533  # error of a median over that of the mean
_MOST_GROWN_PX = 12


@dataclass(frozen=True, slots=True)
class BrightRims:
    """Rims of holes that are brighter than what lies beyond.

    holes : of which they are; pixels : masked ones of these
    excess_sigma : by how much, in the middle; grow_px : how far out it can be seen
    """

    holes: int
    pixels: int
    excess_sigma: float
    grow_px: int


def warn_of_bright_rims(frame: Frame, noise: NoiseModel) -> None:
    """Warn where the light rises towards holes of a frame along much of their rim."""
    if noise.kind is NoiseKind.NONE:
        return
    found = [rims for rims in _looks(frame, noise) if rims is not None]
    if not found:
        return
    brightest = max(found, key=lambda rims: rims.excess_sigma)
    log.warning(
        "%s: beside %d masked region(s) of %d pixels light rises towards the mask, by %.1f sigma: "
        "what the mask hides is wider than it is, and is filled in as light of the sky; widen the "
        "mask, by --grow %d",
        frame.path,
        sum(rims.holes for rims in found),
        sum(rims.pixels for rims in found),
        brightest.excess_sigma,
        max(rims.grow_px for rims in found) + frame.grow_px,
    )


def _looks(frame: Frame, noise: NoiseModel) -> Iterator[BrightRims | None]:
    """Look at all of a frame, block by block."""
    rows, cols = (
        [slice(at, min(at + _BLOCK_PX, side)) for at in range(0, side, _BLOCK_PX)]
        for side in frame.shape
    )
    for down in rows:
        for across in cols:
            wide, _ = around(down, across, frame.shape, _MARGIN_PX)
            pixels = frame.read(*wide)
            if _large(_unknown(pixels)).any():
                yield _look(pixels, noise)


def _look(pixels: Pixels, noise: NoiseModel) -> BrightRims | None:
    unknown = _unknown(pixels)
    known = usable_pixels(pixels, noise)
    light = np.where(known, pixels.science, np.float32(0))
    error = pixels.error if noise.from_error_plane else None
    sigma = sigma_plane(noise, light, error).astype(np.float64)
    known &= np.isfinite(sigma) & (sigma > 0)
    return bright_rims(np.where(known, light, np.nan).astype(np.float64), sigma, unknown)


def _unknown(pixels: Pixels) -> Mask:
    unknown: Mask = pixels.masked | ~np.isfinite(pixels.science)
    return unknown


def bright_rims(light: Values, sigma: Values, unknown: Mask) -> BrightRims | None:
    """Find rims of holes that are brighter than what lies beyond, over a length that no star has.

    light, sigma : (rows, cols), the same unit; NaN where the light says nothing
    unknown : pixels of holes
    The middle of the rim is held against a line through the light a little farther out, so that
    slopes and wide nebulae are none; None where there is no such rim.
    """
    holes = _large(unknown)
    if not holes.any():
        return None
    away, nearest = ndimage.distance_transform_edt(~holes, return_indices=True)
    labels, _ = ndimage.label(holes, structure=np.ones((3, 3)))
    cells = [
        _Cell(cell, excess, int(_usual(labels[tuple(nearest)][_inside(cell)])))
        for cell in _cells(away, light)
        if (excess := _excess(cell, light, sigma, away)) != 0
    ]
    long = [cell for run in _runs(cells) if len(run) >= _LONG_CELLS for cell in run]
    if not long:
        return None
    beside = np.zeros(light.shape, dtype=bool)
    for cell in long:
        beside[_inside(cell.place)] = True
    touched = sorted({cell.hole for cell in long})
    return BrightRims(
        holes=len(touched),
        pixels=int(np.count_nonzero(np.isin(labels, touched))),
        excess_sigma=float(np.median([cell.excess_sigma for cell in long])),
        grow_px=_reach(light / sigma, away, beside),
    )


class _Cell(NamedTuple):
    """A cell of a rim that is too bright, or too faint.

    place : its row and col among cells; hole : the number of the one beside it
    """

    place: tuple[int, int]
    excess_sigma: float
    hole: int


def _runs(cells: Sequence[_Cell]) -> list[list[_Cell]]:
    """Group bright cells that touch, beside the same hole, unless faint ones are as frequent."""
    runs = []
    for hole in sorted({cell.hole for cell in cells}):
        beside = [cell for cell in cells if cell.hole == hole]
        own = {cell.place: cell for cell in beside if cell.excess_sigma > 0}
        if len(own) < max(_LONG_CELLS, _MORE_OFTEN * (len(beside) - len(own))):
            continue
        grid = np.zeros(np.max(list(own), axis=0) + 1, dtype=bool)
        grid[tuple(np.transpose(list(own)))] = True
        groups, count = ndimage.label(grid, structure=np.ones((3, 3)))
        runs += [
            [own[int(row), int(col)] for row, col in np.argwhere(groups == group)]
            for group in range(1, count + 1)
        ]
    return runs


def _usual(labels: NDArray[np.integer]) -> int:
    """Give the most frequent of some labels."""
    return int(np.bincount(labels.ravel()).argmax())


def _inside(cell: tuple[int, int]) -> tuple[slice, slice]:
    """Pixels of a cell."""
    rows, cols = (slice(at * _CELL_PX, (at + 1) * _CELL_PX) for at in cell)
    return rows, cols


def _large(unknown: Mask) -> Mask:
    """Holes of some size."""
    labels, _ = ndimage.label(unknown, structure=np.ones((3, 3)))
    large: Mask = (np.bincount(labels.ravel()) >= _LEAST_HOLE_PX)[labels] & unknown
    return large


def _cells(away: Values, light: Values) -> list[tuple[int, int]]:
    """Cells that hold enough of a rim."""
    rim = (away > _RIM_PX[0]) & (away <= _RIM_PX[1]) & np.isfinite(light)
    padded = np.pad(rim, [(0, -side % _CELL_PX) for side in rim.shape])
    counts = padded.reshape(
        padded.shape[0] // _CELL_PX, _CELL_PX, padded.shape[1] // _CELL_PX, _CELL_PX
    ).sum(axis=(1, 3))
    return [(int(row), int(col)) for row, col in np.argwhere(counts >= _FEWEST_RIM)]


def _excess(cell: tuple[int, int], light: Values, sigma: Values, away: Values) -> float:
    """By how many sigma the rim in a cell is brighter than it should be; 0: not to be told."""
    inner = _inside(cell)
    wide = tuple(
        slice(max(0, span.start - _CELL_PX // 2), span.stop + _CELL_PX // 2) for span in inner
    )
    middles, variance = [], 0.0
    for (least, most), place, weight in (
        (_RIM_PX, inner, 1.0),
        (_NEAR_PX, wide, 2.0),
        (_FAR_PX, wide, 1.0),
    ):
        distance = away[place]
        members = (distance > least) & (distance <= most) & np.isfinite(light[place])
        count = np.count_nonzero(members)
        if count < (_FEWEST_RIM if place is inner else _FEWEST_BESIDE):
            return 0.0
        values = light[place][members]
        middles.append(float(np.median(values)))
        scatter = 1.4826 * float(np.median(np.abs(values - middles[-1])))
        noise = max(scatter, float(np.median(sigma[place][members])))
        variance += (weight * _OF_MEDIAN * noise) ** 2 / count
    excess = middles[0] - (2 * middles[1] - middles[2])
    usual = float(np.median(sigma[inner]))
    told = abs(excess) > max(_SIGNIFICANT * variance**0.5, _LEAST_SIGMA * usual)
    return excess / usual if told else 0.0


def _reach(light: Values, away: Values, beside: Mask) -> int:
    """How far from holes light is brighter than farther out, px; light in sigma."""
    beyond = light[beside & (away > _MOST_GROWN_PX) & (away <= 2 * _MOST_GROWN_PX)]
    level = float(np.nanmedian(beyond)) if np.isfinite(beyond).any() else 0.0
    for distance in range(1, _MOST_GROWN_PX):
        ring = light[beside & (away > distance) & (away <= distance + 1)]
        if not np.isfinite(ring).any() or np.nanmedian(ring) - level < _LEAST_SIGMA:
            return distance
    return _MOST_GROWN_PX
