"""The prior of a frame (or of one tile): fitted networks, and what is known of their errors."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.cross_fitting import fit_halves
from dip_pipeline.restoration.delivery import (
    Answers,
    Delivery,
    ask_networks,
    choose_restraint,
    deliver_code,
    finish,
    restored_once,
)
from dip_pipeline.restoration.fit_code import fit_code_network
from dip_pipeline.restoration.hole_errors import (
    Hidden,
    HoleErrors,
    measure_hole_errors,
    read_hole_errors,
)
from dip_pipeline.restoration.inpainting import filled_again, try_hidden, unknown_of
from dip_pipeline.restoration.optics import Mask
from dip_pipeline.restoration.prior_bytes import (
    errors_record,
    pack,
    read_errors,
    read_report,
    read_restraint,
    read_scale,
    report_record,
    restraint_record,
    scale_record,
    unpack,
)
from dip_pipeline.restoration.problem import (
    SMALLEST_SIDE_PX,
    FitOptions,
    FitReport,
    InputKind,
    NetworkKind,
    Problem,
)
from dip_pipeline.restoration.regions import CrossFit, Region, measure_sky, prepare
from dip_pipeline.restoration.rehearsal import error_table
from dip_pipeline.restoration.restraint import NO_RESTRAINT, Restraint
from dip_pipeline.restoration.sky_scale import SkyScale
from dip_pipeline.restoration.stopping import StepHook, ignore_step
from dip_pipeline.restoration.uncertainty import UNKNOWN_ERRORS, LitErrors, calibrate
from dip_pipeline.sensor import NoiseKind
from dip_pipeline.task import Task

_FORMAT = "dip-prior-4"
_MOST_CALIBRATION_PIXELS = 1_000_000


@dataclass(frozen=True, slots=True)
class Prior:
    """Networks fitted to a frame, ready to be applied to any region of it.

    networks : two (cross-fitted halves) for the image input, one for the code input
    cross_fit : which of the two restores which block; None where neither has seen the frame, and
        both are averaged
    errors : of restored pixels, by predictor and brightness; None where the noise is not known
    restraint : where the observation is kept instead of the networks' image
    holes : error of filled pixels; None where it was not measured
    """

    input: InputKind
    network_kind: NetworkKind
    networks: tuple[nn.Module, ...]
    scale: SkyScale
    cross_fit: CrossFit | None
    seed: int
    report: FitReport
    errors: LitErrors | None = None
    restraint: Restraint = NO_RESTRAINT
    holes: HoleErrors | None = None

    def to_bytes(self) -> bytes:
        """Serialise: see `pack`."""
        crossed = self.cross_fit
        record = {
            "format": _FORMAT,
            "input": self.input,
            "network": self.network_kind,
            "guide_planes": self.scale.guide_planes,
            "scale": scale_record(self.scale),
            "cross_fit": None if crossed is None else [crossed.block_px, crossed.guard_px],
            "seed": self.seed,
            "report": report_record(self.report),
            "errors": errors_record(self.errors),
            "restraint": restraint_record(self.restraint),
            "holes": None if self.holes is None else asdict(self.holes),
        }
        return pack(self.networks, record)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Prior":
        """Read what `to_bytes` wrote. Raises RestorationError where it is something else."""
        networks, record = unpack(data, _FORMAT)
        crossed = record["cross_fit"]
        return cls(
            input=InputKind(record["input"]),
            network_kind=NetworkKind(record["network"]),
            networks=networks,
            scale=read_scale(record["scale"]),
            cross_fit=None if crossed is None else CrossFit(*crossed),
            seed=record["seed"],
            report=read_report(record["report"]),
            errors=read_errors(record["errors"]),
            restraint=read_restraint(record["restraint"]),
            holes=read_hole_errors(record.get("holes")),
        )

    def on(self, device: str) -> "Prior":
        """Move the networks to a device; returns self."""
        for network in self.networks:
            network.to(device)
        return self

    def deliver(self, region: Region, options: FitOptions, *, seed: int) -> Delivery:
        """Restore a region and estimate, pixel by pixel, how wrong the result is."""
        if self.input is InputKind.IMAGE:
            made = finish(self._ask(region, options, seed=seed), region, self.restraint, options)
            if options.task is not Task.INPAINT:
                return made
            return replace(made, delivered=filled_again(made.delivered, region))
        return deliver_code(
            self.networks[0], region, options, seed=self.seed, judged=self.errors is not None
        )

    def calibrated(self, regions: Sequence[Region], options: FitOptions) -> "Prior":
        """Apply the networks to their own regions: measure restraint and errors there."""
        used = first_pixels(regions, _MOST_CALIBRATION_PIXELS)
        if self.input is InputKind.IMAGE:
            answers = [
                self._ask(region, options, seed=self.seed + index)
                for index, region in enumerate(used)
            ]
            restraint = choose_restraint(answers, used)
            deliveries = [
                finish(answer, region, restraint, options)
                for answer, region in zip(answers, used, strict=True)
            ]

            def deliver(region: Region) -> Tensor:
                shares = self._shares(region)
                return restored_once(self.networks, shares, region, restraint, options)

            table = error_table(deliver, used, deliveries, seed=self.seed)
            return replace(self, errors=table, restraint=restraint)
        deliveries = [self.deliver(region, options, seed=self.seed) for region in used]
        predictors, squares = [], []
        for delivery, region in zip(deliveries, used, strict=True):
            judged = region.trusted > 0
            predictors.append(delivery.predictor[judged].cpu().numpy())
            squares.append(delivery.squared_error[judged].cpu().numpy())
        by_predictor = calibrate(np.concatenate(predictors), np.concatenate(squares))
        return replace(self, errors=LitErrors((), (by_predictor,)))

    def with_hole_errors(self, problems: Sequence[Problem]) -> "Prior":
        """Measure how well holes of some regions are filled, where inpainting is asked for.

        Only networks of the image input are asked for pixels that they have not seen.
        """
        options = problems[0].options
        inpainted = options.task is Task.INPAINT and self.input is InputKind.IMAGE
        if not inpainted or self.errors is None:
            return self

        def restored(region: Region) -> Tensor:
            once = restored_once(
                self.networks, self._shares(region), region, self.restraint, options
            )
            return filled_again(once, region)

        def try_again(number: int, hidden: Mask) -> Hidden:
            return try_hidden(restored, problems[number], self.scale, hidden)

        valid = [problem.valid for problem in problems]
        holes = [unknown_of(problem) for problem in problems]
        return replace(self, holes=measure_hole_errors(try_again, valid, holes, seed=self.seed))

    def _ask(self, region: Region, options: FitOptions, *, seed: int) -> Answers:
        return ask_networks(self.networks, self._shares(region), region, options, seed=seed)

    def _shares(self, region: Region) -> list[Tensor]:
        halves = range(len(self.networks))
        if self.cross_fit is None:
            equal = torch.full_like(region.observed, 1 / len(halves))
            return [equal for _ in halves]
        crossed = self.cross_fit
        return [crossed.share(half, region.origin, region.shape) for half in halves]


def first_pixels(regions: Sequence[Region], most: int) -> list[Region]:
    """As many regions as hold about that many pixels; at least one."""
    used, pixels = [], 0
    for region in regions:
        used.append(region)
        pixels += region.observed.numel()
        if pixels >= most:
            break
    return used


def lay_out(problems: Sequence[Problem]) -> tuple[SkyScale, list[Region]]:
    """Turn regions of one frame into tensors, on the scale of its own sky.

    Raises RestorationError where they are too small or hold nothing to fit.
    """
    torch.set_num_threads(problems[0].threads)
    shortest = min(min(problem.pixels.shape) for problem in problems)
    if shortest < SMALLEST_SIDE_PX:
        raise RestorationError(
            f"{shortest} px on the shorter side: need at least {SMALLEST_SIDE_PX} px for a fit"
        )
    scale = measure_sky(problems)
    return scale, [prepare(problem, scale) for problem in problems]


def fit_prior(
    problems: Sequence[Problem],
    shape: tuple[int, int],
    *,
    seed: int,
    on_step: StepHook = ignore_step,
) -> Prior:
    """Fit the networks of a frame on some of its regions (all of it, where it is small).

    problems : the regions, of one frame, with the same options; shape : the frame's.
    Raises RestorationError where the regions are too small or hold nothing to fit.
    """
    scale, regions = lay_out(problems)
    cross_fit = CrossFit.for_shape(shape)
    first = problems[0]
    options = first.options
    known_noise = first.noise.kind is not NoiseKind.NONE
    if options.input is InputKind.IMAGE:
        networks, report = fit_halves(
            regions, [cross_fit] * len(regions), options, seed=seed, on_step=on_step
        )
    else:
        fitted = fit_code_network(
            regions, options, seed=seed, device=first.device, judged=known_noise, on_step=on_step
        )
        networks = (fitted.network,)
        report = FitReport(fitted.steps, fitted.stop_reason, (fitted.risk,))
    prior = Prior(
        input=options.input,
        network_kind=options.network_kind,
        networks=networks,
        scale=scale,
        cross_fit=cross_fit,
        seed=seed,
        report=report,
        errors=UNKNOWN_ERRORS if known_noise else None,
    )
    return prior.calibrated(regions, options).with_hole_errors(problems) if known_noise else prior
