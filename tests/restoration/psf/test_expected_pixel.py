"""What a pixel is expected to be by those around it, whatever the PSF's shape, and how well."""

import numpy as np
import pytest
from scipy import ndimage

from dip_pipeline.restoration.psf.expected_pixel import ExpectedPixel
from dip_pipeline.restoration.psf.psf_limit import PsfLimit, TooSharp

SIDE_PX = 96


def elongated(along_px, across_px, reach_px=12):
    """A Gaussian PSF of those standard deviations along rows and along columns."""
    offsets = np.arange(-reach_px, reach_px + 1.0)
    light = np.exp(-0.5 * ((offsets[:, None] / along_px) ** 2 + (offsets / across_px) ** 2))
    return light / light.sum()


@pytest.mark.parametrize(("along", "across"), [(0.9, 2.0), (2.0, 0.9)])
def test_light_of_an_oblong_psf_is_expected_and_a_hot_pixel_in_it_is_not(along, across):
    psf = elongated(along, across)
    rng = np.random.default_rng(3)
    scene = np.zeros((SIDE_PX, SIDE_PX))
    for row, col in rng.integers(14, SIDE_PX - 14, (30, 2)):
        scene[row, col] += 10 ** rng.uniform(4.5, 6.5)
    light = ndimage.convolve(scene, psf, mode="constant")
    observed = rng.poisson(light + 200).astype(float)
    hot = tuple(np.argwhere(light == light.max())[0])
    assert ExpectedPixel.of([psf]).farthest([psf]) < 0.05  # of its peak: nearly all follows
    limit, known = PsfLimit.of(psf, 1), np.ones(light.shape, bool)
    assert not limit.too_sharp(observed, np.sqrt(observed), known).found.any()
    observed[hot] *= 1.5
    found = limit.too_sharp(observed, np.sqrt(observed), known).found
    assert set(zip(*np.nonzero(found), strict=True)) == {hot}


def expected():
    return ExpectedPixel.of([elongated(1.0, 1.0)])


def test_a_pixel_is_odd_beyond_its_own_noise_and_that_of_those_around_it():
    """What noise alone makes of the difference is drawn here."""
    own = expected()
    noise = np.random.default_rng(1).standard_normal((400, 400)) * 3.0
    scatter = (noise - ndimage.correlate(noise, own.weights)).std()
    light = np.zeros((21, 21))
    light[10, 10] = 1000.0
    excess = own.excess(light, np.full(light.shape, 9.0), np.ones(light.shape, bool), 5.0)
    assert excess[10, 10] == pytest.approx(1000 - 5 * scatter, rel=1e-3)
    assert np.count_nonzero(excess > 0) == 1


def test_a_calm_pixel_amid_noisy_ones_is_not_odd():
    own, rng = expected(), np.random.default_rng(2)
    variance = np.full((SIDE_PX, SIDE_PX), 400.0)
    variance[4::8, 4::8] = 0.01
    light = np.sqrt(variance) * rng.standard_normal(variance.shape)
    excess = own.excess(light, variance, np.ones(light.shape, bool), 5.0)
    assert not (excess > 0).any()


def test_beside_what_is_not_known_nothing_is_expected():
    own = expected()
    known = np.ones((21, 21), bool)
    known[8, 12] = False
    light = np.where(known, 0.0, np.nan)
    light[10, 10] = 1000.0  # two rows and columns off
    light[15, 5] = 1000.0
    excess = own.excess(light, np.ones(light.shape), known, 5.0)
    assert np.isneginf(excess[6:11, 10:15]).all()
    assert excess[15, 5] > 900


def test_how_far_a_star_is_from_it_is_a_share_of_its_peak_at_its_worst_place():
    psf = elongated(1.0, 1.0)
    own = ExpectedPixel.of([psf])
    sharp = np.zeros((9, 9))
    sharp[4, 4] = 7.0  # a lone pixel: nothing of it follows
    assert own.farthest([psf, sharp, psf]) == pytest.approx(1.0)
    assert own.farthest([1000 * psf]) == pytest.approx(own.farthest([psf]))
    dent = np.full((31, 31), 1.0)
    dent[15, 15] = 0.0
    assert own.farthest([dent]) > 0.8


def test_part_of_what_was_looked_at_is_that_part():
    planes = np.random.default_rng(4).random((4, 30, 40)) > 0.5
    inner = (slice(5, 25), slice(10, 30))
    part = TooSharp(*planes).cut(inner)
    for name, plane in zip(("found", "sharpest", "peaks", "dark"), planes, strict=True):
        np.testing.assert_array_equal(getattr(part, name), plane[inner])
