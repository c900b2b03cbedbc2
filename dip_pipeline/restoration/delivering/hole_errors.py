"""Errors of filled pixels, measured: known pixels are hidden in holes of the same shapes.

A hidden pixel is predicted as a hole is, by networks that were not fitted on it, and compared with
what was observed there. The observed noise is known, so what is left is the prediction's error.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import isotonic_regression

from dip_pipeline.restoration.delivering.uncertainty import ONE_SIGMA_SHARE
from dip_pipeline.restoration.forward.optics import Mask

_RINGS_PX = (0.0, 1.5, 2.5, 4.5, 8.5, 13.5, 20.5)  # lower edges of distances to known pixels
_PLACEMENTS = 4  # of the holes of a region, each somewhere else and turned
_MOST_PIXELS = 600_000  # of regions that holes are hidden in
_MOST_HOLES = 0.2  # share of holes above which single pixels are hidden instead
_FEW_HIDDEN = 0.05
_FEWEST_PIXELS = 300  # that tell of a ring; with fewer it takes those of its neighbours
_PIXELS_A_BIN = 400
_MOST_BINS = 12
_PIXELS_A_BRIGHT_BIN = 50  # the brightest bin is halved as long as there are as many in each half
_BRIGHTER = 1.3  # times, are the brighter half's pixels at least
_MOST_SHARE = 0.25  # of light beyond what was hidden: by which its error grows, at most
_SMALLEST = 0.05  # in sigma
_LAPLACE = 0.81  # ln(1 / 0.317) / sqrt(2): quantile over standard deviation
_AROUND_PX = 1.5  # over which brightness is averaged
# Sides of squares that are hidden where no hole is near: what is measured must be of some use.
_SQUARES_PX = (1, 1, 1, 1, 1, 1, 3, 3, 3, 8, 8, 24)

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Hidden:
    """What became of some hidden pixels, (pixels,) each.

    distance_px : to the nearest known one; brightness : see `brightness_of`
    miss : |observed - predicted| in units of the observation's sigma
    """

    distance_px: Values
    brightness: Values
    miss: Values


@dataclass(frozen=True, slots=True)
class HoleErrors:
    """Half-width that covers the truth in 68.3 % of filled pixels, in sigma.

    distances_px : of the rings, from the nearest known pixel, rising
    knots, errors : for each ring, the error as a rising function of brightness; of brighter light
        than any that was hidden the error is as large a share as of that
    """

    distances_px: tuple[float, ...]
    knots: tuple[tuple[float, ...], ...]
    errors: tuple[tuple[float, ...], ...]

    def look_up(self, distance_px: Values, brightness: Values) -> Values:
        """Errors of pixels, between rings in proportion; no ring's is below a nearer one's."""
        columns = [
            np.interp(brightness, knots, errors) + _beyond(brightness, knots[-1], errors[-1])
            for knots, errors in zip(self.knots, self.errors, strict=True)
        ]
        rising = np.maximum.accumulate(np.stack(columns), axis=0)
        place = np.interp(distance_px, self.distances_px, np.arange(len(columns)))
        below = np.minimum(place.astype(int), len(columns) - 1)
        above = np.minimum(below + 1, len(columns) - 1)
        share = place - below
        nearer, farther = (
            np.take_along_axis(rising, ring[None], axis=0)[0] for ring in (below, above)
        )
        found: Values = (1 - share) * nearer + share * farther
        return found


def _beyond(brightness: Values, brightest: float, error: float) -> Values:
    """Give what errors of brighter light than any that was hidden are larger by."""
    share = min(error / max(brightest, 1.0), _MOST_SHARE)
    more: Values = share * np.maximum(brightness - brightest, 0.0)
    return more


def read_hole_errors(record: Mapping[str, Any] | None) -> HoleErrors | None:
    """Read what `dataclasses.asdict` and JSON made of hole errors."""
    if record is None:
        return None
    columns = (tuple(tuple(ring) for ring in record[name]) for name in ("knots", "errors"))
    return HoleErrors(tuple(record["distances_px"]), *columns)


def distance_px(known: Mask) -> Values:
    """Distance of each pixel to the nearest known one, (rows, cols); 0 for known ones."""
    if not known.any():
        return np.full(known.shape, np.inf)
    distance: Values = ndimage.distance_transform_edt(~known)
    return distance


def brightness_of(light: Values) -> Values:
    """Light around each pixel, in sigma: what errors grow with."""
    around: Values = ndimage.gaussian_filter(np.abs(light), _AROUND_PX, mode="nearest")
    return around


def measure_hole_errors(
    try_again: Callable[[int, Mask], Hidden],
    valid: Sequence[Mask],
    holes: Sequence[Mask],
    *,
    seed: int,
) -> HoleErrors | None:
    """Hide holes in regions of a frame and measure how well they are filled.

    try_again : restores a region (by number) with further pixels hidden, and tells of these
    valid, holes : of each region, pixels that can be compared, and those that are missing
    None where nothing could be hidden.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 13]))
    found: list[Hidden] = []
    pixels = 0
    for number, usable in enumerate(valid):
        if pixels >= _MOST_PIXELS:
            break
        pixels += usable.size
        for pattern in _patterns(usable.shape, holes, number, rng):
            hidden = pattern & usable
            if hidden.any() and (usable & ~hidden).any():
                found.append(try_again(number, hidden))
    return _tabulate(found) if found else None


def _patterns(
    shape: tuple[int, ...], holes: Sequence[Mask], number: int, rng: np.random.Generator
) -> Iterator[Mask]:
    """Holes of the region, or of the next one that has some, turned and shifted."""
    own = [*holes[number:], *holes[:number]]
    model = next((one for one in own if one.shape == shape and one.any()), None)
    for turn in range(_PLACEMENTS):
        if model is None:
            yield _squares(shape, rng)
            continue
        if model.mean() > _MOST_HOLES:
            yield rng.random(shape) < _FEW_HIDDEN
            continue
        turned = (model[::-1, ::-1], model[:, ::-1], model[::-1])[turn % 3]
        shift = [int(rng.integers(length)) for length in shape]
        yield np.roll(turned, shift, axis=(0, 1))


def _squares(shape: tuple[int, ...], rng: np.random.Generator) -> Mask:
    """Squares of several sides, a set for every 64 x 64 pixels."""
    pattern = np.zeros(shape, dtype=bool)
    for _ in range(max(1, shape[0] * shape[1] // 64**2)):
        for side in _SQUARES_PX:
            row, col = (int(rng.integers(length)) for length in shape)
            pattern[row : row + side, col : col + side] = True
    return pattern


def _tabulate(found: Sequence[Hidden]) -> HoleErrors:
    """One table a ring of distances; rings with too few pixels are left out."""
    distance, brightness, miss = (
        np.concatenate([getattr(one, name) for one in found])
        for name in ("distance_px", "brightness", "miss")
    )
    rings = np.digitize(distance, _RINGS_PX) - 1
    distances, knots, errors = [], [], []
    for ring in range(len(_RINGS_PX)):
        members = rings == ring
        if members.sum() < _FEWEST_PIXELS:
            continue
        by_light = _by_brightness(brightness[members], miss[members])
        distances.append(float(np.median(distance[members])))
        knots.append(by_light[0])
        errors.append(by_light[1])
    if not distances:
        by_light = _by_brightness(brightness, miss)
        distances, knots, errors = [1.0], [by_light[0]], [by_light[1]]
    return HoleErrors(tuple(distances), tuple(knots), tuple(errors))


def _by_brightness(brightness: Values, miss: Values) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Error by brightness: the quantile of what was missed, less the noise in quadrature.

    Errors are taken to be peaked as Laplace's. Estimates of bins scatter: they are made to rise
    by isotonic regression (Barlow et al. 1972, Statistical Inference under Order Restrictions),
    which draws nothing upwards as a running maximum would. Few pixels are bright, and of these
    errors are far larger: one bin of them all would tell of the faintest.
    """
    bins = int(np.clip(len(miss) // _PIXELS_A_BIN, 1, _MOST_BINS))
    order = np.argsort(brightness, kind="stable")
    *groups, brightest = np.array_split(order, bins)
    groups += _halved(brightest, brightness)
    squares = [float(np.quantile(miss[group], ONE_SIGMA_SHARE)) ** 2 for group in groups]
    counts = [float(len(group)) for group in groups]
    rising = np.maximum(isotonic_regression(squares, weights=counts).x, 1 + _SMALLEST**2)
    # What is left is nearly a variance where noise is larger than errors, and a quantile where
    # it is not; of Laplace's distribution the one is 0.81 of the root of the other.
    errors = np.sqrt(rising - 1) * (_LAPLACE + (1 - _LAPLACE) * (1 - 1 / rising))
    knots = [float(np.median(brightness[group])) for group in groups]
    return tuple(knots), tuple(float(error) for error in errors)


def _halved(brightest: NDArray[np.intp], brightness: Values) -> list[NDArray[np.intp]]:
    """Split pixels, sorted by brightness, into halves, and again the brighter one.

    Not where the halves are of about one brightness: a bin of more pixels scatters less.
    """
    groups = []
    while len(brightest) >= 2 * _PIXELS_A_BRIGHT_BIN:
        halves = np.array_split(brightest, 2)
        fainter, brighter = (float(np.median(brightness[half])) for half in halves)
        if brighter <= _BRIGHTER * fainter:
            break
        groups.append(halves[0])
        brightest = halves[1]
    return [*groups, brightest]
