"""The priors of planes: made in the pool where they are missing, each once, whoever else waits."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from dip_pipeline.engine import ExecutorKind, Job, RunDirectory, run_items
from dip_pipeline.engine.run_lock import Lock
from dip_pipeline.progress import Told
from dip_pipeline.runs.place import Place
from dip_pipeline.runs.prior_work import PriorTask, StackFit, provide_prior, provide_stack

_PRIOR_LOOK_S = 0.5
_WORD_EVERY_S = 30.0
_PRIORS_AT_ONCE = 256  # each holds a lock, which is an open file


def provide_priors(
    tasks: Sequence[PriorTask],
    stacks: Mapping[Path, StackFit],
    run: RunDirectory,
    place: Place,
    told: Told,
) -> None:
    """Make the priors that are missing, and before them the networks that stacks share.

    stacks : fits of these networks, by the path that tasks name
    """
    named = {
        path.name: task
        for task in tasks
        if (path := task.plan.prior_path) is not None and run.find_file(path.name) is None
    }
    needed = {task.stack.name: stacks[task.stack] for task in named.values() if task.stack}
    _provide(needed, provide_stack, run, place, told)
    _provide(named, provide_prior, run, place, told)


def _provide(
    tasks: Mapping[str, PriorTask] | Mapping[str, StackFit],
    work: Callable[..., None],
    run: RunDirectory,
    place: Place,
    told: Told,
) -> None:
    """Have files made in the pool, by name; of several shards each makes some, once."""
    most = _PRIORS_AT_ONCE if place.shard is None else place.pool.options.slots
    missing = list(tasks)
    while missing := [name for name in missing if run.find_file(name) is None]:
        held = _taken(missing, most, run)
        try:
            if held:
                run.tell("fit")
                _worked(work, {name: tasks[name] for name in held}, run, place, told)
            else:
                time.sleep(_PRIOR_LOOK_S)
        finally:
            for lock in held.values():
                lock.release()


def _taken(names: Sequence[str], most: int, run: RunDirectory) -> dict[str, Lock]:
    """Take some files that nobody else is at, so many at most."""
    held: dict[str, Lock] = {}
    for name in names:
        if len(held) == most:
            break
        if (lock := run.alone_at(name)) is not None:
            held[name] = lock
    return held


def _worked(
    work: Callable[..., None],
    tasks: Mapping[str, PriorTask | StackFit],
    run: RunDirectory,
    place: Place,
    told: Told,
) -> None:
    """Do what makes some files; of one alone the steps are told, of several how many are there."""
    inline = place.pool.options.executor is ExecutorKind.INLINE
    alone = len(tasks) == 1
    if inline and alone:
        work(*tasks.values(), told.on_step)
        return
    names = {id(task): name for name, task in tasks.items()}
    job = Job(work, folder=run.path, rank=place.rank)
    last = time.monotonic()
    with nullcontext() if inline or not alone else _watched(run, told):
        made = run_items(place.pool, job, tasks.values(), key=lambda task: names[id(task)])
        for count, _ in enumerate(made, start=1):
            if not alone and time.monotonic() - last > _WORD_EVERY_S:
                last = time.monotonic()
                told.progress.note(f"{told.source}: networks of {count} of {len(tasks)} planes")


@contextmanager
def _watched(run: RunDirectory, told: Told) -> Iterator[None]:
    """Tell how a fit in another process goes on."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(1.0):
            facts = run.told()
            if facts.get("doing") == "fit" and "step" in facts:
                told.progress.fit_step(facts["step"], facts["steps"], facts["loss"])

    thread = threading.Thread(target=watch, name="dip-fit-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
