"""Peers get what they need, and do what they are known for."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from benchmarks.fields import FieldKind, draw
from benchmarks.figures import judge
from benchmarks.peers import (
    with_bm3d,
    with_non_local_means,
    with_plain_bm3d,
    with_published_network,
    with_wavelets,
)
from benchmarks.restored import Settings

SETTINGS = Settings(threads=1)


@lru_cache
def field(kind):
    return draw(FieldKind(kind), 1, side_px=96)


@pytest.mark.parametrize("peer", [with_bm3d, with_non_local_means, with_wavelets])
@pytest.mark.parametrize("kind", ["galaxies", "correlated"])
def test_peers_take_more_than_half_of_the_noise_away(peer, kind):
    restored = peer(field(kind), SETTINGS)
    figures = judge(field(kind), restored)
    assert figures.unflagged < 0.5
    assert restored.seconds > 0


def test_bm3d_told_the_power_spectrum_beats_bm3d_that_is_not():
    told, untold = (
        judge(field("correlated"), bm3d(field("correlated"), SETTINGS)).residual
        for bm3d in (with_bm3d, with_plain_bm3d)
    )
    assert told < 0.8 * untold


def test_on_white_noise_both_are_the_same():
    one, other = (bm3d(field("noise"), SETTINGS).science for bm3d in (with_bm3d, with_plain_bm3d))
    np.testing.assert_array_equal(one, other)


def test_what_masked_pixels_hold_does_not_matter():
    crowded = field("crowded")
    assert crowded.masked.any()
    spoilt = replace(
        crowded, observed=np.where(crowded.masked, np.float32(np.nan), crowded.observed)
    )
    one, other = (with_non_local_means(each, SETTINGS).science for each in (crowded, spoilt))
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_the_published_network_is_watched_and_keeps_the_brightest_pixels():
    galaxies = draw(FieldKind.GALAXIES, 1, side_px=64)
    restored = with_published_network(galaxies, replace(SETTINGS, steps=2))
    assert restored.science.shape == (64, 64)
    assert len(restored.trace) == 1
    unmasked = np.where(galaxies.masked, 0, galaxies.observed)
    brightest = np.unravel_index(np.argmax(unmasked), unmasked.shape)
    assert restored.science[brightest] == pytest.approx(galaxies.observed[brightest], rel=1e-3)
