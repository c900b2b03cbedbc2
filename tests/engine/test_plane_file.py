"""Laws of planes in files: their room is taken at once, and bands lie where they belong."""

import resource
from contextlib import contextmanager

import numpy as np
import pytest

from dip_pipeline.engine import PlaneFile
from dip_pipeline.errors import OutputError


@contextmanager
def no_more_than(size):
    """Let no file be written beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_room_of_the_whole_plane_is_taken_before_anything_is_written(tmp_path):
    plane = PlaneFile.create(tmp_path / "plane", (300, 70), np.float32)
    found = plane.path.stat()
    assert found.st_size == plane.n_bytes == 300 * 70 * 4
    assert found.st_blocks * 512 >= plane.n_bytes


def test_bands_written_in_any_order_are_read_by_any_region(tmp_path):
    wanted = np.arange(35 * 12, dtype=np.float32).reshape(35, 12)
    plane = PlaneFile.create(tmp_path / "plane", wanted.shape, np.float32)
    for first in (20, 0, 10, 30):
        plane.write(slice(first, min(first + 10, 35)), wanted[first : first + 10])
    for region in ((slice(8, 22), slice(3, 9)), (slice(33, 99), slice(None)), (slice(5, 5),) * 2):
        np.testing.assert_array_equal(plane[region], wanted[region])


@pytest.mark.parametrize("cols", [12, 12_000])
def test_a_band_that_is_not_written_to_its_end_is_told(tmp_path, cols):
    """What fits a buffer is written when the file is closed, where numpy looks for no error."""
    plane = PlaneFile.create(tmp_path / "plane", (10, cols), np.float32)
    band = np.ones((4, cols), np.float32)
    with no_more_than(plane.n_bytes // 2):
        plane.write(slice(0, 4), band)
        with pytest.raises(OutputError, match=r"plane: cannot be written \(File too large\)"):
            plane.write(slice(4, 8), band)
    plane.write(slice(4, 8), band)
    assert plane[slice(0, 9), slice(None)].sum() == 8 * cols
