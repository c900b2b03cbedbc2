"""Files and frames: FITS and Zarr in and out, headers, provenance."""

from dip_pipeline.frames.camera import Camera, camera_of
from dip_pipeline.frames.frame import Card, Frame, Pixels, PlaneInfo, RestoredPlanes
from dip_pipeline.frames.opening import file_digest, open_frame, read_account, read_provenance
from dip_pipeline.frames.provenance import Provenance
from dip_pipeline.frames.saving import (
    FITS_SUFFIXES,
    ZARR_SUFFIXES,
    check_target,
    output_kind,
    save_frame,
)
from dip_pipeline.frames.selectors import split_selector

__all__ = [
    "FITS_SUFFIXES",
    "ZARR_SUFFIXES",
    "Camera",
    "Card",
    "Frame",
    "Pixels",
    "PlaneInfo",
    "Provenance",
    "RestoredPlanes",
    "camera_of",
    "check_target",
    "file_digest",
    "open_frame",
    "output_kind",
    "read_account",
    "read_provenance",
    "save_frame",
    "split_selector",
]
