"""Light of one exposure that no pixel tells by itself: faint trails, moving things, wings of both.

Pixel by pixel the wings of a satellite's trail are within the noise; together they are a ridge in
the mean of all exposures. So what an exposure has beyond the others is averaged over a few pixels.
All planes are (1, 1, rows, cols).
"""

import math

import torch
import torch.nn.functional as nnf
from torch import Tensor

from dip_pipeline.restoration.images.smoothing import smooth

_OVER_PX = 1.5  # a few pixels: standard deviation of the Gaussian that averages
_AROUND_PX = 12.0  # over which exposures may differ by a sky or a scale that is not quite right
_SURE = 5.5  # of the scatter of such averages, to be light that is not in the others
_BESIDE = 2.0  # the same beside light that is sure
_REACH = 8  # pixels beside it that are looked at
_MOST = 5.0  # sigma, that one pixel counts for at most
_KNOWN = 0.2  # of an average's weight lies on pixels that are held against the others, at least
_CROWD_PX, _CROWD = 9, 12  # pixels found one by one, of a square of so many a side: no cosmic ray
_OF_NORMAL = 1.4826  # scatter of a normal distribution over its median distance


def faint_light(off: Tensor, room: Tensor, usable: Tensor, hit: Tensor) -> Tensor:
    """Find pixels that are brighter than the others' light, together with their neighbours.

    off : what an exposure has beyond the others, over its noise
    room : by how much it may be off besides, at sources, in the same unit
    usable : True where the two can be compared; hit : True where a pixel told by itself
    """
    weight = (usable & ~hit).to(off.dtype)
    clipped = off.clamp(-_MOST, _MOST) * weight
    around = smooth(weight, _AROUND_PX)
    clipped = clipped - weight * smooth(clipped, _AROUND_PX) / around.clamp(min=1e-6)
    left = clipped.sign() * (clipped.abs() - room).clamp(min=0.0) * weight
    # Of white noise this mean scatters by the root of the sum of its squared weights.
    spread = smooth(weight, _OVER_PX / math.sqrt(2)) / (4 * math.pi * _OVER_PX**2)
    spread = spread.clamp(min=1e-12).sqrt()
    told = smooth(weight, _OVER_PX) > _KNOWN
    if not bool((told & usable).any()):
        return torch.zeros_like(usable)
    # At least that of white noise.
    plain = (smooth(clipped, _OVER_PX) / spread)[told & usable]
    scatter = max(_OF_NORMAL * float(plain.abs().median()), 1.0)
    mean = torch.where(told, smooth(left, _OVER_PX) / (spread * scatter), 0.0)
    crowd = nnf.avg_pool2d(hit.to(off.dtype), _CROWD_PX, stride=1, padding=_CROWD_PX // 2)
    found = (mean > _SURE) | (hit & (crowd * _CROWD_PX**2 >= _CROWD))
    for _ in range(_REACH):
        beside = nnf.max_pool2d(found.to(off.dtype), 3, stride=1, padding=1) > 0
        found = found | (beside & (mean > _BESIDE))
    return found & usable
