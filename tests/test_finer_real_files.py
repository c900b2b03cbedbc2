"""Finer products of files of real telescopes, in DIP_EXTRA_DATA: sky, light, and what is told."""

import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from dip_pipeline.errors import EmptyFrameError
from dip_pipeline.frames import open_frame
from dip_pipeline.frames.fits_file import close_files
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.runs import ways
from dip_pipeline.verifying import verify_product
from tests.frames.conftest import extra_data  # noqa: F401  (a fixture)
from tests.stand_in import spread_evenly
from tests.test_finer_products import config

# File, HDU, and a word of what is left out.
FILES = [
    ("jwst/jw01324001001-01324-o001_t001_nircam_clear-f200w_i2d_stamp_512.fits", "SCI", ""),
    ("wcs/sip-wcs.fit", 0, ""),
    ("wcs/wcs_dist_lookup.fits.gz", 1, "lookup tables"),
    ("wcs/gs_tanflip.fits", 0, ""),
    ("multi_band_decam/c4d_181215_051332_ooi_r_ls9.S9.fits", 1, ""),
    ("ccd/gs_tnx.fits", 0, ""),
    ("nan/gc_bolocam_gps.fits.gz", 0, ""),
    ("multi_band/reprojected_sdss_g.fits.bz2", 0, ""),
    ("ccd_calib_set/kelt-16-b-C084-r.fit.gz", 0, ""),
]


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(ways, "restore_scene", spread_evenly)
    yield
    close_files()


@pytest.mark.parametrize(("name", "hdu", "word"), FILES)
def test_finer_products_of_real_files(extra_data, tmp_path, name, hdu, word):  # noqa: F811
    source, target = extra_data / name, tmp_path / "out.fits"
    asked = config(**{"tiles.size_px": 256, "noise.sigma": None})
    report = restore_frame(str(source), target, asked)
    assert word in " ".join(report.notes)
    verdict = verify_product(target, str(source))
    assert verdict.ok, [check for check in verdict.checks if check.passed is False]
    frame, finer = open_frame(source), open_frame(target)
    assert finer.shape == (frame.shape[0] * 2, frame.shape[1] * 2)
    with fits.open(source) as old, fits.open(target) as new, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, other = old[hdu].header.copy(), new[hdu].header
        for keyword in [k for k in one if k.startswith(("CPDIS", "D2IM", "DP1", "DP2"))]:
            one.remove(keyword, ignore_missing=True, remove_all=True)
        if not WCS(one).has_celestial:
            return
        down, across = (slice(0, side, 9) for side in frame.shape)
        rows, cols = (axis.ravel() for axis in np.mgrid[down, across])
        before = WCS(one).celestial.pixel_to_world(cols, rows)
        after = WCS(other).celestial.pixel_to_world(2 * cols + 0.5, 2 * rows + 0.5)
        assert before.separation(after).max().deg * 3.6e6 < 1


def test_a_picture_of_one_pixel_is_refused(extra_data, tmp_path):  # noqa: F811
    with pytest.raises(EmptyFrameError, match="too small"):
        restore_frame(
            str(extra_data / "wcs/tab-time-last-axis.fits"), tmp_path / "out.fits", config()
        )
