"""Tile-compressed images read like plain ones: every algorithm, type, tile shape and region."""

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from dip_pipeline.frames import open_frame
from dip_pipeline.frames.fits_file import close_files

ALL = slice(None)
KINDS = ("", "_rice", "_gzip", "_plio", "_hcomp")
LOSSLESS = {
    "u1": ["RICE_1", "GZIP_1", "GZIP_2"],
    "i2": ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1"],
    "u2": ["RICE_1", "GZIP_1", "GZIP_2"],
    "i4": ["RICE_1", "GZIP_1", "GZIP_2"],
    "f4": ["GZIP_1", "GZIP_2"],
    "f8": ["GZIP_2"],
}


@st.composite
def compressed_images(draw):
    """An image, how to compress it without loss, and a region of it."""
    dtype = draw(st.sampled_from(sorted(LOSSLESS)))
    kind = draw(st.sampled_from(LOSSLESS[dtype]))
    shape = draw(st.tuples(st.integers(4, 24), st.integers(4, 24)))
    tile = draw(st.sampled_from([None, (1, shape[1]), (4, 4), (shape[0], 3), (5, shape[1])]))
    if kind == "HCOMPRESS_1":
        # astropy refuses tiles of less than 4 pixels, at the far end, too.
        whole = all(side % 4 == 0 for side in shape)
        tile = draw(st.sampled_from([shape, (4, 4)] if whole else [shape]))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    big = np.dtype(dtype).newbyteorder(draw(st.sampled_from("<>")))
    if dtype[0] == "f":
        values = rng.normal(0, 1000, shape).astype(big)
        values[rng.random(shape) < 0.1] = np.nan
    else:
        info = np.iinfo(dtype)
        low, high = max(info.min, -(2**20)), min(info.max, 2**20)
        values = rng.integers(low, high, shape, endpoint=True).astype(big)
    bounds = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    return values, kind, tile, tuple(slice(*bound) for bound in bounds)


@settings(max_examples=80, deadline=None)
@given(case=compressed_images())
def test_any_region_of_any_compressed_image_is_that_of_the_plain_one(case, tmp_path_factory):
    values, kind, tile, region = case
    path = tmp_path_factory.mktemp("packed") / "a.fits"
    hdu = fits.CompImageHDU(values, compression_type=kind, tile_shape=tile, quantize_level=0)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    frame = open_frame(path)
    expected = values.astype(np.float32)
    whole, part = frame.read(ALL, ALL), frame.read(*region)
    close_files()
    np.testing.assert_array_equal(whole.science, expected)
    np.testing.assert_array_equal(whole.masked, np.isnan(expected))
    np.testing.assert_array_equal(part.science, expected[region])
    assert whole.science.dtype.isnative


@pytest.mark.parametrize("method", [-1, 1, 2])
def test_quantised_floats_read_alike_whole_and_by_slices(tmp_path, method):
    """Dithering depends on the tile: a region must take the dither of its own tiles."""
    values = np.random.default_rng(5).normal(0, 3, (40, 30)).astype("f4")
    values[3, 4] = np.nan
    hdu = fits.CompImageHDU(
        values, compression_type="RICE_1", quantize_level=8, quantize_method=method, dither_seed=77
    )
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "a.fits")
    frame = open_frame(tmp_path / "a.fits")
    whole = frame.read(ALL, ALL).science
    np.testing.assert_array_equal(whole, fits.getdata(tmp_path / "a.fits", 1))
    for row in range(0, 40, 7):
        part = frame.read(slice(row, row + 9), slice(5, 19)).science
        np.testing.assert_array_equal(part, whole[row : row + 9, 5:19])


def _read(task):
    frame, rows, cols = task
    return frame.read(rows, cols).science.tobytes()


def _regions():
    return [
        (slice(row, row + 37), slice(col, col + 61))
        for row in range(0, 263, 53)
        for col in range(0, 239, 61)
    ]


@pytest.fixture
def five(extra_data):
    return [open_frame(extra_data / f"compressed/m13{kind}.fits") for kind in KINDS]


def test_five_compressions_read_the_same_whole_and_by_slices(five):
    whole = five[0].read(ALL, ALL).science
    assert whole.shape == (300, 300)
    for frame in five:
        np.testing.assert_array_equal(frame.read(ALL, ALL).science, whole)
        for rows, cols in _regions():
            np.testing.assert_array_equal(frame.read(rows, cols).science, whole[rows, cols])


def test_five_compressions_read_the_same_from_threads(five):
    whole = five[0].read(ALL, ALL).science
    tasks = [(frame, rows, cols) for rows, cols in _regions() for frame in five]
    with ThreadPoolExecutor(8) as pool:
        for task, content in zip(tasks, pool.map(_read, tasks), strict=True):
            assert content == whole[task[1], task[2]].tobytes()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_five_compressions_read_the_same_from_processes(five, method):
    whole = five[0].read(ALL, ALL).science
    tasks = [(frame, rows, cols) for rows, cols in _regions()[::4] for frame in five]
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        for task, content in zip(tasks, pool.map(_read, tasks, chunksize=4), strict=True):
            assert content == whole[task[1], task[2]].tobytes()


_MEASURE = """
import sys
import numpy as np
from dip_pipeline.frames import open_frame
import astropy.io.fits.hdu.compressed
small = open_frame(sys.argv[1])          # everything that is imported late is there by now
small.read(slice(0, 32), slice(0, 32))
def kib(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")                     # the peak is now what is in use
before = kib("VmRSS")
frame = open_frame(sys.argv[2])
side = int(sys.argv[3])
middle = (frame.shape[0] - side) // 2
pixels = frame.read(slice(middle, middle + side), slice(middle, middle + side))
assert pixels.science.shape == (side, side) and np.isfinite(pixels.science).all()
print((kib("VmHWM") - before) / 1024)
"""

needs_proc = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak of memory cannot be reset"
)


def _peak_mib(small: Path, path: Path, side: int = 256) -> float:
    """Memory that opening a file and reading one tile adds to a fresh interpreter's."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, small, path, str(side)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},
    )
    return float(done.stdout)


def _tiled(extra_data, side):
    """A large frame made of real ones."""
    real = fits.getdata(extra_data / "multi_exposure/M13_blue_0001.fits")
    repeats = [-(-side // length) for length in real.shape]
    return np.tile(real, repeats)[:side, :side]


def _write(path, pixels, packing):
    if packing == "plain":
        fits.PrimaryHDU(pixels).writeto(path)
    else:
        hdu = fits.CompImageHDU(pixels, compression_type=packing)
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    return path


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("packing", ["plain", "RICE_1", "GZIP_2"])
def test_a_tile_of_a_large_frame_costs_under_50_mib_and_does_not_grow(
    extra_data, tmp_path, packing
):
    small = _write(tmp_path / "small.fits", _tiled(extra_data, 512), packing)
    costs = {
        side: _peak_mib(small, _write(tmp_path / f"{side}.fits", _tiled(extra_data, side), packing))
        for side in (2048, 8192)
    }
    assert 0 < costs[8192] < 50
    assert costs[8192] < costs[2048] + 16  # a row of tiles is wider, nothing else


@needs_proc
def test_a_tile_of_a_compressed_frame_costs_little(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 60000, (2000, 2000)).astype("u2")
    small = _write(tmp_path / "small.fits", pixels[:100, :100], "RICE_1")
    large = _write(tmp_path / "large.fits", pixels, "RICE_1")
    assert _peak_mib(small, large) < 15
    assert _peak_mib(small, large, side=2000) > 25  # that it is measured at all
