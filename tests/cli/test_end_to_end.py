"""Laws of the whole command on a small frame, with few steps."""

import numpy as np
import pytest
from astropy.io import fits

FAST = ("--steps", 1, "--tile", 40, "--overlap", 8)


def test_the_first_time_restores_and_the_second_time_is_already_done(dip, small_frame):
    target = small_frame.with_name("out.fits")
    code, out, err = dip("denoise", small_frame, "-o", target, *FAST)
    assert code == 0, err
    assert "restored" in out
    assert "4 of 4 tiles" in err
    assert not target.with_name("out.fits.dip").exists()
    with fits.open(target, checksum=True) as hdus:
        assert hdus["SCI"].data.shape == (64, 64)
        assert np.isfinite(hdus["SCI"].data).all()
        assert hdus["SCI"].header["GAIN"] == 2.0
        assert hdus["DIP_ERR"].data.shape == hdus["DIP_FLAG"].data.shape == (64, 64)
        assert "denoise" in bytes(hdus["DIP_PROV"].data[0][0], "utf-8").decode()
    product = target.read_bytes()

    code, out, _ = dip("denoise", small_frame, "-o", target, *FAST)
    assert code == 0
    assert "already done" in out
    assert target.read_bytes() == product

    code, _, err = dip("denoise", small_frame, "-o", target, *FAST, "--seed", 1)
    assert code == 1
    assert "--overwrite" in err
    assert target.read_bytes() == product


def test_a_prior_is_fitted_once_and_restores_many(dip, small_frame):
    prior = small_frame.with_name("night.prior")
    code, out, err = dip("fit", small_frame, "-o", prior, "--steps", 20, "--effort", "fast")
    assert code == 0, err
    assert "fitted to 1 frame in" in out
    assert "step 40 of 40" in err
    before = prior.read_bytes()
    code, out, _ = dip("fit", small_frame, "-o", prior, "--steps", 20, "--effort", "fast")
    assert (code, out) == (0, f"{prior}: already done\n")

    folder = small_frame.with_name("out")
    other = small_frame.with_name("other.fits")
    other.write_bytes(small_frame.read_bytes())
    code, out, err = dip("denoise", small_frame, other, "-o", folder, "--prior", prior)
    assert code == 0, err
    assert "2 frames: 2 restored" in out
    assert "fit: step" not in err
    assert prior.read_bytes() == before
    code, out, _ = dip("show", small_frame, "--prior", prior)
    assert "no fit" in out


def test_show_says_where_every_number_came_from_and_restores_nothing(dip, small_frame):
    code, out, err = dip("show", small_frame, "--gain", "1.5", "--tile", 40, "--overlap", 8)
    assert code == 0, err
    assert "64 rows x 64 columns" in out
    assert "1.5 e/DN (command line: --gain)" in out
    assert "card RDNOISE" in out
    assert "4 tiles" in out
    assert [path.name for path in small_frame.parent.iterdir()] == [small_frame.name]


def test_show_tells_of_the_first_of_exposures_that_are_to_be_combined(dip, small_frame):
    others = [small_frame.with_name(f"{name}.fits") for name in "bc"]
    for other in others:
        other.write_bytes(small_frame.read_bytes())
    code, out, err = dip("show", small_frame, *others, "--task", "combine")
    assert code == 0, err
    assert out.count("  planes:") == 1
    assert "small.fits" in out
    code, out, err = dip("show", small_frame, "--task", "combine")
    assert code == 2
    assert "give two exposures" in err
    code, out, err = dip("show", small_frame, *others, "--each")
    assert code == 0, err
    assert out.count("  planes:") == 3
    asked = small_frame.with_name("night.toml")
    asked.write_text('[task]\nname = "combine"\n')
    code, out, err = dip("show", small_frame, *others, "--config", asked)
    assert code == 0, err
    assert out.count("  planes:") == 1


def test_show_tells_of_every_frame_that_it_can_read(dip, small_frame):
    code, out, err = dip("show", small_frame.with_name("no.fits"), small_frame)
    assert code == 1
    assert "no.fits" in err
    assert "small.fits" in out


@pytest.mark.parametrize("options", [["--noise", "none"], ["--sigma", "3", "--noise", "gaussian"]])
def test_show_takes_the_options_of_denoise(dip, small_frame, options):
    assert dip("show", small_frame, *options)[0] == 0
