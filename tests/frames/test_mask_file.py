"""Laws of masks in files of their own: found, of the right shape, and never read as light."""

import numpy as np
import pytest
import zarr
from astropy.io import fits

from dip_pipeline.errors import EmptyFrameError, FrameError
from dip_pipeline.frames import check_holes, open_frames, scale_noise, with_mask
from dip_pipeline.frames.mask_file import open_mask
from tests.frames import layout_files as files

ALL = slice(None)
SHAPE = (24, 30)


def pattern(seed=1, shape=SHAPE):
    return np.random.default_rng(seed).random(shape) < 0.1


def frame_file(folder, shape=SHAPE, saturated=None):
    science = np.random.default_rng(5).normal(100, 5, shape).astype(np.float32)
    path = folder / "sky.fits"
    header = fits.Header({"SATURATE": 60000.0})
    fits.HDUList([fits.PrimaryHDU(science, header)]).writeto(path)
    return path, science


def mask_file(folder, *masks, names=(), dtype=np.uint8):
    hdus = [fits.PrimaryHDU()]
    for number, mask in enumerate(masks):
        name = names[number] if names else None
        hdus.append(fits.ImageHDU(mask.astype(dtype), name=name))
    path = folder / "mask.fits"
    fits.HDUList(hdus).writeto(path)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_what_a_mask_hides_is_masked_and_reads_nothing(tmp_path, dtype):
    source, science = frame_file(tmp_path)
    hidden = pattern()
    (frame,) = with_mask(open_frames(source), str(mask_file(tmp_path, hidden, dtype=dtype)))
    whole = frame.read(ALL, ALL)
    np.testing.assert_array_equal(whole.masked, hidden)
    assert np.isnan(whole.science[hidden]).all()
    np.testing.assert_array_equal(whole.science[~hidden], science[~hidden])
    part = frame.read(slice(3, 9), slice(4, 20))
    np.testing.assert_array_equal(part.masked, hidden[3:9, 4:20])
    assert "mask.fits" in frame.flag_words
    assert with_mask(open_frames(source), None) == open_frames(source)


def test_a_mask_joins_the_flags_and_the_nans_of_the_file(tmp_path):
    source = files.hubble(tmp_path)
    frames = open_frames(f"{source}[SCI,1]")
    before = frames[0].read(ALL, ALL)
    hidden = pattern(shape=frames[0].shape)
    (frame,) = with_mask(frames, str(mask_file(tmp_path, hidden)))
    after = frame.read(ALL, ALL)
    np.testing.assert_array_equal(after.masked, before.masked | hidden)


def test_nan_and_blank_numbers_of_a_mask_are_bad(tmp_path):
    hidden = pattern().astype(np.float32)
    hidden[0, 0] = np.nan
    path = mask_file(tmp_path, hidden, dtype=np.float32)
    assert open_mask(str(path))[0].bad(ALL, ALL)[0, 0]


def test_numbers_below_zero_and_nan_of_a_zarr_mask_are_bad(tmp_path):
    numbers = np.array([[np.nan, -1.0, 0.0, 0.5]], np.float32)
    zarr.create_group(tmp_path / "mask.zarr").create_array("mask", data=numbers)
    (plane,) = open_mask(str(tmp_path / "mask.zarr"))
    assert plane.bad(ALL, ALL).tolist() == [[True, True, False, True]]


def test_an_hdu_or_an_array_can_be_named(tmp_path):
    first, second = pattern(1), pattern(2)
    path = mask_file(tmp_path, first, second, names=("TRAILS", "GHOSTS"))
    for text, mask in (("[GHOSTS]", second), ("[1]", first), ("[TRAILS,1]", first)):
        (plane,) = open_mask(f"{path}{text}")
        np.testing.assert_array_equal(plane.bad(ALL, ALL), mask)
    group = zarr.create_group(tmp_path / "mask.zarr")
    group.create_array("mask", data=first.astype(np.uint8))
    group.create_array("other", data=second)
    for text, mask in (("", first), ("[other]", second)):
        (plane,) = open_mask(f"{tmp_path / 'mask.zarr'}{text}")
        np.testing.assert_array_equal(plane.bad(slice(2, 9), ALL), mask[2:9])


def test_every_chip_has_its_own_mask_where_there_are_as_many(tmp_path):
    frames = open_frames(files.hubble(tmp_path))
    masks = [pattern(seed, frames[0].shape) for seed in (1, 2)]
    hidden = with_mask(frames, str(mask_file(tmp_path, *masks)))
    for before, frame, mask in zip(frames, hidden, masks, strict=True):
        old = before.read(ALL, ALL).masked
        np.testing.assert_array_equal(frame.read(ALL, ALL).masked, old | mask)
    one = with_mask(frames, f"{tmp_path / 'mask.fits'}[2]")
    for before, frame in zip(frames, one, strict=True):
        old = before.read(ALL, ALL).masked
        np.testing.assert_array_equal(frame.read(ALL, ALL).masked, old | masks[1])


def test_a_mask_that_does_not_fit_is_told_of(tmp_path):
    source, _ = frame_file(tmp_path)
    frames = open_frames(source)
    wrong = mask_file(tmp_path, pattern(shape=(9, 9)))
    with pytest.raises(FrameError, match=r"has shape \(9, 9\).*has \(24, 30\): need the same"):
        with_mask(frames, str(wrong))
    with pytest.raises(FrameError, match=r"nowhere\.fits: no such file"):
        with_mask(frames, str(tmp_path / "nowhere.fits"))
    with pytest.raises(FrameError, match=r"\[GHOST\] is no image"):
        with_mask(frames, f"{wrong}[GHOST]")
    text = tmp_path / "mask.txt"
    text.write_text("0 1 0")
    with pytest.raises(FrameError):
        with_mask(frames, str(text))
    wrong.unlink()
    several = mask_file(tmp_path, pattern(1), pattern(2), pattern(3))
    with pytest.raises(FrameError, match=r"3 planes for 1 .* name it with FILE\[EXT\]"):
        with_mask(frames, str(several))


@pytest.mark.parametrize(("share", "told"), [(0.94, True), (0.4, False)])
def test_a_mask_the_other_way_round_is_warned_of(tmp_path, caplog, share, told):
    source, _ = frame_file(tmp_path)
    hides = np.random.default_rng(1).random(SHAPE) < share
    path = mask_file(tmp_path, hides.astype(int))
    (frame,) = with_mask(open_frames(source), str(path))
    check_holes(frame, str(path))
    assert ("is the mask the other way round?" in caplog.text) is told
    caplog.clear()
    check_holes(frame, None)
    assert "other way round" not in caplog.text
    assert ("are to be filled from the rest" in caplog.text) is told


def test_a_mask_that_hides_everything_or_nothing_is_told_of(tmp_path):
    source, _ = frame_file(tmp_path)
    frames = open_frames(source)
    with pytest.raises(EmptyFrameError, match="nothing to fill"):
        check_holes(frames[0], None)
    check_holes(frames[0], None, may_be_none=True)
    for value, words in ((0, "nothing to fill"), (1, "hide every pixel")):
        path = mask_file(tmp_path, np.full(SHAPE, value))
        (frame,) = with_mask(frames, str(path))
        with pytest.raises(EmptyFrameError, match=words):
            check_holes(frame, str(path))
        path.unlink()


def test_relative_weights_are_scaled_under_a_mask(tmp_path):
    rng = np.random.default_rng(2)
    science = fits.PrimaryHDU(rng.normal(10, 1, SHAPE).astype(np.float32))
    weight = fits.ImageHDU(np.ones(SHAPE, np.float32), name="WHT")
    path = tmp_path / "weighted.fits"
    fits.HDUList([science, weight]).writeto(path)
    hidden = pattern()
    (frame,) = with_mask(open_frames(path), str(mask_file(tmp_path, hidden)))
    assert frame.relative_noise
    pixels = scale_noise(frame, 3.0).read(ALL, ALL)
    np.testing.assert_allclose(pixels.error, 3.0)
    np.testing.assert_array_equal(pixels.masked, hidden)
