"""Laws of the noise told in numbers: its variance is, to the bit, that of the laws that draw it.

Of standard deviations torch's may be off by the last bit: on many processors its square roots are
not rounded correctly.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dip_pipeline.errors import SensorError
from dip_pipeline.restoration.noise.laws import law_for
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sensor, Sourced
from dip_pipeline.sensor.noise_sigma import sigma_at, sigma_plane, sigmas_at, variance_line

LEVELS = np.concatenate(
    [np.random.default_rng(4).normal(500, 800, 4000), [0.0, 100.0, 1e30, np.nan, np.inf, -np.inf]]
)
gains = st.floats(1e-3, 1e3)
reads = st.floats(0, 100)
counts = st.integers(1, 40)


def said(number, unit="DN"):
    return Sourced(float(number), unit, "test")


def drawn_with(noise, levels, error=None):
    """Variance of the law that draws the noise."""
    given = None if error is None else torch.from_numpy(error.astype(np.float64))
    return law_for(noise, given).variance(torch.from_numpy(levels)).expand(levels.shape).numpy()


@given(gains, reads, st.floats(-1e4, 1e4), st.floats(0, 1e4), counts, st.sampled_from([0, 3.0]))
def test_of_a_sensor_it_is_the_law_that_draws(gain, read, pedestal, sky, combined, quantum):
    sensor = Sensor(
        gain_e_per_dn=said(gain),
        read_noise_e=said(read),
        pedestal_dn=said(pedestal),
        subtracted_sky_dn=said(sky),
        n_combined=said(combined),
    )
    rounded = said(quantum) if quantum else None
    for noise in (
        NoiseModel(NoiseKind.POISSON, "test", sensor=sensor),
        NoiseModel(NoiseKind.POISSON_GAUSSIAN, "test", sensor=sensor, quantum=rounded),
    ):
        variances = drawn_with(noise, LEVELS)
        np.testing.assert_array_equal(variance_line(noise).variance(LEVELS), variances)
        np.testing.assert_array_equal(sigmas_at(noise, LEVELS), np.sqrt(variances))
        plane = LEVELS[:4000].reshape(50, 80).astype(np.float32)
        np.testing.assert_array_equal(
            sigma_plane(noise, plane, None),
            np.sqrt(drawn_with(noise, plane.astype(np.float64))).astype(np.float32),
        )


@pytest.mark.parametrize("sigma", [3.0, 0.1, 1e-25, 1e200])
def test_one_sigma_is_that_of_every_level_even_where_none_is_known(sigma):
    noise = NoiseModel(NoiseKind.GAUSSIAN, "test", sigma=said(sigma))
    variances = drawn_with(noise, LEVELS)
    np.testing.assert_array_equal(variance_line(noise).variance(LEVELS), variances)
    assert sigma_at(noise, np.nan) == np.sqrt(variances[0])


def test_without_a_law_it_is_one(law):
    assert sigma_at(law.none, 7.0) == 1.0


def test_of_an_error_plane_it_is_that_plane(law):
    error = np.random.default_rng(5).gamma(2, 3, (30, 40)).astype(np.float32)
    error[3, 3:6] = np.nan, np.inf, 1e30
    levels = np.zeros((30, 40), np.float32)
    np.testing.assert_array_equal(
        sigma_plane(law.error_plane, levels, error),
        np.sqrt(drawn_with(law.error_plane, levels, error)).astype(np.float32),
    )
    with pytest.raises(SensorError, match="none was read"):
        sigma_plane(law.error_plane, levels, None)


@pytest.mark.parametrize("kind", [NoiseKind.POISSON, NoiseKind.POISSON_GAUSSIAN])
def test_a_number_that_is_missing_is_asked_for(kind):
    with pytest.raises(SensorError, match="gain"):
        sigma_at(NoiseModel(kind, "test"), 1.0)
