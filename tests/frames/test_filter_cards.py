"""Cards of an image in a raw colour mosaic: its pixels are wider, and beside those of others."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from dip_pipeline.frames import camera_of, open_frames, pixel_side_arcsec
from dip_pipeline.frames.filter_pattern import PLACES
from dip_pipeline.frames.sky_agreement import as_header
from dip_pipeline.frames.sky_mapping import places_on

SIDE = 1 / 3600  # of a pixel, degrees
_AT = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 83.0, "CRVAL2": -5.0}
_SIP = {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2}
_SIP |= {"A_2_0": 3e-5, "A_1_1": -2e-5, "B_0_2": -4e-5}
FORMS = {
    "matrix": {"CD1_1": -SIDE, "CD1_2": 1e-5, "CD2_1": 1e-5, "CD2_2": SIDE},
    "steps": {"CDELT1": -SIDE, "CDELT2": SIDE, "PC1_2": 0.1, "PC2_1": -0.1},
    "distorted": _SIP | {"CD1_1": -SIDE, "CD2_2": SIDE},
}


def images(path, **cards):
    header = fits.Header({"BAYERPAT": "RGGB"} | _AT | cards)
    fits.writeto(path, np.zeros((40, 50), np.float32), header)
    return open_frames(path)


@pytest.mark.parametrize(
    ("form", "told"),
    [
        *((form, {"CRPIX1": 20.5, "CRPIX2": 31.0}) for form in FORMS),
        *((form, {}) for form in ("matrix", "steps")),  # the reference pixel is 0 then
    ],
)
def test_every_filter_has_the_sky_of_its_own_pixels(tmp_path, form, told):
    cards = FORMS[form] | told
    found = images(tmp_path / "raw.fits", **cards)
    whole = WCS(fits.Header(_AT | cards))
    rows, cols = np.array([[0, 0], [3, 19], [18, 7]]).T
    for image, (row, col) in zip(found, PLACES, strict=True):
        own = WCS(as_header(image.cards)).all_pix2world(cols, rows, 0)
        at = whole.all_pix2world(2 * cols + col, 2 * rows + row, 0)
        np.testing.assert_allclose(own, at, atol=1e-9)
        by_header = WCS(fits.Header(dict(image.header))).all_pix2world(cols, rows, 0)
        np.testing.assert_allclose(by_header, at, atol=1e-9)


def test_pixels_of_one_filter_are_twice_as_wide(tmp_path):
    for image in images(tmp_path / "a.fits", **FORMS["steps"] | {"PC1_2": 0.0, "PC2_1": 0.0}):
        assert camera_of(image.header).pixel_scale_arcsec == pytest.approx(2.0)
    for image in images(tmp_path / "b.fits", CTYPE1="", CTYPE2="", PIXSCALE=1.5):
        assert pixel_side_arcsec(image.header) == pytest.approx(3.0)


def test_dithered_mosaics_lie_on_each_other_by_their_coordinates(tmp_path):
    first = images(tmp_path / "a.fits", **FORMS["matrix"], CRPIX1=20.0, CRPIX2=30.0)
    other = images(tmp_path / "b.fits", **FORMS["matrix"], CRPIX1=23.0, CRPIX2=25.0)
    places = np.array([[4.0, 6.0], [10.0, 2.0]])
    for one, two in zip(first, other, strict=True):
        found = places_on(places, one, two)
        np.testing.assert_allclose(found, places + np.array([-2.5, 1.5]), atol=1e-6)
