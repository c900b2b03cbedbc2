"""The seam test sees what an eye would at tile borders, and nothing where there is nothing."""

import numpy as np
import pytest
from scipy import ndimage

from dip_pipeline.quality import seam_test

ROWS, COLS = [128], [112, 240]
SHAPE = (256, 352)


def noise(seed, smooth_px=0.0):
    unit = np.random.default_rng(seed).standard_normal(SHAPE)
    if smooth_px:
        unit = ndimage.gaussian_filter(unit, smooth_px, mode="wrap")
    return unit / unit.std()


@pytest.mark.parametrize("smooth_px", [0.0, 0.7, 2.0, 10.0])
def test_noise_without_seams_passes_however_correlated(smooth_px):
    worst = [seam_test(noise(seed, smooth_px), ROWS, COLS).worst for seed in range(12)]
    # Six figures a frame: one frame in sixty reaches 3 by chance.
    assert sum(value >= 3 for value in worst) <= 1
    assert np.median(worst) > 0.5  # and it does measure something


def test_differences_are_in_units_of_their_standard_errors():
    found = [
        (d.mean, d.scatter, d.step)
        for seed in range(40)
        for d in seam_test(noise(100 + seed, 1.0), ROWS, COLS).differences
    ]
    np.testing.assert_allclose(np.std(found, axis=0), 1.0, atol=0.3)
    np.testing.assert_allclose(np.mean(found, axis=0), 0.0, atol=0.4)


@pytest.mark.parametrize("seed", range(4))
def test_a_step_of_a_third_of_sigma_between_tiles_is_caught(seed):
    residual = noise(seed)
    residual[128:] += 0.3
    report = seam_test(residual, ROWS, [])
    assert not report.passed
    assert report.differences[0].step > 3


def test_steps_of_both_signs_do_not_cancel():
    residual = noise(3)
    residual[:, 112:240] += 0.3  # up at one border, down at the next
    assert not seam_test(residual, [], COLS).passed


def test_one_bright_core_at_a_border_does_not_decide():
    residual = noise(5)
    assert seam_test(residual, ROWS, COLS).passed
    residual[128, 50], residual[60, 239] = 1e4, -1e4
    assert seam_test(residual, ROWS, COLS).passed


def test_each_piece_of_a_border_lies_between_two_tiles():
    rows, cols = seam_test(noise(5), ROWS, COLS).differences
    assert (rows.along, rows.pieces) == ("rows", 3)  # one border over three tiles
    assert (cols.along, cols.pieces) == ("cols", 4)  # two over two


def test_one_tile_that_is_off_is_caught():
    residual = noise(4)
    residual[:128, :112] += 1.0
    assert not seam_test(residual, ROWS, COLS).passed


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_another_texture_along_a_border_is_caught(factor):
    residual = noise(5)
    residual[:, 110:114] *= factor
    report = seam_test(residual, ROWS, COLS)
    assert not report.passed
    cols = next(d for d in report.differences if d.along == "cols")
    assert np.sign(cols.scatter) == np.sign(factor - 1)


def test_a_ridge_along_a_border_is_caught():
    residual = noise(6)
    residual[126:130] += 0.25
    assert not seam_test(residual, ROWS, COLS).passed


def test_the_same_ridge_elsewhere_is_not_blamed_on_the_border():
    residual = noise(6)
    residual[60:64] += 0.25
    assert seam_test(residual, ROWS, COLS).passed


def test_masked_pixels_are_left_out():
    residual = noise(7)
    residual[100:130, 50:90] = np.nan
    residual[:, 113] = np.nan
    assert seam_test(residual, ROWS, COLS).passed
    residual[128:] += 0.3
    assert not seam_test(residual, ROWS, COLS).passed


def test_a_smooth_gradient_is_no_seam():
    gradient = np.linspace(-1, 1, SHAPE[0])[:, None] + np.linspace(-1, 1, SHAPE[1])[None, :]
    assert seam_test(noise(8) + gradient, ROWS, COLS).passed


def test_a_smooth_gradient_does_not_hide_a_ridge():
    residual = noise(6) + np.linspace(-1, 1, SHAPE[0])[:, None]
    residual[126:130] += 0.25
    assert not seam_test(residual, ROWS, COLS).passed


@pytest.mark.parametrize(
    "residual",
    [np.zeros((1, 1)), np.zeros(SHAPE), np.full(SHAPE, np.nan), np.zeros((20, 3))],
    ids=["one pixel", "zero", "nan", "narrow"],
)
def test_frames_that_cannot_be_judged_give_an_empty_report(residual):
    report = seam_test(residual, [0, 10, 128, 256], [1, 2])
    assert report.differences == ()
    assert report.passed
