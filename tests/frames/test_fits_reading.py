"""Reading FITS: what comes out is what the standard says is in there, region by region."""

import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.hdu.image import Section
from hypothesis import given, settings
from hypothesis import strategies as st

from dip_pipeline.errors import FrameError
from dip_pipeline.frames import open_frame
from dip_pipeline.frames.fits_file import close_files

ALL = slice(None)


def read_all(path):
    frame = open_frame(path)
    return frame.read(ALL, ALL)


@st.composite
def stored_images(draw):
    """Stored integers or floats with scaling, BLANK and NaN, and the physical values."""
    dtype = draw(st.sampled_from(["u1", ">i2", ">i4", ">i8", ">f4", ">f8"]))
    shape = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    numbers = st.integers(0, 200) if dtype == "u1" else st.integers(-3000, 3000)
    values = draw(st.lists(numbers, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    stored = np.array(values, dtype=np.int64).reshape(shape).astype(dtype)
    scale = draw(st.sampled_from([1.0, 0.25, 2.5]))
    zero = draw(st.sampled_from([0.0, 32768.0, -7.5]))
    blank = None
    physical = stored.astype(np.float64) * scale + zero
    if stored.dtype.kind in "iu":
        blank = draw(st.sampled_from([None, 0, 5, int(stored[0, 0])]))
        if blank is not None:
            physical[stored == blank] = np.nan
    elif draw(st.booleans()):
        stored[0, 0] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
        physical[0, 0] = np.nan
    return stored, {"BSCALE": scale, "BZERO": zero, "BLANK": blank}, physical.astype(np.float32)


def write_stored(path, stored, cards):
    """Write stored numbers as they are, with scaling cards beside them."""
    header = fits.Header()
    bitpix = {"u1": 8, "i2": 16, "i4": 32, "i8": 64, "f4": -32, "f8": -64}[stored.dtype.str[1:]]
    header["SIMPLE"] = True
    header["BITPIX"] = bitpix
    header["NAXIS"] = stored.ndim
    for axis, length in enumerate(reversed(stored.shape), start=1):
        header[f"NAXIS{axis}"] = length
    for keyword, value in cards.items():
        if value is not None:
            header[keyword] = value
    data = stored.tobytes()
    path.write_bytes(header.tostring().encode() + data + bytes(-len(data) % 2880))


@settings(max_examples=60, deadline=None)
@given(image=stored_images())
def test_physical_values_are_zero_plus_scale_times_stored(image, tmp_path_factory):
    stored, cards, physical = image
    path = tmp_path_factory.mktemp("scaled") / "a.fits"
    write_stored(path, stored, cards)
    pixels = read_all(path)
    close_files()
    np.testing.assert_array_equal(pixels.science, physical)
    assert pixels.science.dtype == np.dtype(np.float32)
    assert pixels.science.dtype.isnative
    np.testing.assert_array_equal(pixels.masked, np.isnan(physical))


@pytest.mark.parametrize("dtype", ["u2", "u4", "u8", "i1"])
def test_unsigned_integers_read_as_their_values(tmp_path, dtype):
    info = np.iinfo(dtype)
    values = np.array([[info.min, 1], [info.max // 2, info.max]], dtype=dtype)
    fits.PrimaryHDU(values).writeto(tmp_path / "a.fits")
    np.testing.assert_array_equal(read_all(tmp_path / "a.fits").science, values.astype(np.float32))


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"])
def test_one_flag_in_a_flag_plane_of_any_type_masks_one_pixel(tmp_path, dtype):
    flags = np.zeros((4, 5), dtype=dtype)
    flags[2, 3] = 1
    flags[1, 1] = np.iinfo(dtype).max
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(np.ones((4, 5), "f4"), name="SCI"),
            fits.ImageHDU(flags, name="DQ"),
        ]
    ).writeto(tmp_path / "a.fits")
    frame = open_frame(tmp_path / "a.fits")
    np.testing.assert_array_equal(frame.read(ALL, ALL).masked, flags != 0)
    np.testing.assert_array_equal(frame.source.read_flags(slice(0, 4), slice(0, 5)), flags)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_region_is_that_part_of_the_whole(data, tmp_path_factory):
    rows, cols = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 40)))
    bounds = [
        sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in (rows, cols)
    ]
    region = tuple(slice(*bound) for bound in bounds)
    plane = np.arange(rows * cols, dtype=">f4").reshape(rows, cols)
    hdus = [
        fits.PrimaryHDU(),
        fits.ImageHDU(plane, name="SCI"),
        fits.ImageHDU(plane + 1, name="ERR"),
        fits.ImageHDU((plane % 3).astype("i2"), name="DQ"),
    ]
    path = tmp_path_factory.mktemp("region") / "a.fits"
    fits.HDUList(hdus).writeto(path)
    frame = open_frame(path)
    part, whole = frame.read(*region), frame.read(ALL, ALL)
    close_files()
    for name in ("science", "error", "masked"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[region])


def test_variance_becomes_standard_deviation(tmp_path):
    variance = np.array([[4.0, 0.0], [np.nan, -1.0]], dtype="f4")
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(np.ones((2, 2), "f4"), name="SCI"),
            fits.ImageHDU(variance, name="VAR"),
        ]
    ).writeto(tmp_path / "a.fits")
    frame = open_frame(tmp_path / "a.fits")
    pixels = frame.read(ALL, ALL)
    np.testing.assert_array_equal(pixels.error, np.array([[2, np.inf], [np.inf, np.inf]], "f4"))
    np.testing.assert_array_equal(pixels.masked, [[False, True], [True, True]])
    assert frame.has_error_plane
    assert [plane.role for plane in frame.planes] == ["science", "variance"]


def test_companions_have_the_version_of_the_science(layered):
    first, second = open_frame(f"{layered}[SCI,1]"), open_frame(f"{layered}[SCI,2]")
    assert (first.has_error_plane, first.has_mask) == (True, True)
    assert (second.has_error_plane, second.has_mask) == (False, False)
    pixels = first.read(ALL, ALL)
    assert {tuple(place) for place in np.argwhere(pixels.masked)} == {(3, 4), (5, 6)}
    assert pixels.error[3, 4] == np.inf


def test_selectors_name_an_hdu_by_number_and_by_name(layered):
    assert open_frame(f"{layered}[1]").cards == open_frame(f"{layered}[sci]").cards
    assert open_frame(f"{layered}[5]").cards == open_frame(f"{layered}[SCI,2]").cards
    assert open_frame(layered).cards == open_frame(f"{layered}[SCI,1]").cards


def test_the_science_header_outranks_the_primary(layered):
    frame = open_frame(layered)
    assert frame.header["EXPTIME"] == 30.0
    assert frame.header["GAIN"] == 2.5
    assert frame.header["REPEATED"] == 1
    assert frame.header["EMPTY"] is None
    assert frame.header["ESO DET OUT1 CONAD"] == 1.9
    assert frame.header["LONGTEXT"] == ("a text that goes on and on " * 5).rstrip()
    assert frame.unit == "adu"


def test_leading_axes_of_length_one_are_squeezed(tmp_path):
    data = np.arange(12, dtype=">f4").reshape(1, 1, 3, 4)
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits")
    frame = open_frame(tmp_path / "a.fits")
    assert frame.shape == (3, 4)
    np.testing.assert_array_equal(frame.read(slice(1, 3), slice(0, 2)).science, data[0, 0, 1:, :2])


@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_2", "HCOMPRESS_1"])
def test_compressed_images_read_like_plain_ones(tmp_path, kind):
    values = np.arange(40 * 30, dtype="i2").reshape(40, 30)
    hdu = fits.CompImageHDU(values, compression_type=kind, name="SCI")
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "a.fits")
    frame = open_frame(tmp_path / "a.fits")
    region = (slice(3, 21), slice(5, 17))
    np.testing.assert_array_equal(frame.read(*region).science, values[region])


def test_a_frame_travels_by_pickle_and_is_light(layered):
    frame = open_frame(layered)
    packed = pickle.dumps(frame)
    assert len(packed) < 20_000
    again = pickle.loads(packed)
    assert again == frame
    assert again.header == frame.header
    np.testing.assert_array_equal(again.read(ALL, ALL).science, frame.read(ALL, ALL).science)


def test_reading_a_tile_takes_memory_for_a_tile(tmp_path):
    path = tmp_path / "large.fits"
    fits.PrimaryHDU(np.zeros((2000, 2000), ">f4")).writeto(path)
    frame = open_frame(path)
    frame.read(slice(0, 1), slice(0, 1))
    tracemalloc.start()
    frame.read(slice(900, 1000), slice(900, 1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000  # the frame is 16 MB, the tile 40 kB


def test_a_tile_is_read_in_one_piece_and_not_row_by_row(tmp_path, monkeypatch):
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(np.arange(300 * 300, dtype=">i4").reshape(1, 300, 300)).writeto(path)
    frame, pieces = open_frame(path), []
    real = Section.__getitem__
    monkeypatch.setattr(Section, "__getitem__", lambda *args: pieces.append(args) or real(*args))
    part = frame.read(slice(50, 150), slice(20, 120))
    np.testing.assert_array_equal(part.science[:, 0], np.arange(50, 150) * 300 + 20)
    assert len(pieces) < 10


def test_threads_that_read_one_file_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "a.fits"
    plane = np.arange(200 * 100, dtype=">f4").reshape(200, 100)
    fits.PrimaryHDU(plane).writeto(path)
    frame = open_frame(path)
    regions = [(slice(i, i + 20), slice(i % 50, i % 50 + 30)) for i in range(150)]
    with ThreadPoolExecutor(8) as pool:
        for region, pixels in zip(
            regions, pool.map(lambda r: frame.read(*r), regions), strict=True
        ):
            np.testing.assert_array_equal(pixels.science, plane[region])


def test_a_file_that_changes_after_it_was_opened_is_not_read_on(tmp_path):
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(np.zeros((9, 9), "f4")).writeto(path)
    frame = open_frame(path)
    fits.PrimaryHDU(np.ones((99, 9), "f4")).writeto(path, overwrite=True)
    with pytest.raises(FrameError, match="changed while it was being read"):
        frame.read(ALL, ALL)


@pytest.mark.parametrize("mark", [1e300, 1e40])
def test_numbers_beyond_float32_count_as_not_finite(tmp_path, mark):
    fits.PrimaryHDU(np.array([[mark, 1.0, 2.0]])).writeto(tmp_path / "a.fits")
    pixels = read_all(tmp_path / "a.fits")
    np.testing.assert_array_equal(pixels.masked, [[True, False, False]])
    assert np.isnan(pixels.science[0, 0])


@pytest.mark.parametrize(
    ("cards", "level"),
    [
        ({"BIASSEC": "[1:3, 1:  5]"}, 7.0),
        ({"BIASSEC": "[1:3,1:5]", "TRIMSEC": "[4:8,1:5]"}, 7.0),
        ({"BIASSEC": "[1:3,1:5]", "TRIMSEC": "[1:8,1:5]"}, None),
        ({"BIASSEC": "[1:3,1:5]", "OVERSCAN": "subtracted"}, None),
        ({"BIASSEC": "[1:3,1:5]", "DATASEC": "[*,*]", "TRIM": False}, 7.0),
        ({"BIASSEC": "[1:3,1:5]", "TRIMIM": "trim"}, None),
        ({"BIASSEC": "[1:3,1:5]", "SUBOSCAN": "subtracted"}, None),
        # The frame was cut since: the section that light fell on ends beyond it.
        ({"BIASSEC": "[1:3,1:5]", "TRIMSEC": "[4:11,1:5]"}, None),
        ({"BIASSEC": "[1:3,1:5]", "DATASEC": "[4:11,1:5]"}, None),
        ({"BIASSEC": "[1063:1112,1:4096]"}, None),
        ({"BIASSEC": "[4096:4109]"}, None),
        ({}, None),
    ],
)
def test_overscan_is_the_median_of_a_section_that_is_there(tmp_path, cards, level):
    plane = np.full((5, 8), 100.0, "f4")
    plane[:, :3] = 7.0
    hdu = fits.PrimaryHDU(plane)
    hdu.header.update(cards)
    hdu.writeto(tmp_path / "a.fits")
    assert open_frame(tmp_path / "a.fits").overscan_level() == level


def test_a_name_that_leaves_no_room_for_an_ending_is_read(tmp_path):
    """Noise and flags of NAME_error.fits and the like are looked for beside it."""
    path = tmp_path / f"{'n' * 250}.fits"
    fits.PrimaryHDU(np.ones((9, 9), "f4")).writeto(path)
    assert not open_frame(path).has_error_plane


def test_light_beyond_single_precision_is_refused_and_not_masked(tmp_path):
    fits.PrimaryHDU(np.array([[1e40, 1e37, 2e37]])).writeto(tmp_path / "a.fits")
    with pytest.raises(FrameError, match=r"a\.fits: its pixels reach 1e\+40.*divide the frame"):
        read_all(tmp_path / "a.fits")
