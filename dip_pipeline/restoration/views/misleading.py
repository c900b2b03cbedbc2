"""Guides that lie, for a fit to learn from: what only a guide shows is not in the frame.

Sources of the guide itself are shown once more where they are not, fainter or brighter; and some
crops have no guide at all, so that one network restores with it and without.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.views.guide_planes import without_guides

_BLIND_SHARE = 0.15  # of the crops have no guide; of several guides each may be missing, too
_LONE_SHARE = 0.15
_LYING_SHARE = 0.6  # of the others get sources that are not there
_MOST_LIES = 4
_FACTORS = (-1.0, 1.5)  # log10 of how much brighter a source is shown
_REACH_PX = 12  # of a patch around a source, whose edge fades from half of it on
_SOURCE_SIGMA = 5.0  # above its surroundings, over the noise of a guide


class Misleading:
    """Takes crops of guides, and spoils them.

    planes : guides of each region, (1, 2 * guides, rows, cols)
    """

    def __init__(self, planes: Sequence[Tensor], rng: np.random.Generator) -> None:
        self.planes = planes
        self.rng = rng
        self._sources = [_sources_of(planes, number) for number in range(planes[0].shape[1] // 2)]

    def of(self, crop: Tensor) -> Tensor:
        """Spoil one crop, (1, 2 * guides, rows, cols); returns a new one."""
        count = crop.shape[1] // 2
        if self.rng.random() < _BLIND_SHARE:
            return without_guides(crop)
        spoilt = crop.clone()
        for number in range(count):
            if count > 1 and self.rng.random() < _LONE_SHARE:
                spoilt[:, [number, count + number]] = 0
            elif self.rng.random() < _LYING_SHARE:
                self._add_lies(spoilt, number)
        return spoilt

    def _add_lies(self, crop: Tensor, number: int) -> None:
        sources = self._sources[number]
        side = min(crop.shape[-2:])
        if len(sources) == 0 or side < 2 * _REACH_PX + 1:
            return
        for _ in range(int(self.rng.integers(1, _MOST_LIES + 1))):
            index, row, col = sources[self.rng.integers(len(sources))]
            patch = self.planes[index][0, number, row : row + side, col : col + side]
            patch = patch[: 2 * _REACH_PX + 1, : 2 * _REACH_PX + 1]
            light = (patch - patch.median()) * _taper(patch)
            light = torch.rot90(light, int(self.rng.integers(4)))
            factor = 10 ** self.rng.uniform(*_FACTORS)
            top, left = (
                int(self.rng.integers(length - 2 * _REACH_PX)) for length in crop.shape[-2:]
            )
            rows, cols = (slice(first, first + 2 * _REACH_PX + 1) for first in (top, left))
            crop[0, number, rows, cols] += factor * light


def _sources_of(planes: Sequence[Tensor], number: int) -> np.ndarray:
    """Corners (region, row, col) of patches around pixels with light, as an int array (n, 3)."""
    found = []
    for index, plane in enumerate(planes):
        guide = plane[:, number : number + 1]
        bright = smooth(guide, 1.0) - smooth(guide, 4.0) > _SOURCE_SIGMA
        inside = bright[0, 0, _REACH_PX:-_REACH_PX, _REACH_PX:-_REACH_PX]
        where = torch.nonzero(inside).cpu().numpy()
        found.append(np.column_stack([np.full(len(where), index), where]))
    return np.concatenate(found).astype(np.int32)


def _taper(patch: Tensor) -> Tensor:
    """1 in the middle, 0 at the rim."""
    side = torch.arange(-_REACH_PX, _REACH_PX + 1, device=patch.device, dtype=patch.dtype)
    radius = torch.hypot(side[:, None], side[None, :]) / _REACH_PX
    return 0.5 + 0.5 * torch.cos(torch.pi * (2 * radius - 1).clamp(0.0, 1.0))
