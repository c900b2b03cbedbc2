import os
from pathlib import Path

import pytest

from dip_pipeline.frames import camera_of, open_frame, pixel_side_arcsec

SKY = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}
A_DEGREE = {"CDELT1": -1 / 3600, "CDELT2": 1 / 3600}


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ({}, None),
        ({"FILTER": "r"}, "r"),
        ({"FILTER": "  g  DECam  SDSS "}, "g DECam SDSS"),
        ({"FILTER": "F200W", "PUPIL": "CLEAR"}, "F200W"),
        ({"FILTER": "F150W2", "PUPIL": "F162M"}, "F150W2 + F162M"),
        ({"FILTER1": "F606W", "FILTER2": "CLEAR2L"}, "F606W"),
        ({"FILTER1": "GG455_G0329", "FILTER2": "open2-8"}, "GG455_G0329"),
        ({"FILTER1": 33, "FILTNAM1": "F673N", "FILTNAM2": ""}, "F673N"),
        ({"FILTER": "Clear"}, "Clear"),
        ({"FILTER": 3, "FILTER1": ""}, None),
    ],
)
def test_the_filter_is_what_the_light_went_through(header, name):
    assert camera_of(header).filter == name


@pytest.mark.parametrize(
    ("cards", "scale"),
    [
        (A_DEGREE, 1.0),
        ({**A_DEGREE, "CROTA2": 30.0}, 1.0),
        ({**A_DEGREE, "PC1_1": 0.6, "PC1_2": -0.8, "PC2_1": 0.8, "PC2_2": 0.6}, 1.0),
        ({"CDELT1": 1.0, "CDELT2": 4.0, "CUNIT1": "arcsec", "CUNIT2": "arcsec"}, 2.0),
        ({"CD1_1": -2 / 3600, "CD2_2": 2 / 3600, "CDELT1": 1.0, "CDELT2": 1.0}, 2.0),
        ({"CD1_2": 2 / 3600, "CD2_1": -2 / 3600}, 2.0),
        ({"CD1_1": 1 / 3600, "CD2_1": 0.0, "CD1_2": 0.0}, None),
        ({"CDELT1": "one", "CDELT2": 1.0}, None),
        ({**A_DEGREE, "CUNIT1": "pixel"}, None),
    ],
)
def test_the_pixel_scale_is_the_root_of_the_area_of_a_pixel(cards, scale):
    found = camera_of({**SKY, **cards}).pixel_scale_arcsec
    assert found == (None if scale is None else pytest.approx(scale))


def test_what_is_no_sky_has_no_pixel_scale():
    for kind in ("WAVE", "UNITLESS", ""):
        assert camera_of({**A_DEGREE, "CTYPE1": kind, "CTYPE2": kind}).pixel_scale_arcsec is None
    assert camera_of(A_DEGREE).pixel_scale_arcsec is None


@pytest.mark.parametrize(
    ("cards", "side"),
    [
        ({"PIXSCALE": 0.4}, 0.4),
        ({"PIXSCAL1": 0.2, "PIXSCAL2": 0.8}, 0.4),
        ({"SECPIX": 0.4}, 0.4),
        ({"SECPIX1": -0.4, "SECPIX2": 0.4}, 0.4),
        ({"SECPIX1": 0.4}, None),
        ({"PIXSCALE": "0.4 of old"}, None),
        ({"PIXSCALE": 0}, None),
        ({**SKY, **A_DEGREE, "PIXSCALE": 0.4}, 1.0),
        ({}, None),
    ],
)
def test_without_coordinates_cards_tell_the_side_of_a_pixel(cards, side):
    assert pixel_side_arcsec(cards) == (None if side is None else pytest.approx(side))


EXTRA = os.environ.get("DIP_EXTRA_DATA")
REAL = {
    "jwst/jw01324001001-01324-o001_t001_nircam_clear-f200w_i2d_stamp_512.fits": (
        "F200W",
        "NIRCAM",
        0.0308,
    ),
    "mef/c4d_170316_062107_ooi_z_ls9.N2.fits": ("z DECam SDSS c0004 9260.0 1520.0", "DECam", 0.263),
    "mef/gmos.fits": ("GG455_G0329", "GMOS-S", None),
    "multi_band/xdf_hst_wfc3ir_60mas_f160w_sci.fits": (None, "WFC3", 0.06),
}


@pytest.mark.skipif(not EXTRA, reason="DIP_EXTRA_DATA names no folder of real frames")
@pytest.mark.parametrize("name", REAL)
def test_real_headers_are_understood(name):
    camera = camera_of(open_frame(Path(EXTRA or ".") / name).header)
    wanted, instrument, scale = REAL[name]
    assert camera.instrument == instrument
    assert wanted is None or camera.filter == wanted
    found = camera.pixel_scale_arcsec
    assert found == (None if scale is None else pytest.approx(scale, rel=0.02))
