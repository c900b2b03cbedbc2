"""`dip denoise --guide` from the command line, with few steps."""

import shutil

import numpy as np
import pytest
from astropy.io import fits
from scipy.ndimage import gaussian_filter

from dip_pipeline.frames import read_account

FAST = ("--steps", 1, "--tile", 64, "--overlap", 8)


@pytest.fixture
def guide(small_frame):
    """The same sky, wider, under noise of its own; neither file has world coordinates."""
    path = small_frame.with_name("deep.fits")
    with fits.open(small_frame) as hdus:
        image = gaussian_filter(hdus["SCI"].data.astype(np.float32), 1.5)
    noise = np.random.default_rng(6).normal(0, 1, image.shape).astype(np.float32)
    fits.writeto(path, 3 * (image + noise) + 10)
    return path


def test_the_frame_is_no_guide_of_itself(dip, small_frame):
    target = small_frame.with_name("out.fits")
    code, _, err = dip("denoise", small_frame, "-o", target, "--guide", small_frame, *FAST)
    assert code == 1
    assert "guide 1: has the noise of the frame itself" in err
    assert "Traceback" not in err
    assert not target.exists()


def test_a_guide_is_taken_and_told_of(dip, small_frame, guide):
    target = small_frame.with_name("out.fits")
    code, out, err = dip("denoise", small_frame, "-o", target, "--guide", guide, *FAST)
    assert code == 0, err
    assert "taken pixel by pixel" in out + err
    with fits.open(target) as hdus:
        assert np.isfinite(hdus["SCI"].data).all()
        assert hdus["SCI"].header["DIPNGUID"] == 1
        assert "Denoised, guided by other images, by" in str(hdus["SCI"].header["HISTORY"])
    assert dip("verify", target, "--against", small_frame)[0] == 0
    assert "file: guide-1" in dip("provenance", target)[1]
    document = str(read_account(target).document)
    assert "guide-1" in document
    assert "deep.fits" in document

    moved = guide.with_name("moved.fits")
    shutil.move(guide, moved)
    code, out, _ = dip("denoise", small_frame, "-o", target, "--guide", moved, *FAST)
    assert code == 0
    assert "already done" in out  # its content counts, not its name
    code, _, err = dip("denoise", small_frame, "-o", target, *FAST)
    assert code == 1
    assert "--overwrite" in err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--input", "code"), "--guide needs --input image"),
        (("--guide", "no.fits"), "no.fits: no such file"),
    ],
)
def test_what_a_guide_cannot_be_is_one_clear_line(dip, small_frame, guide, more, words):
    target = small_frame.with_name("out.fits")
    code, _, err = dip("denoise", small_frame, "-o", target, "--guide", guide, *more, *FAST)
    assert code in (1, 2)
    assert words in err
    assert "Traceback" not in err
    assert not target.exists()


def test_a_prior_of_other_frames_takes_no_guide(dip, small_frame, guide):
    prior = small_frame.with_name("night.prior")
    assert dip("fit", small_frame, "-o", prior, "--steps", 1)[0] == 0
    target = small_frame.with_name("out.fits")
    given = ("--guide", guide, "--prior", prior)
    code, _, err = dip("denoise", small_frame, "-o", target, *given, *FAST)
    assert code == 1
    assert "fitted without guides" in err
