"""Laws of frames that come in: taken once, when they are whole, again when they have changed."""

import os

import pytest

from dip_pipeline.batch.arrivals import SETTLED_S, Arrivals, looks_of


@pytest.fixture
def clock():
    class Clock:
        seconds = 0.0
        now = 1e9

        def wait(self, seconds):
            self.seconds += seconds
            self.now += seconds

    return Clock()


@pytest.fixture
def arrivals(clock):
    return Arrivals(lambda: clock.seconds, lambda: clock.now)


def written(path, content, changed):
    path.write_bytes(content)
    os.utime(path, (changed, changed))
    return str(path)


def test_what_was_there_before_is_taken_at_once_and_once(arrivals, clock, tmp_path):
    old = written(tmp_path / "a.fits", b"x", clock.now - SETTLED_S)
    assert arrivals.fresh([old]) == [old]
    assert arrivals.has_taken(old)
    clock.wait(100)
    assert arrivals.fresh([old]) == []


def test_what_is_being_written_waits_until_it_has_not_changed(arrivals, clock, tmp_path):
    growing = tmp_path / "a.fits"
    for size in range(1, 5):
        written(growing, b"x" * size, clock.now)
        assert arrivals.fresh([str(growing)]) == []
        assert not arrivals.has_taken(str(growing))
        clock.wait(SETTLED_S - 1)
    assert arrivals.fresh([str(growing)]) == []
    clock.wait(1)
    assert arrivals.fresh([str(growing)]) == [str(growing)]


@pytest.mark.parametrize("ahead_s", [3600.0, -3.0])
def test_another_clock_on_the_disk_does_not_matter(arrivals, clock, tmp_path, ahead_s):
    source = written(tmp_path / "a.fits", b"x", clock.now + ahead_s)
    assert arrivals.fresh([source]) == []
    clock.wait(SETTLED_S)
    assert arrivals.fresh([source]) == [source]


def test_one_that_failed_is_taken_again_when_it_has_changed(arrivals, clock, tmp_path):
    path = tmp_path / "a.fits"
    written(path, b"half", clock.now - 60)
    assert arrivals.fresh([str(path)]) == [str(path)]
    clock.wait(60)
    assert arrivals.fresh([str(path)]) == []
    written(path, b"whole file", clock.now - 30)
    assert arrivals.fresh([str(path)]) == [str(path)]


def test_one_that_is_restored_is_left_alone_whatever_becomes_of_its_file(arrivals, clock, tmp_path):
    path = tmp_path / "a.fits"
    written(path, b"x", clock.now - 60)
    assert arrivals.fresh([str(path)]) == [str(path)]
    arrivals.done(str(path))
    written(path, b"another", clock.now - 30)
    assert arrivals.fresh([str(path)]) == []
    assert arrivals.has_taken(str(path))


def test_what_is_not_there_or_empty_is_not_whole(arrivals, clock, tmp_path):
    empty = written(tmp_path / "empty.fits", b"", clock.now - 60)
    missing = str(tmp_path / "missing.fits")
    assert arrivals.fresh([empty, missing]) == []
    clock.wait(60)
    assert arrivals.fresh([empty, missing]) == []
    written(tmp_path / "missing.fits", b"x", clock.now - 60)
    assert arrivals.fresh([empty, missing]) == [missing]


def test_planes_of_one_file_come_in_together(arrivals, clock, tmp_path):
    path = written(tmp_path / "a.fits", b"x", clock.now - 60)
    chips = [f"{path}[SCI,1]", f"{path}[SCI,2]"]
    assert arrivals.fresh(chips) == chips


def test_a_group_is_looked_at_with_all_that_is_in_it(arrivals, clock, tmp_path):
    group = tmp_path / "a.zarr"
    (group / "SCI" / "c").mkdir(parents=True)
    written(group / "zarr.json", b"{}", clock.now - 60)
    written(group / "SCI" / "c" / "0", b"chunk", clock.now)
    assert arrivals.fresh([str(group)]) == []
    clock.wait(SETTLED_S - 1)
    written(group / "SCI" / "c" / "1", b"chunk", clock.now - 3)
    assert arrivals.fresh([str(group)]) == []
    clock.wait(SETTLED_S - 3)
    assert arrivals.fresh([str(group)]) == [str(group)]
    assert looks_of(group).files == 3
