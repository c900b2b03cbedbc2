"""Errors of stars and galaxies of a scene: what a rehearsal of it cannot know is claimed, too."""

import numpy as np
import pytest

from dip_pipeline.restoration.delivering.uncertainty import ONE_SIGMA_SHARE
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.forward.target_star import TARGET_SIGMA_PX
from dip_pipeline.restoration.problem import FitOptions
from dip_pipeline.restoration.scene.prior import ScenePrior, fit_scene_prior
from dip_pipeline.restoration.scene.restore import restore_scene
from dip_pipeline.simulate import MoffatPsf
from dip_pipeline.task import Task

# Its one fit takes a third of a minute; where the errors come from test_scene_figures holds.
pytestmark = pytest.mark.slow

SIDE, FACTOR, SKY = 72, 2, 200.0
_NODES = np.array([-0.375, -0.125, 0.125, 0.375])
_REACH_PX = 12 * FACTOR


def light_of(place, side, pixel_px):
    """A star of a flux of 1, as pixels of a side see it, (side, side); its place in pixels."""
    total = np.zeros((side, side))
    for down in _NODES:
        for across in _NODES:
            rows = (np.arange(side) + down - place[0]) * pixel_px
            cols = (np.arange(side) + across - place[1]) * pixel_px
            total += MoffatPsf(2.7).density(rows[:, None], cols[None, :])
    return total * pixel_px**2 / _NODES.size**2


def target_of(place):
    """The same star in the scene."""
    offsets = [np.arange(FACTOR * SIDE) - (FACTOR * (at + 0.5) - 0.5) for at in place]
    down, across = (
        np.exp(-0.5 * (away / TARGET_SIGMA_PX) ** 2) / (TARGET_SIGMA_PX * np.sqrt(2 * np.pi))
        for away in offsets
    )
    return np.outer(down, across)


def drawn(sources, rng):
    """Observation, scene and distance from the nearest source in the scene's pixels."""
    level, scene = np.full((SIDE, SIDE), SKY), np.full((SIDE * FACTOR,) * 2, SKY / FACTOR**2)
    rows, cols = np.indices(scene.shape)
    away = np.full(scene.shape, np.inf)
    for row, col, flux, extent_px in sources:
        points = [(row, col)]
        if extent_px:
            points = list(np.array([row, col]) + rng.laplace(scale=extent_px, size=(80, 2)))
        for point in points:
            level += flux / len(points) * light_of(point, SIDE, 1.0)
            scene += flux / len(points) * target_of(point)
        fine = [FACTOR * (at + 0.5) - 0.5 for at in (row, col)]
        away = np.minimum(away, np.hypot(rows - fine[0], cols - fine[1]))
    observed = (rng.poisson(2.0 * level) + 6.0 * rng.standard_normal(level.shape)) / 2.0
    return observed, scene, away


def asked_of(observed, problem, law, steps):
    side = 2 * _REACH_PX + 1
    kernel = light_of((_REACH_PX, _REACH_PX), side, 1 / FACTOR)
    return problem(
        observed.astype(np.float32),
        law.sensor(),
        options=FitOptions(steps=steps, views=4, task=Task.SUPER_RESOLVE),
        optics=Optics(FACTOR, (kernel / kernel.sum()).astype(np.float32)),
    )


@pytest.fixture(scope="module")
def judged(problem, law):
    """Stars and galaxies restored by a short fit: error over what is claimed, and where it is."""
    rng = np.random.default_rng(8)
    places = (np.indices((4, 4)).reshape(2, -1).T + 0.5) * SIDE / 4 + rng.uniform(-2, 2, (16, 2))
    kinds = [(4e3, 0.0), (3e4, 0.0), (3e5, 0.0), (6e4, 1.2)] * 4
    sources = [(*place, *kind) for place, kind in zip(places, kinds, strict=True)]
    observed, scene, _ = drawn(sources, rng)
    asked = asked_of(observed, problem, law, 12)
    prior = fit_scene_prior([asked], asked.pixels.shape, seed=3)
    result = restore_scene(asked, prior)
    ratio = (result.science - scene) / result.error

    def near(kind, reach_px):
        _, _, away = drawn([source for source in sources if source[2:] == kind], rng)
        return ratio[(away < reach_px) & np.isfinite(ratio)]

    return near, prior


@pytest.mark.parametrize("flux", [4e3, 3e4, 3e5])
def test_the_error_of_a_stars_core_covers_what_the_views_with_it_left_in_lose(judged, flux):
    near, _ = judged
    core = near((flux, 0.0), 1.6)
    assert float(np.mean(np.abs(core) < 1)) > ONE_SIGMA_SHARE - 0.2
    assert float(np.sqrt(np.mean(core**2))) < 1.6


def test_a_prior_that_is_read_again_knows_its_errors_by_brightness(judged):
    _, prior = judged
    assert len(prior.errors.tables) > 1
    assert ScenePrior.from_bytes(prior.to_bytes()).errors == prior.errors
