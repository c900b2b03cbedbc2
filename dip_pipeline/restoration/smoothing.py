"""Gaussian smoothing of planes, and filling of what is unknown from its surroundings.

Planes are (batch, 1, rows, cols).
"""

from functools import lru_cache

import torch
import torch.nn.functional as nnf
from torch import Tensor

# Scales, in pixels, from which unknown pixels are filled: each counts only where every finer
# one has (nearly) nothing to say.
_FILL_SCALES_PX = (1.0, 2.0, 4.0, 8.0)
_FILL_SHARES = (1.0, 1e-2, 1e-4, 1e-6)

# Up to this side a convolution is a product with a matrix: on small planes five times faster.
_MATRIX_PX = 640


def smooth(planes: Tensor, sigma_px: float) -> Tensor:
    """Convolve with a Gaussian of standard deviation sigma_px; borders are mirrored."""
    rows, cols = planes.shape[-2:]
    if max(rows, cols) <= _MATRIX_PX:
        down = smoothing_matrix(rows, sigma_px, planes.dtype, planes.device)
        across = smoothing_matrix(cols, sigma_px, planes.dtype, planes.device)
        return torch.matmul(torch.matmul(down, planes), across.mT)
    taps = _taps(sigma_px).to(planes.device, planes.dtype)
    radius = len(taps) // 2
    out = nnf.conv2d(_extend(planes, radius, 0), taps.view(1, 1, -1, 1))
    return nnf.conv2d(_extend(out, 0, radius), taps.view(1, 1, 1, -1))


def fill_unknown(planes: Tensor, known: Tensor, fallback: float = 0.0) -> Tensor:
    """Replace pixels where known is 0 by a weighted mean of the known ones around them.

    known : same shape, 1 or 0; a hole too wide for any scale gets the fallback.
    """
    if bool((known > 0).all()):
        return planes
    seen = torch.where(known > 0, planes, torch.zeros_like(planes))
    total = torch.full_like(planes, 1e-9) * fallback
    weight = torch.full_like(planes, 1e-9)
    for scale_px, share in zip(_FILL_SCALES_PX, _FILL_SHARES, strict=True):
        total = total + share * smooth(seen, scale_px)
        weight = weight + share * smooth(known, scale_px)
    return torch.where(known > 0, planes, total / weight)


def ring_mean(planes: Tensor) -> Tensor:
    """Mean of the eight neighbours: a level that does not contain the pixel's own noise."""
    kernel = torch.full((1, 1, 3, 3), 1 / 8, dtype=planes.dtype, device=planes.device)
    kernel[0, 0, 1, 1] = 0.0
    return nnf.conv2d(_extend(planes, 1, 1), kernel)


@lru_cache(maxsize=32)
def _taps(sigma_px: float) -> Tensor:
    radius = max(1, round(3 * sigma_px))
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = torch.exp(-0.5 * (x / sigma_px) ** 2)
    return taps / taps.sum()


@lru_cache(maxsize=64)
def smoothing_matrix(
    length: int, sigma_px: float, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Write the convolution along an axis as a matrix, mirrored borders included."""
    taps = _taps(sigma_px)
    impulses = torch.eye(length, dtype=torch.float64)[None, None]
    matrix = nnf.conv2d(_extend(impulses, len(taps) // 2, 0), taps.view(1, 1, -1, 1))
    return matrix[0, 0].to(device, dtype)


def _extend(planes: Tensor, rows: int, cols: int) -> Tensor:
    """Mirror the borders; where a side is shorter than the margin, repeat its edge instead."""
    fits = rows < planes.shape[-2] and cols < planes.shape[-1]
    return nnf.pad(planes, (cols, cols, rows, rows), mode="reflect" if fits else "replicate")
