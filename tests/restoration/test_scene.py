"""Scenes finer or sharper than their observation: what a fit of a few steps must already do."""

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from dip_pipeline.errors import RestorationError
from dip_pipeline.flags import PixelFlag
from dip_pipeline.restoration.forward.gaussian_psf import gaussian_psf
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.forward.scene_optics import scene_optics
from dip_pipeline.restoration.forward.target_star import TARGET_SIGMA_PX
from dip_pipeline.restoration.problem import FitOptions, InputKind, Scope, StopReason
from dip_pipeline.restoration.psf.hidden_in_scene import HiddenScene
from dip_pipeline.restoration.scene import restore as scene_restore
from dip_pipeline.restoration.scene.code import draw_scene as draw_picture
from dip_pipeline.restoration.scene.prior import ScenePrior, fit_scene_prior
from dip_pipeline.restoration.scene.restore import in_blocks, restore_scene, scene_unchanged
from dip_pipeline.restoration.stars.hidden_stars import HiddenStars
from dip_pipeline.restoration.stars.shown_stars import ShownStars
from dip_pipeline.restoration.stars.star_shape import StarShape
from dip_pipeline.restoration.views.regions import prepare
from dip_pipeline.simulate import (
    STAR,
    DetectorOptions,
    MoffatPsf,
    Scene,
    SceneOptions,
    draw_scene,
)
from dip_pipeline.task import Task

SIDE = 64
OPTIONS = FitOptions(steps=30, views=4, task=Task.SUPER_RESOLVE)
QUICK = replace(OPTIONS, steps=2, views=1)


@pytest.fixture(scope="module")
def field():
    """Observed pixels, the scene on half the pixel, the noise of each: a sky of stars."""
    options = SceneOptions(
        "crowded", shape=(SIDE, SIDE), seed=8, psf=MoffatPsf(1.8), saturated_star=False
    )
    rng = np.random.default_rng(2)
    places = [
        (16 * i + 8 + rng.uniform(-3, 3), 16 * j + 8 + rng.uniform(-3, 3), 12000.0)
        for i in range(4)
        for j in range(4)
    ]
    faint = draw_scene(options).stars
    scene = Scene(
        options,
        np.concatenate([faint[faint["flux_dn"] < 800], np.array(places, STAR)]),
        draw_scene(options).galaxies,
    )
    fine = scene.render(2)
    level = fine.reshape(SIDE, 2, SIDE, 2).sum(axis=(1, 3))
    sigma = DetectorOptions().sigma_dn(level)
    observed = level + sigma * rng.standard_normal(level.shape)
    return observed.astype(np.float32), fine, sigma


@pytest.fixture(scope="module")
def asked(field, problem, law):
    return problem(field[0], law.sensor(), options=OPTIONS, optics=Optics(2))


@pytest.fixture(scope="module")
def prior(asked) -> ScenePrior:
    return fit_scene_prior([asked], (SIDE, SIDE), seed=3)


@pytest.fixture(scope="module")
def restored(asked, prior):
    return restore_scene(asked, prior)


@pytest.fixture(scope="module")
def blurred(asked):
    """The same, seen through a wide PSF, and networks that hardly know it."""
    optics = Optics(2, psf=gaussian_psf(5.0).astype(np.float32))
    asked = replace(asked, optics=optics, options=QUICK)
    return asked, fit_scene_prior([asked], (SIDE, SIDE), seed=3)


def spline(pixels):
    places = (np.arange(2 * SIDE) + 0.5) / 2 - 0.5
    grid = np.meshgrid(places, places, indexing="ij")
    return map_coordinates(pixels.astype(np.float64), grid, order=3, mode="nearest") / 4


def fine_sigma(sigma):
    return sigma.repeat(2, 0).repeat(2, 1) / 2


def test_a_few_steps_beat_the_spline_of_the_noisy_frame_on_sources(field, restored):
    observed, fine, sigma = field
    on = fine - fine.min() > 3 * fine_sigma(sigma)

    def residual(image):
        return np.sqrt(np.mean(((image - fine) / fine_sigma(sigma))[on] ** 2))

    assert residual(restored.science) < 0.75 * residual(spline(observed))


def test_the_scene_looks_like_the_observation_within_its_noise(field, asked, restored):
    observed, _, sigma = field
    seen = restored.science.reshape(SIDE, 2, SIDE, 2).sum(axis=(1, 3), dtype=np.float64)
    chi_square = np.mean(((seen - observed) / sigma) ** 2)
    assert chi_square == pytest.approx(1, abs=0.35)
    assert restored.outcome.chi_square == pytest.approx(chi_square, rel=0.05)
    assert seen.sum() == pytest.approx(observed.sum(dtype=np.float64), rel=2e-3)


def test_the_error_plane_covers_about_two_thirds(field, restored):
    covered = np.abs(restored.science - field[1]) < restored.error
    assert 0.5 < covered.mean() < 0.9


def test_the_risk_is_of_what_the_observation_shows_and_the_record_says_so(field, prior, restored):
    _, fine, sigma = field
    seen = restored.science.reshape(SIDE, 2, SIDE, 2).sum(axis=(1, 3))
    truth = fine.reshape(SIDE, 2, SIDE, 2).sum(axis=(1, 3))
    true_risk = np.mean(((seen - truth) / sigma) ** 2)
    assert abs(restored.outcome.risk - true_risk) < 4 * restored.outcome.risk_error + 0.05
    assert any("risk" in note for note in prior.report.notes)


def test_a_prior_survives_its_bytes(asked, prior, restored):
    again = ScenePrior.from_bytes(prior.to_bytes())
    assert again.report == prior.report
    assert again.errors == prior.errors
    np.testing.assert_array_equal(restore_scene(asked, again).science, restored.science)


def test_a_damaged_prior_is_refused(prior):
    data = bytearray(prior.to_bytes())
    data[len(data) // 2] ^= 1
    with pytest.raises(RestorationError, match="damaged"):
        ScenePrior.from_bytes(bytes(data))


def test_the_same_seed_gives_the_same_pixels(asked):
    part = (slice(0, 32), slice(0, 32))
    quick = replace(
        asked,
        pixels=asked.pixels[part],
        masked=asked.masked[part],
        saturated=asked.saturated[part],
        options=QUICK,
    )
    first, second = (restore_scene(quick) for _ in range(2))
    assert first.outcome.stop_reason is StopReason.STEP_LIMIT
    np.testing.assert_array_equal(first.science, second.science)
    np.testing.assert_array_equal(first.error, second.error)


def test_a_tile_agrees_with_the_whole_well_within_the_noise(field, asked, prior, restored):
    halo = (slice(8, 56), slice(0, 56))
    cut = replace(
        asked,
        pixels=asked.pixels[halo],
        masked=asked.masked[halo],
        saturated=asked.saturated[halo],
        origin=(8, 0),
        inner=(slice(16, 32), slice(16, 40)),
    )
    tile = restore_scene(cut, prior)
    assert tile.science.shape == tile.error.shape == tile.flags.shape == (32, 48)
    fine = (slice(48, 80), slice(32, 80))
    difference = (tile.science - restored.science[fine]) / fine_sigma(field[2])[fine]
    assert np.sqrt(np.mean(difference**2)) < 0.05


@pytest.mark.parametrize("undone", [True, False])
def test_of_a_star_that_masked_pixels_hide_no_error_is_claimed_where_a_psf_is_undone(
    asked, prior, undone
):
    """It is delivered as it is seen, and not as the sharper stars are."""
    asked = replace(asked, options=QUICK)
    if undone:
        asked = replace(asked, optics=Optics(2, psf=gaussian_psf(3.6).astype(np.float32)))
        prior = fit_scene_prior([asked], (SIDE, SIDE), seed=3)
    hidden = np.zeros((SIDE, SIDE))
    hidden[20:24, 30:34] = 1e4  # far above any error
    seen = replace(prepare(asked, prior.scale), hidden=HiddenStars(hidden, 0 * hidden, 0 * hidden))
    with mock.patch.object(scene_restore, "prepare", return_value=seen):
        result = restore_scene(asked, prior)
    there = in_blocks(hidden > 0, 2)
    assert np.isnan(result.error[there]).all() == undone
    assert ((result.flags[there] & PixelFlag.LOW_CONFIDENCE) != 0).all() == undone
    assert np.isfinite(result.error[~there]).all()
    assert not result.flags[~there].any()


def test_the_error_of_hidden_stars_of_a_scene_is_added_and_their_light_drawn(blurred):
    asked, prior = blurred
    region = prepare(asked, prior.scale)
    fine, nothing = np.zeros((2 * SIDE, 2 * SIDE)), np.zeros((SIDE, SIDE))
    fine[40:48, 60:68] = 70.0
    results = []
    for planes in (HiddenScene(0 * fine, 0 * fine, nothing), HiddenScene(fine, 2 * fine, nothing)):
        seen = replace(region, hidden_scene=planes)
        with mock.patch.object(scene_restore, "prepare", return_value=seen):
            results.append(restore_scene(asked, prior))
    unit = region.scale.sigma / 4
    np.testing.assert_allclose(
        results[1].science - results[0].science, fine * unit, atol=1e-3 * unit * fine.max()
    )
    expected = np.hypot(results[0].error, 2 * fine * unit)
    np.testing.assert_allclose(results[1].error, expected, rtol=1e-4)


def test_no_error_is_smaller_than_that_of_the_stars_that_were_fitted(problem, law):
    shape = StarShape(a=0.14, b=0.0, d=0.14, beta=3.0)
    psf = (shape.stamp(10) / shape.stamp(10).sum()).astype(np.float32)
    rows, cols = np.indices((SIDE, SIDE), dtype=np.float64)
    level = np.full((SIDE, SIDE), 200.0)
    for number, row, col in zip(
        range(9), [12, 32, 52] * 3, [12] * 3 + [32] * 3 + [52] * 3, strict=True
    ):
        level += (2000 + 500 * number) * shape.at(rows - row - 0.3, cols - col + 0.2)
    observed = level + DetectorOptions().sigma_dn(level) * np.random.default_rng(1).normal(
        size=level.shape
    )
    asked = problem(observed, law.sensor(), options=QUICK, optics=Optics(1, psf=psf))
    prior = fit_scene_prior([asked], (SIDE, SIDE), seed=3)
    region = prepare(asked, prior.scale)
    own = np.sqrt(region.shown_stars.variance_in_scene()) * region.scale.sigma
    result = restore_scene(asked, prior)
    assert len(region.shown_stars.places) == 9
    assert np.all(result.error >= own * 0.999)
    much = np.full(own.shape, 1e4)
    with mock.patch.object(ShownStars, "variance_in_scene", return_value=much):
        doubted = restore_scene(asked, prior)
    np.testing.assert_allclose(doubted.error, 100 * region.scale.sigma, rtol=1e-5)
    np.testing.assert_array_equal(doubted.science, result.science)


def test_of_the_fine_pixels_of_one_all_or_none_have_an_error(blurred):
    asked, prior = blurred
    error = restore_scene(asked, prior).error * 4  # a brightness, as hidden light is
    region = prepare(asked, prior.scale)
    between = np.median(error[40:60, 60:80]) / region.scale.sigma
    hidden = np.zeros((SIDE, SIDE))
    hidden[20:30, 30:40] = between  # larger than the error of every second fine pixel, or so
    seen = replace(region, hidden=HiddenStars(hidden, 0 * hidden, 0 * hidden))
    with mock.patch.object(scene_restore, "prepare", return_value=seen):
        unsure = np.isnan(restore_scene(asked, prior).error)
    blocks = unsure.reshape(SIDE, 2, SIDE, 2).sum(axis=(1, 3))
    assert set(np.unique(blocks)) == {0, 4}


def test_masked_and_saturated_pixels_are_told_of_in_every_fine_one(asked, prior):
    masked, saturated = asked.masked.copy(), asked.saturated.copy()
    masked[20:22, 30], saturated[40, 41] = True, True
    result = restore_scene(replace(asked, masked=masked, saturated=saturated), prior)
    assert (result.flags[40:44, 60:62] == PixelFlag.FILLED).all()
    assert (result.flags[80:82, 82:84] == PixelFlag.SATURATED).all()
    np.testing.assert_allclose(result.science[80:82, 82:84], asked.pixels[40, 41] / 4, rtol=1e-6)
    assert np.isnan(result.error[40:44, 60:62]).all()
    assert np.isfinite(result.science).all()


@pytest.mark.parametrize("summed", [True, False])
def test_what_cannot_be_restored_comes_back_with_its_flux(asked, summed):
    optics = Optics(3, summed=summed)
    result = scene_unchanged(replace(asked, optics=optics), StopReason.DIVERGED)
    means = result.science.reshape(SIDE, 3, SIDE, 3).mean(axis=(1, 3), dtype=np.float64)
    np.testing.assert_allclose(means * (9 if summed else 1), asked.pixels, rtol=1e-5)
    assert (result.flags == PixelFlag.TILE_FAILED).all()
    assert result.outcome.failed


def test_a_diverged_fit_names_the_psf_where_one_is_undone(asked, prior):
    kernel = np.full((3, 3), 1 / 9, np.float32)
    for psf, wanted in ((kernel, StopReason.SCENE_DIVERGED), (None, StopReason.DIVERGED)):
        report = replace(prior.report, stop_reason=StopReason.DIVERGED)
        diverged = replace(prior, report=report)
        result = restore_scene(replace(asked, optics=Optics(2, psf)), diverged)
        assert result.outcome.failed
        assert result.outcome.stop_reason is wanted
        assert ("PSF" in wanted) is (psf is not None)
        assert (result.flags == PixelFlag.TILE_FAILED).all()


def test_brightness_keeps_its_numbers(asked, prior, restored):
    bright = restore_scene(replace(asked, optics=Optics(2, summed=False)), prior)
    np.testing.assert_allclose(bright.science / 4, restored.science, rtol=1e-6)


def test_a_prior_of_other_optics_is_refused(asked, prior):
    with pytest.raises(RestorationError, match="factor 2"):
        restore_scene(replace(asked, optics=Optics(3)), prior)


def test_a_scene_needs_a_noise_law(asked, law):
    blind = replace(asked, noise=law.none, options=replace(OPTIONS, input=InputKind.CODE))
    with pytest.raises(RestorationError, match="noise law"):
        fit_scene_prior([blind], (SIDE, SIDE), seed=1)


@pytest.mark.parametrize("factor", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_known_psf_is_undone_and_no_light_is_lost(problem, law, factor):
    rng = np.random.default_rng(factor)
    side = 48 * factor
    axis = np.arange(side)
    target = np.full((side, side), 200.0)
    for row in range(8 * factor, side, 16 * factor):
        for col in range(8 * factor, side, 16 * factor):
            place = np.array([row, col]) + rng.uniform(-2, 2, 2)
            profiles = (np.exp(-0.5 * ((axis - at) / TARGET_SIGMA_PX) ** 2) for at in place)
            target += 3000 * np.multiply.outer(*profiles)
    offsets = np.arange(-12, 13.0)
    psf = MoffatPsf(3.5 * factor**0.5).density(offsets[:, None], offsets[None, :])
    optics = Optics(factor, (psf / psf.sum()).astype(np.float32), summed=False)
    scene = torch.from_numpy(target)[None, None]
    level = scene_optics(optics).observe(scene)[0, 0].numpy()
    observed = level + DetectorOptions().sigma_dn(level) * rng.standard_normal(level.shape)
    options = replace(OPTIONS, steps=15, task=Task.DECONVOLVE)
    sharp = restore_scene(problem(observed, law.sensor(), options=options, optics=optics)).science

    def rms(image):
        return np.sqrt(np.mean((image - target) ** 2))

    assert rms(sharp) < 0.6 * rms(observed.repeat(factor, 0).repeat(factor, 1))
    assert sharp.mean() == pytest.approx(observed.mean(), rel=0.005)


@pytest.mark.parametrize("summed", [False, True])
def test_a_drawn_picture_keeps_saturated_pixels_as_they_are(problem, law, summed):
    rows, cols = np.mgrid[:32, :32]
    pixels = 10 + 200 * np.exp(-((rows - 12) ** 2 + (cols - 18) ** 2) / 8).astype("f4")
    options = FitOptions(task=Task.SUPER_RESOLVE, input=InputKind.CODE, scope=Scope.TILE, steps=3)
    full = pixels > 120
    asked = problem(
        pixels, law.none, saturated=full, options=options, optics=Optics(2, summed=summed)
    )
    drawn = draw_picture(asked)
    alone = drawn.flags == PixelFlag.SATURATED
    assert alone.sum() == 4 * full.sum()
    share = 4 if summed else 1
    np.testing.assert_allclose(drawn.science[alone], in_blocks(pixels, 2)[alone] / share, rtol=1e-6)
