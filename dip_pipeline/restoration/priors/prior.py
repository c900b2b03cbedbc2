"""The prior of a frame (or of one tile): fitted networks, and what is known of their errors."""

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dip_pipeline.restoration.computing.settings import move_to
from dip_pipeline.restoration.delivering.asking import Answers, ask_networks
from dip_pipeline.restoration.delivering.delivery import (
    Delivery,
    choose_restraint,
    deliver_code,
    finished,
    judged,
    restored_once,
)
from dip_pipeline.restoration.delivering.hole_errors import (
    Hidden,
    HoleErrors,
    measure_hole_errors,
    read_hole_errors,
)
from dip_pipeline.restoration.delivering.inpainting import filled_again, try_hidden, unknown_of
from dip_pipeline.restoration.delivering.rehearsal import error_table
from dip_pipeline.restoration.delivering.restraint import NO_RESTRAINT, Restraint
from dip_pipeline.restoration.delivering.uncertainty import LitErrors, calibrate
from dip_pipeline.restoration.forward.optics import Mask
from dip_pipeline.restoration.images.blocks import CrossFit
from dip_pipeline.restoration.priors.believing import belief, guided_where_believed
from dip_pipeline.restoration.priors.fit_size import MOST_CALIBRATION_PIXELS
from dip_pipeline.restoration.priors.prior_bytes import (
    as_text,
    errors_record,
    from_text,
    pack,
    read_cross_fit,
    read_errors,
    read_restraint,
    read_scale,
    restraint_record,
    scale_record,
    unpack,
)
from dip_pipeline.restoration.priors.prior_record import as_written, read_report, report_record
from dip_pipeline.restoration.problem import (
    FitOptions,
    FitReport,
    InputKind,
    NetworkKind,
    Problem,
    StopReason,
)
from dip_pipeline.restoration.views.regions import Region
from dip_pipeline.restoration.views.sky_scale import SkyScale
from dip_pipeline.task import Task

_FORMAT = "dip-prior-6"


class _Asked(NamedTuple):
    """What networks say of a region, with its guides and without; None where it has none."""

    said: Answers
    alone: Answers | None


@dataclass(frozen=True, slots=True)
class Prior:
    """Networks fitted to a frame, ready to be applied to any region of it.

    networks : two or four (cross-fitted) for the image input, one for the code input
    cross_fit : which of them restores which block; None where none has seen the frame, and all are
        averaged
    errors : of restored pixels, by predictor and brightness; None where the noise is not known
    restraint : where the observation is kept instead of the networks' image
    holes : error of filled pixels; None where it was not measured
    unguided : of the same frame without its guides; None where it has none
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
    unguided: "Prior | None" = None

    def to_bytes(self) -> bytes:
        """Serialise: see `pack`."""
        crossed = self.cross_fit
        record = {
            "format": _FORMAT,
            "input": self.input,
            "network": self.network_kind,
            "guide_planes": self.scale.guide_planes,
            "scale": scale_record(self.scale),
            "cross_fit": None if crossed is None else list(astuple(crossed)),
            "seed": self.seed,
            "report": report_record(self.report),
            "errors": errors_record(self.errors),
            "restraint": restraint_record(self.restraint),
            "holes": None if self.holes is None else asdict(self.holes),
            "unguided": None if self.unguided is None else as_text(self.unguided.to_bytes()),
        }
        return pack(self.networks, record)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Prior":
        """Read what `to_bytes` wrote. Raises RestorationError where it is something else."""
        networks, record = unpack(data, _FORMAT)
        with as_written():
            unguided = record.get("unguided")
            return cls(
                input=InputKind(record["input"]),
                network_kind=NetworkKind(record["network"]),
                networks=networks,
                scale=read_scale(record["scale"]),
                cross_fit=read_cross_fit(record["cross_fit"]),
                seed=record["seed"],
                report=read_report(record["report"]),
                errors=read_errors(record["errors"]),
                restraint=read_restraint(record["restraint"]),
                holes=read_hole_errors(record.get("holes")),
                unguided=None if unguided is None else cls.from_bytes(from_text(unguided)),
            )

    def on(self, device: str) -> "Prior":
        """Move the networks to a device; returns self."""
        move_to(device, self.networks)
        if self.unguided is not None:
            self.unguided.on(device)
        return self

    def beside(self, unguided: "Prior") -> "Prior":
        """Put a prior of the same frame without its guides beside this one."""
        mine, other = self.report, unguided.report
        diverged = other.stop_reason is StopReason.DIVERGED
        report = replace(mine, stop_reason=other.stop_reason if diverged else mine.stop_reason)
        return replace(self, unguided=unguided, report=report)

    def deliver(self, region: Region, options: FitOptions, *, seed: int) -> Delivery:
        """Restore a region and estimate, pixel by pixel, how wrong the result is."""
        if self.input is InputKind.IMAGE:
            made = self._made(self._ask(region, options, seed=seed), region, options)
            if options.task is not Task.INPAINT:
                return made
            return replace(made, delivered=filled_again(made.delivered, region))
        return deliver_code(
            self.networks[0], region, options, seed=self.seed, judged=self.errors is not None
        )

    def calibrated(self, regions: Sequence[Region], options: FitOptions) -> "Prior":
        """Apply the networks to their own regions: measure restraint and errors there."""
        used = first_pixels(regions, MOST_CALIBRATION_PIXELS)
        if self.input is InputKind.IMAGE:
            asked = [
                self._ask(region, options, seed=self.seed + index)
                for index, region in enumerate(used)
            ]
            tried = self._restrained(asked, used)
            deliveries = [
                tried._made(answers, region, options)
                for answers, region in zip(asked, used, strict=True)
            ]
            deliver = partial(tried._once, options=options)
            return replace(tried, errors=error_table(deliver, used, deliveries, seed=self.seed))
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
            return filled_again(self._once(region, options), region)

        def try_again(number: int, hidden: Mask) -> Hidden:
            return try_hidden(restored, problems[number], self.scale, hidden)

        valid = [problem.valid for problem in problems]
        holes = [unknown_of(problem) for problem in problems]
        return replace(self, holes=measure_hole_errors(try_again, valid, holes, seed=self.seed))

    def _restrained(self, asked: Sequence[_Asked], regions: Sequence[Region]) -> "Prior":
        """Measure how far the networks are to be trusted, from what they said of some regions."""
        if self.unguided is None:
            return replace(self, restraint=choose_restraint([one.said for one in asked], regions))
        alone = [one.alone for one in asked if one.alone is not None]
        bare = [region.without_guides() for region in regions]
        unguided = replace(self.unguided, restraint=choose_restraint(alone, bare))
        # What is not believed of a guided image is not its restraint's business.
        believed = [
            guided_where_believed((one.said, one.said), (other, other), region)
            for one, other, region in zip(asked, alone, regions, strict=True)
        ]
        restraint = choose_restraint(believed, regions)
        return replace(self, restraint=restraint, unguided=unguided)

    def _made(self, asked: _Asked, region: Region, options: FitOptions) -> Delivery:
        """Finish what the networks said of a region; of a guided one both images."""
        made = finished(asked.said, region, self.restraint, options)
        if self.unguided is not None and asked.alone is not None:
            bare = region.without_guides()
            unguided = finished(asked.alone, bare, self.unguided.restraint, options)
            pairs = (asked.said, made), (asked.alone, unguided)
            made = guided_where_believed(*pairs, region)
        return judged(made, region)

    def _once(self, region: Region, options: FitOptions) -> Tensor:
        """Restore a region without an estimate of the error."""
        said, made = self._said_and_made(region, options)
        if self.unguided is None:
            return made
        alone, unguided = self.unguided._said_and_made(region.without_guides(), options)
        return unguided + belief(said, alone, region.observed, region) * (made - unguided)

    def _said_and_made(self, region: Region, options: FitOptions) -> tuple[Tensor, Tensor]:
        shares = self._shares(region)
        return restored_once(self.networks, shares, region, self.restraint, options)

    def _ask(self, region: Region, options: FitOptions, *, seed: int) -> _Asked:
        said = ask_networks(self.networks, self._shares(region), region, options, seed=seed)
        if self.unguided is None:
            return _Asked(said, None)
        return _Asked(said, self.unguided._ask(region.without_guides(), options, seed=seed).said)

    def _shares(self, region: Region) -> list[Tensor]:
        folds = range(len(self.networks))
        if self.cross_fit is None:
            equal = torch.full_like(region.observed, 1 / len(folds))
            return [equal for _ in folds]
        crossed = self.cross_fit
        return [crossed.share(fold, region.origin, region.shape) for fold in folds]


def first_pixels(regions: Sequence[Region], most: int) -> list[Region]:
    """As many regions as hold about that many pixels; at least one."""
    used, pixels = [], 0
    for region in regions:
        used.append(region)
        pixels += region.observed.numel()
        if pixels >= most:
            break
    return used
