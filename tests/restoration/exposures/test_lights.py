"""Exposures of other depth, sky and unit show the same light; what tells nothing is left out."""

from dataclasses import replace

import numpy as np
import pytest

from dip_pipeline.restoration.exposures.lights import (
    as_exposure,
    dark_variance,
    in_common_light,
    sky_of,
    unit_of,
)
from dip_pipeline.sensor import NoiseKind, NoiseModel
from tests.restoration.exposed import SKY, Sky, exposed, with_exposure

SCALES = [(1.0, SKY), (0.25, 90.0), (3.0, 700.0), (1.0, SKY)]
PLANE = NoiseModel(NoiseKind.GAUSSIAN, "given", from_error_plane=True)


def lights_of(problem):
    exposures = [as_exposure(problem), *problem.exposures]
    level = sky_of(problem, exposures)
    unit = unit_of(exposures, level)
    return in_common_light(exposures, level, unit), level, unit


def even_sky():
    return exposed(noise=False, sky=Sky(np.empty((0, 3))), scales=SCALES)[0]


def masked(problem, number):
    return with_exposure(problem, number, masked=np.ones(problem.pixels.shape, bool))


def test_the_sky_is_that_of_the_first_also_where_another_exposure_tells_it():
    assert sky_of(even_sky(), even_sky().exposures) == pytest.approx(SKY)
    alone = masked(even_sky(), 0)
    for number in (1, 2, 3):
        alone = masked(alone, number)
        told = with_exposure(alone, number, masked=np.zeros(alone.pixels.shape, bool))
        assert sky_of(told, told.exposures) == pytest.approx(SKY)


def test_numbers_are_in_noises_of_the_first_exposure_that_shows_anything():
    problem = even_sky()
    _, _, unit = lights_of(problem)
    assert unit == pytest.approx(np.sqrt(SKY / 2 + 9))
    _, _, unit = lights_of(masked(problem, 0))
    assert unit == pytest.approx(np.sqrt(90 / 2 + 9) / 0.25)


def test_light_and_its_noise_are_the_same_in_exposures_of_any_depth():
    problem = exposed(noise=False, sky=Sky(np.array([[24.0, 26.0, 9000.0]])), scales=SCALES)[0]
    lights, _, unit = lights_of(problem)
    for light, (scale, level) in zip(lights, SCALES, strict=True):
        assert float(light.pixels.sum()) * unit == pytest.approx(9000.0, rel=1e-3)
        own = (level / 2 + 9) / (scale * unit) ** 2
        assert float(light.variance(0 * light.pixels)[0, 0, 4, 4]) == pytest.approx(own, rel=1e-4)


def test_pixels_that_tell_nothing_have_no_weight():
    problem = even_sky()
    pixels, saturated = problem.exposures[0].pixels.copy(), np.zeros(problem.pixels.shape, bool)
    pixels[3, 4], saturated[5, 6] = np.nan, True
    lights, _, _ = lights_of(with_exposure(problem, 1, pixels=pixels, saturated=saturated))
    valid = lights[1].valid[0, 0].numpy()
    assert valid.sum() == valid.size - 2
    assert not valid[3, 4]
    assert not valid[5, 6]
    assert np.isfinite(lights[1].pixels.numpy()).all()


@pytest.mark.parametrize("broken", [0.0, -5.0, np.nan, np.inf])
def test_an_error_plane_with_holes_makes_no_pixel_infinitely_sure(broken):
    problem = even_sky()
    error = np.full(problem.pixels.shape, 11.0, np.float32)
    error[7:9, 7:9] = broken
    lights, _, unit = lights_of(with_exposure(problem, 1, error=error, noise=PLANE))
    variance = lights[1].variance(lights[1].pixels).numpy()
    np.testing.assert_allclose(variance, (11.0 / 0.25 / unit) ** 2, rtol=1e-5)


def test_the_noise_of_the_dark_is_that_of_the_pixels_that_are_used():
    problem = replace(even_sky(), noise=PLANE)
    error = np.full(problem.pixels.shape, 300.0, np.float32)
    error[:10] = 11.0
    lights, _, unit = lights_of(with_exposure(problem, 0, error=error))
    used = lights[0].valid.clone()
    used[..., 10:, :] = 0
    assert dark_variance(lights[0], used) == pytest.approx((11.0 / unit) ** 2)


def test_exposures_of_finer_pixels_are_softened_by_as_much_on_the_sky():
    """Or their stars, higher than those of the broadest, would be taken for cosmic rays."""
    problem = with_exposure(even_sky(), 1, matrix=((0.5, 0.0), (0.0, 0.5)))
    lights, _, _ = lights_of(with_exposure(problem, 2, wider_px2=1.0))
    assert [each.softening_px(1.0) for each in lights] == pytest.approx([1.0, 2.0, 0.0, 1.0])
