"""Level of a frame at each pixel, from its neighbours alone."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

LEVEL_PX = 5  # side of the square whose mean, without its centre, is the level of the centre


def level_without(science: NDArray[np.float32], good: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean of the good pixels around each one, itself left out; where there are none, their median.

    A level that holds the pixel's own noise would give bright noise larger errors.
    """
    values = np.where(good, science, 0.0).astype(np.float64)
    average: Callable[..., NDArray[np.float64]] = uniform_filter
    area = LEVEL_PX**2
    count = np.rint(average(good.astype(np.float64), LEVEL_PX, mode="constant") * area) - good
    total = average(values, LEVEL_PX, mode="constant") * area - values
    typical = float(np.median(science[good])) if good.any() else 0.0
    return np.where(count > 0, total / np.maximum(count, 1), typical)
