"""Laws of running items: options that cannot be are refused, inline is this process alone."""

import itertools
import os
import subprocess
import sys
from contextlib import contextmanager

import psutil
import pytest

from dip_pipeline.engine import (
    ExecutorKind,
    Job,
    WorkerOptions,
    map_items,
    open_when_needed,
    run_items,
)
from dip_pipeline.engine.executors import EXECUTORS, InlinePool
from dip_pipeline.errors import ConfigError, StoppedError

LOCAL = ExecutorKind.LOCAL


def test_every_kind_has_its_executor():
    assert set(EXECUTORS) == set(ExecutorKind)


def test_inline_gives_every_result_and_draws_one_item_at_a_time():
    drawn = []

    def items():
        for number in itertools.count():
            drawn.append(number)
            yield number

    results = map_items(lambda number: number * number, items(), WorkerOptions())
    assert drawn == []
    assert [next(results) for _ in range(4)] == [0, 1, 4, 9]
    assert drawn == [0, 1, 2, 3]


def test_inline_starts_no_process_and_opens_no_socket():
    me = psutil.Process()
    sockets, children = me.net_connections(kind="all"), me.children()

    def run(_):
        return os.getpid(), me.net_connections(kind="all"), me.children()

    for process_id, now_sockets, now_children in map_items(run, range(3), WorkerOptions()):
        assert process_id == os.getpid()
        assert now_sockets == sockets
        assert now_children == children


def test_what_the_function_raises_comes_out():
    def run(number):
        raise ZeroDivisionError(number)

    with pytest.raises(ZeroDivisionError):
        list(map_items(run, [1], WorkerOptions()))


def test_importing_the_room_loads_neither_dask_nor_torch():
    code = (
        "import sys, dip_pipeline.engine; print({'dask', 'distributed', 'torch'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("options", "slots", "device"),
    [
        ({}, 1, "cpu"),
        ({"devices": ("cuda:1",)}, 1, "cuda:1"),
        ({"executor": LOCAL, "workers": 3}, 3, "cpu"),
        ({"executor": LOCAL, "threads_per_fit": 10_000}, 1, "cpu"),
        ({"executor": LOCAL, "devices": ("cuda:0", "cuda:1")}, 2, "cuda:0"),
        ({"executor": LOCAL, "devices": ("cuda:1",)}, 1, "cuda:0"),
    ],
)
def test_slots_and_device_follow_from_the_options(options, slots, device):
    assert WorkerOptions(**options).slots == slots
    assert WorkerOptions(**options).item_device == device


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"executor": LOCAL, "workers": 0}, "--workers 0"),
        ({"workers": 2}, "--executor local"),
        ({"threads_per_fit": 0}, "--threads-per-fit 0"),
        ({"devices": ()}, "--device"),
        ({"devices": ("tpu",)}, "--device tpu"),
        ({"devices": ("cuda:x",)}, "--device cuda:x"),
        ({"devices": ("cpu", "cuda:0")}, "not both"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_line(options, named):
    with pytest.raises(ConfigError, match=named) as caught:
        WorkerOptions(**options)
    assert "\n" not in str(caught.value)


def test_a_pool_that_is_opened_when_needed_is_not_opened_for_nothing():
    asked = []

    def options():
        asked.append(1)
        return WorkerOptions()

    with open_when_needed(ExecutorKind.INLINE, options) as pool:
        assert asked == []
        pool.stop()
        assert asked == []
    with open_when_needed(ExecutorKind.INLINE, options) as pool:
        assert list(run_items(pool, Job(lambda number: number + 1), range(3))) == [1, 2, 3]
        assert pool.options == WorkerOptions()
    assert asked == [1]


def test_a_pool_that_was_stopped_before_it_was_opened_begins_no_item():
    with open_when_needed(ExecutorKind.INLINE, WorkerOptions) as pool:
        pool.stop()
        with pytest.raises(StoppedError):
            list(run_items(pool, Job(lambda number: number), range(3)))


def test_a_pool_that_was_opened_is_closed_with_what_it_ended_by(monkeypatch):
    ended = []

    @contextmanager
    def opened(*_):
        try:
            yield InlinePool(WorkerOptions())
        except ValueError as error:
            ended.append(error)
            raise

    monkeypatch.setitem(EXECUTORS, ExecutorKind.INLINE, opened)
    failure = ValueError("stop")

    def use():
        with open_when_needed(ExecutorKind.INLINE, WorkerOptions) as pool:
            assert pool.options
            raise failure

    with pytest.raises(ValueError, match="stop"):
        use()
    assert ended == [failure]
