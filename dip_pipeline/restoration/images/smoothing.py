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
# Beyond this one a processor takes the product in bands: most of a larger matrix is zero.
_BAND_PX = 64
_BANDED_PX = 128


def smooth(planes: Tensor, sigma_px: float) -> Tensor:
    """Convolve with a Gaussian of standard deviation sigma_px; borders are mirrored."""
    rows, cols = planes.shape[-2:]
    if planes.device.type == "cpu" and max(rows, cols) > _BANDED_PX:
        return _by_bands(planes, sigma_px)
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


def _by_bands(planes: Tensor, sigma_px: float) -> Tensor:
    """Smooth as `smooth` does, a few rows and then a few columns at a time."""
    band = _band(sigma_px, planes.dtype)
    beside = band.shape[1] - _BAND_PX
    wide = _extend(planes, beside // 2, 0)
    down = [torch.matmul(_fitting(band, part), part) for part in _bands(wide, beside, -2)]
    wide = _extend(torch.cat(down, dim=-2), 0, beside // 2)
    across = [torch.matmul(part, _fitting(band, part.mT).mT) for part in _bands(wide, beside, -1)]
    return torch.cat(across, dim=-1)


def _bands(wide: Tensor, beside: int, axis: int) -> list[Tensor]:
    """Bands along an axis, each with what its pixels see beside it."""
    length = wide.shape[axis]
    return [
        wide.narrow(axis, first, min(_BAND_PX + beside, length - first))
        for first in range(0, length - beside, _BAND_PX)
    ]


def _fitting(band: Tensor, part: Tensor) -> Tensor:
    """Give as much of the matrix as the last band needs, which may be narrower."""
    missing = band.shape[1] - part.shape[-2]
    return band[: _BAND_PX - missing, : part.shape[-2]] if missing else band


@lru_cache(maxsize=32)
def _band(sigma_px: float, dtype: torch.dtype) -> Tensor:
    """Matrix that smooths one band of an axis, (band, band and what it sees)."""
    taps = _taps(sigma_px)
    band = torch.zeros(_BAND_PX, _BAND_PX + len(taps) - 1, dtype=torch.float64)
    for row in range(_BAND_PX):
        band[row, row : row + len(taps)] = taps
    return band.to(dtype)


def _extend(planes: Tensor, rows: int, cols: int) -> Tensor:
    """Mirror the borders; where a side is shorter than the margin, repeat its edge instead."""
    fits = rows < planes.shape[-2] and cols < planes.shape[-1]
    return nnf.pad(planes, (cols, cols, rows, rows), mode="reflect" if fits else "replicate")
