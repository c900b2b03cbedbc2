"""Laws of `dip status` and `dip clean`: what they say, and the exit code."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.cli.status import describe
from dip_pipeline.engine import RunDirectory, Shard
from dip_pipeline.engine.run_lock import Owner
from dip_pipeline.engine.status import RunStatus
from dip_pipeline.frames import RestoredPlanes, open_frame, save_frame
from tests.frames.conftest import provenance

__all__ = ["provenance"]  # the fixture

ABOUT = {"source": "/sky/a.fits", "target": "/sky/b.fits", "tiles": 3}


@pytest.fixture
def frame(tmp_path):
    fits.PrimaryHDU(np.ones((9, 9), "f4")).writeto(tmp_path / "a.fits")
    return open_frame(tmp_path / "a.fits")


def begin(folder):
    run = RunDirectory.open(folder / "b.fits.dip", {"seed": 1}, about=ABOUT)
    run.tiles.publish(0, {"science": np.ones((2, 2))}, {"failed": False})
    return run


def test_a_run_is_named_by_its_output_or_its_folder(dip, tmp_path):
    with begin(tmp_path) as run:
        run.tell("fit", step=2, steps=10)
        for name in (tmp_path / "b.fits", run.path, f"{run.path}/"):
            code, out, err = dip("status", name)
            assert (code, err) == (0, "")
            for words in ("running, 1 of 3 tiles done", "/sky/a.fits", "fit, step 2 of 10"):
                assert words in out
        code, out, err = dip("clean", run.path)
        assert code == 1
        assert "already being run by" in err
        assert "Traceback" not in err
    code, out, _ = dip("status", run.path)
    assert code == 0
    assert "interrupted, 1 of 3 tiles done" in out
    assert "the same command goes on with it" in out
    code, out, _ = dip("clean", tmp_path / "b.fits")
    assert code == 0
    assert "deleted, with 1 finished tiles" in out
    assert not run.path.exists()


def test_a_shard_that_is_awaited_is_told_from_one_that_broke_off(dip, tmp_path):
    folder = tmp_path / "b.fits.dip"
    with RunDirectory.open(folder, {"seed": 1}, about=ABOUT, shard=Shard(1, 3)) as run:
        run.tiles.publish(0, {"science": np.ones((2, 2))}, {"failed": False})
    _, out, _ = dip("status", folder)
    assert f"{folder}: waiting, 1 of 3 tiles done" in out
    assert "nobody is at it; shards 2, 3 of 3 are left" in out
    assert "broken off" not in out
    RunDirectory.open(folder, {"seed": 1}, about=ABOUT, shard=Shard(3, 3)).release()
    _, out, _ = dip("status", folder)
    assert f"{folder}: interrupted, 1 of 3 tiles done" in out
    assert "broken off: shard 3 of 3, tiles are missing" in out


def test_nothing_but_a_lock_is_deleted_in_so_many_words(dip, tmp_path):
    (tmp_path / "b.fits.dip").mkdir()
    (tmp_path / "b.fits.dip" / "lock").touch()
    code, out, err = dip("clean", tmp_path / "b.fits")
    assert (code, err) == (0, "")
    assert "nothing of a run was left in it" in out
    assert not (tmp_path / "b.fits.dip").exists()


def test_what_is_no_run_does_not_stop_the_next(dip, tmp_path):
    begin(tmp_path).release()
    for command in ("status", "clean"):
        code, out, err = dip(command, tmp_path / "none.fits", tmp_path / "b.fits")
        assert code == 1
        assert "none.fits.dip" in err
        assert "b.fits.dip" in out


@pytest.mark.parametrize("name", [".", "/", "", "night"])
def test_a_folder_of_results_is_no_run_and_its_runs_are_named(dip, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "night").mkdir()
    begin(tmp_path / "night").release()
    for command in ("clean", "finish"):
        code, out, err = dip(command, name)
        assert (code, out) == (1, "")
        assert f"a folder, not a run; name a run in it, {Path(name) / '*.dip'}" in err
    assert (tmp_path / "night" / "b.fits.dip").is_dir()


def test_a_summary_stands_for_its_folder(dip, tmp_path):
    begin(tmp_path).release()
    (tmp_path / "summary.json").write_text('{"frames": []}')
    assert dip("status", tmp_path / "summary.json") == dip("status", tmp_path)


def test_a_product_is_finished_and_there_is_nothing_to_delete(dip, tmp_path, frame, provenance):
    target = tmp_path / "b.fits"
    planes = RestoredPlanes(*(np.ones(frame.shape, kind) for kind in ("f4", "f4", "u1")))
    save_frame(target, frame, planes, provenance=provenance)
    before = target.read_bytes()
    code, out, err = dip("status", target)
    assert (code, err) == (0, "")
    assert out == f"{target}: finished; dip provenance {target} tells how it was made\n"
    code, out, err = dip("clean", target)
    assert (code, err) == (0, "")
    assert "nothing to delete" in out
    code, out, err = dip("finish", target)
    assert (code, out, err) == (0, f"{target}: already done\n", "")
    assert target.read_bytes() == before
    code, _, err = dip("status", frame.path)  # no product
    assert code == 1
    assert "no scratch folder" in err


def test_who_is_at_it_in_several_shards_is_told_once():
    owner = Owner(7, "here", "now", 0.0)
    status = RunStatus(
        Path("b.fits.dip"), "running", (owner, owner), "id", "today", ABOUT, {}, 1, 0, None, 0
    )
    assert describe(status).count("at it:") == 1
