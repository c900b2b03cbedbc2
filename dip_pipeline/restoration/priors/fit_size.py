"""How large a fit is: the networks that share a frame, the pixels that they are judged on."""

from dip_pipeline.restoration.problem import Effort, FitOptions

MOST_CALIBRATION_PIXELS = 1_000_000
_MOST_PIXELS_OF_FOUR = 1024 * 1024


def folds_for(pixels: int, options: FitOptions) -> int:
    """How many networks share a frame of so many pixels.

    Where there are few pixels, what a network is not shown is missed: four share a small frame,
    unless time is short.
    """
    small = pixels <= _MOST_PIXELS_OF_FOUR
    return 4 if small and options.effort is not Effort.FAST else 2
