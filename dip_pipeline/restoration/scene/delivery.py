"""Apply fitted networks to a region: the scene, and what it says of its own error."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Generator, Tensor, nn

from dip_pipeline.restoration.computing.side_by_side import side_by_side
from dip_pipeline.restoration.delivering.asking import moved_by
from dip_pipeline.restoration.delivering.restraint import Restraint, believable
from dip_pipeline.restoration.delivering.uncertainty import (
    PROBE_SIGMA,
    light_of,
    spread_predictor,
    stein_map,
)
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.forward.scene_optics import SceneOptics, scene_optics
from dip_pipeline.restoration.images.filling import WIDE, fill
from dip_pipeline.restoration.images.flux import close_flux, keep_level
from dip_pipeline.restoration.images.smoothing import ring_mean
from dip_pipeline.restoration.images.spectral import StarLight
from dip_pipeline.restoration.noise.correlation import draw_noise
from dip_pipeline.restoration.problem import FitOptions
from dip_pipeline.restoration.scene.features import scene_estimate, scene_view
from dip_pipeline.restoration.stars.shown_stars import ShownStars
from dip_pipeline.restoration.views.crops import turned, turned_back
from dip_pipeline.restoration.views.regions import PixelNoise, Region

_MARGIN_PX = 16  # mirrored around a region, so that frame borders are not the network's own


@dataclass(frozen=True, slots=True)
class SceneDelivery:
    """What the networks make of a region; planes (1, 1, rows, cols), sky-sigma units.

    scene : brightness on the fine grid; seen : it as the observation would show it
    sigma : the observation's noise at that level; fine_sigma : what a fine pixel alone would have
    squared_error : unbiased, noisy estimate of ((seen - noiseless observation) / sigma)^2
    predictor, light : on the fine grid, what the error plane is looked up by; see `light_of`
    apart : on the fine grid, see `SceneAnswer`
    """

    scene: Tensor
    seen: Tensor
    sigma: Tensor
    fine_sigma: Tensor
    squared_error: Tensor
    predictor: Tensor
    light: Tensor
    apart: Tensor


class SceneAnswer(NamedTuple):
    """What networks say of an observation; planes (1, 1, rows, cols), sky-sigma units.

    scene, scatter : mean over views, those with the stars taken off weighing the more the surer
        these are, and their standard deviation, on the fine grid
    taken : light, as seen, by which stars that were taken off are fitted otherwise
    apart : on the fine grid, how far the views with the stars taken off are above the scene; 0
        where there are no others
    """

    scene: Tensor
    scatter: Tensor
    taken: Tensor
    apart: Tensor


@dataclass(frozen=True, slots=True)
class SceneNetworks:
    """Networks of one optics, ready to be applied.

    shares : weight of each in the result, planes of the region
    """

    networks: Sequence[nn.Module]
    shares: Sequence[Tensor]
    optics: Optics
    options: FitOptions

    def restored(
        self, observed: Tensor, region: Region, restraint: Restraint
    ) -> tuple[Tensor, SceneAnswer]:
        """Restore a scene, on the fine grid; and give what the networks said of it."""
        with torch.no_grad():
            answer = self.asked(observed, region)
            upright = scene_optics(self.optics)
            seen = upright.observe(answer.scene)
            wanted = _corrected((seen, observed, answer.taken), region, restraint, self.options)
            scene = answer.scene + upright.refine(wanted - seen)
        return scene, answer

    def asked(self, observed: Tensor, region: Region) -> SceneAnswer:
        """Blend what the networks say of an observation.

        Where a PSF is undone, stars that look like one may be two: every second view has them left
        in, for the networks to tell what they are made of. Those count the less, the better a star
        is seen to be one.
        """
        factor = self.optics.factor
        parts: list[Tensor] = []
        ways = [_Way(observed, region, torch.zeros(()), torch.zeros_like(observed))]
        if region.shown_stars is not None:
            ways = _with_stars(region.shown_stars, observed, region)
            ways = ways if self.optics.psf is not None else ways[:1]
        # Once for all networks and views: what fills a hole does not depend on how it is turned.
        ways = [way.filled() for way in ways]
        for network, share in zip(self.networks, self.shares, strict=True):
            if not bool((share > 0).any()):
                continue
            used = nnf.interpolate(share.to(observed.device), scale_factor=factor, mode="bilinear")
            own = [used * plane for plane in self._averaged(network, ways)]
            parts = (
                own
                if not parts
                else [so_far + more for so_far, more in zip(parts, own, strict=True)]
            )
        scene, scatter, apart = parts
        views = [ways[number % len(ways)] for number in range(self.options.view_count)]
        taken = torch.stack([way.taken for way in views]).mean(dim=0)
        if region.shown_stars is not None and len(ways) > 1:
            trust = torch.from_numpy(region.shown_stars.trust_in_scene())[None, None].to(apart)
            scene, apart = scene + trust * apart, apart - trust * apart
            taken = taken + nnf.avg_pool2d(trust, factor) * (ways[0].taken - taken)
        return SceneAnswer(scene, scatter, taken, apart)

    def deliver(self, region: Region, restraint: Restraint, *, seed: int) -> SceneDelivery:
        """Restore a region and estimate, pixel by pixel, how wrong the result is."""
        upright = scene_optics(self.optics)
        with torch.no_grad():
            scene, answer = self.restored(region.observed, region, restraint)
            probe = draw_noise(region.observed, Generator().manual_seed(seed), region.noise.root)
            moved, _ = self.restored(moved_by(region, probe), region, restraint)
            seen = upright.observe(scene)
            sigma = region.noise.sigma(seen)
            fine_sigma = upright.factor * upright.repeat(sigma)
            fine_response = (moved - scene) / (PROBE_SIGMA * upright.repeat(region.sigma))
            scatter = answer.scatter / fine_sigma
            predictor = spread_predictor(fine_response / upright.factor, scatter)
            light = upright.repeat(light_of(seen, torch.zeros_like(seen), sigma))
            response = (upright.observe(moved) - seen) / (PROBE_SIGMA * region.sigma)
            of_judge = region.noise.judging_sigma(seen)
            squares = stein_map(seen, region.observed, of_judge, probe * response)
        return SceneDelivery(
            scene=scene,
            seen=seen,
            sigma=sigma,
            fine_sigma=fine_sigma,
            squared_error=squares,
            predictor=predictor,
            light=light,
            apart=answer.apart,
        )

    def _averaged(self, network: nn.Module, ways: Sequence["_Way"]) -> tuple[Tensor, ...]:
        """Mean and standard deviation of one network's scenes over views, in turn one each way.

        And how far the first way's mean is above that of all; see `SceneAnswer`.
        """

        def estimated(number: int) -> Tensor:
            optics = scene_optics(self.optics, number % 4, flip=number >= 4)
            way = ways[number % len(ways)]
            planes = (way.observed, way.region.noise.floor, way.region.known)
            seen = [turned(plane, number).contiguous() for plane in planes]
            with torch.no_grad():  # a thread starts without it
                scene = turned_back(_bordered(network, way.region, optics, *seen), number)
                return scene + way.added

        views = range(self.options.view_count)
        stack = torch.stack(side_by_side([partial(estimated, number) for number in views]))
        mean = stack.mean(dim=0)
        return mean, stack.std(dim=0, correction=0), stack[:: len(ways)].mean(dim=0) - mean


@dataclass(frozen=True, slots=True)
class _Way:
    """What networks are shown of a region.

    added : to what they answer; taken : from what was observed, for stars that are fitted otherwise
    """

    observed: Tensor
    region: Region
    added: Tensor
    taken: Tensor

    def filled(self) -> "_Way":
        """Fill the holes of what is shown."""
        region = self.region
        filled = fill(self.observed, region.known, region.covariance, WIDE)
        return replace(self, observed=filled)


def _with_stars(shown: ShownStars, observed: Tensor, region: Region) -> list[_Way]:
    """Show a region with its stars taken off, and with them left in.

    observed : the region's, its stars taken off, or what may be observed instead
    """
    # Stars that would be fitted otherwise take their part of a change.
    taken = shown.change(observed)
    without = _Way(observed - taken, region, shown.change_of_scene(observed), taken)
    light = torch.from_numpy(shown.light)[None, None].to(observed)
    starry, off = region.with_shown_stars(), -shown.in_scene(observed)
    return [without, _Way(observed + light, starry, off, torch.zeros_like(observed))]


def observed_anew(region: Region, delivery: SceneDelivery, noise: Tensor) -> Region:
    """Give the region as it would look if its scene were the delivered one, under other noise."""
    observed = delivery.seen + delivery.sigma * noise
    return replace(region, observed=observed, sigma=region.noise.sigma(ring_mean(observed)))


def _corrected(
    planes: tuple[Tensor, Tensor, Tensor],
    region: Region,
    restraint: Restraint,
    options: FitOptions,
) -> Tensor:
    """Correct what a scene shows by the observation: believe it, restrain it, close its flux.

    planes : what it shows, the observation, and light in both that is of stars, see `taken`
    """
    seen, observed, taken = planes
    root = region.noise.root
    wanted = believable(seen, observed, region.sigma, region.trusted, root)
    sigma = region.noise.sigma(wanted)
    stars = StarLight(region.stars, taken)
    wanted = restraint.apply(wanted, observed, sigma, region.trusted, stars, root)
    wanted = keep_level(wanted, observed, sigma, region.trusted)
    return close_flux(wanted, observed, sigma, region.trusted, options.flux_scale_px)


def _bordered(
    network: nn.Module,
    region: Region,
    optics: SceneOptics,
    observed: Tensor,
    floor: Tensor,
    known: Tensor,
) -> Tensor:
    """Apply the network with mirrored borders, sides rounded up to the network's multiple."""
    rows, cols = observed.shape[-2:]
    step = int(getattr(network, "multiple", 16))
    margin = (_MARGIN_PX, _MARGIN_PX - cols % -step, _MARGIN_PX, _MARGIN_PX - rows % -step)
    mode = "reflect" if min(rows, cols) > _MARGIN_PX + step else "replicate"
    wide = [nnf.pad(plane, margin, mode=mode) for plane in (observed, floor, known)]
    noise = PixelNoise(wide[1], region.noise.slope, region.noise.dark_level)
    seen = scene_view(wide[0], noise, wide[2], region.covariance, optics, reach=None)
    out = scene_estimate(network(seen.features), seen, optics)
    first, factor = _MARGIN_PX * optics.factor, optics.factor
    return out[..., first : first + rows * factor, first : first + cols * factor]
