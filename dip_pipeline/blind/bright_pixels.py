"""Bright pixels against what their neighbours make of them: whether noise grows with light.

The line of scatter against level leaves out what has structure, and with it most of the light of
stars. Here each bright pixel is foretold from the 24 around it, by weights that the frame's own
bright pixels teach: what optics pass is foretold so wherever it lies, and however stars overlap.
The squares of what is left have, in the mean,

    variance of the pixel and, by the squares of their weights, of the others + (share * level)^2

where the last is light that is too sharp to be foretold, and the unequal response of pixels. It
grows with the square of light, noise of photons with light itself: that tells one from the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve

from dip_pipeline.blind.scatter import ScatterLine, floor_along, inside
from dip_pipeline.blind.sky import Window

Floats = NDArray[np.float64]

# One of each pair of neighbours on opposite sides: the two have the same weight.
_PAIRS = [(row, col) for row in range(-2, 3) for col in range(-2, 3) if (row, col) > (0, 0)]
_AROUND = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]]) / 8
_BRIGHT_SIGMA = 3.0  # of the eight around a pixel, in the mean: its own noise does not choose it
_FEWEST_A_WEIGHT, _FEWEST = 10, 12
_MOST_PIXELS = 10_000
_STEPS = (4, 4, 1)  # through slopes and shares, at each pass
_FIRST_SHARE = 0.03
_SLOPES = np.array([0.0, *np.geomspace(1e-3, 3.0, 47)])  # sky's variance a sigma of level
_SHARES = np.array([0.0, *np.geomspace(1e-3, 0.316, 26)])
_MOST_SHARE = 0.18  # of light too sharp to be foretold: more is not to be told from noise
_OUTLYING = 4.0  # of a square over its mean: beyond it counts by its logarithm
_OF_NORMAL = 1.11  # by which squares are raised so that normal ones, held so, have their mean
_TOGETHER = 2.0  # residuals side by side have noise in common
# Twice the logarithm of a likelihood over that of no slope: by both, and by bright pixels alone.
_EVIDENCE, _OWN_EVIDENCE = 4.0, 0.5


@dataclass(frozen=True, slots=True)
class _Pixels:
    """Bright pixels, in units of the sky's sigma above its level, the brightest first.

    own, around : (pixels,), themselves and the mean of the eight next to them
    pairs : (weights, pixels), sums of neighbours that have a weight in common
    members : (weights,), how many each of these sums is made of
    """

    own: Floats
    around: Floats
    pairs: Floats
    members: Floats


@dataclass(frozen=True, slots=True)
class _Residuals:
    """What is left of bright pixels, (pixels,): squares, the levels that foretell them.

    noise : variance of a residual over that of a pixel, were the noise even; a number
    level : that a noise of photons in it grows with; foretold : level of the pixel itself
    """

    squares: Floats
    noise: float
    level: Floats
    foretold: Floats

    def expected(self, slope: float, share: float) -> Floats:
        """Give the mean of the squares."""
        mean: Floats = self.noise + slope * self.level + (share * self.foretold) ** 2
        return mean


def with_bright_pixels(line: ScatterLine, windows: Sequence[Window]) -> ScatterLine:
    """Let a line rise where bright pixels tell of it.

    Its slope becomes the one that both together make likeliest, where that is clearly likelier than
    none, and not by what the line says alone, which sharp light raises. A line that rises by itself
    stays: bright pixels alone find rather too little, of a few bright stars down to a third.
    """
    if line.rises or not line.slope_error > 0:
        return line
    sigma = line.floor**0.5
    misfit = _misfit_of_slopes(windows, line.sky_level, sigma)
    if misfit is None:
        return line
    both = misfit + ((_SLOPES * sigma - line.slope) / line.slope_error) ** 2
    likeliest = int(np.argmin(both))
    if both[0] - both[likeliest] < _EVIDENCE or misfit[0] < _OWN_EVIDENCE:
        return line
    slope = float(_SLOPES[likeliest]) * sigma
    return replace(line, slope=slope, rises=True, floor=floor_along(windows, line, slope))


def _misfit_of_slopes(windows: Sequence[Window], sky_level: float, sigma: float) -> Floats | None:
    """Twice the negative logarithm of each slope's likelihood, from that of the likeliest on.

    None where there are too few bright pixels, or their light is too sharp.
    """
    pixels = _bright(windows, sky_level, sigma)
    if pixels is None:
        return None
    # Weights depend on what noise and sharp light there is, and this on the weights.
    variance = 1 + (_FIRST_SHARE * pixels.around) ** 2
    for step in _STEPS:
        residuals = _left(pixels, variance)
        slopes, shares = _SLOPES[::step], _SHARES[::step]
        misfits = np.array([[_misfit(residuals, s, q) for q in shares] for s in slopes])
        best = np.unravel_index(int(np.argmin(misfits)), misfits.shape)
        slope, share = float(slopes[best[0]]), float(shares[best[1]])
        variance = residuals.expected(slope, share)
    if share > _MOST_SHARE:
        return None
    of_slopes = misfits.min(axis=1)
    lacking: Floats = (of_slopes - of_slopes.min()) / _TOGETHER
    return lacking


def _bright(windows: Sequence[Window], sky_level: float, sigma: float) -> _Pixels | None:
    """Collect bright pixels; None where there are hardly any."""
    planes = np.concatenate([_bright_of(window, sky_level, sigma) for window in windows], axis=1)
    planes = _thinned(np.unique(planes, axis=1))  # windows overlap
    if planes.shape[1] < _FEWEST:
        return None
    return _Pixels(planes[1], planes[0], *_tied(planes[2:]))


def _bright_of(window: Window, sky_level: float, sigma: float) -> Floats:
    """Mean of the eight around, the pixel itself, sums of opposite neighbours: (14, pixels)."""
    light = np.where(window.good, (window.pixels - sky_level) / sigma, 0.0)
    around = convolve(light, _AROUND)
    rows, cols = np.nonzero(inside(window) & (around > _BRIGHT_SIGMA))
    pairs = [light[rows + r, cols + c] + light[rows - r, cols - c] for r, c in _PAIRS]
    return _thinned(np.stack([around[rows, cols], light[rows, cols], *pairs]))


def _thinned(planes: Floats) -> Floats:
    """Sort pixels, the brightest first; of many keep these, and ever fewer of fainter ones."""
    planes = planes[:, np.argsort(-planes[0], kind="stable")]
    count = planes.shape[1]
    if count <= _MOST_PIXELS:
        return planes
    return planes[:, np.unique(np.geomspace(1, count, _MOST_PIXELS).astype(int)) - 1]


def _tied(pairs: Floats) -> tuple[Floats, Floats]:
    """Give neighbours at one distance a weight in common where pixels are too few for more."""
    if pairs.shape[1] >= _FEWEST_A_WEIGHT * len(pairs):
        return pairs, np.full(len(pairs), 2.0)
    squares = np.array([row**2 + col**2 for row, col in _PAIRS])
    distances = np.unique(squares)
    if pairs.shape[1] < _FEWEST_A_WEIGHT * len(distances):
        distances = distances[:2]
    sums = np.stack([pairs[squares == each].sum(axis=0) for each in distances])
    return sums, np.array([2.0 * np.count_nonzero(squares == each) for each in distances])


def _left(pixels: _Pixels, variance: Floats) -> _Residuals:
    """Foretell pixels by least squares; what each adds to its own foretelling is allowed for."""
    root = variance**-0.5
    design = (pixels.pairs * root).T
    inverse = np.linalg.pinv(design.T @ design)
    weights = inverse @ (design.T @ (pixels.own * root))
    foretold = weights @ pixels.pairs
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
    squares = (pixels.own - foretold) ** 2 / np.maximum(1 - leverage, 0.2)
    noise = 1 + float(pixels.members @ weights**2)
    level = np.maximum(foretold + weights**2 @ pixels.pairs, 0.0)
    return _Residuals(squares, noise, level, foretold)


def _misfit(residuals: _Residuals, slope: float, share: float) -> float:
    expected = residuals.expected(slope, share)
    over = _OF_NORMAL * residuals.squares / expected
    beyond = _OUTLYING * (1 + np.log(np.maximum(over, _OUTLYING) / _OUTLYING))
    return float((np.log(expected) + np.where(over < _OUTLYING, over, beyond)).sum())
