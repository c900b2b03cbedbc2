"""Laws of the dask executor: workers may come and go, a dead one costs a retry, secrets stay home.

A scheduler and two workers are started as a user would start them.
"""

import json
import os
import signal
import subprocess
import sys
import time

import dask
import distributed  # noqa: F401  (its settings are there before one of them is changed)
import pytest

from dip_pipeline.engine import (
    ExecutorKind,
    Job,
    SchedulerPlace,
    WorkerOptions,
    clusters,
    open_pool,
    run_items,
)
from dip_pipeline.engine.clusters import ClusterKind, ClusterOptions, job_script
from dip_pipeline.errors import BrokenProcessError, ConfigError, RunError

QUIET = {
    "stdout": subprocess.DEVNULL,
    "stderr": subprocess.DEVNULL,
    "start_new_session": True,
}


def start_worker(file):
    arguments = ("worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard")
    return subprocess.Popen(
        [sys.executable, "-m", "dask", *arguments, "--memory-limit", "0", "--host", "127.0.0.1"],
        cwd=file.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        **QUIET,
    )


def start_scheduler(folder):
    """A scheduler that listens on loopback, and its file."""
    file = folder / "scheduler.json"
    arguments = ("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    arguments += ("--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file))
    scheduler = subprocess.Popen([sys.executable, "-m", "dask", *arguments], **QUIET)
    deadline = time.monotonic() + 30
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return scheduler, file


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """File of a scheduler that listens on loopback, with two workers."""
    scheduler, file = start_scheduler(tmp_path_factory.mktemp("cluster"))
    workers = [start_worker(file) for _ in range(2)]
    yield file
    for process in (*workers, scheduler):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def options(file):
    return WorkerOptions(ExecutorKind.DASK, scheduler=SchedulerPlace(file=str(file)))


def test_a_cluster_without_jobs_has_no_script():
    options = ClusterOptions(ClusterKind.CUDA)
    with pytest.raises(ConfigError, match=r"'cuda': has no job script.*leave --script out"):
        job_script(options)


def test_workers_of_a_scheduler_give_the_results_of_inline_and_leave_nothing(cluster, tmp_path):
    def run(number):
        time.sleep(0.05)
        return number, os.getpid()

    with open_pool(options(cluster)) as pool:
        results = list(run_items(pool, Job(run, folder=tmp_path), range(10)))
    assert sorted(number for number, _ in results) == list(range(10))
    assert os.getpid() not in {process for _, process in results}
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_dies_costs_a_retry_and_an_item_that_kills_three_is_lost(cluster, tmp_path):
    """The nannies of `dask worker` start new processes in the place of the dead."""

    def run(number):
        with (tmp_path / f"starts-{number}").open("a") as log:
            log.write("x")
        if number == 4 or (number == 2 and not (tmp_path / "killed").exists()):
            (tmp_path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    folder = tmp_path / "run"
    folder.mkdir()
    with open_pool(options(cluster)) as pool:
        job = Job(run, on_lost=lambda number: -number, folder=folder)
        assert sorted(run_items(pool, job, range(6))) == [-4, 0, 1, 2, 3, 5]
    starts = {n: len((tmp_path / f"starts-{n}").read_text()) for n in range(6)}
    assert starts[4] == 3
    assert starts[2] >= 2  # more where a result was lost with the worker that held it


def test_what_the_function_raises_comes_out(cluster, tmp_path):
    def run(number):
        raise RunError(f"tile {number}: no good")

    with (
        open_pool(options(cluster)) as pool,
        pytest.raises(RunError, match="tile 0: no good"),
    ):
        list(run_items(pool, Job(run, folder=tmp_path), [0]))


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (SchedulerPlace("tcp://10.1.2.3:8786"), "--insecure-cluster"),
        (SchedulerPlace("cluster.example:8786"), "--insecure-cluster"),
        (SchedulerPlace("ucx://10.1.2.3:8786"), "need an address"),
        (SchedulerPlace("localhost"), "need an address with its port"),
        (SchedulerPlace("tls://[::1]"), "need an address with its port"),
        (SchedulerPlace(""), "cannot be read"),
        (SchedulerPlace(file="none.json"), "none.json"),
    ],
)
def test_an_address_that_must_not_be_used_is_refused_in_one_line(place, said):
    with pytest.raises(ConfigError, match=said) as caught:
        place.find()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "place",
    [
        SchedulerPlace("tls://cluster.example:8786"),
        SchedulerPlace("tcp://127.0.0.1:8786"),
        SchedulerPlace("tcp://[::1]:8786"),
        SchedulerPlace("localhost:8786"),
        SchedulerPlace("tcp://10.1.2.3:8786", insecure=True),
    ],
)
def test_an_address_that_may_be_used_is_taken_as_it_is(place):
    assert place.find() == place.address


def test_a_plain_address_in_a_scheduler_file_is_refused_too(tmp_path):
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": "tcp://10.0.0.7:8786"}))
    with pytest.raises(ConfigError, match="--insecure-cluster"):
        SchedulerPlace(file=str(file)).find()


def test_a_scheduler_that_is_not_there_is_one_line_and_is_waited_for_once():
    place = SchedulerPlace("tcp://127.0.0.1:9")
    said, seconds = [], []
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        open_pool(WorkerOptions(ExecutorKind.DASK, scheduler=place)) as pool,
    ):
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(BrokenProcessError, match="cannot be reached") as caught:
                list(run_items(pool, Job(str), [0]))
            seconds.append(time.monotonic() - started)
            said.append(str(caught.value))
    assert said[0] == said[1]
    assert "\n" not in said[0]
    assert seconds[1] < 0.5 < seconds[0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ca-file": None}, "no TLS settings"),
        ({"ca-file": "none.pem", "client.cert": "none.pem"}, "No such file"),
    ],
)
def test_tls_that_dask_has_no_settings_for_is_told_before_anything_is_asked(settings, said):
    place = SchedulerPlace("tls://127.0.0.1:9")
    settings = {f"distributed.comm.tls.{name}": value for name, value in settings.items()}
    with (
        dask.config.set(settings),
        open_pool(WorkerOptions(ExecutorKind.DASK, scheduler=place)) as pool,
        pytest.raises(ConfigError, match=said) as caught,
    ):
        list(run_items(pool, Job(str), [0]))
    assert "distributed.comm.tls" in str(caught.value)
    assert "\n" not in str(caught.value)


ASK = """
import sys, dask
from dip_pipeline.engine import *
from dip_pipeline.errors import RunError
dask.config.set({"distributed.comm.timeouts.connect": "2s"})
kept = []
with open_pool(WorkerOptions(ExecutorKind.DASK, scheduler=SchedulerPlace(sys.argv[1]))) as pool:
    try:
        list(run_items(pool, Job(str), [0]))
    except RunError as error:
        kept.append(error)
        print(error)
"""


def ask(address):
    """Ask a scheduler for work in a process of its own, as a user does."""
    return subprocess.Popen(
        [sys.executable, "-c", ASK, address],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_client_that_cannot_be_made_is_not_waited_for_at_the_end(monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "1s")
    out, err = ask("127.0.0.1:9").communicate(timeout=60)
    assert "cannot be reached" in out
    assert err == ""


def test_a_scheduler_that_dies_while_a_worker_is_waited_for_is_one_line(tmp_path):
    scheduler, file = start_scheduler(tmp_path)
    with ask(json.loads(file.read_text())["address"]) as asking:
        waits = asking.stderr.readline()
        os.killpg(scheduler.pid, signal.SIGKILL)
        scheduler.wait(timeout=30)
        out, err = asking.communicate(timeout=60)
    assert "no workers yet" in waits
    assert out.startswith("the scheduler is gone")
    assert out.endswith("the same command resumes\n")
    assert err == ""


def test_a_scheduler_that_dies_after_the_work_is_told_to_who_asks_for_more(tmp_path):
    scheduler, file = start_scheduler(tmp_path)
    worker = start_worker(file)
    try:
        with (
            dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
            open_pool(options(file)) as pool,
        ):
            assert list(run_items(pool, Job(str), [0])) == ["0"]
            os.killpg(scheduler.pid, signal.SIGKILL)
            scheduler.wait(timeout=30)
            time.sleep(3)  # as long as the client tries to connect again
            with pytest.raises(BrokenProcessError, match="the scheduler is gone"):
                list(run_items(pool, Job(str), [1]))
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(timeout=30)


def test_the_script_of_a_slurm_job_asks_for_what_was_said():
    script = job_script(
        ClusterOptions(
            ClusterKind.SLURM,
            cores=8,
            gpus=1,
            memory="32GB",
            walltime="02:00:00",
            queue="gpu",
            account="astro",
            directives=("--constraint=a100",),
            prologue=("module load cuda",),
        )
    )
    lines = script.splitlines()
    for line in ("-p gpu", "-A astro", "--mem=30G", "-t 02:00:00", "--gres=gpu:1", "--requeue"):
        assert f"#SBATCH {line}" in lines, line
    assert "#SBATCH --constraint=a100" in lines
    assert "#SBATCH --cpus-per-task=8" in lines
    assert "module load cuda" in lines
    assert "--nthreads 1" in lines[-1]
    assert "--lifetime 6960s" in lines[-1]
    assert "tls://" in lines[-1]


@pytest.mark.parametrize("gpus", [0, 1])
def test_a_slurm_job_that_is_preempted_is_queued_again_with_gpus_and_without(gpus):
    """Unless the user's own line, which is the last, says that it is not."""
    options = ClusterOptions(ClusterKind.SLURM, gpus=gpus, directives=("--no-requeue",))
    lines = job_script(options).splitlines()
    assert lines.index("#SBATCH --requeue") < lines.index("#SBATCH --no-requeue")
    assert ("#SBATCH --gres=gpu:1" in lines) == (gpus > 0)


def test_a_script_that_is_only_shown_makes_no_folder(tmp_path):
    """Nor takes away one that is there."""
    there = tmp_path / "there"
    there.mkdir()
    for folder in (there, tmp_path / "logs" / "of_jobs"):
        options = ClusterOptions(
            ClusterKind.SLURM, cores=1, memory="1GB", walltime="00:30:00", log_folder=str(folder)
        )
        assert str(folder) in job_script(options)
    assert list(tmp_path.iterdir()) == [there]


def test_the_script_of_a_pbs_job_asks_for_what_was_said():
    script = job_script(
        ClusterOptions(ClusterKind.PBS, cores=4, memory="8GB", walltime="00:30:00", queue="q")
    )
    assert "#PBS -l select=1:ncpus=4" in script
    assert "#PBS -l walltime=00:30:00" in script
    assert "#PBS -q q" in script


@pytest.mark.parametrize("wrong", [{"walltime": "soon"}, {"least": 3, "most": 2}, {"most": 0}])
def test_cluster_options_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"cluster\."):
        ClusterOptions(**{"kind": ClusterKind.SLURM, **wrong})


def test_every_kind_of_cluster_can_be_started():
    assert set(clusters.CLUSTERS) == set(ClusterKind)


def test_a_library_that_is_not_there_is_named_with_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_cuda", None)
    with pytest.raises(RunError, match=r"pip install 'dip-pipeline\[cuda\]'"):
        clusters.start_cluster(ClusterOptions(ClusterKind.CUDA))
