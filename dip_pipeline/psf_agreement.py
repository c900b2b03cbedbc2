"""A PSF beside the stars of the frame that it is said to be of."""

import logging

from dip_pipeline.errors import ExposureError
from dip_pipeline.exposure_light import see_window, unit_of
from dip_pipeline.exposure_places import middle_of
from dip_pipeline.frames import Frame
from dip_pipeline.registration import psf_fwhm_px, star_fwhm_px
from dip_pipeline.sensor import NoiseModel
from dip_pipeline.task_optics import AskedOptics

log = logging.getLogger(__name__)

_NARROWER = 0.87  # what is measured of few or faint stars may be a tenth too small


def warn_of_psf(frame: Frame, noise: NoiseModel, asked: AskedOptics) -> None:
    """Warn where the stars of a frame are narrower than the PSF that is to be undone.

    Wider ones are none of its business: a part of the blur may be meant. Where a frame shows too
    few stars, nothing can be said.
    """
    if asked.psf is None:
        return
    window = middle_of(frame.shape)
    try:
        seen = see_window(frame, window, noise, unit_of(frame, window))
    except ExposureError:
        return
    stars_px = star_fwhm_px(seen)
    psf_px = psf_fwhm_px(asked.psf, asked.factor, seen)
    if stars_px < _NARROWER * psf_px:  # False where one is NaN
        log.warning(
            "%s: its stars are %.2f px wide (FWHM), the PSF (%s) %.2f px: undoing more blur than "
            "there is changes fluxes and digs holes; give the PSF of these stars (--fwhm counts "
            "pixels of the input, a file has those of the result)",
            frame.path,
            stars_px,
            asked.words,
            psf_px,
        )
