"""Reading along compression tiles: the same pixels, and each tile is decoded once."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.hdu.compressed import section as astropy_section
from hypothesis import given, settings
from hypothesis import strategies as st

from dip_pipeline.frames import open_frame
from dip_pipeline.frames.fits_file import close_files


def write(path, shape, tile):
    pixels = np.random.default_rng(3).integers(0, 1000, shape).astype("i2")
    packed = fits.CompImageHDU(pixels, name="SCI", tile_shape=tile)
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(path)
    return pixels


@pytest.fixture
def decoded(monkeypatch):
    """Pixels that were decoded, call by call."""
    sizes = []
    real = astropy_section.decompress_image_data_section

    def count(*arguments):
        pixels = real(*arguments)
        sizes.append(pixels.size)
        return pixels

    monkeypatch.setattr(astropy_section, "decompress_image_data_section", count)
    return sizes


@pytest.mark.parametrize("tile", [(1, 600), (32, 600), (16, 16)])
def test_a_row_of_tiles_of_a_run_decodes_every_compression_tile_once(tmp_path, decoded, tile):
    pixels = write(tmp_path / "a.fits", (100, 600), tile)
    frame = open_frame(tmp_path / "a.fits")
    for start in range(0, 600, 50):
        got = frame.read(slice(10, 42), slice(start, start + 50)).science
        np.testing.assert_array_equal(got, pixels[10:42, start : start + 50])
    assert sum(decoded) <= (64 * 600 if tile[1] == 600 else 3 * 64 * 600)


def test_little_is_kept_of_a_large_image(tmp_path, decoded, monkeypatch):
    monkeypatch.setattr("dip_pipeline.frames.tile_bands._MOST_BYTES", 1000)
    pixels = write(tmp_path / "a.fits", (100, 600), (1, 600))
    frame = open_frame(tmp_path / "a.fits")
    for _ in range(2):
        np.testing.assert_array_equal(frame.read(slice(0, 9), slice(5, 9)).science, pixels[:9, 5:9])
    assert decoded == [9 * 600] * 2


spans = st.tuples(st.integers(0, 60), st.integers(1, 30))


@settings(max_examples=12, deadline=None)
@given(
    tile=st.tuples(st.sampled_from([1, 7, 32]), st.sampled_from([5, 16, 90])),
    regions=st.lists(st.tuples(spans, spans), min_size=1, max_size=6),
)
def test_any_reads_in_any_order_give_the_pixels(tmp_path_factory, tile, regions):
    path = tmp_path_factory.mktemp("bands") / "a.fits"
    pixels = write(path, (90, 90), tile)
    frame = open_frame(path)
    for (row, rows), (col, cols) in regions:
        region = slice(row, row + rows), slice(col, col + cols)
        np.testing.assert_array_equal(frame.read(*region).science, pixels[region])
    close_files()
