"""Where exposures lie on each other, and how their light and skies compare; arrays only."""

from dip_pipeline.registration.correlating import LightShift, shift_by_light
from dip_pipeline.registration.geometry import Geometry, fit_affine
from dip_pipeline.registration.register import Registered, check_overlap, register
from dip_pipeline.registration.seeing import Seen, see
from dip_pipeline.registration.stars import robust_level

__all__ = [
    "Geometry",
    "LightShift",
    "Registered",
    "Seen",
    "check_overlap",
    "fit_affine",
    "register",
    "robust_level",
    "see",
    "shift_by_light",
]
