"""Laws of what is with a scheduler, whatever becomes of it there; one plays its part here."""

import contextlib

import pytest
from distributed.scheduler import KilledWorker

from dip_pipeline.engine.dask_pool import DaskPool
from dip_pipeline.engine.dask_work import Work
from dip_pipeline.engine.executors import Job
from dip_pipeline.engine.options import ExecutorKind, WorkerOptions
from dip_pipeline.engine.worker_process import MAX_STARTS
from dip_pipeline.errors import RunError, StoppedError


class Pool:
    stopped = False
    keeps_results = False

    def window(self, _client):
        return 2

    def __init__(self):
        self.looks = 0

    def check(self):
        self.looks += 1
        assert self.looks < 4, "waits for what never comes"


class Future:
    """What has ended as soon as anybody wants to be told; `lost` so many times before."""

    def __init__(self, work, lost=0):
        self._work, self._lost = work, lost
        self.status = "lost" if lost else "finished"

    def add_done_callback(self, tell):
        if self.status == "lost" and self._lost == 0:
            self.status = "finished"
        self._lost -= 1
        tell(self)

    def result(self):
        return self._work()

    def release(self):
        """Nobody asks for it any more."""

    cancel = release


class Client:
    """Workers that die over `dying` before they begin it, at some submissions of it."""

    status = "running"

    def __init__(self, dying=None, deaths=0, lost=0):
        self.dying, self.deaths, self.lost = dying, deaths, lost
        self.keys = []

    def submit(self, attempt, job, entries, **more):
        self.keys.append(more["key"])
        if entries[0][0] == self.dying and self.deaths > 0:
            self.deaths -= 1
            return Future(self._die)
        return Future(lambda: attempt(job, entries), self.lost)

    def _die(self):
        raise KilledWorker("key", None, 3)


def results(client, folder, count=4):
    job = Job(lambda number: number * 10)
    items = [(f"item {number}", number) for number in range(count)]
    work = Work(Pool(), client, job, folder)
    try:
        return sorted(work.results(items[:2], iter(items[2:])))
    finally:
        work.forget()


@pytest.mark.parametrize("deaths", range(MAX_STARTS))
def test_what_workers_died_over_before_they_began_it_is_done_by_others(tmp_path, deaths):
    client = Client(dying=1, deaths=deaths)
    assert results(client, tmp_path) == [0, 10, 20, 30]
    assert sum("item-1-" in key for key in client.keys) == 1 + deaths
    assert len(set(client.keys)) == len(client.keys)  # Dask would give what became of the first


def test_workers_that_die_before_they_begin_anything_end_the_work(tmp_path):
    client = Client(dying=1, deaths=50)
    with pytest.raises(RunError, match="item 1: the workers die before they begin it"):
        results(client, tmp_path)
    assert client.deaths == 50 - MAX_STARTS


def test_a_result_that_died_with_its_worker_is_waited_for_again(tmp_path):
    assert results(Client(lost=2), tmp_path) == [0, 10, 20, 30]


class Endless(Client):
    """Workers that begin what they are given, two at a time, and end the first alone."""

    keeps_results = False

    def __init__(self):
        super().__init__()
        self.cancelled, self.looks = 0, 0

    @property
    def status(self):
        self.looks += 1
        return "running" if self.looks < 6 else "gone: nobody was told"

    def submit(self, attempt, job, entries, **more):
        future = super().submit(attempt, job, entries, **more)
        if len(self.keys) > 1:
            future.add_done_callback = lambda _tell: None
        future.cancel = self._cancel
        return future

    def _cancel(self):
        self.cancelled += 1

    def connect(self, _items, _folder):
        return contextlib.nullcontext(self)

    def slots(self, _client):
        return 2


def test_few_items_are_with_a_scheduler_and_none_stays_there_when_nobody_asks_for_them():
    client, drawn = Endless(), []

    def items():
        for number in range(100):
            drawn.append(number)
            yield f"item {number}", number

    with DaskPool(WorkerOptions(ExecutorKind.LOCAL, 2), client, few=False) as pool:
        found = pool.run(Job(lambda number: -number), items())
        assert next(found) == 0
        assert len(client.keys) <= 2 * 2 + 1  # one that runs and one that waits, for each
        assert len(drawn) <= 40  # short ones are drawn as one
        left = len(client.keys) - 1
        found.close()
        assert client.cancelled == left > 1


def test_who_waits_for_a_pool_that_closes_is_told():
    client = Endless()
    pool = DaskPool(WorkerOptions(ExecutorKind.LOCAL, 2), client, few=False)
    found = pool.run(Job(lambda number: -number), [(f"item {n}", n) for n in range(3)])
    assert next(found) == 0
    pool.__exit__(None, None, None)
    with pytest.raises(StoppedError, match="the same command resumes"):
        next(found)
