"""Laws of the status: true while a run goes on, and it disturbs nobody; clean spares the living."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from dip_pipeline.engine import (
    RunDirectory,
    Shard,
    clean,
    read_status,
    run_directory,
    run_lock,
    status,
)
from dip_pipeline.errors import RunError
from tests.engine.finished_tiles import finished

KEY = {"input": "sha256:1"}
ABOUT = {"source": "/sky/a.fits", "target": "/sky/b.fits", "tiles": 5}


def publish(run, index, *, failed=False):
    run.tiles.publish(index, {"science": np.ones((2, 2), np.float32)}, {"failed": failed})


def test_a_run_is_told_of_while_it_goes_on_and_after(tmp_path):
    path = tmp_path / "b.fits.dip"
    with RunDirectory.open(path, KEY, about=ABOUT) as run:
        run.tell("fit", step=3, steps=8)
        publish(run, 0)
        time.sleep(0.02)
        publish(run, 4, failed=True)
        status = read_status(path)
        assert (status.state, status.tiles_done, status.tiles_failed) == ("running", 2, 1)
        assert [owner.process_id for owner in status.owners] == [os.getpid()]
        assert status.about == ABOUT
        assert (status.doing["doing"], status.doing["step"]) == ("fit", 3)
        assert status.seconds_a_tile is not None
        assert 0.015 < status.seconds_a_tile < 2
        assert status.scratch_bytes > 0
    status = read_status(path)
    assert (status.state, status.owners, status.tiles_done) == ("interrupted", (), 2)
    assert status.doing == {}


OWNER = """
import sys, time
from pathlib import Path
from dip_pipeline.engine import RunDirectory
run = RunDirectory.open(Path(sys.argv[1]), {"input": "sha256:1"})
print("open", flush=True)
time.sleep(60)
"""


def test_a_killed_owner_is_known_to_be_dead_at_once(tmp_path):
    path = tmp_path / "out.dip"
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, path], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout.readline() == "open\n"
        assert read_status(path).owners[0].process_id == owner.pid
        with pytest.raises(RunError, match="already being run by process"):
            clean(path)
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    assert read_status(path).state == "interrupted"
    clean(path)
    assert not path.exists()


def test_an_owner_on_another_machine_lives_as_long_as_its_heart_beats(tmp_path, monkeypatch):
    """As on a folder that several machines share and whose locks they do not see."""
    path = tmp_path / "out.dip"
    run = RunDirectory.open(path, KEY)
    signed = (path / "lock").read_text().replace(os.uname().nodename, "elsewhere")
    run.release()
    (path / "lock").write_text(signed)
    assert read_status(path).state == "running"
    with pytest.raises(RunError, match=r"on elsewhere since .*run again in \d+ s"):
        RunDirectory.open(path, KEY)
    past = time.time() - run_lock.SILENT_S - 1
    os.utime(path / "lock", (past, past))
    assert read_status(path).state == "interrupted"
    RunDirectory.open(path, KEY).release()


def test_the_heart_beats_while_the_run_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "HEARTBEAT_S", 0.02)
    path = tmp_path / "out.dip"
    with RunDirectory.open(path, KEY):
        os.utime(path / "lock", (0, 0))
        deadline = time.monotonic() + 5
        while (path / "lock").stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (path / "lock").stat().st_mtime > 0
    os.utime(path / "lock", (0, 0))
    time.sleep(0.1)
    assert (path / "lock").stat().st_mtime == 0


def test_shards_share_a_run_each_has_one_owner_and_no_driver_comes_between(tmp_path):
    path = tmp_path / "out.dip"
    first = RunDirectory.open(path, KEY, shard=Shard(1, 2))
    second = RunDirectory.open(path, KEY, shard=Shard(2, 2))
    assert first.run_id == second.run_id
    publish(first, 0)
    publish(second, 1)
    assert list(finished(first.tiles)) == [0, 1]
    assert len({owner.process_id for owner in read_status(path).owners}) == 1
    with pytest.raises(RunError, match="shard 2/2"):
        RunDirectory.open(path, KEY, shard=Shard(2, 2))
    with pytest.raises(RunError, match="already being run by"):
        RunDirectory.open(path, KEY)
    with pytest.raises(RunError, match="other options"):
        RunDirectory.open(path, {"input": "other"}, shard=Shard(1, 3))
    first.release()
    with pytest.raises(RunError, match="already being run by"):
        clean(path)
    second.release()
    with RunDirectory.open(path, KEY) as run:
        assert list(finished(run.tiles)) == [0, 1]
        run.remove()
    assert not path.exists()


def test_shards_that_have_not_begun_are_awaited_and_those_that_died_broke_off(tmp_path):
    """Between the jobs of an array all was called interrupted, whether one had died or none."""
    path = tmp_path / "out.dip"

    def stands():
        found = read_status(path)
        return found.state, found.shards_left, found.shards_broken

    first = RunDirectory.open(path, KEY, about=ABOUT, shard=Shard(1, 2))
    publish(first, 0)
    assert stands() == ("running", (1, 2), ())
    for index in (2, 4):
        publish(first, index)
    first.release()
    assert stands() == ("waiting", (2,), ())
    second = RunDirectory.open(path, KEY, about=ABOUT, shard=Shard(2, 2))
    publish(second, 1)
    second.release()  # by Ctrl-C, say
    assert stands() == ("interrupted", (2,), (2,))
    again = RunDirectory.open(path, KEY, about=ABOUT, shard=Shard(1, 2))
    assert stands() == ("running", (2,), (2,))
    again.release()
    second = RunDirectory.open(path, KEY, about=ABOUT, shard=Shard(2, 2))
    publish(second, 3)
    second.release()
    assert stands() == ("waiting", (), ())
    dead = {"process": 1, "host": socket.gethostname(), "since": "yesterday"}
    (path / "lock").write_text(json.dumps(dead))  # of a `dip finish` that was killed
    os.utime(path / "lock", (0, 0))
    assert stands() == ("interrupted", (), ())


def test_of_another_run_in_the_same_folder_no_shard_broke_off(tmp_path):
    path = tmp_path / "out.dip"
    RunDirectory.open(path, KEY, about=ABOUT, shard=Shard(2, 2)).release()
    assert read_status(path).shards_broken == (2,)
    RunDirectory.open(path, {"input": "sha256:2"}, about=ABOUT, shard=Shard(1, 2)).release()
    assert read_status(path).shards_broken == (1,)


def test_who_looks_on_writes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "out.dip"
    with RunDirectory.open(path, KEY) as run:
        publish(run, 0)
        monkeypatch.setattr("pathlib.Path.touch", lambda *_: pytest.fail("written"))
        read_status(path)


def test_a_probe_of_the_clock_does_not_keep_a_folder(tmp_path):
    path = tmp_path / "out.dip"
    run = RunDirectory.open(path, KEY)
    drop = run_directory.drop_content

    def probed(folder):
        drop(folder)
        (folder / ".now.0123.tmp").touch()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run_directory, "drop_content", probed)
        run.remove()
    assert not path.exists()


def test_what_is_left_of_a_folder_that_was_being_deleted_can_be_deleted(tmp_path):
    for left in ((), ("lock",), ("lock", ".now.0123.tmp")):
        path = tmp_path / "out.dip"
        path.mkdir()
        for name in left:
            (path / name).touch()
        with pytest.raises(RunError, match="no scratch folder"):
            read_status(path)
        assert clean(path) is None
        assert not path.exists()


def test_a_run_that_ends_while_it_is_read_is_one_line(tmp_path, monkeypatch):
    path = tmp_path / "out.dip"
    with RunDirectory.open(path, KEY) as run:
        publish(run, 0)
        gone = status._recorded

        def ending(folder):
            run.remove()
            return gone(folder)

        monkeypatch.setattr(status, "_recorded", ending)
        assert read_status(path).tiles_done == 1
        with pytest.raises(RunError, match="no scratch folder"):
            read_status(path)

    def vanished(folder):
        raise FileNotFoundError(2, "No such file or directory", str(folder))

    with RunDirectory.open(path, KEY):
        monkeypatch.setattr(status, "_recorded", vanished)
        with pytest.raises(RunError, match="gone while it was read"):
            read_status(path)


def test_what_is_no_run_is_one_line(tmp_path):
    (tmp_path / "a.dip").mkdir()
    (tmp_path / "a.dip" / "thesis.tex").write_text("years of work")
    for path in (tmp_path / "a.dip", tmp_path / "none.dip"):
        for act in (read_status, clean):
            with pytest.raises(RunError, match="no scratch folder of dip") as caught:
                act(path)
            assert "\n" not in str(caught.value)
    assert (tmp_path / "a.dip" / "thesis.tex").exists()


@pytest.mark.parametrize(("silent_s", "alive"), [(0.0, True), (32_400.0, False), (-3600.0, False)])
def test_who_is_not_heard_of_does_not_run_though_its_number_does(tmp_path, silent_s, alive):
    """The number of a process comes again after a restart, and in every container."""
    path = tmp_path / "lock"
    owner = {"process": os.getpid(), "host": socket.gethostname(), "since": "yesterday"}
    path.write_text(json.dumps(owner))
    heard = time.time() - silent_s
    os.utime(path, (heard, heard))
    assert run_lock.owner_of(path).alive is alive
    # A clock that is behind that of the folder tells nothing of a time to come.
    assert run_lock.owner_of(path, looking_on=True).alive is (alive or silent_s < 0)


def test_where_there_are_no_locks_a_recycled_number_holds_nothing(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    owner = {"process": os.getppid(), "host": socket.gethostname(), "since": "yesterday"}
    path.write_text(json.dumps(owner))

    def none_here(descriptor, kind):
        raise OSError(errno.ENOSYS, "no locks")

    monkeypatch.setattr(fcntl, "flock", none_here)
    with pytest.raises(RunError, match="already being run"):
        run_lock.take(path)
    os.utime(path, (0, 0))
    lock = run_lock.take(path)
    assert lock is not None
    lock.release()


def test_a_lock_says_who_holds_it_whatever_a_dead_owner_left_in_it(tmp_path):
    path = tmp_path / "lock"
    path.write_text(json.dumps({"process": 1, "host": "x" * 200, "since": "yesterday"}))
    os.utime(path, (0, 0))
    lock = run_lock.take(path)
    lock.sign()
    assert run_lock.owner_of(path).process_id == os.getpid()
    lock.release()


def test_who_lets_go_of_a_shared_lock_leaves_word_of_those_who_do_not(tmp_path):
    """Machines that do not see each other's locks go by it alone."""
    path = tmp_path / "lock"
    first = run_lock.take(path)
    first.sign()
    first.share()
    second = run_lock.take(path, shared=True)
    second.release()
    assert run_lock.owner_of(path).process_id == os.getpid()
    first.release()
    assert run_lock.owner_of(path) is None


def test_a_lock_on_a_file_that_has_gone_is_none(tmp_path, monkeypatch):
    """Its folder was deleted, and made again by another process, while this one waited."""
    path, lock = tmp_path / "lock", fcntl.flock

    def too_late(descriptor, kind):
        path.unlink()
        path.touch()
        lock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", too_late)
    assert run_lock.take(path) is None


@pytest.mark.parametrize(("error", "alive"), [(ProcessLookupError, False), (PermissionError, True)])
def test_a_process_of_another_user_is_one_that_runs(monkeypatch, error, alive):
    def refuse(process_id, number):
        raise error

    monkeypatch.setattr(os, "kill", refuse)
    assert run_lock.Owner(7, socket.gethostname(), "now", silent_s=1.0).alive is alive


def test_a_run_whose_shard_works_on_another_machine_is_not_deleted(tmp_path):
    """Its lock cannot be seen from here: its word can."""
    path = tmp_path / "out.dip"
    with RunDirectory.open(path, KEY) as run:
        publish(run, 0)
    owner = {"process": 1, "host": "elsewhere", "since": "now"}
    (path / "lock-1-of-2").write_text(json.dumps(owner))
    with pytest.raises(RunError, match="already being run by process 1 on elsewhere"):
        clean(path)
    assert read_status(path).tiles_done == 1


def test_pace_failures_and_size_are_those_of_the_tiles_that_were_recorded(tmp_path):
    path = tmp_path / "out.dip"
    with RunDirectory.open(path, KEY) as run:
        for tile, failed, when in ((0, True, 100.0), (1, False, 104.0), (0, True, 112.0)):
            run.tiles.records.append({"tile": tile, "failed": failed, "time": when})
        (path / "work").write_bytes(bytes(1 << 20))
        found = read_status(path)
    assert found.seconds_a_tile == 6.0
    assert found.tiles_failed == 1
    assert 1 << 20 <= found.scratch_bytes < 3 << 19


def test_a_lost_tile_that_went_well_since_is_no_failure_and_a_damaged_one_is_not_done(tmp_path):
    path = tmp_path / "out.dip"
    with RunDirectory.open(path, KEY, about={"tiles": 2}) as run:
        publish(run, 0, failed=True)
        run.tiles.forget(0)
        publish(run, 0)
        publish(run, 1)
        found = read_status(path)
        assert (found.tiles_done, found.tiles_failed) == (2, 0)
        run.tiles.drop(1)
    found = read_status(path)
    assert found.tiles_done == 1
    assert "the same command" in found.way_on  # dip finish would miss a tile
