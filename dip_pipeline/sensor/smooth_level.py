"""Level of a frame at each pixel, from its neighbours alone."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve, uniform_filter

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

LEVEL_PX = 5  # side of the square whose mean, without its centre, is the level of the centre
# Twice the mean of the four nearest less that of the four at the corners: exact for a quadratic
# surface in rows and columns whose two curvatures are alike, as at the core of a star.
_ACROSS = np.array([[-0.25, 0.5, -0.25], [0.5, 0.0, 0.5], [-0.25, 0.5, -0.25]])
_NEAREST = np.array([[0.0, 0.25, 0.0], [0.25, 0.0, 0.25], [0.0, 0.25, 0.0]])
_STEEP_SIGMA = 4.0  # by which they must differ from the mean, to be believed
# Their noise, in that of a pixel.
_ACROSS_SIGMA, _NEAREST_SIGMA = (float(np.sqrt((each**2).sum())) for each in (_ACROSS, _NEAREST))


def level_for_noise(
    science: NDArray[np.float32],
    good: Mask,
    inner: tuple[slice, slice],
    sigma_of: Callable[[Floats], Floats],
) -> Floats:
    """Level to take the noise of each pixel at, of the inner part: mean of its neighbours.

    At cores of stars that is a quarter of the light: there a surface through the eight nearest is
    taken, wherever it rises significantly above that mean and all eight are good. Beside them it is
    far too much: where the four nearest differ significantly from that mean, theirs is taken.
    sigma_of : noise of the inner pixels at a level each
    """
    level = level_without(science, good)[inner]
    values = np.where(good, science, 0.0).astype(np.float64)
    across, nearest = (
        convolve(values, each, mode="nearest")[inner] for each in (_ACROSS, _NEAREST)
    )
    all_eight, all_four = (_all_good(good, each)[inner] for each in (_ACROSS, _NEAREST))
    sigma = _STEEP_SIGMA * sigma_of(level)
    beside = all_four & (np.abs(nearest - level) > _NEAREST_SIGMA * sigma)
    steep = all_eight & (across > level + _ACROSS_SIGMA * sigma)
    return np.where(steep, across, np.where(beside, nearest, level))


def _all_good(good: Mask, kernel: Floats) -> Mask:
    """Whether all that a kernel takes is good; nothing is beyond an edge."""
    taken = kernel != 0
    found = convolve(good.astype(np.int8), taken.astype(np.int8), mode="constant")
    whole: Mask = found == np.count_nonzero(taken)
    return whole


def level_without(science: NDArray[np.float32], good: Mask) -> Floats:
    """Mean of the good pixels around each one, itself left out; its own value where there are none.

    A level that holds the pixel's own noise would give bright noise larger errors. Nothing else
    counts: the level of a pixel does not depend on what else is read.
    """
    values = np.where(good, science, 0.0).astype(np.float64)
    average: Callable[..., Floats] = uniform_filter
    area = LEVEL_PX**2
    count = np.rint(average(good.astype(np.float64), LEVEL_PX, mode="constant") * area) - good
    total = average(values, LEVEL_PX, mode="constant") * area - values
    return np.where(count > 0, total / np.maximum(count, 1), values)
