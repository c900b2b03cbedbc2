"""An exposure restored at its own epoch: what all others show together stands beside it.

The others are laid on its pixels and brought to its light; what one alone shows is rejected; the
rest, sharper ones softened to its seeing, is averaged, each by the noise of its dark sky. Where
this twin and the exposure agree both are believed, where they do not the exposure alone: see
`twinning`.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from dip_pipeline.restoration.computing.settings import settle_computing
from dip_pipeline.restoration.exposures.leaning import with_leaning
from dip_pipeline.restoration.exposures.lights import (
    as_exposure,
    dark_variance,
    in_common_light,
    sky_of,
    unit_of,
    valid_of,
    variance_of,
)
from dip_pipeline.restoration.exposures.rejecting import Light, laid, reject
from dip_pipeline.restoration.fits.stopping import StepHook, ignore_step
from dip_pipeline.restoration.forward.optics import Twin
from dip_pipeline.restoration.forward.warping import Interpolation
from dip_pipeline.restoration.images.smoothing import fill_unknown, smooth
from dip_pipeline.restoration.priors.prior import Prior
from dip_pipeline.restoration.priors.prior_fit import fit_prior
from dip_pipeline.restoration.priors.shared_prior import SharedPrior
from dip_pipeline.restoration.problem import Problem, Restored, StopReason
from dip_pipeline.restoration.restore import restore, unchanged


def restore_epoch(problem: Problem, prior: Prior | None = None) -> Restored:
    """Restore a problem with its further exposures beside it; see `restore`."""
    settle_computing(problem.threads)
    beside = with_twin(problem)
    return with_leaning(beside, restore(beside, prior))


def fit_epoch_prior(
    problems: Sequence[Problem],
    shape: tuple[int, int],
    *,
    seed: int,
    on_step: StepHook = ignore_step,
) -> Prior:
    """Fit the networks of an exposure, its further exposures beside it; see `fit_prior`."""
    settle_computing(problems[0].threads)
    return fit_prior([with_twin(each) for each in problems], shape, seed=seed, on_step=on_step)


def bind_epoch_prior(
    shared: SharedPrior,
    problems: Sequence[Problem],
    shape: tuple[int, int],
    *,
    seed: int,
    seen: bool,
) -> Prior:
    """Make an exposure's prior of one that exposures share; see `SharedPrior.bound_to`."""
    settle_computing(problems[0].threads)
    return shared.bound_to([with_twin(each) for each in problems], shape, seed=seed, seen=seen)


def epoch_unchanged(problem: Problem, reason: StopReason) -> Restored:
    """Give the exposure back, flagged, its error unknown."""
    return unchanged(replace(problem, exposures=()), reason)


def with_twin(problem: Problem) -> Problem:
    """Turn the further exposures of a problem into a twin of it.

    What no other exposure shows of its pixels is unknown of the twin.
    """
    exposures = [as_exposure(problem), *problem.exposures]
    shape = problem.pixels.shape
    total, weight, spread = (torch.zeros(1, 1, *shape) for _ in range(3))
    level, unit = 0.0, 1.0
    if any(valid_of(each).any() for each in exposures):
        level = sky_of(problem, exposures)
        unit = unit_of(exposures, level)
        lights = in_common_light(exposures, level, unit)
        agreeing = reject(lights, shape)
        # From the second on: of a twin that held the frame's own noise a network would learn it.
        for light, agrees in zip(lights[1:], agreeing[1:], strict=True):
            used = light.valid * agrees
            if bool((used > 0).any()):
                plane, variance, known = _on_frame(light, used, shape, lights[0].blur_px)
                share = known / dark_variance(light, used)
                total, weight = total + share * plane, weight + share
                spread = spread + share**2 * variance
    known = weight > 0
    mean = total / weight.clamp(min=1e-30)
    error = spread.sqrt() / weight.clamp(min=1e-30)
    pixels, errors = (
        torch.where(known, plane, torch.nan)[0, 0].double().numpy() * unit
        for plane in (mean, error)
    )
    twin = Twin((pixels + level).astype(np.float32), errors.astype(np.float32))
    return replace(problem, twin=twin, exposures=())


def _on_frame(
    light: Light, used: Tensor, shape: tuple[int, int], blur_px: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Light of an exposure on the frame's pixels, its variance, and where both are known.

    blur_px : seeing of the frame; a sharper exposure is softened to it. Its variance stays: over a
    few pixels, where frame and twin are compared, softened noise is as strong as before
    """
    # Interpolation reaches over three pixels: a cosmic ray among them must be gone before.
    filled = fill_unknown(light.pixels, used)
    variance = variance_of(light, used)
    softening_px = light.softening_px(blur_px)
    filled = smooth(filled, softening_px) if softening_px > 0 else filled
    _, known = laid(light, used, shape)
    plane, _ = laid(replace(light, pixels=filled), used, shape, Interpolation.SINC)
    spread, _ = laid(replace(light, pixels=variance), used, shape)
    return plane, spread.clamp(min=0.0), known
