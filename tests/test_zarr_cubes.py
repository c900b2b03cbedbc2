"""Stacks of images in a Zarr store: every plane is restored, one product holds all."""

import json

import numpy as np
import pytest
import zarr
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.errors import FrameError
from dip_pipeline.flags import PixelFlag
from dip_pipeline.frames import open_frames, read_provenance
from dip_pipeline.frames.converting import convert
from dip_pipeline.frames.prov_json import facts_of
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.runs import ways
from dip_pipeline.verifying import verify_product
from tests.frames import layout_files as files
from tests.stand_in import QUICK, arithmetic, spread_evenly

ALL = slice(None)
CARDS = [["OBJECT", "M 13", "target"], ["SATURATE", 900.0, ""], ["CRPIX1", 20.5, ""]]


@pytest.fixture(autouse=True)
def made(monkeypatch):
    """Problems that are restored, in order."""
    problems = []

    def restore(problem, prior=None):
        problems.append(problem)
        return arithmetic(problem, prior)

    monkeypatch.setattr(ways, "restore", restore)
    monkeypatch.setattr(ways, "restore_scene", spread_evenly)
    return problems


def stack(count=3):
    return np.stack([files.sky(seed=number) for number in range(count)])


@pytest.fixture
def source(tmp_path):
    """Three images with an error and a flag plane each, and an array that is none of ours."""
    path = tmp_path / "in.zarr"
    root = zarr.create_group(path, zarr_format=3)
    science = stack()
    flags = np.zeros(science.shape, "u2")
    flags[2, 5, 6] = 4
    error = np.stack([files.full(files.SIGMA * (1 + number)) for number in range(3)])
    for name, array in {"science": science, "error": error, "flags": flags}.items():
        names = ("time", "y", "x")
        root.create_array(name, data=array, chunks=(1, 16, 16), dimension_names=names)
    root.create_array("times", data=np.arange(3.0))
    root.attrs.put({"unit": "adu", "cards": CARDS})
    return path


def restored(source, target, **more):
    return restore_frame(str(source), target, RunConfig().with_overrides(**{**QUICK, **more}))


def wrong(product, source=None):
    report = verify_product(product, None if source is None else str(source))
    return [check.name for check in report.checks if check.passed is False]


def test_each_plane_is_a_frame_with_its_own_noise_and_flags(source):
    frames = open_frames(source)
    assert [frame.label for frame in frames] == [f"array science, plane [{n}]" for n in range(3)]
    assert {frame.shape for frame in frames} == {files.SHAPE}
    for number, (frame, plane) in enumerate(zip(frames, stack(), strict=True)):
        pixels = frame.read(ALL, ALL)
        np.testing.assert_array_equal(pixels.science, plane)
        np.testing.assert_allclose(pixels.error, files.SIGMA * (1 + number), rtol=1e-6)
        assert pixels.masked.sum() == (number == 2)


def test_a_stack_is_restored_plane_by_plane(source, tmp_path, made):
    target = tmp_path / "out.zarr"
    assert restored(source, target).tiles == 3
    group = zarr.open_group(target, mode="r")
    assert group["science"].metadata.dimension_names == ("time", "y", "x")
    for name in ("science", "DIP_ERR", "DIP_FLAG"):
        assert group[name].shape == (3, *files.SHAPE)
        assert group[name].chunks == (1, 16, 16)
    for plane, problem in zip(group["science"][:], made, strict=True):
        np.testing.assert_array_equal(plane, arithmetic(problem).science)
    old = zarr.open_group(source, mode="r")
    for name in ("error", "flags", "times"):
        np.testing.assert_array_equal(group[name][:], old[name][:])
    cards = {keyword: value for keyword, value, _ in group.attrs["cards"]}
    assert (cards["OBJECT"], cards["DIPNTILE"]) == ("M 13", 3)
    assert wrong(target, source) == []
    assert restored(source, target).status == "already done"


def test_a_stack_goes_to_fits_as_a_cube(source, tmp_path):
    restored(source, tmp_path / "out.zarr")
    restored(source, tmp_path / "out.fits")
    group = zarr.open_group(tmp_path / "out.zarr", mode="r")
    with fits.open(tmp_path / "out.fits") as hdus:
        np.testing.assert_array_equal(hdus[0].data, group["science"][:])
        for name in ("DIP_ERR", "DIP_FLAG"):
            np.testing.assert_array_equal(hdus[name].data, group[name][:])
        np.testing.assert_array_equal(hdus["ERR"].data, group["error"][:])
        np.testing.assert_array_equal(hdus["DQ"].data, group["flags"][:])
        assert hdus[0].header["OBJECT"] == "M 13"
    assert wrong(tmp_path / "out.fits", source) == []


def test_a_damaged_plane_of_a_stack_is_found(source, tmp_path):
    """Whichever it is: a changed one, a saturated pixel, a companion's."""
    target = tmp_path / "out.zarr"
    restored(source, target)
    group = zarr.open_group(target, mode="r+")
    group["error"][2, 3, 4] = 1.0
    assert wrong(target, source) == ["other HDUs"]
    group["science"][1, 3, 4] += 1.0
    assert wrong(target) == ["pixels"]


def test_a_saturated_pixel_of_any_plane_is_the_inputs_own(source, tmp_path, made):
    root = zarr.open_group(source, mode="r+")
    root["science"][2, 10, 11] = 1000.0
    target = tmp_path / "out.zarr"
    restored(source, target, **{"reading.error": "none", "noise.sigma": files.SIGMA})
    assert [bool(problem.saturated[10, 11]) for problem in made] == [False, False, True]
    assert wrong(target, source) == []
    flags = zarr.open_group(target, mode="r+")["DIP_FLAG"]
    flags[2, 10, 11] = int(PixelFlag.SATURATED)  # the stand-in did not leave it alone
    assert wrong(target, source) == ["pixels", "kept pixels"]


def test_one_error_and_one_flag_plane_serve_all_planes(source, tmp_path):
    root = zarr.open_group(source, mode="r+")
    flags = np.zeros(files.SHAPE, "u1")
    flags[7, 8] = 1
    root.create_array("error", data=files.full(4.0), overwrite=True)
    root.create_array("flags", data=flags[None], overwrite=True)
    for frame in open_frames(source):
        pixels = frame.read(ALL, ALL)
        assert set(np.unique(pixels.error)) == {4.0}
        assert np.argwhere(pixels.masked).tolist() == [[7, 8]]
    for name in ("out.zarr", "out.fits"):
        restored(source, tmp_path / name)
        assert wrong(tmp_path / name, source) == []


def test_an_error_of_another_count_is_not_used(source, caplog):
    root = zarr.open_group(source, mode="r+")
    root.create_array("error", data=stack(2), overwrite=True)
    assert not open_frames(source)[0].has_error_plane
    assert "not used" in caplog.text


@pytest.mark.parametrize("suffix", ["zarr", "fits"])
def test_a_plane_with_nothing_to_restore_is_left_as_it_is(source, tmp_path, suffix):
    root = zarr.open_group(source, mode="r+")
    root["science"][1] = np.nan
    target = tmp_path / f"out.{suffix}"
    report = restored(source, target)
    assert ["plane [1]" in note for note in report.notes] == [True]
    science, error, flags = planes(target)
    assert np.isnan(science[1]).all()
    assert np.isnan(error[1]).all()
    assert (flags[1] == 2).all()
    assert not np.isnan(science[[0, 2]]).any()
    assert wrong(target, source) == []
    product = facts_of(read_provenance(target).document, "product")
    assert product["left_as_they_are"][0][0] == "array science, plane [1]"


def planes(target):
    if target.suffix == ".fits":
        with fits.open(target) as hdus:
            return [hdus[name].data for name in (0, "DIP_ERR", "DIP_FLAG")]
    group = zarr.open_group(target, mode="r")
    return [group[name][:] for name in ("science", "DIP_ERR", "DIP_FLAG")]


@pytest.mark.parametrize("suffix", ["zarr", "fits"])
def test_a_stack_is_made_finer(source, tmp_path, suffix):
    target = tmp_path / f"out.{suffix}"
    task = {"task.name": "super-resolve", "task.factor": 2, "task.fwhm_px": 2.0}
    restored(source, target, **task)
    science, error, flags = planes(target)
    wide = (3, *(2 * side for side in files.SHAPE))
    assert science.shape == error.shape == flags.shape == wide
    sums = [plane.astype(float).sum() for plane in science]
    assert sums == pytest.approx([plane.astype(float).sum() for plane in stack()], rel=1e-3)
    assert wrong(target, source) == []


def test_a_product_of_a_stack_is_restored_again(source, tmp_path):
    restored(source, tmp_path / "once.zarr")
    restored(tmp_path / "once.zarr", tmp_path / "twice.zarr")
    assert wrong(tmp_path / "twice.zarr", tmp_path / "once.zarr") == []
    assert len(open_frames(tmp_path / "twice.zarr")) == 3


def test_what_was_filled_in_one_plane_tells_nothing_ever_after(source, tmp_path):
    restored(source, tmp_path / "once.zarr")
    zarr.open_group(tmp_path / "once.zarr", mode="r+")["DIP_FLAG"][1, 4, 5] = 1  # filled
    masked = [frame.read(ALL, ALL).masked[4, 5] for frame in open_frames(tmp_path / "once.zarr")]
    assert masked == [False, True, False]


def test_a_converted_cube_is_restored_as_the_cube_itself(tmp_path):
    cube, group = files.muse(tmp_path), tmp_path / "cube.zarr"
    convert(cube, group)
    restored(cube, tmp_path / "a.fits")
    restored(group, tmp_path / "b.fits")
    restored(group, tmp_path / "b.zarr")
    with fits.open(tmp_path / "a.fits") as one, fits.open(tmp_path / "b.fits") as other:
        for name in ("DATA", "STAT", "DQ", "DIP_ERR", "DIP_FLAG"):
            np.testing.assert_array_equal(one[name].data, other[name].data)
    assert wrong(tmp_path / "b.fits", group) == []
    assert wrong(tmp_path / "b.zarr", group) == []
    convert(tmp_path / "b.zarr", tmp_path / "back.fits")
    assert wrong(tmp_path / "back.fits", group) == []


def test_the_only_array_is_taken_and_images_come_before_stacks(tmp_path):
    zarr.save_array(tmp_path / "alone.zarr", stack())
    assert len(open_frames(tmp_path / "alone.zarr")) == 3
    root = zarr.create_group(tmp_path / "two.zarr")
    root.create_array("psfs", data=stack())
    root.create_array("coadd", data=files.sky())
    (frame,) = open_frames(tmp_path / "two.zarr")
    assert frame.source.names.science == "coadd"


@pytest.mark.parametrize(
    ("shape", "names"),
    [((30, 40, 3), None), ((30, 40, 30), ("y", "x", "time")), ((4, 30, 40), ("x", "y", "band"))],
)
def test_a_stack_with_its_planes_last_is_refused(tmp_path, shape, names):
    root = zarr.create_group(tmp_path / "in.zarr")
    root.create_array("science", data=np.ones(shape), dimension_names=names)
    with pytest.raises(FrameError, match=r"of a stack of images \(planes, rows, cols\)"):
        open_frames(tmp_path / "in.zarr")


def test_what_was_done_is_told_of_every_plane(source, tmp_path):
    target = tmp_path / "out.zarr"
    restored(source, target)
    document = json.dumps(read_provenance(target).document)
    assert [f"array science, plane [{n}]" in document for n in range(3)] == [True] * 3


def test_a_compressed_cube_that_was_converted_keeps_all_its_planes(tmp_path):
    cube = files.muse(tmp_path)
    restored(cube, tmp_path / "made.fits.fz", **{"output.quantize_sigma": 0.0})
    convert(tmp_path / "made.fits.fz", tmp_path / "made.zarr")
    group = zarr.open_group(tmp_path / "made.zarr", mode="r")
    with fits.open(tmp_path / "made.fits.fz") as hdus:
        for name, own in (("science", "DATA"), ("DIP_ERR", "DIP_ERR"), ("DIP_FLAG", "DIP_FLAG")):
            np.testing.assert_array_equal(group[name][:], hdus[own].data)
    assert len(open_frames(tmp_path / "made.zarr")) == 3
