"""What restored pixels predict of a hole keeps to what is known around it, and is no copy of it."""

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.delivering.hole_errors import distance_px
from dip_pipeline.restoration.images.refilling import fill_again


@pytest.mark.parametrize("lone", [((44, 26),), ((44, 26), (44, 27)), ((44, 26), (46, 28))])
def test_lone_bright_pixels_in_a_hole_are_no_floor_for_others(lone):
    """Within 3 px nothing else was known: pixels that far were raised to their level."""
    light = 0.2 * np.random.default_rng(2).standard_normal((64, 64))
    known = np.ones(light.shape, bool)
    known[30:60, 10:44] = False
    for place in lone:
        known[place], light[place] = True, 25.0
    light[~known] = 0.0
    restored, seen = (torch.from_numpy(x.astype(np.float32))[None, None] for x in (light, known))
    away = torch.from_numpy(distance_px(~known).astype(np.float32))[None, None]
    filled = fill_again(restored, seen, torch.zeros_like(restored), away)[0, 0].numpy()
    rows, cols = np.indices(light.shape)
    apart = np.min([np.hypot(rows - row, cols - col) for row, col in lone], axis=0)
    assert np.abs(filled[~known & (apart > 2.5)]).max() < 5
