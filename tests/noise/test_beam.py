"""Laws of maps of a beam: noise that hangs together too far to be measured is told of."""

import numpy as np
import pytest
from astropy.io import fits
from scipy.ndimage import gaussian_filter

from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frame
from dip_pipeline.preparing.planning import resolve_noise

SIDE, BEAM_PX, SIGMA = 192, 4.2, 1e-3
SCALE_DEG = 1 / 3600


def smoothed(plane):
    return gaussian_filter(plane, BEAM_PX / np.sqrt(8 * np.log(2)), mode="wrap")


@pytest.fixture
def sources():
    rng = np.random.default_rng(7)
    points = np.zeros((SIDE, SIDE))
    points[tuple(rng.integers(8, SIDE - 8, (2, 25)))] = 10 ** rng.uniform(-1, 0, 25)
    return smoothed(points)


@pytest.fixture
def noise():
    noise = smoothed(np.random.default_rng(8).normal(size=(SIDE, SIDE)))
    return SIGMA * noise / noise.std()


@pytest.fixture
def sigma_of(tmp_path):
    def found(pixels, averaged=1, history=(), left_out=(), **cards):
        header = fits.Header(
            {"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "BUNIT": "Jy/beam"}
            | {"CDELT1": -SCALE_DEG * averaged, "CDELT2": SCALE_DEG * averaged}
            | {"BMAJ": BEAM_PX * SCALE_DEG, "BMIN": BEAM_PX * SCALE_DEG}
            | cards
        )
        for keyword in left_out:
            del header[keyword]
        for line in history:
            header["HISTORY"] = line
        path = tmp_path / "map.fits"
        fits.writeto(path, pixels.astype(np.float32), header, overwrite=True)
        return resolve_noise(open_frame(path), RunConfig()).sigma.value

    return found


def test_noise_as_wide_as_the_beam_is_told_of_with_the_averaging_that_makes_it_known(
    sources, noise, sigma_of, caplog
):
    assert sigma_of(sources + noise) < SIGMA / 100  # from pixel to pixel there is next to none
    assert "its beam is 4.2 px wide (cards BMAJ, BMIN)" in caplog.text
    assert "average the map over 2 x 2 px" in caplog.text
    caplog.clear()
    averaged = (sources + noise).reshape(SIDE // 2, 2, SIDE // 2, 2).mean(axis=(1, 3))
    assert sigma_of(averaged, averaged=2) == pytest.approx(SIGMA, rel=0.15)
    assert "its beam" not in caplog.text


@pytest.mark.parametrize("beam_px", [3.3, 4.0])
def test_a_beam_that_cards_tell_is_too_wide_whatever_is_measured_of_it(beam_px, sigma_of, caplog):
    for seed in (0, 2):
        draw = np.random.default_rng(seed).normal(size=(SIDE, SIDE))
        noise = gaussian_filter(draw, beam_px / np.sqrt(8 * np.log(2)), mode="wrap")
        sigma_of(SIGMA * noise / noise.std(), BMAJ=beam_px * SCALE_DEG, BMIN=beam_px * SCALE_DEG)
        assert ("its beam is 4.0 px wide" in caplog.text) == (beam_px > 3.5)
        caplog.clear()


def test_nothing_is_told_where_pixels_have_noise_of_their_own(sources, sigma_of, caplog):
    white = SIGMA * np.random.default_rng(9).normal(size=(SIDE, SIDE))
    assert sigma_of(sources + white) == pytest.approx(SIGMA, rel=0.1)
    assert "its beam" not in caplog.text


def test_the_beam_that_a_history_tells_is_read(sources, noise, sigma_of, caplog):
    def line(width):
        beam = f"{width * SCALE_DEG:12.4E}"
        return f"AIPS   CLEAN BMAJ={beam} BMIN={beam} BPA=   0.00"

    history = ["AIPS   IMNAME='MAP'", line(9.0), line(BEAM_PX), "BMAJ= - BMIN= -"]
    sigma_of(sources + noise, history=history, left_out=("BMAJ", "BMIN"))
    assert "its beam is 4.2 px wide (HISTORY: BMAJ, BMIN)" in caplog.text
    assert "average the map over 2 x 2 px" in caplog.text


def test_a_map_of_a_beam_that_nothing_tells_is_told_of(sources, noise, sigma_of, caplog):
    hidden = {"left_out": ("BMAJ", "BMIN")}
    assert sigma_of(sources + noise, **hidden) < SIGMA / 100
    assert "BEAM NOT KNOWN: its unit is Jy/beam" in caplog.text
    caplog.clear()
    white = SIGMA * np.random.default_rng(9).normal(size=(SIDE, SIDE))
    sigma_of(sources + white, **hidden)
    averaged = (sources + noise).reshape(SIDE // 2, 2, SIDE // 2, 2).mean(axis=(1, 3))
    assert sigma_of(averaged, averaged=2, **hidden) == pytest.approx(SIGMA, rel=0.15)
    sigma_of(sources + noise, **hidden, BUNIT="adu")  # light of stars may be so
    assert "BEAM NOT KNOWN" not in caplog.text


def test_nothing_is_told_where_light_is_everywhere_and_pixels_have_noise_of_their_own(
    sigma_of, caplog
):
    rng = np.random.default_rng(10)
    light = 500 * SIGMA * smoothed(smoothed(rng.normal(size=(SIDE, SIDE))))
    for hidden in ((), ("BMAJ", "BMIN")):
        pixels = light + SIGMA * rng.normal(size=(SIDE, SIDE))
        assert sigma_of(pixels, left_out=hidden) == pytest.approx(SIGMA, rel=0.1)
    assert "average the map" not in caplog.text
