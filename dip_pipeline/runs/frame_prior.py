"""The prior of a plane: what fits it, and what the record tells of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace

from dip_pipeline.account.record import ALGORITHM_VERSION
from dip_pipeline.config import RunConfig
from dip_pipeline.engine import RunDirectory
from dip_pipeline.preparing.cutting import problems_key
from dip_pipeline.preparing.planning import fit_windows, problem_source
from dip_pipeline.preparing.stacking import fitted_planes, stack_notes, stacks_of
from dip_pipeline.progress import Told
from dip_pipeline.restoration.problem import Scope
from dip_pipeline.runs.planes import Plane, Planes
from dip_pipeline.runs.prior_file import PriorFile
from dip_pipeline.runs.prior_work import PriorTask, StackFit, prior_key
from dip_pipeline.runs.seeds import prior_seed
from dip_pipeline.runs.ways import way_of
from dip_pipeline.runs.work import FramePlan


def stack_fits(
    planes: Planes, config: RunConfig, run: RunDirectory, told: Told
) -> dict[int, StackFit]:
    """Plan the networks of planes that share them; by the number of each plane's first tile."""
    restored = planes.restored
    frames = [plane.origin for plane in restored]
    stacks = stacks_of(frames, config)
    for note in stack_notes(frames, stacks):
        told.progress.note(f"{told.source}: {note}")
    fits: dict[int, StackFit] = {}
    for stack in stacks:
        shape = restored[stack[0]].frame.shape
        chosen = fitted_planes(stack, shape)
        fit = _stack_fit([restored[number] for number in chosen], config, run)
        if fit is not None:
            fits |= {restored[number].first_tile: fit for number in stack}
    return fits


def _stack_fit(planes: list[Plane], config: RunConfig, run: RunDirectory) -> StackFit | None:
    """Plan a fit on some planes; None where none of them holds a pixel that could be fitted to."""
    seed = prior_seed(config.fit.seed)
    parts, labels, keys = [], [], []
    for plane in planes:
        source = problem_source(plane.frame, plane.noise, config)
        windows = tuple(fit_windows(plane.frame.shape, seed=seed, frames=len(planes)))
        problems = [source.problem(window, seed=seed) for window in windows]
        if any(problem.valid.any() for problem in problems):
            parts.append((source, windows))
            labels.append(plane.frame.label)
            keys.append(problems_key(problems, plane.frame.shape, ALGORITHM_VERSION))
    if not parts:
        return None
    key = hashlib.sha256(" ".join(keys).encode()).hexdigest()
    path = run.keyed_path("stack", key)
    return StackFit(key, path, tuple(parts), tuple(labels), config.fit.seed, run.progress_path)


def prior_task(
    plane: Plane,
    config: RunConfig,
    run: RunDirectory,
    shared: PriorFile | None,
    stack: StackFit | None,
) -> PriorTask:
    """Plan the work on a plane, and its prior.

    shared : prior of many frames, to be applied; stack : networks that it shares with other planes
    """
    frame = plane.frame
    cutting = tuple(each.source for each in plane.exposures)
    source = problem_source(frame, plane.noise, config, plane.optics, cutting, plane.guides)
    plan = FramePlan(source, config.fit.seed, run.tiles, None, ALGORITHM_VERSION, plane.first_tile)
    factor = 1 if plane.optics is None else plane.optics.factor
    windows = tuple(fit_windows(frame.shape, seed=plan.seed, factor=factor))
    sha256 = "" if shared is None else shared.sha256
    if source.options.scope is Scope.FRAME:
        key = prior_key(plan, windows, sha256 if stack is None else stack.key)
        plan = replace(plan, prior_path=run.keyed_path("prior", key))
    return PriorTask(
        plan,
        windows,
        None if shared is None else shared.path.absolute(),
        sha256,
        # Of exposures all show the same sky, and what guides one is another's own noise.
        seen=shared is not None and (config.task.each or shared.has_seen(plane.origin)),
        telling=run.progress_path,
        stack=None if stack is None else stack.path,
    )


def prior_facts(
    task: PriorTask, run: RunDirectory, shared: PriorFile | None, stack: StackFit | None
) -> Mapping[str, object]:
    """Tell the record of a plane's prior."""
    plan = task.plan
    content = None if plan.prior_path is None else run.find_file(plan.prior_path.name)
    if content is None:
        return {"scope": "tile"}
    prior = way_of(plan.source.options, plan.source.optics).prior.from_bytes(content)
    crossed = prior.cross_fit
    fitted_on = crossed is not None
    if shared is not None and shared.of_epochs:
        fitted_on = shared.has_seen(plan.source.frame)
    facts = {
        "scope": "frame",
        "sha256": hashlib.sha256(content).hexdigest(),
        "steps": prior.report.steps,
        "stop_reason": prior.report.stop_reason.name,
        "judged_risks": list(prior.report.risks),
        "blocks": None if crossed is None else asdict(crossed),
        "fitted_on_this_frame": fitted_on,
        "from": None if shared is None else shared.facts(),
    }
    if stack is None:
        return facts
    own = plan.source.frame.label in stack.labels
    return facts | {
        "scope": "stack",
        "fitted_on_this_frame": own,
        "from": {"stack": stack.key, "planes_fitted_on": len(stack.labels)},
    }
