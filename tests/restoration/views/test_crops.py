"""Crops of regions: all of a frame is drawn from, its sources oftener, and holes are hidden."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.views.crops import CROP_PX, CropSource
from dip_pipeline.restoration.views.regions import measure_sky, prepare


def source(problem, law, shape, *, light=None, masked=None, **more):
    """Crops of a sky in noise, and its region; turned no way."""
    pixels = np.random.default_rng(1).standard_normal(shape)
    asked = problem(pixels, law.gaussian(1.0), masked=masked)
    region = prepare(asked, measure_sky([asked]))
    if light is not None:
        region = replace(region, observed=torch.from_numpy(light)[None, None].float())
    ones = [torch.ones_like(region.trusted)]
    return CropSource([region], ones, np.random.default_rng(2), turned=False, **more), region


@pytest.mark.parametrize("shape", [(64, 200), (200, 64), (90, 150)])
def test_crops_are_drawn_from_all_of_an_oblong_frame(problem, law, shape):
    rows, cols = np.indices(shape)
    crops, _ = source(problem, law, shape, light=1000.0 * rows + cols)
    seen = np.zeros(shape, bool)
    for corner in crops.draw(150).observed[:, 0, 0, 0]:
        row, col = divmod(int(corner), 1000)
        seen[row : row + CROP_PX, col : col + CROP_PX] = True
    assert seen.mean() > 0.98


def test_a_quarter_of_the_crops_show_a_source_however_small_a_part_of_the_frame_it_is(problem, law):
    shape = (256, 256)
    light = np.zeros(shape)
    light[120:124, 40:44] = 100.0
    crops, _ = source(problem, law, shape, light=light)
    shown = (crops.draw(300).observed.amax(dim=(1, 2, 3)) > 50).float().mean()
    by_chance = (CROP_PX / 256) ** 2
    assert 0.25 - 0.06 < float(shown) < 0.25 + 0.75 * 3 * by_chance


def test_pixels_like_the_frames_own_holes_are_hidden_and_count_the_more(problem, law):
    """What is known of them is what the network's answer is held against, so it may not see it."""
    shape = (64, 64)
    masked = np.zeros(shape, bool)
    masked[20:24, 10:14] = True
    crops, region = source(problem, law, shape, masked=masked)
    batch = crops.draw(60)
    hidden = (batch.known == 0) & (region.known > 0)
    hides = hidden.any(dim=3).any(dim=2).any(dim=1)
    assert 0.25 < float(hides.float().mean()) < 0.6  # half, some of which lie on the hole itself
    seen = (batch.known > 0) & (region.known > 0)
    assert float(batch.weight[hidden].min()) > 2 * float(batch.weight[seen].max())
    assert float(batch.weight[(region.known == 0).expand_as(hidden)].max()) == 0.0


@pytest.mark.parametrize("hole", [False, True])
def test_edges_of_which_nothing_is_known_are_hidden_nowhere_where_they_are_not_to_be_filled(
    problem, law, hole
):
    """Holes still are, also in such crops as hold an edge, which is not hidden along with them."""
    shape = (160, 170)
    masked = np.ones(shape, bool)
    masked[9:-7, 5:-11] = False
    masked[14:16, 30:32] = hole
    counts = {}
    for fills_edges in (True, False):
        crops, region = source(problem, law, shape, masked=masked, fills_edges=fills_edges)
        chosen = [crops.choose() for _ in range(80)]
        known = torch.cat([region.known[one.window.slices(CROP_PX)] for one in chosen])
        hidden = (crops.cut(chosen).known == 0) & (known > 0)
        counts[fills_edges] = hidden.sum(dim=(1, 2, 3)).float()
    assert float(counts[True].max()) > 5 * CROP_PX
    assert float(counts[False].max()) == (4 if hole else 0)
