"""How wide stars are in an exposure, and how wide a PSF would make them there: one measure."""

import numpy as np
import sep
from numpy.typing import NDArray

from dip_pipeline.registration.seeing import Seen
from dip_pipeline.registration.stars import (
    APERTURE_WIDTHS,
    Image,
    fwhm_of_radius,
    measure_fwhm,
)


def star_fwhm_px(seen: Seen) -> float:
    """FWHM of the bright stars of an exposure, pixels; NaN where these are too few."""
    return measure_fwhm(seen.cleaned, seen.stars, np.arange(len(seen.stars)))


def psf_fwhm_px(kernel: NDArray[np.floating], factor: int, seen: Seen) -> float:
    """FWHM that `star_fwhm_px` would find for stars of a PSF, pixels of the exposure.

    kernel : (rows, cols), of pixels of which factor x factor make one of the exposure's
    The mean over where in its pixel a star lies.
    """
    reach_px = APERTURE_WIDTHS * seen.stars.width_px
    radii = [_radius_px(_binned(kernel, factor, phase), reach_px) for phase in range(factor)]
    return fwhm_of_radius(float(np.mean(radii)))


def _binned(kernel: NDArray[np.floating], factor: int, phase: int) -> Image:
    """Sum pixels of a PSF that begins so many of them inside of a coarse one."""
    behind = [-(side + phase) % factor for side in kernel.shape]
    padded = np.pad(kernel.astype(np.float64), [(phase, after) for after in behind])
    rows, cols = (side // factor for side in padded.shape)
    binned: Image = padded.reshape(rows, factor, cols, factor).sum(axis=(1, 3))
    return binned


def _radius_px(light: Image, reach_px: float) -> float:
    """Radius that holds half of the light within reach of its middle."""
    margin = int(np.ceil(reach_px)) + 1
    padded = np.pad(light, margin)
    total = padded.sum()
    row, col = (
        float((padded.sum(axis=1 - axis) * np.arange(padded.shape[axis])).sum() / total)
        for axis in (0, 1)
    )
    radius, _ = sep.flux_radius(padded, [col], [row], [reach_px], 0.5, subpix=5)
    return float(radius[0])
