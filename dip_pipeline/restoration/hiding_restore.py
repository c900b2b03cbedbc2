"""Inpaint one problem without a noise law: known pixels stay, holes are filled by hiding more."""

import logging

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from dip_pipeline.errors import DivergedError, RestorationError
from dip_pipeline.flags import PixelFlag
from dip_pipeline.restoration.computing.settings import settle_computing
from dip_pipeline.restoration.delivering.inpainting import SURE_REACH_PX, unknown_of
from dip_pipeline.restoration.fits.hiding import HidingOptions, fill_by_hiding
from dip_pipeline.restoration.priors.prior import Prior
from dip_pipeline.restoration.problem import Outcome, Problem, Restored, StopReason, cut_inner
from dip_pipeline.restoration.restore import unchanged

log = logging.getLogger(__name__)

_STEPS = 2  # for each of the other fits: one network alone, at fewer pixels a step


def restore_by_hiding(problem: Problem, prior: Prior | None = None) -> Restored:
    """Fill the holes of a problem; its known pixels come back as they are.

    Each problem has a network of its own, so no prior is taken. The error of everything is unknown:
    without a noise law there is nothing to measure it in. A fit that fails gives the input back,
    flagged TILE_FAILED.
    """
    if prior is not None:
        raise RestorationError("a prior for a fit without a noise law: each tile has its own")
    settle_computing(problem.threads)
    unknown = unknown_of(problem)
    options = problem.options
    steps = options.steps or _STEPS * options.step_limit
    if not problem.valid.any():
        return unchanged(problem, StopReason.NO_DATA)
    try:
        filled = _filled(problem, steps) if unknown.any() else problem.pixels
    except RestorationError as cause:
        log.warning("tile at %s: %s", problem.origin, cause)
        diverged = isinstance(cause, DivergedError)
        return unchanged(problem, StopReason.DIVERGED if diverged else StopReason.NOT_FITTED)
    filled = np.where(unknown, filled, problem.pixels)
    away_px = distance_transform_edt(~problem.valid)
    flags = np.where(unknown, np.uint8(PixelFlag.FILLED), np.uint8(0))
    flags[away_px > SURE_REACH_PX] |= np.uint8(PixelFlag.LOW_CONFIDENCE)
    flags[problem.saturated & ~unknown] = PixelFlag.SATURATED
    return Restored(
        science=cut_inner(problem, filled),
        error=cut_inner(problem, np.full(filled.shape, np.nan, dtype=np.float32)),
        flags=np.ascontiguousarray(flags[problem.inner]),
        outcome=Outcome(
            steps=steps if unknown.any() else 0,
            stop_reason=StopReason.STEP_LIMIT,
            chi_square=0.0,
            judged_pixels=int(problem.valid[problem.inner].sum()),
        ),
    )


def _filled(problem: Problem, steps: int) -> NDArray[np.float32]:
    """Fill all that is not valid."""
    shown = np.where(problem.valid, problem.pixels, np.float32(np.nan))
    return fill_by_hiding(
        shown, HidingOptions(steps=steps), seed=problem.seed, device=problem.device
    )
