"""Laws of planes in files: their room is taken at once, and bands lie where they belong."""

import numpy as np

from dip_pipeline.engine import PlaneFile


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
