"""Exposures of different seeing: each shows the scene through a blur of its own.

The scene is that of the sharpest exposure; the stars of every other one are wider by Gaussians, as
many as its stars ask for: their profiles are none, and nor is what lies between two of them. Where
only widths count, one Gaussian stands for all. Planes are (1, 1, rows, cols).
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from scipy.fft import dctn, idctn
from torch import Tensor

from dip_pipeline.restoration.forward.optics import Exposure, Mixture
from dip_pipeline.restoration.images.smoothing import smooth

LEAST_BLUR_PX = 0.2  # a narrower Gaussian is none
_SIGMAS = 3.0  # of a Gaussian that a rim of nothing holds
_COUNTS = 0.01  # of a pixel's light that comes from beyond a border, from where on it counts
_KNOWN = 0.9  # of the weight that a smoothed pixel is made of


class SeeingBlur:
    """Convolution of a scene with Gaussians, its borders mirrored.

    Half a pixel beyond the last one lies the mirror: cosines are the eigenvectors, and the operator
    is its own transpose.
    """

    def __init__(self, mixture: Mixture) -> None:
        self.mixture = mixture

    def forward(self, scene: Tensor) -> Tensor:
        """Blur the scene."""
        waves = dctn(scene.numpy(), axes=(-2, -1))
        passed = _passed(self.mixture, scene.shape[-2], scene.shape[-1]).astype(waves.dtype)
        return torch.from_numpy(idctn(waves * passed, axes=(-2, -1), overwrite_x=True))

    def adjoint(self, observation: Tensor) -> Tensor:
        """Apply the transpose."""
        return self.forward(observation)


@lru_cache(maxsize=32)
def _passed(mixture: Mixture, rows: int, cols: int) -> NDArray[np.float64]:
    """Tell what passes of each wave, (rows, cols)."""
    squared = [(np.pi * np.arange(side) / side) ** 2 for side in (rows, cols)]
    total: NDArray[np.float64] = np.zeros((rows, cols))
    for share, sigma_px in mixture:
        down, across = (np.exp(-(sigma_px**2) / 2 * each) for each in squared)
        total += share * np.outer(down, across)
    return total


def seeing_of(exposure: Exposure, blur_px: float) -> Mixture:
    """Say what lies between the sharpest exposure and this one: what stars show, or a Gaussian.

    blur_px : see `blurs_px`; 0 for nothing
    """
    if blur_px == 0:
        return ()
    return exposure.seeing or ((1.0, blur_px),)


def blurs_px(exposures: Sequence[Exposure]) -> list[float]:
    """Give the Gaussian of each exposure's seeing against the sharpest, px of the reference.

    exposures : the reference first
    """
    sharpest = min(each.wider_px2 for each in exposures)
    blurs = ((each.wider_px2 - sharpest) ** 0.5 for each in exposures)
    return [blur if blur >= LEAST_BLUR_PX else 0.0 for blur in blurs]


def softened(pixels: Tensor, weight: Tensor, sigma_px: float) -> tuple[Tensor, Tensor]:
    """Smooth what is seen; gives 1 where a pixel is made of what is seen, too.

    weight : 1 where a pixel may be used, else 0
    Past the borders is nothing, see `leaving`.
    """
    if sigma_px < LEAST_BLUR_PX:
        return pixels, weight
    share = smooth(weight, sigma_px)
    seen = leaving(pixels * weight, sigma_px) / share.clamp(min=1e-6)
    known = (share > _KNOWN).to(weight.dtype)
    return seen * known, known


def leaving(pixels: Tensor, sigma_px: float) -> Tensor:
    """Smooth light above the sky, which leaves across the borders as it would; none comes in."""
    rim_px = math.ceil(_SIGMAS * sigma_px)
    wide = smooth(nnf.pad(pixels, (rim_px,) * 4), sigma_px)
    return wide[..., rim_px:-rim_px, rim_px:-rim_px]


def from_beyond(pixels: Tensor, sigma_px: float) -> Tensor:
    """Which pixels have so much of their smoothed light from beyond the borders that it counts."""
    return leaving(torch.ones_like(pixels), sigma_px) < 1 - _COUNTS
