"""Laws of what is said of a noise that nobody tells: why, and where counts are too few."""

import logging

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frame
from dip_pipeline.preparing.planning import resolve_noise


@pytest.fixture
def told(tmp_path, caplog):
    """Give what is said of the noise of a frame."""

    def saying(pixels, **cards):
        path = tmp_path / "frame.fits"
        fits.PrimaryHDU(pixels, fits.Header(cards)).writeto(path)
        with caplog.at_level(logging.WARNING):
            resolve_noise(open_frame(str(path)), RunConfig())
        return caplog.text

    return saying


@pytest.mark.parametrize(
    ("cards", "why"),
    [
        ({}, "none in the header and none given"),
        ({"RDNOISE": 5.0}, "no gain in the header and none given"),
        ({"GAIN": 2.0}, "no read noise in the header and none given"),
        (
            {"GAIN": 300.0, "RDNOISE": 5.0},
            "card GAIN = 300: cannot be true, not used; if it is, give --gain and --read-noise",
        ),
        (
            {"BUNIT": "MJy/sr", "GAIN": 2.0, "RDNOISE": 5.0},
            "gain and read noise of the header do not tell it in MJy/sr, and none is given",
        ),
        (
            {"BUNIT": "adu/s", "GAIN": 2.0, "RDNOISE": 5.0},
            "a rate, and no exposure time named: no photon noise from cards",
        ),
    ],
)
def test_why_a_noise_is_not_known_is_said_as_the_header_has_it(told, cards, why):
    pixels = np.random.default_rng(1).normal(400, 3, (96, 96)).astype("f4")
    assert f"NOISE NOT KNOWN: {why}" in told(pixels, **cards)


@pytest.mark.parametrize(("stars", "is_said"), [(0, False), (3, True)])
def test_where_bright_light_has_the_noise_of_the_sky_alone_that_is_said(told, stars, is_said):
    pixels = np.random.default_rng(1).normal(400, 3, (96, 96)).astype("f4")
    rows, cols = np.indices(pixels.shape)
    for place in range(stars):
        away = np.hypot(rows - 30 * place - 15, cols - 40)
        pixels += 900 * np.exp(-0.5 * (away / 1.5) ** 2).astype("f4")
    said = told(pixels)
    assert "gaussian, estimated from the frame" in said
    assert ("no noise of photons shows in it" in said) is is_said
    assert ("brighter than 430" in said) is is_said


def events(rate, *, light=0.0):
    """Counts of events, and of a bright source in a tenth of the frame."""
    rates = np.full((96, 96), rate)
    rates[:30, :30] += light
    return np.random.default_rng(2).poisson(rates)


@pytest.mark.parametrize("dtype", ["i2", "f4"])
@pytest.mark.parametrize(("rate", "light"), [(0.05, 0.0), (0.3, 0.0), (4.0, 0.0), (0.3, 80.0)])
def test_events_are_counted_one_by_one(told, tmp_path, dtype, rate, light):
    said = told(events(rate, light=light).astype(dtype))
    assert "poisson, estimated from the frame: gain 1 e/DN" in said
    assert ("0.05 counts a pixel: too few for its residual noise" in said) is (rate < 0.1)


@pytest.mark.parametrize(
    "pixels",
    [
        events(40.0),
        events(0.3) * 7,  # steps of seven: no counts of events
        np.random.default_rng(3).normal(0.3, 0.5, (96, 96)),
        np.rint(np.random.default_rng(3).normal(2.0, 6.0, (96, 96))),
        np.rint(np.random.default_rng(3).normal(3.0, 0.6, (96, 96))),
    ],
    ids=["many", "steps", "no counts", "below zero", "quiet"],
)
def test_what_is_no_few_events_is_not_counted_so(told, pixels):
    assert "poisson, estimated" not in told(pixels.astype("f4"))
