"""Laws of packets: items done together give what each gives alone, and share no fate."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest
from distributed import Client

from dip_pipeline.engine import (
    ExecutorKind,
    Job,
    WorkerOptions,
    map_items,
    open_pool,
    run_items,
    worker_process,
)
from dip_pipeline.engine.worker_process import Done, Lost, Notes, attempt
from dip_pipeline.errors import BrokenProcessError, DiskFullError, RunError

INLINE = WorkerOptions()
TWO = WorkerOptions(ExecutorKind.LOCAL, workers=2)


def run_all(job, items, options):
    with open_pool(options, few=True) as pool:
        return list(run_items(pool, job, items, key=lambda n: f"tile {n}"))


@pytest.mark.parametrize("options", [INLINE, TWO], ids=["inline", "local"])
def test_every_item_is_in_one_packet_and_none_is_larger_than_was_said(tmp_path, options):
    def together(numbers):
        (tmp_path / "-".join(map(str, numbers))).touch()
        return [n * n for n in numbers]

    job = Job(lambda n: n * n, together=together, packet=4)
    assert sorted(run_all(job, range(10), options)) == [n * n for n in range(10)]
    packets = [[int(n) for n in path.name.split("-")] for path in tmp_path.iterdir()]
    assert sorted(packets) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_member_that_kills_its_process_takes_no_other_with_it(tmp_path):
    """Nobody can tell who it was, so after that each is on its own."""

    def note(word, number):
        with (tmp_path / f"{word}-{number}").open("a") as log:
            log.write("x")

    def run(number):
        note("alone", number)
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    def together(numbers):
        for number in numbers:
            note("together", number)
        if 2 in numbers:
            os.kill(os.getpid(), signal.SIGKILL)
        return list(numbers)

    job = Job(run, on_lost=lambda n: -n, together=together, packet=4)
    assert sorted(run_all(job, range(8), TWO)) == [-2, 0, 1, 3, 4, 5, 6, 7]
    starts = {path.name: len(path.read_text()) for path in tmp_path.iterdir()}
    assert starts["together-2"] == 1
    assert starts["alone-2"] == 2  # lost after three starts in all
    assert all(starts[f"together-{n}"] == 1 for n in range(8))
    assert all(starts[f"alone-{n}"] == 1 for n in (0, 1, 3))
    assert not any(f"alone-{n}" in starts for n in range(4, 8))


def test_a_process_that_is_broken_is_replaced_and_its_item_done_by_another(tmp_path):
    def run(number):
        try:
            (tmp_path / f"broken-{number}").touch(exist_ok=number != 1)
        except FileExistsError:
            return number, os.getpid()
        if number == 1:
            (tmp_path / "process").write_text(str(os.getpid()))
            raise BrokenProcessError("cuda:0 does not answer any more")
        return number, os.getpid()

    results = dict(map_items(run, range(4), TWO))
    assert sorted(results) == [0, 1, 2, 3]
    assert str(results[1]) != (tmp_path / "process").read_text()


def test_without_worker_processes_a_broken_one_is_the_end_in_one_line():
    def run(number):
        raise BrokenProcessError("cuda:0 does not answer any more")

    with pytest.raises(RunError, match="does not answer") as caught:
        list(map_items(run, [0], INLINE))
    assert "\n" not in str(caught.value)


@pytest.fixture
def tasks(monkeypatch):
    """How many items every task has that Dask is given."""
    counts = []
    submit = Client.submit

    def counted(self, *arguments, **options):
        counts.append(len(arguments[2]))
        return submit(self, *arguments, **options)

    monkeypatch.setattr(Client, "submit", counted)
    return counts


def test_items_that_take_no_time_share_a_task(tasks):
    assert sorted(map_items(str, range(600), TWO)) == sorted(map(str, range(600)))
    assert len(tasks) < 200


def test_items_that_take_time_have_a_task_each(tasks):
    list(map_items(time.sleep, [0.03] * 12, TWO))
    assert tasks == [1] * 12


def test_long_items_among_short_ones_are_left_to_whoever_is_free(tmp_path):
    """The corner of a mosaic holds nothing to restore, and then there is the sky."""

    def run(number):
        if number >= 100:
            time.sleep(0.4)
        with (tmp_path / f"{number}").open("a") as log:
            log.write(f"{os.getpid()} ")
        return number

    assert sorted(map_items(run, range(106), TWO)) == list(range(106))
    by = [(tmp_path / f"{number}").read_text().split() for number in range(106)]
    assert all(len(processes) == 1 for processes in by)
    long = [processes[0] for processes in by[100:]]
    assert max(long.count(process) for process in set(long)) <= 5


@pytest.mark.parametrize("options", [INLINE, TWO], ids=["inline", "local"])
def test_many_short_items_in_one_task_are_no_packet(options):
    """They would be done by what is for another sort of items."""
    job = Job(lambda _: "one", together=lambda some: ["together"] * len(some), packet=1)
    assert run_all(job, range(120), options) == ["one"] * 120


@pytest.mark.parametrize("keeps", [True, False])
def test_a_result_is_left_once_and_one_that_is_not_kept_may_be_computed_anew(tmp_path, keeps):
    notes = Notes(tmp_path / "tile", keeps_result=keeps)
    assert notes.fresh
    assert notes.begin()
    assert not notes.fresh
    done = Done(42, 1.0)
    assert notes.finish(done) == (None if keeps else done)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tile.result", "tile.start0"]
    assert notes.begin() is not keeps
    if keeps:
        assert notes.result() == done
        notes.forget()
        assert (notes.starts, notes.done, notes.fresh, notes.begin()) == (0, True, False, False)
        assert (tmp_path / "tile.result").stat().st_size == 0


def test_an_item_is_begun_three_times_and_never_once_all_is_stopped(tmp_path):
    notes = Notes(tmp_path / "tile")
    assert [notes.begin() for _ in range(4)] == [True, True, True, False]
    assert notes.starts == 3
    other = Notes(tmp_path / "other")
    Notes.stop_all(tmp_path)
    assert not other.begin()
    assert other.starts == 0


def test_a_result_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    notes = Notes(tmp_path / "tile")

    def full(self, target):
        raise OSError(errno.ENOSPC, "no space left", str(target))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DiskFullError, match="more room"):
        notes.finish(Done(1, 1.0))
    assert not notes.done


def test_in_a_packet_are_those_alone_that_were_never_begun(tmp_path):
    """And a packet's seconds are shared by its members."""
    packets, alone = [], []

    def together(numbers):
        packets.append(list(numbers))
        time.sleep(0.2)
        return [10 * n for n in numbers]

    def run(n):
        alone.append(n)
        return 10 * n

    entries = [(n, Notes(tmp_path / f"{n}", keeps_result=False)) for n in range(4)]
    entries[0][1].begin()
    found = attempt(Job(run, together=together, packet=4), entries)
    assert (packets, alone) == ([[1, 2, 3]], [0])
    assert [each.result for each in found] == [0, 10, 20, 30]
    assert sum(each.seconds for each in found[1:]) == pytest.approx(0.2, abs=0.15)


def test_the_first_item_is_done_and_the_rest_left_to_others_when_it_takes_long(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(worker_process, "_LONG_S", -1.0)
    entries = [(n, Notes(tmp_path / f"{n}", keeps_result=False)) for n in range(3)]
    found = attempt(Job(lambda n: n), entries)
    assert [type(each) for each in found] == [Done, Lost, Lost]
    assert [notes.starts for _, notes in entries] == [1, 0, 0]
