"""Fields are what they say: the same each time, their noise as everybody is told."""

import numpy as np
import pytest
from astropy.io import fits

from benchmarks import fields
from benchmarks.fields import OBSERVED, FieldKind, draw
from dip_pipeline.errors import ConfigError

DRAWN = [kind for kind in FieldKind if kind not in (*OBSERVED, FieldKind.F16)]


def noise(field):
    """(observed - truth) in the units that peers see, where pixels are good."""
    values = field.stabiliser.forward(field.observed.astype(float))
    values -= field.stabiliser.forward(field.truth.level.astype(float))
    return np.where(field.usable, values, np.nan)


def correlation(image):
    pairs = image[:, :-1] * image[:, 1:]
    return np.nanmean(pairs) / np.nanvar(image)


@pytest.mark.parametrize("kind", DRAWN)
def test_a_field_is_drawn_from_its_seed(kind):
    one, again, other = (draw(kind, seed, side_px=64) for seed in (1, 1, 3))
    np.testing.assert_array_equal(one.observed, again.observed)
    assert not np.array_equal(one.observed, other.observed)


@pytest.mark.parametrize("kind", DRAWN)
def test_the_noise_is_what_peers_are_told(kind):
    image = noise(draw(kind, 1, side_px=128))
    assert np.nanstd(image) == pytest.approx(1.0, abs=0.03)
    expected = 0.4 if kind is FieldKind.CORRELATED else 0.0
    assert correlation(image) == pytest.approx(expected, abs=0.03)


def test_pure_noise_has_nothing_in_it():
    field = draw(FieldKind.NOISE, 1, side_px=64)
    assert np.ptp(field.truth.level) == 0
    assert field.usable.all()


@pytest.fixture
def stamp(tmp_path, monkeypatch):
    """A folder of extra data with a stamp and its errors."""
    rng = np.random.default_rng(1)
    level = rng.uniform(0, 1, (80, 80)).astype(np.float32)
    level[40, 40] = np.nan
    own = rng.uniform(0.01, 0.03, level.shape).astype(np.float32)
    jwst = OBSERVED[FieldKind.JWST]
    for name, image in ((jwst.name, level), (jwst.errors, own)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        fits.PrimaryHDU(image).writeto(tmp_path / name)
    monkeypatch.setenv(fields.EXTRA_DATA, str(tmp_path))
    return level, own


def test_the_stamp_is_the_truth_under_eight_times_its_own_noise(stamp):
    level, own = stamp
    field = draw(FieldKind.JWST, 1, side_px=64)
    np.testing.assert_array_equal(field.truth.level[10, 10], level[18, 18])
    sigma = 8 * np.median(own[8:72, 8:72][np.isfinite(level[8:72, 8:72])])
    assert field.told["noise.sigma"] == pytest.approx(sigma, rel=0.02)
    assert np.nanstd(noise(field)) == pytest.approx(1.0, abs=0.03)
    assert field.masked.sum() == 1
    assert field.masked[32, 32]


def test_without_an_error_plane_the_noise_is_eight_times_that_of_the_sky(tmp_path, monkeypatch):
    level = np.random.default_rng(3).normal(5, 0.2, (96, 96)).astype(np.float32)
    level[20:30, 20:30] += 100
    name = OBSERVED[FieldKind.SDSS].name
    (tmp_path / name).parent.mkdir()
    fits.PrimaryHDU(level).writeto(tmp_path / name.removesuffix(".bz2"))
    (tmp_path / name.removesuffix(".bz2")).rename(tmp_path / name)
    monkeypatch.setenv(fields.EXTRA_DATA, str(tmp_path))
    field = draw(FieldKind.SDSS, 1, side_px=96)
    assert field.told["noise.sigma"] == pytest.approx(8 * 0.2, rel=0.03)
    assert field.own_sigma is None


def test_a_field_without_its_data_says_what_to_do(monkeypatch):
    monkeypatch.delenv(fields.EXTRA_DATA, raising=False)
    with pytest.raises(ConfigError, match=r"DIP_EXTRA_DATA names \(not set\).*--fields$"):
        draw(FieldKind.JWST, 1)


def test_a_side_beyond_the_image_is_refused(stamp):
    with pytest.raises(ConfigError, match="the image has 80 x 80 px; take less"):
        draw(FieldKind.JWST, 1, side_px=96)
