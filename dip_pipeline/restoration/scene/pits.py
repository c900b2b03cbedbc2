"""Pits: where a scene is darker than any light of its frame can be.

What no light makes through the PSF (a patch of bad pixels that no mask names, light that lacks in
the PSF's image, a PSF that is too wide) is explained by light with a lack of light beside it. The
lack gives it away; how much is wrong around it nobody knows.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dip_pipeline.restoration.problem import Problem
from dip_pipeline.restoration.scene.saturated_light import MOST_SHARE

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]

_ERRORS = 6.0
_LEVEL_PX = 1.0  # over which the frame's pixels are smoothed, or the darkest would be noise
_LEAST_WEIGHT = 0.5  # of that Gaussian on pixels that are known


def beside_pits(science: Image, error: Image, problem: Problem) -> Mask | None:
    """Find the pixels of a scene whose light a pit may have taken part in, (fine rows, fine cols).

    science, error : brightness on the scene's grid, NaN where no error is claimed
    Those that the PSF gives more than 1 % of their light from pits. None without a PSF or pits.
    """
    optics = problem.optics
    if optics is None or optics.psf is None or not problem.valid.any():
        return None
    with np.errstate(invalid="ignore"):
        pits = science < _darkest(problem) - _ERRORS * error
    if not pits.any():
        return None
    from scipy.signal import fftconvolve  # takes half a second to load, and is seldom needed

    share = fftconvolve(pits.astype(np.float64), optics.psf.astype(np.float64), "same")
    beside: Mask = pits | (share > MOST_SHARE)
    return beside


def _darkest(problem: Problem) -> float:
    """Give the least light that a scene may have, in the frame's unit of brightness.

    As far below the darkest place that the frame shows as most of it is above: in the light of a
    nebula dark clouds are seen blurred, and are darker than they look.
    """
    valid = problem.valid
    weight = ndimage.gaussian_filter(valid.astype(np.float64), _LEVEL_PX)
    light = ndimage.gaussian_filter(np.where(valid, problem.pixels, 0.0).astype(float), _LEVEL_PX)
    shown = valid & (weight > _LEAST_WEIGHT)
    if not shown.any():
        return -np.inf
    level = light[shown] / weight[shown]
    return float(2 * level.min() - np.median(level))
