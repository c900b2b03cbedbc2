"""Stars that an observation shows well, as they are in its scene: the same light, seen sharper."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.delivering.asking import moved_by
from dip_pipeline.restoration.delivering.restraint import Restraint
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.forward.scene_optics import scene_optics
from dip_pipeline.restoration.forward.target_star import TARGET_FWHM_PX
from dip_pipeline.restoration.images.spectral import LostLight
from dip_pipeline.restoration.noise.correlation import draw_noise
from dip_pipeline.restoration.problem import FitOptions, Problem
from dip_pipeline.restoration.psf.shown_in_scene import TargetShape, in_scene
from dip_pipeline.restoration.scene.delivery import SceneNetworks, observed_anew
from dip_pipeline.restoration.scene.features import channels_of
from dip_pipeline.restoration.stars.shown_stars import find_shown_stars
from dip_pipeline.restoration.stars.star_shape import StarShape
from dip_pipeline.restoration.views.regions import measure_sky, prepare
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sourced
from dip_pipeline.task import Task
from tests.restoration.conftest import sensor_noise

SHAPE = StarShape(a=0.09, b=0.005, d=0.085, beta=3.2)
SIDE_PX = 64
STARS = np.array([[200.0, 20.3, 41.8], [90.0, 44.0, 18.5], [500.0, 47.6, 47.2]])


def psf():
    """The stars' own light in the middle of 25 x 25 pixels, sum 1."""
    offsets = np.arange(-12.0, 13.0)
    light = SHAPE.at(offsets[:, None], offsets[None, :])
    return (light / light.sum()).astype(np.float32)


def observed(seed=0):
    rows, cols = np.indices((SIDE_PX, SIDE_PX), dtype=np.float64)
    light = sum(height * SHAPE.at(rows - row, cols - col) for height, row, col in STARS)
    return light + np.random.default_rng(seed).standard_normal(light.shape)


def shown(optics):
    frame = observed()
    ones = np.ones_like(frame)
    stars = find_shown_stars(frame, ones, ones > 0, SHAPE)
    return stars, in_scene(stars, SHAPE, optics), frame


class Silent(torch.nn.Module):
    """Answers zero: the scene is the first guess that its optics make."""

    multiple = 16

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, features):
        assert not any(side % self.multiple for side in features.shape[-2:])
        return torch.zeros(len(features), self.channels, *features.shape[-2:])


OPTICS = [Optics(factor=2), Optics(factor=3), Optics(factor=1, psf=psf())]


@pytest.mark.parametrize("optics", OPTICS, ids=["x2", "x3", "deconvolve"])
def test_the_scene_shows_what_was_observed(optics):
    stars, scene, _ = shown(optics)
    missed = scene.light - stars.light
    assert np.abs(missed).max() < 0.02 * stars.light.max()
    assert scene.light.sum() == pytest.approx(stars.light.sum(), rel=0.01)
    light, _ = scene.scene
    seen = scene_optics(optics).observe(torch.from_numpy(light)[None, None])[0, 0].numpy()
    # A star of a scene where a PSF is undone is hardly sampled, and is seen through the PSF itself.
    nearly = 0.0 if optics.psf is None else 0.02
    assert np.allclose(seen, scene.light, atol=nearly * scene.light.max() + 1e-8)


def test_a_deconvolved_star_is_as_narrow_as_the_target():
    _, scene, _ = shown(OPTICS[2])
    light, _ = scene.scene
    half = (light[35:60, 35:60] > 0.5 * light[35:60, 35:60].max()).sum()
    assert half == pytest.approx(np.pi * (TARGET_FWHM_PX / 2) ** 2, abs=1.5)


@pytest.mark.parametrize("factor", [1, 2])
def test_endless_wings_give_a_deconvolved_star_no_endless_light(factor):
    """It holds what the PSF's image holds; pixels of a scene are as bright as the frame's."""
    stars, _, _ = shown(OPTICS[2])
    winged = StarShape(a=0.3, b=0.0, d=0.3, beta=1.02)
    finer = SHAPE.widened(factor).stamp(12 * factor)
    optics = Optics(factor=factor, psf=(finer / finer.sum()).astype(np.float32))
    light, _ = in_scene(stars, winged, optics).scene
    heights = stars.places[:, 0].sum()
    assert light.sum() / factor**2 == pytest.approx(heights * winged.stamp(12).sum(), rel=0.02)


@pytest.mark.parametrize("optics", OPTICS, ids=["x2", "x3", "deconvolve"])
def test_the_scene_changes_as_its_observation_does(optics):
    """A star moves, and its scene with it, however many of its pixels make one."""
    _, scene, frame = shown(optics)
    left = torch.from_numpy(frame - scene.light)[None, None]
    step = 0.3 * torch.from_numpy(np.random.default_rng(3).standard_normal(frame.shape))
    change = scene.change(left + step) - scene.change(left)
    fine = scene.change_of_scene(left + step) - scene.change_of_scene(left)
    seen = scene_optics(optics).observe(fine)
    assert float((seen - change).std()) < 0.1 * float(change.std())


def sky_of(pixels, optics, views):
    """A region without stars, and networks of those optics that answer zero."""
    task = Task.SUPER_RESOLVE if optics.psf is None else Task.DECONVOLVE
    nothing = np.zeros(pixels.shape, bool)
    asked = Problem(
        pixels=pixels.astype(np.float32),
        masked=nothing,
        saturated=nothing,
        noise=NoiseModel(NoiseKind.GAUSSIAN, "given", sigma=Sourced(1.0, "test", "given")),
        options=FitOptions(task=task, views=views, flux_scale_px=0.0),
        seed=1,
        optics=optics,
    )
    region = prepare(asked, measure_sky([asked]))
    assert region.shown_stars is None
    network = Silent(channels_of(scene_optics(optics))[1])
    return region, SceneNetworks([network], [torch.ones_like(region.known)], optics, asked.options)


@pytest.mark.parametrize("shape", [(48, 64), (41, 64), (64, 41), (50, 39), (12, 19)])
def test_a_scene_lies_where_its_region_does_whatever_its_sides(shape):
    rows, cols = np.indices(shape, dtype=np.float64)
    noise = 0.1 * np.random.default_rng(1).standard_normal(shape)
    region, networks = sky_of(rows + 2 * cols + noise, OPTICS[0], 1)
    scene = networks.asked(region.observed, region)[0]
    off = (scene_optics(OPTICS[0]).observe(scene) - region.observed)[..., 4:-4, 4:-4]
    assert float(off.abs().max()) < 0.7


@pytest.mark.parametrize("optics", [OPTICS[0], Optics(factor=1, psf=psf())], ids=["x2", "lopsided"])
def test_views_of_a_scene_differ_by_what_networks_make_of_it_and_not_by_how_it_is_turned(optics):
    """Its optics are turned with it: a PSF that no turn leaves alike says so."""
    if optics.psf is not None:
        light = optics.psf.copy()
        light[8:11, 13:20] += np.float32(0.03)
        optics = replace(optics, psf=light / light.sum())
    region, networks = sky_of(np.random.default_rng(2).standard_normal((48, 48)), optics, 8)
    scatter = networks.asked(region.observed, region).scatter
    assert float(scatter.max()) < 1e-3


@pytest.mark.parametrize("optics", OPTICS[:2], ids=["x2", "x3"])
def test_what_is_said_of_a_scenes_error_is_what_noise_changes_in_it(optics):
    region, networks = sky_of(np.random.default_rng(3).standard_normal((64, 64)), optics, 1)
    delivery = networks.deliver(region, Restraint(), seed=4)
    noise = torch.from_numpy(np.random.default_rng(5).standard_normal((64, 64))).float()[None, None]
    anew = networks.restored(region.observed + region.sigma * noise, region, Restraint())[0]
    sigma = optics.factor * delivery.sigma.mean()
    torch.testing.assert_close(delivery.fine_sigma.mean(), sigma)
    changed = ((anew - delivery.scene) / sigma).square().mean()
    told = delivery.predictor.square().mean()
    assert float(told / changed) == pytest.approx(1.0, abs=0.15)
    misfit = ((delivery.seen - region.observed) / delivery.sigma).square().mean() - 1
    seen = scene_optics(optics).observe(anew - delivery.scene)
    kept = (noise * seen / delivery.sigma).mean()
    squares = float(delivery.squared_error.mean())
    assert squares == pytest.approx(float(misfit + 2 * kept), abs=0.1)


def test_two_networks_that_say_the_same_scatter_as_one_does():
    optics = OPTICS[2]
    asked = asked_for(optics, Task.DECONVOLVE, views=2)
    region = prepare(asked, measure_sky([asked]))
    network, ones = Silent(channels_of(scene_optics(optics))[1]), torch.ones_like(region.known)
    alone = SceneNetworks([network], [ones], optics, asked.options)
    both = SceneNetworks([network] * 3, [0.25 * ones, 0 * ones, 0.75 * ones], optics, asked.options)
    for one, two in zip(
        alone.asked(region.observed, region), both.asked(region.observed, region), strict=True
    ):
        torch.testing.assert_close(one, two)


def asked_for(optics, task, *, views):
    """A problem of five stars."""
    stars = np.concatenate([STARS, [[150.0, 12.2, 12.7], [120.0, 12.4, 52.1]]])
    rows, cols = np.indices((SIDE_PX, SIDE_PX), dtype=np.float64)
    light = sum(height * SHAPE.at(rows - row, cols - col) for height, row, col in stars)
    return Problem(
        pixels=(light + np.random.default_rng(1).standard_normal(light.shape)).astype(np.float32),
        masked=np.zeros(light.shape, bool),
        saturated=np.zeros(light.shape, bool),
        noise=NoiseModel(NoiseKind.GAUSSIAN, "given", sigma=Sourced(1.0, "test", "given")),
        options=FitOptions(task=task, views=views, flux_scale_px=0.0),
        seed=1,
        optics=optics,
    )


def test_about_a_star_of_a_psf_that_rings_there_is_no_less_noise_than_in_the_dark():
    """A PSF may be negative somewhere; a variance below zero made each fit end in NaN."""
    narrow = StarShape(a=0.29, b=0.0, d=0.29, beta=3.0)
    offsets = np.arange(-12.0, 13.0)
    kernel = narrow.at(offsets[:, None], offsets[None, :])
    kernel[np.abs(np.hypot(offsets[:, None], offsets[None, :]) - 7) < 1.5] -= 0.002
    asked = asked_for(
        Optics(psf=(kernel / kernel.sum()).astype(np.float32)), Task.DECONVOLVE, views=1
    )
    rows, cols = np.indices((SIDE_PX, SIDE_PX), dtype=np.float64)
    places = [(16.1, 15.8), (16.4, 46.2), (46.0, 16.3), (45.7, 46.4), (31.2, 31.0)]
    light = 40 + sum(5e4 * narrow.at(rows - row, cols - col) for row, col in places)
    rng = np.random.default_rng(1)
    pixels = rng.poisson(light) + 2 * rng.standard_normal(light.shape)
    noise = sensor_noise(gain=1.0, read_noise=2.0)
    asked = replace(asked, pixels=pixels.astype(np.float32), noise=noise)
    region = prepare(asked, measure_sky([asked]))
    assert float(region.stars.min()) * region.noise.slope < -0.2  # else this guards nothing
    dark = torch.full_like(region.observed, region.noise.dark_level)
    assert float(region.noise.sigma(dark).min()) == pytest.approx(2 / region.scale.sigma, rel=0.01)


@pytest.mark.parametrize(
    ("optics", "task", "disagree"),
    [(OPTICS[0], Task.SUPER_RESOLVE, False), (OPTICS[2], Task.DECONVOLVE, True)],
    ids=["x2", "deconvolve"],
)
def test_where_a_psf_is_undone_every_second_view_has_the_stars_left_in(optics, task, disagree):
    """What looks like one star may be two: a fit alone would be sure of it."""
    asked = asked_for(optics, task, views=2)
    region = prepare(asked, measure_sky([asked]))
    assert region.shown_stars is not None
    network = Silent(channels_of(scene_optics(optics))[1])
    networks = SceneNetworks([network], [torch.ones_like(region.known)], optics, asked.options)
    scatter = networks.asked(region.observed, region).scatter
    assert (float(scatter.max()) > 1.0) is disagree


@pytest.mark.parametrize("views", [2, 4, 8])
def test_what_lies_between_the_views_leads_to_the_scene_of_the_stars_as_they_are_fitted(views):
    asked = asked_for(OPTICS[2], Task.DECONVOLVE, views=views)
    region = prepare(asked, measure_sky([asked]))
    network, ones = Silent(channels_of(scene_optics(OPTICS[2]))[1]), torch.ones_like(region.known)
    networks = SceneNetworks([network], [ones], OPTICS[2], asked.options)
    fitted = replace(networks, options=replace(asked.options, views=1))
    answer = networks.asked(region.observed, region)
    found = answer.scene + answer.apart
    assert float(answer.apart.abs().max()) > 0.1
    torch.testing.assert_close(
        found, fitted.asked(region.observed, region).scene, atol=1e-3, rtol=1e-4
    )


def test_a_bright_star_that_looks_like_one_is_as_high_as_it_was_fitted():
    """What networks that see it in the frame make too low took half of that from it."""
    asked = asked_for(OPTICS[2], Task.DECONVOLVE, views=4)
    region = prepare(asked, measure_sky([asked]))
    network, ones = Silent(channels_of(scene_optics(OPTICS[2]))[1]), torch.ones_like(region.known)
    networks = SceneNetworks([network], [ones], OPTICS[2], asked.options)
    lacking = networks.asked(region.observed, region).scene[0, 0].numpy()
    drawn, _ = region.shown_stars.scene
    for _, row, col in region.shown_stars.places:
        at = round(row), round(col)
        assert abs(lacking[at]) < 0.05 * drawn[at]


def fitted_as_one(parts, seed=3, optics=OPTICS[2]):
    """Stars of a frame whose brightest is made of these: (height, row, col) each."""
    rows, cols = np.indices((SIDE_PX, SIDE_PX), dtype=np.float64)
    every = [*parts, (150.0, 12.2, 12.7), (90.0, 50.0, 12.5), (120.0, 12.4, 52.1)]
    light = sum(height * SHAPE.at(rows - row, cols - col) for height, row, col in every)
    frame = light + np.random.default_rng(seed).standard_normal(light.shape)
    ones = np.ones_like(frame)
    stars = find_shown_stars(frame, ones, ones > 0, SHAPE)
    return in_scene(stars, SHAPE, optics)


def trust_at(stars, row, col):
    return stars.trust_in_scene()[round(row), round(col)]


def test_the_brighter_a_star_is_the_more_it_is_taken_for_one():
    trust = [
        np.mean(
            [trust_at(fitted_as_one([(height, 40.3, 40.2)], seed), 40.3, 40.2) for seed in range(4)]
        )
        for height in (8.0, 30.0, 400.0)
    ]
    assert trust[0] < trust[1] < trust[2]
    assert trust[2] > 0.9


def test_two_that_are_fitted_as_one_are_not_taken_for_it():
    """Though they are not unlike one by the five standard errors that make them doubted."""
    pair = [(30.0, 40.3, 39.65), (30.0, 40.3, 40.75)]
    for seed in range(4):
        stars = fitted_as_one(pair, seed)
        near = np.hypot(*(stars.places[:, 1:] - (40.3, 40.2)).T) < 2
        assert near.sum() == 1
        assert trust_at(stars, 40.3, 40.2) < 0.15
        assert trust_at(stars, 12.4, 52.1) > 0.5


def test_trust_is_that_of_the_nearest_star_of_the_scene_up_to_where_it_ends():
    """Places are the frame's: taken for those of the scene, other pixels were trusted."""
    offsets = np.arange(-24.0, 25.0)
    finer = SHAPE.widened(2).at(offsets[:, None], offsets[None, :])
    optics = Optics(factor=2, psf=(finer / finer.sum()).astype(np.float32))
    pair = [(30.0, 40.3, 39.65), (30.0, 40.3, 40.75)]
    trust = fitted_as_one(pair, optics=optics).trust_in_scene()
    assert trust.shape == (2 * SIDE_PX, 2 * SIDE_PX)
    assert trust[78:85, 78:84].max() < 0.15
    assert trust[23:28, 23:28].min() > 0.5
    assert trust[0, 0] == pytest.approx(trust[25, 26], abs=0.02)


@pytest.mark.parametrize(
    ("optics", "task", "views"),
    [(OPTICS[0], Task.SUPER_RESOLVE, 1), (OPTICS[2], Task.DECONVOLVE, 1)],
    ids=["x2", "deconvolve"],
)
def test_what_a_fit_makes_of_noise_is_not_shrunk_with_what_networks_draw(optics, task, views):
    asked = asked_for(optics, task, views=views)
    region = prepare(asked, measure_sky([asked]))
    network = Silent(channels_of(scene_optics(optics))[1])
    networks = SceneNetworks([network], [torch.ones_like(region.known)], optics, asked.options)
    shrinking = Restraint(lost=LostLight((0.0,), (0.7,), (0.0,)))
    probe = draw_noise(region.observed, torch.Generator().manual_seed(4), region.noise.root)
    moved_on = moved_by(region, probe)
    seen = [
        scene_optics(optics).observe(networks.restored(one, region, shrinking)[0])
        for one in (region.observed, moved_on)
    ]
    of_stars = (
        networks.asked(moved_on, region).taken - networks.asked(region.observed, region).taken
    )
    power = float((of_stars**2).sum())
    assert float(((seen[1] - seen[0]) * of_stars).sum()) / power == pytest.approx(1.0, abs=0.1)


def test_light_is_taken_for_that_of_stars_as_far_as_they_are_drawn_as_they_were_fitted():
    """Of half the views, which have them left in, none is; the others may outweigh them."""
    asked = asked_for(OPTICS[2], Task.DECONVOLVE, views=4)
    region = prepare(asked, measure_sky([asked]))
    network = Silent(channels_of(scene_optics(OPTICS[2]))[1])
    shares = [torch.ones_like(region.known)]
    networks = SceneNetworks([network], shares, OPTICS[2], asked.options)
    moved = region.observed + torch.ones_like(region.observed)
    whole = region.shown_stars.change(moved)
    trust = torch.from_numpy(region.shown_stars.trust_in_scene())[None, None].to(whole)
    assert 0.5 < float(trust.max()) < 1.0
    torch.testing.assert_close(networks.asked(moved, region).taken, whole * (1 + trust) / 2)


@pytest.mark.parametrize("task", [Task.SUPER_RESOLVE, Task.DECONVOLVE])
def test_a_hole_of_a_scene_follows_what_is_observed_around_it(task):
    """Else the response to a step, and with it the risk, would be too small beside holes."""
    optics = OPTICS[0] if task is Task.SUPER_RESOLVE else OPTICS[2]
    asked = asked_for(optics, task, views=4)
    asked.masked[30:33, 28:31] = True
    region = prepare(asked, measure_sky([asked]))
    network = Silent(channels_of(scene_optics(optics))[1])
    networks = SceneNetworks([network], [torch.ones_like(region.known)], optics, asked.options)
    scenes = [networks.asked(region.observed + step * region.known, region)[0] for step in (0, 4)]
    moved = scene_optics(optics).observe(scenes[1] - scenes[0])
    hole = float(moved[..., 30:33, 28:31].mean())
    assert hole == pytest.approx(float(moved[..., 26:37, 24:35].mean()), rel=0.1)
    assert hole > 2


class Dark(Silent):
    """Answers that there is less light than the first guess says."""

    def forward(self, features):
        return super().forward(features) - 0.5


@pytest.mark.parametrize("task", [Task.SUPER_RESOLVE, Task.DECONVOLVE])
def test_a_scene_is_mended_by_what_it_shows_otherwise_than_was_observed(task):
    optics = OPTICS[0] if task is Task.SUPER_RESOLVE else OPTICS[2]
    asked = asked_for(optics, task, views=1)
    region = prepare(asked, measure_sky([asked]))
    network = Dark(channels_of(scene_optics(optics))[1])
    networks = SceneNetworks([network], [torch.ones_like(region.known)], optics, asked.options)
    scenes = (
        networks.asked(region.observed, region)[0],
        networks.deliver(region, Restraint(), seed=1).scene,
    )
    off_by = [
        float((scene_optics(optics).observe(scene) - region.observed).mean()) for scene in scenes
    ]
    assert off_by[0] < -0.2  # otherwise this test guards nothing
    assert abs(off_by[1]) < -off_by[0] / 3


def test_a_step_moves_no_pixel_that_is_unknown_and_noise_follows_the_light():
    asked = asked_for(OPTICS[0], Task.SUPER_RESOLVE, views=1)
    asked.masked[30:33, 28:31] = True
    region = prepare(asked, measure_sky([asked]))
    moved = moved_by(region, torch.ones_like(region.observed)) != region.observed
    torch.testing.assert_close(moved.float(), region.known)
    network = Silent(channels_of(scene_optics(OPTICS[0]))[1])
    networks = SceneNetworks([network], [torch.ones_like(region.known)], OPTICS[0], asked.options)
    delivery = networks.deliver(region, Restraint(), seed=1)
    brighter = replace(delivery, seen=delivery.seen + 100)
    noise = replace(region.noise, slope=1.0)
    anew = observed_anew(replace(region, noise=noise), brighter, torch.zeros_like(moved).float())
    assert float(anew.sigma.median()) == pytest.approx(
        float(noise.sigma(brighter.seen).median()), rel=0.02
    )


@pytest.mark.parametrize("optics", OPTICS, ids=["x2", "x3", "deconvolve"])
@pytest.mark.parametrize("step", [0.0, 0.5])
def test_stars_are_counted_once_however_many_views_have_them_left_in(optics, step):
    """Of a scene all of whose networks answer zero, what it shows is what was observed."""
    task = Task.SUPER_RESOLVE if optics.psf is None else Task.DECONVOLVE
    asked = asked_for(optics, task, views=8)
    region = prepare(asked, measure_sky([asked]))
    light = torch.from_numpy(region.shown_stars.light)[None, None].to(region.observed)
    network = Silent(channels_of(scene_optics(optics))[1])
    networks = SceneNetworks([network], [torch.ones_like(region.known)], optics, asked.options)
    observed = region.observed + step * light / light.max()
    scene = networks.asked(observed, region).scene
    off = scene_optics(optics).observe(scene) - observed
    assert abs(float(off.sum())) < 0.01 * float(light.sum())
    assert float(off.abs().max()) < 0.3 * float(light.max())


def blended(apart_px, height=300.0):
    """Two stars of a height, side by side, as one region's stars."""
    rows, cols = np.indices((SIDE_PX, SIDE_PX), dtype=np.float64)
    places = [(30.2, 31.4 - apart_px / 2), (30.2, 31.4 + apart_px / 2)]
    light = sum(height * SHAPE.at(rows - row, cols - col) for row, col in places)
    frame = light + np.random.default_rng(1).standard_normal(light.shape)
    ones = np.ones_like(frame)
    return find_shown_stars(frame, ones, ones > 0, SHAPE), places


def test_two_stars_that_are_taken_for_one_are_in_doubt_by_as_much_as_that_is_wrong():
    stars, places = blended(1.3)
    assert len(stars.places) == 1
    scene = in_scene(stars, SHAPE, OPTICS[2])
    drawn, _ = scene.scene
    rows, cols = np.indices((SIDE_PX, SIDE_PX), dtype=np.float64)
    sigma_px = TARGET_FWHM_PX / 2.3548
    truth = sum(
        np.exp(-0.5 * ((rows - row) ** 2 + (cols - col) ** 2) / sigma_px**2) for row, col in places
    )
    wrong = np.abs(drawn - truth * drawn.sum() / truth.sum())[27:34, 28:36]
    error = np.sqrt(scene.variance_in_scene())[27:34, 28:36]
    assert 0.5 * wrong.max() < error.max() < 2 * wrong.max()


def test_a_star_like_others_is_not_in_doubt_nor_are_two_that_are_told_apart():
    for apart_px, count in ((0.0, 1), (7.0, 2)):
        stars, _ = blended(apart_px)
        assert len(stars.places) == count
        assert not stars.doubts.any()
        own = np.concatenate([np.diag(one) for one in stars.equations.covariances()])
        scene = in_scene(stars, SHAPE, OPTICS[2])
        _, columns = scene.scene
        peak = np.sqrt(scene.variance_in_scene().max())
        assert peak < 2 * np.sqrt((columns.multiply(columns) @ own).max())


def unlike_one(shape, apart_px):
    """Share of their light by which two stars so far apart differ from the one that fits best."""
    rows, cols = np.indices((81, 81), dtype=np.float64) - 40.0
    pair, one = (
        sum(shape.at(rows, cols - away) for away in places).ravel()
        for places in ((-apart_px / 2, apart_px / 2), (0.0,))
    )
    return np.linalg.norm(pair - one * (one @ pair) / (one @ one)) / np.linalg.norm(pair)


@pytest.mark.parametrize("factor", [1, 2])
def test_what_is_unseen_of_a_star_is_more_of_it_where_it_is_narrower(factor):
    """By as much as two stars that look like one differ more from it in the scene."""
    shape = StarShape(a=0.0029, b=0.0, d=0.0029, beta=30.0)
    ends = np.arange(-12.0 * factor, 12.0 * factor + 1)
    kernel = shape.widened(factor).at(ends[:, None], ends[None, :])
    optics = Optics(factor=factor, psf=(kernel / kernel.sum()).astype(np.float32))
    rows, cols = np.indices((SIDE_PX, SIDE_PX), dtype=np.float64)
    frame = 300 * shape.at(rows - 30.2, cols - 41.4)
    frame += np.random.default_rng(1).standard_normal(frame.shape)
    ones = np.ones_like(frame)
    stars = find_shown_stars(frame, ones, ones > 0, shape)
    stars = replace(stars, unseen=np.array([1e-3]), doubts=np.array([2e-3]))
    scene = in_scene(stars, shape, optics)
    more = unlike_one(TargetShape(), 0.2 * factor) / unlike_one(shape, 0.2)
    assert scene.unseen[0] / 1e-3 == pytest.approx(more, rel=0.15)
    assert scene.doubts[0] / 2e-3 == pytest.approx(more, rel=0.15)
    assert in_scene(replace(stars, unseen=np.array([0.5])), shape, optics).unseen[0] == 1.0


def test_noise_alone_puts_no_star_in_doubt():
    """Of a hundred stars' chi-squares some are half as large again by chance."""
    frame = np.random.default_rng(3).standard_normal((200, 200))
    rows, cols = np.indices(frame.shape, dtype=np.float64)
    for row, col in np.ndindex(10, 10):
        frame += 30 * SHAPE.at(rows - 20 * row - 9.7, cols - 20 * col - 10.4)
    ones = np.ones_like(frame)
    stars = find_shown_stars(frame, ones, ones > 0, SHAPE)
    assert len(stars.places) == 100
    assert not stars.doubts.any()


def test_where_no_psf_is_undone_a_star_is_as_it_is_seen_and_not_in_doubt():
    stars, _ = blended(1.3)
    assert stars.doubts.any()
    assert not in_scene(stars, SHAPE, OPTICS[0]).doubts.any()
