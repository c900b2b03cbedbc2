"""Fit the prior of a frame, or of one tile."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.computing.settings import settle_computing
from dip_pipeline.restoration.computing.side_by_side import side_by_side
from dip_pipeline.restoration.delivering.uncertainty import UNKNOWN_ERRORS
from dip_pipeline.restoration.fits.cross_fitting import fit_folds
from dip_pipeline.restoration.fits.fit_code import fit_code_network
from dip_pipeline.restoration.fits.stopping import StepHook, halved, ignore_step
from dip_pipeline.restoration.images.blocks import CrossFit
from dip_pipeline.restoration.priors.fit_size import folds_for
from dip_pipeline.restoration.priors.prior import Prior
from dip_pipeline.restoration.problem import SMALLEST_SIDE_PX, FitReport, InputKind, Problem
from dip_pipeline.restoration.views.regions import Region, measure_sky, prepare
from dip_pipeline.restoration.views.sky_scale import SkyScale
from dip_pipeline.sensor import NoiseKind


def blocks_of(problem: Problem, shape: tuple[int, int]) -> CrossFit:
    """Blocks of a frame of that shape that the problem is a region of."""
    folds = folds_for(shape[0] * shape[1], problem.options)
    return CrossFit.for_shape(shape, folds)


def lay_out(problems: Sequence[Problem]) -> tuple[SkyScale, list[Region]]:
    """Turn regions of one frame into tensors, on the scale of its own sky.

    Raises RestorationError where they are too small or hold nothing to fit.
    """
    settle_computing(problems[0].threads)
    shortest = min(min(problem.pixels.shape) for problem in problems)
    if shortest < SMALLEST_SIDE_PX:
        raise RestorationError(
            f"{shortest} px on the shorter side: need at least {SMALLEST_SIDE_PX} px for a fit"
        )
    scale = measure_sky(problems)
    return scale, side_by_side([partial(prepare, problem, scale) for problem in problems])


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
    options = problems[0].options
    known_noise = problems[0].noise.kind is not NoiseKind.NONE
    hooks = [on_step, on_step] if not scale.guides else halved(on_step)
    cross_fit = blocks_of(problems[0], shape)
    prior = _fitted(problems[0], scale, regions, cross_fit, (seed, hooks[0]))
    if scale.guides:
        bare = replace(scale, guides=())
        alone = [replace(region.without_guides(), scale=bare) for region in regions]
        unguided = _fitted(problems[0], bare, alone, cross_fit, (seed, hooks[1]))
        prior = prior.beside(unguided)
    return prior.calibrated(regions, options).with_hole_errors(problems) if known_noise else prior


def _fitted(
    first: Problem,
    scale: SkyScale,
    regions: list[Region],
    cross_fit: CrossFit,
    drawing: tuple[int, StepHook],
) -> Prior:
    """Fit the networks alone. first : one of the problems; drawing : the seed, and who watches."""
    seed, on_step = drawing
    options = first.options
    known_noise = first.noise.kind is not NoiseKind.NONE
    if options.input is InputKind.IMAGE:
        networks, report = fit_folds(
            regions, [cross_fit] * len(regions), options, seed=seed, on_step=on_step
        )
    else:
        fitted = fit_code_network(
            regions, options, seed=seed, device=first.device, judged=known_noise, on_step=on_step
        )
        networks = (fitted.network,)
        report = FitReport(fitted.steps, fitted.stop_reason, (fitted.risk,))
    return Prior(
        input=options.input,
        network_kind=options.network_kind,
        networks=networks,
        scale=scale,
        cross_fit=cross_fit,
        seed=seed,
        report=report,
        errors=UNKNOWN_ERRORS if known_noise else None,
    )
