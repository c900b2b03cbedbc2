"""Laws of sources that only a guide shows: missed where the frame would show them, else left."""

import numpy as np
import pytest

from dip_pipeline.restoration.images.lone_sources import (
    find_peaks,
    missed_by_frame,
    usual_ratio,
    without_peaks,
)
from dip_pipeline.simulate import MoffatPsf
from dip_pipeline.simulate.psf import add_star

SHAPE = (128, 128)
RATIO = 0.1  # of the frame's light, in its sigma, to the guide's
REAL = [(row + 0.3, col - 0.2) for row in (20, 50, 80, 110) for col in (20, 60, 100)]
LONE = (35.4, 80.3)
EVERYWHERE = np.ones(SHAPE, bool)
DOUBT = np.ones(SHAPE)


def star(place, snr):
    image = np.zeros(SHAPE)
    add_star(image, place, 1.0, psf=MoffatPsf(), oversample=1)
    return snr * image / np.sqrt((image**2).sum())


REAL_LIGHT = sum(star(place, 200.0) for place in REAL)


def noise(seed):
    return np.random.default_rng(seed).standard_normal(SHAPE)


def frame(seed=1):
    return RATIO * REAL_LIGHT + noise(seed)


def cleaned(guide, seen, trusted=EVERYWHERE, doubt=DOUBT):
    peaks = find_peaks(guide, seen, doubt, trusted)
    missed = missed_by_frame(peaks, usual_ratio(peaks.ratios, peaks.errors))
    return without_peaks(guide, peaks, missed)


def around(place, radius_px):
    rows, cols = np.indices(SHAPE)
    return np.hypot(rows - place[0], cols - place[1]) <= radius_px


@pytest.mark.parametrize("snr", [150.0, 1000.0, 20_000.0])
def test_a_source_that_the_frame_misses_is_taken_off_and_nothing_else(snr):
    light = star(LONE, snr)
    guide = REAL_LIGHT + light + noise(2)
    result = cleaned(guide, frame())
    gone = np.isnan(result)
    assert gone[around(LONE, 2)].all()
    assert gone[light > 2.0].all()
    assert not gone[~around(LONE, 20)].any()
    assert (result[~gone] == guide[~gone]).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_source_too_faint_for_the_frame_is_left(seed):
    guide = REAL_LIGHT + star(LONE, 30.0) + noise(seed)  # three sigma in the frame
    assert cleaned(guide, frame(seed + 10)) is guide


@pytest.mark.parametrize("seed", range(5))
def test_sources_of_other_colours_stay_where_the_frame_shows_them(seed):
    """The frame shows this one at 6 sigma, not at the 20 that the others have."""
    guide = REAL_LIGHT + star(LONE, 200.0) + noise(seed)
    seen = frame(seed + 20) + 0.3 * RATIO * star(LONE, 200.0)
    assert cleaned(guide, seen) is guide


def test_what_the_frame_cannot_see_is_no_evidence():
    guide = REAL_LIGHT + star(LONE, 1000.0) + noise(3)
    blind = around(LONE, 12)
    assert cleaned(guide, frame(), trusted=~blind) is guide
    assert cleaned(guide, frame(), doubt=np.where(blind, 1000.0, 1.0)) is guide


def test_too_few_sources_agree_on_nothing():
    guide = star(LONE, 1000.0) + star(REAL[0], 200.0) + noise(4)
    assert cleaned(guide, noise(5)) is guide
    assert cleaned(noise(6), noise(7)).shape == SHAPE


def test_unknown_pixels_of_a_guide_stay_unknown():
    guide = REAL_LIGHT + star(LONE, 1000.0) + noise(8)
    guide[:, :30] = np.nan
    result = cleaned(guide, frame())
    assert np.isnan(result[:, :30]).all()
    assert np.isnan(result[35, 80])


def test_the_ratio_of_noiseless_planes_is_found_whatever_their_sky():
    guide = REAL_LIGHT + 1e-3 * noise(9)
    peaks = find_peaks(guide, RATIO * REAL_LIGHT + 7.0, 1e-3 * DOUBT, EVERYWHERE)
    assert len(peaks.rows) == len(REAL)
    spread = np.ptp(peaks.ratios) / np.mean(peaks.ratios)
    assert spread < 0.15  # the places in their pixels differ not at all
    # The template is a little smoother than the source: the ratio is that of the smoothed one.
    assert RATIO < usual_ratio(peaks.ratios, peaks.errors) < 1.5 * RATIO
