"""Outputs appear whole or not at all, and never where something else lies."""

import errno
import fcntl
import os
import resource
import shutil
import socket
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from astropy.io import fits

from dip_pipeline.errors import OutputError
from dip_pipeline.frames import RestoredPlanes, open_frame, publishing, save_frame, workshops
from dip_pipeline.frames.workshops import clear_workshops, exchange, workshop

SUFFIXES = ["fits", "zarr"]


@pytest.fixture
def frame(tmp_path):
    folder = tmp_path / "input"
    folder.mkdir()
    plane = np.random.default_rng(3).normal(size=(300, 200)).astype("f4")
    fits.PrimaryHDU(plane).writeto(folder / "in.fits")
    return open_frame(folder / "in.fits")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "output").mkdir()
    return tmp_path / "output"


class Failing:
    """A plane that cannot be read to its end."""

    def __init__(self, shape, error):
        self.shape, self.error = shape, error

    def __getitem__(self, region):
        raise self.error


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def read_bytes(path):
    if path.is_file():
        return path.read_bytes()
    return {str(file): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("suffix", [*SUFFIXES, "fits.gz"])
@pytest.mark.parametrize("letter", ["n", "ж", "星"])
def test_a_name_as_long_as_a_folder_takes_is_written(
    frame, folder, restored, provenance, suffix, letter
):
    count = (250 - len(suffix)) // len(letter.encode())
    target = folder / f"{letter * count}.{suffix}"
    save_frame(target, frame, restored(frame), provenance=provenance)
    assert names(folder) == [target.name]


def test_two_long_names_are_two_outputs(folder):
    """What is left of one is not taken for the other's."""
    first, second = (folder / f"{'n' * 230}{number}.fits" for number in (1, 2))
    left = _left_by_a_killed_writer(first, "new")
    clear_workshops(second)
    assert left.exists()
    clear_workshops(first)
    assert names(folder) == []


def _left_by_a_killed_writer(output, *members):
    with workshop(output) as part:
        left = part.parent.with_name(part.parent.name.replace(".part", "0.part"))
        shutil.copytree(part.parent, left)
    for member in members:
        (left / member).mkdir()
        (left / member / "zarr.json").write_text(member)
    return left


@pytest.mark.parametrize("name", ["out.zarr", "a [1]*.fits", "n" * 250])
def test_what_a_killed_writer_left_goes_with_the_next_one(folder, name):
    _left_by_a_killed_writer(folder / name, "new")
    with workshop(folder / name) as part:
        part.write_text("still being written")
        clear_workshops(folder / name)
        assert part.read_text() == "still being written"
    assert names(folder) == []


def test_a_lock_goes_before_what_it_locks(folder, monkeypatch):
    """Who waits for it must not take it to be its own, in a folder that is about to go."""
    left = _left_by_a_killed_writer(folder / "out.fits", "new")
    monkeypatch.setattr(shutil, "rmtree", lambda _: names(left) == ["new"] or pytest.fail("there"))
    clear_workshops(folder / "out.fits")
    assert names(left) == ["new"]


def test_an_output_that_had_stepped_aside_comes_back(folder, caplog):
    _left_by_a_killed_writer(folder / "out.zarr", "new", "old")
    clear_workshops(folder / "out.zarr")
    assert names(folder) == ["out.zarr"]
    assert (folder / "out.zarr" / "zarr.json").read_text() == "old"
    assert "put back" in caplog.text
    _left_by_a_killed_writer(folder / "out.zarr", "old")
    clear_workshops(folder / "out.zarr")
    assert names(folder) == ["out.zarr"]


def test_writers_of_one_process_id_have_a_place_each(folder, monkeypatch):
    """Two containers may share it; without a look at locks one cut what the other had written."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with workshop(folder / "out.fits") as first, workshop(folder / "out.fits") as second:
        first.write_text("first")
        second.write_text("second")
        assert first.read_text() == "first"


def test_no_room_for_a_lock_leaves_nothing(folder, monkeypatch):
    def full(descriptor, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"), workshop(folder / "out.fits"):
        pass
    assert names(folder) == []


def test_what_another_machine_may_still_write_stays(folder, monkeypatch):
    left = _left_by_a_killed_writer(folder / "out.fits", "new")
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    clear_workshops(folder / "out.fits")
    assert left.exists()
    for file in left.rglob("*"):
        os.utime(file, (0, 0))
    clear_workshops(folder / "out.fits")
    assert names(folder) == []


def test_a_folder_that_is_about_to_get_its_lock_stays(folder):
    left = _left_by_a_killed_writer(folder / "out.fits", "new")
    (left / "lock").unlink()
    clear_workshops(folder / "out.fits")
    assert left.exists()
    os.utime(left, (0, 0))
    clear_workshops(folder / "out.fits")
    assert names(folder) == []


def test_where_there_are_no_locks_what_somebody_may_still_write_stays(folder, monkeypatch):
    def none_here(descriptor, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none_here)
    with workshop(folder / "out.fits") as part:
        part.write_text("still being written")
        clear_workshops(folder / "out.fits")
        assert part.read_text() == "still being written"
    assert names(folder) == []


def test_who_waits_for_a_lock_that_goes_begins_anew(folder, monkeypatch):
    real, folders = fcntl.flock, []

    def first_one_goes(descriptor, kind):
        if not folders:
            folders.extend(folder.iterdir())
            shutil.rmtree(folders[0])
        real(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", first_one_goes)
    with workshop(folder / "out.fits") as part:
        part.write_text("there")
        assert part.parent not in folders


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_an_interruption_between_two_names_takes_nothing_away(folder, monkeypatch, error):
    for name in ("old", "new"):
        (folder / name).mkdir()
    (folder / "old" / "zarr.json").write_text("as it was")
    real = Path.rename

    def stopped(path, new):
        if path.name == "new":
            raise error
        return real(path, new)

    monkeypatch.setattr(Path, "rename", stopped)
    monkeypatch.setattr(workshops, "_swapped", lambda *_: False)
    (folder / "old").replace(folder / "out.zarr")
    with pytest.raises(type(error)):
        exchange(folder / "new", folder / "out.zarr")
    assert (folder / "out.zarr" / "zarr.json").read_text() == "as it was"
    assert names(folder) == ["new", "out.zarr"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_existing_output_is_refused_or_replaced_as_asked(
    frame, folder, restored, provenance, suffix
):
    target = folder / f"out.{suffix}"
    planes = restored(frame)
    save_frame(target, frame, planes, provenance=provenance)
    before = read_bytes(target)
    planes.science[5, 5] = -1
    both_ways = r"exists already; .* --overwrite \(in a workflow: frames\.overwrite = true\)"
    with pytest.raises(OutputError, match=both_ways):
        save_frame(target, frame, planes, provenance=provenance)
    assert read_bytes(target) == before
    save_frame(target, frame, planes, provenance=provenance, overwrite=True)
    assert open_frame(target).read(slice(5, 6), slice(5, 6)).science == -1
    assert names(folder) == [target.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_output_and_no_litter(
    frame, folder, restored, provenance, suffix, error
):
    target = folder / f"out.{suffix}"
    save_frame(target, frame, restored(frame), provenance=provenance)
    before = read_bytes(target)
    planes = restored(frame)
    broken = RestoredPlanes(planes.science, Failing(frame.shape, error), planes.flags)
    with pytest.raises((OutputError, KeyboardInterrupt)) as caught:
        save_frame(target, frame, broken, provenance=provenance, overwrite=True)
    if isinstance(error, OSError):
        assert "No space left on device; needed:" in str(caught.value)
    assert read_bytes(target) == before
    assert names(folder) == [target.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_old_output_is_there_until_the_new_one_takes_its_name(
    frame, folder, restored, provenance, monkeypatch, suffix
):
    target = folder / f"out.{suffix}"
    save_frame(target, frame, restored(frame), provenance=provenance)
    before = read_bytes(target)
    real = Path.rename

    def refuse(path, new):
        if path.name == "new":
            raise OSError(5, "Input/output error")
        return real(path, new)

    monkeypatch.setattr(workshops, "_swapped", lambda *_: False)
    monkeypatch.setattr(Path, "rename", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OutputError, match="Input/output error"):
        save_frame(target, frame, restored(frame), provenance=provenance, overwrite=True)
    assert read_bytes(target) == before
    assert names(folder) == [target.name]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["out.fits", "out.zarr"])
def test_all_is_on_the_disk_before_its_name_and_the_name_before_the_end(
    frame, restored, provenance, monkeypatch, name, overwrite
):
    """Where the machine itself goes down no name is without its data, and none is lost."""
    target, sync = frame.path.with_name(name), os.fsync
    if overwrite:
        save_frame(target, frame, restored(frame), provenance=provenance)
    before = target.stat().st_ino if overwrite else None
    named = {}

    def note(handle):
        there = target.exists() and target.stat().st_ino != before
        named[os.fstat(handle).st_ino] = there
        sync(handle)

    monkeypatch.setattr(os, "fsync", note)
    save_frame(target, frame, restored(frame), provenance=provenance, overwrite=overwrite)
    written = [target, *target.rglob("*")]
    assert len(written) > (20 if name == "out.zarr" else 0)
    assert [named.get(path.stat().st_ino) for path in written] == [False] * len(written)
    assert named[target.parent.stat().st_ino] is True


@contextmanager
def file_size_limit(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_system_that_refuses_is_told_with_the_room_needed(
    frame, folder, restored, provenance, suffix
):
    with (
        file_size_limit(20_000),
        pytest.raises(OutputError, match=r"File too large; needed: \d+ bytes"),
    ):
        save_frame(folder / f"out.{suffix}", frame, restored(frame), provenance=provenance)
    assert names(folder) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_folders_that_cannot_take_it_are_told(frame, folder, restored, provenance, suffix):
    planes = restored(frame)
    (folder / "file").write_bytes(b"")
    for parent in (folder / "none", folder / "file"):
        with pytest.raises(OutputError, match="no folder"):
            save_frame(parent / f"out.{suffix}", frame, planes, provenance=provenance)
    if Path("/proc").is_dir():
        with pytest.raises(OutputError, match="cannot be written"):
            save_frame(Path(f"/proc/out.{suffix}"), frame, planes, provenance=provenance)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_link_that_leads_to_itself_is_no_output(frame, folder, restored, provenance, suffix):
    looped = folder / f"loop.{suffix}"
    looped.symlink_to(looped)
    with pytest.raises(OutputError, match="leads to itself"):
        save_frame(looped, frame, restored(frame), provenance=provenance, overwrite=True)
    assert looped.is_symlink()


def test_the_input_is_never_the_output(frame, tmp_path, restored, provenance):
    source = frame.path
    (tmp_path / "link.fits").symlink_to(source)
    os.link(source, tmp_path / "hard.fits")
    before = source.read_bytes()
    for target in (
        source,
        tmp_path / "link.fits",
        tmp_path / "hard.fits",
        source.parent / ".." / "input" / "in.fits",
    ):
        with pytest.raises(OutputError, match="is the input"):
            save_frame(target, frame, restored(frame), provenance=provenance, overwrite=True)
    assert source.read_bytes() == before


def test_a_group_is_never_written_into_or_around_its_input(tmp_path, restored, provenance):
    path = tmp_path / "outer.zarr" / "in.zarr"
    zarr.create_group(tmp_path / "outer.zarr", zarr_format=3)
    zarr.create_group(path, zarr_format=3).create_array("science", data=np.ones((4, 4), "f4"))
    frame = open_frame(path)
    for target in (path, path / "out.zarr", tmp_path / "outer.zarr"):
        with pytest.raises(OutputError, match="is the input"):
            save_frame(target, frame, restored(frame), provenance=provenance, overwrite=True)


@pytest.mark.parametrize("name", ["out.png", "out", "out.fits.bz2", "out.asdf"])
def test_suffixes_that_name_no_format_are_refused(frame, folder, restored, provenance, name):
    with pytest.raises(OutputError, match=r"use one of \.fits, \.fit, \.fts, \.zarr"):
        save_frame(folder / name, frame, restored(frame), provenance=provenance)


def test_a_group_of_the_older_format_is_replaced_where_that_is_asked_for(
    frame, folder, restored, provenance
):
    target = folder / "old.zarr"
    zarr.create_group(target, zarr_format=2)
    save_frame(target, frame, restored(frame), provenance=provenance, overwrite=True)
    assert open_frame(target).shape == frame.shape


def test_folders_that_are_no_group_are_never_replaced(frame, folder, restored, provenance):
    (folder / "mine.zarr").mkdir()
    (folder / "mine.zarr" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="is no Zarr group"):
        save_frame(
            folder / "mine.zarr", frame, restored(frame), provenance=provenance, overwrite=True
        )
    (folder / "mine.fits").mkdir()
    with pytest.raises(OutputError, match="is no file"):
        save_frame(
            folder / "mine.fits", frame, restored(frame), provenance=provenance, overwrite=True
        )
    assert (folder / "mine.zarr" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_appears_meanwhile_is_left_alone(frame, folder, restored, provenance, suffix):
    target = folder / f"out.{suffix}"
    planes = restored(frame)
    theirs = target / "zarr.json" if suffix == "zarr" else target

    class Slow:
        shape = frame.shape

        def __getitem__(self, region):
            theirs.parent.mkdir(exist_ok=True)
            theirs.write_text("somebody else's")
            return planes.error[region]

    slow = RestoredPlanes(planes.science, Slow(), planes.flags)
    with pytest.raises(OutputError, match="appeared while this run was writing"):
        save_frame(target, frame, slow, provenance=provenance)
    assert theirs.read_text() == "somebody else's"
    assert names(folder) == [target.name]


def test_a_file_that_appears_where_there_are_no_hard_links_is_left_alone(
    frame, folder, restored, provenance, monkeypatch
):
    target = folder / "out.fits"

    def outrun(part, path):
        target.write_text("somebody else's")
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", outrun)
    with pytest.raises(OutputError, match="cannot be written"):
        save_frame(target, frame, restored(frame), provenance=provenance)
    assert target.read_text() == "somebody else's"
    assert names(folder) == ["out.fits"]


@pytest.mark.parametrize("name", ["science", "error", "flags"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_planes_of_another_shape_are_refused(frame, folder, restored, provenance, suffix, name):
    planes = replace(restored(frame), **{name: np.zeros((3, 3), "f4")})
    with pytest.raises(OutputError, match=rf"{name} has shape \(3, 3\), the frame \(300, 200\)"):
        save_frame(folder / f"out.{suffix}", frame, planes, provenance=provenance)
    assert names(folder) == []


def test_a_packed_file_that_reads_back_otherwise_is_named_as_the_user_does(tmp_path, monkeypatch):
    """Not by the name it is written under, which is gone by then."""

    def write(plain):
        plain.write_bytes(b"SIMPLE")

    monkeypatch.setattr(publishing.shutil, "copyfileobj", lambda *_: None)
    with pytest.raises(OutputError, match=r"^out\.fits\.gz: reads back otherwise") as caught:
        publishing.write_gzip(tmp_path / ".part", write, Path("out.fits.gz"))
    assert ".part" not in str(caught.value)
