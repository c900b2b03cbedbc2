"""Files and frames: FITS and Zarr in and out, headers, provenance."""

from dip_pipeline.frames.camera import Camera, camera_of
from dip_pipeline.frames.fits_reader import scale_noise
from dip_pipeline.frames.frame import (
    Card,
    Frame,
    Pixels,
    PixelSource,
    PlaneInfo,
    RawHdu,
    RestoredFrame,
    RestoredPlanes,
    around,
)
from dip_pipeline.frames.guides import Guide, guide_digests, open_guides
from dip_pipeline.frames.opening import (
    file_digest,
    open_frame,
    open_frames,
    read_account,
    read_provenance,
)
from dip_pipeline.frames.provenance import Provenance
from dip_pipeline.frames.reading import AS_THE_FILE_SAYS, Reading
from dip_pipeline.frames.saving import (
    FITS_SUFFIXES,
    ZARR_SUFFIXES,
    check_target,
    output_kind,
    save_frame,
    save_frames,
)
from dip_pipeline.frames.sdss_calibration import SdssCalibration, is_sdss, read_sdss_calibration
from dip_pipeline.frames.selectors import split_selector
from dip_pipeline.frames.sky_coordinates import wcs_words

__all__ = [
    "AS_THE_FILE_SAYS",
    "FITS_SUFFIXES",
    "ZARR_SUFFIXES",
    "Camera",
    "Card",
    "Frame",
    "Guide",
    "PixelSource",
    "Pixels",
    "PlaneInfo",
    "Provenance",
    "RawHdu",
    "Reading",
    "RestoredFrame",
    "RestoredPlanes",
    "SdssCalibration",
    "around",
    "camera_of",
    "check_target",
    "file_digest",
    "guide_digests",
    "is_sdss",
    "open_frame",
    "open_frames",
    "open_guides",
    "output_kind",
    "read_account",
    "read_provenance",
    "read_sdss_calibration",
    "save_frame",
    "save_frames",
    "scale_noise",
    "split_selector",
    "wcs_words",
]
