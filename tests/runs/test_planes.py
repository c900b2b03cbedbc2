"""Several science planes of one file: one run restores all, one product holds all."""

from dataclasses import replace

import numpy as np
import pytest
import zarr
from astropy.io import fits
from astropy.io.fits.scripts import fitscheck

from dip_pipeline.account.account import restoration_of
from dip_pipeline.batch.batch import FrameResult, Job, restore_frames
from dip_pipeline.batch.summary import _frame_facts
from dip_pipeline.config import RunConfig
from dip_pipeline.engine import Shard
from dip_pipeline.errors import FrameError, OutputError, RunError
from dip_pipeline.frames import open_frames, read_provenance
from dip_pipeline.frames.converting import convert
from dip_pipeline.frames.prov_json import facts_of, names_of
from dip_pipeline.pipeline import finish_run, restore_frame, scratch_of
from dip_pipeline.runs import ways
from dip_pipeline.verifying import verify_product
from tests.frames import layout_files as files
from tests.stand_in import QUICK, arithmetic

ALL = slice(None)


@pytest.fixture(autouse=True)
def made(monkeypatch):
    """Problems that are restored, in order."""
    problems = []

    def restore(problem, prior):
        problems.append(problem)
        return arithmetic(problem, prior)

    monkeypatch.setattr(ways, "restore", restore)
    return problems


def config(**more):
    return RunConfig().with_overrides(**{**QUICK, **more})


def restored(source, target, **more):
    return restore_frame(str(source), target, config(**more))


def test_each_chip_is_restored_and_all_are_written(tmp_path):
    source, target = files.hubble(tmp_path), tmp_path / "out.fits"
    report = restored(source, target)
    assert (report.status, report.tiles, report.failed_tiles) == ("restored", 2, 0)
    assert fitscheck.main([str(target)]) == 0
    with fits.open(source) as old, fits.open(target) as new:
        names = [(hdu.name, hdu.ver) for hdu in old]
        assert [(hdu.name, hdu.ver) for hdu in new][: len(names)] == names
        added = [(hdu.name, hdu.ver) for hdu in new][len(names) :]
        assert added == [
            ("DIP_ERR", 1), ("DIP_FLAG", 1), ("DIP_ERR", 2), ("DIP_FLAG", 2),
            ("DIP_PROV", 1), ("DIP_TILE", 1),
        ]  # fmt: skip
        for name in ("ERR", "DQ"):
            for version in (1, 2):
                np.testing.assert_array_equal(new[name, version].data, old[name, version].data)
        for version in (1, 2):
            assert not np.array_equal(new["SCI", version].data, old["SCI", version].data)
            assert new["SCI", version].header["DIPNTILE"] == 1
            assert new["DIP_ERR", version].header["DIPOF"].endswith(f"(SCI,{version})")


@pytest.mark.parametrize("version", [1, 2])
def test_a_chip_alone_is_restored_as_among_its_fellows(tmp_path, version):
    source = files.hubble(tmp_path)
    restored(source, tmp_path / "all.fits")
    restored(f"{source}[SCI,{version}]", tmp_path / "one.fits")
    with fits.open(tmp_path / "all.fits") as everything, fits.open(tmp_path / "one.fits") as one:
        for name in ("SCI", "DIP_ERR", "DIP_FLAG"):
            assert everything[name, version].data.tobytes() == one[name, version].data.tobytes()
        other = 3 - version
        with fits.open(source) as old:
            np.testing.assert_array_equal(one["SCI", other].data, old["SCI", other].data)


def test_a_name_with_sci_restores_all_of_that_name(tmp_path):
    source = files.hubble(tmp_path)
    assert restored(source, tmp_path / "a.fits", **{"reading.science": "SCI"}).tiles == 2
    assert restored(source, tmp_path / "b.fits", **{"reading.science": "SCI,2"}).tiles == 1


def test_a_cube_is_restored_plane_by_plane(tmp_path, made):
    source, target = files.muse(tmp_path), tmp_path / "out.fits"
    assert restored(source, target).tiles == 3
    assert [problem.error is not None for problem in made] == [True] * 3
    with fits.open(source) as old, fits.open(target) as new:
        cube, shape = new["DATA"].data, old["DATA"].data.shape
        assert cube.shape == new["DIP_ERR"].data.shape == new["DIP_FLAG"].data.shape == shape
        assert new["DATA"].header["DIPNTILE"] == 3
        for plane, problem in zip(cube, made, strict=True):
            np.testing.assert_array_equal(plane, arithmetic(problem).science)


def test_axes_of_length_one_stay_in_the_product(tmp_path):
    path = tmp_path / "radio.fits"
    fits.PrimaryHDU(files.sky().reshape(1, 1, *files.SHAPE)).writeto(path)
    restored(path, tmp_path / "out.fits")
    assert fits.getdata(tmp_path / "out.fits").shape == (1, 1, *files.SHAPE)
    assert fits.getdata(tmp_path / "out.fits", "DIP_ERR").shape == files.SHAPE


def test_chips_without_versions_are_told_apart(tmp_path):
    source, target = files.mosaic(tmp_path), tmp_path / "out.fits"
    restored(source, target)
    with fits.open(target) as hdus:
        of = {hdu.ver: hdu.header["DIPOF"] for hdu in hdus if hdu.name == "DIP_FLAG"}
    assert of == {1: "HDU 1 (CCD1,1)", 2: "HDU 2 (CCD2,1)", 3: "HDU 3 (CCD3,1)"}


def test_a_plane_with_nothing_to_restore_is_left_as_it_is_and_said_so(tmp_path):
    source, target = tmp_path / "cube.fits", tmp_path / "out.fits"
    cube = np.stack([files.sky(), files.full(np.nan), files.sky(seed=2)])
    fits.PrimaryHDU(cube).writeto(source)
    report = restored(source, target)
    assert report.tiles == 2
    assert ["plane [1]" in note for note in report.notes] == [True]
    with fits.open(target) as hdus:
        assert np.isnan(hdus[0].data[1]).all()
        assert not np.isnan(hdus[0].data[[0, 2]]).any()
        assert np.isnan(hdus["DIP_ERR"].data[1]).all()
        assert (hdus["DIP_FLAG"].data[1] == 2).all()  # nothing failed: it has no data
    product = facts_of(read_provenance(target).document, "product")
    assert product["left_as_they_are"][0][0] == "HDU 0, plane [1]"


def test_the_flags_of_planes_left_as_they_are_tell_those_without_data_from_others(tmp_path):
    source, target = files.muse(tmp_path), tmp_path / "out.fits"
    with fits.open(source, mode="update") as hdus:
        hdus["DATA"].data[0] = 7.0  # constant: no noise to estimate
        hdus["DQ"].data[1] = 2**30
    restored(source, target, **{"reading.error": "none"})
    with fits.open(source) as old, fits.open(target) as new:
        flags = [set(plane.ravel()) for plane in new["DIP_FLAG"].data]
        np.testing.assert_array_equal(new["DATA"].data[:2], old["DATA"].data[:2])
    assert flags == [{4}, {2}, {0}]
    assert wrong(target, source) == []


def test_a_chip_with_nothing_to_restore_is_copied_byte_for_byte(tmp_path):
    source, target = tmp_path / "mosaic.fits", tmp_path / "out.fits"
    dead = files.image(files.full(7.0), "CCD2")
    hdus = [files.image(files.sky(), "CCD1"), dead, files.image(files.sky(seed=3), "CCD3")]
    files.write(source, hdus)
    restored(source, target)
    with fits.open(source) as old, fits.open(target) as new:
        np.testing.assert_array_equal(new["CCD2"].data, old["CCD2"].data)
        assert "DIPVER" not in new["CCD2"].header
        assert "DIPVER" in new["CCD3"].header


def test_a_file_of_which_nothing_can_be_restored_is_one_line(tmp_path):
    fits.PrimaryHDU(np.zeros((3, 30, 30), "f4")).writeto(tmp_path / "dead.fits")
    with pytest.raises(FrameError, match="none of its 3 planes can be restored") as caught:
        restored(tmp_path / "dead.fits", tmp_path / "out.fits")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.fits").exists()


def test_a_masked_plane_with_an_error_plane_is_left_too(tmp_path):
    source = files.muse(tmp_path)
    with fits.open(source, mode="update") as hdus:
        hdus["DQ"].data[2] = 2**30
    report = restored(source, tmp_path / "out.fits")
    assert report.tiles == 2
    assert "plane [2]" in report.notes[0]


def test_a_plane_that_cannot_be_read_is_no_plane_without_content(tmp_path):
    """Damage stops the file; only what is empty may be passed over."""
    source = tmp_path / "mosaic.fits"
    chips = [
        fits.CompImageHDU(files.sky(seed=n), name=f"CCD{n}", compression_type="GZIP_1")
        for n in (1, 2)
    ]
    fits.HDUList([fits.PrimaryHDU(), *chips]).writeto(source)
    content = bytearray(source.read_bytes())
    with fits.open(source, disable_image_compression=True) as hdus:
        header, start = hdus[2].header, hdus[2].fileinfo()["datLoc"]
        heap = start + header["NAXIS1"] * header["NAXIS2"]
    content[heap : heap + 60] = bytes(60)
    source.write_bytes(bytes(content))
    with pytest.raises(FrameError, match="cannot be read"):
        restored(source, tmp_path / "out.fits")


def test_shards_of_all_planes_make_the_same_product(tmp_path):
    source = files.hubble(tmp_path)
    restored(source, tmp_path / "whole.fits")
    target = tmp_path / "parts.fits"
    for part in ("1/2", "2/2"):
        job = Job(str(source), target)
        restore_frames([job], config(), shard=Shard.parse(part))
    assert not target.exists()
    finish_run(scratch_of(target))
    for name in ("SCI", "DIP_ERR", "DIP_FLAG"):
        for version in (1, 2):
            ours, theirs = (
                fits.getdata(path, name, version) for path in (target, tmp_path / "whole.fits")
            )
            assert ours.tobytes() == theirs.tobytes()


def test_the_record_tells_of_each_plane(tmp_path):
    source, target = files.hubble(tmp_path), tmp_path / "out.fits"
    restored(source, target)
    account = read_provenance(target)
    names = names_of(account.document, "RestoredPlane")
    planes = [facts_of(account.document, name) for name in names]
    assert [plane["plane"] for plane in planes] == ["HDU 1 (SCI,1)", "HDU 4 (SCI,2)"]
    assert [plane["first_tile"] for plane in planes] == [0, 1]
    # Noise and mask of each chip are planes of their own.
    companions = [facts_of(account.document, name) for name in names_of(account.document, "Plane")]
    assert len({plane["plane"] for plane in companions}) == 4
    assert [tile["tile"] for tile in account.tiles] == [0, 1]
    assert restored(source, target).status == "already done"


def test_a_run_that_stops_between_planes_goes_on_there(tmp_path, made):
    source, target = files.muse(tmp_path), tmp_path / "out.fits"
    undisturbed = tmp_path / "undisturbed.fits"
    restored(source, undisturbed)
    made.clear()

    class Stop:
        def frame_started(self, source, tiles, found_done): ...
        def note(self, message): ...

        def tile_done(self, record):
            if record["tile"] == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_frame(str(source), target, config(), progress=Stop())
    with pytest.raises(RunError, match="tiles are missing"):
        finish_run(scratch_of(target))
    report = restored(source, target)
    assert (report.found_done, report.tiles, len(made)) == (2, 3, 3)
    for name in ("DATA", "DIP_ERR", "DIP_FLAG"):
        ours, theirs = (fits.getdata(path, name) for path in (target, undisturbed))
        assert ours.tobytes() == theirs.tobytes()


def test_what_was_filled_once_is_bad_ever_after(tmp_path, made, monkeypatch):
    """A product of a product: its filled pixels are no data, and stay flagged."""

    def fill(problem, prior):
        made.append(problem)
        result = arithmetic(problem, prior)
        result.flags[problem.masked[problem.inner]] = 1
        return result

    monkeypatch.setattr(ways, "restore", fill)
    source, once, twice = files.hubble(tmp_path), tmp_path / "once.fits", tmp_path / "twice.fits"
    restored(source, once, **{"reading.error": "none"})
    with fits.open(once, mode="update") as hdus:
        for version in (1, 2):
            hdus["DQ", version].data[...] = 0  # all that is left to tell is our own flags
    restored(once, twice)
    with fits.open(once) as first, fits.open(twice) as second:
        for version in (1, 2):
            flags = first["DIP_FLAG", version].data
            assert set(np.flatnonzero(flags[:, 0])) == {0, 3}
            np.testing.assert_array_equal(second["DIP_FLAG", version].data, flags)
    assert [frame.read(ALL, ALL).masked.sum() for frame in open_frames(twice)] == [2, 2]


def test_a_file_beside_the_input_is_part_of_the_key(tmp_path, made):
    source, target = files.side_files(tmp_path), tmp_path / "out.fits"
    restored(source, target)
    document = read_provenance(target).document
    key = facts_of(document, restoration_of(document))["key"]
    assert set(key["companions"]) == {"m31_rms.fits", "m31_mask.fits"}
    with fits.open(tmp_path / "m31_rms.fits", mode="update") as hdus:
        hdus[0].data *= 2
    with pytest.raises(OutputError, match="exists already"):
        restored(source, target)


def wrong(product, against=None):
    verdict = verify_product(product, None if against is None else str(against))
    return [check.name for check in verdict.checks if check.passed is False]


@pytest.mark.parametrize("make", [files.hubble, files.muse])
def test_several_planes_in_a_zarr_group_are_those_of_the_fits_product(tmp_path, make):
    source, group, back = make(tmp_path), tmp_path / "out.zarr", tmp_path / "back.fits"
    restored(source, tmp_path / "out.fits")
    assert restored(source, group).ok
    assert [path.name for path in tmp_path.glob("*.partial*")] == []
    convert(group, back)
    with fits.open(tmp_path / "out.fits") as direct, fits.open(back) as through:
        assert [(hdu.name, hdu.ver) for hdu in direct] == [(hdu.name, hdu.ver) for hdu in through]
        for ours, theirs in zip(direct, through, strict=True):
            if ours.name not in ("DIP_PROV", "DIP_TILE") and ours.data is not None:
                assert ours.data.tobytes() == theirs.data.tobytes()
    assert restored(source, group).status == "already done"


@pytest.mark.parametrize("make", [files.hubble, files.muse])
def test_a_flipped_pixel_of_any_plane_in_a_zarr_group_is_found(tmp_path, make):
    source, group = make(tmp_path), tmp_path / "out.zarr"
    restored(source, group)
    assert wrong(group, source) == []
    node = zarr.open(group, mode="r+")
    images = [
        array
        for name, array in node.members(max_depth=None)
        if isinstance(array, zarr.Array)
        and len(array.shape) > 1
        and "DIP_ERR" in str(array.attrs.get("fits_name", name))
    ]
    last = images[-1]
    last[..., 0, 0] = 1234.5
    assert "pixels" in wrong(group)


def test_saturated_pixels_of_the_flags_are_left_alone(tmp_path, made):
    restored(files.hubble(tmp_path), tmp_path / "out.fits")
    assert made
    for problem in made:
        assert [tuple(place) for place in np.argwhere(problem.saturated)] == [(2, 0)]
        assert not problem.masked[2, 0]


@pytest.mark.parametrize("suffix", ["fits", "zarr"])
@pytest.mark.parametrize("back", [slice(None, None, -1), [1, 0, *range(2, 9)]])
def test_planes_of_a_cube_that_changed_places_are_found(tmp_path, suffix, back):
    source, target = files.muse(tmp_path), tmp_path / "out.fits"
    restored(source, target)
    assert wrong(target) == []
    with fits.open(target, mode="update", checksum=True) as hdus:
        for hdu in hdus:
            if hdu.header.get("DIPRUN") or hdu.name in ("DIP_ERR", "DIP_FLAG"):
                order = back if isinstance(back, slice) else back[: len(hdu.data)]
                hdu.data = hdu.data[order].copy()
    product = target
    if suffix == "zarr":
        product = tmp_path / "out.zarr"
        convert(target, product)
    assert wrong(product) == ["pixels"]


def test_a_refuted_noise_law_is_told_again_of_a_finished_product(tmp_path, monkeypatch, caplog):
    """Whoever looks at a night in the morning has not seen the warnings of its runs."""

    def inverted(problem, prior=None):
        given = arithmetic(problem, prior)
        judged = {"risk": -0.5, "risk_error": 0.01, "judged_pixels": problem.pixels.size}
        return replace(given, outcome=replace(given.outcome, **judged))

    monkeypatch.setattr(ways, "restore", inverted)
    source, target = files.hubble(tmp_path), tmp_path / "out.fits"
    for status in ("restored", "already done"):
        caplog.clear()
        report = restored(source, target)
        assert (report.status, report.below_zero) == (status, 0.5)
        assert "the estimated mean square error is -0.5, which none can be" in caplog.text
    assert _frame_facts(FrameResult(Job(str(source), target), report=report))[
        "noise_law_is_refuted"
    ]
    assert wrong(target, source) == []


@pytest.mark.parametrize("law", ["poisson", "gaussian"])
def test_of_several_planes_and_of_a_product_it_is_known_whether_counts_tell_no_risk(tmp_path, law):
    source, target = files.mosaic(tmp_path), tmp_path / "out.fits"
    asked = {"noise.law": law, "noise.gain_e_per_dn": 2.0, "noise.sigma": 10.0}
    for status in ("restored", "already done"):
        report = restored(source, target, **asked)
        assert (report.status, report.counts) == (status, law == "poisson")


def test_a_converted_product_need_not_hold_planes_of_files_beside_its_input(tmp_path):
    source = tmp_path / "in.fits"
    fits.PrimaryHDU(files.sky()).writeto(source)
    flags = np.zeros(files.SHAPE, "i2")
    flags[3, 4] = 1
    fits.PrimaryHDU(flags).writeto(tmp_path / "dq.fits")
    restored(source, tmp_path / "out.fits", **{"reading.flags": str(tmp_path / "dq.fits")})
    convert(tmp_path / "out.fits", tmp_path / "out.zarr")
    assert wrong(tmp_path / "out.fits", source) == []
    assert wrong(tmp_path / "out.zarr", source) == []
