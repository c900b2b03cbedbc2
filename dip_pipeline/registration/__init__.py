"""Where exposures lie on each other, and how their light and skies compare; arrays only."""

from dip_pipeline.registration.changing import Change, Compared
from dip_pipeline.registration.correlating import shift_by_light
from dip_pipeline.registration.geometry import Geometry, fit_affine
from dip_pipeline.registration.register import Registered, register
from dip_pipeline.registration.seeing import Seen, see
from dip_pipeline.registration.star_rings import (
    Between,
    Mixture,
    StarRings,
    mixture_between,
    star_rings,
)
from dip_pipeline.registration.stars import FWHM_OF_SIGMA, robust_level
from dip_pipeline.registration.surfaces import Surface, fit_surface
from dip_pipeline.registration.widths import psf_fwhm_px, star_fwhm_px

__all__ = [
    "FWHM_OF_SIGMA",
    "Between",
    "Change",
    "Compared",
    "Geometry",
    "Mixture",
    "Registered",
    "Seen",
    "StarRings",
    "Surface",
    "fit_affine",
    "fit_surface",
    "mixture_between",
    "psf_fwhm_px",
    "register",
    "robust_level",
    "see",
    "shift_by_light",
    "star_fwhm_px",
    "star_rings",
]
