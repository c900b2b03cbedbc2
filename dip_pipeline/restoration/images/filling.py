"""Filling of unknown pixels from the known ones around them, by the frame's own statistics.

Planes are (batch, 1, rows, cols) in sky-sigma units, so that zero is the level of the sky.
"""

import math
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
import torch.nn.functional as nnf
from torch import Tensor

from dip_pipeline.restoration.computing.side_by_side import side_by_side
from dip_pipeline.restoration.images.asinh import asinh
from dip_pipeline.restoration.images.smoothing import fill_unknown


@dataclass(frozen=True, slots=True)
class Reach:
    """What a filled pixel is predicted from: that many known pixels, none farther on an axis."""

    px: int
    neighbours: int

    def offsets(self) -> Tensor:
        """All offsets within reach but (0, 0), nearest first, (offsets, 2)."""
        return _offsets(self.px)


NEAR = Reach(px=5, neighbours=24)  # while networks are fitted, at every step
WIDE = Reach(px=8, neighbours=48)  # for what is delivered: trails are as wide as eight pixels
COVARIANCE_LAGS = 2 * WIDE.px  # the autocovariance is needed up to this lag
_RIDGE = 0.002  # of the variance
_NOISE_SHARE = 0.95  # of the noise's variance taken off the autocovariance; all might be too much
_SMOOTHEST = 1.02  # least ratio of the variance to the covariance with the next pixel
# Light falls off by factors, not by steps: filling is done in asinh of it, linear below this.
_ASINH_SIGMA = 3.0
_BEYOND = 2.5  # in asinh, of the neighbours' range: a peak 12 times as bright as what shows of it
_CHUNK = 500  # places at once: their matrices fit into a processor's cache
_GPU_CHUNK = 100_000


@lru_cache(maxsize=4)
def _offsets(reach_px: int) -> Tensor:
    span = torch.arange(-reach_px, reach_px + 1)
    offsets = torch.cartesian_prod(span, span)
    distance = offsets.double().norm(dim=1)
    return offsets[torch.argsort(distance, stable=True)][1:]


def measure_covariance(observed: Tensor, known: Tensor) -> Tensor:
    """Autocovariance of asinh of the light by lag, up to 16 px, (1, 33, 33), alike in all turns.

    From the power spectrum of the known pixels, less the variance of their noise; averaged over
    turns and flips, so that a turned crop is filled as the frame is.
    """
    count = known.sum().clamp(min=1).double()
    noise = float((noise_variance(observed) * known).sum() / count)
    return autocovariance(compressed(observed), known, noise)


def autocovariance(values: Tensor, known: Tensor, noise: float) -> Tensor:
    """Autocovariance by lag of a plane around zero, (1, 33, 33), its noise taken off.

    values, known : (1, 1, rows, cols); noise : mean variance of the noise of the known pixels
    """
    seen = (values * known)[0, 0].double()
    sizes = [length + COVARIANCE_LAGS for length in seen.shape]
    count = known.sum().clamp(min=1).double()
    products = torch.fft.irfft2(torch.fft.rfft2(seen, sizes).abs() ** 2, sizes) / count
    lags = torch.arange(-COVARIANCE_LAGS, COVARIANCE_LAGS + 1)
    table = products[lags[:, None] % sizes[0], lags[None, :] % sizes[1]]
    turned = [torch.rot90(table, turns) for turns in range(4)]
    table = torch.stack([*turned, *(one.T for one in turned)]).mean(dim=0)
    middle = COVARIANCE_LAGS
    signal = table[middle, middle] - _NOISE_SHARE * noise
    table[middle, middle] = torch.maximum(signal, _SMOOTHEST * table[middle, middle + 1])
    return table[None].float()


def fill(planes: Tensor, known: Tensor, covariance: Tensor, reach: Reach = NEAR) -> Tensor:
    """Replace pixels where known is 0 by their best linear prediction from the known around them.

        x = c^T (C + N)^-1 y        over the nearest known pixels, in asinh of the light

    with the autocovariance C of `measure_covariance` and the noise N of each neighbour, which is
    small in asinh where light is bright. Wiener's prediction, kriging in the earth sciences
    (Matheron 1963, Econ. Geol. 58, 1246). It carries the shape of the stars: a column through a
    star is filled with a peak, a trail beside one with its wing. Pixels out of reach of any known
    one get an average.

    planes : (batch, 1, rows, cols), or (copies * batch, 1, rows, cols) of one scene that lie one
        batch after the other: they share their neighbours' weights, for the mean of the copies
    known : (batch, 1, rows, cols); covariance : (batch or 1, 33, 33)
    """
    if bool((known > 0).all()):
        return planes
    copies = len(planes) // len(known)
    shown = known.repeat(copies, 1, 1, 1) > 0
    light = torch.where(shown, compressed(planes), 0.0)
    level = planes.reshape(copies, *known.shape).mean(dim=0) if copies > 1 else planes
    noise = torch.where(known > 0, noise_variance(level), 0.0)
    otherwise = fill_unknown(light, shown.to(light.dtype))
    predicted = krige(Seen(light, known, noise, _BEYOND), otherwise, covariance, reach)
    return torch.where(shown, planes, expanded(predicted))


@dataclass(frozen=True, slots=True)
class Seen:
    """What unknown pixels are predicted from; planes (batch, 1, rows, cols).

    values : around zero, 0 where known is 0; (copies * batch, 1, rows, cols) where there are
        several of the same scene, one batch after the other
    variance : of their noise
    beyond : by how much a prediction may leave the range of its neighbours; a matrix that is nearly
        singular may say anything
    """

    values: Tensor
    known: Tensor
    variance: Tensor
    beyond: float = math.inf
    believed: float = math.inf


def krige(seen: Seen, otherwise: Tensor, covariance: Tensor, reach: Reach) -> Tensor:
    """Predict unknown pixels as `fill` does; where known, or not to be told, `otherwise` stays."""
    margin = (reach.px,) * 4
    wide = tuple(nnf.pad(plane, margin) for plane in (seen.values, seen.known, seen.variance))
    table = covariance.expand(len(seen.known), -1, -1).contiguous()
    filled = otherwise.reshape(-1, *seen.known.shape).clone()
    span = 2 * reach.px + 1
    near = nnf.max_pool2d(seen.known, (span, 1), stride=1, padding=(reach.px, 0))
    near = nnf.max_pool2d(near, (1, span), stride=1, padding=(0, reach.px))
    unknown = torch.nonzero((near * (1 - seen.known))[:, 0] > 0)
    planes = Seen(wide[0], wide[1], wide[2], seen.beyond, seen.believed)
    on_cpu = unknown.device.type == "cpu"
    parts = torch.split(unknown, _CHUNK if on_cpu else _GPU_CHUNK)
    pieces = [partial(_predict, planes, part, table, reach) for part in parts]
    done = side_by_side(pieces) if on_cpu else [piece() for piece in pieces]
    for part, (predicted, reached) in zip(parts, done, strict=True):
        index = (slice(None), part[:, 0], 0, part[:, 1], part[:, 2])
        filled[index] = torch.where(reached, predicted, filled[index])
    return filled.reshape(otherwise.shape)


def compressed(planes: Tensor) -> Tensor:
    """Asinh of the light: what is predicted in."""
    return asinh(planes / _ASINH_SIGMA)


def expanded(planes: Tensor) -> Tensor:
    """Undo `compressed`."""
    return torch.sinh(planes) * _ASINH_SIGMA


def noise_variance(planes: Tensor) -> Tensor:
    """Variance of the noise in asinh of the light, taking one sky sigma everywhere."""
    return 1 / (_ASINH_SIGMA**2 + planes**2)


def _predict(planes: Seen, places: Tensor, table: Tensor, reach: Reach) -> tuple[Tensor, Tensor]:
    """Predict (batch, row, col) places from their neighbours; and where that could be done.

    planes : each with a margin of the reach
    Both are (copies, places), of as many copies as there is light of.
    """
    light, known, noise = planes.values, planes.known, planes.variance
    offsets = reach.offsets().to(light.device)
    shown = torch.take(known, _around(known, places, offsets[None], reach.px))
    squared = (offsets**2).sum(dim=1)
    chosen = (shown * 1000 - squared).topk(reach.neighbours + 1, dim=1).indices
    distance = squared[chosen]
    near, beyond = offsets[chosen[:, :-1]], distance[:, -1:]
    last = shown.gather(1, chosen[:, -1:])
    index = _around(known, places, near, reach.px)
    values = light.reshape(-1, known.numel())[:, index]
    shown, variance = (torch.take(plane, index) for plane in (known, noise))
    # Neighbours as far as the first one left out are left out too: a turned frame has the same.
    shown = shown * ((distance[:, :-1] < beyond) | (last == 0))
    # Lags as positions in the tables laid end to end: one subtraction and one lookup a pair.
    side = table.shape[-1]
    middle = (places[:, :1] * side + COVARIANCE_LAGS) * side + COVARIANCE_LAGS
    steps = near[..., 0] * side + near[..., 1]
    matrix = torch.take(table, steps[:, :, None] - steps[:, None, :] + middle[..., None])
    matrix = matrix * (shown[:, :, None] * shown[:, None, :])
    own = torch.take(table, middle)
    # An unknown neighbour stands alone in its row, so it gets no weight.
    matrix.diagonal(dim1=1, dim2=2).add_(_RIDGE * own + variance + (1 - shown) * own)
    towards = torch.take(table, steps + middle) * shown
    factor, failed = torch.linalg.cholesky_ex(matrix)
    weights = torch.cholesky_solve(towards[..., None], factor)[..., 0]
    predicted = (weights * values).sum(dim=2)
    least = torch.where(shown > 0, values, torch.inf).amin(dim=2)
    most = torch.where(shown > 0, values, -torch.inf).amax(dim=2)
    told = (failed == 0) & torch.isfinite(predicted) & (shown.amax(dim=1) > 0)
    told = told & (torch.maximum(predicted - most, least - predicted) <= planes.believed)
    predicted = torch.minimum(torch.maximum(predicted, least - planes.beyond), most + planes.beyond)
    return predicted, told


def _around(planes: Tensor, places: Tensor, offsets: Tensor, margin: int) -> Tensor:
    """Positions in planes with a margin, of offsets (1 or places, offsets, 2) around places."""
    rows, cols = planes.shape[-2:]
    here = (places[:, 0] * rows + places[:, 1] + margin) * cols + places[:, 2] + margin
    return here[:, None] + offsets[..., 0] * cols + offsets[..., 1]
