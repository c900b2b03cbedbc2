"""Random crops of regions: where they are drawn, how they are turned, what is hidden in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType

import numpy as np
import torch
from torch import Tensor

from dip_pipeline.restoration.correlation import same_sided
from dip_pipeline.restoration.misleading import Misleading
from dip_pipeline.restoration.regions import PixelNoise, Region
from dip_pipeline.restoration.smoothing import smooth

CROP_PX = 64
_SIGNAL_SHARE = 0.25  # of the crops are centred on signal; half helps sparse fields, hurts crowded
_SIGNAL_SIGMA = 2.0  # a pixel is signal where its smoothed excess is above this
_HIDING_SHARE = 0.5  # of the crops get further pixels hidden, where the frame has masked ones
_HIDDEN_WEIGHT = 4.0  # hidden pixels are few: each counts more


@dataclass(frozen=True, slots=True)
class Batch:
    """Crops of one size; every plane is (batch, 1, crop, crop).

    known : what the network may see; weight : share of each pixel in the data term
    covariance : of each crop's frame, (batch, lags, lags)
    guides : (batch, planes, crop, crop), see `guide_planes` and `twinning`; None without guides
    """

    observed: Tensor
    sigma: Tensor
    known: Tensor
    weight: Tensor
    covariance: Tensor
    noise: PixelNoise
    guides: Tensor | None = None


class CropSource:
    """Draws crops of regions, of one frame or of many, from one random generator.

    zones : one plane a region, 1 where the network may be fitted
    turned : whether each crop is flipped and turned at random
    """

    def __init__(
        self,
        regions: Sequence[Region],
        zones: Sequence[Tensor],
        rng: np.random.Generator,
        *,
        turned: bool = True,
    ) -> None:
        self.regions = regions
        self.rng = rng
        self._turned = turned
        shortest = min(min(region.shape) for region in regions)
        self.crop_px = min(CROP_PX, shortest // 4 * 4)
        self._weights = [
            region.trusted * zone.to(region.trusted.device)
            for region, zone in zip(regions, zones, strict=True)
        ]
        self._places = _positions(self._weights)
        signal = [
            weight * (smooth(region.observed.abs() / region.sigma, 2.0) > _SIGNAL_SIGMA)
            for region, weight in zip(regions, self._weights, strict=True)
        ]
        self._signal_places = _positions(signal)
        self._holes = _positions([1 - region.known for region in regions])
        self._roots = same_sided([region.noise.root for region in regions])
        planes = [region.guides for region in regions if region.guides is not None]
        self._misleading = Misleading(planes, rng) if planes else None

    @property
    def device(self) -> torch.device:
        """Where the crops lie."""
        return self.regions[0].observed.device

    @property
    def empty(self) -> bool:
        """Whether there is nowhere to fit."""
        return len(self._places) == 0

    @property
    def guide_planes(self) -> int:
        """How many planes of guides, or of a twin, the crops have."""
        planes = self.regions[0].guides
        return 0 if planes is None else planes.shape[1]

    def draw(self, count: int, *, misled: bool = False) -> Batch:
        """Draw a batch of crops, each flipped and turned at random.

        misled : the guides of some show what is not there, or nothing
        """
        crops = [self._one(misled=misled) for _ in range(count)]
        guides = [crop.pop(0) for crop in crops] if self.guide_planes else None
        covariance, observed, sigma, known, weight, *noise = (
            torch.cat(list(planes)) for planes in zip(*crops, strict=True)
        )
        law = PixelNoise(*noise)
        together = None if guides is None else torch.cat(guides)
        return Batch(observed, sigma, known, weight, covariance, law, together)

    def _one(self, *, misled: bool) -> list[Tensor]:
        wants_signal = self.rng.random() < _SIGNAL_SHARE and len(self._signal_places) > 0
        index, window = self._window(self._signal_places if wants_signal else self._places)
        region = self.regions[index]
        known, weight = region.known[window], self._weights[index][window]
        if len(self._holes) > 0 and self.rng.random() < _HIDING_SHARE:
            shown = self._hiding_pattern()
            weight = weight * (1 + (_HIDDEN_WEIGHT - 1) * (1 - shown))
            known = known * shown
        turns, flip = int(self.rng.integers(4)), bool(self.rng.integers(2))
        if not self._turned:
            turns, flip = 0, False
        noise = region.noise  # each frame has its own law
        planes = (region.observed[window], region.sigma[window], known, weight, noise.floor[window])
        law = (torch.as_tensor(term).to(known) for term in (noise.slope, noise.dark_level))
        turned = (turn(plane, turns, flip=flip) for plane in planes)
        roots = [] if self._roots is None else [turn(self._roots[index], turns, flip=flip)]
        guides: list[Tensor] = []
        if region.guides is not None and self._misleading is not None:
            shown = region.guides[window]
            shown = self._misleading.of(shown) if misled else shown
            guides = [turn(shown, turns, flip=flip)]
        law_of = (term.view(1, 1, 1, 1) for term in law)
        return [*guides, region.covariance, *turned, *law_of, *roots]

    def _window(self, places: np.ndarray) -> tuple[int, tuple[EllipsisType, slice, slice]]:
        """Choose a crop that contains a random one of the places, anywhere within it."""
        index, row, col = places[self.rng.integers(len(places))]
        shape = self.regions[index].shape
        jitter = self.rng.integers(0, self.crop_px, size=2)
        top = int(np.clip(row - jitter[0], 0, shape[0] - self.crop_px))
        left = int(np.clip(col - jitter[1], 0, shape[1] - self.crop_px))
        window = (..., slice(top, top + self.crop_px), slice(left, left + self.crop_px))
        return int(index), window

    def _hiding_pattern(self) -> Tensor:
        """Take the frame's own holes from another place, turned at random: 0 where hidden."""
        index, window = self._window(self._holes)
        shown = self.regions[index].known[window]
        return turn(shown, int(self.rng.integers(4)), flip=bool(self.rng.integers(2)))


def turn(planes: Tensor, quarter_turns: int, *, flip: bool = False) -> Tensor:
    """Flip left to right if asked, then turn by quarter turns."""
    return torch.rot90(planes.flip(-1) if flip else planes, quarter_turns, (-2, -1))


def _positions(weights: Sequence[Tensor]) -> np.ndarray:
    """All (region, row, col) where the weight is not zero, as an int array (n, 3)."""
    found = []
    for index, weight in enumerate(weights):
        where = torch.nonzero(weight[0, 0] > 0).cpu().numpy()
        found.append(np.column_stack([np.full(len(where), index), where]))
    return np.concatenate(found).astype(np.int32)
