"""Files and frames: FITS and Zarr in and out, headers, provenance."""

from dip_pipeline.frames.camera import (
    Camera,
    beam_px,
    calibration_kind,
    camera_of,
    pixel_side_arcsec,
)
from dip_pipeline.frames.colour_mosaic import images_beside, mosaic_of, whole_frames
from dip_pipeline.frames.filter_pattern import PLACES, filters_named
from dip_pipeline.frames.finer_frame import finer_frame, finer_notes, finer_plane, left_out_names
from dip_pipeline.frames.finer_header import FinerGrid
from dip_pipeline.frames.fits_reader import scale_noise
from dip_pipeline.frames.frame import (
    Card,
    Frame,
    Pixels,
    PlaneInfo,
    RestoredFrame,
    RestoredPlanes,
    around,
)
from dip_pipeline.frames.guides import Guide, guide_digests, guide_notes, open_guides
from dip_pipeline.frames.identity import centre_digest, identities
from dip_pipeline.frames.layouts import companions_of
from dip_pipeline.frames.mask_file import check_holes, with_mask
from dip_pipeline.frames.noise_file import write_noise
from dip_pipeline.frames.opening import (
    file_digest,
    named_digest,
    open_frame,
    open_frames,
    path_state,
    read_account,
    read_provenance,
)
from dip_pipeline.frames.pixel_flux import PixelFlux, is_guess, pixel_flux
from dip_pipeline.frames.pixels_over import PixelsOver
from dip_pipeline.frames.pointing_cards import pointing_by_cards, side_by_cards_arcsec
from dip_pipeline.frames.provenance import Provenance
from dip_pipeline.frames.psf_file import read_psf, write_psf, write_psfs
from dip_pipeline.frames.reading import AS_THE_FILE_SAYS, Reading
from dip_pipeline.frames.saving import (
    FITS_SUFFIXES,
    ZARR_SUFFIXES,
    check_target,
    check_unchanged,
    left_behind,
    output_kind,
    save_frame,
    save_frames,
)
from dip_pipeline.frames.sdss_calibration import SdssCalibration, is_sdss, read_sdss_calibration
from dip_pipeline.frames.selectors import split_selector
from dip_pipeline.frames.sky_coordinates import wcs_words
from dip_pipeline.frames.sky_mapping import middle_on_sky, places_on
from dip_pipeline.frames.unlike_planes import unlike_notes
from dip_pipeline.frames.verifying import wrong_sums
from dip_pipeline.frames.zarr_choice import is_zarr

__all__ = [
    "AS_THE_FILE_SAYS",
    "FITS_SUFFIXES",
    "PLACES",
    "ZARR_SUFFIXES",
    "Camera",
    "Card",
    "FinerGrid",
    "Frame",
    "Guide",
    "PixelFlux",
    "Pixels",
    "PixelsOver",
    "PlaneInfo",
    "Provenance",
    "Reading",
    "RestoredFrame",
    "RestoredPlanes",
    "SdssCalibration",
    "around",
    "beam_px",
    "calibration_kind",
    "camera_of",
    "centre_digest",
    "check_holes",
    "check_target",
    "check_unchanged",
    "companions_of",
    "file_digest",
    "filters_named",
    "finer_frame",
    "finer_notes",
    "finer_plane",
    "guide_digests",
    "guide_notes",
    "identities",
    "images_beside",
    "is_guess",
    "is_sdss",
    "is_zarr",
    "left_behind",
    "left_out_names",
    "middle_on_sky",
    "mosaic_of",
    "named_digest",
    "open_frame",
    "open_frames",
    "open_guides",
    "output_kind",
    "path_state",
    "pixel_flux",
    "pixel_side_arcsec",
    "places_on",
    "pointing_by_cards",
    "read_account",
    "read_provenance",
    "read_psf",
    "read_sdss_calibration",
    "save_frame",
    "save_frames",
    "scale_noise",
    "side_by_cards_arcsec",
    "split_selector",
    "unlike_notes",
    "wcs_words",
    "whole_frames",
    "with_mask",
    "write_noise",
    "write_psf",
    "write_psfs",
    "wrong_sums",
]
