"""A warning of frames that show less than no light: differences of images."""

import logging
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dip_pipeline.blind.at_once import of_each
from dip_pipeline.blind.sky import Window
from dip_pipeline.sensor import NoiseKind, NoiseModel
from dip_pipeline.sensor.noise_sigma import sigma_at, variance_line

log = logging.getLogger(__name__)

_WIDE_PX = 3  # of medians, which leave out dead pixels and columns
_SIGMAS = 3.0  # of the sky, of one pixel: a level without light that was measured is off by one
_LEAST_PX, _MOST_SIDE_PX = 4, 30  # of a place that may be a star; unlit corners and gaps are wider
_FEWEST = 3
_EVEN_SIGMAS = 2.0  # between the quartiles of a level, at most; medians of noise alone make 0.6


def warn_of_dark_places(
    name: str, noise: NoiseModel, windows: Sequence[Window], threads: int = 1
) -> None:
    """Warn where places like stars are darker than the level at which no photon arrived.

    name : of the frame, for people; threads : at most, for as many windows at once
    There the law has the noise of reading alone; but stars that were taken away left theirs.
    Of an estimated law that level is the darkest of the frame: where light is everywhere, as strong
    here as weak there, dark places (corners of a vignette, spots of a disk) tell of no difference.
    """
    if noise.kind is not NoiseKind.POISSON_GAUSSIAN or noise.from_error_plane:
        return
    zero_level = variance_line(noise).zero_level
    if noise.rung.startswith("estimated") and _is_lit(windows, noise, threads):
        return
    places = sum(of_each(partial(_dark_places, noise, zero_level), windows, threads))
    if places >= _FEWEST:
        log.warning(
            "%s: %d places as wide as stars are darker than no light at all (%.4g): a difference "
            "of images, it seems, whose noise its levels do not tell; errors are several times too "
            "small there: give its noise plane (--err)",
            *(name, places, zero_level),
        )


def _is_lit(windows: Sequence[Window], noise: NoiseModel, threads: int) -> bool:
    """Whether the level of most of a frame varies: that of a difference is even."""
    levels = of_each(_levels, windows, threads)
    low, sky, high = np.quantile(np.concatenate(levels), (0.25, 0.5, 0.75))
    return bool(high - low > _EVEN_SIGMAS * sigma_at(noise, float(sky)))


def _levels(window: Window) -> NDArray[np.float64]:
    levels: NDArray[np.float64] = ndimage.median_filter(window.pixels, _WIDE_PX)[window.good]
    return levels


def _dark_places(noise: NoiseModel, zero_level: float, window: Window) -> int:
    good = window.pixels[window.good]
    if not good.size:
        return 0
    sky = float(np.median(good))
    lowest = min(zero_level, sky) - _SIGMAS * sigma_at(noise, sky)
    plane = np.where(window.good, window.pixels, sky)
    dark, found = ndimage.label(ndimage.median_filter(plane, _WIDE_PX) < lowest)
    sides = [tuple(part.stop - part.start for part in box) for box in ndimage.find_objects(dark)]
    sizes = np.bincount(dark.ravel(), minlength=found + 1)[1:]
    return sum(
        size >= _LEAST_PX and max(side) <= _MOST_SIDE_PX and max(side) <= 3 * min(side)
        for size, side in zip(sizes, sides, strict=True)
    )
