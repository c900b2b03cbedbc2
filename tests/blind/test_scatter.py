"""Laws of the estimated noise law: sky, gain and dark level as the detector has them."""

import numpy as np
import pytest

from dip_pipeline.blind.correlation import measure_correlation
from dip_pipeline.blind.estimate import estimate_noise
from dip_pipeline.blind.scatter import expected_detail, measure_scatter, scatter_over_law
from dip_pipeline.blind.sky import Window, find_sky
from dip_pipeline.sensor import NoiseKind, Sensor, Sourced
from dip_pipeline.sensor.noise_sigma import sigma_at
from dip_pipeline.simulate import DetectorOptions, MoffatPsf


def law_of(window, sensor=None, unit="adu", **more):
    sky = measure_correlation([find_sky(window)])
    return estimate_noise([window], sky, sky.kernel, sensor or Sensor(), unit, **more)


@pytest.mark.parametrize(
    "detector",
    [
        DetectorOptions(),
        DetectorOptions(gain_e_per_dn=0.8, read_noise_e=10.0, pedestal_dn=1000.0),
        DetectorOptions(neighbour_correlation=0.4),
    ],
    ids=["usual", "low gain, pedestal", "correlated"],
)
def test_the_noise_of_the_sky_is_found(level, shoot, detector):
    typical = float(np.median(level)) + detector.pedestal_dn
    truth = float(detector.sigma_dn(np.array([typical]))[0])
    assert sigma_at(law_of(shoot(level, detector)), typical) == pytest.approx(truth, rel=0.03)


@pytest.mark.parametrize("gain", [0.8, 2.0, 5.0])
def test_the_gain_is_found_from_scatter_against_level(level, shoot, gain):
    """The line's own error is 7 to 17 % on so small a frame; none may be off by thrice that."""
    noise = law_of(shoot(level, DetectorOptions(gain_e_per_dn=gain)))
    assert noise.kind is NoiseKind.POISSON_GAUSSIAN
    assert noise.rung == "estimated from the frame"
    found = noise.sensor
    assert found.gain_e_per_dn.value == pytest.approx(gain, rel=0.35)
    numbers = (found.gain_e_per_dn, found.read_noise_e, found.pedestal_dn)
    assert all("estimated" in number.source for number in numbers)


def test_the_gain_is_unbiased(level, shoot):
    lines = [measure_scatter([shoot(level, seed=seed)]) for seed in range(12)]
    ratios = np.array([2.0 * line.slope for line in lines])
    errors = np.array([2.0 * line.slope_error for line in lines])
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.1)
    assert 0.5 < np.std(ratios) / np.mean(errors) < 2.2


def test_the_gain_of_a_small_frame_of_a_few_bright_stars_is_unbiased(shoot):
    """Nearly all of the light of its brightest bin is in a few pixels."""
    offsets = np.indices((128, 128), dtype=np.float64)
    ratios = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        level = np.full((128, 128), 200.0)
        for number in range(16):
            row, col = np.array(divmod(number, 4)) * 32 + 16 + rng.uniform(-3, 3, 2)
            light = MoffatPsf(2.7).density(offsets[0] - row, offsets[1] - col)
            level += 10 ** rng.uniform(3.0, 5.7) * light
        ratios.append(2.0 * measure_scatter([shoot(level, seed=seed)]).slope)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.2)


def test_a_gain_of_the_header_is_believed_where_the_frame_does_not_gainsay_it(level, shoot):
    window = shoot(level)
    named = Sensor(gain_e_per_dn=Sourced(2.0, "e/DN", "card GAIN"))
    assert law_of(window, named).sensor.gain_e_per_dn == named.gain_e_per_dn
    wrong = Sensor(gain_e_per_dn=Sourced(20.0, "e/DN", "card GAIN"))
    assert law_of(window, wrong).sensor.gain_e_per_dn.value == pytest.approx(2.0, rel=0.35)


def plain_noise(sigma=7.0, shape=(256, 256)):
    pixels = np.random.default_rng(1).normal(1000.0, sigma, shape).astype(np.float32)
    return Window.of(pixels, np.ones(shape, dtype=bool))


@pytest.mark.parametrize("side", [18, 40, 256])
def test_noise_that_does_not_grow_with_light_is_gaussian(side):
    noise = law_of(plain_noise(shape=(side, side)))
    assert noise.kind is NoiseKind.GAUSSIAN
    assert noise.sigma.value == pytest.approx(7.0, rel=0.015 * 256 / side)


def test_one_sigma_is_given_where_it_is_asked_for(level, shoot):
    noise = law_of(shoot(level), one_sigma=True)
    assert noise.kind is NoiseKind.GAUSSIAN
    assert noise.sigma.value > 0


def test_another_unit_gets_a_gain_of_its_own(level, shoot):
    window = shoot(level)
    noise = law_of(Window(1e-19 * window.pixels, window.good), unit="erg/s")
    here = law_of(window).sensor.gain_e_per_dn
    assert noise.sensor.gain_e_per_dn.value == pytest.approx(1e19 * here.value, rel=1e-6)
    assert noise.sensor.gain_e_per_dn.unit == "e per erg/s"


def test_clipped_stars_do_not_bend_the_line(level, shoot):
    clipped = shoot(level, DetectorOptions(saturation_dn=900.0, quantised=False))
    line = measure_scatter([Window(clipped.pixels, np.ones(level.shape, dtype=bool))])
    assert 1 / line.slope == pytest.approx(2.0, rel=0.5)


@pytest.mark.parametrize("pixels", [np.full((64, 64), 5.0), np.full((64, 64), np.nan)])
def test_a_frame_that_does_not_scatter_has_no_law(pixels):
    window = Window.of(pixels.astype(np.float32), np.isfinite(pixels))
    assert law_of(window) is None


def test_the_dark_half_decides_how_a_law_agrees():
    """Bright pixels scatter by their unequal response, too."""
    rng = np.random.default_rng(2)
    level = np.where(np.arange(200) < 120, 100.0, 1e5) + np.zeros((200, 1))
    sigma = np.sqrt(level)
    observed = level + np.where(level > 1e4, 5.0, 1.0) * sigma * rng.standard_normal(level.shape)
    window = Window.of(observed.astype(np.float32), np.ones(level.shape, bool))
    ratio, dark = scatter_over_law([window], lambda _, taps: expected_detail(sigma, taps))
    assert ratio == pytest.approx(1.0, abs=0.03)
    assert dark == pytest.approx(100.0, rel=0.05)


def test_too_few_pixels_say_nothing_of_a_law():
    window = Window.of(np.ones((12, 12), np.float32) * 3, np.ones((12, 12), bool))
    assert np.isnan(scatter_over_law([window], lambda *_: np.ones((12, 12)))).all()


def test_a_sky_that_was_taken_away_is_in_the_level_of_the_estimate():
    """The darkest level stands for what a card tells: it is not to count twice."""
    rng = np.random.default_rng(5)
    light = 50.0 + 2000.0 * np.exp(-(((np.indices((256, 256)) - 128) / 60.0) ** 2).sum(axis=0))
    observed = (rng.poisson(2 * light) / 2 + rng.normal(0, 3, light.shape)).astype(np.float32)
    window = Window.of(observed, np.ones(light.shape, bool))
    sensor = Sensor(subtracted_sky_dn=Sourced(40.0, "DN", "card SUBSKY"))
    told, plain = law_of(window, sensor), law_of(window)
    assert told.kind is NoiseKind.POISSON_GAUSSIAN
    assert told.sensor.subtracted_sky_dn is None
    assert sigma_at(told, 60.0) == sigma_at(plain, 60.0)


@pytest.mark.parametrize("error", [0.0, -1.0, np.inf, np.nan])
def test_pixels_without_an_error_are_not_looked_at(error):
    errors = np.ones((20, 20), np.float32)
    errors[3, 4] = error
    window = Window.of(
        np.random.default_rng(1).normal(0, 1, (20, 20)).astype("f4"),
        np.ones((20, 20), bool),
        errors,
    )
    assert np.argwhere(~window.good).tolist() == [[3, 4]]
    assert window.error[3, 4] == 1.0


def test_the_mean_of_exposures_is_as_calm_as_it_is():
    """Of four exposures the gain of one is believed, and their noise is half as strong."""
    rng = np.random.default_rng(6)
    light = 50.0 + 2000.0 * np.exp(-(((np.indices((256, 256)) - 128) / 60.0) ** 2).sum(axis=0))
    counts = rng.poisson(4 * 2 * light) + 2 * rng.normal(0, 6, light.shape)
    window = Window.of((counts / 8).astype(np.float32), np.ones(light.shape, bool))
    sensor = Sensor(
        gain_e_per_dn=Sourced(2.0, "e/DN", "card GAIN"),
        n_combined=Sourced(4.0, "", "card NCOMBINE"),
    )
    told = law_of(window, sensor)
    assert told.sensor.gain_e_per_dn == sensor.gain_e_per_dn
    for level in (60.0, 1000.0):
        truth = ((level / 2 + 9) / 4) ** 0.5
        assert sigma_at(told, level) == pytest.approx(truth, rel=0.03)
