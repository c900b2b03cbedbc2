"""Holes are the ones that were asked for, and peers fill them as they are known to."""

import numpy as np
import pytest
from scipy import ndimage

from benchmarks import task_inpaint
from benchmarks.fields import FieldKind
from benchmarks.restored import Restored
from benchmarks.task_inpaint import PEERS, Holes, draw_holed, rows


def test_small_holes_are_pixels_and_columns_large_ones_a_trail_and_a_square():
    small = draw_holed(FieldKind.GALAXIES, 1, Holes.SMALL, side_px=128).masked
    assert (small.all(axis=0)).sum() >= 3
    assert 0.03 < small.mean() < 0.06
    field = draw_holed(FieldKind.GALAXIES, 1, Holes.LARGE, side_px=192)
    parts, count = ndimage.label(field.masked)
    sizes = sorted(ndimage.sum(field.masked, parts, range(1, count + 1)))
    assert count == 2
    assert sizes[1] == 40 * 40 or sizes[0] == 40 * 40
    assert not field.observed[field.masked].any()


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_follows_a_slope_and_leaves_known_pixels(name):
    field = draw_holed(FieldKind.GALAXIES, 1, Holes.SMALL, side_px=96)
    by_rows, by_cols = np.indices(field.masked.shape)
    slope = (100 + by_rows + 0.5 * by_cols).astype(np.float32)
    filled = PEERS[name](np.where(field.masked, np.float32(0), slope), field.masked)
    inner = field.masked[20:-20, 20:-20]
    assert np.abs(filled - slope)[20:-20, 20:-20][inner].max() < 6
    np.testing.assert_allclose(filled[~field.masked], slope[~field.masked], rtol=1e-5)


def test_rows_tell_how_far_ours_is_from_the_best_peer_on_either_frame(monkeypatch):
    def perfect(field, settings, options):
        assert options["task.name"] == "inpaint"
        science = field.truth.level + field.truth.sigma * np.float32(0.01)
        return Restored(science, 1.0, error=0.1 * field.truth.sigma)

    monkeypatch.setattr(task_inpaint, "with_dip", perfect)
    found = rows(1, side_px=96, fields=("galaxies",))
    assert len(found) == 2 * (1 + 2 * len(PEERS))
    ours = [row for row in found if row["method"] == "ours"]
    assert [row["field"] for row in ours] == ["galaxies, small holes", "galaxies, large holes"]
    for row in ours:
        assert row["rms"] == pytest.approx(0.01, rel=0.05)
        assert row["covered"] == 1.0
        assert row["to_best_noisy"] < 0.2
        assert str(row["best_denoised"]).endswith("our denoised frame")
