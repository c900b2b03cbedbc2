"""Laws of inpainting: known pixels stay, every hole is filled, and errors are honest."""

import dataclasses
import math
import sys

import numpy as np
import pytest
import torch

from dip_pipeline.flags import PixelFlag
from dip_pipeline.restoration.delivering.hole_errors import (
    Hidden,
    HoleErrors,
    brightness_of,
    distance_px,
    measure_hole_errors,
)
from dip_pipeline.restoration.delivering.inpainting import filled_simply, try_hidden, without_data
from dip_pipeline.restoration.images.filling import WIDE, Seen, krige
from dip_pipeline.restoration.images.refilling import fill_again
from dip_pipeline.restoration.priors.prior import Prior
from dip_pipeline.restoration.priors.prior_fit import fit_prior
from dip_pipeline.restoration.problem import Effort, FitOptions, StopReason
from dip_pipeline.restoration.restore import restore, unchanged
from dip_pipeline.simulate import DetectorOptions, SceneOptions, simulate
from dip_pipeline.task import Task

KEPT = FitOptions(steps=12, views=1, effort=Effort.FAST, task=Task.INPAINT, keep_known=True)
DENOISED = dataclasses.replace(KEPT, keep_known=False)
HOLE = (slice(30, 70), slice(40, 80))


def holes(shape):
    masked = np.random.default_rng(3).random(shape) < 0.02
    masked[:, 11] = True
    masked[HOLE] = True
    return masked


def tensor(plane):
    return torch.from_numpy(np.asarray(plane, dtype=np.float32))[None, None]


@pytest.fixture(scope="module")
def field(problem, law):
    """A field of 96 x 112 pixels with a 40 px hole, restored as `dip inpaint` does."""
    scene = SceneOptions("galaxies", shape=(96, 112), seed=2, saturated_star=False)
    sim = simulate(scene, DetectorOptions(defects=False))
    masked = holes((96, 112))
    saturated = np.zeros_like(masked)
    saturated[5, 50:53] = True
    masked[5, 50] = True  # asked for, though saturated: reads NaN
    pixels = np.where(masked, np.float32(np.nan), sim.observed_dn)
    asked = problem(
        pixels, law.sensor(), options=KEPT, masked=masked, saturated=saturated & ~masked
    )
    prior = fit_prior([asked], asked.pixels.shape, seed=1)
    return sim, asked, prior, restore(asked, prior)


def test_known_pixels_stay_bit_for_bit_and_their_error_is_the_noise_of_the_input(field):
    sim, asked, _, restored = field
    known = ~asked.masked
    assert restored.science[known].tobytes() == asked.pixels[known].tobytes()
    valid = asked.valid
    ratio = restored.error[valid] / sim.sigma_true_dn[valid]
    assert abs(np.median(ratio) - 1) < 0.02
    assert not restored.flags[valid].any()
    assert restored.outcome.risk == 1.0
    assert restored.outcome.flux_change == 0.0


def test_saturated_pixels_stay_and_claim_nothing(field):
    _, asked, _, restored = field
    assert asked.saturated.sum() == 2
    np.testing.assert_array_equal(restored.science[asked.saturated], asked.pixels[asked.saturated])
    assert (restored.flags[asked.saturated] == PixelFlag.SATURATED).all()
    assert np.isnan(restored.error[asked.saturated]).all()


def test_every_hole_is_filled_however_wide_and_flagged(field):
    _, asked, _, restored = field
    assert np.isfinite(restored.science).all()
    assert (restored.flags[asked.masked] & PixelFlag.FILLED).all()
    far = distance_px(~asked.masked) > 4
    assert far.sum() > 500
    np.testing.assert_array_equal((restored.flags & PixelFlag.LOW_CONFIDENCE) != 0, far)


def test_filled_pixels_have_errors_that_cover_the_truth(field):
    sim, asked, _, restored = field
    error = restored.error[asked.masked]
    assert np.isfinite(error).all()
    assert (error > 0).all()
    covered = np.abs(restored.science - sim.truth_dn)[asked.masked] < error
    assert 0.5 < covered.mean() < 0.97
    assert np.median(error / sim.sigma_true_dn[asked.masked]) < 1.0  # and say something


def test_the_error_of_hidden_stars_is_in_that_of_filled_pixels(field, monkeypatch):
    _, asked, prior, restored = field
    module = sys.modules[restore.__module__]
    prepare = module.prepare

    def with_hidden(problem, scale):
        region = prepare(problem, scale)
        hidden = region.hidden._replace(error=np.where(problem.masked, 3.0, 0.0))
        return dataclasses.replace(region, hidden=hidden)

    monkeypatch.setattr(module, "prepare", with_hidden)
    again = restore(asked, prior)
    added = again.error[asked.masked].astype(float) ** 2 - restored.error[asked.masked] ** 2
    expected = (3.0 * prior.scale.sigma) ** 2
    assert np.median(added) == pytest.approx(expected, rel=0.01)
    np.testing.assert_array_equal(again.error[asked.valid], restored.error[asked.valid])


def test_pixels_amid_saturated_ones_are_rehearsed_as_far_from_any_known_one(field):
    """A saturated pixel tells nothing of its neighbours, hidden or not."""
    _, asked, prior, _ = field
    saturated = np.zeros_like(asked.masked)
    saturated[4:21, 20:37] = True
    hidden = np.zeros_like(saturated)
    hidden[12, 28] = True
    asked = dataclasses.replace(
        asked, masked=np.zeros_like(hidden), saturated=saturated & ~hidden,
        pixels=np.nan_to_num(asked.pixels, nan=100.0),
    )  # fmt: skip
    found = try_hidden(lambda region: torch.zeros_like(region.sigma), asked, prior.scale, hidden)
    assert found.distance_px == pytest.approx([9.0])


def test_known_pixels_are_denoised_where_that_is_asked_for(field):
    sim, asked, prior, kept = field
    denoised = restore(dataclasses.replace(asked, options=DENOISED), prior)
    valid = asked.valid
    wrong = (denoised.science - sim.truth_dn)[valid] / sim.sigma_true_dn[valid]
    assert np.sqrt(np.mean(wrong**2)) < 0.8
    np.testing.assert_array_equal(denoised.science[asked.masked], kept.science[asked.masked])
    assert np.median(denoised.error[valid]) < 0.8 * np.median(kept.error[valid])


def test_a_prior_keeps_its_errors_of_holes(field):
    _, asked, prior, restored = field
    again = restore(asked, Prior.from_bytes(prior.to_bytes()))
    assert again.error.tobytes() == restored.error.tobytes()
    assert again.science.tobytes() == restored.science.tobytes()


def test_a_region_of_which_nothing_is_known_is_filled_with_the_sky(field):
    sim, asked, prior, _ = field
    lost = dataclasses.replace(
        asked,
        pixels=np.full_like(asked.pixels, np.nan),
        masked=np.ones_like(asked.masked),
        saturated=np.zeros_like(asked.masked),
    )
    filled = restore(lost, prior)
    assert filled.outcome.stop_reason is StopReason.NO_DATA
    assert not filled.outcome.failed
    assert np.isfinite(filled.error).all()
    assert np.ptp(filled.science) == 0
    assert abs(filled.science[0, 0] - np.median(sim.truth_dn)) < np.median(sim.sigma_true_dn)
    assert (filled.flags == PixelFlag.FILLED | PixelFlag.LOW_CONFIDENCE).all()
    assert without_data(lost, prior.scale, None).science.tobytes() == filled.science.tobytes()


def test_a_tile_whose_fit_fails_has_no_hole_left(field):
    _, asked, _, _ = field
    failed = unchanged(asked, StopReason.DIVERGED)
    assert failed.outcome.failed
    assert np.isfinite(failed.science).all()
    known = ~asked.masked
    np.testing.assert_array_equal(failed.science[known], asked.pixels[known])
    assert (failed.flags[asked.masked] & PixelFlag.FILLED).all()
    assert (failed.flags[asked.valid] == PixelFlag.TILE_FAILED).all()
    assert filled_simply(asked, failed).science.tobytes() == failed.science.tobytes()


def test_an_error_plane_of_the_input_is_what_known_pixels_have(problem, law):
    rng = np.random.default_rng(8)
    error = rng.uniform(5, 15, (40, 44)).astype(np.float32)
    pixels = (100 + error * rng.standard_normal((40, 44))).astype(np.float32)
    masked = rng.random((40, 44)) < 0.05
    options = dataclasses.replace(KEPT, steps=1)
    asked = problem(pixels, law.error_plane, options=options, masked=masked, error=error)
    restored = restore(asked)
    np.testing.assert_array_equal(restored.error[~masked], error[~masked])


def test_wide_holes_are_bridged_by_what_surrounds_them():
    rows, cols = np.indices((96, 96))
    slope = 0.2 * (rows - 48) + 3 * np.sin(cols / 40)
    known = np.ones((96, 96), bool)
    known[28:68, 28:68] = False
    noisy = slope + 0.2 * np.random.default_rng(1).standard_normal(slope.shape)
    away = tensor(distance_px(known))
    seen = tensor(np.where(known, noisy, 50.0))
    filled = fill_again(seen, tensor(known), torch.zeros_like(seen), away)[0, 0].numpy()
    np.testing.assert_array_equal(filled[known], noisy[known].astype(np.float32))
    wrong = np.abs(filled - slope)[~known]
    level = np.abs(slope - np.median(slope[known]))[~known]
    assert np.median(wrong) < 0.5 * np.median(level)
    deep = distance_px(known) > 5  # up to there the networks are asked, too
    assert np.abs(filled - slope)[deep].max() < 5


def test_a_prediction_that_its_neighbours_do_not_bear_out_is_none():
    """Where pixels are rougher than they are taken to be, weighted sums of them go wild."""
    lags = np.indices((33, 33)) - 16
    smooth = tensor(np.exp(-(lags**2).sum(axis=0) / (2 * 6.0**2)))[0]
    known = np.ones((40, 40), bool)
    known[14:26, 14:26] = False
    rough = np.where(known, np.random.default_rng(1).standard_normal((40, 40)), 0.0)
    highest = np.abs(rough).max()
    nothing, background = tensor(np.zeros((40, 40))), tensor(np.full((40, 40), 0.25))

    def predicted(believed):
        seen = Seen(tensor(rough), tensor(known), nothing, believed=believed)
        return krige(seen, background, smooth, WIDE)[0, 0].numpy()[~known]

    wild = predicted(math.inf)
    assert np.abs(wild).max() > highest + 0.5
    tamed = predicted(0.5)
    assert np.abs(tamed).max() <= highest + 0.5
    assert set(tamed[tamed != wild]) == {0.25}
    assert (tamed == wild).any()


def test_errors_of_hidden_pixels_are_measured_whatever_their_size():
    rng = np.random.default_rng(4)
    shape = (400, 400)
    mask = rng.random(shape) < 0.05
    for corner in (20, 100, 180, 260):
        mask[corner : corner + 30, corner : corner + 30] = True

    def try_again(number, hidden):
        assert number == 0
        assert not (hidden & mask).any()
        away = distance_px(~(mask | hidden))[hidden]
        light = rng.uniform(0, 20, away.shape)
        scale = (0.2 + 0.1 * away) * (1 + light / 10) / np.sqrt(2)
        missed = rng.laplace(scale=scale) + rng.standard_normal(away.shape)
        return Hidden(away, light, np.abs(missed))

    table = measure_hole_errors(try_again, [~mask], [mask], seed=1)
    away = np.repeat([1.0, 4.0, 12.0], 2)
    light = np.array([2.0, 15.0] * 3)
    expected = 0.81 * (0.2 + 0.1 * away) * (1 + light / 10)
    found = table.look_up(away, light)
    np.testing.assert_allclose(found, expected, rtol=0.35)
    assert table.look_up(np.array([np.inf]), np.array([2.0]))[0] >= found[4]


def test_a_region_without_holes_is_measured_with_squares():
    sizes = []

    def try_again(_number, hidden):
        sizes.append(hidden.mean())
        away = distance_px(~hidden)[hidden]
        return Hidden(away, np.ones_like(away), 1 + away)

    whole = np.ones((128, 128), bool)
    table = measure_hole_errors(try_again, [whole], [~whole], seed=2)
    assert all(0.01 < size < 0.3 for size in sizes)
    assert len(table.distances_px) > 3


def test_half_of_all_pixels_missing_is_measured_by_single_ones():
    mask = np.random.default_rng(1).random((64, 64)) < 0.5
    shares = []

    def try_again(_number, hidden):
        shares.append(hidden.sum() / (~mask).sum())
        away = distance_px(~(mask | hidden))[hidden]
        return Hidden(away, away, np.full(away.shape, 1.5))

    assert measure_hole_errors(try_again, [~mask], [mask], seed=2) is not None
    assert max(shares) < 0.1


def table_of(brightness, miss):
    """Errors by brightness that a single ring of hidden pixels tells of."""

    def try_again(_number, hidden):
        return Hidden(np.ones(miss.size), brightness, miss)

    whole = np.ones((64, 64), bool)
    return measure_hole_errors(try_again, [whole], [~whole], seed=2)


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0, 10.0])
def test_errors_cover_what_is_missed_whether_noise_is_larger_or_smaller(scale):
    rng = np.random.default_rng(5)
    missed = rng.laplace(scale=scale, size=40_000)
    light = np.zeros(missed.size)
    table = table_of(light, np.abs(missed + rng.standard_normal(missed.size)))
    half_width = np.quantile(np.abs(missed), 0.683)
    found = table.look_up(np.ones(1), np.zeros(1))[0]
    assert found == pytest.approx(half_width, rel=0.09)


def test_errors_lie_between_those_of_the_halves_and_are_never_none():
    light = np.repeat(np.linspace(0, 1, 200), 2)
    table = table_of(light, np.where(light < 0.5, 0.9, 10.0))
    low, middle, high = table.look_up(np.ones(3), np.array([0.2, 0.5, 0.8]))
    assert 0 < low < 0.06
    assert high == pytest.approx(10, rel=0.01)
    assert middle == pytest.approx((low + high) / 2, rel=0.01)


def test_few_bright_pixels_have_their_own_errors_and_brighter_ones_as_large_a_share():
    """Each misses a tenth of its light, as in real frames; one pixel in twenty is bright."""
    rng = np.random.default_rng(3)
    brightness = np.where(rng.random(2000) < 0.05, 10 ** rng.uniform(1, 2, 2000), 0.5)
    missed = 0.1 * brightness * rng.laplace(size=2000) / np.sqrt(2) + rng.normal(size=2000)
    told = np.array([20.0, 60.0, 600.0])
    found = table_of(brightness, np.abs(missed)).look_up(np.ones(3), told)
    assert np.all((found > 0.055 * told) & (found < 0.15 * told))


def test_of_light_that_nothing_like_it_was_hidden_of_no_more_than_a_quarter_is_in_doubt():
    dark = HoleErrors((1.0,), ((0.1,),), ((0.6,),))
    np.testing.assert_allclose(dark.look_up(np.ones(1), np.array([40.1])), 0.6 + 0.25 * 40.0)


def test_no_error_is_smaller_than_nearer_to_known_pixels():
    table = HoleErrors((1.0, 4.0), ((0.0, 2.0), (0.0, 2.0)), ((1.0, 1.5), (0.5, 3.0)))
    away, light = np.array([0.0, 2.5, 4.0, 9.0] * 2), np.repeat([0.0, 2.0], 4)
    expected = [1.0, 1.0, 1.0, 1.0, 1.5, 2.25, 3.0, 3.0]
    np.testing.assert_allclose(table.look_up(away, light), expected)


def hidden_in(valid, holes):
    """What is hidden of each region, by its number."""
    tried = []

    def try_again(number, hidden):
        tried.append((number, hidden))
        return Hidden(np.ones(1), np.ones(1), np.ones(1))

    return measure_hole_errors(try_again, valid, holes, seed=3), tried


def test_a_region_is_hidden_in_holes_of_its_own_and_of_no_other_shape():
    whole = np.ones((64, 64), bool)
    line, block, narrow = ~whole, ~whole, np.zeros((64, 48), bool)
    line[20], block[30:33, 40:43], narrow[:, 7] = True, True, True
    _, tried = hidden_in([whole, whole], [line, block])
    assert [hidden.sum() for number, hidden in tried if number == 0] == [64] * 4
    assert [hidden.sum() for number, hidden in tried if number == 1] == [9] * 4
    _, tried = hidden_in([whole, ~narrow], [~whole, narrow])
    assert [hidden.shape for number, hidden in tried if number == 0] == [(64, 64)] * 4


def test_where_nothing_would_be_left_nothing_is_hidden():
    one = np.zeros((4, 4), bool)
    one[2, 2] = True
    table, tried = hidden_in([one], [np.zeros_like(one)])
    assert table is None
    assert tried == []


def test_of_a_large_frame_some_regions_tell():
    whole = np.ones((800, 800), bool)
    _, tried = hidden_in([whole] * 3, [~whole] * 3)
    assert {number for number, _ in tried} == {0}


def test_far_from_anything_known_is_infinitely_far_and_dark_is_as_odd_as_bright():
    assert np.isinf(distance_px(np.zeros((5, 6), bool))).all()
    light = np.random.default_rng(1).normal(0, 9, (20, 20))
    np.testing.assert_allclose(brightness_of(-light), brightness_of(light))
