"""A stand-in for the restoration: cheap arithmetic, so that tests can run it a thousand times."""

from functools import cache

import numpy as np
from astropy.io import fits

from dip_pipeline.restoration.priors.prior_fit import fit_prior
from dip_pipeline.restoration.problem import (
    FitOptions,
    Outcome,
    Restored,
    StopReason,
    cut_inner,
)
from tests.restoration.conftest import gaussian, make_problem

QUICK = {
    "fit.scope": "tile",
    "tiles.size_px": 48,
    "tiles.overlap_px": 8,
    "workers.threads_per_fit": 1,
    "workers.device": "cpu",
}


def arithmetic(problem, prior=None):
    """Pixels that follow from all of the problem: its halo, its seed, its options."""
    shift = np.float32(problem.pixels.mean(dtype=np.float64) + problem.seed % 97)
    science = problem.pixels * np.float32(0.5) + shift
    error = np.full_like(science, np.float32(problem.options.flux_scale_px + 1))
    return Restored(
        science=cut_inner(problem, science),
        error=cut_inner(problem, error),
        flags=np.zeros(cut_inner(problem, science).shape, np.uint8),
        outcome=Outcome(steps=1, stop_reason=StopReason.STEP_LIMIT, risk=0.01, risk_error=0.001),
    )


@cache
def _any_prior():
    pixels = np.random.default_rng(1).normal(100.0, 10.0, (40, 44))
    asked = make_problem(pixels, gaussian(10.0), options=FitOptions(steps=2, views=1))
    return fit_prior([asked], pixels.shape, seed=1)


def any_prior(problems, frame_shape, *, seed, on_step=None):
    """Stand-in for the fit of a frame's prior: one of noise, fitted once, for whatever is asked."""
    return _any_prior()


def repeated(plane, factor):
    """Each pixel as factor x factor finer ones."""
    return plane.repeat(factor, axis=0).repeat(factor, axis=1)


def planes(path):
    """Bytes of what a product delivers."""
    with fits.open(path) as hdus:
        return {name: hdus[name].data.tobytes() for name in (0, "DIP_ERR", "DIP_FLAG")}


def spread_evenly(problem, prior=None):
    """Stand-in for a scene: each pixel's light spread over its finer ones, holes flagged."""
    pixels = np.where(np.isfinite(problem.pixels), problem.pixels, np.float32(0))
    flags = np.where(problem.masked, np.uint8(1), np.uint8(0))
    flags = np.where(problem.saturated, np.uint8(8), flags)
    factor, share = problem.optics.factor, np.float32(problem.optics.share)
    science = repeated(cut_inner(problem, pixels) * share, factor)
    return Restored(
        science=science,
        error=np.ones_like(science),
        flags=repeated(cut_inner(problem, flags), factor),
        outcome=Outcome(steps=1, stop_reason=StopReason.STEP_LIMIT, risk=0.01, risk_error=0.001),
    )
