import numpy as np
import pytest

from dip_pipeline.errors import SensorError
from dip_pipeline.sensor import (
    NoiseChoice,
    NoiseKind,
    Sensor,
    SensorOverrides,
    Sourced,
    choose_noise,
    estimate_sigma,
    estimated_noise,
)
from dip_pipeline.sensor.reading import read_sensor
from dip_pipeline.simulate import DetectorOptions, SceneOptions, simulate

CARDS = {"GAIN": 2.5, "RDNOISE": 6, "SATURATE": 60000, "SUBSKY": 12.0, "NCOMBINE": 4}
NOBODY = SensorOverrides()


def climb(choice="auto", *, cards=CARDS, unit="adu", overrides=NOBODY, error_plane=False):
    sensor = read_sensor(cards, unit, overrides)
    return choose_noise(NoiseChoice(choice), sensor, unit, overrides, has_error_plane=error_plane)


def test_each_number_says_where_it_came_from():
    sensor = read_sensor(CARDS, "adu", NOBODY)
    assert sensor.gain_e_per_dn == Sourced(2.5, "e/DN", "card GAIN")
    assert sensor.read_noise_e == Sourced(6.0, "e", "card RDNOISE")
    assert sensor.saturation_dn == Sourced(60000.0, "DN", "card SATURATE")
    assert sensor.subtracted_sky_dn == Sourced(12.0, "DN", "card SUBSKY")
    assert sensor.n_combined == Sourced(4.0, "", "card NCOMBINE")
    assert str(sensor.gain_e_per_dn) == "2.5 e/DN (card GAIN)"
    assert str(sensor.n_combined) == "4 (card NCOMBINE)"


def test_the_command_line_outranks_the_header():
    given = SensorOverrides(
        gain_e_per_dn=1.5, read_noise_e=0.0, pedestal_dn=300.0, saturation_dn=5e4
    )
    cards = {**CARDS, "PEDESTAL": 100.0}
    sensor = read_sensor(cards, "adu", given, overscan_level_dn=250.0)
    numbers = [sensor.gain_e_per_dn, sensor.read_noise_e, sensor.pedestal_dn, sensor.saturation_dn]
    assert [number.value for number in numbers] == [1.5, 0.0, 300.0, 5e4]
    assert all(number.source.startswith("command line: --") for number in numbers)


def test_the_pedestal_is_a_card_then_the_overscan_then_nothing():
    cards = {**CARDS, "PEDESTAL": 100.0}
    assert read_sensor(cards, "adu", NOBODY, overscan_level_dn=250.0).pedestal_dn.value == 100.0
    measured = read_sensor(CARDS, "adu", NOBODY, overscan_level_dn=250.0).pedestal_dn
    assert (measured.value, "overscan" in measured.source) == (250.0, True)
    absent = read_sensor(CARDS, "adu", NOBODY).pedestal_dn
    assert (absent.value, "taken as removed" in absent.source) == (0.0, True)


@pytest.mark.parametrize("unit", ["electron", "ELECTRONS", "e-", " photon "])
def test_pixels_in_electrons_have_a_gain_of_one(unit):
    """The card of such a frame tells of the raw data: HST keeps CCDGAIN in calibrated frames."""
    for cards in ({}, {"CCDGAIN": 2.0}, {"GAIN": 1.5}):
        gain = read_sensor(cards, unit, NOBODY).gain_e_per_dn
        assert gain.value == 1.0
        assert gain.source == f"BUNIT {unit}"
    given = read_sensor({}, unit, SensorOverrides(gain_e_per_dn=3.0)).gain_e_per_dn
    assert given.value == 3.0


@pytest.mark.parametrize(
    ("cards", "value"),
    [
        ({"GAIN": 0}, None),
        ({"GAIN": -1.5}, None),
        ({"GAIN": 350}, None),  # a camera setting
        ({"GAIN": "1.5 "}, 1.5),  # as some write numbers
        ({"GAIN": "high"}, None),
        ({"GAIN": True}, None),
        ({"GAIN": float("nan")}, None),
        ({"GAIN": 100, "EGAIN": 0.8}, 0.8),
        ({"EGAIN": 0.0, "GAIN": 1.7}, 1.7),
    ],
)
def test_a_card_that_cannot_be_a_gain_is_passed_over(cards, value):
    gain = read_sensor(cards, "adu", NOBODY).gain_e_per_dn
    assert (None if gain is None else gain.value) == value


@pytest.mark.parametrize(
    "cards", [{"RDNOISE": -1.0}, {"RDNOISE": 5000.0}, {"NCOMBINE": 0}, {"SATURATE": -1}]
)
def test_a_card_that_cannot_be_true_is_passed_over(cards):
    sensor = read_sensor(cards, "adu", NOBODY)
    assert [sensor.read_noise_e, sensor.n_combined, sensor.saturation_dn] == [None, None, None]


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"sigma_dn": 0.0}, "--sigma"),
        ({"sigma_dn": float("nan")}, "--sigma"),
        ({"gain_e_per_dn": -1.0}, "--gain"),
        ({"gain_e_per_dn": float("inf")}, "--gain"),
        ({"read_noise_e": -0.1}, "--read-noise"),
        ({"pedestal_dn": float("nan")}, "--pedestal"),
        ({"pedestal_dn": float("inf")}, "--pedestal"),
        ({"saturation_dn": float("nan")}, "--saturation"),
    ],
)
def test_an_override_that_cannot_be_true_is_refused(given, option):
    with pytest.raises(SensorError, match=f"^{option} .*need"):
        read_sensor(CARDS, "adu", SensorOverrides(**given))


def test_the_ladder_is_climbed_from_the_top():
    sigma = SensorOverrides(sigma_dn=3.0)
    gain = SensorOverrides(gain_e_per_dn=1.0)
    top = climb(overrides=sigma, error_plane=True)
    assert (top.kind, top.sigma) == (NoiseKind.GAUSSIAN, Sourced(3.0, "adu", "--sigma"))
    second = climb(overrides=gain, error_plane=True)
    assert second.kind is NoiseKind.POISSON_GAUSSIAN
    third = climb(error_plane=True)
    assert (third.kind, third.from_error_plane) == (NoiseKind.GAUSSIAN, True)
    fourth = climb()
    assert (fourth.kind, fourth.rung) == (
        NoiseKind.POISSON_GAUSSIAN,
        "gain and read noise of the header",
    )
    assert climb(cards={}) is None


def test_what_is_asked_for_is_done():
    assert climb("none", error_plane=True).kind is NoiseKind.NONE
    assert climb("gaussian", error_plane=True).from_error_plane
    assert climb("gaussian") is None  # the caller estimates sigma
    assert climb("poisson-gaussian", error_plane=True).kind is NoiseKind.POISSON_GAUSSIAN


def test_a_sigma_that_is_given_counts_though_a_gain_is_given_too():
    given = SensorOverrides(sigma_dn=3.0, gain_e_per_dn=1.5)
    assert climb(overrides=given).sigma == Sourced(3.0, "adu", "--sigma")
    assert climb("poisson-gaussian", overrides=given).kind is NoiseKind.POISSON_GAUSSIAN


def test_a_read_noise_of_zero_is_a_number():
    assert climb(cards={"GAIN": 2.0, "RDNOISE": 0.0}).kind is NoiseKind.POISSON_GAUSSIAN


def test_pixels_that_do_not_count_electrons_have_no_poisson_term():
    assert climb(unit="MJy/sr") is None
    with pytest.raises(SensorError, match=r"MJy/sr.*needs pixels in DN or electrons.*--sigma"):
        climb("poisson-gaussian", unit="MJy/sr")


@pytest.mark.parametrize(
    ("cards", "named", "unnamed"),
    [
        ({}, ["--gain", "--read-noise"], []),
        ({"GAIN": 2.0}, ["--read-noise"], ["--gain"]),
        ({"RDNOISE": 5.0}, ["--gain"], ["--read-noise"]),
    ],
)
def test_missing_numbers_are_named_with_their_options(cards, named, unnamed):
    with pytest.raises(SensorError) as caught:
        climb("poisson-gaussian", cards=cards)
    message = str(caught.value)
    assert "\n" not in message
    assert all(option in message for option in named)
    assert not any(option in message for option in unnamed)


def test_the_scatter_of_white_noise_is_found():
    pixels = np.random.default_rng(1).normal(1000.0, 7.0, (512, 512)).astype(np.float32)
    assert estimate_sigma(pixels) == pytest.approx(7.0, rel=0.01)


def test_the_scatter_of_the_sky_is_found_among_stars():
    detector = DetectorOptions(defects=False, quantised=False)
    scene = SceneOptions("crowded", shape=(256, 256), seed=4)
    simulation = simulate(scene, detector)
    sky = simulation.signal_dn < 0.3 * simulation.sigma_true_dn
    truth = float(np.median(simulation.sigma_true_dn[sky]))
    assert estimate_sigma(simulation.observed_dn) == pytest.approx(truth, rel=0.05)
    sparse = np.random.default_rng(2).normal(0.0, 10.0, (256, 256)).astype(np.float32)
    sparse[::16, ::16] += 5000.0
    sparse[3, :] = np.nan
    assert estimate_sigma(sparse) == pytest.approx(10.0, rel=0.03 + 0.05)


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (3, 3), (2, 1)])
def test_too_few_pixels_have_no_scatter(shape):
    assert not estimate_sigma(np.full(shape, np.nan, dtype=np.float32)) > 0


def test_an_estimated_sigma_says_so():
    noise = estimated_noise(4.0, Sensor(), "")
    assert (noise.kind, noise.rung) == (NoiseKind.GAUSSIAN, "estimated from the frame")
    assert noise.sigma == Sourced(4.0, "DN", "estimated from the frame's pixel-to-pixel scatter")


@pytest.mark.parametrize("unit", ["adu", "adus", "du", "DN/pix", "adu/s", "DN s-1", "electron/s"])
def test_pixels_that_are_no_counts_need_a_gain_for_the_law_of_counts(unit):
    with pytest.raises(SensorError, match="gain"):
        climb("poisson", cards={}, unit=unit)
    assert climb("poisson", cards={}, unit=unit, overrides=SensorOverrides(gain_e_per_dn=2.0))


@pytest.mark.parametrize("unit", ["count", "ct / pix", "electron", "photon", ""])
def test_counts_are_counts(unit):
    assert climb("poisson", cards={}, unit=unit).sensor.gain_e_per_dn.value == 1.0


def test_a_rate_of_electrons_has_the_exposure_time_for_its_gain():
    noise = climb("poisson", cards={"EXPTIME": 50.0}, unit="electron/s")
    assert noise.sensor.gain_e_per_dn.value == 50.0


def test_saturated_pixels_are_left_alone_without_a_noise_law_too():
    assert climb("none").sensor.saturation_dn == Sourced(60000.0, "DN", "card SATURATE")
