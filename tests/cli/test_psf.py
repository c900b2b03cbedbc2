"""`dip psf`: what it writes is what --psf takes, and it says what it cannot measure."""

import logging
import re
from functools import cache

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.config.task_optics import AskedOptics
from dip_pipeline.errors import ConfigError
from dip_pipeline.frames import open_frame, read_psf
from dip_pipeline.preparing.planning import settle_frame
from dip_pipeline.psf.agreement import beside_stars, warn_of_psf
from dip_pipeline.psf.places import PsfPlaces
from dip_pipeline.restoration.psf import own_psf
from dip_pipeline.simulate import DetectorOptions, MoffatPsf, SceneOptions, draw_scene, observe


@cache
def shot(fwhm_px, kind, side_px):
    options = SceneOptions(kind, shape=(side_px, side_px), seed=3, psf=MoffatPsf(fwhm_px))
    return observe(draw_scene(options), DetectorOptions(defects=False))


@pytest.fixture
def undoubted(monkeypatch):
    """Without the doubt, which takes three measurements more and leaves the PSF as it is."""
    monkeypatch.setattr(own_psf, "_FEWEST_TO_HALVE", 10**6)


def written(path, *, fwhm_px=2.7, kind="crowded", cards=(), side_px=288):
    frame = shot(fwhm_px, kind, side_px)
    header = fits.Header([fits.Card(*card) for card in (*frame.header_cards(), *cards)])
    fits.writeto(path, frame.observed_dn.astype(np.float32), header)
    return path


@pytest.mark.usefixtures("undoubted")
@pytest.mark.parametrize("factor", [1, 2])
def test_a_psf_is_that_of_the_frame_that_it_was_measured_on(dip, tmp_path, caplog, factor):
    frame, psf = written(tmp_path / "m13.fits"), tmp_path / "psf.fits"
    code, out, err = dip("psf", frame, "-o", psf, "--factor", factor)
    assert (code, err, "of the first" in out) == (0, "", False)
    assert float(re.search(r"FWHM ([\d.]+) px", out)[1]) == pytest.approx(2.7, abs=0.05)

    held = read_psf(str(psf))
    assert held.kernel.shape[0] == held.kernel.shape[1]
    task = "deconvolve" if factor == 1 else "super-resolve"
    config = RunConfig().with_overrides(**{"task.name": task, "task.psf": str(psf)})
    settled, noise = settle_frame(open_frame(frame), config)
    asked = AskedOptics.of(config)
    with caplog.at_level(logging.WARNING):
        warn_of_psf(settled, noise, asked)
    assert caplog.messages == []
    found = beside_stars(settled, noise, asked)
    assert found.psf_px == pytest.approx(found.star_px, rel=0.02)
    assert found.misplaced < 0.02


@pytest.mark.usefixtures("undoubted")
def test_of_several_planes_the_first_is_measured_and_that_is_told(dip, tmp_path):
    one = written(tmp_path / "one.fits", side_px=208)
    with fits.open(one) as hdus:
        fits.writeto(tmp_path / "two.fits", np.stack([hdus[0].data] * 2), hdus[0].header)
    code, out, _ = dip("psf", tmp_path / "two.fits", "-o", tmp_path / "psf.fits")
    assert code == 0
    assert "of the first of 2 planes, HDU 0, plane [0]" in out.splitlines()[0]
    assert "names the next" not in out
    assert fits.getheader(tmp_path / "psf.fits")["PSFPLANE"] == "HDU 0, plane [0]"


@pytest.mark.usefixtures("undoubted")
def test_of_several_chips_each_can_be_named(dip, tmp_path):
    chips = [fits.ImageHDU(fits.getdata(written(tmp_path / f"{width_px}.fits", fwhm_px=width_px,
                                                side_px=208)), name="SCI", ver=version)
             for version, width_px in ((1, 2.7), (2, 3.4))]  # fmt: skip
    mosaic, psf = tmp_path / "two chips.fits", tmp_path / "psf.fits"
    header = fits.getheader(tmp_path / "2.7.fits")
    fits.HDUList([fits.PrimaryHDU(header=header), *chips]).writeto(mosaic)
    code, out, err = dip("psf", mosaic, "-o", psf)
    assert (code, err.count(f"{mosaic}, HDU 1 (SCI,1): 7 stars alone")) == (0, 1)
    assert "of the first of 2 planes, HDU 1 (SCI,1)" in out.splitlines()[0]
    assert out.splitlines()[-1].endswith(f"another PSF: '{mosaic}[2]' names the next")
    told = fits.getheader(psf)
    assert (told["PSFPLANE"], told["PSFFRAME"]) == ("HDU 1 (SCI,1)", "two chips.fits")
    code, out, _ = dip("psf", f"{mosaic}[2]", "-o", psf, "--overwrite")
    assert (code, "of the first" in out, "names the next" in out) == (0, False, False)
    told = fits.getheader(psf)
    assert told["PSFFWHM"] == pytest.approx(3.4, rel=0.05)
    assert ("PSFPLANE" in told, told["PSFFRAME"]) == (False, "two chips.fits[2]")
    code, _, err = dip("psf", mosaic, "-o", psf, "--overwrite", "--saturation", 120)
    which = f"of 2 images HDU 1 (SCI,1) was looked at; {mosaic}[2] names the next"
    assert (code, err.count("\n"), which in err) == (1, 1, True)


def test_its_header_says_what_it_was_measured_on(dip, tmp_path):
    frame = written(tmp_path / "étoiles.fits", cards=[("PIXSCALE", 0.4, "")])
    psf = tmp_path / "psf.fits"
    code, _, err = dip("psf", frame, "-o", psf, "--factor", 2)
    assert (code, err) == (0, "")
    header = fits.getheader(psf, checksum=True)
    assert header["PSFFRAME"] == "etoiles.fits"
    assert header["PSFSTARS"] >= 8
    assert header["PSFFWHM"] == pytest.approx(2.7, abs=0.05)
    assert header["PSFFACT"] == 2
    assert header["PIXELSCL"] == pytest.approx(0.2)
    assert 0 < header["PSFDOUBT"] < 0.02
    assert read_psf(str(psf)).scale_arcsec == pytest.approx(0.2)


def test_nothing_is_replaced_unasked(dip, tmp_path):
    frame, psf = written(tmp_path / "m13.fits", side_px=160), tmp_path / "psf.fits"
    psf.write_bytes(b"mine")
    code, _, err = dip("psf", frame, "-o", psf)
    assert code != 0
    assert "--overwrite" in err
    assert psf.read_bytes() == b"mine"
    assert dip("psf", frame, "-o", psf, "--overwrite")[0] == 0
    assert dip("psf", frame, "-o", frame, "--overwrite")[0] != 0


@pytest.mark.usefixtures("undoubted")
def test_undersampled_stars_ask_for_finer_pixels(dip, tmp_path):
    frame = written(tmp_path / "m13.fits", fwhm_px=1.1, side_px=192)
    _, _, coarse = dip("psf", frame, "-o", tmp_path / "psf.fits")
    _, _, finer = dip("psf", frame, "-o", tmp_path / "psf_x2.fits", "--factor", 2)
    assert "super-resolve --factor 2" in coarse
    assert finer == ""


@pytest.mark.usefixtures("undoubted")
def test_pixels_that_are_not_fine_enough_to_undo_it_on_are_told(dip, tmp_path):
    """dip psf --factor 2 wrote, without a word, what dip super-resolve --factor 2 refuses."""
    frame = written(tmp_path / "m13.fits", fwhm_px=0.66, side_px=192)
    told = [
        dip("psf", frame, "-o", tmp_path / f"psf_x{factor}.fits", "--factor", factor)[2]
        for factor in (1, 2, 3)
    ]
    assert "super-resolve --factor 3" in told[0]
    assert "super-resolve --factor 3" in told[1]
    assert told[2] == ""


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("psf.fits", ["--factor", 5], "1 to 4"),
        ("psf.png", [], "ends in .fits"),
        ("psf.fits", ["--saturation", 700], "4 unsaturated ones"),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_line(dip, tmp_path, name, options, words):
    frame = written(tmp_path / "m13.fits", kind="galaxies")
    code, out, err = dip("psf", frame, "-o", tmp_path / name, *options)
    assert code != 0
    assert out == ""
    assert words in err
    assert not (tmp_path / name).exists()


def test_stars_that_noise_hides_are_told_from_stars_of_many_shapes(dip, tmp_path):
    """Of a short exposure of M13 "0 look like stars, and too few agree on a shape" was said."""
    rows, cols = np.mgrid[:160, :160]
    rng = np.random.default_rng(1)
    light = 500 + rng.normal(0, 20, rows.shape)
    for row, col in rng.uniform(20, 140, (12, 2)):
        light += 40 * np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / 30)
    fits.writeto(tmp_path / "short.fits", light.astype(np.float32))
    code, _, err = dip("psf", tmp_path / "short.fits", "-o", tmp_path / "psf.fits", "-q")
    assert code != 0
    assert "nothing that is lonely and of 15 sigma" in err
    assert "bright and not saturated" in err
    assert "agree" not in err


def test_restored_stars_are_not_those_of_the_sky(dip, tmp_path):
    frame = written(tmp_path / "m13.fits", cards=[("DIPRUN", "x", ""), ("DIPTASK", "denoise", "")])
    code, _, err = dip("psf", frame, "-o", tmp_path / "psf.fits")
    assert code != 0
    assert "give the frame that it was made of" in err


@pytest.fixture
def uneven(tmp_path):
    """A frame whose stars are 2.4 px wide in its left half, 3.1 px in the right one."""
    halves = [
        fits.getdata(written(tmp_path / f"{width_px}.fits", fwhm_px=width_px))
        for width_px in (2.4, 3.1)
    ]
    path = tmp_path / "m13.fits"
    fits.writeto(path, np.concatenate(halves, axis=1), fits.getheader(tmp_path / "2.4.fits"))
    return path


@pytest.mark.usefixtures("undoubted")
def test_stars_that_change_over_the_field_are_told(dip, tmp_path, uneven):
    code, _, err = dip("psf", uneven, "-o", tmp_path / "psf.fits")
    assert code == 0
    assert "no one PSF is that of the whole field" in err
    assert "--grid 3" in err
    assert "--at X,Y" in err


@pytest.mark.usefixtures("undoubted")
def test_every_part_of_a_grid_has_the_psf_of_its_own_stars(dip, tmp_path, uneven):
    psfs = tmp_path / "psfs.fits"
    code, out, err = dip("psf", uneven, "-o", psfs, "--grid", 2)
    assert (code, err) == (0, "")
    with fits.open(psfs, checksum=True) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "X1Y1", "X2Y1", "X1Y2", "X2Y2"]
        assert hdus["X2Y1"].header["PSFSECT"] == "[289:576,1:144]"
        for hdu in hdus[1:]:
            width_px = 2.4 if hdu.name.startswith("X1") else 3.1
            assert hdu.header["PSFFWHM"] == pytest.approx(width_px, rel=0.03)
            assert f"[{hdu.name}] {hdu.header['PSFSECT']}" in out
            held = read_psf(f"{psfs}[{hdu.name}]")
            np.testing.assert_allclose(held.kernel, hdu.data, rtol=1e-5)


@pytest.mark.usefixtures("undoubted")
@pytest.mark.parametrize(("x", "width_px"), [(140, 2.4), (430, 3.1)])
def test_a_psf_is_measured_near_a_place(dip, tmp_path, uneven, x, width_px):
    psf = tmp_path / "psf.fits"
    code, out, err = dip("psf", uneven, "-o", psf, "--at", f"{x},145", "--side", 280)
    assert (code, err) == (0, "")
    assert f"of [{max(1, x - 140)}:{x + 139},5:284]" in out
    assert fits.getheader(psf)["PSFFWHM"] == pytest.approx(width_px, rel=0.03)


def test_parts_without_stars_are_named_and_have_no_psf(dip, tmp_path):
    frame = written(tmp_path / "m13.fits")
    with fits.open(frame, mode="update") as hdus:
        hdus[0].data[:144, 144:] = np.random.default_rng(1).normal(200, 10, (144, 144))
    psfs = tmp_path / "psfs.fits"
    code, _, err = dip("psf", frame, "-o", psfs, "--grid", 2)
    assert code == 0
    assert re.search(
        r"in \d of 4 parts too few stars agree on a shape; they have no PSF: .*X2Y1", err
    )
    assert "X2Y1" not in [hdu.name for hdu in fits.open(psfs)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--at", "9"], "X,Y"),
        (["--at", "300,3"], "288 columns"),
        (["--side", 99], "--at X,Y"),
        (["--at", "9,9", "--side", 3], "at least 32"),
        (["--at", "9,9", "--grid", 2], "leave one of them out"),
        (["--grid", 12], "less than 32 px a side"),
        (["--grid", 0], "1 to 16"),
    ],
)
def test_a_place_that_is_none_is_refused_in_a_line(dip, tmp_path, options, words):
    code, out, err = dip("psf", written(tmp_path / "m13.fits"), "-o", tmp_path / "p.fits", *options)
    assert (code, out) == (2, "")
    assert words in err
    assert not (tmp_path / "p.fits").exists()


def test_of_large_parts_the_middle_is_looked_at():
    parts = PsfPlaces(grid=2).parts((8000, 10000))
    assert [part.name for part in parts] == ["X1Y1", "X2Y1", "X1Y2", "X2Y2"]
    assert parts[1].window == (slice(464, 3536), slice(5964, 9036))
    assert parts[2].section == "[965:4036,4465:7536]"


def test_parts_are_large_enough_along_both_axes():
    for shape in ((63, 900), (900, 63)):
        with pytest.raises(ConfigError, match="less than 32 px a side"):
            PsfPlaces(grid=2).parts(shape)
    assert len(PsfPlaces(grid=2).parts((64, 64))) == 4
