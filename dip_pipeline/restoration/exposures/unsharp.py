"""Holes of the sharpest exposures: filled with the scene as the others show it.

Where a cosmic ray, a mask or a saturated pixel takes away what only the sharpest show, the blur of
the others would be undone, and their noise with it: grain, of which no smooth error plane tells.
With B the blur of the others and x the scene that all of them give, a hole is read from B x, as if
it had been seen through their seeing: frequencies that they hold count in full, those they lost
come back in part. Detail d = x - B x that stands far above its own noise, a star's core, is left;
elsewhere n stands for it, noise of the exposure that the others' seeing does not pass:

    A (B x + t d) + (1 - t) (1 - B)^2 n,    t = 1 - s <noise of d>^2 / d^2, where that is above 0

with d^2 averaged over a star. So a hole has about the noise that is around it, of the same grain,
which networks know and take away. Where it was calmer than they were told (n left out), they
learned to answer calm pixels wrongly, and errors and DIPRISK of all the frame were off; told of
the noise as it was, they took it for light.

For t as it is found the scene depends linearly on exposures and n, and draws of their noise are
sent the same way. Planes are (batch, 1, rows, cols), the first one the exposures', the others
draws of noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Generator, Tensor

from dip_pipeline.flags import PixelFlag
from dip_pipeline.restoration.exposures.solving import Observation
from dip_pipeline.restoration.forward.optics import Mixture, Plane
from dip_pipeline.restoration.forward.seeing import SeeingBlur
from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.noise.correlation import draw_noise
from dip_pipeline.restoration.problem import Restored

_STANDS_OUT = 2.0  # s: detail below so many times its variance is noise for all that is known
_NOISE_SCALE_PX = 8.0  # over which the variance of detail is averaged, within holes
_LEAST_SUPPORT_PX = 0.5
_OF_SUPPORT = 2.0  # about the standard deviation of a star, over which detail is averaged
_TOLD = 0.5  # of the weight that the others usually have: less tells nothing of a hole
_LACKING = 0.6  # of what was not filled in; the rest the others tell all the same
_LEAST_WEIGHT = 1e-9


@dataclass(frozen=True, slots=True)
class Softened:
    """What a scene lacks of its detail in holes.

    seeing : the blur of the others, sigmas in pixels of the scene
    holes : (1, 1, rows, cols), share of the sharpest exposures' weight that was filled in
    damped : share of the detail that was left out of it
    """

    seeing: Mixture
    holes: Tensor
    damped: Tensor

    def within(self, rows: slice, cols: slice) -> Self:
        """Cut it to a part of the scene."""
        holes, damped = (plane[..., rows, cols] for plane in (self.holes, self.damped))
        return replace(self, holes=holes, damped=damped)

    def lacking(self, image: Plane) -> Plane:
        """Give the detail that a restored image, (rows, cols), of that part lacks."""
        known = np.isfinite(image)
        if not known.any():
            return np.zeros_like(image)
        light = np.where(known, image - np.median(image[known]), 0.0).astype(np.float64)
        scene = torch.from_numpy(light)[None, None]
        detail = scene - SeeingBlur(self.seeing).forward(scene)
        lacking: Plane = (
            (_LACKING * self.holes * self.damped * detail)[0, 0].numpy().astype(np.float32)
        )
        return lacking


@dataclass(frozen=True, slots=True)
class Filled:
    """Observations whose holes are filled, what they show, and what the scene then lacks."""

    observations: list[Observation]
    planes: list[Tensor]
    softened: Softened


def fill_sharpest(
    observations: Sequence[Observation],
    planes: Sequence[Tensor],
    scene: Tensor,
    support_px: float,
    generator: Generator,
) -> Filled | None:
    """Fill holes of the sharpest exposures that broader ones alone show; None where none is.

    Nor on finer pixels, where what others show of bright light comes out worse than with grain.
    planes : of each observation; scene : what was solved for from them
    generator : of the noise that stands for detail
    """
    broad = [each for each in observations if each.seeing]
    sharp = [each for each in observations if not each.seeing]
    if not broad or not sharp or any(each.factor > 1 for each in observations):
        return None
    wanted = {
        number: wanted
        for number, each in enumerate(observations)
        if not each.seeing and (wanted := _wanted(each, sharp, broad)) is not None
    }
    if not wanted:
        return None
    holes = sum(
        (observations[number].footprint.adjoint(weight) for number, weight in wanted.items()),
        torch.zeros_like(scene[:1]),
    )
    seeing = _seeing_of(broad)
    detail = scene - SeeingBlur(seeing).forward(scene)
    damped = 1 - _left(detail, holes, support_px)
    shown = scene - damped * detail
    filled, seen = list(observations), list(planes)
    for number, weight in wanted.items():
        own = observations[number]
        total = own.weight + weight
        share = weight / total.clamp(min=_LEAST_WEIGHT * float(total.max()))
        lent = own.read.forward(shown)
        fine = own.footprint.forward(damped) * _fine_noise(own, seeing, lent, generator)
        lent = lent + fine / total.clamp(min=_LEAST_WEIGHT * float(total.max())).sqrt()
        seen[number] = seen[number] + share * (lent - seen[number])
        filled[number] = replace(own, weight=total)
    share = holes / (holes + _cover(sharp, scene)).clamp(min=_LEAST_WEIGHT * float(holes.max()))
    return Filled(filled, seen, Softened(seeing, share, damped))


def _wanted(
    own: Observation, sharp: Sequence[Observation], broad: Sequence[Observation]
) -> Tensor | None:
    """Weight that holes of an exposure lack and that others as sharp do not have; None if none."""
    if own.missing is None:
        return None
    look = own.footprint
    usual = look.forward(look.adjoint(own.weight + own.missing))
    none = torch.zeros_like(look.adjoint(usual))
    others = look.forward(_cover([each for each in sharp if each is not own], none))
    told = look.forward(_cover(broad, none))
    enough = told > _TOLD * told.median()
    lacking = 1 - (others / usual.clamp(min=_LEAST_WEIGHT * float(usual.max()))).clamp(0.0, 1.0)
    wanted = own.missing * lacking * enough
    return wanted if bool((wanted > 0).any()) else None


def _cover(observations: Sequence[Observation], like: Tensor) -> Tensor:
    """Weight that some have together in each pixel of a scene of that shape."""
    return sum((each.cover() for each in observations), torch.zeros_like(like[:1]))


def _fine_noise(own: Observation, seeing: Mixture, like: Tensor, generator: Generator) -> Tensor:
    """Draw what an exposure's noise, of unit variance, has beyond what others' seeing passes."""
    blur = SeeingBlur(seeing)
    noise = draw_noise(like, generator, own.root)
    for _ in range(2):
        noise = noise - blur.forward(noise)
    return noise


def _left(detail: Tensor, holes: Tensor, support_px: float) -> Tensor:
    """Share of detail that is left, by how far it stands above its noise."""
    known = smooth(holes, _NOISE_SCALE_PX).clamp(min=_LEAST_WEIGHT * float(holes.max()))
    noise = smooth((detail[1:] ** 2).mean(dim=0, keepdim=True) * holes, _NOISE_SCALE_PX) / known
    over_px = _OF_SUPPORT * max(support_px, _LEAST_SUPPORT_PX)
    strength = smooth(detail[:1] ** 2, over_px).clamp(min=1e-30)
    return (1 - _STANDS_OUT * noise / strength).clamp(0.0, 1.0)


def _seeing_of(broad: Sequence[Observation]) -> Mixture:
    """Seeing of all together; a sharper one tells more of detail and counts for more."""
    shares = [
        float(each.weight[each.weight > 0].median()) / _variance_of(each.seeing) for each in broad
    ]
    return tuple(
        (share / sum(shares) * part, sigma_px)
        for share, each in zip(shares, broad, strict=True)
        for part, sigma_px in each.seeing
    )


def _variance_of(seeing: Mixture) -> float:
    return max(sum(part * sigma_px**2 for part, sigma_px in seeing), 1e-6)


def doubted(restored: Restored, lacking: Plane) -> Restored:
    """Widen errors by detail that is lacking, and flag where that is more than all else."""
    flags = restored.flags.copy()
    flags[np.abs(lacking) > restored.error] |= np.uint8(PixelFlag.LOW_CONFIDENCE)
    error = np.hypot(restored.error, lacking).astype(np.float32)
    return replace(restored, error=error, flags=flags)
