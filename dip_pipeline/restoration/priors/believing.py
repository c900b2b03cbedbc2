"""How far a guided image is to be believed: beside it stands the image without a guide.

Where the frame itself shows the light well a guide has nothing to add, and a fit that saw another
guide would draw those few bright pixels a little differently: there the unguided image is the
result. So it is where the frame contradicts the guided image, and where no guide is known. What
only a guide shows can change no pixel of these.
"""

from dataclasses import replace

import torch
import torch.nn.functional as nnf
from torch import Tensor

from dip_pipeline.restoration.delivering.asking import Answers, moved_by
from dip_pipeline.restoration.delivering.restraint import borne_out
from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.views.regions import Region

# Light in sigma, smoothed: from where a guide counts less, and where for nothing.
_PEAKED, _MORE_PEAKED = 2.0, 6.0  # above its surroundings: cores of stars, not galaxies
_NEAR, _NEARER = 24.0, 36.0  # within four pixels: the rims of what is bright
_LIGHT_PX, _AROUND_PX = 1.0, 4.0
_EDGE_PX = 2.0


def guided_where_believed(
    guided: tuple[Answers, Answers], alone: tuple[Answers, Answers], region: Region
) -> Answers:
    """Mix a guided and an unguided image, and those of the moved observation.

    guided, alone : what the networks say, and the finished images
    """
    (said, made), (said_alone, made_alone) = guided, alone
    plain = belief(said.plain, said_alone.plain, region.observed, region)
    moved = belief(said.moved, said_alone.moved, moved_by(region, said.probe), region)
    return replace(
        made,
        plain=made_alone.plain + plain * (made.plain - made_alone.plain),
        moved=made_alone.moved + moved * (made.moved - made_alone.moved),
        scatter=made_alone.scatter + plain * (made.scatter - made_alone.scatter),
    )


def belief(guided: Tensor, alone: Tensor, observed: Tensor, region: Region) -> Tensor:
    """1 where the guided image is to be taken, 0 where the unguided one; (1, 1, rows, cols)."""
    root = region.noise.root
    share = borne_out(guided, observed, region.sigma, region.trusted, root)
    bright = (alone + region.stars) / region.noise.sigma(alone)
    light = smooth(bright, _LIGHT_PX)
    share = share * _falling(light - smooth(bright, _AROUND_PX), _PEAKED, _MORE_PEAKED)
    share = share * _falling(nnf.max_pool2d(light, 9, stride=1, padding=4), _NEAR, _NEARER)
    if region.guides is None:
        return torch.zeros_like(share)
    _, known = region.guides.chunk(2, dim=1)
    inside = smooth(known.amax(dim=1, keepdim=True), _EDGE_PX)
    return share * (2 * inside - 1).clamp(0.0, 1.0)


def _falling(light: Tensor, first: float, last: float) -> Tensor:
    """1 up to the first, 0 from the last."""
    return ((last - light) / (last - first)).clamp(0.0, 1.0)
