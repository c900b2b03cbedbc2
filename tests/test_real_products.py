"""Products of real files: dip verify, fitscheck and FITSDiff agree on what changed.

The restoration itself is a stand-in; the files are in DIP_EXTRA_DATA.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.scripts import fitscheck

from dip_pipeline.config import RunConfig
from dip_pipeline.errors import DipError
from dip_pipeline.frames.fits_file import close_files
from dip_pipeline.frames.stale_cards import rule_of
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.runs import ways
from dip_pipeline.verifying import verify_product
from tests.stand_in import QUICK
from tests.test_verifying import as_it_should_be

CONFIG = RunConfig().with_overrides(
    **{**QUICK, "noise.sigma": 3.0, "tiles.size_px": 256, "tiles.overlap_px": 16}
)
SOME = (
    "ccd/a8280271.fits",
    "ccd_calib_set/kelt-16-b-C084-r.fit.gz",
    "compressed/m13_rice.fits",
    "mef/3c120_stis.fits.gz",
    "mef/gmos.fits",
    "mef/test0.fits",
    "multi_band_decam/c4d_150110_053718_ooi_z_ls9.S4.fits",
    "nasty/checksum_false.fits",
    "nasty/scale.fits",
    "wcs/gs_tanflip.fits",
    "wcs/wcs_dist_lookup.fits.gz",
)
FOLDER = Path(os.environ.get("DIP_EXTRA_DATA") or "/nowhere")
ALL = sorted(
    path.relative_to(FOLDER).as_posix()
    for path in FOLDER.glob("*/*")
    if path.suffix not in (".png", ".jpg", ".asdf")
)
IGNORED = ["SIMPLE", "XTENSION", "PCOUNT", "GCOUNT", "CHECKSUM", "DATASUM", "BITPIX", "BZERO",
           "BSCALE", "BLANK", "EXTEND", "DIP*", "HISTORY", "COMMENT", ""]  # fmt: skip


# Cards that were invalid before are so still.
pytestmark = pytest.mark.filterwarnings("ignore::astropy.io.fits.verify.VerifyWarning")


@pytest.fixture(autouse=True)
def quick_restoration(monkeypatch):
    monkeypatch.setattr(ways, "restore", as_it_should_be)
    yield
    close_files()


def check(source, target):
    """Verify a product by all three."""
    verdict = verify_product(target, str(source))
    assert verdict.ok, verdict
    packed = target.suffix == ".fz"
    assert fitscheck.main(["-i", str(target)] if packed else [str(target)]) == 0
    with fits.open(source) as old, fits.open(target) as new:
        ours = sum(hdu.name.startswith("DIP_") for hdu in new)
        shift = int(packed and len(new) - ours > len(old))
        for one, other in zip(old, list(new)[shift:], strict=False):
            ignored = [k for k in one.header if rule_of(k)] + IGNORED
            headers = [fits.Header(hdu.header, copy=True) for hdu in (one, other)]
            for header in headers:  # a header of other length is called different at once
                for keyword in {k for k in header if rule_of(k) or k in IGNORED}:
                    header.remove(keyword, ignore_missing=True, remove_all=True)
                for keyword in [k for k in header if k.startswith("DIP")]:
                    header.remove(keyword, ignore_missing=True, remove_all=True)
            difference = fits.HeaderDiff(*headers, ignore_keywords=ignored, ignore_comments=["*"])
            assert difference.identical, difference.report()
            if "DIPRUN" not in other.header and one.data is not None:
                data = fits.HDUDiff(one, other).diff_data
                assert data is None or data.identical


@pytest.mark.parametrize(("number", "name"), list(enumerate(SOME)))
def test_products_of_some_real_files(tmp_path, number, name):
    suffix = ".fits.fz" if number % 2 else ".fits"
    if not FOLDER.is_dir():
        pytest.skip("DIP_EXTRA_DATA names no folder")
    target = tmp_path / f"out{suffix}"
    restore_frame(str(FOLDER / name), target, CONFIG)
    check(FOLDER / name, target)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_products_of_all_real_files(tmp_path, name):
    target = tmp_path / "out.fits"
    try:
        restore_frame(str(FOLDER / name), target, CONFIG)
    except DipError as error:
        pytest.skip(f"not restored: {error}")
    check(FOLDER / name, target)
    with fits.open(target) as hdus:  # whatever EXTVER the input has
        errors = [hdu.data for hdu in hdus if hdu.name == "DIP_ERR"]
    assert errors
    assert all(np.isfinite(error).any() for error in errors)
