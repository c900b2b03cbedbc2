"""Laws of the run directory: one owner, one key, and nothing finished is done twice."""

import contextlib
import errno
import hashlib
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from dip_pipeline.engine import (
    RunDirectory,
    Shard,
    TileStore,
    WorkerOptions,
    map_items,
    publish_sealed,
    read_published,
    run_file,
    run_lock,
)
from dip_pipeline.errors import ConfigError, OutputError, RestorationError, RunError
from tests.engine.finished_tiles import finished

KEY = {"input": "sha256:1", "config": {"tiles": {"size_px": 256}, "seed": 0}, "version": "0.1"}


def begin(path, key=KEY):
    return RunDirectory.open(path, key)


def publish(run, index):
    return run.tiles.publish(index, {"science": np.ones((2, 2), np.float32)}, {"index": index})


def test_the_same_key_goes_on_with_the_same_run_and_its_tiles(tmp_path):
    with begin(tmp_path / "out.dip") as run:
        assert not run.resumed
        publish(run, 3)
    with begin(tmp_path / "out.dip", json.loads(json.dumps(KEY))) as again:
        assert again.resumed
        assert again.restarted_because == ()
        assert again.run_id == run.run_id
        assert finished(again.tiles) == {3: {"index": 3}}


@pytest.mark.parametrize(
    ("changed", "because"),
    [
        ({"input": "sha256:2"}, ("input",)),
        ({"config": {"tiles": {"size_px": 128}, "seed": 0}}, ("config.tiles.size_px",)),
        ({"config": {"tiles": {"size_px": 256}}, "extra": 1}, ("config.seed", "extra")),
        ({"config": {"tiles": {"size_px": 256}, "seed": False}}, ("config.seed",)),
    ],
)
def test_another_key_drops_the_old_scratch_and_says_why(tmp_path, changed, because):
    with begin(tmp_path / "out.dip") as old:
        publish(old, 3)
        publish_sealed(old.path / "prior", [b"weights"])
        publish_sealed(old.path / "prior-1.keyed", [b"weights of any run"])
        (old.work_path / "science").mkdir(parents=True)
    with begin(tmp_path / "out.dip", {**KEY, **changed}) as new:
        assert not new.resumed
        assert new.restarted_because == because
        assert new.run_id != old.run_id
        assert finished(new.tiles) == {}
        assert new.find_file("prior") is None
        assert new.find_file("prior-1.keyed") == b"weights of any run"
        assert not new.work_path.exists()
        assert not old.tiles.folder.exists()  # a worker left over writes into the void
        assert [finished(store) for store in new.previous_tiles()] == [{3: {"index": 3}}]


def test_a_tuple_or_nan_in_the_key_does_not_restart_the_run(tmp_path):
    key = {"shape": (3, 4), "sigma": float("nan")}
    begin(tmp_path / "out.dip", key).release()
    with begin(tmp_path / "out.dip", key) as again:
        assert again.resumed


def test_a_folder_has_one_owner_at_a_time_and_names_it(tmp_path):
    with begin(tmp_path / "out.dip") as run:
        with pytest.raises(RunError, match=f"already being run by process {os.getpid()}") as caught:
            begin(tmp_path / "out.dip")
        assert "\n" not in str(caught.value)
        publish(run, 0)  # undisturbed
    with begin(tmp_path / "out.dip") as again:
        assert again.resumed
        assert list(finished(again.tiles)) == [0]


OWNER = """
import sys, time
from pathlib import Path
from dip_pipeline.engine import RunDirectory
run = RunDirectory.open(Path(sys.argv[1]), {"a": 1})
print("open", flush=True)
time.sleep(60)
"""


def test_a_living_owner_is_respected_and_a_killed_one_leaves_no_lock(tmp_path):
    path = tmp_path / "out.dip"
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, path], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout.readline() == "open\n"
        with pytest.raises(RunError, match=f"process {owner.pid} on "):
            begin(path, {"a": 1})
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    with begin(path, {"a": 1}) as run:
        assert run.resumed
        assert str(os.getpid()) in (path / "lock").read_text()


def test_an_interrupt_lets_go_of_the_folder_and_keeps_what_is_done(tmp_path):
    def interrupted():
        with begin(tmp_path / "out.dip") as run:
            publish(run, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with begin(tmp_path / "out.dip") as again:
        assert again.resumed
        assert list(finished(again.tiles)) == [1]


def test_removing_leaves_nothing_behind(tmp_path):
    with begin(tmp_path / "out.dip") as run:
        publish(run, 0)
        publish_sealed(run.path / "prior", [b"weights"])
        run.remove()
        assert not run.path.exists()
    with begin(tmp_path / "out.dip") as again:
        assert not again.resumed


def test_a_folder_is_known_as_ours_and_held_until_nothing_is_left_in_it(tmp_path, monkeypatch):
    """Whoever comes while it is deleted, or after its process died of that, is not refused."""
    path, seen = tmp_path / "out.dip", []

    def look(point):
        held = False
        try:
            run_lock.take(path / "lock").release()
        except RunError:
            held = True
        seen.append(((path / "run.json").exists(), held))

    with begin(path) as run:
        publish(run, 0)
        publish_sealed(run.path / "prior", [b"weights"])
        run.tell("tiles")
        monkeypatch.setattr(run_file, "reach", look)
        run.remove()
    assert len(seen) >= 4
    assert seen == [(True, True)] * len(seen)
    assert not path.exists()


def test_a_link_in_the_folder_goes_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("")
    with begin(tmp_path / "out.dip") as run:
        (run.path / "work").symlink_to(tmp_path / "elsewhere")
        run.remove()
    assert not run.path.exists()
    assert (tmp_path / "elsewhere" / "kept").exists()


def test_what_keys_decide_has_a_place_for_each(tmp_path):
    with begin(tmp_path / "out.dip") as run:
        keys = [hashlib.sha256(bytes([number])).hexdigest() for number in range(100)]
        assert len({run.keyed_path("prior", key) for key in keys}) == 100


def test_a_folder_of_somebody_else_is_refused_and_left_alone(tmp_path):
    foreign = tmp_path / "out.dip"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="not a scratch folder of dip"):
        begin(foreign)
    assert [path.name for path in foreign.iterdir()] == ["thesis.tex"]


def test_a_file_of_the_name_of_the_folder_is_refused_and_left_alone(tmp_path):
    foreign, nowhere = tmp_path / "out.dip", tmp_path / "other.dip"
    foreign.write_text("years of work")
    nowhere.symlink_to(tmp_path / "unmounted")
    for path in (foreign, nowhere):
        with pytest.raises(RunError, match="not a scratch folder of dip; move it away"):
            begin(path)
        RunDirectory.forget(path, KEY)
    assert foreign.read_text() == "years of work"
    assert nowhere.is_symlink()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "out.dip", tmp_path / "no" / "out.dip"):
        with pytest.raises(OutputError, match="cannot be written") as caught:
            begin(path)
        assert "\n" not in str(caught.value)


def test_a_full_disk_at_the_start_lets_go_of_the_folder(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:

        def full(descriptor):
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="disk full"):
            begin(tmp_path / "out.dip")
    with begin(tmp_path / "out.dip") as run:
        assert run.tiles.folder.is_dir()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"run_id": "x"}', b"\xff\xfe"])
def test_a_run_file_that_cannot_be_read_begins_anew_and_says_so(tmp_path, caplog, content):
    with begin(tmp_path / "out.dip") as run:
        publish(run, 0)
    (run.path / "run.json").write_bytes(content)
    with begin(tmp_path / "out.dip") as again:
        assert not again.resumed
        assert finished(again.tiles) == {}
        assert "run.json" in caplog.text


def test_half_written_files_of_a_dead_process_are_swept(tmp_path):
    with begin(tmp_path / "out.dip") as run:
        litter = [run.path / ".prior.12ab.tmp", run.tiles.folder / ".000001.tile.34cd.tmp"]
        for path in litter:
            path.write_bytes(b"half")
    with begin(tmp_path / "out.dip"):
        assert not any(path.exists() for path in litter)


def test_a_shared_file_is_published_once_and_known_when_damaged(tmp_path, caplog):
    with begin(tmp_path / "out.dip") as run:
        assert run.find_file("prior") is None
        assert publish_sealed(run.path / "prior", [b"weights"])
        assert not publish_sealed(run.path / "prior", [b"other weights"])
        assert run.find_file("prior") == read_published(run.path / "prior") == b"weights"
        (run.path / "prior").write_bytes((run.path / "prior").read_bytes()[:-1] + b"!")
        with pytest.raises(RunError, match="checksum"):
            read_published(run.path / "prior")
        assert run.find_file("prior") is None
        assert "prior" in caplog.text
        assert publish_sealed(run.path / "prior", [b"weights"])


FITS = """
import os, signal, sys
from pathlib import Path
import numpy as np
from dip_pipeline.engine import RunDirectory, WorkerOptions, map_items
path, kill_at = Path(sys.argv[1]), int(sys.argv[2])
with RunDirectory.open(path / "out.dip", {"seed": 1}) as run:
    def fit(index):
        if index == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        with (path / "fitted").open("a") as log:
            print(index, file=log)
        pixels = np.random.default_rng([1, index]).normal(size=(4, 4))
        run.tiles.publish(index, {"science": pixels}, {"index": index})
    todo = [index for index in range(6) if index not in run.tiles.keys()]
    for _ in map_items(fit, todo, WorkerOptions()):
        pass
    if kill_at > 5:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_anywhere_the_same_command_ends_with_the_same_tiles_and_fits_none_twice(tmp_path):
    def command(folder, kill_at):
        folder.mkdir(exist_ok=True)
        subprocess.run([sys.executable, "-c", FITS, folder, str(kill_at)], check=False)
        tiles = (folder / "out.dip" / "tiles").glob("*/*.tile")
        return {path.name: path.read_bytes() for path in tiles}

    undisturbed = command(tmp_path / "undisturbed", -1)
    assert len(undisturbed) == 6
    disturbed = tmp_path / "disturbed"
    for kill_at, n_tiles in ((0, 0), (2, 2), (5, 5), (9, 6)):
        assert len(command(disturbed, kill_at)) == n_tiles
    assert command(disturbed, -1) == undisturbed
    assert (disturbed / "fitted").read_text().split() == ["0", "1", "2", "3", "4", "5"]


def test_the_store_of_a_run_can_be_used_by_its_workers(tmp_path):
    with begin(tmp_path / "out.dip") as run:
        folder = run.tiles.folder

        def fit(index):
            return TileStore(folder).publish(index, {"flags": np.zeros(2, np.uint8)}, {})

        assert list(map_items(fit, [0, 1, 1], WorkerOptions())) == [True, True, False]
        assert list(finished(run.tiles)) == [0, 1]


def refused(path, *, begun, shard=None, error=ConfigError):
    with RunDirectory.open(path, {"seed": 1}, shard=shard) as run:
        if begun == "a tile":
            run.tiles.publish(0, {"science": np.ones((2, 2))}, {})
        if begun == "a prior":
            publish_sealed(run.path / "prior-1.keyed", [b"weights"])
        lock = run.alone_at("prior-1.keyed")
        try:
            raise error("cannot be used")
        finally:
            lock.release()


@pytest.mark.parametrize("error", [ConfigError, RestorationError])
@pytest.mark.parametrize("begun", ["", "a tile", "a prior"])
def test_what_cannot_be_used_leaves_no_folder_where_nothing_was_begun(tmp_path, begun, error):
    path = tmp_path / "out.fits.dip"
    for _ in range(2):
        with pytest.raises(error):
            refused(path, begun=begun, error=error)
        assert path.exists() is bool(begun)


def test_options_that_cannot_be_used_leave_the_folder_to_other_shards(tmp_path):
    path = tmp_path / "out.fits.dip"
    with RunDirectory.open(path, {"seed": 1}, shard=Shard.parse("1/2")) as first:
        with contextlib.suppress(ConfigError):
            refused(path, begun="", shard=Shard.parse("2/2"))
        assert first.tiles.publish(0, {"science": np.ones((2, 2))}, {})


def test_options_that_cannot_be_used_leave_what_an_earlier_run_made(tmp_path):
    path = tmp_path / "out.fits.dip"
    with RunDirectory.open(path, {"seed": 1}) as run:
        run.tiles.publish(0, {"science": np.ones((2, 2))}, {})
    with pytest.raises(ConfigError):
        refused(path, begun="")
    assert finished(RunDirectory.open(path, {"seed": 1}).tiles) == {0: {}}
