"""A right law of the noise is kept whatever fills the frame; a wrong one is told for what it is."""

import logging
import re
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from scipy.ndimage import convolve, gaussian_filter

from dip_pipeline.blind.correlation import SkyNoise
from dip_pipeline.blind.scatter import DETAIL
from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frame
from dip_pipeline.noise.agreement import Agreement
from dip_pipeline.preparing.planning import resolve_noise, settle_frame
from dip_pipeline.sensor import NO_PEDESTAL, NoiseKind, NoiseModel, Sensor, Sourced
from dip_pipeline.sensor.noise_kernel import WHITE, NoiseKernel
from dip_pipeline.sensor.noise_sigma import sigma_at
from dip_pipeline.simulate import DetectorOptions, SceneOptions, draw_scene, observe

GAIN, READ_NOISE_E, SKY_DN = 2.0, 6.0, 100.0
SENSOR = {"GAIN": GAIN, "RDNOISE": READ_NOISE_E, "BUNIT": "adu"}


def galaxy(side, brightest_dn):
    """Fill a frame: nowhere is there empty sky at the frame's median."""
    rows, cols = np.indices((side, side)) - side / 2
    return SKY_DN + brightest_dn * np.exp(-np.hypot(rows, cols) / (side / 4))


def unresolved(side, fwhm_px, seed=0, share=0.3):
    """Fill a frame with stars too close to be told apart."""
    rng = np.random.default_rng(seed)
    light = (rng.random((side, side)) < share) * rng.exponential(300.0, (side, side))
    return SKY_DN + gaussian_filter(light, fwhm_px / 2.355, mode="wrap")


FULL = {
    "a faint galaxy": galaxy(512, 1000.0),
    "a galaxy": galaxy(512, 2e4),
    "a bright galaxy": galaxy(512, 1e5),
    "a galaxy in a small frame": galaxy(256, 2e4),
    "stars of 2.5 px": unresolved(256, 2.5),
    "stars of 3.5 px": unresolved(256, 3.5),
    "few of 3.5 px": unresolved(256, 3.5, share=0.1),
}


def shot(level_dn, seed=1):
    rng = np.random.default_rng(seed)
    electrons = rng.poisson(level_dn * GAIN) + rng.normal(0, READ_NOISE_E, level_dn.shape)
    return electrons / GAIN


def true_sigma(level_dn):
    return np.sqrt(level_dn / GAIN + (READ_NOISE_E / GAIN) ** 2)


@pytest.fixture
def noise_of(tmp_path):
    def found(pixels, error=None, correlation="auto", **cards):
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(pixels.astype("f4"), fits.Header(cards), "SCI")]
        if error is not None:
            hdus.append(fits.ImageHDU(error.astype("f4"), name="ERR"))
        path = tmp_path / "frame.fits"
        fits.HDUList(hdus).writeto(path, overwrite=True)
        return resolve_noise(
            open_frame(str(path)), RunConfig().with_overrides(**{"noise.correlation": correlation})
        )

    return found


@pytest.mark.parametrize("name", FULL)
def test_a_right_law_is_kept_in_a_frame_full_of_light(name, noise_of):
    level = FULL[name]
    noise = noise_of(shot(level), **SENSOR)
    assert noise.rung == "gain and read noise of the header"
    for quantile in (0.02, 0.5, 0.98):
        at = float(np.quantile(level, quantile))
        assert sigma_at(noise, at) == pytest.approx(true_sigma(at), rel=0.05)
    assert noise.correlation.is_white


@pytest.mark.parametrize("name", FULL)
def test_so_is_a_right_error_plane(name, noise_of):
    level = FULL[name]
    assert noise_of(shot(level), true_sigma(level)).correlation.is_white


@pytest.mark.parametrize(("name", "told"), [("a galaxy", False), ("stars of 2.5 px", True)])
def test_light_that_looks_like_noise_is_told(name, told, noise_of, caplog):
    with caplog.at_level(logging.WARNING):
        noise_of(shot(FULL[name]), **SENSOR)
    assert ("taken as light" in caplog.text) is told
    assert "pedestal" not in caplog.text


@pytest.mark.parametrize("name", sorted(set(FULL) - {"few of 3.5 px"}))  # that one is ambiguous
def test_a_bias_that_nobody_names_is_found_under_it(name, noise_of):
    bias_dn = 300.0
    level = FULL[name]
    noise = noise_of(shot(level) + bias_dn, **SENSOR)
    for quantile in (0.1, 0.9):
        at = float(np.quantile(level, quantile))
        assert sigma_at(noise, at + bias_dn) == pytest.approx(true_sigma(at), rel=0.08)
    (guess,) = [guess for guess in noise.sensor.guesses if "pedestal" in guess]
    assert guess.partition("taken ")[2] in noise.sensor.pedestal_dn.source


@pytest.mark.parametrize("kind", ["crowded", "galaxies"])
@pytest.mark.parametrize("stacked", [4, 16])
def test_a_mean_that_does_not_say_so_is_no_bias(kind, stacked, noise_of, caplog):
    """Its scatter is explained by a bias at the sky, and by nothing but the gain under light."""
    scene = draw_scene(SceneOptions(kind, shape=(384, 384), seed=4, saturated_star=False))
    alike = DetectorOptions(
        defects=False, quantised=False, gain_e_per_dn=GAIN * stacked, read_noise_e=6 * stacked**0.5
    )
    frame = observe(scene, alike)
    with caplog.at_level(logging.WARNING):
        noise = noise_of(frame.observed_dn, **SENSOR)
    bright = float(np.quantile(frame.truth_dn, 0.998))
    true = float(np.median(frame.sigma_true_dn[np.abs(frame.truth_dn - bright) < 0.1 * bright]))
    assert sigma_at(noise, bright) == pytest.approx(true, rel=0.25)
    assert "NOISE NOT KNOWN" in caplog.text


def test_a_gain_card_far_too_large_is_no_sky_that_was_taken_away(noise_of, caplog):
    """Its scatter is explained by such a sky, and by nothing but the gain under light."""
    scene = draw_scene(SceneOptions("crowded", shape=(256, 256), seed=4, saturated_star=False))
    true = DetectorOptions(defects=False, quantised=False, gain_e_per_dn=GAIN / 6, read_noise_e=2)
    frame = observe(scene, true)
    with caplog.at_level(logging.WARNING):
        noise = noise_of(frame.observed_dn, **SENSOR)
    assert "times as fast as" in caplog.text
    bright = float(np.quantile(frame.truth_dn, 0.998))
    near = np.abs(frame.truth_dn - bright) < 0.1 * bright
    sigma = float(np.median(frame.sigma_true_dn[near]))
    assert sigma_at(noise, bright) == pytest.approx(sigma, rel=0.25)


@pytest.mark.parametrize("apart_px", [9, 13, 17])
def test_narrow_orders_and_the_gaps_between_them_keep_their_law(apart_px, noise_of):
    """Light of the orders that a smoothed level has in the gaps is none that is noisy there."""
    rows, cols = np.indices((160, 160))
    from_order = (rows - 4 * ((cols - 80) / 80) ** 2) % apart_px - apart_px / 2
    heights = np.random.default_rng(7).uniform(100, 800, 20)[rows // apart_px]
    level = 2.0 + heights * np.exp(-(from_order**2) / (2 * 1.2**2))
    electrons = np.random.default_rng(8).poisson(level * GAIN)
    pixels = (electrons + np.random.default_rng(9).normal(0, 3.0, level.shape)) / GAIN
    noise = noise_of(pixels, **SENSOR | {"RDNOISE": 3.0, "PEDESTAL": 0.0})
    assert noise.rung == "gain and read noise of the header"
    too_strong = noise_of(pixels, **SENSOR | {"RDNOISE": 9.0, "PEDESTAL": 0.0})
    assert too_strong.rung == "estimated from the frame"


def test_correlated_noise_stays_correlated(noise_of):
    scene = draw_scene(SceneOptions("crowded", shape=(384, 384), seed=4, saturated_star=False))
    frame = observe(scene, DetectorOptions(defects=False, neighbour_correlation=0.4))
    noise = noise_of(frame.observed_dn, **SENSOR)
    assert noise.correlation.neighbours == pytest.approx((0.4, 0.4), abs=0.05)


def test_what_is_asked_for_is_not_held_against_light(noise_of):
    noise = noise_of(shot(FULL["stars of 2.5 px"]), correlation="0.3", **SENSOR)
    assert noise.correlation.neighbours == pytest.approx((0.3, 0.3), abs=0.01)


@pytest.mark.parametrize(
    ("cards", "pedestal_dn"), [({}, 300.0), ({"GAIN": 0.7}, 0.0)], ids=["a bias", "a wrong gain"]
)
def test_faint_structure_of_a_nebula_is_no_correlation(cards, pedestal_dn, noise_of):
    scene = draw_scene(SceneOptions("nebula", shape=(160, 160), seed=3, saturated_star=False))
    frame = observe(scene, DetectorOptions(defects=False, pedestal_dn=pedestal_dn))
    assert noise_of(frame.observed_dn, **{**SENSOR, **cards}).correlation.is_white


@pytest.mark.parametrize(
    ("name", "told"), [("stars of 2.5 px", True), ("a galaxy in a small frame", False)]
)
def test_where_no_law_is_known_light_is_told_to_look_like_noise(name, told, noise_of, caplog):
    with caplog.at_level(logging.WARNING):
        noise = noise_of(shot(FULL[name]), BUNIT="adu")
    assert noise.rung == "estimated from the frame"
    assert ("--noise-correlation white" in caplog.text) is told


def test_too_little_sky_does_not_make_white_noise_of_a_correlated_one(noise_of):
    """A plane too large is brought to the sky, and not to what scatters from pixel to pixel."""
    scene = draw_scene(SceneOptions("galaxies", shape=(80, 80), seed=4, saturated_star=False))
    detector = DetectorOptions(defects=False, quantised=False, neighbour_correlation=0.4)
    frame = observe(scene, detector)
    noise = noise_of(frame.observed_dn, 1.15 * frame.sigma_true_dn, BUNIT="adu")
    factor = float(re.search(r"scaled by ([\d.]+)", noise.rung)[1])
    assert factor == pytest.approx(1 / 1.15, rel=0.04)


@pytest.mark.parametrize("factor", [1e6, 1e15, 1e30])
def test_a_law_of_another_unit_is_not_believed(factor, noise_of, caplog):
    """Beside its sigma all noise looks like structure: nothing was left to refute it by."""
    pixels = shot(np.full((256, 256), SKY_DN)) * factor
    noise = noise_of(pixels, **SENSOR)
    assert "NOISE NOT KNOWN: its sky scatters" in caplog.text
    expected = true_sigma(SKY_DN) * factor
    assert sigma_at(noise, SKY_DN * factor) == pytest.approx(expected, rel=0.03)


def agreement(ratio, **changes):
    """A law of gain 2 and read noise 6, at a level of 100 whose pedestal nobody names."""
    sensor = Sensor(
        gain_e_per_dn=Sourced(2.0, "e/DN", "card GAIN"),
        read_noise_e=Sourced(6.0, "e", "card RDNOISE"),
        pedestal_dn=Sourced(0.0, "DN", f"{NO_PEDESTAL} as removed"),
    )
    correlation = changes.pop("correlation", WHITE)
    noise = NoiseModel(
        *(NoiseKind.POISSON_GAUSSIAN, "single cards"),
        sensor=replace(sensor, **changes),
        correlation=correlation,
    )
    return Agreement(noise, ratio, 100.0, ratio, SkyNoise(correlation, ratio, 100.0))


@pytest.mark.parametrize(
    ("ratio", "agrees"), [(0.9, False), (0.95, True), (1.1, True), (1.15, False), (np.nan, True)]
)
def test_a_law_is_believed_within_what_right_ones_show(ratio, agrees):
    assert agreement(ratio).agrees is agrees


def test_the_level_without_light_is_found_where_nobody_says_it():
    """At 100 DN this law says 7.68: of what scatters so 50 DN are photons, and 9 reading."""
    sensor = agreement(0.8).with_level_of_sky().sensor
    photons_dn = ((0.8 * 59**0.5) ** 2 - 9) * 2
    assert sensor.pedestal_dn.value == pytest.approx(100 - photons_dn, abs=0.5)
    assert sensor.subtracted_sky_dn is None
    lost = agreement(1.5).with_level_of_sky().sensor
    assert lost.pedestal_dn.value == 0
    assert lost.subtracted_sky_dn.value == pytest.approx(((1.5**2 * 59) - 9) * 2 - 100, abs=3)


@pytest.mark.parametrize(
    ("ratio", "changes"),
    [
        (0.3, {}),  # less than reading alone
        (0.8, {"correlation": NoiseKernel.from_neighbour(0.3, "given")}),  # of resampled pixels
        (0.8, {"subtracted_sky_dn": Sourced(40.0, "DN", "card SUBSKY")}),
        (0.8, {"pedestal_dn": Sourced(0.0, "DN", "card PEDESTAL")}),
    ],
)
def test_a_level_that_is_said_or_cannot_be_is_not_looked_for(ratio, changes):
    assert agreement(ratio, **changes).with_level_of_sky() is None


@pytest.mark.parametrize("correlation", [0.0, 0.25, 0.4])
@pytest.mark.parametrize("factor", [0.8, 1.0, 1.4, 2.0])
def test_where_there_is_no_sky_the_pixels_tell_resampling_from_a_plane_too_large(
    tmp_path, correlation, factor
):
    """Spectra: lines everywhere. As white noise of that plane it came back inverted."""
    rows, cols = np.indices((160, 200))
    lines = 300.0 * np.random.default_rng(2).random(40)
    spectrum = gaussian_filter(np.repeat(lines, 5), 2.0, mode="wrap")
    root = np.array(NoiseKernel.from_neighbour(correlation, "true").root)
    noise = convolve(np.random.default_rng(3).normal(0, 10.0, rows.shape), root, mode="wrap")
    planes = {"SCI": 50 + spectrum[cols] + noise, "ERR": np.full(rows.shape, 10.0 * factor)}
    hdus = [fits.ImageHDU(plane.astype("f4"), name=name) for name, plane in planes.items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "spectra.fits")
    settled, law = settle_frame(open_frame(tmp_path / "spectra.fits"), RunConfig())
    told = float(settled.read(slice(None), slice(None)).error[80, 100]) / 10
    passed = law.correlation.passed(DETAIL) ** 0.5 * told
    true = NoiseKernel.from_neighbour(correlation, "true").passed(DETAIL) ** 0.5
    assert passed < 1.25 * true or factor < 1  # at the finest there is no more noise than there is
    if factor >= 1:
        assert law.correlation.neighbours == pytest.approx([correlation] * 2, abs=0.12)
        assert told == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("correlation", [0.0, 0.3])
@pytest.mark.parametrize("told_gain", [GAIN, 0.4 * GAIN])
def test_cards_are_held_against_pixels_where_there_is_no_sky(tmp_path, correlation, told_gain):
    """Resampled ones keep the law of their cards; a gain that is too small gives way."""
    spectrum = gaussian_filter(np.repeat(3e3 * np.random.default_rng(2).random(40), 5), 2.0)
    level = SKY_DN + np.tile(spectrum, (160, 1))
    root = np.array(NoiseKernel.from_neighbour(correlation, "true").root)
    noise = convolve(np.random.default_rng(3).normal(size=level.shape), root, mode="wrap")
    cards = SENSOR | {"GAIN": told_gain, "PEDESTAL": 0.0}
    path = tmp_path / "spectra.fits"
    fits.writeto(path, (level + true_sigma(level) * noise).astype("f4"), fits.Header(cards))
    law = resolve_noise(open_frame(path), RunConfig())
    assert law.rung.startswith("estimated") == (told_gain < GAIN)
    assert law.correlation.neighbours == pytest.approx([correlation] * 2, abs=0.12)
    at = float(np.median(level))
    assert sigma_at(law, at) == pytest.approx(float(true_sigma(np.array(at))), rel=0.25)
