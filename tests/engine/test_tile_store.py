"""Laws of the tile store: once, whole, or not at all."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dip_pipeline.engine import TileStore, durable
from dip_pipeline.engine.records import Records
from dip_pipeline.errors import OutputError, RunError
from tests.engine.finished_tiles import finished


def planes(value=1.0):
    return {
        "science": np.full((3, 4), value, np.float32),
        "error": np.full((3, 4), np.inf, np.float32),
        "flags": np.arange(12, dtype=np.uint8).reshape(3, 4),
    }


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">f8", "<u2", ">i2", "|u1", "|b1"])
def test_planes_and_record_come_back_as_they_were_stored(tmp_path, dtype):
    store = TileStore(tmp_path)
    plane = (np.arange(10) % 7).reshape(2, 5).astype(dtype)
    record = {"steps": 3, "risk": np.float32(0.5), "reason": "grüße", "chi2": float("nan")}
    assert store.publish(7, {"plane": plane[:, ::2], "empty": plane[:0]}, record)
    loaded, got = store.load(7)
    np.testing.assert_array_equal(loaded["plane"], plane[:, ::2])
    assert loaded["plane"].dtype == plane.dtype.newbyteorder("<")
    assert loaded["empty"].shape == (0, 5)
    assert (got["steps"], got["risk"], got["reason"]) == (3, 0.5, "grüße")
    assert np.isnan(got["chi2"])


def test_the_first_writer_wins_and_nobody_replaces_its_tile(tmp_path):
    store = TileStore(tmp_path)
    assert store.publish(0, planes(1.0), {"who": "first"})
    before = (tmp_path / "000000.tile").read_bytes()
    assert not store.publish(0, planes(2.0), {"who": "second"})
    assert (tmp_path / "000000.tile").read_bytes() == before
    assert finished(store) == {0: {"who": "first"}}
    assert names(tmp_path) == ["000000.tile"]


def test_of_many_writers_at_once_exactly_one_wins(tmp_path):
    store = TileStore(tmp_path)
    barrier, won = threading.Barrier(8), []

    def write(number):
        barrier.wait()
        if store.publish(5, planes(number), {"who": number}):
            won.append(number)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    loaded, record = store.load(5)
    assert record == {"who": won[0]}
    np.testing.assert_array_equal(loaded["science"], planes(won[0])["science"])
    assert names(tmp_path) == ["000005.tile"]


@settings(deadline=None, max_examples=60)
@given(position=st.integers(0, 10**6), bit=st.integers(0, 7), cut=st.booleans())
def test_a_torn_file_and_a_single_changed_bit_are_noticed(tmp_path_factory, position, bit, cut):
    folder = tmp_path_factory.mktemp("tiles")
    TileStore(folder).publish(7, planes(), {"steps": 3})
    path = folder / "000007.tile"
    data = bytearray(path.read_bytes())
    position %= len(data)
    if cut:
        del data[position:]
    else:
        data[position] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"tile 7: .*checksum"):
        TileStore(folder).load(7)


def test_a_scan_moves_damaged_tiles_aside_and_they_can_be_done_anew(tmp_path, caplog):
    store = TileStore(tmp_path)
    for index in (3, 10, 11):
        store.publish(index, planes(), {"index": index})
    torn = tmp_path / "000010.tile"
    torn.write_bytes(torn.read_bytes()[:-1])
    assert finished(store) == {3: {"index": 3}, 11: {"index": 11}}
    assert "tile 10" in caplog.text
    assert (tmp_path / "damaged" / "000010.tile").exists()
    assert store.publish(10, planes(), {"index": "anew"})
    assert list(finished(store)) == [3, 10, 11]
    assert store.load(10)[1] == {"index": "anew"}


def test_a_damaged_tile_that_is_asked_for_can_be_done_anew(tmp_path):
    store = TileStore(tmp_path)
    store.publish(3, planes(), {"who": "first"})
    torn = tmp_path / "000003.tile"
    torn.write_bytes(torn.read_bytes()[:-1])
    assert store.record_of(3) is None
    assert store.publish(3, planes(), {"who": "second"})
    assert store.record_of(3) == {"who": "second"}


def test_files_without_a_number_are_no_tiles(tmp_path):
    store = TileStore(tmp_path)
    store.publish(3, planes(), {})
    (tmp_path / "copy of 000003.tile").write_bytes((tmp_path / "000003.tile").read_bytes())
    assert finished(store) == {3: {}}
    assert (tmp_path / "copy of 000003.tile").exists()


def test_a_tile_under_anothers_name_is_not_taken_for_it(tmp_path):
    store = TileStore(tmp_path)
    store.publish(1, planes(), {})
    (tmp_path / "000001.tile").rename(tmp_path / "000002.tile")
    with pytest.raises(RunError, match="holds tile 1"):
        store.load(2)
    assert finished(store) == {}


def test_a_missing_tile_is_named(tmp_path):
    with pytest.raises(RunError, match=r"tile 4: .*000004\.tile"):
        TileStore(tmp_path).load(4)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_with_path_and_bytes_and_leaves_nothing(
    tmp_path, monkeypatch, number
):
    store = TileStore(tmp_path)
    with monkeypatch.context() as patch:

        def full(descriptor):
            raise OSError(number, os.strerror(number))

        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"disk full .* room for \d+ more bytes") as caught:
            store.publish(2, planes(), {})
    assert str(tmp_path / "000002.tile") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []
    assert store.publish(2, planes(), {})


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(OutputError, match="cannot be written") as caught:
        TileStore(tmp_path / "not" / "there").publish(0, planes(), {})
    assert "\n" not in str(caught.value)


def test_file_systems_without_hard_links_keep_the_first_tile_too(tmp_path, monkeypatch):
    def refuse(self, target):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    store = TileStore(tmp_path)
    assert store.publish(0, planes(1.0), {"who": "first"})
    assert not store.publish(0, planes(2.0), {"who": "second"})
    assert finished(store) == {0: {"who": "first"}}
    assert names(tmp_path) == ["000000.tile"]


def test_a_writer_without_hard_links_leaves_a_file_that_came_meanwhile(tmp_path, monkeypatch):
    path = tmp_path / "000000.tile"

    def outrun(self, target):
        self.write_bytes(b"the other writer's")
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr("pathlib.Path.hardlink_to", outrun)
    assert not TileStore(tmp_path).publish(0, planes(), {})
    assert path.read_bytes() == b"the other writer's"
    assert names(tmp_path) == ["000000.tile"]


@pytest.mark.parametrize(
    "write", [durable.publish_sealed, lambda p, parts: durable.replace(p, *parts)]
)
def test_data_are_on_the_disk_before_their_name_and_the_name_before_the_end(
    tmp_path, monkeypatch, write
):
    """Where the machine itself goes down no name is without its data, and none is lost."""
    synced, sync = [], os.fsync

    def note(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append((is_folder, (tmp_path / "name").exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write(tmp_path / "name", [b"data"])
    assert synced == [(False, False), (True, True)]


@pytest.mark.parametrize(("number", "told"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_folder_that_no_file_system_syncs_is_no_failure_but_a_broken_disk_is(
    tmp_path, monkeypatch, number, told
):
    sync = os.fsync

    def refuse(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    if told:
        with pytest.raises(OutputError, match="cannot be written"):
            TileStore(tmp_path).publish(0, planes(), {})
    else:
        assert TileStore(tmp_path).publish(0, planes(), {})


def test_tiles_are_taken_over_where_there_are_no_hard_links_and_where_there_are(
    tmp_path, monkeypatch
):
    def refuse(self, target):
        raise OSError(errno.EPERM, "no hard links here")

    old = TileStore(tmp_path / "old")
    old.folder.mkdir()
    assert old.publish(0, planes(1.0), {"who": "old"})
    for links in (True, False):
        if not links:
            monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
        new = TileStore(tmp_path / f"new-{links}")
        new.folder.mkdir()
        new.adopt(0, old)
        new.adopt(0, old)
        assert finished(new) == {0: {"who": "old"}}
        np.testing.assert_array_equal(new.load(0)[0]["science"], old.load(0)[0]["science"])
        assert names(new.folder) == ["000000.tile"]
    with pytest.raises(OutputError, match="cannot be written"):
        TileStore(tmp_path / "not there").adopt(0, old)


def test_a_tile_that_is_taken_over_failed_or_not_as_it_was(tmp_path):
    stores = []
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        stores.append(TileStore(tmp_path / name, Records(tmp_path / f"{name}.records")))
    old, new = stores
    for index, failed in enumerate((False, True)):
        old.publish(index, planes(), {"failed": failed})
        new.adopt(index, old)
    told = [[(line["tile"], line["failed"]) for line in store.records.read()] for store in stores]
    assert told == [[(0, False), (1, True)]] * 2


DIES_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
import numpy as np
from dip_pipeline.engine import TileStore
from dip_pipeline.engine.records import Records
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
TileStore(Path(sys.argv[1])).publish(0, {"science": np.ones((9, 9))}, {})
"""


def test_a_writer_killed_before_its_data_are_safe_leaves_no_tile(tmp_path):
    done = subprocess.run([sys.executable, "-c", DIES_WHILE_WRITING, tmp_path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert finished(TileStore(tmp_path)) == {}
    assert TileStore(tmp_path).publish(0, planes(), {})


def test_only_numbers_are_stored(tmp_path):
    with pytest.raises(ValueError, match="object"):
        TileStore(tmp_path).publish(0, {"science": np.array([None])}, {})
