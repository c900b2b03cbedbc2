"""Laws of differences of images: their noise is not told by their levels, and that is said."""

import logging

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frame
from dip_pipeline.preparing.planning import resolve_noise

SENSOR = {"GAIN": 2.0, "RDNOISE": 5.0, "BUNIT": "adu"}
SIDE_PX = 96


@pytest.fixture
def said_of(tmp_path, caplog):
    def saying(pixels, **cards):
        path = tmp_path / "frame.fits"
        fits.PrimaryHDU(pixels.astype("f4"), fits.Header(SENSOR | cards)).writeto(path)
        with caplog.at_level(logging.WARNING):
            resolve_noise(open_frame(str(path)), RunConfig())
        return caplog.text

    return saying


def exposure(seed, brighter=()):
    """Nine stars, some three times as bright, on a sky of 400 e, in data numbers."""
    rows, cols = np.mgrid[:SIDE_PX, :SIDE_PX]
    expected_e = np.full((SIDE_PX, SIDE_PX), 400.0)
    for number in range(9):
        row, col = 16 + 32 * (number // 3), 16 + 32 * (number % 3)
        height_e = 6000.0 if number in brighter else 2000.0
        expected_e += height_e * np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / (2 * 1.3**2))
    rng = np.random.default_rng(seed)
    return (rng.poisson(expected_e) + rng.normal(0, 5, expected_e.shape)) / 2


def test_a_difference_of_images_is_called_one(said_of):
    difference = exposure(1, brighter=(0, 1, 2)) - exposure(2, brighter=(3, 4, 5, 6))
    said = said_of(difference)
    assert "4 places as wide as stars are darker than no light at all" in said
    assert "--err" in said


def test_a_difference_whose_read_noise_is_estimated_is_called_one(said_of):
    difference = exposure(1, brighter=(0, 1, 2)) - exposure(2, brighter=(3, 4, 5, 6))
    assert "darker than no light at all" in said_of(difference, RDNOISE=None)


def vignetted():
    """Nine stars on a sky whose corners are dark."""
    rows, cols = np.indices((2 * SIDE_PX, 2 * SIDE_PX)) / SIDE_PX - 1
    level_e = 800.0 * (1 - 0.4 * (rows**2 + cols**2))
    return np.random.default_rng(8).normal(level_e, np.sqrt(level_e + 25)) / 2


def spotted():
    """A disk that is wider than the frame, and nine dark spots."""
    rows, cols = np.indices((2 * SIDE_PX, 2 * SIDE_PX)) / SIDE_PX - 1
    level_e = 4000.0 - 800.0 * (rows**2 + cols**2)
    for place in np.linspace(-0.8, 0.8, 9):
        level_e -= 2500 * np.exp(-((((rows - place) ** 2 + (cols - place / 2) ** 2) * 1e3) ** 2))
    return np.random.default_rng(9).normal(level_e, np.sqrt(level_e + 25)) / 2


@pytest.mark.parametrize("lit", [vignetted(), spotted()], ids=["vignetted", "spotted"])
def test_dark_parts_of_a_frame_full_of_light_are_none(lit, said_of):
    assert "darker than no light" not in said_of(lit, GAIN=None, RDNOISE=None)


def dead():
    pixels = exposure(3)
    pixels[:, 40] = pixels[50, :] = 0.0
    pixels[np.random.default_rng(4).random(pixels.shape) < 0.01] = 0.0
    pixels[60:80, 60:62] = 0.0
    return pixels


def unlit():
    pixels = exposure(3)
    pixels[:34, :34] = pixels[-40:, -40:] = np.random.default_rng(4).normal(0, 2.5, (1, 1))
    return pixels


@pytest.mark.parametrize(
    "pixels",
    [exposure(3), exposure(3) - 200.0, exposure(3) - 350.0, exposure(3) + 1000, dead(), unlit()],
    ids=["reduced", "without sky", "below", "raw", "dead pixels", "unlit corners"],
)
@pytest.mark.parametrize("cards", [{}, {"GAIN": None, "RDNOISE": None}], ids=["law", "estimated"])
def test_a_frame_is_not_called_a_difference(said_of, pixels, cards):
    assert "darker than no light" not in said_of(pixels, **cards)
