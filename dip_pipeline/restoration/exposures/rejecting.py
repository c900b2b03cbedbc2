"""Cosmic rays, satellites and what else one exposure alone shows: found by the others.

All planes are (1, 1, rows, cols), in the light of the reference, its sky taken off.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

from dip_pipeline.restoration.exposures.faint_trails import faint_light
from dip_pipeline.restoration.forward.optics import Mixture
from dip_pipeline.restoration.forward.sampling import Matrix, inverse_of, sampling
from dip_pipeline.restoration.forward.seeing import LEAST_BLUR_PX, from_beyond, leaving, softened
from dip_pipeline.restoration.forward.warping import Interpolation
from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.noise.correlation import scatter_left
from dip_pipeline.restoration.noise.laws import NoiseLaw

# Of a step to a neighbouring pixel, and of sigma, that a pixel may be off; then for its neighbours.
# The rule is that of Fruchter & Hook 2002, PASP 114, 144, section 5, with the numbers usual there.
_FIRST = (1.2, 4.0)
_BESIDE = (0.7, 3.0)
_UNCOVERED = 0.1  # of the weight of what is read, at most, may lie where nothing is known
_PASSES = 2
_LIT = 5.0  # of a pixel's sigma: from here on a place shows a source
# Dark dots: how far below the others' light a pixel of the sky may lie, in sigmas, from the lowest
# limit that is believed. At each there must be so many times as many as by noise, which is what its
# law says or as many as lie above, whichever is more.
_DARK_LIMITS = (2.5, 2.75, 3.0, 3.25, 3.5, 3.75)
_TIMES_NOISE = 3.0
_DARK_ROOM = 2.0  # of a step of the smoothed light, that a pixel may be off besides
_SLOPE_SCALE_PX = 1.0
_SCALE_ROOM = 0.03  # of its light, that a place may be off where pixels are averaged
_FEWEST_DARK = 30


@dataclass(frozen=True, slots=True)
class Light:
    """One exposure in the light of the reference.

    pixels : its sky taken off, divided by its flux scale, in units of the reference's noise; 0
        where not valid
    valid : 1 where a pixel carries information, else 0
    law, flux_scale, level : noise of its own unit; a light of x is flux_scale x + level there, the
        level being that of each pixel
    matrix, shift_px : where its pixels lie on the reference
    blur_px : its seeing against the sharpest exposure's, pixels of the reference
    seeing : what lies between the sharpest exposure and it, sigmas in the same pixels
    root : of its noise's correlation; None for white noise
    """

    pixels: Tensor
    valid: Tensor
    law: NoiseLaw
    flux_scale: float
    level: Tensor
    matrix: Matrix
    shift_px: tuple[float, float]
    blur_px: float = 0.0
    seeing: Mixture = ()
    root: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.pixels.shape[-2], self.pixels.shape[-1]

    def softening_px(self, broadest_px: float) -> float:
        """Gaussian that brings it to the broadest seeing, its own pixels; 0 where next to none."""
        sigma_px = max(0.0, broadest_px**2 - self.blur_px**2) ** 0.5
        sigma_px /= float(abs(np.linalg.det(np.asarray(self.matrix)))) ** 0.5
        return sigma_px if sigma_px >= LEAST_BLUR_PX else 0.0

    def variance(self, light: Tensor) -> Tensor:
        """Variance of its pixels where they show that light, in the unit of `pixels` squared."""
        own = self.law.variance((light * self.flux_scale + self.level).double())
        return (own / self.flux_scale**2).float()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the others say of one exposure's pixels; planes (1, 1, rows, cols).

    agrees : 1 where a pixel is to be used, else 0
    valid : True where a pixel carries information
    lit : True where all of them together show a source, and can tell
    """

    agrees: Tensor
    valid: Tensor
    lit: Tensor


def reject(lights: Sequence[Light], shape: tuple[int, int]) -> list[Tensor]:
    """Which pixels of each exposure agree with what the others see: 1, else 0; see `judge`."""
    return [verdict.agrees for verdict in judge(lights, shape)]


def judge(lights: Sequence[Light], shape: tuple[int, int]) -> list[Verdict]:
    """Hold the pixels of each exposure against what the others see there.

    shape : (rows, cols) of the reference's window
    The median of all exposures is read at every exposure's pixels; of an even number it is the
    smaller of the two in the middle, for cosmic rays and satellites only add light. A second pass
    leaves out of the median what the first one rejected. Where fewer than two see a place nothing
    is told. Exposures are compared at the broadest seeing: a star is higher in a sharper one. Of a
    star beyond its edge a sharper one shows less, softened or not; it is not left out for that.
    """
    agreeing = [torch.ones_like(light.valid) for light in lights]
    if len(lights) < 2:
        return [
            Verdict(agrees, light.valid > 0, torch.zeros_like(light.valid) > 0)
            for agrees, light in zip(agreeing, lights, strict=True)
        ]
    broadest_px = max(light.blur_px for light in lights)
    for _ in range(_PASSES):
        alike = [
            _softened(light, each, broadest_px)
            for light, each in zip(lights, agreeing, strict=True)
        ]
        every = [laid(light, torch.ones_like(light.valid), shape) for light in alike]
        planes = torch.cat([plane for plane, _ in every], dim=1)
        seen = torch.cat([known for _, known in every], dim=1) > 0
        middle = _middle(planes, seen)
        count = seen.sum(dim=1, keepdim=True)
        verdicts = [
            _judged(light, middle, count, before, light.softening_px(broadest_px))
            for light, before in zip(lights, agreeing, strict=True)
        ]
        agreeing = [verdict.agrees for verdict in verdicts]
    return verdicts


def _softened(light: Light, agrees: Tensor, broadest_px: float) -> Light:
    """Bring what agrees of an exposure to the broadest seeing."""
    softening_px = light.softening_px(broadest_px)
    pixels, known = softened(light.pixels, light.valid * agrees, softening_px)
    return replace(light, pixels=pixels, valid=known)


def laid(
    light: Light,
    agrees: Tensor,
    shape: tuple[int, int],
    interpolation: Interpolation = Interpolation.QUINTIC,
) -> tuple[Tensor, Tensor]:
    """Lay an exposure on the reference's pixels; the second is 1 where it covers them."""
    matrix, shift_px = inverse_of(light.matrix, light.shift_px)
    read, inside = sampling(
        matrix, shift_px, scene=light.shape, observed=shape, interpolation=interpolation
    )
    cover = read.forward(light.valid * agrees)
    known = ((cover - 1).abs() < _UNCOVERED).float() * inside
    return read.forward(light.pixels), known


def _middle(planes: Tensor, seen: Tensor) -> Tensor:
    """Lower median over exposures of what is seen; 0 where nothing is."""
    far = torch.where(seen, planes, torch.inf).sort(dim=1).values
    count = seen.sum(dim=1, keepdim=True)
    low = ((count - 1) // 2).clamp(min=0)
    return torch.where(count > 0, far.gather(1, low), 0.0)


def _judged(
    light: Light, middle: Tensor, count: Tensor, before: Tensor, softening_px: float
) -> Verdict:
    """Judge one exposure; where too few see a place, what was judged before stands.

    softening_px : that brings it to the seeing of the median
    """
    shape = (middle.shape[-2], middle.shape[-1])
    blot, inside = sampling(light.matrix, light.shift_px, scene=shape, observed=light.shape)
    expected = blot.forward(middle)
    told = (blot.forward((count >= 2).float()) - 1).abs() * inside < _UNCOVERED * inside
    step = blot.forward(_steepest(middle)).clamp(min=0.0)
    sigma = light.variance(expected).clamp(min=0.0).sqrt()
    lit = told & (light.valid > 0) & (expected > _LIT * sigma)
    seen = light.pixels
    if softening_px > 0:
        sigma = sigma * scatter_left(softening_px, light.root)
        seen = leaving(torch.where(light.valid > 0, seen, expected), softening_px)
        # Light from beyond its borders it cannot have; the others may show no more than that.
        beyond = from_beyond(seen, softening_px) & (seen < expected)
        seen = torch.where(beyond, torch.minimum(seen + expected.clamp(min=0.0), expected), seen)
    off = (seen - expected).abs()
    hit = told & (light.valid > 0) & (off > _FIRST[0] * step + _FIRST[1] * sigma)
    sky = told & (light.valid > 0) & ~lit
    # Without the noise of the median, which is most of its steps in the dark.
    slope = blot.forward(_steepest(smooth(middle, _SLOPE_SCALE_PX))).clamp(min=0.0)
    hit |= _dark_dots((seen - expected) / sigma, _DARK_ROOM * slope / sigma, sky & (sigma > 0))
    beside = nnf.max_pool2d(hit.float(), 3, stride=1, padding=1) > 0
    hit |= beside & told & (off > _BESIDE[0] * step + _BESIDE[1] * sigma)
    usable = told & (light.valid > 0) & (sigma > 0)
    room = (_FIRST[0] * slope + _SCALE_ROOM * expected.abs()) / sigma
    hit |= faint_light((seen - expected) / sigma, room, usable, hit)
    return Verdict(torch.where(told, 1 - hit.float(), before), light.valid > 0, lit)


def _dark_dots(off: Tensor, room: Tensor, sky: Tensor) -> Tensor:
    """Which pixels of the sky are darker than noise makes them, where a frame has many of those.

    off : by how many sigmas they differ from the others; room : what they may besides
    Dots that are too dark in one exposure alone, below the limit for all, are seen by their number.
    """
    below, above = -off[sky] - room[sky], off[sky] - room[sky]
    for limit in _DARK_LIMITS:
        by_law = len(below) * 0.5 * math.erfc(limit / 2**0.5)
        dark, bright = int((below > limit).sum()), int((above > limit).sum())
        if dark >= max(_FEWEST_DARK, _TIMES_NOISE * max(by_law, bright)):
            return sky & (-off > room + limit)
    return torch.zeros_like(sky)


def _steepest(plane: Tensor) -> Tensor:
    """Largest step from each pixel to one of its four neighbours."""
    wide = nnf.pad(plane, (1, 1, 1, 1), mode="replicate")
    steps = [
        (wide[..., 1 + down : wide.shape[-2] - 1 + down, 1 + across : wide.shape[-1] - 1 + across])
        for down, across in ((-1, 0), (1, 0), (0, -1), (0, 1))
    ]
    return torch.stack([(step - plane).abs() for step in steps]).amax(dim=0)
