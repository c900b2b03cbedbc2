"""Pictures without a noise law: drawn on finer pixels from a code, from file to file."""

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.flags import PixelFlag
from dip_pipeline.frames import read_provenance
from dip_pipeline.verifying import verify_product
from tests.cli.conftest import dip, log_as_it_was  # noqa: F401  (fixtures)

SHAPE = (24, 28)


@pytest.fixture
def picture(tmp_path):
    """Bars of 8 bits, a pixel of which is bad; their coarse pixels and the finer ones."""
    rows, cols = np.mgrid[: 2 * SHAPE[0], : 2 * SHAPE[1]]
    finer = np.where(np.sin((cols + 0.4 * rows) * 2 * np.pi / 16) > 0, 210.0, 40.0)
    coarse = finer.reshape(SHAPE[0], 2, SHAPE[1], 2).mean(axis=(1, 3)).round().astype("f4")
    path = tmp_path / "bars.fits"
    fits.PrimaryHDU(coarse).writeto(path)
    bad = np.zeros(SHAPE, np.uint8)
    bad[7, 9] = 1
    with fits.open(path, mode="append") as hdus:
        hdus.append(fits.ImageHDU(bad, name="DQ"))
    return path, finer


def test_a_picture_is_drawn_on_finer_pixels(tmp_path, picture, dip):  # noqa: F811
    source, truth = picture
    target = tmp_path / "finer.fits"
    options = ("--input", "code", "--noise", "none", "--steps", 60, "--threads-per-fit", 1)
    code, _, err = dip("super-resolve", source, "-o", target, "--device", "cpu", *options)
    assert code == 0, err
    with fits.open(target) as new:
        science, flags = new[0].data, new["DIP_FLAG"].data
        assert science.shape == truth.shape
        assert np.isfinite(science).all()
        # Without a unit pixels hold counts: the finer ones share those of the coarse one.
        assert np.sqrt(np.mean((4 * science - truth) ** 2)) < 0.5 * truth.std()
        assert np.argwhere(flags & PixelFlag.FILLED).tolist() == [
            [14, 18],
            [14, 19],
            [15, 18],
            [15, 19],
        ]
        assert np.isnan(new["DIP_ERR"].data).all()
        assert new[0].header["DIPINPUT"] == "code"
        assert new[0].header["DIPSCOPE"] == "tile"
    assert read_provenance(target) is not None
    assert verify_product(target, against=source).ok


def test_a_picture_of_one_grey_is_drawn_as_that_grey(tmp_path, dip):  # noqa: F811
    """Such are the borders of many: no range to be scaled by."""
    source, target = tmp_path / "grey.fits", tmp_path / "finer.fits"
    fits.PrimaryHDU(np.full(SHAPE, 90.0, "f4"), fits.Header({"BUNIT": "MJy/sr"})).writeto(source)
    options = ("--input", "code", "--noise", "none", "--steps", 40, "--threads-per-fit", 1)
    code, _, err = dip("super-resolve", source, "-o", target, "--device", "cpu", *options)
    assert code == 0, err
    assert np.abs(fits.getdata(target) - 90.0).max() < 1.0
