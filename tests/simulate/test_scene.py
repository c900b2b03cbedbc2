"""What is drawn: fluxes, grids, reproducibility."""

import numpy as np
import pytest

from dip_pipeline.errors import ConfigError
from dip_pipeline.simulate import (
    GALAXY,
    STAR,
    MoffatPsf,
    Scene,
    SceneKind,
    SceneOptions,
    draw_scene,
)
from dip_pipeline.simulate.extended import draw_nebula

EMPTY = SceneOptions(shape=(101, 111), saturated_star=False)


def star_scene(row, col, flux_dn, options=EMPTY):
    stars = np.array([(row, col, flux_dn)], dtype=STAR)
    return Scene(options, stars, np.zeros(0, GALAXY))


@pytest.mark.parametrize("flux_dn", [50.0, 2000.0, 1e5])
@pytest.mark.parametrize("place", [(50.0, 55.0), (49.6, 55.27)])
def test_the_light_of_a_star_sums_to_its_catalogue_flux(place, flux_dn):
    light = star_scene(*place, flux_dn).signal()
    assert light.sum() == pytest.approx(flux_dn, rel=2e-3)


def test_a_star_lies_where_the_catalogue_says():
    light = star_scene(49.6, 55.27, 1e5).signal()
    rows, cols = np.indices(light.shape)
    assert (light * rows).sum() / light.sum() == pytest.approx(49.6, abs=0.01)
    assert (light * cols).sum() / light.sum() == pytest.approx(55.27, abs=0.01)


def test_a_star_has_the_asked_width():
    # On a fine grid, pixel integration no longer widens the profile.
    options = SceneOptions(shape=(41, 41), psf=MoffatPsf(fwhm_px=3.0), saturated_star=False)
    light = star_scene(20.0, 20.0, 1e5, options).signal(oversample=9)
    centre = light.shape[0] // 2
    profile = light[centre] / light.max()
    assert (profile > 0.5).sum() / 9 == pytest.approx(3.0, abs=0.15)


def test_the_light_of_a_galaxy_sums_to_its_catalogue_flux():
    galaxy = np.array([(50.3, 54.8, 5e4, 3.0, 1.0, 0.4, 0.7, 0.0)], dtype=GALAXY)
    light = Scene(EMPTY, np.zeros(0, STAR), galaxy).signal()
    assert light.sum() == pytest.approx(5e4, rel=5e-3)


def test_half_the_light_of_a_round_galaxy_lies_within_its_radius():
    psf = MoffatPsf(fwhm_px=0.6)
    options = SceneOptions(shape=(161, 161), psf=psf, saturated_star=False)
    galaxy = np.array([(80.0, 80.0, 1e5, 10.0, 1.0, 0.0, 0.0, 0.0)], dtype=GALAXY)
    light = Scene(options, np.zeros(0, STAR), galaxy).signal()
    radii = np.hypot(*(axis - 80.0 for axis in np.indices(light.shape)))
    assert light[radii <= 10.0].sum() / light.sum() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("kind", list(SceneKind))
def test_fine_pixels_sum_to_nominal_ones(kind):
    scene = draw_scene(SceneOptions(kind, shape=(72, 96), seed=5))
    nominal = scene.render()
    fine = scene.render(oversample=2)
    summed = fine.reshape(72, 2, 96, 2).sum(axis=(1, 3))
    np.testing.assert_allclose(summed, nominal, rtol=2e-3)


def test_nebulosity_is_never_darker_than_the_sky():
    rng = np.random.default_rng(3)
    psf = MoffatPsf()
    light = draw_nebula((96, 96), 100.0, filaments=0.8, psf=psf, rng=rng).render((96, 96))
    assert light.min() > -0.5  # of 100: what Fourier interpolation may overshoot
    assert np.percentile(light, 99) > 20


@pytest.mark.parametrize("kind", list(SceneKind))
def test_the_same_seed_gives_the_same_scene_and_another_another(kind):
    one, same, other = (
        draw_scene(SceneOptions(kind, shape=(64, 64), seed=seed)).render() for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


def test_a_crowded_field_has_the_stars_that_flux_bias_needs():
    stars = draw_scene(SceneOptions("crowded", seed=4)).stars_inside()
    # An aperture of 4 pixels over 200 DN of sky (gain 2, read noise 6 e) has a noise of 74 DN.
    snr = stars["flux_dn"] / np.sqrt(np.pi * 16 * (200 / 2 + 9) + stars["flux_dn"] / 2)
    assert ((snr > 5) & (snr < 30)).sum() >= 250
    assert ((snr > 30) & (stars["flux_dn"] < 1e5)).sum() >= 30
    assert np.log10(stars["flux_dn"].max() / stars["flux_dn"].min()) > 3


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "planets"}, {"shape": (0, 5)}, {"sky_dn": -1.0}],
    ids=["kind", "shape", "sky"],
)
def test_impossible_scenes_are_refused_with_one_line(wrong):
    with pytest.raises(ConfigError) as caught:
        SceneOptions(**wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (17, 5)])
def test_tiny_scenes_can_be_drawn(shape):
    for kind in SceneKind:
        assert draw_scene(SceneOptions(kind, shape=shape)).render().shape == shape
