"""Interpolation to finer pixels that keeps the flux of every coarse one.

Planes are (batch, channels, rows, cols), of any floating type.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

from dip_pipeline.restoration.images.borders import extend, mirrored

# Up to this side an interpolation is a product with a matrix: on small planes faster.
_MATRIX_PX = 640
_REACH_PX = 4  # cells to each side that the polynomial is laid through


def refine(planes: Tensor, factor: int) -> Tensor:
    """Interpolate a brightness to pixels finer by a factor: the mean over factor^2 of them is kept.

    Along each axis a polynomial of eighth degree whose means over nine coarse pixels are theirs,
    averaged over each fine pixel (reconstruction by primitive function; Colella and Woodward 1984,
    J. Comput. Phys. 54, 174, section 1). So what pixels integrate is taken off their values, which
    an interpolation of values cannot do. Past a border pixels are mirrored.
    """
    if factor == 1:
        return planes
    batch, channels, rows, cols = planes.shape
    if max(rows, cols) <= _MATRIX_PX:
        down = _matrix(rows, factor, planes.dtype, planes.device)
        across = _matrix(cols, factor, planes.dtype, planes.device)
        return torch.matmul(torch.matmul(down, planes), across.mT)
    taps = _taps(factor).to(planes.device, planes.dtype)
    single = planes.reshape(batch * channels, 1, rows, cols)
    wide = extend(single, (_REACH_PX, _REACH_PX), mirrored)
    down = nnf.conv2d(wide, taps[:, None, :, None])  # (n, factor, rows, wide cols)
    tall = down.transpose(1, 2).reshape(len(single), 1, rows * factor, -1)
    across = nnf.conv2d(tall, taps[:, None, None, :])
    fine = across.permute(0, 2, 3, 1).reshape(batch, channels, rows * factor, cols * factor)
    return fine.contiguous()


def repeat(planes: Tensor, factor: int) -> Tensor:
    """Give every fine pixel the value of the coarse one that it lies in."""
    if factor == 1:
        return planes
    return planes.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)


@lru_cache(maxsize=32)
def _matrix(length: int, factor: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Write the interpolation along an axis as a matrix, mirrored borders included."""
    impulses = torch.eye(length, dtype=torch.float64)[None, None]
    wide = extend(impulses, (_REACH_PX, 0), mirrored)
    rows = nnf.conv2d(wide, _taps(factor)[:, None, :, None])  # (1, factor, length, length)
    matrix = rows[0].transpose(0, 1).reshape(length * factor, length)
    return matrix.to(device, dtype)


@lru_cache(maxsize=8)
def _taps(factor: int) -> Tensor:
    """Weights of nine coarse pixels in the mean over each fine one, (factor, 9)."""
    middles = np.arange(-_REACH_PX, _REACH_PX + 1)
    coarse = _means_of_powers(middles - 0.5, middles + 0.5)
    edges = np.linspace(-0.5, 0.5, factor + 1)
    fine = _means_of_powers(edges[:-1], edges[1:])
    return torch.from_numpy(fine @ np.linalg.inv(coarse))


def _means_of_powers(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Mean of x^0 to x^8 over each interval, (intervals, 9)."""
    powers = np.arange(1, 2 * _REACH_PX + 2)
    lengths = (last - first)[:, None]
    means: np.ndarray = (last[:, None] ** powers - first[:, None] ** powers) / powers / lengths
    return means
