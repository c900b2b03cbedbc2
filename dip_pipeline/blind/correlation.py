"""Correlation of the noise, measured on source-free sky block by block."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from dip_pipeline.blind.sky import LEVEL_PX, Sky
from dip_pipeline.sensor.noise_kernel import NoiseKernel

Floats = NDArray[np.float64]

MEASURED = "measured on the sky"  # source of a kernel, white or not, where there was enough of it
AS_LIGHT = "not to be told from light"  # the same where sky hangs together further than noise may
LEAST_CORRELATION = 0.05  # less is taken as none: the light of faint sources alone makes 0.02
_LEAST_BELOW = 0.03  # of what is negative, which light never is
_SIGNIFICANCE = 5.0  # standard errors, for any correlation at all
_LAG_SIGNIFICANCE = 3.0  # for each lag of it
_REACH_PX = 4  # noise has no correlation beyond
_NEAR_PX = 2  # lags of which one must be significant
_SEEN_PX = 6  # lags that are looked at: the level's subtraction reaches beyond those of the noise
_BLOCK_PX = 32
_SMALL_BLOCK_PX = 16  # where there are too few of the others: they tell the scatter alone
_PADDING_PX = 8  # for the lags, so that they do not wrap
_FREE_SHARE = 0.25  # of a block, for it to count
_LEAST_SHARE = 0.05  # of free pixels around one, in a level
_EMPTIEST_SHARE = 0.25  # of the blocks are used: light of faint sources is where bright ones are
_FEWEST_BLOCKS = 8
_MOST_OF_A_FOOT = 0.6  # correlation over 1 px of light below white noise, as far as it is told so
_OF_LIGHT = 0.65  # of that, over 2 px; of noise over 1 px it is 0.1 to 0.4, of nebulae 0.75 to 0.9
_MOST_AT_THE_END = 0.2  # correlation left at 4 px: more is light, not noise


@dataclass(frozen=True, slots=True)
class SkyNoise:
    """Noise of the empty sky: kernel, and standard deviation in the unit of its residual.

    level : mean level of the pixels that it was measured on, in the frame's unit
    Both numbers are NaN where nothing could be measured; the kernel is white then, and its source
    says why.
    """

    kernel: NoiseKernel
    sigma: float
    level: float


def measure_correlation(skies: Sequence[Sky]) -> SkyNoise:
    """Measure the autocorrelation of the sky's noise; white unless it is significant.

    The residual r = (1 - G) y of a noise of autocovariance R has (1 - G) (1 - G) R: the linear
    system is solved for R, which is zero beyond 4 px. Where sky is seen through holes the level is
    that of fewer pixels, each of which counts more. Only the emptiest blocks are used. A frame with
    little sky tells its scatter, and no correlation: light might be taken for it.
    """
    blocks = _blocks(skies, _BLOCK_PX).emptiest()
    small = len(blocks.pixels) < _FEWEST_BLOCKS
    if small:
        blocks = _blocks(skies, _SMALL_BLOCK_PX).emptiest()
    if len(blocks.pixels) < _FEWEST_BLOCKS:
        return _unmeasured("too little empty sky to measure")
    lags = _half_plane(_SEEN_PX)
    seen = np.array([blocks.covariance[:, row, col] for row, col in lags]).T
    weights = blocks.pixels / blocks.pixels.sum()
    whole, fewer = _level_taken_away()
    solved = seen @ np.linalg.pinv(whole + (weights @ blocks.crowding - 1) * fewer).T
    mean = weights @ solved
    if mean[0] <= 0:
        return _unmeasured("no noise in the sky")
    sigma, level = float(np.sqrt(mean[0])), float(weights @ blocks.level)
    if small:
        return SkyNoise(NoiseKernel(source="too little empty sky to measure"), sigma, level)
    relative = mean / mean[0]
    deviations = solved / mean[0] - np.outer(solved[:, 0] / mean[0], relative)
    error = np.sqrt((weights**2) @ deviations**2)
    kernel = _kernel(relative, error)
    if kernel is None:
        return _unmeasured(AS_LIGHT)
    if not kernel.is_white and (light := _share_of_light(relative)) > 0:
        return SkyNoise(NoiseKernel(source=AS_LIGHT), sigma * (1 - light) ** 0.5, level)
    return SkyNoise(kernel, sigma, level)


def _share_of_light(relative: Floats) -> float:
    """Tell white noise on light that is everywhere from noise that hangs together: its share, or 0.

    Light hangs together over 2 px nearly as over 1, and noise stands out of that at lag 0 alone.
    Noise that was smoothed or drizzled either hangs together strongly over 1 px or hardly over 2.
    """
    of = dict(zip(_half_plane(_REACH_PX), relative.tolist(), strict=True))
    near = (of[0, 1] + of[1, 0]) / 2
    far = (of[0, 2] + of[2, 0] + of[1, 1] + of[1, -1]) / 4
    if near > _MOST_OF_A_FOOT or far < _OF_LIGHT * near:
        return 0.0
    # A parabola in the distance: its square is 1 of what is near, in the mean 3 of what is far.
    return float(near + (near - far) / 2)


def _unmeasured(why: str) -> SkyNoise:
    return SkyNoise(NoiseKernel(source=why), float("nan"), float("nan"))


def _kernel(relative: Floats, error: Floats) -> NoiseKernel | None:
    """Make the kernel of what is significant; None where it does not end as noise does."""
    least = np.where(relative < 0, _LEAST_BELOW, LEAST_CORRELATION)
    strong = np.abs(relative) > np.maximum(least, _SIGNIFICANCE * error)
    lags = _half_plane(_REACH_PX)
    distance = np.array([max(abs(row), abs(col)) for row, col in lags])
    # Of all lags one may look significant by chance; noise that is correlated shows it nearby.
    if not strong[(distance > 0) & (distance <= _NEAR_PX)].any():
        return NoiseKernel(source=MEASURED)
    if np.abs(relative[distance == _REACH_PX]).max() > _MOST_AT_THE_END:
        return None
    # As far as any is significant all are kept: with some struck out the spectrum would say noise
    # of frequencies that have none.
    significant = np.abs(relative) > _LAG_SIGNIFICANCE * error
    kept = np.where(distance <= distance[significant].max(), relative, 0.0)
    plane = np.zeros((2 * _REACH_PX + 1, 2 * _REACH_PX + 1))
    for value, (row, col) in zip(kept, lags, strict=True):
        plane[_REACH_PX + row, _REACH_PX + col] = value
        plane[_REACH_PX - row, _REACH_PX - col] = value
    return NoiseKernel.from_correlation(plane, MEASURED)


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Blocks with some free sky.

    covariance : autocovariance, (blocks, lags, lags); lag 0 first on both axes, negative ones last
    pixels, level : number of free pixels in each, and their mean level
    crowding : how many times as much as among free pixels alone each of them counts in a level
    """

    covariance: Floats
    pixels: Floats
    level: Floats
    crowding: Floats

    def emptiest(self) -> "_Blocks":
        """Keep those with most free pixels, a quarter of all but no fewer than are needed."""
        number = max(_FEWEST_BLOCKS, int(_EMPTIEST_SHARE * len(self.pixels)))
        order = np.argsort(-self.pixels, kind="stable")[:number]
        each = self.covariance, self.pixels, self.level, self.crowding
        return _Blocks(*(one[order] for one in each))


def _blocks(skies: Sequence[Sky], side: int) -> _Blocks:
    found = []
    for sky in skies:
        free = _cut(sky.free.astype(np.float64), side)
        enough = free.sum(axis=(1, 2)) >= _FREE_SHARE * side**2
        free = free[enough]
        share = gaussian_filter(sky.free.astype(np.float64), LEVEL_PX)
        residual, level, crowding = (
            _cut(np.where(sky.free, plane, 0.0), side)[enough]
            for plane in (sky.residual, sky.level, 1 / np.maximum(share, _LEAST_SHARE))
        )
        pixels = free.sum(axis=(1, 2))
        covariance = _autocorrelate(residual) / np.maximum(_autocorrelate(free), 1.0)
        means = [plane.sum(axis=(1, 2)) / pixels for plane in (level, crowding)]
        found.append((covariance, pixels, *means))
    return _Blocks(*(np.concatenate(each) for each in zip(*found, strict=True)))


def _cut(plane: Floats, side: int) -> Floats:
    """Cut a plane to blocks, (blocks, side, side); what is left over is left out."""
    rows, cols = (length // side for length in plane.shape)
    whole = plane[: rows * side, : cols * side]
    parts = whole.reshape(rows, side, cols, side).swapaxes(1, 2)
    return parts.reshape(-1, side, side)


def _autocorrelate(blocks: Floats) -> Floats:
    """Sum of products by lag."""
    shape = (blocks.shape[1] + _PADDING_PX, blocks.shape[2] + _PADDING_PX)
    spectrum = np.abs(np.fft.rfft2(blocks, shape)) ** 2
    return np.fft.irfft2(spectrum, shape)


def _half_plane(reach: int) -> list[tuple[int, int]]:
    """Lags up to a reach, one of each pair (lag, -lag); (0, 0) first."""
    rows, cols = range(reach + 1), range(-reach, reach + 1)
    return [(row, col) for row in rows for col in cols if (row, col) >= (0, 0)]


@lru_cache(maxsize=1)
def _level_taken_away() -> tuple[Floats, Floats]:
    """Matrices from the noise's autocovariance to the residual's, (lags seen, lags of noise).

    The first where every pixel is free; the second is to be added (1 / share - 1) times where only
    a share of them is, here and there. Two free pixels l apart are in each other's levels with
    1 / share of the weight g(l), each is in its own with g(0), and what both levels have in common,
    (g * g)(l), is their own noise as many times, too.
    """
    grid = np.fft.fftfreq(96) * 96
    gaussian = np.exp(-0.5 * (grid / LEVEL_PX) ** 2)
    gaussian /= gaussian.sum()
    weight = np.outer(gaussian, gaussian)
    spectrum = np.fft.fft2(weight).real
    response = np.fft.ifft2((1 - spectrum) ** 2).real
    common = np.fft.ifft2(spectrum**2).real
    seen, noise = _half_plane(_SEEN_PX), _half_plane(_REACH_PX)
    whole = [
        [
            response[row - at_row, col - at_col]
            + (response[row + at_row, col + at_col] if (at_row, at_col) != (0, 0) else 0.0)
            for at_row, at_col in noise
        ]
        for row, col in seen
    ]
    fewer = np.zeros((len(seen), len(noise)))
    for number, lag in enumerate(seen):
        fewer[number, 0] = common[lag] - 2 * weight[lag]
        if lag != (0, 0) and lag in noise:
            fewer[number, noise.index(lag)] -= 2 * weight[0, 0]
    return np.array(whole), fewer
