"""Whether noise is as even as a law says: over the frame, from pixel to pixel, along lines.

Light hardly enters: fourth differences, see `scatter`, and medians of what has no structure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from dip_pipeline.blind.scatter import FOURTH, details_of, expected_detail, is_plain
from dip_pipeline.blind.sky import Mask, Window, clipped_sigma
from dip_pipeline.quiet_warnings import ignored_warnings

Floats = NDArray[np.float64]

_BLOCK_PX = 64
_LEAST_OF_BLOCK = 0.25  # of its pixels, for a block to tell its scatter to 5 %
_LEAST_OF_LATTICE = 2000
_LEAST_OF_LINE, _FEWEST_LINES = 0.5, 60
_NEAR_PX, _LEVEL_PX = 1.0, 8.0
_STRETCH_PX, _APART_PX = 24, 8
# Scatter of the levels of lines over that of their fourth differences: white noise 1, noise of a
# power over frequency 1.5, over its square 3.2; lines and orders of spectra 6 to 40.
_AS_LIGHT = 5.0
_INDEPENDENT, _SIGNIFICANT = 0.4, 3.0  # share of fourth differences; standard errors


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A window as its law says that it scatters; planes (rows, cols).

    sigma : standard deviation of each pixel by the law
    detail : what scatters from pixel to pixel, over its scatter by the law; plain : good pixels
        without structure
    """

    window: Window
    sigma: Floats
    detail: Floats
    plain: Mask

    @classmethod
    def at(cls, window: Window, sigma: Floats) -> "Look":
        """Look at a window."""
        detail, _, hint = details_of(window)
        expected = expected_detail(sigma)
        return cls(window, sigma, detail / expected, is_plain(window, hint, expected))

    def residual(self, smoothing_px: float) -> Floats:
        """Pixels less their surroundings, in sigma."""
        pixels = self.window.pixels
        residual: Floats = (pixels - gaussian_filter(pixels, smoothing_px)) / self.sigma
        return residual


def scatter_of_blocks(looks: Sequence[Look]) -> Floats:
    """Scatter from pixel to pixel over that of the law, of every block without much structure."""
    found = []
    for look in looks:
        for row, col in np.ndindex(*(side // _BLOCK_PX for side in look.detail.shape)):
            block = tuple(slice(at * _BLOCK_PX, (at + 1) * _BLOCK_PX) for at in (row, col))
            seen = look.plain[block]
            if np.count_nonzero(seen) >= _LEAST_OF_BLOCK * seen.size:
                found.append(clipped_sigma(look.detail[block][seen]))
    return np.array(found)


def scatter_of_lattice(looks: Sequence[Look]) -> Floats:
    """Scatter about their surroundings of every other pixel of every other row, four numbers.

    NaN where too few are seen.
    """
    residuals: list[list[Floats]] = [[], [], [], []]
    for look in looks:
        residual = look.residual(_NEAR_PX)
        for number, (row, col) in enumerate(np.ndindex(2, 2)):
            cell = slice(row, None, 2), slice(col, None, 2)
            residuals[number].append(residual[cell][look.plain[cell]])
    joined = [np.concatenate(parts) for parts in residuals]
    return np.array([clipped_sigma(p) if p.size >= _LEAST_OF_LATTICE else np.nan for p in joined])


def alternation(windows: Sequence[Window]) -> float:
    """How much pixels of one diagonal of 2 x 2 differ from the others, over their own scatter.

    Behind colour filters, green on a diagonal, the levels differ so; those of rows or of columns
    that alternate do not. 0 where nothing is seen.
    """
    planes = [np.where(window.good, window.pixels, np.nan) for window in windows]
    cells = [[plane[row::2, col::2] for plane in planes] for row, col in np.ndindex(2, 2)]
    with ignored_warnings(RuntimeWarning):  # of a window without a good pixel
        levels = [float(np.nanmedian(np.concatenate([c.ravel() for c in own]))) for own in cells]
        steps = np.concatenate([np.diff(cell, axis=1).ravel() for own in cells for cell in own])
    steps = steps[np.isfinite(steps)]
    scatter = clipped_sigma(steps) / 2**0.5 if steps.size >= _LEAST_OF_LATTICE else 0.0
    if not (scatter > 0 and np.isfinite(levels).all()):
        return 0.0
    return abs(levels[0] + levels[3] - levels[1] - levels[2]) / 2 / scatter


def noise_of_lines(looks: Sequence[Look]) -> tuple[float, float]:
    """Noise that whole rows, and whole columns, have in common, over that of a pixel.

    NaN where too few lines can be seen.
    """
    rows, cols = (_noise_of_lines(looks, axis) for axis in (1, 0))
    return rows, cols


def _noise_of_lines(looks: Sequence[Look], axis: int) -> float:
    variances = np.array([_variance_of_lines(look, axis) for look in looks])
    known = variances[np.isfinite(variances)]
    return max(0.0, float(known.mean())) ** 0.5 if known.size else float("nan")


def _variance_of_lines(look: Look, axis: int) -> float:
    """Variance of what whole lines have in common, in units of that of a pixel.

    Stretches of a line are held against those between them: noise of a line is in both, light of
    stars, and noise of pixels, in one or the other. Lines and orders of a spectrum are in both,
    too: optics spread their light, so that far less of it differs from line to line.
    """
    seen = np.where(look.plain, look.residual(_LEVEL_PX), np.nan)
    lines = seen if axis == 1 else seen.T
    full = np.flatnonzero(np.isfinite(lines).mean(axis=1) >= _LEAST_OF_LINE)
    if full.size < max(_FEWEST_LINES, len(lines) / 2):
        return float("nan")
    one, other = (_levels(lines[full][:, part]) for part in _stretches(lines.shape[1]))
    if one is None or other is None:
        return float("nan")
    # Of two numbers the covariance, by what their sum scatters more than their difference.
    both, apart = (clipped_sigma(_sharp(line)) ** 2 for line in (one + other, one - other))
    if clipped_sigma(one + other) > _AS_LIGHT * both**0.5:
        return 0.0
    by_chance = np.hypot(both, apart) * (2 / (_INDEPENDENT * one.size)) ** 0.5
    return (both - apart) / 4 if both - apart > _SIGNIFICANT * by_chance else 0.0


def _stretches(length_px: int) -> tuple[Mask, Mask]:
    """Places of every other stretch of a line, and of those between; apart by a star's width."""
    number, within = np.divmod(np.arange(length_px), _STRETCH_PX + _APART_PX)
    return tuple((within < _STRETCH_PX) & (number % 2 == part) for part in (0, 1))


def _levels(lines: Floats) -> Floats | None:
    """Levels of lines; None: too few are seen."""
    with ignored_warnings(RuntimeWarning):  # of a stretch without a plain pixel
        levels = np.nanmedian(lines, axis=1)
    if np.count_nonzero(np.isfinite(levels)) < len(levels) / 2:
        return None
    usual = float(np.nanmedian(levels))
    filled: Floats = np.where(np.isfinite(levels), levels, usual)
    return filled


def _sharp(levels: Floats) -> Floats:
    """Fourth differences of the levels of lines, which no slow light is in."""
    return np.convolve(levels, FOURTH, mode="valid")
