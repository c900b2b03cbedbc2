"""The prior of a plane: what fits it, and what the record tells of it."""

import hashlib
from dataclasses import asdict, replace

from dip_pipeline.account.record import ALGORITHM_VERSION
from dip_pipeline.config import RunConfig
from dip_pipeline.engine import RunDirectory
from dip_pipeline.preparing.planning import fit_windows, problem_source
from dip_pipeline.restoration.problem import Scope
from dip_pipeline.runs.planes import Plane
from dip_pipeline.runs.prior_file import PriorFile
from dip_pipeline.runs.ways import way_of
from dip_pipeline.runs.work import FramePlan, PriorTask, prior_key


def prior_task(
    plane: Plane, config: RunConfig, run: RunDirectory, shared: PriorFile | None
) -> PriorTask:
    """Plan the work on a plane, and its prior."""
    frame = plane.frame
    cutting = tuple(each.source for each in plane.exposures)
    source = problem_source(frame, plane.noise, config, plane.optics, cutting, plane.guides)
    plan = FramePlan(source, config.fit.seed, run.tiles, None, ALGORITHM_VERSION, plane.first_tile)
    shared_path = None if shared is None else shared.path.absolute()
    factor = 1 if plane.optics is None else plane.optics.factor
    windows = tuple(fit_windows(frame.shape, seed=plan.seed, factor=factor))
    if source.options.scope is Scope.FRAME:
        key = prior_key(plan, windows, "" if shared is None else shared.sha256)
        plan = replace(plan, prior_path=run.keyed_path("prior", key))
    sha256 = "" if shared is None else shared.sha256
    return PriorTask(plan, windows, shared_path, sha256, seen=False, telling=run.progress_path)


def prior_facts(plan: FramePlan, run: RunDirectory, shared: PriorFile | None) -> dict[str, object]:
    """Tell the record of a plane's prior."""
    content = None if plan.prior_path is None else run.find_file(plan.prior_path.name)
    if content is None:
        return {"scope": "tile"}
    prior = way_of(plan.source.options, plan.source.optics).prior.from_bytes(content)
    crossed = prior.cross_fit
    return {
        "scope": "frame",
        "sha256": hashlib.sha256(content).hexdigest(),
        "steps": prior.report.steps,
        "stop_reason": prior.report.stop_reason.name,
        "judged_risks": list(prior.report.risks),
        "blocks": None if crossed is None else asdict(crossed),
        "fitted_on_this_frame": crossed is not None,
        "from": None if shared is None else shared.facts(),
    }
