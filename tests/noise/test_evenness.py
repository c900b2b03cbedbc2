"""Laws of noise that is not as even as its law says: what is told, and what is not."""

import re

import numpy as np
import pytest
from astropy.io import fits
from scipy.ndimage import convolve

from dip_pipeline.blind.sky import Window
from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frame
from dip_pipeline.noise.evenness import warn_of_uneven_noise
from dip_pipeline.preparing.planning import settle_frame
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sourced
from dip_pipeline.simulate import (
    GALAXY,
    STAR,
    DetectorOptions,
    MoffatPsf,
    Scene,
    SceneOptions,
    draw_scene,
    observe,
    simulate,
)

SHAPE = (256, 256)
CARDS = {"GAIN": 2.0, "RDNOISE": 6.0, "PEDESTAL": 0.0, "BUNIT": "adu"}
WORDS = ("over the frame", "debayered", "whole rows", "whole columns")


@pytest.fixture
def told(tmp_path, caplog):
    """Which warnings of uneven noise a frame has."""

    def look(pixels, error=None, **cards):
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(pixels.astype("f4"), fits.Header(cards), "SCI")]
        hdus += [] if error is None else [fits.ImageHDU(error.astype("f4"), name="ERR")]
        fits.HDUList(hdus).writeto(tmp_path / "frame.fits", overwrite=True)
        caplog.clear()
        settle_frame(open_frame(tmp_path / "frame.fits"), RunConfig())
        return [words for words in WORDS if words in caplog.text]

    return look


@pytest.fixture(scope="module")
def sky():
    """Light of a galaxy field, and a draw of unit noise."""
    scene = draw_scene(SceneOptions("galaxies", shape=SHAPE, seed=3, saturated_star=False))
    return scene.render(), np.random.default_rng(4).standard_normal(SHAPE)


def test_what_is_told_does_not_depend_on_the_threads(caplog, sky):
    light, noise = sky
    uneven = np.where(np.arange(256)[:, None] % 2, 10.0, 5.0) * (1 + np.arange(256) / 256)
    pixels = light + noise * uneven + 4 * np.random.default_rng(1).standard_normal((256, 1))
    windows = [Window.of(part, np.ones(part.shape, bool), None) for part in np.hsplit(pixels, 4)]
    law = NoiseModel(NoiseKind.GAUSSIAN, "given", sigma=Sourced(8.0, "adu", "given"))
    told = []
    for threads in (1, 4):
        caplog.clear()
        warn_of_uneven_noise("a.fits", law, windows, threads)
        told.append(caplog.messages.copy())
    assert len(told[0]) > 1
    assert told[0] == told[1]


@pytest.mark.parametrize("fwhm_px", [1.2, 2.7, 5.0])
@pytest.mark.parametrize("kind", ["crowded", "galaxies", "nebula"])
def test_nothing_is_told_of_frames_that_are_as_their_law_says(told, kind, fwhm_px):
    detector = DetectorOptions(gain_e_per_dn=2.0, read_noise_e=6.0)
    shot = simulate(SceneOptions(kind, shape=SHAPE, seed=5, psf=MoffatPsf(fwhm_px)), detector)
    assert told(shot.observed_dn, **CARDS) == []
    assert told(shot.observed_dn) == []  # estimated


def test_correlated_noise_is_even(told, sky):
    detector = DetectorOptions(defects=False, quantised=False, neighbour_correlation=0.4)
    scene = draw_scene(SceneOptions("galaxies", shape=SHAPE, seed=3, saturated_star=False))
    assert told(observe(scene, detector).observed_dn) == []


def test_a_mosaic_of_several_depths_is_told_of_unless_a_plane_says_so(told, sky):
    light, draw = sky
    times = np.ones(SHAPE)
    times[:128, :128], times[128:, 128:] = 2.0, 0.5
    sigma = 10.0 * times
    assert told(light + sigma * draw) == ["over the frame"]
    assert told(light + sigma * draw, sigma) == []
    assert told(light + sigma * draw, np.full(SHAPE, 40.0)) == ["over the frame"]


def test_it_is_told_of_from_a_third_on_and_how_much_it_is(told, sky, caplog):
    """Against the usual of the frame, whatever a law is off by as a whole."""
    light, draw = sky
    sigma = np.full(SHAPE, 10.0)
    sigma[128:] *= 1.5
    assert told(light + sigma * draw, np.full(SHAPE, 40.0)) == ["over the frame"]
    low, high = map(float, re.search(r"says, ([\d.]+) to ([\d.]+) times", caplog.text).groups())
    assert (low + high) / 2 == pytest.approx(1.0, abs=0.06)
    assert high / low == pytest.approx(1.5, abs=0.15)
    lattice = np.where(np.indices(SHAPE).sum(axis=0) % 2, 1.0, 1.5)
    assert told(light + 10 * lattice * draw, np.full(SHAPE, 10.0)) == ["debayered"]


@pytest.mark.parametrize("corner", [0.3, 0.8])
def test_a_flat_field_that_raised_the_noise_of_dark_corners_is_told_of(told, sky, corner):
    light, draw = sky
    rows, cols = np.indices(SHAPE) / 128 - 1
    lit = 1 - (1 - corner) * (rows**2 + cols**2) / 2
    assert told(light + 10 * draw / lit**0.5) == (["over the frame"] if corner < 0.5 else [])


def test_interpolated_colours_are_told_of(told, sky):
    light, draw = sky
    raw = light + 10 * draw
    green = np.indices(SHAPE).sum(axis=0) % 2 == 0
    four = convolve(raw, np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]]) / 4)
    assert told(np.where(green, raw, four)) == ["debayered"]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("level", [0.25, 0.6])
def test_noise_of_whole_lines_is_told_of_where_it_is_strong(told, sky, axis, level):
    light, draw = sky
    lines = np.expand_dims(np.random.default_rng(6).standard_normal(256), axis)
    found = told(light + 10 * (draw + level * lines), **{**CARDS, "RDNOISE": 1.0})
    assert found == ([["whole columns", "whole rows"][axis]] if level > 0.4 else [])


def stars_alone(side_px, count):
    """A frame of bright stars at any place, and the noise of its sky."""
    rng = np.random.default_rng(count)
    stars = np.zeros(count, STAR)
    stars["row"], stars["col"] = rng.uniform(0, side_px, (2, count))
    stars["flux_dn"] = 10 ** rng.uniform(2.5, 4.5, count)
    options = SceneOptions("crowded", shape=(side_px, side_px), seed=1, saturated_star=False)
    shot = observe(Scene(options, stars, np.zeros(0, GALAXY)), DetectorOptions(defects=False))
    return shot.observed_dn, float(np.median(shot.sigma_true_dn))


@pytest.mark.parametrize("count", [1500, 3000, 6000])
def test_light_of_crowded_stars_is_no_noise_of_lines(told, count):
    assert not {"whole rows", "whole columns"} & set(told(stars_alone(256, count)[0], **CARDS))


def test_noise_of_lines_is_told_of_among_crowded_stars(told):
    pixels, sigma = stars_alone(384, 3000)
    lines = np.random.default_rng(6).standard_normal((384, 1))
    assert "whole rows" in told(pixels + 0.6 * sigma * lines, **CARDS)


def spectrum(level):
    electrons = np.random.default_rng(11).poisson(2 * level)
    return (electrons + np.random.default_rng(12).normal(0, 6, SHAPE)) / 2


def sky_lines():
    """A long slit: lines of the sky from edge to edge."""
    rng, cols = np.random.default_rng(13), np.arange(SHAPE[1])
    lines = [
        h * np.exp(-((cols - col) ** 2) / (2 * 1.1**2))
        for h, col in zip(10 ** rng.uniform(1.5, 3.5, 30), rng.uniform(0, 256, 30), strict=True)
    ]
    return np.tile(50 + np.sum(lines, axis=0), (SHAPE[0], 1))


def orders():
    """An echelle: narrow orders, bent, with gaps between."""
    rows, cols = np.indices(SHAPE)
    away = (rows - 5 * (cols / 128 - 1) ** 2) % 13 - 6.5
    heights = np.random.default_rng(14).uniform(100, 800, 21)[rows // 13]
    return 3 + heights * np.exp(-(away**2) / (2 * 1.2**2))


@pytest.mark.parametrize("level", [sky_lines(), orders()], ids=["sky lines", "orders"])
def test_lines_of_a_spectrum_are_light_and_no_noise_of_lines(told, level):
    pixels = spectrum(level)
    assert not {"whole rows", "whole columns"} & set(told(pixels, **CARDS))
    assert not {"whole rows", "whole columns"} & set(told(pixels))


@pytest.mark.parametrize("power", [0, 1, 2])
def test_noise_of_lines_is_told_of_whatever_its_frequencies(told, sky, power):
    light, draw = sky
    frequency = np.maximum(np.fft.rfftfreq(256), 1 / 256)
    lines = np.fft.rfft(np.random.default_rng(15).standard_normal(256)) * frequency ** (-power / 2)
    lines = np.fft.irfft(lines)
    sharp = np.std(np.diff(lines, 4)) / 70**0.5
    found = told(light + 10 * (draw + 0.6 * lines[:, None] / sharp), **{**CARDS, "RDNOISE": 1.0})
    assert "whole rows" in found


def test_noise_of_lines_is_told_of_where_part_of_each_line_is_not_seen(told, sky):
    """Lines that run into a masked margin are held against each other where both are seen."""
    _, noise = sky
    lines = np.random.default_rng(9).standard_normal((SHAPE[0], 1))
    error = np.full(SHAPE, 5.0)
    error[:, :20] = np.nan
    assert told(100 + 5 * noise, error) == []
    assert told(100 + 5 * (noise + 0.8 * lines), error) == ["whole rows"]
    narrow = (slice(None), slice(0, 64))  # of the stretches one is not seen at all
    assert told((100 + 5 * noise)[narrow], error[narrow]) == []
