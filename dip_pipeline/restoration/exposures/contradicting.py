"""Light of a combination that some of its exposures do not show: of what moves, flares or fades.

Something that moves by less than its width from one exposure to the next is in none of them alone,
and pixel by pixel little is left out. So what each exposure has beyond the scene is summed over a
few pixels, and where the exposures are unlike each other beyond noise, and by a good part of the
light that the scene has there, that light is in doubt. A steady source differs by little of its
light, however bright it is, and a cosmic ray that was left out has none.
Planes are (1, 1, rows, cols), or (exposures, 1, rows, cols), in the light of the reference.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

from dip_pipeline.flags import PixelFlag
from dip_pipeline.restoration.exposures.rejecting import Verdict
from dip_pipeline.restoration.exposures.solving import Observation
from dip_pipeline.restoration.forward.optics import Plane
from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.problem import Restored

_OVER_PX = 1.0  # a few pixels: standard deviation of the Gaussian that sums; see `agreeing`
_AROUND_PX = 12.0  # over which exposures may differ by a sky that is not quite right
_MOST = 5.0  # sigma, that one pixel counts for at most where it may have been left out
_KNOWN = 0.3  # of the weight that an exposure usually has: with less it tells nothing
# Of what is in doubt, and then beside it.
_LIT = (4.0, 2.0)  # standard errors of the light that the scene has
_UNLIKE = (4.0, 2.0)  # standard deviations, of a normal distribution, that exposures differ by
_LACKING = (2.5, 1.0)  # standard errors of the light that they lack, beyond the room below
_MORE = (3.0, 1.5)  # of what two have beyond it, pixels that were left out among it
_REACH_PX = 4  # beside light that is in doubt
_ROOM = 0.3  # of its light, that a place may be off: seeing, shifts, scales
_ROOM_BESIDE, _BESIDE_PX = 0.05, 6  # of the brightest light within so many pixels: wings
_OF_NORMAL = 1.4826  # scatter of a normal distribution over its median distance
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums over a few pixels, of each exposure; planes (exposures, 1, rows, cols).

    beyond : light that it has beyond the scene's; light : of the scene; scatter : of `beyond`
    told : True where it has enough pixels to tell
    """

    beyond: Tensor
    light: Tensor
    scatter: Tensor
    told: Tensor

    @classmethod
    def of(cls, observation: Observation, left: Tensor, expected: Tensor, weight: Tensor) -> Self:
        """Sum what is left, with these weights of its pixels."""
        back, factor = observation.footprint.adjoint, observation.factor
        over, around = _OVER_PX * factor, _AROUND_PX * factor
        cover, beyond = back(weight), back(weight * left)
        level = smooth(beyond, around) / smooth(cover, around).clamp(min=_TINY)
        beyond, cover = smooth(beyond, over), smooth(cover, over)
        # Of white noise a mean scatters by the root of the sum of its squared weights.
        variance = smooth(back((weight * observation.sigma) ** 2), over / math.sqrt(2))
        scatter = (variance / (4 * math.pi * over**2)).clamp(min=_TINY**2).sqrt()
        known = cover[cover > 0]
        usual = known.median() if known.numel() else cover.max()
        told = (cover > _KNOWN * usual) & (scatter > _TINY)
        return cls(beyond - level * cover, smooth(back(weight * expected), over), scatter, told)

    @classmethod
    def joined(cls, some: Sequence[Self]) -> Self:
        """Lay those of all exposures on each other."""
        planes = ((each.beyond, each.light, each.scatter, each.told) for each in some)
        return cls(*(torch.cat(alike) for alike in zip(*planes, strict=True)))

    def room(self, factor: int) -> Tensor:
        """By how much a steady source may be off."""
        side = 2 * _BESIDE_PX * factor + 1
        beside = nnf.max_pool2d(self.light, side, stride=1, padding=side // 2)
        return _ROOM * self.light.clamp(min=0.0) + _ROOM_BESIDE * beside.clamp(min=0.0)


def contradicted(
    scene: Tensor,
    observations: Sequence[Observation | None],
    verdicts: Sequence[Verdict],
    factor: int,
) -> Tensor:
    """Give the share of the scene's light that exposures do not show; 0 where it is steady.

    observations : None of an exposure without a pixel to use; factor : of the scene's pixels
    """
    used, every = [], []
    for observation, verdict in zip(observations, verdicts, strict=True):
        if observation is None:
            continue
        sigma = observation.sigma
        sigma = torch.where(sigma > 0, sigma, sigma[sigma > 0].median())  # of what was left out
        seen = replace(observation, sigma=sigma)
        expected = seen.read.forward(scene)
        left = seen.pixels - expected
        used.append(_Sums.of(seen, left, expected, seen.weight))
        weight = seen.weight if seen.missing is None else seen.weight + seen.missing
        clipped = (left / sigma).clamp(-_MOST, _MOST) * sigma
        every.append(_Sums.of(seen, clipped, expected, weight * verdict.valid))
    if len(used) < 2:
        return torch.zeros_like(scene)
    return _in_doubt(_Sums.joined(used), _Sums.joined(every), factor)


def _in_doubt(used: _Sums, every: _Sums, factor: int) -> Tensor:
    """Share of the light that is in doubt.

    used : of pixels that are in the scene; every : of those that were left out, too
    """
    noise = _noisier(used)
    scatter = torch.where(used.told, used.scatter * noise, 1.0)
    off = torch.where(used.told, used.beyond / scatter, 0.0)
    light = torch.where(used.told, used.light, 0.0).sum(dim=0, keepdim=True)
    light = (
        light
        / torch.where(used.told, scatter**2, 0.0).sum(0, keepdim=True).clamp(min=_TINY**2).sqrt()
    )
    unlike = _as_normal((off**2).sum(dim=0, keepdim=True), used.told.sum(0, keepdim=True) - 1)
    lacking = torch.where(used.told, -used.beyond - used.room(factor), 0.0).clamp(min=0.0)
    lacking = ((lacking / scatter) ** 2).sum(dim=0, keepdim=True).sqrt()
    more = (every.beyond - every.room(factor)) / (every.scatter * noise)
    second = torch.where(every.told, more, 0.0).sort(dim=0, descending=True).values[1:2]
    moved = (unlike > _UNLIKE[0]) & (lacking > _LACKING[0])
    left_out = second > _MORE[0]
    sure = (moved | left_out) & (light > _LIT[0])
    if not bool(sure.any()):
        return torch.zeros_like(light)
    moving = (unlike > _UNLIKE[1]) & (lacking > _LACKING[1])
    sure = _grown(sure, (moving | (second > _MORE[1])) & (light > _LIT[1]), _REACH_PX * factor)
    sure = _grown(sure, light > _LIT[1], factor)
    shares = torch.where(used.told, -used.beyond / used.light.clamp(min=_TINY), 0.0)
    share = shares.amax(dim=0, keepdim=True).clamp(0.0, 1.0)
    share = torch.where(second > _MORE[1], 1.0, share) * sure
    side = 2 * factor + 1
    return torch.where(sure, nnf.max_pool2d(share, side, stride=1, padding=factor), 0.0)


def _grown(found: Tensor, likely: Tensor, steps: int) -> Tensor:
    """Add what is likely beside what was found, so many pixels on."""
    for _ in range(steps):
        beside = nnf.max_pool2d(found.float(), 3, stride=1, padding=1) > 0
        found = found | (beside & likely)
    return found


def _noisier(sums: _Sums) -> Tensor:
    """How much more than white noise sums of each exposure scatter, (exposures, 1, 1, 1)."""
    # Of K exposures alike their mean takes one part in K of the variance away.
    usual = math.sqrt(1 - 1 / len(sums.beyond))
    found = [
        _OF_NORMAL * float((beyond / scatter)[told].abs().median()) / usual if told.any() else 1.0
        for beyond, scatter, told in zip(sums.beyond, sums.scatter, sums.told, strict=True)
    ]
    return torch.tensor(found).clamp(min=1.0).to(sums.beyond).view(-1, 1, 1, 1)


def _as_normal(squares: Tensor, freedom: Tensor) -> Tensor:
    """Tell how many standard deviations of a normal distribution a sum of squares is worth.

    After Wilson & Hilferty 1931, PNAS 17, 684.
    """
    count = freedom.clamp(min=1).to(squares)
    spread = 2 / (9 * count)
    normal = ((squares / count) ** (1 / 3) - (1 - spread)) / spread.sqrt()
    return torch.where(freedom > 0, normal, 0.0)


def with_doubt(restored: Restored, share: Plane) -> Restored:
    """Widen errors by the light that is in doubt, and flag it.

    share : of its light, on the restored pixels
    """
    known = np.isfinite(restored.science)
    if not (share > 0).any() or not known.any():
        return restored
    flags = restored.flags.copy()
    flags[(share > 0) & known] |= np.uint8(PixelFlag.LOW_CONFIDENCE)
    light = np.where(known, restored.science - np.median(restored.science[known]), 0.0)
    error = np.hypot(restored.error, share * light).astype(np.float32)
    return replace(restored, error=error, flags=flags)
