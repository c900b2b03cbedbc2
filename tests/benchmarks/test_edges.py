"""Cut scenes and wrong pixels: benchmarks of edges and odd pixels draw what they say."""

import numpy as np
import pytest

from benchmarks import edges, odd_pixels
from benchmarks.lone_stars import SKY_DN, observe_grid


@pytest.mark.parametrize("factor", [1, 2])
def test_a_cut_scene_is_the_same_sky_with_stars_beyond_all_its_edges(factor):
    scene = edges.cut(observe_grid(1, factor=factor, fwhm_px=3.0, pair_fwhm=0.0))
    side = len(scene.observed)
    assert scene.truth.shape == (side * factor, side * factor)
    place = np.unravel_index(scene.truth.argmax(), scene.truth.shape)
    off = [
        np.hypot(
            (s["row"] + 0.5) * factor - 0.5 - place[0], (s["col"] + 0.5) * factor - 0.5 - place[1]
        )
        for s in scene.stars
    ]
    assert min(off) < 1
    for axis in ("row", "col"):
        assert scene.stars[axis].min() < -0.5
        assert scene.stars[axis].max() > side - 0.5
    assert scene.level.min() >= SKY_DN


def test_distances_from_edges_are_of_the_nearest():
    away = edges._from_edges((5, 7))
    assert away[2].tolist() == [0, 1, 2, 2, 2, 1, 0]
    assert away[:, 3].tolist() == [0, 1, 2, 1, 0]


def test_wrong_pixels_far_above_all_are_found_and_none_are_where_none_is_wrong():
    assert odd_pixels.row(3.0, 1.0, [2])["found"] == 18
    nothing = odd_pixels.row(3.0, 0.0, [2])
    assert (nothing["wrong"], nothing["found"], nothing["found_falsely"]) == (18, 0, 0)
