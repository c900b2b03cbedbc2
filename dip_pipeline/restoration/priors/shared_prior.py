"""A prior for many frames: fitted once on one or more, then calibrated on each it is applied to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.fits.cross_fitting import fit_folds
from dip_pipeline.restoration.fits.stopping import StepHook, ignore_step
from dip_pipeline.restoration.images.blocks import CrossFit
from dip_pipeline.restoration.priors.prior import Prior
from dip_pipeline.restoration.priors.prior_bytes import pack, unpack
from dip_pipeline.restoration.priors.prior_fit import lay_out
from dip_pipeline.restoration.priors.prior_record import SHARED_FORMAT, SharedRecord, report_record
from dip_pipeline.restoration.problem import FitReport, InputKind, NetworkKind, Problem
from dip_pipeline.restoration.views.regions import Region


@dataclass(frozen=True, slots=True)
class SharedPrior:
    """Networks, each fitted on a part of the blocks of some frames: two as a rule, or four.

    origin : what the frames were, for whoever applies it; what JSON can hold
    guide_planes : that the networks see beside a frame's own
    """

    network_kind: NetworkKind
    networks: tuple[nn.Module, ...]
    report: FitReport
    origin: Mapping[str, Any] = field(default_factory=dict)
    guide_planes: int = 0

    def to_bytes(self) -> bytes:
        """Serialise: see `pack`."""
        record = {
            "format": SHARED_FORMAT,
            "input": InputKind.IMAGE,
            "network": self.network_kind,
            "guide_planes": self.guide_planes,
            "report": report_record(self.report),
            "origin": self.origin,
        }
        return pack(self.networks, record)

    @classmethod
    def from_bytes(cls, data: bytes) -> "SharedPrior":
        """Read what `to_bytes` wrote. Raises RestorationError where it is something else."""
        networks, record = unpack(data, SHARED_FORMAT)
        told = SharedRecord.of(record)
        planes = record.get("guide_planes", 0)
        if len(networks) not in (2, 4):  # see `fit_shared_prior`
            raise RestorationError(f"not a prior, or a damaged one: {len(networks)} networks")
        return cls(told.network_kind, networks, told.report, told.origin, planes)

    def bound_to(
        self, problems: Sequence[Problem], shape: tuple[int, int], *, seed: int, seen: bool
    ) -> Prior:
        """Make a frame's prior of it: sky, restraint and errors are measured on that frame.

        problems : regions of the frame, with the same options; shape : the frame's
        seen : whether the networks were fitted on this frame. If so each is used where it was
            not fitted, as after a fit of the frame alone; if not, both are honest everywhere
            and their mean is the better estimate.
        """
        scale, regions = lay_out(problems)
        prior = Prior(
            input=InputKind.IMAGE,
            network_kind=self.network_kind,
            networks=self.networks,
            scale=scale,
            cross_fit=CrossFit.for_shape(shape, len(self.networks)) if seen else None,
            seed=seed,
            report=self.report,
        )
        first = problems[0]
        bound = prior.on(first.device).calibrated(regions, first.options)
        return bound.with_hole_errors(problems)


def fit_shared_prior(
    frames: Sequence[tuple[Sequence[Problem], tuple[int, int]]],
    *,
    seed: int,
    folds: int = 2,
    origin: Mapping[str, Any] | None = None,
    on_step: StepHook = ignore_step,
) -> SharedPrior:
    """Fit the same networks to regions of several frames, each with its own sky and noise law.

    frames : for each frame its regions and its shape; all with the same options
    folds : how many networks, 2 or 4; see `CrossFit`
    Raises RestorationError where a region is too small, or a frame holds nothing to fit.
    """
    regions: list[Region] = []
    cross_fits: list[CrossFit] = []
    for problems, shape in frames:
        scale, laid_out = lay_out(problems)
        regions += laid_out
        cross_fits += [CrossFit.for_shape(shape, folds)] * len(laid_out)
    options = frames[0][0][0].options
    networks, report = fit_folds(regions, cross_fits, options, seed=seed, on_step=on_step)
    planes = scale.guide_planes
    return SharedPrior(options.network_kind, networks, report, origin or {}, planes)
