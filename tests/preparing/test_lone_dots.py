"""Lone dark pixels that no noise makes: found where a frame has them, and nowhere else."""

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frame
from dip_pipeline.preparing.lone_dots import without_lone_dots
from dip_pipeline.preparing.planning import settle_frame
from dip_pipeline.simulate import SceneOptions, simulate

SHAPE = (256, 256)
WHOLE = [(slice(0, SHAPE[0]), slice(0, SHAPE[1]))]
SIGMA_DN = 20.0


@pytest.fixture
def framed(tmp_path):
    """Make a frame of pixels, with an error plane if one is given."""

    def made(pixels, error=None):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.fits"
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(pixels.astype("f4"), name="SCI")]
        if error is not None:
            hdus.append(fits.ImageHDU(error.astype("f4"), name="ERR"))
        fits.HDUList(hdus).writeto(path)
        return open_frame(str(path))

    return made


def tail(seed=1, share=0.03):
    """Of a share of the pixels, by how many sigma they lie too low: exponential."""
    rng = np.random.default_rng([seed, 1])
    return (rng.random(SHAPE) < share) * rng.exponential(3.0, SHAPE)


def white(seed=1):
    """White noise over an even sky."""
    return 500 + SIGMA_DN * np.random.default_rng(seed).normal(size=SHAPE)


def rays():
    """Slanted tracks, two pixels wide."""
    light = np.zeros(SHAPE)
    for first in range(10, 220, 30):
        for step in range(200):
            col = first + int(0.12 * step)
            light[20 + step, col : col + 2] = 1.0
    return light


def stars(fwhm_px=3.5, seed=2, number=200, faintest=60.0, brightest=4000.0):
    """Stars of peaks as many below as above any, by decades."""
    rng = np.random.default_rng(seed)
    rows, cols = np.indices(SHAPE)
    light = np.zeros(SHAPE)
    for peak in faintest * (brightest / faintest) ** rng.random(number):
        row, col = rng.uniform(0, SHAPE[0]), rng.uniform(0, SHAPE[1])
        near = np.s_[max(0, int(row) - 15) : int(row) + 16, max(0, int(col) - 15) : int(col) + 16]
        squared = (rows[near] - row) ** 2 + (cols[near] - col) ** 2
        light[near] += peak * 0.5 ** (4 * squared / fwhm_px**2)
    return light


def masked(frame):
    """Pixels of a frame that are masked, lone dots among them."""
    return without_lone_dots(frame, WHOLE).read(*WHOLE[0]).masked


def test_dark_dots_are_masked_and_the_noise_is_that_of_the_others(framed, caplog):
    depth = tail()
    frame = framed(white() + stars() - SIGMA_DN * depth)
    found = masked(frame)
    assert found[depth > 4.5].mean() > 0.9
    assert found[depth == 0].mean() < 0.01
    assert "no light is so" in caplog.text
    more = tail(share=0.06)
    found = masked(framed(white() + stars() - SIGMA_DN * more))
    assert found[(more > 2.5) & (more < 3.5)].mean() > 0.4  # those that are less deep, too
    _, noise = settle_frame(frame, RunConfig())
    assert noise.sigma.value == pytest.approx(SIGMA_DN, rel=0.05)


def test_dark_dots_under_an_error_plane_and_on_bright_light_are_found(framed):
    """By errors, where noise is uneven; and by level, where it grows with the light."""
    depth = tail()
    sigma = np.where(np.arange(SHAPE[1]) < 128, 5.0, 50.0)[None] * np.ones(SHAPE)
    frame = framed(500 + sigma * ((white() - 500) / SIGMA_DN - depth), error=sigma)
    for half in np.s_[:, :128], np.s_[:, 128:]:
        assert masked(frame)[half][depth[half] > 4.5].mean() > 0.9
        assert masked(frame)[half][depth[half] == 0].mean() < 0.01
    rows, cols = np.indices(SHAPE)
    level = 100 + 2000 * np.exp(-((rows - 128) ** 2 + (cols - 128) ** 2) / 2 / 60**2)
    sigma = np.sqrt(level)
    frame = framed(level + sigma * ((white() - 500) / SIGMA_DN - depth))
    assert masked(frame)[depth > 5].mean() > 0.9
    assert masked(frame)[depth == 0].mean() < 0.01


@pytest.mark.parametrize(
    "kind", ["white", "both", "crowded", "difference", "undersampled", "lines", "rays"]
)
def test_where_noise_is_as_far_above_or_light_is_sharp_nothing_is_masked(framed, kind):
    """Stars of no frame go: nor those of a difference, of which as many are dark as bright.

    Nor do lines of one column's width go, as spectra have, nor what lies beside the steps of a ray.
    """
    pixels = {
        "white": white,
        "both": lambda: white() - SIGMA_DN * (tail(1) - tail(2)),
        "crowded": lambda: simulate(SceneOptions(shape=SHAPE, seed=7)).observed_dn,
        "difference": lambda: white() + stars(1.2) - stars(1.2, seed=3),
        "undersampled": lambda: white() + stars(1.2),
        "rays": lambda: white() + 100 * SIGMA_DN * rays(),
        "lines": lambda: white() - 100.0 * (np.arange(SHAPE[1]) % 40 == 7),
    }[kind]()
    frame = framed(pixels)
    assert without_lone_dots(frame, WHOLE) is frame


def test_lone_bright_pixels_go_with_the_dark_ones_unless_they_may_be_stars(framed, caplog):
    """Stars of 2.5 px stay, however bright; narrower ones, where some are bright."""
    depth = tail()
    rng = np.random.default_rng(5)
    height = (rng.random(SHAPE) < 0.006) * rng.uniform(3, 4, SHAPE)
    dots = SIGMA_DN * (height - depth)
    light = stars(2.5)
    found = masked(framed(white() + light + dots))
    assert "below, or 3 above, are taken as masked" in caplog.text
    assert found[height > 3.5].mean() > 0.5
    assert not found[(light > 8 * SIGMA_DN) & (dots == 0)].any()
    sharp = stars(1.2, number=60)
    found = masked(framed(white() + sharp + dots))
    assert found[(depth > 6) & (sharp < 1)].mean() > 0.9
    assert not found[(sharp > 8 * SIGMA_DN) & (dots == 0)].any()


def test_dark_pixels_beside_one_that_is_not_known_stay(framed):
    """Nor do holes as wide as light makes them go: they are not alone."""
    depth = tail()
    pixels = white() - SIGMA_DN * depth
    pixels[100, ::2] = np.nan
    found = masked(framed(pixels))
    assert not (found & np.isfinite(pixels))[98:103].any()
    holes = stars(3.0, faintest=100.0, brightest=200.0)
    found = masked(framed(white() - holes - SIGMA_DN * depth))
    assert found[(holes > 5 * SIGMA_DN) & (depth == 0)].mean() < 0.1


@pytest.mark.parametrize(("task", "goes"), [("denoise", True), ("inpaint", False)])
def test_known_pixels_stay_where_holes_alone_are_the_task(framed, task, goes):
    settled, _ = settle_frame(
        framed(white() - SIGMA_DN * tail()), RunConfig().with_overrides(**{"task.name": task})
    )
    assert settled.read(*WHOLE[0]).masked.any() == goes
