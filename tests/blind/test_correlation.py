"""Laws of measured correlation: white noise is white, and light is not taken for noise."""

import numpy as np
import pytest
from scipy import ndimage

from dip_pipeline.blind.correlation import measure_correlation
from dip_pipeline.blind.sky import Window, clipped_sigma, find_sky, quantum_of
from dip_pipeline.simulate import DetectorOptions

CORRELATED = DetectorOptions(neighbour_correlation=0.4)


def measured(window):
    return measure_correlation([find_sky(window)])


@pytest.mark.parametrize("seed", [1, 2])
def test_white_noise_under_any_sky_is_found_to_be_exactly_white(level, shoot, seed):
    found = measured(shoot(level, seed=seed))
    assert found.kernel.is_white
    assert found.kernel.source == "measured on the sky"


def test_the_correlation_of_the_noise_is_found_under_any_sky(level, shoot):
    found = measured(shoot(level, CORRELATED))
    assert found.kernel.neighbours == pytest.approx((0.4, 0.4), abs=0.035)


def test_the_scatter_of_correlated_sky_is_found(level, shoot):
    window = shoot(level, CORRELATED)
    truth = np.sqrt(np.mean(CORRELATED.sigma_dn(level)[find_sky(window).free] ** 2))
    assert measured(window).sigma == pytest.approx(truth, rel=0.03)


def noise(shape=(320, 320), seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def test_smooth_noise_has_little_at_high_frequencies():
    impulse = np.zeros((64, 64))
    impulse[0, 0] = 1.0
    spectrum = np.abs(np.fft.fft2(ndimage.gaussian_filter(impulse, 0.85, mode="wrap"))) ** 2
    faint = spectrum / spectrum.mean() < 0.05  # 0.015 in the mean
    told = []
    for seed in range(5):
        found = look(ndimage.gaussian_filter(noise((256, 256), seed), 0.85, mode="wrap"))
        told.append((np.abs(np.fft.fft2(np.array(found.kernel.root), (64, 64))) ** 2)[faint])
    assert np.mean(told) < 0.045


def look(pixels, error=None):
    good = np.ones(pixels.shape, dtype=bool)
    return measure_correlation([find_sky(Window.of(pixels.astype(np.float32), good, error))])


def test_a_frame_shifted_along_rows_is_correlated_along_rows_only():
    shifted = ndimage.convolve1d(noise(), [0.5, 0.5], axis=1) * np.sqrt(2)
    column, row = look(shifted).kernel.neighbours
    assert row == pytest.approx(0.5, abs=0.04)
    assert column == pytest.approx(0.0, abs=0.03)


def test_noise_is_not_said_to_hang_together_farther_than_it_is_seen_to():
    """What lags beyond show by chance would be ripples of the whole spectrum."""
    shifted = ndimage.convolve1d(noise(), [0.5, 0.5], axis=1) * np.sqrt(2)
    kernel = look(shifted).kernel
    middle = len(kernel.correlation) // 2
    far = np.ones(kernel.correlation.shape, bool)
    far[middle - 2 : middle + 3, middle - 2 : middle + 3] = False
    assert np.abs(kernel.correlation[far]).max(initial=0.0) < 0.005


def test_white_noise_is_not_called_correlated_where_little_sky_is_seen():
    """Of 60 draws 2 are; 26 where any correlation of a standard error counts."""
    good = np.zeros((160, 160), bool)
    good[:, np.arange(160) % 32 < 10] = True
    windows = [Window.of(noise(good.shape, seed).astype(np.float32), good) for seed in range(20)]
    found = [measured(window).kernel for window in windows]
    assert {kernel.source for kernel in found} == {"measured on the sky"}
    assert sum(not kernel.is_white for kernel in found) <= 3


def test_faint_correlation_is_found_where_much_sky_is_seen():
    faint = ndimage.convolve1d(noise(), [1.0, 0.1], axis=1)
    assert look(faint).kernel.neighbours == pytest.approx((0.0, 0.1 / 1.01), abs=0.03)


def test_negative_correlation_alone_is_found_too():
    difference = ndimage.convolve1d(noise(), [-0.2, 1.0], axis=0)
    assert look(difference).kernel.neighbours == pytest.approx((-0.2 / 1.04, 0.0), abs=0.04)


@pytest.mark.parametrize(("correlation", "found"), [(-0.042, True), (0.042, False)])
def test_faint_correlation_is_believed_where_it_is_none_that_light_makes(correlation, found):
    """Of pixels two columns apart, as of a readout in two halves."""
    far = ndimage.convolve1d(noise((640, 640)), [1.0, 0.0, correlation], axis=1)
    assert look(far).kernel.is_white is not found


def test_negative_correlation_is_found_too():
    sharp = ndimage.convolve1d(noise(), [-0.3, 1.0, -0.3], axis=0)
    column, _ = look(sharp).kernel.neighbours
    assert column == pytest.approx(-0.6 / 1.18, abs=0.04)


def test_where_an_error_plane_tells_of_uneven_noise_the_correlation_is_that_of_its_units():
    error = np.linspace(1.0, 20.0, 320)[None, :] * np.ones((320, 1))
    smooth = ndimage.convolve1d(noise(), [0.5, 0.5], axis=1) * np.sqrt(2)
    found = look(smooth * error, error.astype(np.float32))
    assert found.kernel.neighbours[1] == pytest.approx(0.5, abs=0.04)
    assert found.sigma == pytest.approx(1.0, abs=0.03)


def test_light_that_does_not_end_is_no_noise():
    light = ndimage.gaussian_filter(noise(), 2.5) * 30
    found = look(light + 0.2 * noise(seed=2))
    assert found.kernel.is_white
    assert "light" in found.kernel.source
    assert np.isnan(found.sigma)


def clouds(side, seed, height):
    """Light of all scales, of a power spectrum that falls with the third power."""
    rows, cols = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    frequency = np.hypot(rows, cols)
    frequency[0, 0] = np.inf
    waves = np.fft.rfft2(noise((side, side), seed)) * frequency**-1.5
    light = ndimage.gaussian_filter(np.fft.irfft2(waves, (side, side)), 1.1, mode="wrap")
    return height * light / light.std()


@pytest.mark.parametrize(("side", "height"), [(128, 2.0), (128, 3.0), (192, 3.0), (256, 4.0)])
def test_light_that_is_everywhere_is_no_noise(side, height):
    """It hangs together over 2 px nearly as over 1, and white noise stands out of it."""
    found = [look(noise((side, side), seed) + clouds(side, 50 + seed, height)) for seed in range(3)]
    assert all(one.kernel.is_white for one in found)
    told = [one.sigma for one in found if np.isfinite(one.sigma)]
    np.testing.assert_allclose(told, 1.0, atol=0.07)


@pytest.mark.parametrize("smooth_px", [0.45, 0.6, 0.8])
def test_noise_that_hangs_together_is_told_from_light(smooth_px):
    smoothed = ndimage.gaussian_filter(noise((256, 256)), smooth_px, mode="wrap")
    found = look(smoothed / smoothed.std() + clouds(256, 60, 2.0))
    expected = np.exp(-1 / (4 * smooth_px**2))
    assert found.kernel.neighbours == pytest.approx((expected, expected), abs=0.12)


@pytest.mark.parametrize("pixels", [noise((40, 40)), np.full((320, 320), 7.0), noise((20, 500))])
def test_too_little_to_measure_is_taken_as_white(pixels):
    found = look(pixels)
    assert found.kernel.is_white
    assert "measured" not in found.kernel.source


def test_a_frame_without_a_good_pixel_is_taken_as_white():
    empty = Window.of(np.zeros((128, 128), np.float32), np.zeros((128, 128), dtype=bool))
    assert measure_correlation([find_sky(empty)]).kernel.is_white


def test_the_clipped_scatter_is_that_of_the_bulk():
    values = noise((400, 400)).ravel()
    assert clipped_sigma(values) == pytest.approx(1.0, abs=0.01)
    values[::50] = 100.0
    assert clipped_sigma(values) == pytest.approx(1.0, abs=0.02)
    assert clipped_sigma(np.full(100, 3.0)) == 0.0


@pytest.mark.parametrize(
    ("pixels", "step"),
    [
        (np.rint(noise() * 100), 1.0),
        (noise(), None),
        (np.rint(noise()) * 2.0**25, None),
    ],
)
def test_whole_numbers_are_noticed(pixels, step):
    good = np.ones(pixels.shape, dtype=bool)
    assert quantum_of([Window.of(pixels.astype(np.float32), good)]) == step


def test_the_level_of_the_noise_is_that_of_the_pixels_it_was_measured_on():
    """Bright pixels, and those that are not good, are none of them."""
    pixels = np.random.default_rng(3).normal(100.0, 5.0, (160, 160))
    pixels[:, 100:] += 3000.0
    good = np.ones(pixels.shape, bool)
    good[::2, ::3] = False
    good[:, 100:] = np.random.default_rng(4).random((160, 60)) < 0.5
    found = measure_correlation([find_sky(Window.of(pixels.astype(np.float32), good))])
    assert found.level == pytest.approx(100.0, rel=0.01)


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_white_noise_between_scattered_holes_is_white_and_as_strong_as_it_is(share):
    """The level of fewer pixels takes more of each away: that passed for noise that hangs together.

    With 0.3 of the pixels the scatter was 3 % too small.
    """
    found = []
    for seed in range(4):
        good = np.random.default_rng(seed).random((320, 320)) < share
        window = Window.of(noise((320, 320), seed=10 + seed).astype(np.float32), good)
        found.append(measure_correlation([find_sky(window)]))
    assert all(each.kernel.is_white for each in found)
    assert np.mean([each.sigma for each in found]) == pytest.approx(1.0, abs=0.009)


def test_noise_that_hangs_together_is_as_strong_between_holes():
    smooth = ndimage.gaussian_filter(noise((512, 512)), 0.6)
    kinds = []
    for share in (1.0, 0.4):
        good = np.random.default_rng(5).random(smooth.shape) < share
        kinds.append(measure_correlation([find_sky(Window.of(smooth.astype(np.float32), good))]))
    whole, holed = kinds
    assert holed.sigma / whole.sigma == pytest.approx(1.0, abs=0.012)
    assert holed.kernel.neighbours[1] == pytest.approx(whole.kernel.neighbours[1], abs=0.015)
