"""Laws of a frame viewed on finer pixels: light and regions; compressed inputs; grown masks."""

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dip_pipeline.frames import open_frame, open_frames
from dip_pipeline.frames.finer_frame import finer_frame, finer_notes, finer_plane, left_out_names
from dip_pipeline.frames.finer_header import FinerGrid

GRIDS = st.builds(FinerGrid, st.integers(2, 4), st.booleans())


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(GRIDS, st.data())
def test_any_region_is_a_cut_of_the_whole_and_holds_the_light_there_was(layered, grid, data):
    coarse = open_frame(layered)
    frame = finer_frame(coarse, grid)
    assert frame.shape == (40 * grid.factor, 30 * grid.factor)
    whole = frame.read(slice(None), slice(None)).science
    blocks = whole.astype(float).reshape(40, grid.factor, 30, grid.factor)
    seen = blocks.sum((1, 3)) if grid.per_pixel else blocks.mean((1, 3))
    observed = coarse.read(slice(None), slice(None)).science
    np.testing.assert_allclose(seen, observed, rtol=1e-6)
    assert seen.sum() == pytest.approx(observed.astype(float).sum(), rel=1e-6)
    bounds = [
        sorted(data.draw(st.lists(st.integers(0, side), min_size=2, max_size=2, unique=True)))
        for side in frame.shape
    ]
    region = tuple(slice(*ends) for ends in bounds)
    np.testing.assert_array_equal(frame.read(*region).science, whole[region])


@pytest.mark.parametrize("start", [0, 1, 5])
def test_a_bad_pixel_is_bad_in_all_its_finer_ones_in_any_region(tmp_path, start):
    plane = np.ones((6, 8), "f4")
    plane[2, 3] = np.nan
    fits.PrimaryHDU(plane).writeto(tmp_path / "in.fits")
    frame = finer_frame(open_frame(tmp_path / "in.fits"), FinerGrid(3, per_pixel=True))
    expected = np.zeros((18, 24), bool)
    expected[6:9, 9:12] = True
    region = (slice(start, 17), slice(start, 23))
    np.testing.assert_array_equal(frame.read(*region).masked, expected[region])


def test_a_frame_of_finer_pixels_has_no_error_no_flags_and_says_so(layered):
    frame = finer_frame(open_frame(layered), FinerGrid(2, per_pixel=True))
    assert not frame.has_error_plane
    assert not frame.has_mask
    assert frame.source.read_flags(slice(0, 2), slice(0, 2)) is None
    assert left_out_names(frame) == ("HDU 2 (ERR)", "HDU 3 (DQ)")
    assert [hdu.name for hdu in frame.source.other_hdus()] == ["", "CATALOG", "SCI"]
    assert "HDU 2 (ERR), HDU 3 (DQ)" in finer_notes(frame)[0]
    assert finer_notes(open_frame(layered)) == ()


def test_a_compressed_input_s_own_planes_are_known_by_the_image_inside(tmp_path):
    rng = np.random.default_rng(1)
    science = fits.CompImageHDU(rng.integers(90, 110, (40, 30), "i2"), name="SCI")
    weights = fits.CompImageHDU(rng.integers(1, 9, (40, 30), "i2"), name="CON")
    other = fits.CompImageHDU(rng.integers(1, 9, (20, 30), "i2"), name="MASK")
    path = tmp_path / "packed.fits"
    fits.HDUList([fits.PrimaryHDU(), science, weights, other]).writeto(path)
    frame = finer_frame(open_frame(f"{path}[SCI]"), FinerGrid(3, per_pixel=True))
    assert left_out_names(frame) == ("HDU 2 (CON)",)
    order, shape, raw = frame.source.science_header()
    assert (order, shape) == (1, (120, 90))
    header = fits.Header.fromstring(b"".join(raw).decode(), sep="")
    assert (header["NAXIS1"], header["NAXIS2"]) == (90, 120)


def test_planes_of_a_cube_are_viewed_alike(tmp_path):
    path = tmp_path / "cube.fits"
    fits.PrimaryHDU(np.arange(2 * 20 * 18, dtype="f4").reshape(2, 20, 18)).writeto(path)
    frames = open_frames(path)
    grid = FinerGrid(2, per_pixel=False)
    first = finer_frame(frames[0], grid)
    second = finer_plane(first, frames[1])
    wanted = finer_frame(frames[1], grid)
    assert second == wanted
    assert second.plane_index == (1,)
    both = [frame.read(slice(None), slice(None)).science for frame in (second, wanted)]
    np.testing.assert_array_equal(*both)
    assert finer_plane(frames[0], frames[1]) is frames[1]
