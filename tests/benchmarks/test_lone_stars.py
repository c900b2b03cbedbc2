"""Lone stars: truth and observation hold the same light, at one place, at the S/N that is told."""

import numpy as np
import pytest

from benchmarks import lone_stars
from benchmarks.lone_stars import SKY_DN, SNRS, observe_grid


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_truth_and_observation_hold_the_same_light_at_the_same_places(factor):
    scene = observe_grid(2, factor=factor, fwhm_px=2.7, pair_fwhm=0.0)
    assert scene.signal.sum() == pytest.approx(scene.stars["flux_dn"].sum(), rel=1e-3)
    assert scene.level.sum() == pytest.approx(scene.truth.sum(), rel=0.01)
    distances = lone_stars._distances_px(scene)
    for number, star in enumerate(scene.stars):
        peak = np.unravel_index(scene.truth.argmax(), scene.truth.shape)
        if star["flux_dn"] == scene.stars["flux_dn"].max() and distances[number][peak] < 1:
            break
    else:
        pytest.fail("the brightest pixel is at no brightest star")


@pytest.mark.parametrize("snrs", [SNRS, (6.0, 20.0)])
def test_stars_have_the_signal_to_noise_that_is_told(snrs):
    scene = observe_grid(2, factor=1, fwhm_px=2.7, pair_fwhm=0.0, snrs=snrs)
    rows, cols = np.indices(scene.level.shape)
    for number, snr in enumerate(snrs):
        row, col = scene.stars["row"][number], scene.stars["col"][number]
        near = np.hypot(rows - row, cols - col) < 11
        light = (scene.level - SKY_DN)[near]
        assert np.sqrt(((light / scene.sigma[near]) ** 2).sum()) == pytest.approx(snr, rel=0.03)


def test_a_pair_is_wider_and_no_brighter_than_a_star():
    one, two = (observe_grid(2, factor=2, fwhm_px=2.7, pair_fwhm=pair) for pair in (0.0, 0.4))
    assert two.signal.sum() == pytest.approx(one.signal.sum(), rel=1e-3)
    assert two.signal.max() < 0.9 * one.signal.max()
