"""Whether single precision holds the noise of a frame, whose pixels may be stored in more."""

import logging
from collections.abc import Sequence

import numpy as np

from dip_pipeline.blind.sky import Window
from dip_pipeline.errors import EmptyFrameError, FrameError
from dip_pipeline.frames import Frame
from dip_pipeline.noise.agreement import level_of
from dip_pipeline.noise.frame_sensor import stored_as
from dip_pipeline.sensor import NoiseModel
from dip_pipeline.sensor.noise_sigma import sigma_at

log = logging.getLogger(__name__)

_COARSE = 0.5  # of a step: a sigma below this shows the steps
_LEAST_OF_SINGLE = 1e-36  # of a sigma in single precision, whose square is taken in more


def check_precision(frame: Frame, noise: NoiseModel, windows: Sequence[Window]) -> None:
    """Warn where single precision is coarser than the noise; FrameError where it cannot hold it."""
    level = level_of(windows)
    if noise.from_error_plane:
        errors = [w.error[w.good] for w in windows if w.error is not None]
        sigma = float(np.median(np.concatenate(errors)))
    else:
        sigma = sigma_at(noise, level)
    step = _step_of_single(frame, level)
    if 0 < sigma < _LEAST_OF_SINGLE:
        raise FrameError(
            f"{frame.path}: its noise of {sigma:.2g} is beyond single precision: multiply the "
            "frame (and its errors) by a constant, or give it in another unit"
        )
    if step > _COARSE * sigma > 0:
        log.warning(
            "%s: in single precision its pixels, at a level of %g, have steps of %.2g, coarser "
            "than half their noise of %.2g: subtract a constant first",
            frame.path,
            level,
            step,
            sigma,
        )


def nothing_in(frame: Frame, level: float) -> EmptyFrameError:
    """Say that pixels do not scatter, and whether rounding to single precision may be the cause."""
    rounded, advice = "", ""
    if step := _step_of_single(frame, level):
        rounded = f" in single precision, which has steps of {step:.2g} at their level of {level:g}"
        advice = "subtract a constant if their noise is finer than that, or "
    return EmptyFrameError(
        f"{frame.path}: its pixels are masked, constant or nearly so{rounded}: no noise to "
        f"estimate; {advice}give --sigma, or --gain and --read-noise, or --noise poisson for "
        "counts, if there is something to restore"
    )


def _step_of_single(frame: Frame, level: float) -> float:
    """Step of single precision at a level; 0 where the frame's pixels are stored in no more."""
    return (
        0.0
        if np.can_cast(stored_as(frame), np.float32)
        else float(np.spacing(np.float32(abs(level))))
    )
