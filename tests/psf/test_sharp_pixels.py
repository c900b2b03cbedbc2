"""Pixels that are sharper than the PSF allows are masked and told of; stars never are."""

import logging

import numpy as np
import pytest
from astropy.io import fits
from scipy.ndimage import binary_dilation, gaussian_filter

from dip_pipeline.config import RunConfig
from dip_pipeline.config.task_optics import AskedOptics
from dip_pipeline.frames import open_frame
from dip_pipeline.frames.fits_file import close_files
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.preparing.planning import settle_frame
from dip_pipeline.psf.sharp_pixels import without_rays, without_too_sharp
from dip_pipeline.runs import ways
from dip_pipeline.simulate import DetectorOptions, MoffatPsf, SceneOptions, draw_scene, observe
from tests.stand_in import QUICK, spread_evenly

RAYS = ((20, 30), (20, 31), (21, 32), (90, 70), (130, 20), (131, 20), (132, 20))


def field(tmp_path, *, stars_px, rays=RAYS, kind="crowded"):
    options = SceneOptions(
        kind, shape=(160, 160), seed=2, psf=MoffatPsf(stars_px), saturated_star=False
    )
    frame = observe(draw_scene(options), DetectorOptions(defects=False))
    observed = frame.observed_dn.astype(np.float32)
    for place in rays:
        observed[place] += 3000
    path = tmp_path / "frame.fits"
    fits.writeto(path, observed, fits.Header([fits.Card(*card) for card in frame.header_cards()]))
    return path


def masked_of(path, caplog, psf_px, task="deconvolve"):
    config = RunConfig().with_overrides(**{"task.name": task, "task.fwhm_px": psf_px})
    settled, noise = settle_frame(open_frame(path), config)
    with caplog.at_level(logging.WARNING):
        frame = without_too_sharp(settled, noise, AskedOptics.of(config))
    whole = (slice(0, 160), slice(0, 160))
    new = frame.read(*whole).masked & ~settled.read(*whole).masked
    told = [line for line in caplog.messages if "sharper than the PSF" in line]
    return {(int(row), int(col)) for row, col in np.argwhere(new)}, told


@pytest.mark.parametrize("task", ["deconvolve", "super-resolve"])
@pytest.mark.parametrize("width_px", [2.0, 3.0])
def test_cosmic_rays_are_masked_and_counted(tmp_path, caplog, task, width_px):
    masked, (line,) = masked_of(field(tmp_path, stars_px=width_px), caplog, width_px, task)
    assert masked == set(RAYS)
    assert "7 pixels are sharper than the PSF allows (cosmic rays?): taken as masked" in line


@pytest.mark.parametrize("times", [1.33, 0.67])
def test_a_pixel_of_a_bright_star_that_counts_too_much_or_too_little_is_masked(
    tmp_path, caplog, times
):
    path = field(tmp_path, stars_px=3.0, rays=())
    with fits.open(path, mode="update") as opened:
        observed = opened[0].data
        brightest = np.unravel_index(observed.argmax(), observed.shape)
        observed[brightest] *= times
    masked, (line,) = masked_of(path, caplog, 3.0)
    assert masked == {tuple(int(at) for at in brightest)}
    assert "1 pixels are sharper than the PSF allows" in line


@pytest.mark.parametrize("kind", ["crowded", "galaxies", "nebula"])
@pytest.mark.parametrize(
    ("task", "psf_px"),
    [("super-resolve", 1.2), ("super-resolve", 1.8), ("deconvolve", 1.9), ("deconvolve", 2.4)],
)
def test_nothing_is_masked_in_clean_frames(tmp_path, caplog, kind, task, psf_px):
    path = field(tmp_path, stars_px=1.8, rays=(), kind=kind)
    assert masked_of(path, caplog, psf_px, task) == (set(), [])


def test_dead_columns_and_pixels_are_masked_and_counted(tmp_path, caplog):
    path = field(tmp_path, stars_px=2.0, rays=())
    with fits.open(path, mode="update") as hdus:
        sky = np.median(hdus[0].data)
        dead = {(row, 70) for row in range(160)} | {(30, 31), (100, 120)}
        for place in dead:
            hdus[0].data[place] = 0.1 * sky
    masked, told = masked_of(path, caplog, 2.0)
    assert told == []
    assert masked <= dead
    assert len(masked) > 0.9 * len(dead)
    assert f"{len(masked)} pixels are darker than all sky around" in caplog.text


def test_where_many_pixels_are_dark_no_more_are_masked_than_before_the_psf(tmp_path, caplog):
    """As of a detector with a dark tail: those are found without a PSF, and no other."""
    path = field(tmp_path, stars_px=2.0, rays=())
    with fits.open(path, mode="update") as hdus:
        dark = np.random.default_rng(2).random(hdus[0].data.shape) < 0.06
        hdus[0].data[dark] = 0.0
    masked, _ = masked_of(path, caplog, 2.0)
    assert "no light is so" in caplog.text
    assert masked <= {(int(row), int(col)) for row, col in np.argwhere(dark)}


def test_rays_alone_are_masked_where_the_psf_is_so_wide_that_a_star_would_be_among_them(
    tmp_path, caplog
):
    masked, (line,) = masked_of(field(tmp_path, stars_px=2.0), caplog, 3.1)
    assert masked == set(RAYS)
    assert "7 pixels" in line


def test_no_star_is_masked_where_the_psf_is_far_too_wide(tmp_path, caplog):
    masked, (line,) = masked_of(field(tmp_path, stars_px=1.5), caplog, 4.5)
    assert masked == set()
    assert "nothing is masked for that" in line


def test_the_product_flags_them_as_filled(tmp_path, monkeypatch):
    monkeypatch.setattr(ways, "restore_scene", spread_evenly)
    asked = RunConfig().with_overrides(**QUICK, **{"task.name": "deconvolve", "task.fwhm_px": 3.0})
    target = tmp_path / "out.fits"
    restore_frame(str(field(tmp_path, stars_px=3.0)), target, asked)
    with fits.open(target) as hdus:
        flagged = hdus["DIP_FLAG"].data == 1
    rays = np.zeros(flagged.shape, dtype=bool)
    rays[tuple(zip(*RAYS, strict=True))] = True
    assert flagged[rays].all()
    assert not (flagged & ~binary_dilation(rays, np.ones((3, 3)))).any()
    close_files()


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("width_px", [1.3, 2.0, 3.0])
def test_faint_tracks_are_found_where_a_psf_is_undone(
    tmp_path, monkeypatch, caplog, width_px, asked
):
    """Nine pixels of ten sigma in a row: the limit of the PSF sees few of them. No star is lost.

    Where it was asked to look for them they are masked already.
    """
    monkeypatch.setattr(ways, "restore_scene", spread_evenly)
    track = [(60 + step, 40 + step // 2) for step in range(9)]
    path = field(tmp_path, stars_px=width_px, rays=())
    with fits.open(path, mode="update") as hdus:
        clean = hdus[0].data.copy()
        for place in track:
            hdus[0].data[place] += 120
    task = {"task.name": "super-resolve", "task.factor": 2, "task.fwhm_px": width_px}
    config = RunConfig().with_overrides(**QUICK, **task, **{"reading.find_cosmics": asked})
    with caplog.at_level(logging.WARNING):
        restore_frame(str(path), tmp_path / "out.fits", config)
    close_files()
    flagged = fits.getdata(tmp_path / "out.fits", "DIP_FLAG")[::2, ::2] == 1
    assert sum(flagged[place] for place in track) >= 8
    assert (flagged & (clean > np.median(clean) + 100)).sum() <= 1  # beside the track, if any
    assert ("look like cosmic rays, sharper than its stars" in caplog.text) is not asked


def test_texture_is_no_cosmic_ray_where_no_psf_says_how_sharp_light_is(tmp_path, caplog):
    """Craters, stone, cloth: as many dark pixels stand out as bright ones."""
    rng = np.random.default_rng(3)
    path = tmp_path / "stone.fits"
    texture = 400 * gaussian_filter(rng.normal(size=(160, 160)), 0.4)
    fits.writeto(path, (3000 + texture + rng.normal(0, 5, texture.shape)).astype("f4"))
    task = {"task.name": "super-resolve", "noise.sigma": 5.0}
    config = RunConfig().with_overrides(**task)
    settled, noise = settle_frame(open_frame(path), config)
    with caplog.at_level(logging.WARNING):
        assert without_rays(settled, noise, AskedOptics(2)) is settled
    assert "look like cosmic rays" not in caplog.text


@pytest.mark.parametrize(("width_px", "found"), [(0.8, False), (5.0, True)])
def test_hot_pixels_are_told_from_stars_that_are_narrower_than_a_pixel(tmp_path, width_px, found):
    """Nine stars: too few to say how wide stars are."""
    rows, cols = np.indices((160, 160))
    rng = np.random.default_rng(4)
    light, hot = np.zeros(rows.shape), np.zeros(rows.shape, bool)
    for place in np.argwhere(np.ones((3, 3))) * 50 + 25 + rng.uniform(-0.5, 0.5, (9, 2)):
        for part in np.stack(np.meshgrid(*[np.linspace(-0.4, 0.4, 5)] * 2), axis=-1).reshape(-1, 2):
            away = (rows + part[0] - place[0]) ** 2 + (cols + part[1] - place[1]) ** 2
            light += 160 * 0.5 ** (4 * away / width_px**2)
    hot[tuple((rng.integers(0, 3, (2, 12)) * 50 + rng.integers(-8, 9, (2, 12))) % 160)] = True
    pixels = 200 + light + 1000 * hot * (width_px > 1) + rng.normal(0, 10, light.shape)
    fits.writeto(tmp_path / "few.fits", pixels.astype("f4"))
    config = RunConfig().with_overrides(**{"task.name": "super-resolve", "noise.sigma": 10.0})
    settled, noise = settle_frame(open_frame(tmp_path / "few.fits"), config)
    whole = (slice(0, 160), slice(0, 160))
    masked = without_rays(settled, noise, AskedOptics(2)).read(*whole).masked
    np.testing.assert_array_equal(masked, hot & found)
