"""Flux: put back what the residual still holds, always on a coarse scale, finer where asked."""

import torch
from torch import Tensor

from dip_pipeline.restoration.images.smoothing import smooth

_WINSOR_SIGMA = 5.0  # residuals beyond this are cosmic rays or wrong sigmas, not lost light
_LEAST_WEIGHT = 1e-3  # of the pixels around; with less, in a hole, less is put back
_LEVEL_PX = 16.0
_NO_PRECISION = 1e-12  # nothing is seen there
_LEVEL_WINSOR_SIGMA = 3.0  # what one pixel hides or adds is no level


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
    residual = _winsorised(estimate, observed, sigma, _WINSOR_SIGMA)
    weight = smooth(trusted, scale_px)
    return estimate + smooth(trusted * residual, scale_px) / weight.clamp(min=_LEAST_WEIGHT)


def keep_level(estimate: Tensor, observed: Tensor, sigma: Tensor, trusted: Tensor) -> Tensor:
    """Put back what the residual holds over 16 px: planes as in `close_flux`.

    Networks take diffuse light for sky where they were fitted on little of it, and the filter of
    lost light sees windows of 8 px. Over 16 px white noise averages to 0.018 of a pixel's, so the
    observation knows the level there better than any network does. Pixels count by the inverse of
    their variance: the noise of a bright star is not to move the sky around it.
    """
    residual = _winsorised(estimate, observed, sigma, _LEVEL_WINSOR_SIGMA)
    precision = trusted / sigma**2
    weight = smooth(precision, _LEVEL_PX).clamp(min=_NO_PRECISION)
    return estimate + smooth(precision * residual, _LEVEL_PX) / weight


def _winsorised(estimate: Tensor, observed: Tensor, sigma: Tensor, most: float) -> Tensor:
    """Residual, no further from zero than so many sigma."""
    return torch.clamp((observed - estimate) / sigma, -most, most) * sigma
