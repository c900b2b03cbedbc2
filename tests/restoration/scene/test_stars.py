"""Stars drawn into rehearsed scenes: their shape, their places, their light."""

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.forward.scene_optics import scene_optics
from dip_pipeline.restoration.scene.stars import sharpest_shape, star_stamps
from dip_pipeline.restoration.stars.star_shape import FittedStar, StarShape
from dip_pipeline.simulate import MoffatPsf

SEEN = StarShape(a=0.25, b=0.03, d=0.2, beta=3.2)  # about 2 px wide


class OneStar:
    """Stands for a generator; draws one star, of a chosen place and height, and no clump."""

    def __init__(self, place, height):
        self.place, self.height = place, height

    def poisson(self, _):
        return 1

    def random(self):
        return 1.0

    def uniform(self, _, high):
        return np.array(self.place) if np.ndim(high) else np.log(self.height)


def drawn(stamps, side, place, height):
    return stamps.draw(torch.zeros(1, 1, side, side), OneStar(place, height))


@pytest.mark.parametrize("factor", [2, 3])
def test_a_drawn_star_seen_by_coarse_pixels_is_the_frames_own(factor):
    stamps = star_stamps(Optics(factor), SEEN, 50.0)
    assert stamps is not None
    place = np.array([20.25, 22.625])  # fine pixels
    scene = drawn(stamps, 40 * factor, place, 10.0)
    seen = torch.nn.functional.avg_pool2d(scene, factor)[0, 0].double().numpy()
    rows, cols = (np.arange(40) - ((at + 0.5) / factor - 0.5) for at in place)
    expected = 10.0 * SEEN.at(rows[:, None], cols[None, :]) / SEEN.at(0.0, 0.0)
    assert np.abs(seen - expected).max() < 0.015 * 10.0


def test_a_star_of_a_deconvolved_scene_shows_its_psf():
    offsets = np.arange(-12, 13.0)
    psf = MoffatPsf(3.5).density(offsets[:, None], offsets[None, :])
    optics = Optics(1, (psf / psf.sum()).astype(np.float32))
    stamps = star_stamps(optics, None, 50.0)
    assert stamps is not None
    scene = drawn(stamps, 64, np.array([32.0, 32.0]), 10.0)
    seen = scene_optics(optics).observe(scene.double())[0, 0].numpy()
    expected = 10.0 * psf / psf.max()
    assert np.abs(seen[20:45, 20:45] - expected).max() < 0.02 * 10.0


class Counting(np.random.Generator):
    """Remembers how many stars were to be expected."""

    def poisson(self, lam):
        self.expected = [*getattr(self, "expected", []), lam]
        return super().poisson(lam)


@pytest.mark.parametrize("factor", [1, 2])
def test_as_many_stars_are_drawn_for_a_pixel_of_the_frame_however_fine_its_scene(factor):
    """From one in 1500 to one in 80, even in the logarithm."""
    rng = Counting(np.random.PCG64(4))
    star_stamps(Optics(factor), SEEN, 50.0).draw(torch.zeros(600, 1, 8 * factor, 8 * factor), rng)
    mean = (1 / 80 - 1 / 1500) / np.log(1500 / 80)
    assert np.mean(rng.expected) / 64 == pytest.approx(mean, rel=0.1)
    assert min(rng.expected) >= 64 / 1500
    assert max(rng.expected) <= 64 / 80


def test_stars_are_drawn_as_bright_as_the_frames_own_and_half_as_bright_again():
    stamps = star_stamps(Optics(1), SEEN, 400.0)
    drawn = stamps.draw(torch.zeros(400, 1, 16, 16), np.random.default_rng(2))
    peaks = drawn.amax(dim=(1, 2, 3)).numpy()
    assert 400 < peaks.max() < 2 * 600
    assert np.mean(peaks > 40) > 0.1  # even in the logarithm: not all are faint


def test_stars_past_a_border_reach_in_with_their_wings_only():
    stamps = star_stamps(Optics(2), SEEN, 50.0)
    assert stamps is not None
    inside = drawn(stamps, 96, np.array([40.0, 48.0]), 10.0)
    moved = drawn(stamps, 96, np.array([95.0, 48.0]), 10.0)
    torch.testing.assert_close(moved[..., 75:96, :], inside[..., 20:41, :])
    assert float(moved.max()) == pytest.approx(float(inside.max()))


def test_turned_stamps_are_those_of_the_turned_star():
    stamps = star_stamps(Optics(2), SEEN, 50.0)
    assert stamps is not None
    turned = star_stamps(Optics(2), StarShape(SEEN.d, -SEEN.b, SEEN.a, SEEN.beta), 50.0)
    assert turned is not None
    torch.testing.assert_close(
        stamps.turned(1, flip=False).table, turned.table, atol=1e-3, rtol=1e-3
    )


def test_nobody_draws_stars_whose_shape_is_not_known():
    assert star_stamps(Optics(2), None, 50.0) is None
    assert sharpest_shape([FittedStar(SEEN, 5.0, None, (0, 0))]) is None


def test_galaxies_do_not_pass_for_stars_where_stars_are_few():
    galaxy = StarShape(0.05, 0.0, 0.05, 2.0)
    found = sharpest_shape(
        [FittedStar(galaxy, 500.0, None, (0, 0))] * 3 + [FittedStar(SEEN, 80.0, None, (0, 0))]
    )
    assert found == SEEN
