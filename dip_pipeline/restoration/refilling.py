"""Holes filled again, once their surroundings are restored: from these, near and far.

What is restored holds little noise, so it predicts a hole better than the observation does, and
better than the networks do, which were fitted to known pixels. Planes are (1, 1, rows, cols), in
sky-sigma units.
"""

import torch
import torch.nn.functional as nnf
from torch import Tensor

from dip_pipeline.restoration.filling import (
    WIDE,
    Seen,
    autocovariance,
    compressed,
    expanded,
    krige,
    noise_variance,
)

_COARSE_PX = 4  # side of the pixels that wide holes are bridged by
_LEAST_SHARE = 0.25  # of a coarse pixel must be known
_NOISE_LEFT = 0.3  # share of the noise's variance that is taken to be left


def fill_again(restored: Tensor, known: Tensor) -> Tensor:
    """Replace unknown pixels by their prediction from restored ones; known ones stay.

    Twice the prediction of `filling.fill`, in asinh of the light: on pixels of 4 x 4, which reach
    across wide holes, and on what these leave, which holds the stars. Each has its own
    autocovariance. What even the first does not reach gets the typical level.
    """
    if bool((known > 0).all()) or not bool((known > 0).any()):
        return restored
    light = torch.where(known > 0, compressed(restored), 0.0)
    variance = torch.where(known > 0, _NOISE_LEFT * noise_variance(restored), 0.0)
    broad = _broad(light, known, variance)
    left = Seen((light - broad) * known, known, variance)
    filled = broad + _predicted(left)
    return torch.where(known > 0, restored, expanded(filled))


def _broad(light: Tensor, known: Tensor, variance: Tensor) -> Tensor:
    """Large structure of the light everywhere, through the holes."""
    rows, cols = light.shape[-2:]
    margin = (0, -cols % _COARSE_PX, 0, -rows % _COARSE_PX)
    share = nnf.avg_pool2d(nnf.pad(known, margin), _COARSE_PX)
    nothing = torch.full_like(light, float("nan"))
    seen = nnf.pad(torch.where(known > 0, light, nothing), margin, value=float("nan"))
    shape = share.shape
    blocks = nnf.unfold(seen, _COARSE_PX, stride=_COARSE_PX)
    # The median, so that a hole is not filled with the mean light of stars that are elsewhere.
    median = blocks.nanmedian(dim=1).values.view(shape)
    shown = (share >= min(_LEAST_SHARE, float(share.max()))).to(light.dtype)
    median = torch.where(shown > 0, median, 0.0)
    typical = median[shown > 0].median()
    doubt = torch.full_like(median, float(variance[known > 0].mean()) / _COARSE_PX**2)
    around = Seen((median - typical) * shown, shown, doubt * shown)
    coarse = typical + torch.where(shown > 0, around.values, _predicted(around))
    wide = nnf.interpolate(coarse, scale_factor=_COARSE_PX, mode="bilinear", align_corners=False)
    return wide[..., :rows, :cols]


def _predicted(seen: Seen) -> Tensor:
    """Predict unknown pixels; 0 out of reach, and where known."""
    count = seen.known.sum().clamp(min=1)
    noise = float((seen.variance * seen.known).sum() / count)
    table = autocovariance(seen.values, seen.known, noise)
    return krige(seen, torch.zeros_like(seen.values), table, WIDE)
