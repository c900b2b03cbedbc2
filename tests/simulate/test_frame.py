"""What the detector makes of a scene: noise, defects, header."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from scipy.signal import correlate2d

from dip_pipeline.errors import ConfigError
from dip_pipeline.sensor import SensorOverrides
from dip_pipeline.sensor.reading import read_sensor
from dip_pipeline.simulate import (
    DataQuality,
    DetectorOptions,
    SceneKind,
    SceneOptions,
    draw_scene,
    noise_kernel,
    observe,
    simulate,
)

SCENE = SceneOptions("crowded", shape=(144, 128), seed=2)
CLEAN = DetectorOptions(defects=False, quantised=False)


@pytest.fixture(scope="module")
def scene():
    return draw_scene(SCENE)


@pytest.fixture(scope="module")
def frame(scene):
    return observe(scene)


@pytest.mark.parametrize("correlation", [0.0, 0.4])
def test_the_variance_of_the_noise_is_the_stated_sigma_squared(scene, correlation):
    squares = []
    for seed in range(6):
        detector = DetectorOptions(
            defects=False, quantised=False, neighbour_correlation=correlation, seed=seed
        )
        shot = observe(scene, detector)
        ratio = ((shot.observed_dn - shot.truth_dn) / shot.sigma_true_dn)[~shot.saturated]
        squares.append(np.mean(ratio**2))
        assert abs(ratio.mean()) < 0.03
    assert np.mean(squares) == pytest.approx(1.0, abs=0.015)


def test_the_noise_grows_with_the_light_as_the_gain_says(scene):
    shots = [
        observe(scene, DetectorOptions(defects=False, quantised=False, seed=s)) for s in range(12)
    ]
    scatter = np.var([shot.observed_dn for shot in shots], axis=0, ddof=1)
    stated = shots[0].sigma_true_dn ** 2
    bright = (shots[0].signal_dn > 500) & ~shots[0].saturated
    assert bright.sum() > 100
    assert np.mean(scatter[bright] / stated[bright]) == pytest.approx(1.0, abs=0.08)


def test_correlated_noise_has_the_asked_neighbour_correlation(scene):
    detector = DetectorOptions(defects=False, quantised=False, neighbour_correlation=0.4)
    shot = observe(scene, detector)
    unit = (shot.observed_dn - shot.truth_dn) / shot.sigma_true_dn
    unit[shot.saturated] = 0
    assert np.mean(unit[1:] * unit[:-1]) == pytest.approx(0.4, abs=0.03)
    assert np.mean(unit[:, 1:] * unit[:, :-1]) == pytest.approx(0.4, abs=0.03)
    assert np.mean(unit[1:, 1:] * unit[:-1, :-1]) == pytest.approx(0.16, abs=0.03)


def test_the_noise_kernel_keeps_the_variance():
    assert np.sum(noise_kernel(0.4) ** 2) == pytest.approx(1.0)


@pytest.mark.parametrize("correlation", [0.1, 0.4, 0.7])
def test_the_noise_kernel_correlates_neighbours_as_asked(correlation):
    kernel = noise_kernel(correlation)
    covariance = correlate2d(kernel, kernel)
    assert covariance[2, 2:4] == pytest.approx([1.0, correlation])
    assert covariance[2:4, 2] == pytest.approx([1.0, correlation])


def test_without_correlation_the_noise_kernel_is_a_single_pixel():
    assert np.count_nonzero(noise_kernel(0.0)) == 1


@pytest.mark.parametrize("kind", list(SceneKind))
def test_the_same_seed_gives_the_same_pixels(kind):
    options = SceneOptions(kind, shape=(64, 80), seed=9)
    one, same = simulate(options), simulate(options)
    for name in ("observed_dn", "truth_dn", "sigma_true_dn", "flags"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))


def test_another_detector_seed_gives_other_noise_on_the_same_truth(scene):
    one, other = (observe(scene, DetectorOptions(seed=seed)) for seed in (1, 2))
    np.testing.assert_array_equal(one.truth_dn, other.truth_dn)
    assert not np.array_equal(one.observed_dn, other.observed_dn)


def test_every_defect_is_there_and_flagged(frame):
    found = np.bitwise_or.reduce(frame.flags.ravel())
    assert found == sum(DataQuality)
    assert frame.masked.mean() < 0.08


def test_pixels_without_a_flag_hold_nothing_but_light_and_noise(frame):
    ratio = ((frame.observed_dn - frame.truth_dn) / frame.sigma_true_dn)[~frame.masked]
    assert np.abs(ratio).max() < 6.5
    assert ratio.std() == pytest.approx(1.0, abs=0.02)


def test_saturated_pixels_are_clipped_and_their_truth_is_not(frame):
    assert (frame.observed_dn[frame.saturated] == 60000).all()
    assert frame.truth_dn[frame.saturated].max() > 60000
    assert (frame.observed_dn <= 60000).all()


def test_quantised_pixels_are_unsigned_16_bit_integers(frame):
    np.testing.assert_array_equal(frame.observed_dn, frame.observed_dn.astype(np.uint16))


def test_a_pedestal_lifts_the_level_and_not_the_noise(scene):
    lifted = DetectorOptions(defects=False, quantised=False, pedestal_dn=1000.0)
    plain, raised = observe(scene, CLEAN), observe(scene, lifted)
    np.testing.assert_allclose(raised.truth_dn - plain.truth_dn, 1000.0, rtol=1e-4)
    np.testing.assert_allclose(raised.sigma_true_dn, plain.sigma_true_dn)
    below = ~raised.saturated & ~plain.saturated
    change = (raised.observed_dn - plain.observed_dn)[below]
    np.testing.assert_allclose(change, 1000.0, atol=0.1)


def test_a_frame_without_defects_has_only_saturation_flags(scene):
    assert set(np.unique(observe(scene, CLEAN).flags)) <= {0, int(DataQuality.SATURATED)}


def test_the_header_tells_the_sensor_the_truth(frame):
    cards = {keyword: value for keyword, value, _ in frame.header_cards()}
    sensor = read_sensor(cards, str(cards["BUNIT"]), SensorOverrides())
    assert sensor.gain_e_per_dn is not None
    assert sensor.gain_e_per_dn.value == frame.detector.gain_e_per_dn
    assert sensor.read_noise_e is not None
    assert sensor.read_noise_e.value == frame.detector.read_noise_e
    assert sensor.saturation_dn is not None
    assert sensor.saturation_dn.value == frame.detector.saturation_dn


def test_the_header_makes_a_valid_fits_header_with_world_coordinates(frame):
    header = fits.Header([fits.Card(*card) for card in frame.header_cards()])
    for card in header.cards:
        card.verify("exception")
    world = WCS(header)
    ra, dec = world.pixel_to_world_values((128 - 1) / 2, (144 - 1) / 2)
    assert (ra, dec) == pytest.approx((279.1, 33.03))
    scales = np.sqrt(np.abs(np.linalg.det(world.pixel_scale_matrix))) * 3600
    assert scales == pytest.approx(0.4)


@pytest.mark.parametrize(
    "wrong",
    [{"gain_e_per_dn": 0.0}, {"read_noise_e": -1.0}, {"neighbour_correlation": 0.9}],
    ids=["gain", "read noise", "correlation"],
)
def test_impossible_detectors_are_refused_with_one_line(wrong):
    with pytest.raises(ConfigError) as caught:
        DetectorOptions(**wrong)
    assert "\n" not in str(caught.value)
