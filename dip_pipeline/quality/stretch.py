"""How a frame is shown: its stretch, its most telling cut-out, and its size on a screen."""

from dataclasses import dataclass

import numpy as np
from matplotlib.colors import FuncNorm, Normalize
from numpy.typing import NDArray
from scipy import ndimage

from dip_pipeline.quality.evidence import Evidence, Image

MAX_SIDE = 2048  # larger frames are shown block-averaged


@dataclass(frozen=True, slots=True)
class Stretch:
    """An asinh stretch in units of the noise of the sky, the same for all pictures of a frame.

    sky, sigma : level and noise of the sky; high : level shown as white
    """

    sky: float
    sigma: float
    high: float

    def norm(self) -> Normalize:
        """Matplotlib's form of the stretch."""

        def forward(level: NDArray[np.float64]) -> NDArray[np.float64]:
            bent: NDArray[np.float64] = np.arcsinh((np.asarray(level) - self.sky) / self.sigma / 2)
            return bent

        def backward(bent: NDArray[np.float64]) -> NDArray[np.float64]:
            level: NDArray[np.float64] = self.sky + 2 * self.sigma * np.sinh(np.asarray(bent))
            return level

        return FuncNorm(
            (forward, backward), vmin=self.sky - 1.5 * self.sigma, vmax=self.high, clip=True
        )


def choose_stretch(evidence: Evidence) -> Stretch:
    """Stretch from the restored frame: its sky, the input's noise, its brightest thousandth."""
    usable = evidence.usable
    if not usable.any():
        usable = np.isfinite(evidence.restored)
    if not usable.any():
        return Stretch(0.0, 1.0, 10.0)
    levels = evidence.restored[usable].astype(np.float64)
    sky = float(np.nanpercentile(levels, 25))
    sigmas = evidence.sigma[usable]
    sigma = float(np.median(sigmas[np.isfinite(sigmas)])) if np.isfinite(sigmas).any() else 1.0
    sigma = sigma if sigma > 0 else 1.0
    high = max(float(np.nanpercentile(levels, 99.7)), sky + 10 * sigma)
    return Stretch(sky, sigma, high)


def choose_cutout(evidence: Evidence) -> tuple[slice, slice]:
    """Choose the square with the most structure that is faint: where restoration shows.

    A fifth of the frame's smaller side, at least 48 pixels where there are as many.
    """
    shape = evidence.observed.shape
    side = min(*shape, max(48, min(shape) // 5))
    stretch = choose_stretch(evidence)
    shown = np.nan_to_num(evidence.restored, nan=stretch.sky)
    bent = np.clip((shown - stretch.sky) / stretch.sigma, 0.0, 8.0)
    weight = ndimage.gaussian_gradient_magnitude(bent, 1.0)
    if evidence.saturated is not None:
        weight = weight - 20.0 * ndimage.binary_dilation(evidence.saturated, iterations=8)
    score = ndimage.uniform_filter(weight, side, mode="constant")
    rows, cols = (slice(side // 2, size - (side - 1) // 2) for size in shape)
    row, col = np.unravel_index(int(np.argmax(score[rows, cols])), score[rows, cols].shape)
    return slice(int(row), int(row) + side), slice(int(col), int(col) + side)


def block_size(image: Image) -> int:
    """Side of the blocks of pixels that one shown pixel stands for."""
    return max(1, -(-int(max(image.shape)) // MAX_SIDE))


def averaged(image: Image) -> NDArray[np.float64]:
    """Average blocks of a large image until it fits a screen; small ones stay as they are."""
    block = block_size(image)
    pixels = image.astype(np.float64)
    if block == 1:
        return pixels
    rows, cols = (size // block * block for size in pixels.shape)
    cut = pixels[:rows, :cols].reshape(rows // block, block, cols // block, block)
    means: NDArray[np.float64] = cut.mean(axis=(1, 3))
    return means
