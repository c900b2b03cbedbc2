"""Pictures are written for whatever there is to show."""

import dataclasses

import numpy as np
import pytest
from matplotlib.image import imread

from dip_pipeline.quality import Evidence, pictures, write_pictures
from dip_pipeline.quality.stretch import averaged, choose_cutout, choose_stretch


def test_every_picture_is_written_and_not_blank(evidence, tmp_path):
    written = write_pictures(tmp_path / "new", evidence, title="a field")
    names = {path.stem for path in written}
    assert names == {"before", "after", "truth", "residual", "panel", "error"}
    for path in written:
        assert imread(path)[..., :3].std() > 0.05, path.name


def test_before_and_after_share_one_stretch(evidence, tmp_path):
    same = dataclasses.replace(evidence, restored=evidence.observed)
    write_pictures(tmp_path, same)
    before, after = (imread(tmp_path / f"{name}.png") for name in ("before", "after"))
    picture = slice(80, -100)  # without the label and the colour bar
    np.testing.assert_array_equal(before[picture], after[picture])


def test_without_truth_and_errors_there_are_no_pictures_of_them(evidence, tmp_path):
    bare = dataclasses.replace(evidence, truth=None, error=None)
    names = {path.stem for path in write_pictures(tmp_path, bare)}
    assert names == {"before", "after", "residual", "panel"}


@pytest.mark.parametrize(
    ("shape", "fill"), [((1, 1), 0.0), ((70, 30), 0.0), ((5, 40), np.nan)], ids=str
)
def test_frames_with_nothing_to_see_are_drawn_all_the_same(shape, fill, tmp_path):
    pixels = np.full(shape, fill, np.float32)
    evidence = Evidence(pixels, pixels, np.ones(shape, np.float32), error=pixels)
    written = write_pictures(tmp_path, evidence)
    assert len(written) > 3
    assert all(path.stat().st_size for path in written)


def test_the_cut_out_lies_inside_the_frame_and_off_the_saturated_star(evidence):
    rows, cols = choose_cutout(evidence)
    inside = evidence.saturated[rows, cols]
    assert inside.shape == (48, 48)
    assert not inside.any()


def test_the_stretch_grows_with_the_level_from_black_to_white(evidence):
    stretch = choose_stretch(evidence)
    norm = stretch.norm()
    shades = norm(np.linspace(stretch.sky - stretch.sigma, stretch.high, 50))
    assert (np.diff(shades) > 0).all()
    assert shades[-1] == pytest.approx(1.0)


def test_large_frames_are_shown_by_the_means_of_blocks():
    pixels = np.arange(4100.0)[None, :] * np.ones((6, 1))
    shown = averaged(pixels)
    assert shown.shape == (2, 1366)
    assert shown[0, 0] == pytest.approx(1.0)


def test_labels_of_levels_are_short_and_tell_them_apart():
    small, large = np.array([-0.0061194, 0.0024041, 0.5534]), np.array([10012.3, 10015.1, 10033.0])
    assert pictures._short_labels(small) == ["-0.00612", "0.0024", "0.553"]
    assert pictures._short_labels(large) == ["10012", "10015", "10033"]
    faint = np.array([-0.000818, -0.00013, 0.00055])
    assert pictures._short_labels(faint) == ["-0.000818", "", "0.00055"]
