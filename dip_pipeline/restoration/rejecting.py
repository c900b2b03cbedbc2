"""Cosmic rays, satellites and what else one exposure alone shows: found by the others.

All planes are (1, 1, rows, cols), in the light of the reference, its sky taken off.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Tensor

from dip_pipeline.restoration.noise import NoiseLaw
from dip_pipeline.restoration.sampling import Matrix, inverse_of, sampling

# Of a step to a neighbouring pixel, and of sigma, that a pixel may be off; then for its neighbours.
# The rule is that of Fruchter & Hook 2002, PASP 114, 144, section 5, with the numbers usual there.
_FIRST = (1.2, 4.0)
_BESIDE = (0.7, 3.0)
_UNCOVERED = 0.1  # of the weight of what is read, at most, may lie where nothing is known
_PASSES = 2


@dataclass(frozen=True, slots=True)
class Light:
    """One exposure in the light of the reference.

    pixels : its sky taken off, divided by its flux scale, in units of the reference's noise; 0
        where not valid
    valid : 1 where a pixel carries information, else 0
    law, flux_scale, level : noise of its own unit; a light of x is flux_scale x + level there
    matrix, shift_px : where its pixels lie on the reference
    """

    pixels: Tensor
    valid: Tensor
    law: NoiseLaw
    flux_scale: float
    level: float
    matrix: Matrix
    shift_px: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.pixels.shape[-2], self.pixels.shape[-1]

    def variance(self, light: Tensor) -> Tensor:
        """Variance of its pixels where they show that light, in the unit of `pixels` squared."""
        own = self.law.variance((light * self.flux_scale + self.level).double())
        return (own / self.flux_scale**2).float()


def reject(lights: Sequence[Light], shape: tuple[int, int]) -> list[Tensor]:
    """Which pixels of each exposure agree with what the others see there: 1, else 0.

    shape : (rows, cols) of the reference's window
    The median of all exposures is read at every exposure's pixels; of an even number it is the
    smaller of the two in the middle, for cosmic rays and satellites only add light. A second pass
    leaves out of the median what the first one rejected. Where fewer than two see a place nothing
    is told.
    """
    if len(lights) < 2:
        return [torch.ones_like(light.valid) for light in lights]
    agreeing = [torch.ones_like(light.valid) for light in lights]
    for _ in range(_PASSES):
        every = [laid(light, each, shape) for light, each in zip(lights, agreeing, strict=True)]
        planes = torch.cat([plane for plane, _ in every], dim=1)
        seen = torch.cat([known for _, known in every], dim=1) > 0
        middle = _middle(planes, seen)
        count = seen.sum(dim=1, keepdim=True)
        agreeing = [
            _agreeing(light, middle, count, before)
            for light, before in zip(lights, agreeing, strict=True)
        ]
    return agreeing


def laid(light: Light, agrees: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Lay an exposure on the reference's pixels; the second is 1 where it covers them."""
    matrix, shift_px = inverse_of(light.matrix, light.shift_px)
    read, inside = sampling(matrix, shift_px, scene=light.shape, observed=shape)
    cover = read.forward(light.valid * agrees)
    known = ((cover - 1).abs() < _UNCOVERED).float() * inside
    return read.forward(light.pixels), known


def _middle(planes: Tensor, seen: Tensor) -> Tensor:
    """Lower median over exposures of what is seen; 0 where nothing is."""
    far = torch.where(seen, planes, torch.inf).sort(dim=1).values
    count = seen.sum(dim=1, keepdim=True)
    low = ((count - 1) // 2).clamp(min=0)
    return torch.where(count > 0, far.gather(1, low), 0.0)


def _agreeing(light: Light, middle: Tensor, count: Tensor, before: Tensor) -> Tensor:
    """Judge one exposure; where too few see a place, what was judged before stands."""
    shape = (middle.shape[-2], middle.shape[-1])
    blot, inside = sampling(light.matrix, light.shift_px, scene=shape, observed=light.shape)
    expected = blot.forward(middle)
    told = (blot.forward((count >= 2).float()) - 1).abs() * inside < _UNCOVERED * inside
    step = blot.forward(_steepest(middle)).clamp(min=0.0)
    sigma = light.variance(expected).clamp(min=0.0).sqrt()
    off = (light.pixels - expected).abs()
    hit = told & (light.valid > 0) & (off > _FIRST[0] * step + _FIRST[1] * sigma)
    beside = nnf.max_pool2d(hit.float(), 3, stride=1, padding=1) > 0
    hit |= beside & told & (off > _BESIDE[0] * step + _BESIDE[1] * sigma)
    return torch.where(told, 1 - hit.float(), before)


def _steepest(plane: Tensor) -> Tensor:
    """Largest step from each pixel to one of its four neighbours."""
    wide = nnf.pad(plane, (1, 1, 1, 1), mode="replicate")
    steps = [
        (wide[..., 1 + down : wide.shape[-2] - 1 + down, 1 + across : wide.shape[-1] - 1 + across])
        for down, across in ((-1, 0), (1, 0), (0, -1), (0, 1))
    ]
    return torch.stack([(step - plane).abs() for step in steps]).amax(dim=0)
