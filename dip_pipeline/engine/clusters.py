"""Clusters that a run starts for itself: SLURM and PBS jobs by dask-jobqueue, GPUs by dask-cuda."""

# mypy: allow-untyped-calls

import contextlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from dip_pipeline.errors import ConfigError, RunError


class ClusterKind(StrEnum):
    """What starts the workers."""

    SLURM = "slurm"
    PBS = "pbs"
    CUDA = "cuda"  # one worker a GPU of this machine, with its memory and cores near it


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """A cluster to start.

    least, most : jobs; as many as there is work for are kept within these
    cores, memory : of each job; walltime : of each job, HH:MM:SS
    gpus : of each job, each with a worker of its own
    directives : further lines of the job script, such as "--partition=gpu"
    prologue : shell lines that a job begins with, such as "module load cuda"
    shared_folder : on a disk that all nodes see, for the certificates of the connections
    """

    kind: ClusterKind
    least: int = 1
    most: int = 4
    cores: int = 1
    memory: str = "4GB"
    walltime: str = "01:00:00"
    gpus: int = 0
    queue: str | None = None
    account: str | None = None
    directives: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    shared_folder: str | None = None
    log_folder: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.most or self.most < 1:
            raise ConfigError(
                f"cluster.least = {self.least}, cluster.most = {self.most}: need least <= most, "
                "and at least one job"
            )
        if walltime_s(self.walltime) <= 2 * _MARGIN_S:
            raise ConfigError(
                f"cluster.walltime = {self.walltime}: need HH:MM:SS, and more than "
                f"{2 * _MARGIN_S // 60} minutes"
            )


_MARGIN_S = 240  # workers end themselves so long before their job does
_STAGGER_S = 120  # not all at once


def walltime_s(text: str) -> int:
    """Seconds of HH:MM:SS; 0 for what is no such time.

    >>> walltime_s("01:30:00"), walltime_s("soon")
    (5400, 0)
    """
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        return 0
    hours, minutes, seconds = map(int, parts)
    return 3600 * hours + 60 * minutes + seconds


def start_cluster(options: ClusterOptions) -> Any:  # noqa: ANN401  (Dask's classes have no types)
    """Start a cluster and let it grow with the work; RunError where that cannot be."""
    cluster = CLUSTERS[options.kind](options)
    if options.kind is not ClusterKind.CUDA:
        # A worker that ends with its job is replaced only where the cluster adapts.
        cluster.adapt(minimum_jobs=options.least, maximum_jobs=options.most)
    return cluster


def job_script(options: ClusterOptions) -> str:
    """Give the script of one job as it would be handed in; nothing is started.

    Raises ConfigError for a cluster without jobs.
    """
    if options.kind not in _JOB_CLASSES:
        raise ConfigError(
            f"cluster.kind = {str(options.kind)!r}: has no job script, its workers start on this "
            "machine; leave --script out"
        )
    module, name = _JOB_CLASSES[options.kind]
    job_class = getattr(_module(module, "cluster"), name)
    keywords = _job_keywords(options)
    for of_the_cluster in ("security", "shared_temp_directory", "scheduler_options"):
        keywords.pop(of_the_cluster, None)
    folder = Path(options.log_folder) if options.log_folder else None
    missing = [one for one in (folder, *folder.parents) if not one.exists()] if folder else []
    try:
        script: str = job_class("tls://scheduler:8786", name="dip", **keywords).job_script()
    finally:
        for one in missing:  # dask-jobqueue makes it at once
            with contextlib.suppress(OSError):
                one.rmdir()
    return script


def _jobqueue(options: ClusterOptions) -> Any:  # noqa: ANN401
    module = _module("dask_jobqueue", "cluster")
    names = {ClusterKind.SLURM: "SLURMCluster", ClusterKind.PBS: "PBSCluster"}
    try:
        return getattr(module, names[options.kind])(**_job_keywords(options))
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise RunError(f"cluster {options.kind}: cannot be started ({error})") from error


def _job_keywords(options: ClusterOptions) -> dict[str, Any]:
    lifetime = walltime_s(options.walltime) - _MARGIN_S
    own = []  # before those of the user, which outrank them
    if options.kind is ClusterKind.SLURM:
        own = ["--requeue", *([f"--gres=gpu:{options.gpus}"] if options.gpus else [])]
    keywords: dict[str, Any] = {
        "cores": max(1, options.gpus),  # items at once: a fit has threads of its own
        "processes": max(1, options.gpus),
        "job_cpu" if options.kind is ClusterKind.SLURM else "resource_spec": options.cores
        if options.kind is ClusterKind.SLURM
        else f"select=1:ncpus={options.cores}:ngpus={options.gpus}:mem={options.memory}",
        "memory": options.memory,
        "walltime": options.walltime,
        "queue": options.queue,
        "account": options.account,
        "job_extra_directives": [*own, *options.directives],
        "job_script_prologue": list(options.prologue),
        "log_directory": options.log_folder,
        "worker_extra_args": [
            "--lifetime",
            f"{lifetime}s",
            "--lifetime-stagger",
            f"{min(_STAGGER_S, lifetime // 4)}s",
            "--preload",
            "dip_pipeline.engine.worker_process",
        ],
        "security": True,  # TLS with certificates made for this run
        "shared_temp_directory": options.shared_folder,
        "scheduler_options": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
    }
    return {name: value for name, value in keywords.items() if value is not None}


def _cuda(options: ClusterOptions) -> Any:  # noqa: ANN401
    module = _module("dask_cuda", "cuda")
    gpus = {"n_workers": options.gpus} if options.gpus else {}
    try:
        return module.LocalCUDACluster(
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            **gpus,
        )
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise RunError(f"cluster cuda: cannot be started ({error})") from error


def _module(name: str, extra: str) -> Any:  # noqa: ANN401
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0].replace("_", "-")
        raise RunError(
            f"{package} is not installed: pip install 'dip-pipeline[{extra}]'"
        ) from error


_JOB_CLASSES = {
    ClusterKind.SLURM: ("dask_jobqueue.slurm", "SLURMJob"),
    ClusterKind.PBS: ("dask_jobqueue.pbs", "PBSJob"),
}
CLUSTERS: dict[ClusterKind, Callable[[ClusterOptions], Any]] = {
    ClusterKind.SLURM: _jobqueue,
    ClusterKind.PBS: _jobqueue,
    ClusterKind.CUDA: _cuda,
}
