"""Laws of the local executor: same results, nothing heard outside, a dead worker costs a retry.

The functions that run in the workers are defined inside the tests: those travel by value, so a
worker need not be able to import the tests.
"""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import dask.config
import numpy as np
import psutil
import pytest
from distributed.chaos import KillWorker
from distributed.diagnostics import nvml

from dip_pipeline.engine import ExecutorKind, Job, WorkerOptions, map_items, open_pool, run_items
from dip_pipeline.errors import RunError

TWO = WorkerOptions(ExecutorKind.LOCAL, workers=2)


def worker_processes():
    """Processes that were started here; those of Python itself stay as long as this one."""
    own = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
    started = psutil.Process().children(recursive=True)
    return [one for one in started if not any(name in " ".join(one.cmdline()) for name in own)]


def listening(process):
    connections = process.net_connections(kind="inet")
    return {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}


@pytest.fixture
def no_processes_left():
    yield
    assert worker_processes() == []


@pytest.mark.usefixtures("no_processes_left")
def test_local_gives_the_bytes_of_inline_from_several_processes_in_a_small_window():
    drawn = []

    def items(n):
        for number in range(n):
            drawn.append(number)
            yield number

    def run(number):
        time.sleep(0.05)
        noise = np.random.default_rng([5, number]).normal(size=100)
        return number, os.getpid(), noise.cumsum().tobytes()

    environment = dict(os.environ)
    inline = {number: pixels for number, _, pixels in map_items(run, range(12), WorkerOptions())}
    local, process_ids = {}, set()
    for count, (number, process_id, pixels) in enumerate(map_items(run, items(12), TWO), start=1):
        local[number] = pixels
        process_ids.add(process_id)
        assert len(drawn) <= count + 2 * TWO.slots
    assert local == inline
    assert len(process_ids) == 2
    assert os.getpid() not in process_ids
    assert dict(os.environ) == environment  # the nannies live in this process and set things


@pytest.mark.usefixtures("no_processes_left")
def test_nothing_listens_beyond_loopback_and_closing_ends_the_processes_at_once():
    results = map_items(time.sleep, itertools.chain([0, 0], itertools.repeat(100)), TWO)
    next(results)
    workers = worker_processes()
    assert len(workers) == 2
    for process in [psutil.Process(), *workers]:
        assert listening(process) <= {"127.0.0.1", "::1"}
    assert listening(psutil.Process())  # otherwise this test looks at the wrong place
    began = time.monotonic()
    results.close()
    assert time.monotonic() - began < 10
    assert worker_processes() == []


@pytest.mark.usefixtures("no_processes_left")
def test_a_killed_worker_costs_a_retry_of_its_item_and_of_no_other(tmp_path, caplog):
    def run(number):
        with (tmp_path / f"starts-{number}").open("a") as log:
            log.write("x")
        if number == 3 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
        return number

    assert sorted(map_items(run, range(8), TWO, key=lambda n: f"tile {n}")) == list(range(8))
    starts = {n: len((tmp_path / f"starts-{n}").read_text()) for n in range(8)}
    assert starts.pop(3) == 2
    assert set(starts.values()) == {1}
    assert [(r.name, r.getMessage()) for r in caplog.records if r.name != "asyncio"] == [
        ("dip_pipeline.engine.dask_work", "tile 3: done at start 2; its process died before")
    ]


@pytest.mark.usefixtures("no_processes_left")
def test_an_item_that_always_kills_its_worker_is_lost_after_three_and_takes_no_other(tmp_path):
    def run(number):
        with (tmp_path / f"starts-{number}").open("a") as log:
            log.write("x")
        if number in (2, 4):
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    results = map_items(run, range(8), TWO, on_lost=lambda number: -number)
    assert sorted(results) == [-4, -2, 0, 1, 3, 5, 6, 7]
    starts = [len((tmp_path / f"starts-{n}").read_text()) for n in range(8)]
    assert starts == [1, 1, 3, 1, 3, 1, 1, 1]


@pytest.mark.usefixtures("no_processes_left")
def test_a_lost_item_is_named_in_one_line_where_nobody_takes_its_place():
    def run(number):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RunError, match="tile 0: its worker process died 3 times") as caught:
        list(map_items(run, [0], TWO, key=lambda n: f"tile {n}"))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_processes_left")
def test_what_the_function_raises_comes_out_with_its_class():
    def run(number):
        if number == 1:
            raise RunError("tile 1: no good")
        return number

    with pytest.raises(RunError, match="tile 1: no good"):
        list(map_items(run, range(4), TWO))


@pytest.mark.usefixtures("no_processes_left")
def test_no_items_no_processes():
    began = time.monotonic()
    assert list(map_items(str, [], TWO)) == []
    assert time.monotonic() - began < 0.5


@pytest.mark.usefixtures("no_processes_left")
def test_every_worker_has_its_threads_and_one_gpu_of_those_this_process_may_see(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b,GPU-c")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")

    def run(_):
        time.sleep(0.2)
        return tuple(os.environ[n] for n in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"))

    options = WorkerOptions(ExecutorKind.LOCAL, threads_per_fit=3, devices=("cuda:2", "cuda"))
    assert set(map_items(run, range(6), options)) == {("GPU-c", "3"), ("GPU-a", "3")}
    with pytest.raises(RunError, match="--device cuda:3"):
        list(map_items(run, [0], WorkerOptions(ExecutorKind.LOCAL, devices=("cuda:3",))))


def test_dask_looks_for_no_gpus_of_its_own(monkeypatch):
    """It fails on such names as CUDA_VISIBLE_DEVICES may hold."""

    class Library:
        @staticmethod
        def nvmlInit():  # noqa: N802  (its name)
            raise AssertionError("asked for GPUs")

    monkeypatch.setattr(nvml, "pynvml", Library)
    monkeypatch.setattr(nvml, "NVML_STATE", nvml.NVMLState.UNINITIALIZED)

    def asked(_):
        return dask.config.get("distributed.diagnostics.nvml")

    assert list(map_items(asked, [0], TWO)) == [False]


INTERRUPTED = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run in the background
from dip_pipeline.engine import ExecutorKind, WorkerOptions, dask_work, map_items
dask_work.DRAIN_S = 0.5
if __name__ == "__main__":
    print("go", flush=True)
    try:
        for _ in map_items(time.sleep, [0, 0, *[100] * 6], WorkerOptions(ExecutorKind.LOCAL, 2)):
            print("done", flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize("when", ["starting", "running"])
def test_ctrl_c_ends_the_run_and_its_processes_soon_and_without_a_word(tmp_path, when):
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    with subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    ) as main:
        assert main.stdout.readline() == "go\n"
        if when == "running":
            assert main.stdout.readline() == "done\n"
        else:
            deadline = time.monotonic() + 20  # two workers and multiprocessing's own helper
            while len(psutil.Process(main.pid).children()) < 3 and time.monotonic() < deadline:
                time.sleep(0.01)
        children = psutil.Process(main.pid).children(recursive=True)
        assert children
        os.killpg(main.pid, signal.SIGINT)  # what a terminal does
        _, messages = main.communicate(timeout=30)
    assert main.returncode == 130
    assert messages == ""
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


@pytest.mark.usefixtures("no_processes_left")
def test_a_worker_that_is_killed_while_it_starts_costs_nothing():
    killed = []

    def kill_the_first():
        deadline = time.monotonic() + 20
        while not killed and time.monotonic() < deadline:
            for child in worker_processes():
                child.kill()
                killed.append(child.pid)
                break
            time.sleep(0.01)

    thread = threading.Thread(target=kill_the_first)
    thread.start()
    assert sorted(map_items(str, range(4), TWO)) == ["0", "1", "2", "3"]
    thread.join()
    assert killed


@pytest.mark.usefixtures("no_processes_left")
def test_a_dashboard_that_is_asked_for_is_on_loopback_or_missed_with_a_word(caplog):
    options = WorkerOptions(ExecutorKind.LOCAL, workers=1, dashboard=True)

    def run(_):
        return None

    for _ in map_items(run, [0], options):
        assert listening(psutil.Process()) <= {"127.0.0.1", "::1"}
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "bokeh is not installed" in said or "http://127.0.0.1:" in said


@pytest.mark.slow
@pytest.mark.usefixtures("no_processes_left")
def test_workers_that_dask_itself_kills_again_and_again_do_all_the_work_once(tmp_path):
    """Each at a random time: of one round in fifty none is killed, and another one is run."""
    rounds = [range(first, first + 240) for first in range(0, 960, 240)]

    def run(number):
        time.sleep(0.05)
        with (tmp_path / str(number)).open("a") as log:
            log.write(f"{os.getpid()}\n")
        return number

    with open_pool(TWO) as pool:
        assert list(run_items(pool, Job(run), [99])) == [99]  # so that there are workers
        # Long beside what a busy machine takes to start one with the item that the last one lost:
        # an item whose worker dies three times is given up.
        pool._client.register_plugin(KillWorker(delay="3 s", mode="segfault"), name="killer")
        for items in rounds:
            assert sorted(run_items(pool, Job(run), items)) == list(items)
            runs = [(tmp_path / str(number)).read_text().split() for number in items]
            if len({process for processes in runs for process in processes}) > 2:
                break
    done = [len(processes) for processes in runs]
    assert len({process for processes in runs for process in processes}) > 2
    assert sum(done) <= 1.5 * len(items)  # those in flight when a worker ended
    assert min(done) == 1


def test_a_script_without_a_guard_ends_in_a_line_that_says_so(tmp_path):
    """Each worker process loads the script, and is not to do its work, nor to write of it."""
    script = tmp_path / "script.py"
    script.write_text(
        "from dip_pipeline.engine import ExecutorKind, WorkerOptions, map_items\n"
        "options = WorkerOptions(executor=ExecutorKind.LOCAL, workers=1)\n"
        "print(list(map_items(abs, [-1], options)))\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert "worker processes cannot be started" in last
    assert 'behind `if __name__ == "__main__":`' in last
    assert "loads the script" not in done.stderr
    assert "_start_cluster" in done.stderr  # of this process alone


LEFT_OPEN = """
from dip_pipeline.engine import ExecutorKind, Job, WorkerOptions, open_pool, run_items
if __name__ == "__main__":
    opened = open_pool(WorkerOptions(ExecutorKind.LOCAL, workers=1)).__enter__()
    held = run_items(opened, Job(str), iter(range(50)), key=str)
    print(next(held))
"""


def test_a_process_ends_that_lets_go_of_its_workers_amid_the_work(tmp_path):
    """It waited for ever for the scheduler, whose thread had ended before."""
    script = tmp_path / "script.py"
    script.write_text(LEFT_OPEN)
    ended = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "0\n"
