"""The star of a scene in which a PSF is undone: a Gaussian that its pixels can hold."""

from dip_pipeline.restoration.forward.gaussian_psf import FWHM_OF_SIGMA

TARGET_FWHM_PX = 2.0
TARGET_SIGMA_PX = TARGET_FWHM_PX / FWHM_OF_SIGMA
