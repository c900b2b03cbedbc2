"""Scatter against level: how the noise of a frame grows with its light.

After Foi et al. 2008, IEEE Trans. Image Process. 17(10), 1737: a high-pass detail gives the
scatter, a smoothed image the level, and pixels with structure are left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, convolve1d, gaussian_filter

from dip_pipeline.blind.sky import Mask, Window, clipped_sigma

Floats = NDArray[np.float64]
# How the details of a window scatter by a law; the second argument: taps of their filter.
Expectation = Callable[[Window, Floats], Floats]

# Fourth differences along both axes: what a telescope's optics pass, they hardly do.
FOURTH = np.array([1.0, -4.0, 6.0, -4.0, 1.0]) / 70**0.5  # squares sum to 1
DETAIL = np.outer(FOURTH, FOURTH)
SECOND = np.array([1.0, -2.0, 1.0]) / 6**0.5  # second differences: coarser, of more light
_WEIGHTS = FOURTH**2  # of a pixel's variance in the detail's, along an axis
_LEVEL_PX = 1.0  # smoothing of the level
_HINT_PX = 1.2  # smoothing of the image in which structure is looked for
# Noise of a pixel leaves 0.002 sigma in the hint, a star under its own noise more than this.
_MOST_HINT_SIGMA = 0.01
_EDGE_PX = 4
_CLIPPED_SHARE = 0.005  # of all pixels, at most
_BINS = 14
_FEWEST_PIXELS = 150
_MOST_PIXELS = 100_000  # of a bin that are looked at
_PASSES = 4
_FIRST_BINS = 4
_OUTLYING = 2.0  # standard errors
_OUTLYING_SHARE = 0.25  # of the variance expected
_SIGNIFICANCE = 3.0  # standard errors, for scatter to grow with light at all
# Details of neighbours share pixels: the squares' correlations sum to 6.9 where all of a bin's
# pixels lie side by side, to less where it is scattered.
_SHARED = 5.0


@dataclass(frozen=True, slots=True)
class ScatterLine:
    """variance = floor + slope * (level - sky_level), from the frame's own pixels.

    floor : variance of the sky, unit squared; of all pixels where the slope is not significant
    slope, slope_error : variance a unit of level, and its standard error
    sky_level, darkest_level : median level, and the first percentile of levels
    rises : whether scatter grows with light significantly
    """

    floor: float
    slope: float
    slope_error: float
    sky_level: float
    darkest_level: float
    rises: bool


@dataclass(frozen=True, slots=True)
class _Line:
    """The same in units of the sky's own sigma, above its level."""

    floor: float = 1.0
    slope: float = 0.0
    slope_error: float = np.inf

    def at(self, level: Floats) -> Floats:
        """Variance at a level: it never falls with light, and is never nothing."""
        variance: Floats = np.maximum(self.floor + max(self.slope, 0.0) * level, 0.1)
        return variance


@dataclass(frozen=True, slots=True)
class _Bins:
    """Mean level, variance and number of pixels, from dark to bright."""

    level: Floats
    variance: Floats
    pixels: Floats

    def first(self, count: int) -> "_Bins":
        return _Bins(self.level[:count], self.variance[:count], self.pixels[:count])

    def error(self, line: _Line) -> Floats:
        """Give the standard error of each variance, were the line true."""
        scatter: Floats = line.at(self.level) * np.sqrt(2 * _SHARED / self.pixels)
        return scatter


def measure_scatter(windows: Sequence[Window]) -> ScatterLine | None:
    """Fit the line of scatter against level, from the dark end up; None without scatter."""
    detail, level, hint = _details_inside(windows)
    if detail.size < _FEWEST_PIXELS:
        return None
    sigma = clipped_sigma(detail)
    if not sigma > 0:
        return None
    order = np.argsort(level)
    detail, level, hint = detail[order] / sigma, level[order], hint[order] / sigma
    sky, darkest = float(level[len(level) // 2]), float(level[len(level) // 100])
    level = (level - sky) / sigma
    line = _Line()
    for _ in range(_PASSES):
        # What counts as structure depends on the noise there, so the two are found in turn.
        plain = np.abs(hint) < _MOST_HINT_SIGMA * np.sqrt(line.at(level))
        if plain.sum() < _FEWEST_PIXELS:
            break
        line = _follow(_bin(detail[plain], level[plain], line))
    slope, error = line.slope * sigma, line.slope_error * sigma
    rises = slope > _SIGNIFICANCE * error
    floor = line.floor * sigma**2 if rises else sigma**2
    return ScatterLine(floor, slope, error, sky, darkest, rises)


def floor_along(windows: Sequence[Window], line: ScatterLine, slope: float) -> float:
    """Variance of the sky, were that the slope; line : its level, and a first guess."""
    detail, level, hint = _details_inside(windows)
    above = np.maximum(level - line.sky_level, 0.0)
    floor = line.floor
    for _ in range(_PASSES):
        expected = floor + slope * above
        plain = np.abs(hint) < _MOST_HINT_SIGMA * np.sqrt(expected)
        if plain.sum() < _FEWEST_PIXELS:
            break
        floor *= clipped_sigma(detail[plain] / np.sqrt(expected[plain])) ** 2
    return floor


def scatter_over_law(
    windows: Sequence[Window], expectation: Expectation, taps: Floats = FOURTH
) -> tuple[float, float]:
    """Scatter from pixel to pixel over that of a law of white noise, and the mean level of both.

    NaN without enough pixels.

    taps : of the filter that shows it, along both axes

    In the darker half of what has no structure. Stars that no sky can be seen between raise the
    scatter about any local level, but hardly this one, where optics spread them over two pixels.
    """
    parts = []
    for window in windows:
        _, level, hint = details_of(window)
        seen = _separable(window.pixels, taps), expectation(window, taps)
        plain = np.abs(hint) < _MOST_HINT_SIGMA * expectation(window, FOURTH)
        parts.append([plane[inside(window)] for plane in (*seen, level, plain)])
    detail, expected, level, plain = (np.concatenate(planes) for planes in zip(*parts, strict=True))
    if plain.sum() < 2 * _FEWEST_PIXELS:
        return float("nan"), float("nan")
    dark = plain & (level <= np.median(level[plain]))
    return clipped_sigma(detail[dark] / expected[dark]), float(level[dark].mean())


def expected_detail(sigma: Floats, taps: Floats = FOURTH) -> Floats:
    """Give the scatter of the detail, exactly, were the pixels independent."""
    expected: Floats = np.sqrt(_separable(sigma**2, taps**2))
    return expected


def own_level(window: Window, taps: Floats) -> Floats:
    """Mean level of the pixels that a detail is made of, by their share in its variance."""
    return _separable(window.pixels, taps**2)


def is_plain(window: Window, hint: Floats, expected: Floats) -> Mask:
    """Good pixels without a hint of structure; expected : scatter of the detail."""
    plain: Mask = np.abs(hint) < _MOST_HINT_SIGMA * expected
    return plain & inside(window)


def inside(window: Window) -> Mask:
    """Good pixels away from bad ones and edges.

    Few pixels at the highest value of all may be clipped there, if nobody names a saturation.
    """
    highest = window.pixels == window.pixels.max()
    clipped = highest.mean() < _CLIPPED_SHARE
    away: Mask = binary_erosion(window.good & ~(highest & clipped), iterations=_EDGE_PX)
    return away


def _details_inside(windows: Sequence[Window]) -> tuple[Floats, Floats, Floats]:
    """Detail, level and hint of structure of every pixel inside, of all windows."""
    parts = [[plane[inside(window)] for plane in details_of(window)] for window in windows]
    detail, level, hint = (np.concatenate(planes) for planes in zip(*parts, strict=True))
    return detail, level, hint


def details_of(window: Window) -> tuple[Floats, Floats, Floats]:
    """Detail, level and hint of structure of every pixel."""
    # The mean level of the pixels that the detail is made of, in the weights of their variances.
    level = _separable(gaussian_filter(window.pixels, _LEVEL_PX), _WEIGHTS)
    hint = _detail_of(gaussian_filter(window.pixels, _HINT_PX))
    return _detail_of(window.pixels), level, hint


def _detail_of(pixels: Floats) -> Floats:
    return _separable(pixels, FOURTH)


def _separable(pixels: Floats, taps: Floats) -> Floats:
    result: Floats = convolve1d(convolve1d(pixels, taps, axis=0), taps, axis=1)
    return result


def _bin(detail: Floats, level: Floats, line: _Line) -> _Bins:
    """Cut pixels, sorted by level, into bins that get smaller towards the bright end.

    line : as far as it is known. Few pixels of the brightest bin hold most of its light, and a
    clipped scatter is that of the others: each pixel counts by what the line expects of it, or
    scatter seems to grow half as fast in small frames of stars.
    """
    expected = line.at(level)
    last = min(0.5, _FEWEST_PIXELS / len(level))
    ranks = 1 - np.geomspace(1, last, _BINS + 1)
    edges = np.unique([*(ranks[:-1] * len(level)).astype(int), len(level)])
    bins = [
        slice(start, stop, max(1, (stop - start) // _MOST_PIXELS))
        for start, stop in pairwise(edges)
        if stop - start >= _FEWEST_PIXELS // 2
    ]
    return _Bins(
        np.array([level[each].mean() for each in bins]),
        np.array(
            [
                clipped_sigma(detail[each] / expected[each] ** 0.5) ** 2 * expected[each].mean()
                for each in bins
            ]
        ),
        np.array([float(len(level[each])) for each in bins]),
    )


def _follow(bins: _Bins) -> _Line:
    """Fit the dark bins and go on to brighter ones, up to the first that is off the line.

    More scatter than expected is structure, less is saturation.
    """
    count = min(_FIRST_BINS, len(bins.level))
    line = _fit(bins.first(count))
    while count < len(bins.level):
        further = bins.first(count + 1)
        expected = float(line.at(further.level)[-1])
        error = np.hypot(further.error(line)[-1], line.slope_error * further.level[-1])
        off = abs(float(further.variance[-1]) - expected)
        if off > _OUTLYING * error and off > _OUTLYING_SHARE * expected:
            break
        line, count = _fit(further), count + 1
    return line


def _fit(bins: _Bins) -> _Line:
    """Weighted least squares; the weights come from the line itself."""
    line = _Line()
    if len(bins.level) < 2:
        return _Line(float(bins.variance.mean()))
    design = np.stack([np.ones_like(bins.level), bins.level], axis=1)
    for _ in range(4):
        weight = 1 / bins.error(line)
        weighted = design * weight[:, None]
        covariance = np.linalg.pinv(weighted.T @ weighted)
        floor, slope = covariance @ weighted.T @ (bins.variance * weight)
        misfit = (bins.variance - design @ np.array([floor, slope])) * weight
        spread = max(1.0, float((misfit**2).sum()) / max(1, len(misfit) - 2))
        error = float((covariance[1, 1] * spread) ** 0.5)
        line = _Line(max(float(floor), 0.1), float(slope), error)
    return line
