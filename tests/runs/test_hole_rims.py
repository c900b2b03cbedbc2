"""A halo wider than its mask is told of; stars, galaxies and slopes beside holes are not."""

import logging
import re

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frame
from dip_pipeline.preparing.planning import settle_frame
from dip_pipeline.runs import hole_parts
from dip_pipeline.runs.hole_rims import bright_rims, warn_of_bright_rims
from dip_pipeline.simulate import DetectorOptions, SceneOptions, draw_scene, observe

SHAPE = (192, 192)
ROWS, COLS = np.indices(SHAPE)
FROM_TRAIL_PX = np.abs(ROWS - 0.7 * COLS - 20) / np.hypot(1, 0.7)
TRAIL = FROM_TRAIL_PX < 4


def halo(height, width_px=3.0):
    return height * np.exp(-0.5 * (FROM_TRAIL_PX / width_px) ** 2)


def scene(kind, seed=2):
    """Observed pixels and their sigma, in data numbers."""
    options = SceneOptions(kind, shape=SHAPE, seed=seed, saturated_star=False)
    frame = observe(draw_scene(options), DetectorOptions(defects=False))
    return frame.observed_dn.astype(np.float64), frame.sigma_true_dn


def rims_of(light, sigma, mask):
    known = np.where(mask, np.nan, light)
    return bright_rims(lambda *region: (known[region], sigma[region], mask[region]), SHAPE)


@pytest.mark.parametrize("kind", ["crowded", "galaxies"])
def test_a_halo_wider_than_its_mask_is_told(kind):
    light, sigma = scene(kind)
    found = rims_of(light + halo(60 * np.median(sigma)), sigma, TRAIL)
    assert found is not None
    assert (found.holes, found.pixels) == (1, np.count_nonzero(TRAIL))
    assert found.excess_sigma > 5
    grown = 4 + found.grow_px > FROM_TRAIL_PX
    assert rims_of(light + halo(60 * np.median(sigma)), sigma, grown) is None


def test_other_holes_do_not_hide_it():
    light, sigma = scene("galaxies")
    mask = TRAIL | (COLS == 50) | (np.random.default_rng(1).random(SHAPE) < 0.01)
    mask[120:160, 100:140] = True
    assert rims_of(light + halo(60 * np.median(sigma)), sigma, mask) is not None


@pytest.mark.parametrize("block_px", [48, 96, 128])
@pytest.mark.parametrize("kind", ["long", "short", "parted", "beside a border"])
def test_a_hole_that_crosses_blocks_is_one_and_judged_as_one(monkeypatch, block_px, kind):
    """Counted in each, or in none: its part in a block may be too short to be told."""
    light, sigma = scene("galaxies")
    mask, height = TRAIL, 60 * np.median(sigma)
    light += halo(height)
    if kind == "short":
        mask = TRAIL & (np.abs(COLS - 96) < 40)
    if kind == "parted":
        mask = TRAIL & (np.abs(COLS - 96) > 4)
    if kind == "beside a border":
        mask = (ROWS >= 97) & (ROWS < 105)
        light += height * np.exp(-0.5 * ((ROWS - 101) / 3) ** 2) - halo(height)
    whole = rims_of(light, sigma, mask)
    assert whole is not None
    assert whole.holes == (2 if kind == "parted" else 1)
    monkeypatch.setattr(hole_parts, "BLOCK_PX", block_px)
    assert rims_of(light, sigma, mask) == whole


def holes():
    columns = np.isin(COLS, (50, 51, 52, 111))
    square = (np.abs(ROWS - 90) < 30) & (np.abs(COLS - 100) < 30)
    return {"trail": TRAIL, "columns": columns, "square": square, "edge": ROWS < 12}


@pytest.mark.parametrize("name", list(holes()))
@pytest.mark.parametrize("kind", ["crowded", "galaxies", "nebula"])
@pytest.mark.parametrize("slope", [0.0, 20.0])
def test_stars_galaxies_and_slopes_beside_holes_are_not(kind, name, slope):
    light, sigma = scene(kind)
    sloping = slope * np.median(sigma) * (ROWS + COLS) / sum(SHAPE)
    assert rims_of(light + sloping, sigma, holes()[name]) is None


def test_neither_is_a_steep_slope_straight_towards_one():
    light, sigma = scene("galaxies")
    assert rims_of(light - np.median(sigma) * ROWS, sigma, ROWS < 12) is None


def test_neither_is_a_trail_across_a_great_galaxy_nor_are_masked_cores_of_stars():
    light, sigma = scene("galaxies")
    galaxy = 200 * np.median(sigma) * np.exp(-np.hypot(COLS - 96, (ROWS - 87) / 0.6) / 18)
    assert rims_of(light + galaxy, sigma, TRAIL) is None
    cores, stars = np.zeros(SHAPE, bool), np.zeros(SHAPE)
    for row, col in np.random.default_rng(3).uniform(10, 180, (25, 2)):
        apart_px = np.hypot(ROWS - row, COLS - col)
        cores |= apart_px < 4
        stars += 500 * np.median(sigma) * (1 + (apart_px / 2.5) ** 2) ** -2.5
    assert rims_of(light + stars, sigma, cores) is None


def warned(tmp_path, caplog, height, grow_px=0):
    options = SceneOptions("galaxies", shape=SHAPE, seed=2, saturated_star=False)
    frame = observe(draw_scene(options), DetectorOptions(defects=False))
    light = frame.observed_dn + halo(height * np.median(frame.sigma_true_dn))
    header = fits.Header([fits.Card(*card) for card in frame.header_cards()])
    path = tmp_path / "frame.fits"
    fits.writeto(path, np.where(TRAIL, np.nan, light).astype(np.float32), header)
    config = RunConfig().with_overrides(**{"reading.grow_px": grow_px})
    settled, noise = settle_frame(open_frame(path, config.frame_reading()), config)
    with caplog.at_level(logging.WARNING):
        warn_of_bright_rims(settled, noise)
    return [line for line in caplog.messages if "light rises towards the mask" in line]


def told_to_grow(line):
    return int(re.search(r"--grow (\d+)", line).group(1))


def test_nothing_is_said_without_a_halo(tmp_path, caplog):
    assert warned(tmp_path, caplog, 0.0) == []


def test_the_warning_names_the_regions_and_what_to_do(tmp_path, caplog):
    (line,) = warned(tmp_path, caplog, 60.0)
    assert f"1 masked region(s) of {np.count_nonzero(TRAIL)} pixels" in line
    assert 2 <= told_to_grow(line) <= 8


def test_what_was_grown_already_counts(tmp_path, caplog):
    (line,) = warned(tmp_path, caplog, 60.0)
    (tmp_path / "frame.fits").unlink()
    caplog.clear()
    (grown,) = warned(tmp_path, caplog, 60.0, grow_px=2)
    assert abs(told_to_grow(grown) - told_to_grow(line)) <= 1
