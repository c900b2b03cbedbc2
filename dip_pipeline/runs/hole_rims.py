"""Holes whose rim is brighter than what lies beyond: what they hide is wider than their mask.

The halo of a satellite's trail that reaches beyond the pixels that are masked is light to those
that fill the hole, and is drawn through it.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dip_pipeline.exposures.light import usable_pixels
from dip_pipeline.frames import Frame, Pixels
from dip_pipeline.runs.hole_parts import CELL_PX, Block, HoleParts, blocks
from dip_pipeline.sensor import NoiseKind, NoiseModel
from dip_pipeline.sensor.noise_sigma import sigma_plane

log = logging.getLogger(__name__)

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
# Light, sigma and unknown pixels of a region; None where it has no large hole.
View = Callable[[slice, slice], tuple[Values, Values, Mask] | None]

_LEAST_HOLE_PX = 40  # pixels of a hole; of smaller ones no rim can be told from a star's wing
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
    found = bright_rims(lambda rows, cols: _view(frame.read(rows, cols), noise), frame.shape)
    if found is None:
        return
    log.warning(
        "%s: beside %d masked region(s) of %d pixels light rises towards the mask, by %.1f sigma: "
        "what the mask hides is wider than it is, and is filled in as light of the sky; widen the "
        "mask, by --grow %d",
        frame.path,
        found.holes,
        found.pixels,
        found.excess_sigma,
        found.grow_px + frame.grow_px,
    )


def _view(pixels: Pixels, noise: NoiseModel) -> tuple[Values, Values, Mask] | None:
    unknown = _unknown(pixels)
    if not _large(unknown).any():
        return None
    known = usable_pixels(pixels, noise)
    light = np.where(known, pixels.science, np.float32(0))
    error = pixels.error if noise.from_error_plane else None
    sigma = sigma_plane(noise, light, error).astype(np.float64)
    known &= np.isfinite(sigma) & (sigma > 0)
    return np.where(known, light, np.nan).astype(np.float64), sigma, unknown


def _unknown(pixels: Pixels) -> Mask:
    unknown: Mask = pixels.masked | ~np.isfinite(pixels.science)
    return unknown


def bright_rims(view: View, shape: tuple[int, int]) -> BrightRims | None:
    """Find rims of holes that are brighter than what lies beyond, over a length that no star has.

    view : gives light and sigma, the same unit, NaN where the light says nothing, and the pixels of
        holes; of one block of the frame at a time
    The middle of the rim is held against a line through the light a little farther out, so that
    slopes and wide nebulae are none; None where there is no such rim.
    """
    parts, cells = HoleParts(), list[_Cell]()
    for block in blocks(shape):
        if (seen := view(*block.wide)) is not None:
            cells += _cells_of(block, seen, parts)
    hole_of = parts.put_together()
    cells = [cell._replace(hole=int(hole_of[cell.hole])) for cell in cells]
    long = [cell for run in _runs(cells) if len(run) >= _LONG_CELLS for cell in run]
    if not long:
        return None
    touched = sorted({cell.hole for cell in long})
    return BrightRims(
        holes=len(touched),
        pixels=int(np.asarray(parts.pixels)[np.isin(hole_of, touched)].sum()),
        excess_sigma=float(np.median([cell.excess_sigma for cell in long])),
        grow_px=_reach(*_beside(view, shape, [cell.place for cell in long])),
    )


def _cells_of(
    block: Block, seen: tuple[Values, Values, Mask], holes: HoleParts
) -> Iterator["_Cell"]:
    """Cells of a block along rims that are too bright, or too faint."""
    light, sigma, unknown = seen
    large = _large(unknown)
    parts = holes.number(block, large)
    away, nearest = ndimage.distance_transform_edt(~large, return_indices=True)
    for cell in _cells(away, light):
        place = block.place_of(cell)
        if block.owns(place) and (excess := _excess(cell, light, sigma, away)) != 0:
            yield _Cell(place, excess, _usual(parts[tuple(nearest)][_inside(cell)]))


def _beside(
    view: View, shape: tuple[int, int], places: Sequence[tuple[int, int]]
) -> tuple[Values, Values]:
    """Light of the pixels in these cells, in sigma, and how far from holes they are."""
    found = []
    for block in blocks(shape):
        own = [place for place in places if block.owns(place)]
        if not own or (seen := view(*block.wide)) is None:
            continue
        light, sigma, unknown = seen
        away = ndimage.distance_transform_edt(~_large(unknown))
        first = block.place_of((0, 0))
        for row, col in own:
            cell = _inside((row - first[0], col - first[1]))
            found.append(np.stack([light[cell] / sigma[cell], away[cell]]).reshape(2, -1))
    light, away = np.concatenate(found, axis=1)
    return light, away


class _Cell(NamedTuple):
    """A cell of a rim that is too bright, or too faint.

    place : its row and col among cells; hole : the number of the one beside it
    """

    place: tuple[int, int]
    excess_sigma: float
    hole: int


def _runs(cells: Sequence[_Cell]) -> list[list[_Cell]]:
    """Group bright cells that touch, beside the same hole, unless faint ones are as frequent."""
    runs, holes = [], dict[int, list[_Cell]]()
    for cell in cells:
        holes.setdefault(cell.hole, []).append(cell)
    for beside in holes.values():
        own = {cell.place: cell for cell in beside if cell.excess_sigma > 0}
        if len(own) < max(_LONG_CELLS, _MORE_OFTEN * (len(beside) - len(own))):
            continue
        first = np.min(list(own), axis=0)
        grid = np.zeros(np.max(list(own), axis=0) + 1 - first, dtype=bool)
        grid[tuple(np.transpose(list(own) - first))] = True
        groups, count = ndimage.label(grid, structure=np.ones((3, 3)))
        runs += [
            [own[int(row), int(col)] for row, col in np.argwhere(groups == group) + first]
            for group in range(1, count + 1)
        ]
    return runs


def _usual(labels: NDArray[np.integer]) -> int:
    """Give the most frequent of some labels."""
    values, counts = np.unique(labels, return_counts=True)
    return int(values[counts.argmax()])


def _inside(cell: tuple[int, int]) -> tuple[slice, slice]:
    """Pixels of a cell."""
    rows, cols = (slice(at * CELL_PX, (at + 1) * CELL_PX) for at in cell)
    return rows, cols


def _large(unknown: Mask) -> Mask:
    """Holes of some size."""
    labels, _ = ndimage.label(unknown, structure=np.ones((3, 3)))
    large: Mask = (np.bincount(labels.ravel()) >= _LEAST_HOLE_PX)[labels] & unknown
    return large


def _cells(away: Values, light: Values) -> list[tuple[int, int]]:
    """Cells that hold enough of a rim."""
    rim = (away > _RIM_PX[0]) & (away <= _RIM_PX[1]) & np.isfinite(light)
    padded = np.pad(rim, [(0, -side % CELL_PX) for side in rim.shape])
    counts = padded.reshape(
        padded.shape[0] // CELL_PX, CELL_PX, padded.shape[1] // CELL_PX, CELL_PX
    ).sum(axis=(1, 3))
    return [(int(row), int(col)) for row, col in np.argwhere(counts >= _FEWEST_RIM)]


def _excess(cell: tuple[int, int], light: Values, sigma: Values, away: Values) -> float:
    """By how many sigma the rim in a cell is brighter than it should be; 0: not to be told."""
    inner = _inside(cell)
    wide = tuple(
        slice(max(0, span.start - CELL_PX // 2), span.stop + CELL_PX // 2) for span in inner
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


def _reach(light: Values, away: Values) -> int:
    """How far from holes light is brighter than farther out, px; light in sigma."""
    beyond = light[(away > _MOST_GROWN_PX) & (away <= 2 * _MOST_GROWN_PX)]
    level = float(np.nanmedian(beyond)) if np.isfinite(beyond).any() else 0.0
    for distance in range(1, _MOST_GROWN_PX):
        ring = light[(away > distance) & (away <= distance + 1)]
        if not np.isfinite(ring).any() or np.nanmedian(ring) - level < _LEAST_SIGMA:
            return distance
    return _MOST_GROWN_PX
