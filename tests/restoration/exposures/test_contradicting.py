"""Light of a combination that exposures do not agree on is flagged, and in its error plane."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dip_pipeline.flags import PixelFlag
from dip_pipeline.restoration.exposures import combining
from dip_pipeline.restoration.exposures.combining import _seen_together, restore_combined
from dip_pipeline.restoration.exposures.contradicting import _as_normal, with_doubt
from dip_pipeline.restoration.problem import Outcome, Restored, StopReason
from tests.restoration.exposed import (
    SHIFTS,
    SKY,
    Sky,
    draw_sky,
    exposed,
    noisy,
    seen_through,
    with_exposure,
)

_SHAPE = (32, 34)
_PLACE = (19.3, 18.6)


def _moving(step_px, flux=1200.0, *, factor=1, seed=0, stars=()):
    """Four exposures of a source that moves along a diagonal, and the sky without it."""
    steady = Sky(np.array([*stars, (6.3, 26.1, 4e3)]))
    problem, truth = exposed(_SHAPE, factor=factor, sky=steady)
    rng = np.random.default_rng(seed)
    for number, shift in enumerate(SHIFTS):
        by = step_px * (number - 1.5) / 2**0.5
        source = Sky(np.array([(_PLACE[0] + by, _PLACE[1] + by, flux)]))
        level = steady.seen(_SHAPE, shift) + source.seen(_SHAPE, shift) + SKY
        problem = with_exposure(problem, number, pixels=noisy(level, rng))
    return problem, truth


def _around(factor=1, px=2):
    return tuple(slice(round(factor * (at - px)), round(factor * (at + px + 1))) for at in _PLACE)


@pytest.mark.parametrize(
    ("step_px", "flux", "factor"),
    [(1.0, 600.0, 1), (1.0, 2400.0, 1), (1.4, 1200.0, 2), (1.4, 600.0, 1)],
)
def test_what_moves_by_less_than_its_width_is_in_doubt(step_px, flux, factor):
    problem, truth = _moving(step_px, flux, factor=factor)
    seen = _seen_together(problem)
    light = seen.problem.pixels - truth
    bright = np.zeros(light.shape, bool)
    bright[_around(factor)] = True
    bright &= light > 0.5 * light[bright].max()
    assert light[bright].max() > 3 * seen.problem.error[bright].max() / factor  # much is left
    assert np.mean(seen.contradicted[bright] > 0) > 0.8
    assert seen.contradicted[bright].mean() > 0.4


@pytest.mark.parametrize(("seed", "factor"), [(0, 1), (1, 1), (2, 2)])
@pytest.mark.parametrize("changes", [{}, {"shift_px": (-0.075, 0.5), "flux_scale": 1.1}])
def test_steady_sources_are_in_no_doubt(seed, factor, changes):
    """However bright they are, and if one exposure lies beside the others and is fainter."""
    sky = draw_sky(_SHAPE, count=12, seed=seed, brightest=1e5)
    problem, _ = exposed(_SHAPE, factor=factor, sky=sky, seed=seed)
    assert not _seen_together(with_exposure(problem, 2, **changes)).contradicted.any()


@pytest.mark.parametrize("off", [-0.5, 0.6])
def test_nor_are_wings_of_a_bright_star_whose_seeing_is_not_known(off):
    star = Sky(np.array([(15.2, 16.7, 2e5)]))
    problem, _ = seen_through(star, (0.0, 1.0, 1.0, 1.0), _SHAPE, factor=1)
    broader = with_exposure(problem, 2, wider_px2=1 + off)
    assert not _seen_together(broader).contradicted.any()


def test_cosmic_rays_are_in_no_doubt_and_no_source_of_one_exposure_either():
    problem, _ = exposed(_SHAPE, factor=1, sky=Sky(np.array([(10.0, 9.0, 6e3)])))
    pixels = problem.exposures[0].pixels.copy()
    pixels[9, 7:11] += 3e3
    pixels[25, 6:10] += 500
    alone = Sky(np.array([(20.0, 24.0, 3e3)])).seen(_SHAPE, SHIFTS[1])
    struck = with_exposure(problem, 1, pixels=(pixels + alone).astype(np.float32))
    assert not _seen_together(struck).contradicted.any()


def test_two_exposures_and_one_of_which_nothing_is_used():
    problem, _ = _moving(1.2)
    nothing = np.ones(_SHAPE, bool)
    two = replace(problem, exposures=problem.exposures[:1])
    none = with_exposure(two, 1, masked=nothing)
    assert not _seen_together(none).contradicted.any()
    assert np.isfinite(_seen_together(two).contradicted).all()


def test_the_product_flags_it_and_its_error_holds_what_is_left(monkeypatch):
    """Whatever a restoration makes of it: here nothing."""
    monkeypatch.setattr(combining, "restore", lambda joined, _: _as_it_is(joined))
    problem, truth = _moving(1.0)
    restored = restore_combined(problem)
    light = restored.science - truth
    core = np.zeros(_SHAPE, bool)
    core[_around(px=1)] = True
    assert light[core].mean() > 20
    assert np.mean(restored.flags[core] & PixelFlag.LOW_CONFIDENCE > 0) > 0.8
    assert np.sqrt(np.mean((light / restored.error)[core] ** 2)) < 1.6
    assert not restored.flags[:12].any()


def _as_it_is(problem):
    flags = np.zeros(problem.pixels.shape, np.uint8)
    return Restored(problem.pixels, problem.error, flags, Outcome(1, StopReason.STEP_LIMIT))


def test_errors_hold_that_share_of_the_light():
    science = np.full((5, 6), 100.0, np.float32)
    science[2, 3], science[0, 0] = 140.0, np.nan
    made = Restored(
        science,
        np.full_like(science, 3.0),
        np.zeros(science.shape, np.uint8),
        Outcome(1, StopReason.STEP_LIMIT),
    )
    share = np.zeros_like(science)
    share[2, 3], share[0, 0] = 0.1, 1.0
    doubtful = with_doubt(made, share)
    assert doubtful.error[2, 3] == pytest.approx(5.0)
    assert [tuple(place) for place in np.argwhere(doubtful.flags == 2)] == [(2, 3)]
    assert (np.delete(doubtful.error, 2 * 6 + 3) == 3.0).all()
    assert with_doubt(made, 0 * share) is made


def test_sums_of_squares_are_as_rare_as_normal_deviations():
    from scipy.stats import chi2, norm

    for freedom in (2, 4, 9):
        squares = chi2.isf(norm.sf(4.0), freedom)
        found = _as_normal(torch.tensor([squares]), torch.tensor([freedom]))
        assert float(found) == pytest.approx(4.0, abs=0.15)
    assert float(_as_normal(torch.tensor([50.0]), torch.tensor([0]))) == 0
