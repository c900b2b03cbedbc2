"""Filling of unknown pixels from the known ones around them, by the frame's own statistics.

Planes are (batch, 1, rows, cols) in sky-sigma units, so that zero is the level of the sky.
"""

import torch
import torch.nn.functional as nnf
from torch import Tensor

from dip_pipeline.restoration.smoothing import fill_unknown

_REACH_PX = 2  # neighbours on each side that a filled pixel is predicted from
_LAGS = 2 * _REACH_PX  # the autocovariance is needed up to this lag
_NEAR_PX = 2.3  # farther from any known pixel the prediction knows nothing
_BRIGHTEST_SIGMA = 30.0  # a few stars beyond must not be all that the autocovariance tells
_RIDGE = 0.05  # sky-sigma squared
_ASINH_SIGMA = 3.0  # light falls off by factors, not by steps: averages are taken in asinh
_CHUNK = 20_000

_OFFSETS = torch.tensor(
    [
        (row, col)
        for row in range(-_REACH_PX, _REACH_PX + 1)
        for col in range(-_REACH_PX, _REACH_PX + 1)
        if (row, col) != (0, 0)
    ]
)


def measure_covariance(observed: Tensor, known: Tensor) -> Tensor:
    """Autocovariance at lags up to 4 px on both axes, (1, 9, 9), the same in every direction.

    From the power spectrum of the known pixels, so it is positive semidefinite; averaged over
    turns and flips, so that a turned crop is filled as the frame is.
    """
    seen = torch.clamp(observed, -_BRIGHTEST_SIGMA, _BRIGHTEST_SIGMA) * known
    sizes = [length + _LAGS for length in observed.shape[-2:]]
    power = torch.fft.rfft2(seen[0, 0].double(), sizes).abs() ** 2
    products = torch.fft.irfft2(power, sizes) / known.sum().clamp(min=1)
    lags = torch.arange(-_LAGS, _LAGS + 1)
    table = products[lags[:, None], lags[None, :]]
    turned = [torch.rot90(table, turns) for turns in range(4)]
    return torch.stack([*turned, *(one.T for one in turned)]).mean(dim=0)[None].float()


def fill(planes: Tensor, known: Tensor, covariance: Tensor) -> Tensor:
    """Replace pixels where known is 0 by their best linear prediction from the known around them.

        x = c^T (C + noise)^-1 y        over the known ones of the 24 nearest pixels

    with the autocovariance (noise included) of `measure_covariance`; Wiener's prediction, kriging
    in the earth sciences (Matheron 1963, Econ. Geol. 58, 1246). It carries the shape of the stars,
    so a column through a star is filled with a peak. Pixels farther from any known one get an
    average.

    covariance : (batch or 1, 9, 9)
    """
    if bool((known > 0).all()):
        return planes
    asinh = fill_unknown(torch.asinh(planes / _ASINH_SIGMA), known)
    filled = torch.where(known > 0, planes, torch.sinh(asinh) * _ASINH_SIGMA)
    holes = torch.nonzero(known[:, 0] == 0)
    offsets = _OFFSETS.to(planes.device)
    margin = (_REACH_PX,) * 4
    wide, shown = nnf.pad(planes * known, margin), nnf.pad(known, margin)
    near = offsets[(offsets.double().norm(dim=1) <= _NEAR_PX)]
    holes = holes[_around(shown, holes, near).amax(dim=1) > 0]
    for part in torch.split(holes, _CHUNK):
        values, weights = _around(wide, part, offsets), _around(shown, part, offsets)
        table = covariance.expand(len(planes), -1, -1)[part[:, 0]]
        predicted = _predict(values, weights, table, offsets)
        index = (part[:, 0], torch.zeros_like(part[:, 0]), part[:, 1], part[:, 2])
        filled[index] = torch.where(torch.isfinite(predicted), predicted, filled[index])
    return filled


def _around(wide: Tensor, places: Tensor, offsets: Tensor) -> Tensor:
    """Values at offsets around (batch, row, col) places, (places, offsets); `wide` has a margin."""
    rows = places[:, 1, None] + offsets[None, :, 0] + _REACH_PX
    cols = places[:, 2, None] + offsets[None, :, 1] + _REACH_PX
    return wide[places[:, :1], 0, rows, cols]


def _predict(values: Tensor, known: Tensor, table: Tensor, offsets: Tensor) -> Tensor:
    """Predict each place from its neighbours; NaN where the equations cannot be solved."""
    lags = offsets[:, None] - offsets[None, :] + _LAGS
    covariances = table[:, lags[..., 0], lags[..., 1]] * known[:, :, None] * known[:, None, :]
    # An unknown neighbour stands alone in its row, so it gets no weight.
    ridge = torch.diag_embed(_RIDGE + (1 - known) * table[:, _LAGS, _LAGS, None])
    towards = table[:, offsets[:, 0] + _LAGS, offsets[:, 1] + _LAGS] * known
    factor, failed = torch.linalg.cholesky_ex(covariances + ridge)
    weights = torch.cholesky_solve(towards[..., None], factor)[..., 0]
    predicted: Tensor = (weights * values).sum(dim=1)
    return torch.where(failed == 0, predicted, float("nan"))
