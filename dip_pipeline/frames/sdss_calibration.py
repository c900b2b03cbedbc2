"""Calibration and sky of an SDSS frame, as its HDUs 1 and 2 hold them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.fits_file import READ_ERRORS, fits_file, log_warnings
from dip_pipeline.frames.frame import Frame
from dip_pipeline.frames.layouts.sloan import SDSS_FRAME

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SdssCalibration:
    """What turns nanomaggies back into data numbers.

    calibration : (cols,), nanomaggies for one DN, the flat in it
    sky : coarse image of the sky that was subtracted, DN; rows, cols : where each row and column
        of the frame lies in it
    """

    calibration: Doubles
    sky: Doubles
    rows: Doubles
    cols: Doubles

    def sky_of(self, rows: slice, cols: slice) -> Doubles:
        """Sky of one region, DN, by bilinear interpolation."""
        places = np.meshgrid(self.rows[rows], self.cols[cols], indexing="ij")
        found: Doubles = map_coordinates(self.sky, places, order=1, mode="nearest")
        return found


def read_sdss_calibration(path: Path, shape: tuple[int, int]) -> SdssCalibration:
    """Read the calibration of a frame. Raises FrameError where it is not that of such a frame."""
    try:
        with fits_file(path) as opened, log_warnings(path):
            calibration = np.array(opened.hdus[1].data, dtype=np.float64)
            table = opened.hdus[2].data
            sky = np.array(table["ALLSKY"][0], dtype=np.float64)
            cols = np.array(table["XINTERP"][0], dtype=np.float64)
            rows = np.array(table["YINTERP"][0], dtype=np.float64)
    except READ_ERRORS as error:
        raise FrameError(f"{path}: the sky of this SDSS frame cannot be read: {error}") from error
    if (len(rows), len(cols)) != shape or sky.ndim != 2:
        raise FrameError(
            f"{path}: its sky is for {len(rows)} x {len(cols)} pixels, the image has "
            f"{shape[0]} x {shape[1]}; give a noise plane with --err"
        )
    return SdssCalibration(calibration, sky, rows, cols)


def is_sdss(frame: Frame) -> bool:
    """Whether a frame has such a calibration."""
    return frame.layout == SDSS_FRAME
