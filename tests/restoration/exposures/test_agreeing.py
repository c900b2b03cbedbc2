"""Exposures that do not agree are told of, and make the error plane wider."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.exposures.agreeing import compare
from dip_pipeline.restoration.exposures.combining import (
    _seen_together,
    fit_combined_prior,
    restore_combined,
)
from dip_pipeline.restoration.exposures.rejecting import Verdict
from dip_pipeline.restoration.exposures.solving import Observation
from tests.restoration.exposed import SHIFTS, Sky, draw_sky, exposed, with_exposure

_SMALL = (40, 40)
_SKY = draw_sky((64, 64), count=25, brightest=1e4)


def _seen(*, number=2, off=(0.0, 0.0), factor=1, seed=0):
    problem, truth = exposed((64, 64), factor=factor, sky=_SKY, seed=seed)
    row, col = SHIFTS[number]
    shift_px = (row + off[0], col + off[1])
    if number:
        problem = with_exposure(problem, number, shift_px=shift_px)
    return _seen_together(problem), truth


def _on_sources(seen, truth):
    """Root mean square of what is wrong, in the error that is told, without and with that of what
    exposures show unlike."""
    made = seen.problem
    lit = truth > np.median(truth) + 3 * made.error
    wrong = (made.pixels - truth)[lit]
    both = np.hypot(made.error, seen.unlike)[lit]
    return (np.sqrt(np.mean((wrong / error) ** 2)) for error in (made.error[lit], both))


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("off", [(0.3, 0.0), (0.0, 0.8)])
def test_an_exposure_that_lies_elsewhere_is_in_the_error_plane(off, factor):
    seen, truth = _seen(off=off, factor=factor)
    without, with_it = _on_sources(seen, truth)
    assert without > 1.5
    assert with_it < 1.4
    unlike = [each.unlike / each.light for each in seen.tallies]
    assert np.argmax(unlike) == 2
    assert unlike[2] > 0.08


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_exposures_that_agree_leave_the_error_plane_as_it_is(factor, seed):
    seen, truth = _seen(factor=factor, seed=seed)
    dark = truth < np.median(truth) + 0.3 * seen.problem.error
    assert np.mean(seen.unlike[dark] > 0.1 * seen.problem.error[dark]) < 0.01
    assert all(each.unlike < 0.05 * each.light for each in seen.tallies)
    assert [each.number for each in seen.tallies] == [0, 0, 0, 0]  # none was given


def test_one_exposure_has_nothing_to_disagree_with():
    problem, _ = exposed((64, 64), sky=_SKY)
    seen = _seen_together(replace(problem, exposures=()))
    assert not seen.unlike.any()
    assert [(each.left_out, each.lit) for each in seen.tallies] == [(0, 0)]


def test_what_is_left_out_is_counted():
    problem, _ = exposed((64, 64), sky=_SKY, factor=1)
    pixels = problem.exposures[1].pixels.copy()
    pixels[10, 12:17] += 3e3
    masked = problem.exposures[1].masked.copy()
    masked[30:40] = True
    struck = with_exposure(problem, 2, pixels=pixels, masked=masked)
    named = [
        replace(each, number=count) for count, each in zip((3, 7, 8), struck.exposures, strict=True)
    ]
    struck = replace(struck, exposures=tuple(named))
    tally = _seen_together(struck).tallies[2]
    assert tally.number == 7
    assert tally.pixels == 54 * 64
    assert 5 <= tally.left_out <= 7
    assert 0 < tally.lit < tally.pixels


def test_if_one_of_some_is_off_the_error_is_that_of_their_mean():
    """Exactly, where there is no noise: 3 units in one of four move the mean by 3 / 4."""
    plane = torch.zeros(1, 1, 24, 24)
    same = SimpleNamespace(forward=lambda image: image, adjoint=lambda image: image)
    seen = [
        Observation(same, same, plane + off, plane + 1, plane + 1e-4, None)
        for off in (0.0, 0.0, 3.0, 0.0)
    ]
    verdicts = [Verdict(plane + 1, plane == 0, plane > 0) for _ in seen]
    error, _ = compare(plane + 0.75, seen, verdicts, 1)
    np.testing.assert_allclose(error.numpy(), 0.75, rtol=1e-3)


def test_a_restored_tile_has_the_wider_error():
    sure, _ = exposed((48, 48), factor=1, sky=_SKY)
    unsure = with_exposure(sure, 2, shift_px=(0.3, 0.9))
    errors = []
    for problem in (sure, unsure):
        prior = fit_combined_prior([problem], problem.pixels.shape, seed=1)
        restored = restore_combined(problem, prior)
        errors.append(restored.error)
        assert len(restored.outcome.exposures) == 4
    brightest = np.unravel_index(np.argmax(sure.pixels), sure.pixels.shape)
    assert errors[1][brightest] > 3 * errors[0][brightest]


def test_an_exposure_of_which_nothing_is_used_has_its_place_among_the_others():
    scene, none = torch.zeros(1, 1, 8, 9), torch.zeros(1, 1, 8, 9) > 0
    verdicts = [Verdict(torch.zeros(1, 1, 8, 9), valid, none) for valid in (~none, none)]
    error, tallies = compare(scene, [None, None], verdicts, 1)
    assert [(tally.pixels, tally.left_out) for tally in tallies] == [(72, 72), (0, 0)]
    assert float(error.abs().max()) == 0


@pytest.mark.parametrize("factor", [1, 2])
def test_a_star_that_is_twice_as_bright_in_two_of_four_is_in_the_error_plane(factor):
    """Its pixels are left out there, so that it is fainter than its mean: by a quarter."""
    star, flux = (20.0, 19.0), 6e3
    sky = Sky(np.array([(*star, flux), (8.3, 30.1, 4e3)]))
    problem, steady = exposed(_SMALL, factor=factor, sky=sky)
    alone = Sky(np.array([(*star, flux)]))
    for number in (1, 3):
        pixels = problem.exposures[number - 1].pixels + alone.seen(_SMALL, SHIFTS[number])
        problem = with_exposure(problem, number, pixels=pixels.astype(np.float32))
    seen = _seen_together(problem)
    mean = steady + alone.seen(_SMALL, factor=factor) / 2
    rows, cols = (slice(factor * (at - 1), factor * (at + 2)) for at in (20, 19))
    wrong = (seen.problem.pixels - mean)[rows, cols]
    assert wrong.mean() < -10 * seen.problem.error[rows, cols].mean()
    told = np.hypot(seen.problem.error, seen.unlike)[rows, cols]
    assert 0.3 < np.sqrt(np.mean((wrong / told) ** 2)) < 1.5


def test_cosmic_rays_on_a_star_leave_its_error_as_it_is():
    sky = Sky(np.array([(20.0, 19.0, 6e3)]))
    problem, _ = exposed(_SMALL, factor=1, sky=sky)
    pixels = problem.exposures[0].pixels.copy()
    pixels[19, 17:21] += 3e3
    struck = _seen_together(with_exposure(problem, 1, pixels=pixels))
    clean = _seen_together(problem)
    core = np.s_[18:23, 17:22]
    assert np.max(struck.unlike[core]) < np.max(clean.unlike[core]) + 1.5 * np.max(
        clean.problem.error[core]
    )
