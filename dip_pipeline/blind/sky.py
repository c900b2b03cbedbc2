"""Sky without sources: what is left of a frame when its level and its sources are taken away."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter, maximum_filter, minimum_filter

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

LEVEL_PX = 4.0  # standard deviation of the Gaussian that gives the level
_SOURCE_PX = 1.5  # scale on which sources are looked for
_SOURCE_SIGMA = 3.5  # of the smoothed residual; lower, peaks of the noise would be missed
_PIXEL_SIGMA = 5.0
_GROWN_PX = 3
_BLANK_PX = 5  # side of a square of equal pixels, at least
_PASSES = 6


@dataclass(frozen=True, slots=True)
class Window:
    """One window of a frame, to be looked at.

    pixels : (rows, cols), float64, finite; any number where `good` is False
    good : neither masked nor saturated
    error : standard deviation a pixel, or None where nothing says
    """

    pixels: Floats
    good: Mask
    error: Floats | None = None

    @classmethod
    def of(
        cls, science: NDArray[np.float32], good: Mask, error: NDArray[np.float32] | None = None
    ) -> "Window":
        """Make one of planes as they are read."""
        known = good & np.isfinite(science)
        sigma = None
        if error is not None:
            known &= np.isfinite(error) & (error > 0)
            sigma = np.where(known, error, 1.0).astype(np.float64)
        known &= ~_blank(science, known)
        middle = float(np.median(science[known])) if known.any() else 0.0
        return cls(np.where(known, science, middle).astype(np.float64), known, sigma)


@dataclass(frozen=True, slots=True)
class Sky:
    """Residual about the local level, (rows, cols), and where it is free of sources.

    residual : in the frame's unit, or in units of the error plane where there is one
    level : local level, in the frame's unit
    """

    residual: Floats
    level: Floats
    free: Mask


def find_sky(window: Window) -> Sky:
    """Take the local level away, and mask what stands out of it, above or below."""
    scale = 1.0 if window.error is None else window.error
    free = window.good
    residual, level = np.zeros_like(window.pixels), window.pixels
    for _ in range(_PASSES):
        if not free.any():
            break
        level = _local_mean(window.pixels, free)
        residual = (window.pixels - level) / scale
        smoothed = gaussian_filter(np.where(window.good, residual, 0.0), _SOURCE_PX)
        stands_out = np.abs(smoothed) > _SOURCE_SIGMA * robust_sigma(smoothed[free])
        stands_out |= np.abs(residual) > _PIXEL_SIGMA * robust_sigma(residual[free])
        left = window.good & ~binary_dilation(stands_out & window.good, iterations=_GROWN_PX)
        if (left == free).all():
            break
        free = left
    return Sky(residual, level, free)


def _blank(science: NDArray[np.float32], known: Mask) -> Mask:
    """Tell areas of one and the same value, as beyond the edge of a mosaic.

    Whole numbers may agree by chance: there only a value far from all others is a blank.
    """
    filled = np.where(known, science, np.float32(0.0))
    even = maximum_filter(filled, _BLANK_PX) == minimum_filter(filled, _BLANK_PX)
    blank: Mask = binary_dilation(even & known, np.ones((_BLANK_PX, _BLANK_PX))) & known
    rest = science[known & ~blank].astype(np.float64)
    if not blank.any() or not rest.size:
        return np.zeros_like(known)
    above = rest - np.median(science[blank])
    if above.min() >= 0 and np.median(above) < _PIXEL_SIGMA * robust_sigma(rest):
        return np.zeros_like(known)  # light falls to that value: it is a sky without noise
    if np.array_equal(rest, np.rint(rest)):
        far = np.abs(filled - np.median(rest)) > _PIXEL_SIGMA * max(robust_sigma(rest), 1.0)
        blank &= far
    return blank


def robust_sigma(values: Floats) -> float:
    """Estimate a standard deviation from the median absolute deviation; 0 without values."""
    if values.size == 0:
        return 0.0
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def clipped_sigma(values: Floats) -> float:
    """Estimate a standard deviation from what lies within 3 sigma.

    Corrected for what a normal distribution has beyond. Nearly as precise as the plain one, and
    outliers do not matter to it.
    """
    if values.size < 2:
        return 0.0
    centred = values - np.median(values)
    sigma = robust_sigma(values)
    for _ in range(10):
        kept = centred[np.abs(centred) <= 3 * sigma]
        new = float(kept.std()) / 0.98658  # of a normal distribution cut at 3 sigma
        if abs(new - sigma) <= 1e-4 * sigma:
            break
        sigma = new
    return sigma


def quantum_of(windows: Sequence[Window]) -> float | None:
    """Step of the pixel values, 1 where all are whole numbers; None where they are not."""
    whole = False
    for window in windows:
        values = window.pixels[window.good]
        # Above 2^24 every float32 is whole.
        if values.size == 0 or np.abs(values).max() >= 2**24:
            continue
        if not np.array_equal(values, np.rint(values)):
            return None
        whole = True
    return 1.0 if whole else None


def _local_mean(pixels: Floats, free: Mask) -> Floats:
    weight = gaussian_filter(free.astype(np.float64), LEVEL_PX)
    total = gaussian_filter(np.where(free, pixels, 0.0), LEVEL_PX)
    typical = float(np.median(pixels[free]))
    # Far from any free pixel the typical level stands in.
    level: Floats = (total + 1e-6 * typical) / (weight + 1e-6)
    return level
