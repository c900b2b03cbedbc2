"""Laws of packets: items done together give what each gives alone, and share no fate."""

import os
import signal
import time

import pytest
from distributed import Client

from dip_pipeline.engine import ExecutorKind, Job, WorkerOptions, map_items, open_pool, run_items
from dip_pipeline.errors import BrokenProcessError, RunError

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
