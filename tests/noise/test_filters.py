"""The noise law of a raw colour frame: by the skies behind all of its filters."""

import numpy as np
import pytest
from astropy.io import fits
from scipy.ndimage import gaussian_filter

from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frames
from dip_pipeline.noise.frame_noise import find_noise
from dip_pipeline.sensor import NoiseKind

GAIN, READ_NOISE_E, PEDESTAL = 0.8, 3.0, 100.0
SKIES_E = (180.0, 420.0, 420.0, 260.0)
WHOLE = [(slice(None), slice(None))]


def raw(path, scales=(1.0,) * 4, *, light_e=None, side_px=256, card=True):
    rng = np.random.default_rng(11)
    pixels = np.empty((side_px, side_px))
    light = np.zeros_like(pixels) if light_e is None else light_e
    for number, (sky, scale) in enumerate(zip(SKIES_E, scales, strict=True)):
        row, col = divmod(number, 2)
        electrons = rng.poisson(sky + light[row::2, col::2]).astype(float)
        electrons += rng.normal(0, READ_NOISE_E, electrons.shape)
        pixels[row::2, col::2] = scale * electrons / GAIN + PEDESTAL
    header = fits.Header({"BAYERPAT": "RGGB"} if card else {})
    fits.writeto(path, np.round(pixels).astype(np.int16), header)
    return path


def laws(path):
    frames = open_frames(path)
    places = [tuple(slice(0, side) for side in frames[0].shape)]
    return [find_noise(frame, RunConfig(), places)[0] for frame in frames]


def test_skies_of_unlike_levels_tell_how_noise_grows_with_light(tmp_path):
    found = laws(raw(tmp_path / "raw.fits"))
    assert {law.kind for law in found} == {NoiseKind.POISSON_GAUSSIAN}
    gains = [law.sensor.gain_e_per_dn.value for law in found]
    assert gains == pytest.approx([GAIN] * 4, rel=0.1)


def test_stars_as_sharp_as_pixels_do_not_spoil_the_law_of_the_skies(tmp_path):
    """Scatter seems to grow up to twice as fast along the light of such stars."""
    rng = np.random.default_rng(7)
    light = np.zeros((512, 512))
    away = np.arange(-6, 7) ** 2 / (2 * 1.5**2)
    star = np.exp(-(away[:, None] + away))
    stars = zip(*rng.integers(8, 500, (2, 300)), 10 ** rng.uniform(2, 5, 300), strict=True)
    for row, col, electrons in stars:
        light[row - 6 : row + 7, col - 6 : col + 7] += electrons * star / star.sum()
    found = laws(raw(tmp_path / "raw.fits", light_e=light, side_px=512))
    gains = [law.sensor.gain_e_per_dn.value for law in found]
    assert gains == pytest.approx([GAIN] * 4, rel=0.15)


def test_what_correlates_in_a_raw_frame_is_light(tmp_path):
    """A nebula too fine and faint to be seen: no one resamples pixels of unlike filters."""
    rng = np.random.default_rng(9)
    light = gaussian_filter(rng.normal(0, 1, (256, 256)), 1.3, mode="wrap")
    path = raw(tmp_path / "raw.fits", light_e=8 * light / light.std())
    assert {law.correlation.is_white for law in laws(path)} == {True}
    fits.writeto(tmp_path / "red.fits", fits.getdata(path)[::2, ::2])
    assert not laws(tmp_path / "red.fits")[0].correlation.is_white


@pytest.mark.parametrize("scales", [(2.0, 1.0, 1.0, 1.5), (1.0, 1.0, 1.0, 2.0)])
def test_colours_that_a_driver_has_scaled_are_not_taken_for_one_sensor(tmp_path, scales):
    found = laws(raw(tmp_path / "raw.fits", scales=scales))
    assert {law.kind for law in found} == {NoiseKind.GAUSSIAN}
    for law, sky, scale in zip(found, SKIES_E, scales, strict=True):
        true = scale * (sky + READ_NOISE_E**2) ** 0.5 / GAIN
        assert law.sigma.value == pytest.approx(true, rel=0.05)


def test_a_raw_frame_whose_card_is_lost_is_told_from_its_pixels(tmp_path, caplog):
    laws(raw(tmp_path / "lost.fits", card=False))
    assert "pixels alternate by" in caplog.text
    assert "--bayer" in caplog.text
    caplog.clear()
    laws(raw(tmp_path / "raw.fits"))
    assert "alternate" not in caplog.text


@pytest.mark.parametrize("every_other", [np.s_[:, ::2], np.s_[::2]])
def test_rows_and_columns_that_alternate_are_no_colours(tmp_path, caplog, every_other):
    rng = np.random.default_rng(3)
    pixels = rng.normal(500, 10, (256, 256))
    pixels[every_other] += 40
    fits.writeto(tmp_path / "odd.fits", pixels.astype(np.float32))
    laws(tmp_path / "odd.fits")
    assert "--bayer" not in caplog.text
