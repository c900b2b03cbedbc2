"""Exposures of different seeing: each shows the scene through a Gaussian of its own.

The scene is that of the sharpest exposure; the stars of every other one are wider by a Gaussian
(nearly: their profiles are none, but for the changes of a night what lies between two of them is).
Planes are (1, 1, rows, cols).
"""

from collections.abc import Sequence

from torch import Tensor

from dip_pipeline.restoration.optics import Exposure
from dip_pipeline.restoration.smoothing import smooth, smoothing_matrix

LEAST_BLUR_PX = 0.2  # a narrower Gaussian is none
_KNOWN = 0.9  # of the weight that a smoothed pixel is made of


class SeeingBlur:
    """Convolution of a scene with a Gaussian, its borders mirrored."""

    def __init__(self, sigma_px: float) -> None:
        self.sigma_px = sigma_px

    def forward(self, scene: Tensor) -> Tensor:
        """Blur the scene."""
        down, across = self._matrices(scene)
        return down @ scene @ across.mT

    def adjoint(self, observation: Tensor) -> Tensor:
        """Apply the transpose."""
        down, across = self._matrices(observation)
        return down.mT @ observation @ across

    def _matrices(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        rows, cols = (
            smoothing_matrix(side, self.sigma_px, planes.dtype, planes.device)
            for side in planes.shape[-2:]
        )
        return rows, cols


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
    """
    if sigma_px < LEAST_BLUR_PX:
        return pixels, weight
    share = smooth(weight, sigma_px)
    seen = smooth(pixels * weight, sigma_px) / share.clamp(min=1e-6)
    known = (share > _KNOWN).to(weight.dtype)
    return seen * known, known
