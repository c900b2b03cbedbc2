"""A Gaussian point spread function, integrated over pixels."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, erfinv

_REACH_SIGMA = 4.0  # beyond: 6e-5 of the light along an axis
FWHM_OF_SIGMA = 2 * math.sqrt(2 * math.log(2))


def gaussian_psf(fwhm_px: float) -> NDArray[np.float64]:
    """Light of a point in the middle of the middle pixel; odd sides, sum 1.

    fwhm_px : full width at half maximum before the pixels take their part, in these pixels
    """
    sigma_px = fwhm_px / FWHM_OF_SIGMA
    reach = max(1, math.ceil(_REACH_SIGMA * sigma_px))
    edges = np.arange(-reach, reach + 2) - 0.5
    share = np.diff(erf(edges / (math.sqrt(2) * sigma_px)))
    kernel = np.outer(share, share)
    normalised: NDArray[np.float64] = kernel / kernel.sum()
    return normalised


def fwhm_of_peak(share: float) -> float:
    """Full width at half maximum, px, of the Gaussian whose middle pixel holds a share of it.

    share : of the light, above 0 and at most 1, of a `gaussian_psf`
    """
    return FWHM_OF_SIGMA * 0.5 / (math.sqrt(2) * float(erfinv(math.sqrt(share))))
