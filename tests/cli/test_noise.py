"""`dip noise`: what it writes is the noise, and what errors of photometry are made of."""

import re

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from photutils.aperture import CircularAperture

from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frame
from dip_pipeline.noise_planes import SigmaPlane, sum_factor
from dip_pipeline.preparing.planning import settle_frame
from dip_pipeline.sensor import NoiseKind, NoiseModel
from dip_pipeline.sensor.noise_kernel import NoiseKernel
from dip_pipeline.simulate import DetectorOptions, SceneOptions, draw_scene, observe

GAIN_E_PER_DN, READ_NOISE_E = 2.0, 6.0
WORLD = {
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 20.0,
    "CRPIX1": 50.0, "CRPIX2": 50.0, "CDELT1": -1e-4, "CDELT2": 1e-4,
}  # fmt: skip


def observed(kind="crowded", seed=3, **options):
    scene = draw_scene(SceneOptions(kind, shape=(288, 288), seed=seed, saturated_star=False))
    return observe(scene, DetectorOptions(defects=False, **options))


def written(path, frame, cards=()):
    header = fits.Header([fits.Card(*card) for card in (*frame.header_cards(), *cards)])
    fits.writeto(path, frame.observed_dn.astype(np.float32), header)
    return path


def test_a_name_that_makes_it_the_noise_plane_of_the_frame_is_told_of(dip, tmp_path):
    source = tmp_path / "m13.fits"
    fits.writeto(source, np.random.default_rng(1).normal(100, 5, (48, 48)).astype("f4"))
    (tmp_path / "apart").mkdir()
    for name, is_told in (("m13_noise", True), ("m13_sigmas", False), ("apart/m13_noise", False)):
        code, _, err = dip("noise", source, "-o", tmp_path / f"{name}.fits", "--sigma", "5")
        assert code == 0
        assert ("by its name" in err) == is_told
        (tmp_path / f"{name}.fits").unlink()


def test_it_is_the_noise_that_is_there(dip, tmp_path):
    frame = observed()
    code, out, err = dip("noise", written(tmp_path / "m13.fits", frame), "-o", tmp_path / "n.fits")
    assert (code, err) == (0, "")
    assert "gain 2 e/DN (card GAIN)" in out
    sigma = fits.getdata(tmp_path / "n.fits")
    scores = (frame.observed_dn - frame.truth_dn) / sigma
    assert sigma.dtype == np.dtype(">f4")
    assert np.sqrt(np.mean(scores**2)) == pytest.approx(1.0, abs=0.01)
    lit = frame.truth_dn > 1.5 * np.median(frame.truth_dn)
    assert lit.sum() > 500
    assert np.sqrt(np.mean(scores[lit] ** 2)) == pytest.approx(1.0, abs=0.07)
    # Noise that happens to be high has no larger sigma: else means weighted with it are too low.
    dark = frame.truth_dn < 1.05 * np.median(frame.truth_dn)
    high = dark & (frame.observed_dn > frame.truth_dn)
    assert sigma[high].mean() == pytest.approx(sigma[dark & ~high].mean(), rel=1e-3)


def test_errors_of_apertures_are_made_of_it(dip, tmp_path):
    frame = observed("galaxies")
    dip("noise", written(tmp_path / "m13.fits", frame), "-o", tmp_path / "n.fits")
    sigma = fits.getdata(tmp_path / "n.fits").astype(float)
    places = np.random.default_rng(0).uniform(10, 278, (2000, 2))
    aperture = CircularAperture(places, 4.0)
    off, error = aperture.do_photometry(
        frame.observed_dn.astype(float) - frame.truth_dn, error=sigma
    )
    assert np.quantile(np.abs(off / error), 0.683) == pytest.approx(1.0, abs=0.06)


def test_a_frames_own_error_plane_comes_back(dip, tmp_path):
    rng = np.random.default_rng(2)
    sigma = np.linspace(2, 5, 96 * 96, dtype=np.float32).reshape(96, 96)
    science = (100 + sigma * rng.standard_normal(sigma.shape)).astype(np.float32)
    science[7, 8] = np.nan
    flags = np.zeros(sigma.shape, np.uint8)
    flags[30, 40] = 1
    header = fits.Header({"BUNIT": "adu", **WORLD})
    hdus = [fits.ImageHDU(science, header, "SCI"), fits.ImageHDU(sigma, name="ERR"),
            fits.ImageHDU(flags, name="DQ")]  # fmt: skip
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "a.fits")
    assert dip("noise", tmp_path / "a.fits", "-o", tmp_path / "n.fits")[0] == 0
    found, cards = fits.getdata(tmp_path / "n.fits", header=True)
    unknown = np.isnan(found)
    assert {*zip(*np.nonzero(unknown), strict=True)} == {(7, 8), (30, 40)}
    assert np.array_equal(found[~unknown], sigma[~unknown])
    assert (cards["BUNIT"], cards["NOISELAW"], cards["NOISESUM"]) == ("adu", "gaussian", 1.0)
    assert WCS(cards).pixel_to_world(3, 4).ra.deg == pytest.approx(
        WCS(header).pixel_to_world(3, 4).ra.deg
    )


def test_saturated_pixels_have_none(dip, tmp_path):
    frame = observed(seed=4)
    pixels = frame.observed_dn.copy()
    pixels[20:22, 30:33] = 5e4
    header = fits.Header([fits.Card(*card) for card in frame.header_cards()])
    fits.writeto(tmp_path / "m13.fits", pixels.astype(np.float32), header)
    dip("noise", tmp_path / "m13.fits", "-o", tmp_path / "n.fits", "--saturation", 45000)
    assert np.argwhere(np.isnan(fits.getdata(tmp_path / "n.fits"))).tolist() == [
        [row, col] for row in (20, 21) for col in (30, 31, 32)
    ]


def test_every_image_of_a_file_has_one(dip, tmp_path):
    rng = np.random.default_rng(5)
    chips = [
        fits.ImageHDU(
            rng.normal(200, sigma, (80, 80 + 8 * n)).astype(np.float32), name="SCI", ver=n
        )
        for n, sigma in ((1, 4.0), (2, 9.0))
    ]
    chips.append(fits.ImageHDU(np.full((80, 80), 3.0, np.float32), name="SCI", ver=3))
    fits.HDUList([fits.PrimaryHDU(), *chips]).writeto(tmp_path / "mosaic.fits")
    code, out, _ = dip("noise", tmp_path / "mosaic.fits", "-o", tmp_path / "n.fits")
    assert code == 0
    assert "HDU 3 (SCI,3): nothing known: " in out
    with fits.open(tmp_path / "n.fits", checksum=True) as held:
        assert [(hdu.name, hdu.ver, hdu.shape) for hdu in held[1:]] == [
            ("NOISE", 1, (80, 88)), ("NOISE", 2, (80, 96))
        ]  # fmt: skip
        assert np.median(held[1].data) == pytest.approx(4.0, rel=0.05)
        assert np.median(held[2].data) == pytest.approx(9.0, rel=0.05)


def test_of_a_cube_what_all_planes_agree_on_is_said(dip, tmp_path):
    rng = np.random.default_rng(8)
    sigmas = np.array([2.0, 5.0, 11.0])
    cube = rng.normal(100, sigmas[:, None, None], (3, 240, 248)).astype(np.float32)
    fits.writeto(tmp_path / "cube.fits", cube)
    assert dip("noise", tmp_path / "cube.fits", "-o", tmp_path / "n.fits")[0] == 0
    planes, cards = fits.getdata(tmp_path / "n.fits", header=True)
    assert np.median(planes, axis=(1, 2)) == pytest.approx(sigmas, rel=0.08)
    assert cards["NOISEOF"] == "HDU 0"
    assert (cards["NOISELAW"], cards["NOISESUM"]) == ("gaussian", 1.0)
    assert "NOISESRC" in cards
    cube[1, :, 1:] = 100 + 0.7 * ((cube[1, :, 1:] - 100) + (cube[1, :, :-1] - 100))
    fits.writeto(tmp_path / "cube2.fits", cube)
    assert dip("noise", tmp_path / "cube2.fits", "-o", tmp_path / "n2.fits")[0] == 0
    assert "NOISESUM" not in fits.getheader(tmp_path / "n2.fits")


def test_a_restoration_takes_it_back(dip, tmp_path):
    frame = observed("galaxies", seed=6)
    source = written(tmp_path / "m13.fits", frame)
    dip("noise", source, "-o", tmp_path / "n.fits")
    code, out, err = dip("noise", source, "-o", tmp_path / "n2.fits", "--err", tmp_path / "n.fits")
    assert (code, err) == (0, "")
    assert "error plane of the file" in out
    assert np.array_equal(fits.getdata(tmp_path / "n.fits"), fits.getdata(tmp_path / "n2.fits"))


@pytest.mark.parametrize(("neighbours", "factor"), [(0.0, 1.0), (0.4, 1.89)])
def test_sums_of_correlated_noise_scatter_more(neighbours, factor):
    kernel = NoiseKernel.from_neighbour(neighbours, "given")
    told = sum_factor(NoiseModel(NoiseKind.GAUSSIAN, "given", correlation=kernel))
    noise = np.random.default_rng(7).standard_normal((1024, 1024))
    root = np.array(kernel.root)
    transform = np.fft.rfft2(root, noise.shape)
    noise = np.fft.irfft2(np.fft.rfft2(noise) * transform, noise.shape)
    sums = noise.reshape(32, 32, 32, 32).sum(axis=(1, 3))
    assert told == pytest.approx(factor, abs=0.01)
    assert sums.std() / 32 == pytest.approx(told, rel=0.07)


def test_what_cannot_be_is_said_in_a_line(dip, tmp_path):
    source = written(tmp_path / "m13.fits", observed())
    for extra, words in (
        (["-o", tmp_path / "n.fits", "--noise", "none"], "no strength is known"),
        (["-o", tmp_path / "n.zarr"], "ends in .fits"),
        (["-o", source, "--overwrite"], "m13.fits"),
    ):
        code, _, err = dip("noise", source, *extra)
        assert code != 0
        assert words in err
        assert "Traceback" not in err
    assert not (tmp_path / "n.fits").exists()


def test_tables_of_distortions_that_it_does_not_hold_are_not_asked_for(dip, tmp_path):
    science = np.random.default_rng(9).normal(100, 4, (64, 72)).astype(np.float32)
    header = fits.Header({**WORLD, "CPDIS1": "LOOKUP", "DP1": "EXTVER: 1", "D2IMDIS1": "LOOKUP"})
    table = fits.ImageHDU(np.zeros((4, 4), np.float32), name="WCSDVARR")
    fits.HDUList([fits.PrimaryHDU(science, header), table]).writeto(tmp_path / "a.fits")
    assert dip("noise", tmp_path / "a.fits", "-o", tmp_path / "n.fits", "--sci", "0")[0] == 0
    held = fits.getheader(tmp_path / "n.fits")
    assert not {"CPDIS1", "DP1", "D2IMDIS1", "DP1.EXTVER"} & {*held}
    assert WCS(held).pixel_to_world(49, 49).ra.deg == pytest.approx(10.0)


def test_the_noise_of_a_part_does_not_depend_on_what_else_is_read(tmp_path):
    settled, noise = settle_frame(
        open_frame(written(tmp_path / "m13.fits", observed())), RunConfig()
    )
    plane = SigmaPlane(settled, noise)
    whole = plane[:, :]
    for rows, cols in (((0, 40), (250, 288)), ((100, 101), (0, 288)), ((31, 77), (50, 51))):
        part = (slice(*rows), slice(*cols))
        np.testing.assert_array_equal(plane[part], whole[part])


def test_a_plane_of_a_cube_without_noise_to_know_keeps_its_place(dip, tmp_path):
    rng = np.random.default_rng(8)
    cube = rng.normal(100, 3, (3, 96, 104)).astype(np.float32)
    cube[1] = np.nan
    cube[2] += 6 * rng.standard_normal(cube[2].shape).astype(np.float32)
    fits.writeto(tmp_path / "cube.fits", cube)
    code, out, _ = dip("noise", tmp_path / "cube.fits", "-o", tmp_path / "n.fits")
    assert code == 0
    assert "nothing known" in out
    planes = fits.getdata(tmp_path / "n.fits")
    assert np.isnan(planes[1]).all()
    assert np.median(planes[0]) == pytest.approx(3.0, rel=0.08)
    assert np.median(planes[2]) == pytest.approx(45**0.5, rel=0.08)


def test_a_file_of_which_nothing_can_be_known_has_no_noise(dip, tmp_path):
    fits.writeto(tmp_path / "cube.fits", np.full((2, 64, 64), np.nan, np.float32))
    code, _, err = dip("noise", tmp_path / "cube.fits", "-o", tmp_path / "n.fits")
    assert code != 0
    assert "no plane has a noise to know" in err
    assert not (tmp_path / "n.fits").exists()


def test_what_is_left_in_a_restored_frame_is_no_noise(dip, tmp_path):
    header = fits.Header({"DIPRUN": "x", "DIPTASK": "denoise", "BUNIT": "adu"})
    fits.writeto(tmp_path / "out.fits", np.ones((64, 64), np.float32), header)
    code, _, err = dip("noise", tmp_path / "out.fits", "-o", tmp_path / "n.fits")
    assert code != 0
    assert "give the frame that it was made of" in err


def test_its_header_and_its_line_say_what_it_holds(dip, tmp_path):
    rows = np.arange(192.0)[:, None]
    sigma = np.broadcast_to(2 + rows / 32, (192, 224)).astype(np.float32)
    drawn = 100 + sigma * np.random.default_rng(1).standard_normal(sigma.shape)
    planes = [("SCI", drawn), ("ERR", sigma)]
    hdus = [fits.ImageHDU(plane.astype(np.float32), name=name) for name, plane in planes]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "a.fits")
    code, out, _ = dip(
        "noise", tmp_path / "a.fits", "-o", tmp_path / "n.fits", "--noise-correlation", 0.4
    )
    assert code == 0
    assert float(re.search(r"median ([\d.]+)", out)[1]) == pytest.approx(4.98, abs=0.1)
    assert fits.getheader(tmp_path / "n.fits")["NOISECOR"] == pytest.approx(0.4, abs=0.01)
