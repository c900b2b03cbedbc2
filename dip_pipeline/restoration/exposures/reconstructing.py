"""One scene from several exposures by linear least squares, and the noise it then has.

The scene depends on the exposures linearly, see `solving`: draws of their noise, sent the same way,
have the noise of it. Where the sharpest do not show it, it is less sharp, see `unsharp`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Generator, Tensor

from dip_pipeline.restoration.exposures.rims import without_rim
from dip_pipeline.restoration.exposures.solving import LeastSquares, Observation
from dip_pipeline.restoration.exposures.unsharp import Softened, fill_sharpest
from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.noise.correlation import draw_noise
from dip_pipeline.sensor.noise_kernel import NoiseKernel

_DRAWS = 4
_NOISE_SCALE_PX = 8.0  # over which the strength of the noise is averaged
_NOISE_REACH_PX = 8
_GRAIN_SCALE_PX = 1.0  # over which noise in single holes is averaged
_FAR = 1e-3  # of the weight of an average is what is typical


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """The scene and its noise; planes (1, 1, rows, cols).

    scene : with its rim, on the pixels it was solved on; all else without it, means over cells
    cover : weight of all exposures in each pixel, an inverse variance
    grain : noise beyond sigma, where detail of a star was left in such a hole
    softened : what it lacks in holes of the sharpest exposures; None for nothing
    """

    scene: Tensor
    sigma: Tensor
    cover: Tensor
    kernel: NoiseKernel
    grain: Tensor
    softened: Softened | None = None


def reconstruct(
    observations: Sequence[Observation],
    shape: tuple[int, int],
    *,
    support_px: float,
    rim_px: int = 0,
    cell_px: int = 1,
    seed: int,
) -> Reconstruction:
    """Reconstruct a scene of that shape, and measure its noise by draws.

    support_px : standard deviation of G, pixels of the scene
    rim_px : as wide a rim of the scene its noise and cover are not told of, pixels of the scene
    cell_px : side of the cells of pixels, whose means alone are wanted
    """
    generator = Generator().manual_seed(seed)
    planes = []
    for each in observations:
        like = each.pixels.expand(_DRAWS, *each.pixels.shape[1:])
        noise = each.sigma * draw_noise(like, generator, each.root)
        planes.append(torch.cat([each.pixels, noise]))
    solved = LeastSquares(observations, shape, support_px).solve(planes)
    softened = None
    if filled := fill_sharpest(observations, planes, solved, support_px, generator):
        solved = LeastSquares(filled.observations, shape, support_px).solve(filled.planes)
        softened = filled.softened.within(*(slice(rim_px, side - rim_px) for side in shape))
    draws = mean_of_cells(without_rim(solved[1:], rim_px), cell_px)
    weight, spread = (
        cell_px**2 * mean_of_cells(without_rim(plane, rim_px), cell_px)
        for plane in _weights(observations, shape)
    )
    shaped = _expected_variance(weight, spread)
    energy = (draws**2).mean(dim=0, keepdim=True)
    ratio = energy / shaped
    told = weight > 0
    if softened is None:
        strength = smooth(ratio, _NOISE_SCALE_PX)
    else:
        # Holes have the noise that is around them, but where a star's detail was left.
        told = told & (softened.holes == 0)
        strength = _averaged(ratio, told, _NOISE_SCALE_PX)
    sigma = (shaped * strength.clamp(min=1e-12)).sqrt()
    kernel = _kernel_of(draws / sigma, told)
    grain = torch.zeros_like(sigma)
    if softened is not None:
        holes = softened.holes > 0
        beyond = _averaged(energy, holes, _GRAIN_SCALE_PX) - sigma**2
        grain = torch.where(holes, beyond.clamp(min=0.0).sqrt(), grain)
    return Reconstruction(solved[:1], sigma, weight, kernel, grain, softened)


def mean_of_cells(planes: Tensor, cell_px: int) -> Tensor:
    """Average (batch, 1, rows, cols) over cells of so many pixels a side."""
    return planes if cell_px == 1 else nnf.avg_pool2d(planes, cell_px)


def _averaged(plane: Tensor, where: Tensor, scale_px: float) -> Tensor:
    """Average over that scale, of some pixels alone; far from them what is typical of them."""
    typical = plane[where].median() if bool(where.any()) else plane.median()
    weight = where.to(plane.dtype)
    total = smooth(plane * weight, scale_px) + _FAR * typical
    return total / (smooth(weight, scale_px) + _FAR)


def _weights(observations: Sequence[Observation], shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Weight of all observations in each pixel, and the variance of their weighted sum."""
    weight, spread = (torch.zeros((1, 1, *shape)) for _ in range(2))
    for each in observations:
        weight = weight + each.cover()
        spread = spread + each.footprint.adjoint(each.weight**2 * each.sigma**2)
    return weight, spread


def _expected_variance(weight: Tensor, spread: Tensor) -> Tensor:
    """Variance of the weighted mean in each pixel: its shape, up to a factor, is the scene's."""
    covered = weight > 0
    expected = torch.where(covered, spread / weight.clamp(min=1e-30) ** 2, 0.0)
    typical = float(expected[covered].median()) if bool(covered.any()) else 1.0
    return torch.where(covered & (expected > 0), expected, max(typical, 1e-30))


def _kernel_of(noise: Tensor, covered: Tensor) -> NoiseKernel:
    """Correlation of draws of unit variance by lag, as a kernel."""
    known = covered.double()
    rows, cols = noise.shape[-2:]
    size = (rows + _NOISE_REACH_PX, cols + _NOISE_REACH_PX)
    total = torch.fft.rfft2(noise.double() * known, size).abs().square().sum(dim=0)
    pairs = torch.fft.rfft2(known, size).abs().square().sum(dim=0) * len(noise)
    lags = torch.arange(-_NOISE_REACH_PX, _NOISE_REACH_PX + 1)
    covariance, count = (
        torch.fft.irfft2(power, size)[0][lags][:, lags] for power in (total, pairs)
    )
    table = covariance / count.clamp(min=1.0)
    table = table / table[_NOISE_REACH_PX, _NOISE_REACH_PX]
    return NoiseKernel.from_correlation(table.numpy(), "measured on draws through the combination")
