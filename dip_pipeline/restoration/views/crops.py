"""Random crops of regions: where they are drawn, how they are turned, what is hidden in them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.images.windows import TURNINGS, Window, WindowLookup
from dip_pipeline.restoration.noise.correlation import same_sided
from dip_pipeline.restoration.views.misleading import Misleading
from dip_pipeline.restoration.views.regions import PixelNoise, Region

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


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """One crop, chosen but not cut yet.

    turning : how it is turned, see `windows`
    pattern : where the holes that are hidden in it lie in a frame, and how they are turned first
    guides : what it shows of them, turned; None without guides
    """

    window: Window
    turning: int
    pattern: tuple[Window, int] | None
    guides: Tensor | None


class CropSource:
    """Draws crops of regions, of one frame or of many, from one random generator.

    zones : one plane a region, 1 where the network may be fitted
    turned : whether each crop is flipped and turned at random
    fills_edges : whether rows and columns at the edges of which nothing is known are holes like
        others, to be hidden elsewhere
    """

    def __init__(
        self,
        regions: Sequence[Region],
        zones: Sequence[Tensor],
        rng: np.random.Generator,
        *,
        turned: bool = True,
        fills_edges: bool = True,
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
        self._patterns = [
            region.known if fills_edges else _but_for_edges(region.known) for region in regions
        ]
        self._holes = _positions([1 - pattern for pattern in self._patterns])
        self._roots = same_sided([region.noise.root for region in regions])
        self.counted = all(region.noise.counted for region in regions)
        laws = [(region.noise.slope, region.noise.dark_level) for region in regions]
        self._laws = torch.tensor(laws, dtype=torch.float32, device=self.device)
        self._covariances = torch.cat([region.covariance for region in regions])
        widths = [region.shape[1] for region in regions]
        self._lookup = WindowLookup(widths, self.crop_px, self.device)
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
        return self.cut([self.choose(misled=misled) for _ in range(count)])

    def choose(self, *, misled: bool = False) -> Crop:
        """Choose a crop: all that is random of it is drawn here."""
        wants_signal = self.rng.random() < _SIGNAL_SHARE and len(self._signal_places) > 0
        window = self._window(self._signal_places if wants_signal else self._places)
        pattern = None
        if len(self._holes) > 0 and self.rng.random() < _HIDING_SHARE:
            # The frame's own holes, from another place.
            pattern = self._window(self._holes), self._turning()
        drawn = self._turning()
        turning = drawn if self._turned else 0
        shown = self.regions[window.region].guides
        if shown is not None and self._misleading is not None:
            shown = shown[window.slices(self.crop_px)]
            shown = turned(self._misleading.of(shown) if misled else shown, turning)
        return Crop(window, turning, pattern, shown)

    def cut(self, crops: Sequence[Crop]) -> Batch:
        """Cut chosen crops out of the regions."""
        regions = self.regions
        found = self._lookup.of([crop.window for crop in crops], [crop.turning for crop in crops])
        observed, sigma, known, weight, floor = (
            found.taken(planes)
            for planes in (
                [region.observed for region in regions],
                [region.sigma for region in regions],
                [region.known for region in regions],
                self._weights,
                [region.noise.floor for region in regions],
            )
        )
        if any(crop.pattern for crop in crops):
            shown = self._shown(crops, known)
            weight = weight * (1 + (_HIDDEN_WEIGHT - 1) * (1 - shown))
            known = known * shown
        index = torch.tensor([crop.window.region for crop in crops], device=self.device)
        slope, dark_level = self._laws[index].view(-1, 2, 1, 1, 1).unbind(dim=1)
        root = None
        if self._roots is not None:
            roots = self._roots
            root = torch.cat([turned(roots[one.window.region], one.turning) for one in crops])
        guides = [crop.guides for crop in crops if crop.guides is not None]
        return Batch(
            observed,
            sigma,
            known,
            weight,
            self._covariances[index],
            PixelNoise(floor, slope, dark_level, root, self.counted),
            torch.cat(guides) if guides else None,
        )

    def _shown(self, crops: Sequence[Crop], known: Tensor) -> Tensor:
        """Take the hidden patterns: 0 where a crop's pixel is hidden."""
        shown = torch.ones_like(known)
        hiding = [(n, crop.pattern, crop.turning) for n, crop in enumerate(crops) if crop.pattern]
        numbers, patterns, turnings = zip(*hiding, strict=True)
        windows, first_turnings = zip(*patterns, strict=True)
        found = self._lookup.of(windows, turnings, first_turnings)
        index = torch.tensor(numbers, device=known.device)
        shown[index] = found.taken(self._patterns)
        return shown

    def _turning(self) -> int:
        """Draw quarter turns and a flip."""
        turns, flip = int(self.rng.integers(4)), bool(self.rng.integers(2))
        return turns + flip * TURNINGS // 2

    def _window(self, places: np.ndarray) -> Window:
        """Choose a crop that contains a random one of the places, anywhere within it."""
        index, row, col = places[self.rng.integers(len(places))]
        shape = self.regions[index].shape
        jitter = self.rng.integers(0, self.crop_px, size=2)
        top = int(np.clip(row - jitter[0], 0, shape[0] - self.crop_px))
        left = int(np.clip(col - jitter[1], 0, shape[1] - self.crop_px))
        return Window(int(index), top, left)


def turn(planes: Tensor, quarter_turns: int, *, flip: bool = False) -> Tensor:
    """Flip left to right if asked, then turn by quarter turns."""
    return torch.rot90(planes.flip(-1) if flip else planes, quarter_turns, (-2, -1))


def turned(planes: Tensor, turning: int) -> Tensor:
    """Turn by a turning, 0 to 7: a number of quarter turns, from 4 on of the mirror image."""
    return turn(planes, turning % 4, flip=turning >= TURNINGS // 2)


def turned_back(planes: Tensor, turning: int) -> Tensor:
    """Undo `turned`."""
    back = turn(planes, -(turning % 4))
    return back.flip(-1) if turning >= TURNINGS // 2 else back


def _but_for_edges(known: Tensor) -> Tensor:
    """Take rows and columns at the edges of which nothing is known for known ones."""
    within = known.clone()
    for across in (-1, -2):
        empty = known.amax(dim=across, keepdim=True) <= 0
        along = -3 - across  # the other one of the last two
        before = empty.int().cumprod(along) > 0
        after = empty.int().flip(along).cumprod(along).flip(along) > 0
        within = torch.where(before | after, 1.0, within)
    return within


def _positions(weights: Sequence[Tensor]) -> np.ndarray:
    """All (region, row, col) where the weight is not zero, as an int array (n, 3)."""
    found = []
    for index, weight in enumerate(weights):
        where = torch.nonzero(weight[0, 0] > 0).cpu().numpy()
        found.append(np.column_stack([np.full(len(where), index), where]))
    return np.concatenate(found).astype(np.int32)
