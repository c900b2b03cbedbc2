"""The sky around a window, whose light exposures of broad seeing and wide pixels bring into it.

Mirrored at a border, the light of a star beyond it is a star within. So a scene goes on beyond its
window: there it is what the exposures show that see on, and what those need whose pixels end.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from dip_pipeline.restoration.exposures.rejecting import Light
from dip_pipeline.restoration.forward.optics import Optics

_SIGMAS = 3.0  # of the widest Gaussian of all seeing that a rim holds
_LEAST_PX = 6  # what interpolation reads
_MOST_PX = 24


def rim_of(lights: Sequence[Light], optics: Optics) -> int:
    """Say how far beyond its window a scene goes on, pixels of the reference."""
    widest = max((sigma for light in lights for _, sigma in light.seeing), default=0.0)
    within = optics.support_px / optics.factor
    reach = math.ceil(_SIGMAS * math.hypot(widest, within))
    return min(_MOST_PX, max(_LEAST_PX, reach))


def with_rim(lights: Sequence[Light], rim_px: int) -> list[Light]:
    """Place exposures on a window that goes on by so many pixels on every side."""
    return [
        replace(light, shift_px=(light.shift_px[0] + rim_px, light.shift_px[1] + rim_px))
        for light in lights
    ]


def without_rim(planes: Tensor, rim_px: int) -> Tensor:
    """Cut the rim off planes (..., rows, cols)."""
    return planes[..., rim_px:-rim_px, rim_px:-rim_px] if rim_px else planes
