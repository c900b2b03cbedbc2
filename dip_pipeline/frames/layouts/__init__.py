"""How observatories lay out their files: one small class a layout, one table, one protocol."""

from dip_pipeline.frames.layouts.chip import Chip, FitsView, FlagPlane, NoisePlane, Place
from dip_pipeline.frames.layouts.table import LAYOUTS, companions_of, detect

__all__ = [
    "LAYOUTS",
    "Chip",
    "FitsView",
    "FlagPlane",
    "NoisePlane",
    "Place",
    "companions_of",
    "detect",
]
