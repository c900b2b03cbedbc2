"""The prior of a frame whose scene is not what its pixels show: networks, and their errors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Generator, Tensor, nn

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.computing.settings import move_to
from dip_pipeline.restoration.delivering.asking import Answers, moved_by
from dip_pipeline.restoration.delivering.delivery import choose_restraint
from dip_pipeline.restoration.delivering.restraint import NO_RESTRAINT, Restraint
from dip_pipeline.restoration.delivering.uncertainty import LitErrors
from dip_pipeline.restoration.fits.cross_fitting import Fitting, fit_folds
from dip_pipeline.restoration.fits.stopping import StepHook, ignore_step
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.forward.scene_optics import scene_optics
from dip_pipeline.restoration.images.blocks import CrossFit
from dip_pipeline.restoration.noise.correlation import draw_noise
from dip_pipeline.restoration.priors.prior import first_pixels
from dip_pipeline.restoration.priors.prior_bytes import (
    errors_record,
    pack,
    read_cross_fit,
    read_errors,
    read_restraint,
    read_scale,
    restraint_record,
    scale_record,
    unpack,
)
from dip_pipeline.restoration.priors.prior_fit import lay_out
from dip_pipeline.restoration.priors.prior_record import as_written, read_report, report_record
from dip_pipeline.restoration.problem import (
    FitOptions,
    FitReport,
    InputKind,
    NetworkKind,
    Problem,
)
from dip_pipeline.restoration.scene.delivery import SceneDelivery, SceneNetworks
from dip_pipeline.restoration.scene.features import channels_of
from dip_pipeline.restoration.scene.fit import fit_scene_network
from dip_pipeline.restoration.scene.rehearsal import scene_error_table
from dip_pipeline.restoration.scene.stars import sharpest_shape, star_stamps
from dip_pipeline.restoration.stars.star_shape import FittedStar, fit_bright_stars
from dip_pipeline.restoration.views.regions import Region
from dip_pipeline.restoration.views.sky_scale import SkyScale
from dip_pipeline.sensor import NoiseKind

_FORMAT = "dip-scene-prior-2"
_MOST_CALIBRATION_PIXELS = 300_000
_RISK_NOTE = "risk: of the scene as the observation shows it, not of what it does not show"


@dataclass(frozen=True, slots=True)
class ScenePrior:
    """Networks that turn observations of a frame into its scene; see `Prior`.

    factor : fine pixels for one of the frame, along each axis
    errors : error of a fine pixel, in units of the noise it alone would have, by predictor and
        brightness
    """

    network_kind: NetworkKind
    networks: tuple[nn.Module, ...]
    scale: SkyScale
    cross_fit: CrossFit | None
    seed: int
    report: FitReport
    factor: int
    errors: LitErrors | None = None
    restraint: Restraint = NO_RESTRAINT

    def to_bytes(self) -> bytes:
        """Serialise: see `pack`."""
        crossed, first = self.cross_fit, self.networks[0]
        record = {
            "format": _FORMAT,
            "input": InputKind.IMAGE,
            "network": self.network_kind,
            "channels": _channels(first),
            "scale": scale_record(self.scale),
            "cross_fit": None if crossed is None else [crossed.block_px, crossed.guard_px],
            "seed": self.seed,
            "report": report_record(self.report),
            "factor": self.factor,
            "errors": errors_record(self.errors),
            "restraint": restraint_record(self.restraint),
        }
        return pack(self.networks, record)

    @classmethod
    def from_bytes(cls, data: bytes) -> "ScenePrior":
        """Read what `to_bytes` wrote. Raises RestorationError where it is something else."""
        networks, record = unpack(data, _FORMAT)
        with as_written():
            return cls(
                network_kind=NetworkKind(record["network"]),
                networks=networks,
                scale=read_scale(record["scale"]),
                cross_fit=read_cross_fit(record["cross_fit"]),
                seed=record["seed"],
                report=read_report(record["report"]),
                factor=record["factor"],
                errors=read_errors(record["errors"]),
                restraint=read_restraint(record["restraint"]),
            )

    def on(self, device: str) -> "ScenePrior":
        """Move the networks to a device; returns self."""
        move_to(device, self.networks)
        return self

    def deliver(
        self, region: Region, optics: Optics, options: FitOptions, *, seed: int
    ) -> SceneDelivery:
        """Restore the scene of a region and estimate how wrong it is.

        Raises RestorationError for optics that the networks were not made for.
        """
        wanted = channels_of(scene_optics(optics))
        if optics.factor != self.factor or list(wanted) != _channels(self.networks[0]):
            raise RestorationError(
                f"prior of factor {self.factor}: not made for factor {optics.factor} and this PSF; "
                "fit another"
            )
        return self._at(region, optics, options).deliver(region, self.restraint, seed=seed)

    def calibrated(
        self, regions: Sequence[Region], optics: Optics, options: FitOptions
    ) -> "ScenePrior":
        """Apply the networks to their own regions: measure restraint and errors there."""
        used = first_pixels(regions, _MOST_CALIBRATION_PIXELS)
        applied = [self._at(region, optics, options) for region in used]
        answers = [
            _answered(networks, region, self.seed + index)
            for index, (networks, region) in enumerate(zip(applied, used, strict=True))
        ]
        restraint = choose_restraint(answers, used)
        table = scene_error_table(applied, used, restraint, seed=self.seed)
        return replace(self, errors=table, restraint=restraint)

    def _at(self, region: Region, optics: Optics, options: FitOptions) -> SceneNetworks:
        halves = range(len(self.networks))
        if self.cross_fit is None:
            equal = torch.full_like(region.observed, 1 / len(halves))
            shares = [equal for _ in halves]
        else:
            crossed = self.cross_fit
            shares = [crossed.share(half, region.origin, region.shape) for half in halves]
        return SceneNetworks(self.networks, shares, optics, options)


def fit_scene_prior(
    problems: Sequence[Problem],
    shape: tuple[int, int],
    *,
    seed: int,
    on_step: StepHook = ignore_step,
) -> ScenePrior:
    """Fit the networks of a frame to its scene, on some of its regions.

    problems : the regions, of one frame, with the same options and optics; shape : the frame's.
    Raises RestorationError where the regions are too small, hold nothing to fit or have no noise
    law, and where the network asked for cannot answer for finer pixels.
    """
    first = problems[0]
    optics, options = first.optics or Optics(), first.options
    if options.input is not InputKind.IMAGE or first.noise.kind is NoiseKind.NONE:
        raise RestorationError(
            "a scene is restored from the image itself under a known noise law: "
            "use --input image and give a noise law"
        )
    scale, regions = lay_out(problems)
    brightest = max(
        float(((region.observed + region.stars) * region.trusted).max()) for region in regions
    )
    shape_of_stars = scale.star or sharpest_shape([s for one in regions for s in _stars_of(one)])
    stars = star_stamps(optics, shape_of_stars, brightest)
    cross_fit = CrossFit.for_shape(shape)
    fit = partial(fit_scene_network, held=(optics, stars))
    fitting = Fitting(fit, turned=False, fills_edges=False)
    networks, report = fit_folds(
        regions, [cross_fit] * len(regions), options, seed=seed, on_step=on_step, fitting=fitting
    )
    prior = ScenePrior(
        network_kind=options.network_kind,
        networks=networks,
        scale=scale,
        cross_fit=cross_fit,
        seed=seed,
        report=replace(report, notes=(*report.notes, _RISK_NOTE)),
        factor=optics.factor,
    )
    return prior.calibrated(regions, optics, options)


def _answered(networks: SceneNetworks, region: Region, seed: int) -> Answers:
    """Ask the networks twice; their scenes as the observation would show them."""
    upright = scene_optics(networks.optics)
    probe = draw_noise(region.observed, Generator().manual_seed(seed), region.noise.root)
    with torch.no_grad():
        first, second = (
            networks.asked(observed, region)
            for observed in (region.observed, moved_by(region, probe))
        )
        plain, moved = upright.observe(first.scene), upright.observe(second.scene)
    return Answers(plain, moved, torch.zeros_like(plain), probe, (first.taken, second.taken))


def _stars_of(region: Region) -> list[FittedStar]:
    observed, sigma, trusted = (
        plane[0, 0].double().cpu().numpy()
        for plane in (region.observed, region.sigma, region.trusted)
    )
    return fit_bright_stars(observed, sigma, trusted > 0)


def _channels(network: nn.Module) -> list[int]:
    """Channels in and out of a network, from its first and last kernels."""
    kernels = [weight for weight in network.parameters() if weight.dim() == 4]
    last: Tensor = network.last.weight  # type: ignore[assignment,union-attr]
    return [int(kernels[0].shape[1]), int(last.shape[0])]
