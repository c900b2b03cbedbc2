"""What is drawn from an exposure towards what others show is in its error plane."""

from dataclasses import replace

import numpy as np
import pytest

from dip_pipeline.restoration.exposures import epochs
from dip_pipeline.restoration.exposures.epochs import restore_epoch
from dip_pipeline.restoration.exposures.leaning import with_leaning
from dip_pipeline.restoration.forward.optics import Twin
from dip_pipeline.restoration.problem import Outcome, Restored, StopReason
from tests.restoration.exposed import SKY, Sky, exposed

_SHAPE = (64, 72)
_SIGMA = float(np.sqrt(SKY / 2 + 9))
_PLACES = [(row, col) for row in (12.2, 31.6, 50.9) for col in (14.3, 36.0, 57.7)]
_ERROR = 0.25 * _SIGMA


def _observed(seed, snr=5.0):
    """A problem beside a twin that shows nothing of its sources; these, and the truth."""
    flux = snr * _SIGMA * 2 * np.sqrt(np.pi) * 0.9  # of a Gaussian of 0.9 px
    sources = Sky(np.array([(*place, flux) for place in _PLACES])).seen(_SHAPE)
    rng = np.random.default_rng(seed)
    problem, _ = exposed(_SHAPE, factor=1, sky=Sky(np.zeros((0, 3))))
    noise, other = _SIGMA * rng.standard_normal((2, *_SHAPE))
    twin = Twin((SKY + other / 2).astype(np.float32), np.full(_SHAPE, _SIGMA / 2, np.float32))
    pixels = (SKY + sources + noise).astype(np.float32)
    return replace(problem, pixels=pixels, twin=twin, exposures=()), sources


def _made(science):
    flags = np.zeros(science.shape, np.uint8)
    error = np.full(science.shape, _ERROR, np.float32)
    return Restored(science.astype(np.float32), error, flags, Outcome(1, StopReason.STEP_LIMIT))


def _cores():
    rows, cols = np.indices(_SHAPE)
    return np.any([np.hypot(rows - row, cols - col) < 2 for row, col in _PLACES], axis=0)


@pytest.mark.parametrize("seed", range(4))
def test_errors_hold_what_a_faint_source_lost_to_the_others(seed):
    problem, sources = _observed(seed)
    made = _made(SKY + 0.4 * sources)
    widened = with_leaning(problem, made)
    off, cores = 0.6 * sources, _cores()
    assert np.mean((off < made.error)[cores]) < 0.5
    assert np.mean((off < widened.error)[cores]) > 0.6
    far = sources < 0.01 * _SIGMA
    assert np.mean(widened.error[far] > 1.1 * _ERROR) < 0.06


@pytest.mark.parametrize("seed", range(4))
def test_errors_of_what_kept_its_own_light_grow_by_its_noise_at_most(seed):
    """Whatever the others show: a source as it was observed, and one that they alone have."""
    problem, sources = _observed(seed, snr=20.0)
    own = with_leaning(problem, _made(SKY + sources))
    cores = _cores()
    assert np.median(own.error[cores]) < 0.75 * _SIGMA
    beside = replace(problem, pixels=(problem.pixels - sources).astype(np.float32))
    shown = replace(beside, twin=replace(beside.twin, pixels=beside.twin.pixels + sources))
    assert np.median(with_leaning(shown, _made(SKY + 0 * sources)).error[cores]) < 0.75 * _SIGMA
    ghost = with_leaning(shown, _made(SKY + 0.4 * sources))
    assert np.median(ghost.error[cores]) > 1.2 * _SIGMA


def test_a_result_farther_from_the_others_than_the_exposure_is_drawn_to_none():
    problem, sources = _observed(0, snr=20.0)
    away = with_leaning(problem, _made(SKY + 1.6 * sources))
    assert np.median(away.error[_cores()]) < 0.75 * _SIGMA


def test_nothing_is_told_where_either_is_unknown():
    problem, sources = _observed(0, snr=9.0)
    made = _made(SKY + 0 * sources)
    hidden = replace(problem.twin, pixels=np.full(_SHAPE, np.nan, np.float32))
    for unknown in (
        replace(problem, masked=np.ones(_SHAPE, bool)),
        replace(problem, twin=hidden),
        replace(problem, twin=None),
    ):
        np.testing.assert_array_equal(with_leaning(unknown, made).error, made.error)


def test_an_exposure_at_its_epoch_has_the_wider_errors(monkeypatch):
    """Of its inner part, with a cosmic ray of its own in no error of the pixels beside it."""
    problem, sources = _observed(1)
    pixels = problem.pixels.copy()
    pixels[22, 22:25] += 1e5
    inner = slice(4, 60), slice(6, 70)
    problem = replace(problem, pixels=pixels, inner=inner)
    made = _made((SKY + 0.4 * sources)[inner])
    monkeypatch.setattr(epochs, "with_twin", lambda same: same)
    monkeypatch.setattr(epochs, "restore", lambda *_: made)
    restored = restore_epoch(problem)
    np.testing.assert_array_equal(restored.error, with_leaning(replace(problem), made).error)
    assert restored.error.shape == made.error.shape
    assert np.median(restored.error[_cores()[inner]]) > 1.5 * _ERROR
    assert restored.error[18, 17] < 10 * _SIGMA
