"""Flux bias finds dimming that is there, and none that is not."""

import numpy as np
import pytest

from dip_pipeline.quality import FluxOffsets, bin_offsets, flux_bias, flux_offsets, join_offsets
from dip_pipeline.simulate import GALAXY, STAR, Scene, SceneOptions

OPTIONS = SceneOptions(shape=(240, 240), saturated_star=False)


@pytest.fixture(scope="module")
def field():
    """Isolated stars on a grid: truth, sigma and the catalogue."""
    rng = np.random.default_rng(2)
    rows, cols = (axis.ravel() * 20.0 + 10 for axis in np.indices((12, 12)))
    stars = np.zeros(rows.size, STAR)
    stars["row"] = rows + rng.uniform(-0.5, 0.5, rows.size)
    stars["col"] = cols + rng.uniform(-0.5, 0.5, rows.size)
    stars["flux_dn"] = 10 ** rng.uniform(2.6, 4.4, rows.size)
    scene = Scene(OPTIONS, stars, np.zeros(0, GALAXY))
    return scene.render(), np.full(OPTIONS.shape, 10.0), stars


def test_the_truth_has_no_flux_bias(field):
    truth, sigma, stars = field
    rows = [row for row in flux_bias(truth, truth, stars, sigma) if row.stars]
    assert sum(row.stars for row in rows) > 120
    assert [row.median for row in rows] == [0.0] * len(rows)


def test_an_injected_dimming_of_10_percent_is_found_in_every_bin(field):
    truth, sigma, stars = field
    sky = OPTIONS.sky_dn
    dimmed = sky + 0.9 * (truth - sky)
    rows = flux_bias(dimmed, truth, stars, sigma)
    # The circle of 4 pixels holds 0.91 of this PSF's light, neighbours add a little.
    assert sum(row.stars for row in rows) > 120
    for row in rows:
        if row.stars > 5:
            assert row.median == pytest.approx(-0.1 * 0.91, abs=0.005)


def test_a_known_offset_of_the_sum_is_returned_exactly():
    truth, sigma = np.zeros((41, 41)), np.ones((41, 41))
    stars = np.array([(20.0, 20.0, 1000.0)], dtype=STAR)
    restored = truth.copy()
    restored[20, 20] = -100.0
    found = flux_offsets(restored, truth, stars, sigma)
    assert found.offset[0] == pytest.approx(-0.1)
    assert found.snr[0] == pytest.approx(1000 / np.sqrt(np.pi * 16), rel=1e-6)


def test_stars_are_looked_for_at_row_and_col_not_the_reverse():
    truth, sigma = np.zeros((40, 80)), np.ones((40, 80))
    restored = truth.copy()
    restored[10, 60] = 50.0
    stars = np.array([(10.0, 60.0, 100.0)], dtype=STAR)
    assert flux_offsets(restored, truth, stars, sigma).offset[0] == pytest.approx(0.5)


def test_stars_at_the_border_and_on_saturated_pixels_are_left_out():
    truth, sigma = np.zeros((41, 41)), np.ones((41, 41))
    stars = np.array([(1.0, 20.0, 9.0), (20.0, 20.0, 9.0), (30.0, 10.0, 9.0)], dtype=STAR)
    saturated = truth > 1
    saturated[22, 21] = True
    assert flux_offsets(truth, truth, stars, sigma).snr.size == 2
    assert flux_offsets(truth, truth, stars, sigma, without=saturated).snr.size == 1
    assert flux_offsets(truth, truth, stars[:0], sigma).snr.size == 0


def test_bins_hold_each_star_once():
    offsets = FluxOffsets(np.array([4.9, 5.0, 9.99, 10.0, 29.0, 30.0, 2000.0]), np.zeros(7))
    assert [row.stars for row in bin_offsets(offsets)] == [2, 2, 1, 0]


def test_the_bootstrap_error_is_the_scatter_of_the_median():
    rng = np.random.default_rng(8)
    # The median of n Gaussian values scatters by sqrt(pi / (2 n)).
    offsets = FluxOffsets(np.full(900, 7.0), rng.standard_normal(900))
    assert bin_offsets(offsets)[0].error == pytest.approx(np.sqrt(np.pi / 1800), rel=0.35)


def test_fields_joined_are_measured_together():
    one, two = FluxOffsets(np.full(3, 6.0), np.zeros(3)), FluxOffsets(np.full(2, 6.0), np.ones(2))
    assert bin_offsets(join_offsets([one, two]))[0].stars == 5
    assert join_offsets([]).snr.size == 0
