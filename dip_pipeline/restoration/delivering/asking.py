"""Apply cross-fitted networks to a region: what they say of it, and how that moves with noise."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from dip_pipeline.restoration.computing.side_by_side import both, side_by_side
from dip_pipeline.restoration.delivering.restraint import believable
from dip_pipeline.restoration.delivering.uncertainty import PROBE_SIGMA
from dip_pipeline.restoration.images.filling import WIDE, fill
from dip_pipeline.restoration.noise import twinning
from dip_pipeline.restoration.noise.correlation import draw_noise
from dip_pipeline.restoration.problem import FitOptions
from dip_pipeline.restoration.views.crops import turned, turned_back
from dip_pipeline.restoration.views.features import View, estimate, view
from dip_pipeline.restoration.views.regions import PixelNoise, Region

_BRIGHT, _BRIGHTER = 3.0, 6.0  # of a star, in sigma
_PIXELS_AT_ONCE = 4_000_000  # of all views that are asked for at once, on a GPU
_MARGIN_PX = 16  # mirrored around a region, so that frame borders are not the network's own

Box = tuple[slice, slice]  # rows and columns


@dataclass(frozen=True, slots=True)
class Answers:
    """What the cross-fitted networks say of a region, and of the region slightly moved.

    plain, moved : the image from the observation, and from observation + e sigma probe
    scatter : standard deviation of `plain` between views
    taken : of both images, the light by which stars that the frame shows well are fitted otherwise
    """

    plain: Tensor
    moved: Tensor
    scatter: Tensor
    probe: Tensor
    taken: tuple[Tensor, Tensor]


class Blend(NamedTuple):
    """What networks say of an observation; planes as in `Answers`."""

    image: Tensor
    scatter: Tensor
    taken: Tensor


def ask_networks(
    networks: Sequence[nn.Module],
    shares: Sequence[Tensor],
    region: Region,
    options: FitOptions,
    *,
    seed: int,
) -> Answers:
    """Apply the cross-fitted networks, blended by their shares, averaged over views."""
    generator = Generator().manual_seed(seed)
    probe = draw_noise(region.observed, generator, region.noise.root)
    plain, moved = both(
        lambda observed: blended(networks, shares, observed, region, options),
        (region.observed,),
        (moved_by(region, probe),),
    )
    return Answers(plain.image, moved.image, plain.scatter, probe, (plain.taken, moved.taken))


def blended(
    networks: Sequence[nn.Module],
    shares: Sequence[Tensor],
    observed: Tensor,
    region: Region,
    options: FitOptions,
) -> Blend:
    """Blend the networks by their shares, averaged over views, where believable.

    A guided image is judged against the unguided one instead, see `believing`.
    """
    asked = [
        (network, share.to(observed.device))
        for network, share in zip(networks, shares, strict=True)
        if bool((share > 0).any())
    ]

    # Stars that would be fitted otherwise take their part of a change.
    shown = region.shown_stars
    taken = torch.zeros_like(observed) if shown is None else shown.change(observed)
    left = observed - taken
    # Once for all views: neither what fills a hole nor what is seen depends on how it is turned.
    filled = fill(left, region.known, region.covariance, WIDE)
    step = int(getattr(networks[0], "multiple", 16))
    margin = _margin(region.shape, step)
    seen = _bordered(filled, _with_taken(region, taken), margin)
    shared = [(network, nnf.pad(share, margin)) for network, share in asked]

    def estimated(views: Sequence[int]) -> Tensor:
        """Ask for some views, which are of one shape, at once."""
        with torch.no_grad():  # a thread starts without it
            answers = _asked(shared, seen, views, step)[:, None]
        rows, cols = (slice(_MARGIN_PX, _MARGIN_PX + side) for side in region.shape)
        return torch.stack(
            [
                turned_back(one, number)[..., rows, cols]
                for one, number in zip(answers, views, strict=True)
            ]
        )

    groups = _together(range(options.view_count), filled)
    answered = side_by_side([partial(estimated, views) for views in groups])
    stack = torch.cat(answered)
    mean, scatter = stack.mean(dim=0), stack.std(dim=0, correction=0)
    mean = _filled_below_stars(mean, filled, region) + taken
    if not region.scale.guides or region.guides is None:
        sigma = region.noise.sigma(mean)
        mean = believable(mean, observed, sigma, region.trusted, region.noise.root)
    return Blend(mean, scatter, taken)


def _with_taken(region: Region, taken: Tensor) -> Region:
    """Take a change of the stars off a twin of the region, too: it shows the same ones."""
    if region.guides is None or not region.scale.twin:
        return region
    return replace(region, guides=twinning.less(region.guides, taken))


def _turned(plane: Tensor, views: Sequence[int]) -> Tensor:
    """Turn a plane as some views see it, (views, channels, rows, cols)."""
    return torch.cat([turned(plane, number) for number in views])


def _together(views: Sequence[int], plane: Tensor) -> list[Sequence[int]]:
    """Which views are asked for at once: a GPU works on many as fast as on one.

    Those of one shape, and no more than its memory has room for.
    """
    if plane.device.type == "cpu":
        return [[number] for number in views]
    shapes: dict[object, list[int]] = {}
    for number in views:
        shapes.setdefault(turned(plane, number).shape, []).append(number)
    most = max(1, _PIXELS_AT_ONCE // plane.numel())
    return [
        alike[first : first + most]
        for alike in shapes.values()
        for first in range(0, len(alike), most)
    ]


def _filled_below_stars(estimated: Tensor, filled: Tensor, region: Region) -> Tensor:
    """Leave holes as they were filled from around where a bright star's light was taken off.

    Around such stars what is left holds the misfit of their shape, in units of much noise: unlike
    anything else in the frame, and networks that see no pixel of it answer at random.
    """
    star = region.stars / region.noise.floor.sqrt()
    seen = region.known if region.lent is None else torch.maximum(region.known, region.lent)
    known = seen + (1 - seen) * ((_BRIGHTER - star) / (_BRIGHTER - _BRIGHT))
    share = known.clamp(0.0, 1.0)
    if bool((share == 1).all()):
        return estimated
    return share * estimated + (1 - share) * filled


def moved_by(region: Region, probe: Tensor) -> Tensor:
    """Observation of a region, moved a little along a draw of its noise."""
    return region.observed + PROBE_SIGMA * region.sigma * probe * region.known


def _margin(shape: tuple[int, int], step: int) -> tuple[int, int, int, int]:
    """Left, right, top and bottom margins; sides are rounded up to the multiple."""
    rows, cols = shape
    return _MARGIN_PX, _MARGIN_PX - cols % -step, _MARGIN_PX, _MARGIN_PX - rows % -step


def _bordered(filled: Tensor, region: Region, margin: tuple[int, int, int, int]) -> View:
    """Lay out what networks see of a region with mirrored borders."""
    mode = "reflect" if max(margin) < min(region.shape) else "replicate"
    filled, floor, known = (
        nnf.pad(plane, margin, mode=mode) for plane in (filled, region.noise.floor, region.known)
    )
    guides = None if region.guides is None else nnf.pad(region.guides, margin, mode=mode)
    noise = PixelNoise(floor, region.noise.slope, region.noise.dark_level, region.noise.root)
    return view(filled, noise, known, region.covariance, None, guides)


def _asked(
    shared: Sequence[tuple[nn.Module, Tensor]], seen: View, views: Sequence[int], step: int
) -> Tensor:
    """Blend what networks say of views by their shares, (views, 1, rows, cols)."""
    turn_all = partial(_turned, views=views)
    turned_view = seen.each(turn_all)
    total = torch.zeros_like(turned_view.sigma)
    for network, share in shared:
        used = turn_all(share)
        # A GPU has asked for the whole before windows are found.
        reach_px = getattr(network, "reach_px", None) if used.device.type == "cpu" else None
        for core, window in windows_of(used, step, reach_px):
            part = turned_view.cut(*window)
            features = part.features.contiguous(memory_format=torch.channels_last)
            answer = estimate(network(features), part)
            # Near the ends of a window the network sees too little: its core is taken.
            high, wide = (
                slice(one.start - whole.start, one.stop - whole.start)
                for one, whole in zip(core, window, strict=True)
            )
            total[(..., *core)] += used[(..., *core)] * answer[..., high, wide]
    return total


def windows_of(share: Tensor, step: int, reach_px: int | None) -> list[tuple[Box, Box]]:
    """Boxes that hold all pixels where a network has a share, and windows with all it sees of them.

    share : (1, 1, rows, cols), sides multiples of step; windows start and end at such. One window
    of everything where that is less work.
    """
    rows, cols = share.shape[-2:]
    everything = (slice(0, rows), slice(0, cols))
    if reach_px is None:
        return [(everything, everything)]
    found = []
    for core in _boxes(share[0, 0].cpu().numpy() > 0):
        ends = (
            (
                max(0, one.start - reach_px) // step,
                min(size, one.stop + reach_px + step - 1) // step,
            )
            for one, size in zip(core, (rows, cols), strict=True)
        )
        high, wide = (slice(first * step, last * step) for first, last in ends)
        found.append((core, (high, wide)))
    pixels = sum((high.stop - high.start) * (wide.stop - wide.start) for _, (high, wide) in found)
    return found if pixels < rows * cols else [(everything, everything)]


def _boxes(used: NDArray[np.bool_]) -> list[Box]:
    """Part what is used into boxes: bands of rows that are alike, and what is used of each."""
    boxes = []
    starts = [0, *(np.flatnonzero((used[1:] != used[:-1]).any(axis=1)) + 1)]
    for first, last in pairwise([*starts, len(used)]):
        ends = np.flatnonzero(np.diff(np.pad(used[first].astype(np.int8), 1)))
        boxes += [
            (slice(int(first), int(last)), slice(int(left), int(right)))
            for left, right in zip(ends[::2], ends[1::2], strict=True)
        ]
    return boxes
