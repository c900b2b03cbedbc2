"""Laws of looking for cosmic rays: what is found, stars that are none, several threads."""

import threading

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage

from dip_pipeline.frames import Pixels, open_frame
from dip_pipeline.preparing import cosmics, found_pixels
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sensor, Sourced
from dip_pipeline.simulate import MoffatPsf
from dip_pipeline.simulate.psf import add_star

ALL = slice(0, 144), slice(0, 144)
SIGMA = 5.0


def field(fwhm_px, stars=36):
    """Stars of S/N 30 to 3000, each in another place of its pixel, on a sky of noise."""
    rng = np.random.default_rng(3)
    light = np.full((144, 144), 200.0)
    cores = []
    for number in range(stars):
        row, col = 24 * np.array(divmod(number, 6)) + rng.uniform(9.5, 13.5, 2)
        flux = 30 * SIGMA * fwhm_px * 10 ** (2.0 * number / stars)
        add_star(light, (row, col), flux, psf=MoffatPsf(fwhm_px, 3.0))
        cores.append((round(row), round(col)))
    return light + rng.normal(0, SIGMA, light.shape), tuple(np.array(cores).T)


def tracks():
    """Straight tracks between the stars, smeared a little: charge of each pixel, in sigma."""
    charge = np.zeros((144, 144))
    for number in range(5):
        row, col = 24 * number + 22, 10 + 20 * number
        along = np.linspace(0, 14, 57)
        places = (row - along * 0.3).astype(int), (col + along).astype(int)
        np.add.at(charge, places, 0.25 * (15, 30, 60, 120, 240)[number])
    return ndimage.gaussian_filter(charge, 0.35, truncate=4.0)


@pytest.fixture
def look_at(tmp_path):
    """A frame of some pixels, its cosmic rays masked."""

    def look(pixels, noise=None):
        path = tmp_path / "frame.fits"
        fits.PrimaryHDU(pixels.astype("f4")).writeto(path)
        given = NoiseModel(NoiseKind.GAUSSIAN, "given", sigma=Sourced(SIGMA, "DN", "given"))
        return cosmics.without_cosmics(open_frame(str(path)), noise or given, [ALL])

    return look


@pytest.fixture
def found(look_at):
    """What is masked of some pixels."""
    return lambda *seen: look_at(*seen).read(*ALL).masked


@pytest.mark.parametrize("fwhm_px", [0.9, 1.1, 1.3, 1.5])
def test_stars_are_no_cosmic_rays_however_sharp_they_are(found, fwhm_px):
    pixels, cores = field(fwhm_px)
    masked = found(pixels)[cores]
    assert np.count_nonzero(masked) <= 1  # of S/N 30: noise alone may sharpen it
    assert not masked[6:].any()


@pytest.mark.parametrize("fwhm_px", [1.5, 4.0])
def test_nor_are_stars_at_the_edges(found, fwhm_px):
    pixels = np.full((144, 144), 200.0)
    cores = np.array([0, 1, 2, 3, 4, 139, 140, 141, 142, 143]), np.arange(4, 144, 14)[:10]
    for row, col in zip(*cores, strict=True):
        add_star(pixels, (row, col), 1500 * fwhm_px**2, psf=MoffatPsf(fwhm_px, 3.0))
    masked = found(pixels + np.random.default_rng(4).normal(0, SIGMA, pixels.shape))
    assert not masked[cores].any()


def test_hot_pixels_at_the_edges_are_found(found):
    hot = np.zeros((144, 144), dtype=bool)
    for at in range(5):
        hot[at, 10 + 8 * at] = hot[10 + 8 * at, -1 - at] = True
        hot[-1, 10 + 8 * at : 12 + 8 * at] = True
    pixels = 200 + np.random.default_rng(4).normal(0, SIGMA, hot.shape)
    assert found(pixels + 20 * SIGMA * hot)[hot].all()


@pytest.mark.parametrize("fwhm_px", [1.3, 2.5])
def test_rays_beside_sharp_stars_are_found_with_their_faint_rims(found, fwhm_px):
    pixels, _ = field(fwhm_px)
    charge = tracks()
    masked = found(pixels + SIGMA * charge)
    assert masked[charge > 10].mean() > 0.97
    rims = (charge > 1) & (charge < 5)
    assert masked[rims].mean() > 0.08
    assert masked[charge < 0.1].mean() < 1e-3


def test_rays_as_wide_as_two_pixels_are_found_among_wide_stars(found):
    pixels, _ = field(4.0)
    charge = 2 * ndimage.gaussian_filter(tracks(), 0.6)
    masked = found(pixels + SIGMA * charge)
    assert masked[charge > 20].mean() > 0.9


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2])
def test_a_spectrum_with_bad_pixels_is_no_ray(found, share):
    """A line of light that is as narrow as a star; holes in it are filled from the sky, too."""
    rng = np.random.default_rng(6)
    rows = np.arange(144)[:, None] - 70.3
    pixels = 200 + 1000 * np.exp(-4 * np.log(2) * rows**2 / 2.5**2) + np.zeros((144, 144))
    pixels += rng.normal(0, SIGMA, pixels.shape)
    bad = rng.random(pixels.shape) < share
    pixels[bad] = np.nan
    assert np.count_nonzero(found(pixels) & ~bad) < 5


def test_rays_beside_bad_pixels_are_found_and_stars_across_them_are_none(found):
    pixels, cores = field(2.5)
    bad = np.zeros(pixels.shape, dtype=bool)
    for number, (row, col) in enumerate(zip(*cores, strict=True)):
        bad[row - 4 : row + 5, col + number % 3 - 1] = True
    hot = np.zeros(pixels.shape, dtype=bool)
    hot[23:140:24, 23:140:24] = True
    bad[23:140:24, 24:140:24] = True
    pixels = pixels + 20 * SIGMA * hot
    pixels[bad] = np.nan
    masked = found(pixels)
    assert masked[hot].all()
    assert np.count_nonzero(masked & ~bad & ~hot) < 10


@pytest.mark.parametrize(
    ("fwhm_px", "stars", "least", "most"),
    [(0.9, 36, 10, 20), (2.5, 36, 1.5, 3), (3.5, 9, 0.7, 1.2), (0.9, 9, 5, 5)],
)
def test_how_sharp_rays_must_be_is_told_by_the_stars(look_at, fwhm_px, stars, least, most):
    """A few may be rays that agree by chance, unless they are wide."""
    frame = look_at(field(fwhm_px, stars)[0])
    assert least <= frame.source.contrast <= most


def test_stars_tell_that_among_many_rays_too(look_at):
    pixels, _ = field(2.5, stars=24)
    hot = np.zeros(pixels.shape)
    hot[23::24, 11:140:12] = hot[11::24, 23:140:24] = 300.0
    pixels += SIGMA * ndimage.gaussian_filter(hot, 0.4, truncate=4.0)
    assert look_at(pixels).source.contrast < 3


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_without_a_noise_law_the_scatter_of_pixels_tells(found, unit):
    pixels, cores = field(2.5)
    charge = tracks()
    light = unit * (pixels - 200 + SIGMA * charge)
    masked = found(light, NoiseModel(NoiseKind.NONE, "test"))
    assert masked[charge > 10].mean() > 0.9
    assert masked[charge < 0.1].mean() < 1e-3
    assert not masked[cores].any()


class Blank:
    """A source of pixels; one is told from another by its name."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return self.name

    def read(self, rows, cols):
        plane = np.zeros((rows.stop - rows.start, cols.stop - cols.start), np.float32)
        return Pixels(plane, None, plane > 0)


def test_a_frame_may_fill_what_is_remembered_while_another_looks_there(monkeypatch):
    """What is found in blocks is kept for a while; two frames are read at once."""
    noise = NoiseModel(NoiseKind.NONE, "test")
    first, second = (cosmics.CosmicPixels(Blank(name), (64, 64), noise) for name in ("a", "b"))
    filling = threading.Thread(target=lambda: second.found(slice(0, 64), slice(0, 64)))

    class Slow(type(found_pixels._found)):
        """Lets the other frame in after it has said that a block is there."""

        def __contains__(self, key):
            there = super().__contains__(key)
            if there and not filling.ident:
                filling.start()
                filling.join(0.2)
            return there

    monkeypatch.setattr(found_pixels, "_found", Slow())
    monkeypatch.setattr(found_pixels, "_BLOCK_PX", 8)
    monkeypatch.setattr(cosmics, "_detect", lambda pixels, *_: np.zeros(pixels.science.shape, bool))
    for _ in range(2):
        assert not first.found(slice(0, 8), slice(0, 8)).any()
    filling.join()
    assert len(found_pixels._found) == found_pixels._MOST_BLOCKS


def test_beside_saturated_pixels_nothing_is_sure(tmp_path):
    """A flank that a trail crosses is steep on one side: of a bright star 42 pixels were rays."""
    pixels = np.random.default_rng(1).normal(200, SIGMA, (144, 144))
    pixels[60:63, 60:63] = 6e4
    for place in [(61, 68), (61, 90), (100, 30)]:
        pixels[place] += 100 * SIGMA
    fits.writeto(tmp_path / "frame.fits", pixels.astype("f4"))
    sensor = Sensor(saturation_dn=Sourced(5e4, "DN", "given"))
    sigma = Sourced(SIGMA, "DN", "given")
    noise = NoiseModel(NoiseKind.GAUSSIAN, "given", sigma=sigma, sensor=sensor)
    frame = open_frame(str(tmp_path / "frame.fits"))
    for sure, places in ((False, {(61, 68), (61, 90), (100, 30)}), (True, {(61, 90), (100, 30)})):
        masked = cosmics.without_cosmics(frame, noise, [ALL], sure=sure).read(*ALL).masked
        assert places <= {(int(row), int(col)) for row, col in np.argwhere(masked)}
        assert masked[61, 68] != sure
