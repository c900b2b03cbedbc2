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
    """What a window tells of the evenness of its noise.

    blocks : scatter from pixel to pixel over that of the law, of each block of it without much
        structure
    lattice : residuals about their surroundings, in sigma, of every other pixel of every other row
    rows, cols : variance of what whole lines have in common, in units of a pixel's; NaN where too
        few lines can be seen
    """

    blocks: Floats
    lattice: tuple[Floats, ...]
    rows: float
    cols: float

    @classmethod
    def at(cls, window: Window, sigma: Floats) -> "Look":
        """Look at a window; sigma : standard deviation of each pixel by the law, (rows, cols)."""
        detail, _, hint = details_of(window)
        expected = expected_detail(sigma)
        plain = is_plain(window, hint, expected)
        near = _residual(window, sigma, _NEAR_PX)
        cells = [(slice(row, None, 2), slice(col, None, 2)) for row, col in np.ndindex(2, 2)]
        lines = np.where(plain, _residual(window, sigma, _LEVEL_PX), np.nan)
        return cls(
            _scatter_of_blocks(detail / expected, plain),
            tuple(near[cell][plain[cell]] for cell in cells),
            _variance_of_lines(lines),
            _variance_of_lines(lines.T),
        )


def _residual(window: Window, sigma: Floats, smoothing_px: float) -> Floats:
    """Pixels less their surroundings, in sigma."""
    pixels = window.pixels
    residual: Floats = (pixels - gaussian_filter(pixels, smoothing_px)) / sigma
    return residual


def _scatter_of_blocks(detail: Floats, plain: Mask) -> Floats:
    found = []
    for row, col in np.ndindex(*(side // _BLOCK_PX for side in detail.shape)):
        block = tuple(slice(at * _BLOCK_PX, (at + 1) * _BLOCK_PX) for at in (row, col))
        seen = plain[block]
        if np.count_nonzero(seen) >= _LEAST_OF_BLOCK * seen.size:
            found.append(clipped_sigma(detail[block][seen]))
    return np.array(found)


def scatter_of_lattice(looks: Sequence[Look]) -> Floats:
    """Scatter about their surroundings of every other pixel of every other row, four numbers.

    NaN where too few are seen.
    """
    joined = [
        np.concatenate(parts) for parts in zip(*(look.lattice for look in looks), strict=True)
    ]
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
    return _noise_of([look.rows for look in looks]), _noise_of([look.cols for look in looks])


def _noise_of(variances: Sequence[float]) -> float:
    known = np.array(variances)[np.isfinite(variances)]
    return max(0.0, float(known.mean())) ** 0.5 if known.size else float("nan")


def _variance_of_lines(lines: Floats) -> float:
    """Variance of what whole lines have in common, in units of that of a pixel.

    lines : residuals in sigma, (lines, pixels); NaN where none is seen
    Stretches of a line are held against those between them: noise of a line is in both, light of
    stars, and noise of pixels, in one or the other. Lines and orders of a spectrum are in both,
    too: optics spread their light, so that far less of it differs from line to line.
    """
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
