"""Draw one problem on finer pixels from a code, without a noise law: pictures."""

import logging

import numpy as np

from dip_pipeline.errors import RestorationError
from dip_pipeline.flags import PixelFlag
from dip_pipeline.restoration.computing.settings import settle_computing
from dip_pipeline.restoration.delivering.inpainting import unknown_of
from dip_pipeline.restoration.fits.finer_picture import FinerOptions, draw_finer
from dip_pipeline.restoration.forward.optics import Optics, Plane, fine_window, in_blocks
from dip_pipeline.restoration.problem import Outcome, Problem, Restored, StopReason
from dip_pipeline.restoration.scene.prior import ScenePrior
from dip_pipeline.restoration.scene.restore import scene_unchanged

log = logging.getLogger(__name__)

_CLIPPED_SHARE = 1e-3  # of the pixels at one end of the range: then it is the sensor's, too
_ROOM = 0.25  # beyond the range that is seen, where it is not: finer pixels show more contrast


def draw_scene(problem: Problem, prior: ScenePrior | None = None) -> Restored:
    """Draw the scene of a problem, factor times finer, as `draw_finer` does.

    Each problem has a network of its own, so no prior is taken; the error of everything is unknown.
    A fit that fails gives the input back, interpolated and flagged TILE_FAILED.
    """
    if prior is not None:
        raise RestorationError("a prior for a code input: each tile has its own")
    settle_computing(problem.threads)
    optics = problem.optics or Optics()
    unknown = unknown_of(problem)
    if unknown.all():
        return scene_unchanged(problem, StopReason.NO_DATA)
    darkest, brightest = _range_of(problem.pixels[~unknown])
    scaled = np.where(unknown, np.nan, (problem.pixels - darkest) / (brightest - darkest))
    options = FinerOptions(steps=problem.options.steps or FinerOptions().steps)
    try:
        drawn = draw_finer(
            scaled[None],
            optics.factor,
            options,
            seed=problem.seed,
            device=problem.device,
        )[0]
    except RestorationError as cause:
        log.warning("tile at %s: %s", problem.origin, cause)
        return scene_unchanged(problem, StopReason.DIVERGED)
    share = optics.factor**2 if optics.summed else 1
    science = (drawn * (brightest - darkest) + darkest) / share
    kept = problem.saturated & ~unknown
    science = np.where(
        in_blocks(kept, optics.factor), in_blocks(problem.pixels, optics.factor) / share, science
    )
    window = fine_window(problem.inner, problem.pixels.shape, optics.factor)
    flags = np.where(unknown, np.uint8(PixelFlag.FILLED), np.uint8(0))
    flags[problem.saturated & ~unknown] = PixelFlag.SATURATED
    return Restored(
        science=np.ascontiguousarray(science[window], dtype=np.float32),
        error=np.full(science[window].shape, np.nan, dtype=np.float32),
        flags=np.ascontiguousarray(in_blocks(flags, optics.factor)[window]),
        outcome=Outcome(
            steps=options.steps,
            stop_reason=StopReason.STEP_LIMIT,
            judged_pixels=int(problem.valid[problem.inner].sum()),
        ),
    )


def _range_of(pixels: Plane) -> tuple[float, float]:
    """Find the darkest and the brightest value that a finer pixel may have."""
    least, most = float(pixels.min()), float(pixels.max())
    if most == least:
        return least - 1.0, most + 1.0
    room = _ROOM * (most - least)
    clipped = [float((pixels == end).mean()) > _CLIPPED_SHARE for end in (least, most)]
    return least - room * (not clipped[0]), most + room * (not clipped[1])
