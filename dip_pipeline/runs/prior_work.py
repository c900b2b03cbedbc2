"""What a worker does before the tiles of a frame: fit its networks, or take those of others.

Tasks are plain picklable values; what comes of them is published in the run directory.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from dip_pipeline.engine import publish_sealed, read_published, tell_progress
from dip_pipeline.errors import RunError
from dip_pipeline.machine.devices import device_watched
from dip_pipeline.preparing.cutting import ProblemSource, Window, problems_key
from dip_pipeline.restoration.fits.stopping import StepHook, ignore_step
from dip_pipeline.restoration.priors.shared_prior import SharedPrior, fit_shared_prior
from dip_pipeline.restoration.problem import StopReason
from dip_pipeline.runs.seeds import prior_seed, tile_seed
from dip_pipeline.runs.ways import AnyPrior, way_of
from dip_pipeline.runs.work import MORE_SEEDS, FramePlan

log = logging.getLogger(__name__)

_Fitted = TypeVar("_Fitted", SharedPrior, AnyPrior)
_TOLD_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class StackFit:
    """Networks for all planes of a stack, fitted on some of them, to be published.

    key : digest of all that decides them; path : where they are published
    parts : of each plane that they are fitted on, what cuts its problems, and the windows
    labels : of these planes
    telling : file to tell in how the fit goes on; None for nowhere
    """

    key: str
    path: Path
    parts: tuple[tuple[ProblemSource, tuple[Window, ...]], ...]
    labels: tuple[str, ...]
    seed: int
    telling: Path | None


@dataclass(frozen=True, slots=True)
class PriorTask:
    """The prior of a frame, to be published where the plan says.

    shared : prior file that it is made of; None where it is fitted to the frame itself
    shared_sha256 : of that file, as it was read when the run began
    seen : whether the prior file was fitted on this frame, too
    stack : where the networks are published that it is made of, if its stack shares them: the path
        alone, for a task is sent to a worker, and a stack has thousands of planes
    telling : file to tell in how the fit goes on; None for nowhere
    """

    plan: FramePlan
    windows: tuple[Window, ...]
    shared: Path | None
    shared_sha256: str
    seen: bool
    telling: Path | None
    stack: Path | None = None


def provide_prior(task: PriorTask, on_step: StepHook = ignore_step) -> None:
    """Make the prior of a frame and publish it. Safe to run twice."""
    path = task.plan.prior_path
    if path is None or path.exists():
        return
    if task.stack is not None:
        shared = SharedPrior.from_bytes(read_published(task.stack))
        # All planes show the same sky, and their noise may hang together: each network is kept
        # from where it was fitted in all of them, also in those that it was not fitted on.
        content = bind_frame_prior(task.plan, task.windows, shared, seen=True)
    elif task.shared is not None:
        data = task.shared.read_bytes()
        if hashlib.sha256(data).hexdigest() != task.shared_sha256:
            raise RunError(f"{task.shared}: changed while it was being used; run it again")
        shared = SharedPrior.from_bytes(data)
        content = bind_frame_prior(task.plan, task.windows, shared, seen=task.seen)
    else:
        content = fit_frame_prior(task.plan, task.windows, _telling(task.telling, on_step))
    publish_sealed(path, [content])


def provide_stack(fit: StackFit, on_step: StepHook = ignore_step) -> None:
    """Fit the networks of a stack and publish them. Safe to run twice."""
    if fit.path.exists():
        return
    hook = _telling(fit.telling, on_step)

    def fitted(seed: int) -> SharedPrior:
        frames = [
            ([source.problem(window, seed=seed) for window in windows], source.frame.shape)
            for source, windows in fit.parts
        ]
        with device_watched(frames[0][0][0]):
            return fit_shared_prior(frames, seed=seed, on_step=hook)

    prior = _until_it_holds(fitted, fit.seed, fit.parts[0][0])
    publish_sealed(fit.path, [prior.to_bytes()])


def fit_frame_prior(
    plan: FramePlan, windows: Sequence[Window], on_step: StepHook = ignore_step
) -> bytes:
    """Fit the prior of a frame on some windows of it; returns its bytes.

    Raises RestorationError where the frame holds nothing to fit.
    """
    source = plan.source

    def fitted(seed: int) -> AnyPrior:
        problems = [source.problem(window, seed=seed) for window in windows]
        with device_watched(problems[0]):
            fit = way_of(source.options, source.optics).fit
            return fit(problems, source.frame.shape, seed=seed, on_step=on_step)

    return _until_it_holds(fitted, plan.seed, source).to_bytes()


def prior_key(plan: FramePlan, windows: Sequence[Window], *more: object) -> str:
    """Digest of all that decides the prior of a frame; reads the windows.

    more : what else decides, such as the digest of a prior file
    """
    seed, source = prior_seed(plan.seed), plan.source
    problems = [source.problem(window, seed=seed) for window in windows]
    return problems_key(problems, source.frame.shape, plan.algorithm, *more)


def bind_frame_prior(
    plan: FramePlan, windows: Sequence[Window], shared: SharedPrior, *, seen: bool
) -> bytes:
    """Calibrate a prior of other frames on some windows of this one; returns its bytes.

    seen : whether this frame is one that the prior was fitted on
    """
    seed, source = prior_seed(plan.seed), plan.source
    problems = [source.problem(window, seed=seed) for window in windows]
    with device_watched(problems[0]):
        bind = way_of(source.options, source.optics).bind
        bound = bind(shared, problems, source.frame.shape, seed=seed, seen=seen)
    return bound.to_bytes()


def _until_it_holds(fit: Callable[[int], _Fitted], run_seed: int, source: ProblemSource) -> _Fitted:
    """Fit networks; where the fit diverges, with derived seeds. source : for its name alone."""
    seed = prior_seed(run_seed)
    prior = fit(seed)
    for number in range(1, MORE_SEEDS + 1):
        if prior.report.stop_reason is not StopReason.DIVERGED:
            break
        log.warning("%s: the fit diverged, and is tried again with another seed", source.frame.path)
        prior = fit(tile_seed(seed, number))
    return prior


def _telling(path: Path | None, on_step: StepHook) -> StepHook:
    """Hand steps on, and now and then tell of them in a file, where there is one."""
    told = 0.0

    def tell(step: int, steps: int, loss: Tensor) -> None:
        nonlocal told
        on_step(step, steps, loss)
        if path is not None and time.monotonic() - told > _TOLD_EVERY_S:
            told = time.monotonic()
            tell_progress(path, "fit", step=step, steps=steps, loss=float(loss.detach()))

    return tell
