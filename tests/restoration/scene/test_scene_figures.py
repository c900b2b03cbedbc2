"""What is told of a restored scene: its errors and the figures of its outcome, in their units."""

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from scipy import ndimage

from dip_pipeline.flags import PixelFlag
from dip_pipeline.restoration.delivering.uncertainty import ErrorTable, LitErrors
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.problem import FitOptions
from dip_pipeline.restoration.scene.prior import ScenePrior, fit_scene_prior
from dip_pipeline.restoration.scene.restore import _count, restore_scene
from dip_pipeline.restoration.stars.shown_stars import ShownStars
from dip_pipeline.restoration.stars.star_shape import StarShape
from dip_pipeline.restoration.views.regions import PixelNoise
from dip_pipeline.simulate import DetectorOptions
from dip_pipeline.task import Task

SHAPE = (48, 64)
INNER = (slice(8, 40), slice(4, 60))
OPTIONS = FitOptions(steps=2, views=2, task=Task.SUPER_RESOLVE)


@pytest.fixture(scope="module")
def starry(problem, law):
    """A sky of six stars whose PSF is undone, noise that hangs together; and its prior."""
    shape = StarShape(a=0.14, b=0.0, d=0.14, beta=3.0)
    rows, cols = np.indices(SHAPE, dtype=np.float64)
    level = np.full(SHAPE, 200.0)
    for row, col in np.ndindex(2, 3):
        level += 3000 * shape.at(rows - 24 * row - 12.3, cols - 20 * col - 11.7)
    observed = level + DetectorOptions().sigma_dn(level) * np.random.default_rng(1).normal(
        size=SHAPE
    )
    psf = (shape.stamp(10) / shape.stamp(10).sum()).astype(np.float32)
    masked = np.zeros(SHAPE, bool)
    masked[30:33, 30:33] = True
    asked = problem(
        observed,
        law.correlated(law.sensor()),
        options=OPTIONS,
        optics=Optics(1, psf=psf),
        masked=masked,
        inner=INNER,
    )
    return asked, fit_scene_prior([asked], SHAPE, seed=3)


def restored(starry, **planes):
    """Restore it, its delivery changed."""
    asked, prior = starry
    deliver = ScenePrior.deliver

    def changed(self, region, *more, **options):
        delivery = deliver(self, region, *more, **options)
        return replace(delivery, **{name: of(region) for name, of in planes.items()})

    with mock.patch.object(ScenePrior, "deliver", changed):
        return restore_scene(asked, prior)


def scatter_of_heights(star, kernel):
    """Standard deviation of a star's fitted height in noise of a correlation, over white noise."""
    stamp = star.stamp(10)
    white = np.random.default_rng(2).standard_normal((4000, 29, 29))
    hanging = ndimage.convolve(white, np.array(kernel.root)[None])
    heights = np.tensordot(hanging[:, 4:-4, 4:-4], stamp / (stamp**2).sum(), 2)
    return heights.std() * np.sqrt((stamp**2).sum())


def noisy(sigma):
    """Give the error of stars in white noise a number, in sky sigma."""

    def variance(self, widening=1.0):
        return np.full(SHAPE, (sigma * widening) ** 2)

    return mock.patch.object(ShownStars, "variance_in_scene", variance)


@pytest.mark.parametrize("apart", [30.0, -30.0])
def test_the_error_reaches_from_the_scene_to_the_stars_as_fitted_and_their_noise(starry, apart):
    """Of a normal error of 1, 0.476 and less are 68.3 %: one side of it counts.

    Where noise hangs together a star's height has more of it than in white noise.
    """
    asked, prior = starry
    widening = scatter_of_heights(prior.scale.star, asked.noise.correlation)
    with noisy(2.0):
        found = restored(starry, apart=lambda region: torch.full_like(region.observed, apart))
    expected = (30 + 0.476 * 2 * widening) * prior.scale.sigma
    assert found.error[found.flags == 0] == pytest.approx(expected, rel=5e-3)
    with noisy(100.0):
        found = restored(starry, apart=lambda region: torch.zeros_like(region.observed))
    expected = 100 * widening * prior.scale.sigma
    assert found.error[found.flags == 0] == pytest.approx(expected, rel=0.05)


def test_the_figures_of_a_scene_are_of_the_inner_pixels_that_are_trusted(starry):
    """It shows half a sky's sigma more than was observed, of pixels of that noise."""
    asked, prior = starry
    planes = {
        "seen": lambda region: region.observed + 0.5,
        "squared_error": lambda region: torch.arange(region.observed.numel()).view_as(
            region.observed
        ),
    }
    told = replace(prior, errors=replace(prior.errors, lacking=(7.0,) * len(prior.errors.tables)))
    with mock.patch.object(PixelNoise, "judging_sigma", lambda _, level: level.new_tensor(2.0)):
        outcome = restored((asked, told), **planes).outcome
    valid = asked.valid[INNER]
    assert outcome.judged_pixels == valid.sum()
    assert outcome.flux_change == pytest.approx(0.5 * prior.scale.sigma * valid.sum(), rel=1e-4)
    assert outcome.chi_square == pytest.approx(0.25**2, rel=1e-4)
    squares = np.arange(asked.pixels.size).reshape(SHAPE)[INNER][valid]
    assert outcome.risk == pytest.approx(squares.mean() + 7.0)
    error = squares.std() / squares.size**0.5 * asked.noise.correlation.widening
    assert outcome.risk_error == pytest.approx(error, rel=1e-3)


def test_far_from_all_that_is_known_a_scene_is_unsure_and_farther_there_is_none(starry):
    asked, prior = starry
    masked = asked.masked.copy()
    masked[:, 20:62] = True  # known again from column 62 on
    found = restore_scene(replace(asked, masked=masked, inner=(slice(None), slice(None))), prior)
    away_px = np.minimum(np.arange(64) - 19, 62 - np.arange(64))[None, :] * np.ones((48, 1))
    unsure = (found.flags & PixelFlag.LOW_CONFIDENCE) != 0
    hidden = masked.copy()
    assert unsure[hidden].tolist() == (away_px > 4)[hidden].tolist()
    assert np.isnan(found.science).tolist() == (hidden & (away_px > 16)).tolist()
    assert np.isnan(found.error[hidden]).all()


def test_errors_are_those_of_pixels_as_bright_as_they_are(starry):
    """On the left half of a sky the scene is dark, on the right it is bright."""
    asked, prior = starry
    tables = (ErrorTable((0.0,), (1.0,)), ErrorTable((0.0,), (5.0,)))
    told = replace(prior, errors=LitErrors((3.0,), tables))

    def light(region):
        return 100.0 * (torch.arange(64) >= 32).expand(1, 1, *SHAPE)

    unit = {"fine_sigma": lambda region: torch.full_like(region.observed, 2.0)}
    unit["apart"] = lambda region: torch.zeros_like(region.observed)
    with noisy(0.0):
        found = restored((asked, told), light=light, **unit)
    bright = np.broadcast_to(np.arange(64) >= 32, SHAPE)[INNER]
    for half, error in ((bright, 5.0), (~bright, 1.0)):
        here = half & (found.flags == 0)
        assert found.error[here] == pytest.approx(2 * error * prior.scale.sigma, rel=1e-5)


def test_a_pixel_in_doubt_is_counted_once_and_by_the_tile_that_it_is_in(starry):
    asked = replace(starry[0], optics=Optics(2))
    doubted = np.zeros((96, 128), bool)
    doubted[40, 40] = doubted[50:52, 40:42] = True  # one fine pixel of one, and all four of another
    doubted[2:4, 40:42] = True  # of another tile
    doubted[60:66, 60:66] = True  # masked
    assert _count(doubted, asked) == 2
