"""The table of layouts, in the order in which they are tried."""

from dip_pipeline.frames.layouts.chip import Chip, FitsLayout, FitsView
from dip_pipeline.frames.layouts.general import (
    CcdData,
    Mosaic,
    NamedExtensions,
    Plain,
    SideFiles,
    companion_names,
)
from dip_pipeline.frames.layouts.ground import DecamPipeline, Gemini, Lsst, Muse
from dip_pipeline.frames.layouts.sloan import SdssFrame
from dip_pipeline.frames.layouts.space import Hubble, Jwst

LAYOUTS: tuple[FitsLayout, ...] = (
    Jwst(),
    Hubble(),
    Lsst(),
    DecamPipeline(),
    Gemini(),
    Muse(),
    SdssFrame(),
    CcdData(),
    NamedExtensions(),
    SideFiles(),
    Mosaic(),
    Plain(),
)


def companions_of(name: str) -> set[str]:
    """Names that files of noise and flags beside an image of this name may have."""
    return (companion_names(name) | set(DecamPipeline.beside(name))) - {name}


def detect(view: FitsView) -> tuple[str, tuple[Chip, ...]]:
    """Name of the first layout that fits, and the chips it finds; "" and none where none fits."""
    for layout in LAYOUTS:
        chips = layout.chips(view)
        if chips:
            return layout.name, chips
    return "", ()
