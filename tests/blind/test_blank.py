"""Laws of areas without data: told from a sky of whole numbers that agree by chance."""

import numpy as np
import pytest

from dip_pipeline.blind.sky import Window

SHAPE = (128, 128)


def good_of(pixels):
    return Window.of(pixels.astype(np.float32), np.ones(SHAPE, bool)).good


def whole_numbers(level_dn, sigma_dn):
    return np.rint(np.random.default_rng(7).normal(level_dn, sigma_dn, SHAPE))


@pytest.mark.parametrize("sigma_dn", [0.2, 0.3, 0.5])
def test_whole_numbers_agree_by_chance(sigma_dn):
    assert good_of(whole_numbers(100.0, sigma_dn)).all()


def test_so_do_those_of_a_sky_that_rises_by_one():
    assert good_of(whole_numbers(100.0 + np.linspace(0, 1, SHAPE[1]), 0.15)).all()


def test_an_edge_far_below_them_is_blank():
    pixels = whole_numbers(100.0, 0.3)
    pixels[:40] = 0.0
    good = good_of(pixels)
    assert not good[:40].any()
    assert good[40:].all()
