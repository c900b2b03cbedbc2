"""Laws of bright pixels: photons show in what their neighbours do not foretell, light does not."""

import numpy as np
import pytest

from dip_pipeline.blind.bright_pixels import with_bright_pixels
from dip_pipeline.blind.correlation import measure_correlation
from dip_pipeline.blind.estimate import estimate_noise
from dip_pipeline.blind.scatter import measure_scatter
from dip_pipeline.blind.sky import Window, find_sky
from dip_pipeline.sensor import NoiseKind, Sensor
from dip_pipeline.sensor.noise_sigma import sigma_at
from dip_pipeline.simulate import MoffatPsf, SceneKind, SceneOptions, draw_scene

GAIN, READ_DN, SIDE = 2.0, 5.0, 128


def level_of(*, sky, fwhm_px=3.5, apart=32, light=(4.0, 5.0), seed=0):
    """Stars off the nodes of a grid, of a light drawn evenly in its logarithm, DN."""
    rng = np.random.default_rng(seed)
    rows, cols = np.indices((SIDE, SIDE), dtype=float)
    level, psf = np.full((SIDE, SIDE), float(sky)), MoffatPsf(fwhm_px)
    for node in np.ndindex(SIDE // apart, SIDE // apart):
        row, col = np.array(node) * apart + apart / 2 + rng.uniform(-3, 3, 2)
        level += 10 ** rng.uniform(*light) * psf.density(rows - row, cols - col)
    return level


def crowded(*, fwhm_px, seed, sky=15):
    """Stars of all brightnesses, and what they leave no room for."""
    options = SceneOptions(
        SceneKind.CROWDED,
        shape=(SIDE, SIDE),
        seed=seed,
        sky_dn=sky,
        psf=MoffatPsf(fwhm_px),
        saturated_star=False,
    )
    return draw_scene(options).render()


def sigmas_of(level):
    return np.sqrt(level / GAIN + READ_DN**2)


def seen(level, *, even=False, response=0.0, seed=0):
    """Expose; even : noise of the sky alone everywhere; response : unlike from pixel to pixel."""
    rng = np.random.default_rng([seed, 5])
    sigma = sigmas_of(level.min()) if even else sigmas_of(level)
    light = level * (1 + response * rng.standard_normal(level.shape))
    pixels = light + sigma * rng.standard_normal(level.shape)
    return Window.of(pixels.astype(np.float32), np.ones(level.shape, bool))


def lines_of(*windows):
    line = measure_scatter(windows)
    return line, with_bright_pixels(line, windows)


def law_of(window):
    sky = measure_correlation([find_sky(window)])
    return estimate_noise([window], sky, sky.kernel, Sensor(), "adu")


def test_photons_that_plain_pixels_hardly_show_are_found_in_bright_ones():
    seeds = (2, 3, 7, 10)
    lines = [lines_of(seen(crowded(fwhm_px=4.0, sky=150, seed=seed), seed=seed)) for seed in seeds]
    assert not any(plain.rises for plain, _ in lines)
    assert all(line.rises for _, line in lines)
    assert np.mean([line.slope for _, line in lines]) == pytest.approx(1 / GAIN, rel=0.35)


@pytest.mark.parametrize("sky", [50, 800])
@pytest.mark.parametrize("fwhm_px", [2.7, 4.0])
def test_even_noise_under_stars_stays_even(sky, fwhm_px):
    plain, line = lines_of(seen(level_of(sky=sky, fwhm_px=fwhm_px), even=True))
    assert not line.rises
    assert line is plain


@pytest.mark.parametrize("seed", range(3))
def test_the_unequal_response_of_pixels_is_no_noise_of_photons(seed):
    """It grows with the square of light; in the sky there is hardly any."""
    level = level_of(sky=50, fwhm_px=2.7, apart=21, light=(3.0, 5.0))
    assert not lines_of(seen(level, even=True, response=0.02, seed=seed))[1].rises


@pytest.mark.parametrize("seed", range(1, 4))
def test_light_too_sharp_to_be_foretold_tells_nothing(seed):
    plain, line = lines_of(seen(crowded(fwhm_px=1.2, sky=150, seed=seed), even=True))
    assert line is plain


def test_the_sky_between_stars_is_as_calm_as_it_is():
    """Scatter that knows of no light is that of brighter pixels, too."""
    level = crowded(fwhm_px=2.7, seed=10)
    plain, line = lines_of(seen(level, seed=10))
    truth = float(sigmas_of(np.median(level)) ** 2)
    assert plain.floor > 1.08 * truth
    assert line.rises
    assert line.floor == pytest.approx(truth, rel=0.04)


def test_a_line_that_sharp_light_raised_needs_bright_pixels_to_say_so():
    plain, line = lines_of(seen(crowded(fwhm_px=2.4, seed=28), even=True, seed=28))
    assert plain.slope > 2 * plain.slope_error
    assert line is plain


def test_light_that_is_hardly_brighter_than_the_sky_tells_nothing():
    level = level_of(sky=800, apart=16, light=(2.0, 3.2))
    plain, line = lines_of(seen(level))
    assert line is plain


def test_windows_that_overlap_tell_no_more_than_one():
    window = seen(crowded(fwhm_px=4.0, sky=150, seed=3), seed=3)
    line = measure_scatter([window])
    once, twice = (with_bright_pixels(line, [window] * times) for times in (1, 2))
    assert line.rises < once.rises
    assert twice.slope == once.slope


def test_a_line_that_rises_by_itself_stays():
    plain, line = lines_of(seen(level_of(sky=50, apart=21, light=(3.0, 5.0))))
    assert plain.rises
    assert line is plain


def test_the_law_holds_in_the_cores_of_stars():
    level = crowded(fwhm_px=4.0, sky=150, seed=3)
    noise = law_of(seen(level, seed=3))
    assert noise.kind is NoiseKind.POISSON_GAUSSIAN
    for each in (150.0, 500.0, float(level.max())):
        assert sigma_at(noise, each) == pytest.approx(float(sigmas_of(each)), rel=0.15)
    assert law_of(seen(level, even=True)).kind is NoiseKind.GAUSSIAN
