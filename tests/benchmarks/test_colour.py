"""The picture in colour: white noise stays white, and methods find their way through it."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from scipy.ndimage import gaussian_filter

from benchmarks import colour
from benchmarks.colour import Picture, restore_picture
from benchmarks.methods import METHODS
from benchmarks.restored import Restored, Settings

SETTINGS = Settings(steps=2, threads=1)


@pytest.fixture(scope="module")
def picture():
    rows, cols = np.mgrid[:64, :64] / 64
    clean = np.stack([0.5 + 0.4 * np.sin(5 * rows + k) * np.cos(3 * cols) for k in range(3)])
    noisy = clean + colour.SIGMA * np.random.default_rng(1).standard_normal(clean.shape)
    return Picture(clean.astype(np.float32), noisy.astype(np.float32), 1)


def test_opponent_colours_keep_noise_white_and_as_strong():
    np.testing.assert_allclose(colour._OPPONENT @ colour._OPPONENT.T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize(("method", "least_db"), [("bm3d", 30.0), ("nlm", 28.0)])
def test_methods_gain_on_the_noisy_picture(picture, method, least_db):
    # White noise of 25 / 255 has 20.2 dB.
    assert restore_picture(picture, method, SETTINGS).psnr_db > least_db


def test_ours_restores_colours_under_the_restored_brightness(picture, monkeypatch):
    told = []

    def smoothed(field, settings):
        told.append([fits.getdata(guide) for guide in field.told.get("task.guides", ())])
        return Restored(gaussian_filter(field.observed, 2.0), 0.0)

    monkeypatch.setitem(METHODS, "dip-open", replace(METHODS["dip-open"], run=smoothed))
    figures = restore_picture(picture, "dip-open", SETTINGS)
    assert [len(guides) for guides in told] == [0, 1, 2]
    brightness = gaussian_filter(picture.noisy.sum(axis=0) / np.sqrt(3), 2.0)
    for guide, *_ in told[1:]:
        np.testing.assert_allclose(guide, brightness, atol=1e-6)
    assert figures.psnr_db > 28  # and colours are put together as they were taken apart


def test_the_published_recipe_tells_of_its_way(picture):
    figures = restore_picture(picture, "paper", SETTINGS)
    assert figures.best_db >= figures.last_db
    assert figures.seconds > 0
