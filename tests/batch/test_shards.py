"""Laws of shards: together they are the whole, whatever their order, and nothing is done twice."""

import threading

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.batch.batch import Job, restore_frames
from dip_pipeline.config import RunConfig
from dip_pipeline.engine import Shard, read_status
from dip_pipeline.errors import ConfigError, RunError
from dip_pipeline.night.unmade import word_of
from dip_pipeline.pipeline import finish_run, restore_frame, scratch_of
from dip_pipeline.restoration.problem import StopReason
from dip_pipeline.restoration.restore import unchanged
from dip_pipeline.runs import ways
from tests.stand_in import QUICK, arithmetic, planes

CONFIG = RunConfig().with_overrides(**QUICK)


@pytest.fixture
def frame(tmp_path):
    path = tmp_path / "in.fits"
    science = np.random.default_rng(3).normal(100, 7, (96, 112)).astype(np.float32)
    fits.PrimaryHDU(science, fits.Header({"GAIN": 2.0, "RDNOISE": 4.0})).writeto(path)
    return path


@pytest.fixture
def made(monkeypatch):
    origins = []

    def restore(problem, prior):
        origins.append(problem.origin)
        return arithmetic(problem, prior)

    monkeypatch.setattr(ways, "restore", restore)
    return origins


def run_shard(frame, target, text, config=CONFIG):
    report = restore_frames([Job(str(frame), target)], config, shard=Shard.parse(text))
    assert report.exit_code == 0, report.frames
    return report.frames[0].report


@pytest.mark.parametrize("order", [("1/3", "2/3", "3/3"), ("3/3", "1/3", "2/3", "2/3")])
def test_shards_and_finish_give_the_pixels_of_one_run(frame, made, tmp_path, order):
    whole, target = tmp_path / "whole.fits", tmp_path / "out.fits"
    restore_frame(str(frame), whole, CONFIG)
    made.clear()
    for text in order:
        assert run_shard(frame, target, text).status == "part done"
        assert not target.exists()
    assert len(made) == len(set(made)) == 9
    made.clear()
    assert finish_run(scratch_of(target)).status == "restored"
    assert made == []
    assert planes(target) == planes(whole)
    assert not scratch_of(target).exists()
    assert restore_frame(str(frame), target, CONFIG).status == "already done"


def test_shards_at_the_same_time_restore_no_tile_twice(frame, made, tmp_path):
    target = tmp_path / "out.fits"
    threads = [
        threading.Thread(target=run_shard, args=(frame, target, f"{n}/4")) for n in range(1, 5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == len(set(made)) == 9
    assert finish_run(scratch_of(target)).found_done == 9


def test_a_run_that_is_not_all_there_is_not_finished_unless_asked(frame, made, tmp_path):
    target = tmp_path / "out.fits"
    run_shard(frame, target, "2/3")
    with pytest.raises(RunError, match="6 of 9 tiles are missing, the first is tile 0"):
        finish_run(scratch_of(target))
    assert not target.exists()
    assert read_status(scratch_of(target)).tiles_done == 3
    report = finish_run(scratch_of(target), complete=True)
    assert (report.found_done, report.tiles) == (3, 9)
    assert len(made) == 9


def test_a_folder_that_was_moved_is_finished_where_it_is(frame, made, tmp_path):
    run_shard(frame, tmp_path / "out.fits", "1/1")
    (tmp_path / "elsewhere").mkdir()
    moved = scratch_of(tmp_path / "elsewhere" / "new.fits")
    scratch_of(tmp_path / "out.fits").rename(moved)
    report = finish_run(moved)
    assert report.target == tmp_path / "elsewhere" / "new.fits"
    assert report.target.exists()


def test_a_whole_run_goes_on_with_what_shards_have_done(frame, made, tmp_path):
    target = tmp_path / "out.fits"
    run_shard(frame, target, "1/3")
    report = restore_frame(str(frame), target, CONFIG)
    assert (report.status, report.found_done) == ("restored", 3)
    assert len(made) == 9


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "1/3/5"])
def test_a_part_that_cannot_be_is_refused(text):
    with pytest.raises(ConfigError, match="need I/N"):
        Shard.parse(text)


def test_a_shard_says_how_many_tiles_are_missing_yet(frame, made, tmp_path):
    target = tmp_path / "out.fits"
    found = [run_shard(frame, target, part) for part in ("2/3", "1/3", "3/3")]
    assert [(each.tiles, each.found_done, each.missing_tiles) for each in found] == [
        (9, 0, 6), (9, 3, 3), (9, 6, 0),
    ]  # fmt: skip


def test_every_item_is_of_one_shard_alone():
    shards = [Shard(number, 5) for number in range(1, 6)]
    assert all(sum(shard.has(index) for shard in shards) == 1 for index in range(101))


def test_a_run_in_shards_says_which_are_left_and_what_goes_on_with_it(frame, made, tmp_path):
    target = tmp_path / "out.fits"
    run_shard(frame, target, "2/3")
    status = read_status(scratch_of(target))
    assert (status.shards, status.shards_left) == (3, (1, 3))
    assert status.way_on.startswith("shards 1, 3 of 3 are left (--shard 1/3 and so on)")
    assert "dip finish --complete" in status.way_on
    (told,) = word_of([tmp_path]).unmade
    assert (told.status, status.way_on in told.why) == ("unfinished", True)
    run_shard(frame, target, "1/3")
    left = read_status(scratch_of(target)).way_on
    assert left.startswith("shard 3 of 3 is left (--shard 3/3), or dip finish --complete")
    run_shard(frame, target, "3/3")
    done = read_status(scratch_of(target))
    assert done.shards_left == ()
    assert done.way_on == f"dip finish {scratch_of(target)} writes it"
    assert "9 of 9 tiles are done; dip finish" in word_of([tmp_path]).unmade[0].why


def test_tiles_that_shards_copied_through_are_told_before_the_product_is_written(
    frame, monkeypatch, tmp_path
):
    def fails(problem, prior):
        return unchanged(problem, StopReason.DIVERGED)

    monkeypatch.setattr(ways, "restore", fails)
    target = tmp_path / "out.fits"
    restore_frames([Job(str(frame), target)], CONFIG, shard=Shard.parse("2/3"))
    (told,) = word_of([tmp_path]).unmade
    assert "3 of 9 tiles are done, 3 of them FAILED and copied; shards 1, 3" in told.why
