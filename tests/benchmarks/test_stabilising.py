"""The transforms that peers are given: unit noise there, no bias on the way back."""

import numpy as np
import pytest

from benchmarks.stabilising import Anscombe, White

DRAWS = 400_000
SENSORS = [Anscombe(2.0, 1.0), Anscombe(1.4, 6.0, pedestal_dn=100.0)]


def expose(level_e, sensor, seed=1):
    """A flat field of a sensor, DN."""
    rng = np.random.default_rng(seed)
    electrons = rng.poisson(level_e, DRAWS) + sensor.read_noise_e * rng.standard_normal(DRAWS)
    return electrons / sensor.gain_e_per_dn + sensor.pedestal_dn


@pytest.mark.parametrize("sensor", SENSORS)
@pytest.mark.parametrize("level_e", [0.3, 1.0, 3.0, 12.0, 150.0, 990.0, 1010.0, 40000.0])
def test_the_inverse_of_the_mean_value_is_the_level(sensor, level_e):
    mean = sensor.forward(expose(level_e, sensor)).mean()
    found_e = (sensor.inverse(np.array([mean]))[0] - sensor.pedestal_dn) * sensor.gain_e_per_dn
    # The mean of unit noise scatters by 1 / sqrt(draws), and the inverse's slope is half a mean.
    assert found_e == pytest.approx(level_e, abs=4 * mean / 2 / DRAWS**0.5)


def test_the_algebraic_inverse_would_be_biased():
    sensor = SENSORS[0]
    mean = sensor.forward(expose(3.0, sensor)).mean()
    algebraic_e = mean**2 / 4 - 3 / 8 - sensor.read_noise_e**2
    assert abs(algebraic_e - 3.0) > 0.15


@pytest.mark.parametrize("sensor", SENSORS)
@pytest.mark.parametrize("level_e", [20.0, 400.0, 1e5])
def test_values_have_unit_noise(sensor, level_e):
    assert sensor.forward(expose(level_e, sensor)).std() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("sensor", SENSORS)
def test_the_table_and_its_asymptote_meet(sensor):
    end = 2 * np.sqrt(1000 + 3 / 8 + sensor.read_noise_e**2)
    levels_e = sensor.inverse(np.linspace(end - 0.1, end + 0.1, 41)) * sensor.gain_e_per_dn
    # The slope is half a mean; a gap of a hundredth of an electron would show.
    np.testing.assert_allclose(np.diff(levels_e), 0.005 * end / 2, rtol=0.02)


def test_white_noise_comes_back_as_it_was():
    pixels = np.array([-3.0, 0.0, 7.0])
    np.testing.assert_allclose(White(2.5).forward(pixels), pixels / 2.5)
    np.testing.assert_allclose(White(2.5).inverse(White(2.5).forward(pixels)), pixels)
