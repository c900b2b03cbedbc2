"""Several exposures of one scene become one observation of it, to be denoised as any other.

Each exposure is brought to the light of the first; what one alone shows is rejected; a scene is
reconstructed from all of them on the first one's pixels, cut finer where that is asked for. Its
noise is known, plane and correlation, for the reconstruction is linear in the exposures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
import torch

from dip_pipeline.errors import RestorationError
from dip_pipeline.exposure_tallies import Tally
from dip_pipeline.restoration.computing.settings import settle_computing
from dip_pipeline.restoration.exposures.agreeing import compare
from dip_pipeline.restoration.exposures.contradicting import contradicted, with_doubt
from dip_pipeline.restoration.exposures.lights import (
    as_exposure,
    dark_variance,
    in_common_light,
    least_weight,
    sky_of,
    unit_of,
    valid_of,
    variance_of,
)
from dip_pipeline.restoration.exposures.reconstructing import (
    Reconstruction,
    mean_of_cells,
    reconstruct,
)
from dip_pipeline.restoration.exposures.rejecting import Light, Verdict, judge
from dip_pipeline.restoration.exposures.rims import rim_of, with_rim, without_rim
from dip_pipeline.restoration.exposures.solving import Observation
from dip_pipeline.restoration.exposures.unsharp import Softened, doubted
from dip_pipeline.restoration.fits.stopping import StepHook, ignore_step
from dip_pipeline.restoration.forward.operators import Composed
from dip_pipeline.restoration.forward.optics import (
    Optics,
    Plane,
    fine_window,
    in_blocks,
)
from dip_pipeline.restoration.forward.sampling import sampling
from dip_pipeline.restoration.forward.seeing import SeeingBlur
from dip_pipeline.restoration.forward.warping import Interpolation
from dip_pipeline.restoration.priors.prior import Prior
from dip_pipeline.restoration.priors.prior_fit import fit_prior
from dip_pipeline.restoration.problem import FitOptions, Problem, Restored, StopReason, cut_inner
from dip_pipeline.restoration.restore import restore, unchanged
from dip_pipeline.sensor import NoiseKind, NoiseModel

_LEAST_COVER = 0.4  # of the weight of one exposure; less is no observation
_NOISE_SEED = 0xC0B1


def restore_combined(problem: Problem, prior: Prior | None = None) -> Restored:
    """Restore the scene of a problem and its further exposures; see `restore`.

    Planes come back with the inner rows and columns times the factor, in the frame's unit.
    """
    settle_computing(problem.threads)
    optics = problem.optics or Optics()
    seen = _seen_together(problem)
    joined = seen.problem
    if not joined.valid.any():
        return unchanged(joined, StopReason.NO_DATA)
    restored = restore(joined, prior)
    outcome = replace(restored.outcome, exposures=seen.tallies)
    fine = optics.factor**2
    change = outcome.flux_change * (1.0 if optics.summed else 1 / fine)
    outcome = replace(outcome, judged_pixels=outcome.judged_pixels // fine, flux_change=change)
    error = np.hypot(restored.error, cut_inner(joined, seen.unlike)).astype(np.float32)
    restored = replace(restored, error=error, outcome=outcome)
    restored = with_doubt(restored, cut_inner(joined, seen.contradicted))
    if seen.softened is None:
        return restored
    return doubted(restored, seen.softened.within(*joined.inner).lacking(restored.science))


def fit_combined_prior(
    problems: Sequence[Problem],
    shape: tuple[int, int],
    *,
    seed: int,
    on_step: StepHook = ignore_step,
) -> Prior:
    """Fit the networks of a frame to what some of its regions and their exposures give together.

    shape : of the frame, in its own pixels; see `fit_prior`
    """
    settle_computing(problems[0].threads)
    factor = (problems[0].optics or Optics()).factor
    joined = [combined(problem) for problem in problems]
    return fit_prior(joined, (shape[0] * factor, shape[1] * factor), seed=seed, on_step=on_step)


def combined_unchanged(problem: Problem, reason: StopReason) -> Restored:
    """Give the first exposure back on the scene's pixels, flagged, its error unknown."""
    return unchanged(_spread(problem), reason)


def combined(problem: Problem) -> Problem:
    """Join a problem and its further exposures into one observation of the scene.

    The result has the scene's pixels in the frame's unit, an error plane, the correlation of its
    noise, and no exposures. Raises RestorationError without a noise law.
    """
    return _seen_together(problem).problem


@dataclass(frozen=True, slots=True)
class _Together:
    """A problem made of several exposures, and how these agree.

    unlike : error of its pixels by what the exposures show unlike each other, their unit
    contradicted : share of their light that some exposures do not show
    softened : what it lacks where the sharpest exposures have holes; None for nothing
    """

    problem: Problem
    unlike: Plane
    contradicted: Plane
    tallies: tuple[Tally, ...] = ()
    softened: Softened | None = None

    @classmethod
    def of_one(cls, problem: Problem) -> Self:
        """Take what is of one exposure alone."""
        nothing = np.zeros(problem.pixels.shape, np.float32)
        return cls(problem, nothing, nothing)


def _seen_together(problem: Problem) -> _Together:
    """Join a problem and its further exposures, see `combined`."""
    optics = problem.optics or Optics()
    exposures = [as_exposure(problem), *problem.exposures]
    if any(each.noise.kind is NoiseKind.NONE for each in exposures):
        raise RestorationError("exposures are combined by their noise; give a noise law")
    if not any(valid_of(each).any() for each in exposures):
        return _Together.of_one(_spread(problem))
    level = sky_of(problem, exposures)
    unit = unit_of(exposures, level)
    lights = in_common_light(exposures, level, unit)
    rim_px = rim_of(lights, optics)
    wider = with_rim(lights, rim_px)
    rows, cols = (side + 2 * rim_px for side in problem.pixels.shape)
    verdicts = judge(wider, (rows, cols))
    fine = optics.factor * optics.solving
    observations = _observations(wider, verdicts, (rows, cols), fine)
    made = _reconstructed(observations, (rows, cols), optics, rim_px)
    if made is None:
        spread = _spread(problem)
        return _Together.of_one(replace(spread, masked=~spread.saturated))
    unlike, tallies = compare(made.scene, observations, verdicts, fine)
    doubt = contradicted(made.scene, observations, verdicts, fine)
    unlike, doubt, scene = (
        mean_of_cells(without_rim(plane, rim_px * fine), optics.solving)
        for plane in (unlike, doubt, made.scene)
    )
    unlike = torch.hypot(unlike, made.grain)
    base = float(least_weight(lights, exposures)) / optics.factor**2
    masked = (made.cover < _LEAST_COVER * base)[0, 0].numpy()
    pixels = (scene[0, 0].double().numpy() * unit + level) * optics.share
    error = made.sigma[0, 0].double().numpy() * unit * optics.share
    alone = in_blocks(problem.saturated, optics.factor) & masked
    own = _shared(problem.pixels, optics)
    joined = replace(
        problem,
        pixels=np.where(alone, own, pixels).astype(np.float32),
        masked=masked & ~alone,
        saturated=alone,
        error=np.where(masked, np.float32(np.inf), error).astype(np.float32),
        noise=_noise_of(problem.noise, made),
        options=_options_on(problem, optics),
        origin=(problem.origin[0] * optics.factor, problem.origin[1] * optics.factor),
        inner=fine_window(problem.inner, problem.pixels.shape, optics.factor),
        optics=None,
        exposures=(),
    )
    numbered = zip(exposures, tallies, strict=True)
    return _Together(
        joined,
        (unlike[0, 0].double().numpy() * unit * optics.share).astype(np.float32),
        doubt[0, 0].numpy(),
        tuple(replace(tally, number=each.number) for each, tally in numbered),
        made.softened,
    )


def _observations(
    lights: Sequence[Light], verdicts: Sequence[Verdict], shape: tuple[int, int], factor: int
) -> list[Observation | None]:
    """Say how each exposure reads the scene; None for one that has no pixel of it to use.

    shape : (rows, cols) of the scene, pixels of the reference; factor : by which its own are finer
    """
    observations: list[Observation | None] = []
    for light, verdict in zip(lights, verdicts, strict=True):
        sampled = partial(
            sampling,
            light.matrix,
            light.shift_px,
            scene=(shape[0] * factor, shape[1] * factor),
            observed=light.shape,
            factor=factor,
        )
        usual = Interpolation.SINC if factor == 1 else Interpolation.QUINTIC
        read, inside = sampled(interpolation=usual)
        footprint, _ = sampled(interpolation=Interpolation.LINEAR)
        reach = footprint
        finer = tuple((share, sigma_px * factor) for share, sigma_px in light.seeing)
        if finer:
            read, reach = (Composed([SeeingBlur(finer), each]) for each in (read, footprint))
        used = light.valid * verdict.agrees * inside
        if not bool((used > 0).any()):
            observations.append(None)
            continue
        sigma = variance_of(light, used).sqrt()
        sigma = torch.where(used > 0, torch.nan_to_num(sigma, posinf=0.0), 0.0)
        dark = dark_variance(light, used)
        observations.append(
            Observation(
                read,
                footprint,
                light.pixels,
                weight=used / dark,
                sigma=sigma,
                root=light.root,
                reach=reach,
                seeing=finer,
                missing=(inside - used) / dark,
                factor=factor,
            )
        )
    return observations


def _reconstructed(
    observations: Sequence[Observation | None], shape: tuple[int, int], optics: Optics, rim_px: int
) -> Reconstruction | None:
    """Solve for the scene; None where no exposure has a pixel of the window to use.

    shape : (rows, cols) of the scene with its rim, and rim_px : pixels of the reference
    """
    used = [each for each in observations if each is not None]
    fine = optics.factor * optics.solving
    rim = rim_px * fine
    if not any(bool((without_rim(each.cover(), rim) > 0).any()) for each in used):
        return None
    return reconstruct(
        used,
        (shape[0] * fine, shape[1] * fine),
        support_px=optics.support_px * optics.solving,
        rim_px=rim,
        cell_px=optics.solving,
        seed=_NOISE_SEED,
    )


def _noise_of(own: NoiseModel, made: Reconstruction) -> NoiseModel:
    return replace(
        own,
        kind=NoiseKind.GAUSSIAN,
        sigma=None,
        from_error_plane=True,
        correlation=made.kernel,
        quantum=None,
    )


def _options_on(problem: Problem, optics: Optics) -> FitOptions:
    """Options of the scene: what is given in the frame's pixels is as wide on the sky there."""
    wide = problem.options.flux_scale_px * optics.factor
    return replace(problem.options, flux_scale_px=min(wide, 64.0))


def _shared(plane: Plane, optics: Optics) -> Plane:
    """Give each pixel of the scene what it has of the observation's, if the light is even."""
    return in_blocks(plane * np.float32(optics.share), optics.factor)


def _spread(problem: Problem) -> Problem:
    """Lay the first exposure alone on the scene's pixels."""
    optics = problem.optics or Optics()
    return replace(
        problem,
        pixels=_shared(problem.pixels, optics),
        masked=in_blocks(problem.masked, optics.factor),
        saturated=in_blocks(problem.saturated, optics.factor),
        error=None if problem.error is None else _shared(problem.error, optics),
        origin=(problem.origin[0] * optics.factor, problem.origin[1] * optics.factor),
        inner=fine_window(problem.inner, problem.pixels.shape, optics.factor),
        optics=None,
        exposures=(),
    )
