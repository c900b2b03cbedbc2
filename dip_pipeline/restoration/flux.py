"""Flux closure: put back what the residual still holds on a chosen scale."""

import torch
from torch import Tensor

from dip_pipeline.restoration.smoothing import smooth

_WINSOR_SIGMA = 5.0  # residuals beyond this are cosmic rays or wrong sigmas, not lost light


def close_flux(
    estimate: Tensor, observed: Tensor, sigma: Tensor, trusted: Tensor, scale_px: float
) -> Tensor:
    """Return x' = x + G_s * (w (y - x)) / (G_s * w), the residual winsorised at 5 sigma.

    All planes (1, 1, rows, cols); w is 1 for trusted pixels and 0 for flagged ones, so cosmic
    rays and trails do not come back, and star cores count like any other pixel. A scale of 0
    leaves the estimate as it is.
    """
    if scale_px == 0:
        return estimate
    residual = torch.clamp((observed - estimate) / sigma, -_WINSOR_SIGMA, _WINSOR_SIGMA) * sigma
    weight = smooth(trusted, scale_px)
    return estimate + smooth(trusted * residual, scale_px) / weight.clamp(min=1e-3)
