"""What a cosmic ray takes from the sharpest exposure is told by broader ones, and not as grain."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from dip_pipeline.flags import PixelFlag
from dip_pipeline.restoration.exposures import reconstructing
from dip_pipeline.restoration.exposures.combining import combined
from dip_pipeline.restoration.exposures.unsharp import Softened, doubted
from dip_pipeline.restoration.forward.seeing import SeeingBlur
from dip_pipeline.restoration.problem import Outcome, Restored, StopReason
from tests.restoration.exposed import SKY, Sky, seen_through, with_exposure

_SHAPE = (48, 52)
_BLURS = (0.0, 1.0, 1.0, 1.0)
_STAR = Sky(np.array([[24.2, 25.9, 2e4]]))
_SKIES = {"empty": Sky(np.array([[24.0, 26.0, 10.0]])), "star": _STAR}


def _struck():
    """Tracks of cosmic rays, two pixels wide."""
    hit = np.zeros(_SHAPE, bool)
    for row in range(6, 44, 6):
        hit[row : row + 2, 8:13] = hit[row : row + 2, 22:27] = hit[row : row + 2, 37:42] = True
    return hit


def _core():
    hit = np.zeros(_SHAPE, bool)
    hit[22:26, 24:28] = True
    return hit


@cache
def _made(blurs, struck, sky):
    """The observation of exposures of which those of these numbers are struck, and its truth."""
    problem, truth = seen_through(_SKIES[sky], blurs, _SHAPE, factor=1)
    hit = _core() if sky == "star" else _struck()
    for number in struck:
        problem = with_exposure(problem, number, masked=hit)
    return combined(problem), truth, hit


def _off(blurs, struck, sky):
    made, truth, hit = _made(blurs, struck, sky)
    return (made.pixels - truth), made.error, hit


def test_holes_of_the_sharpest_have_the_noise_that_is_told():
    """No less, either: networks that find calm pixels among noisy ones answer them wrongly."""
    off, error, hit = _off(_BLURS, (0,), "empty")
    assert np.sqrt(np.mean((off / error)[hit] ** 2)) == pytest.approx(1, abs=0.35)
    assert np.median(error[hit]) == pytest.approx(np.median(error[~hit]), rel=0.2)


def test_beside_holes_nothing_changes():
    off, _, hit = _off(_BLURS, (0,), "empty")
    whole, _, _ = _off(_BLURS, (), "empty")
    beside = ~hit
    assert np.std(off[beside]) == pytest.approx(np.std(whole[beside]), rel=0.02)


def test_the_noise_around_holes_is_told_as_without_them():
    made, _, hit = _made(_BLURS, (0,), "empty")
    whole, _, _ = _made(_BLURS, (), "empty")
    far = ~hit
    assert np.median((made.error / whole.error)[far]) == pytest.approx(1, abs=0.03)


def test_a_bright_star_whose_core_the_sharpest_lost_is_not_blurred():
    made, truth, _ = _made(_BLURS, (0,), "star")
    light = truth - SKY
    assert made.pixels.max() - SKY > 0.85 * light.max()  # 0.45 of it as others show it
    around = (slice(14, 34), slice(16, 36))
    assert (made.pixels - SKY)[around].sum() == pytest.approx(light[around].sum(), rel=0.01)


@pytest.mark.parametrize(
    ("blurs", "struck"),
    [
        ((0.0, 0.0, 0.0, 0.0), (0,)),  # all are as sharp
        ((0.0, 0.0, 1.0, 1.0), (0,)),  # another as sharp shows what the first does not
        ((0.0, 1.0, 1.0, 1.0), (2,)),  # the sharpest shows it all
        ((0.0, 1.0, 1.0, 1.0), (0, 1, 2, 3)),  # nobody shows it
    ],
)
def test_what_the_sharpest_show_or_nobody_is_left_alone(monkeypatch, blurs, struck):
    made, _, hit = _made(blurs, struck, "empty")
    monkeypatch.setattr(reconstructing, "fill_sharpest", lambda *_: None)
    problem, _ = seen_through(_SKIES["empty"], blurs, _SHAPE, factor=1)
    for number in struck:
        problem = with_exposure(problem, number, masked=hit)
    plain = combined(problem)
    np.testing.assert_array_equal(made.pixels, plain.pixels)
    np.testing.assert_array_equal(made.error, plain.error)


def test_on_finer_pixels_nothing_is_filled(monkeypatch):
    problem, _ = seen_through(_SKIES["empty"], _BLURS, _SHAPE, factor=2)
    struck = with_exposure(problem, 0, masked=_struck())
    made = combined(struck)
    monkeypatch.setattr(reconstructing, "fill_sharpest", lambda *_: None)
    np.testing.assert_array_equal(made.pixels, combined(struck).pixels)


def test_what_two_sharpest_lack_is_filled_in_both():
    off, error, hit = _off((0.0, 0.0, 1.0, 1.0), (0, 1), "empty")
    inside = hit & np.roll(hit, 1, 0)  # dithered by half a pixel
    assert np.sqrt(np.mean((off / error)[inside] ** 2)) == pytest.approx(1, abs=0.35)


def _softened(share):
    holes = torch.from_numpy(share)[None, None]
    return Softened(((1.0, 1.5),), holes, torch.ones_like(holes))


def _restored(science):
    planes = science.astype(np.float32), np.ones(science.shape, np.float32)
    flags = np.zeros(science.shape, np.uint8)
    return Restored(*planes, flags, Outcome(steps=1, stop_reason=StopReason.STEP_LIMIT))


def test_detail_that_is_lacking_is_in_the_error_and_flagged():
    share = np.zeros(_SHAPE)
    share[20:28, :] = 1.0
    science = SKY + _STAR.seen(_SHAPE)
    restored = _restored(science)
    found = doubted(restored, _softened(share).lacking(restored.science))
    blurred = SeeingBlur(((1.0, 1.5),)).forward(torch.from_numpy(science)[None, None])[0, 0].numpy()
    lost = np.abs(science - blurred)
    within = share > 0
    assert 0.3 * lost.max() < found.error.max() < lost.max()
    assert (found.error[within] >= 1).all()
    np.testing.assert_array_equal(found.error[~within], 1)
    flagged = found.flags & PixelFlag.LOW_CONFIDENCE > 0
    assert flagged[24, 26]
    assert not flagged[~within].any()
    assert not flagged[22:26, :10].any()  # of even sky nothing is lacking


def test_what_is_not_known_lacks_nothing():
    share = np.ones(_SHAPE)
    science = SKY + _STAR.seen(_SHAPE)
    science[:5] = np.nan
    restored = _restored(science)
    restored = replace(restored, error=np.where(np.isnan(science), np.nan, restored.error))
    found = doubted(restored, _softened(share).lacking(restored.science))
    assert np.isnan(found.error[:5]).all()
    assert np.isfinite(found.error[5:]).all()
    assert not _softened(share).lacking(np.full(_SHAPE, np.nan, np.float32)).any()
