"""Several problems fitted at once, each with networks of its own: for GPUs.

What comes out equals a fit alone up to rounding, whoever the others are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.delivering.uncertainty import UNKNOWN_ERRORS
from dip_pipeline.restoration.fits import fit_image as alone
from dip_pipeline.restoration.fits.cross_fitting import half_of
from dip_pipeline.restoration.fits.fitted import Fitted
from dip_pipeline.restoration.fits.stacked import Half, can_be_stacked, fit_all
from dip_pipeline.restoration.images.blocks import CrossFit
from dip_pipeline.restoration.priors.prior import Prior
from dip_pipeline.restoration.priors.prior_fit import blocks_of, fit_prior, lay_out
from dip_pipeline.restoration.problem import (
    FitReport,
    Problem,
    StopReason,
)
from dip_pipeline.restoration.views.regions import Region
from dip_pipeline.restoration.views.sky_scale import SkyScale


def fit_priors(problems: Sequence[Problem]) -> list[Prior | RestorationError]:
    """Fit to each problem a prior of its own; an error stands for one that cannot be fitted.

    All have the same options and device. Raises torch.cuda.OutOfMemoryError where the device has no
    room for so many.
    """
    results: dict[int, Prior | RestorationError] = {}
    laid: dict[int, _Laid] = {}
    for number, problem in enumerate(problems):
        try:
            if can_be_stacked(problem.options):
                laid[number] = _Laid.of(problem)
            else:
                results[number] = fit_prior([problem], problem.pixels.shape, seed=problem.seed)
        except RestorationError as error:
            results[number] = error
    wanted = [one for guided in laid.values() for one in guided.both]
    fits = _fit_all([(one, half) for one in wanted for half in range(len(one.halves))])
    fitted = iter(fits)
    priors = iter([one.prior([next(fitted) for _ in one.halves]) for one in wanted])
    for number, one in laid.items():
        results[number] = one.calibrated([next(priors) for _ in one.both])
    return [results[number] for number in range(len(problems))]


@dataclass(frozen=True, eq=False, slots=True)
class _Laid:
    """One problem as tensors, and what its networks are fitted on."""

    problem: Problem
    scale: SkyScale
    region: Region
    cross_fit: CrossFit
    halves: tuple[Half, ...]
    unguided: "_Laid | None" = None

    @classmethod
    def of(cls, problem: Problem, blocks: CrossFit | None = None) -> "_Laid":
        """Raise RestorationError where there is nothing to fit."""
        scale, (region,) = lay_out([problem])
        cross_fit = blocks or blocks_of(problem, problem.pixels.shape)
        folds = range(cross_fit.folds)
        halves = tuple(half_of([region], [cross_fit], fold, seed=problem.seed) for fold in folds)
        bare = replace(problem, guides=())
        unguided = cls.of(bare, cross_fit) if problem.guides else None
        return cls(problem, scale, region, cross_fit, halves, unguided)

    @property
    def both(self) -> list["_Laid"]:
        """The problem, and the same without guides where it has some."""
        return [self] if self.unguided is None else [self, self.unguided]

    def alone(self, number: int) -> Fitted:
        """Fit one half by itself, from the beginning and with further tries."""
        half = half_of([self.region], [self.cross_fit], number, seed=self.problem.seed)
        return alone.fit_image_network(
            half.fit_on, half.judge_on, self.problem.options, seed=half.seed
        )

    def prior(self, fits: Sequence[Fitted]) -> Prior:
        """Put its networks together."""
        reasons = [fitted.stop_reason for fitted in fits]
        diverged = StopReason.DIVERGED in reasons
        options = self.problem.options
        return Prior(
            input=options.input,
            network_kind=options.network_kind,
            networks=tuple(fitted.network.eval() for fitted in fits),
            scale=self.scale,
            cross_fit=self.cross_fit,
            seed=self.problem.seed,
            report=FitReport(
                steps=max(fitted.steps for fitted in fits),
                stop_reason=StopReason.DIVERGED if diverged else reasons[0],
                risks=tuple(fitted.risk for fitted in fits),
            ),
            errors=UNKNOWN_ERRORS,
        )

    def calibrated(self, priors: Sequence[Prior]) -> Prior:
        """Finish its prior, the unguided one of `both` beside it, as `fit_prior` does."""
        prior = priors[0] if self.unguided is None else priors[0].beside(priors[1])
        measured = prior.calibrated([self.region], self.problem.options)
        return measured.with_hole_errors([self.problem])


def _fit_all(wanted: Sequence[tuple[_Laid, int]]) -> list[Fitted]:
    """Fit all halves, those that fit together in one stack."""
    if not wanted:
        return []
    halves = [laid.halves[number] for laid, number in wanted]

    def again(place: int) -> Fitted:
        laid, number = wanted[place]
        return laid.alone(number)

    return fit_all(halves, wanted[0][0].problem.options, again)
