"""The story of one frame: read, know its noise, fit, restore tile by tile, blend, write."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from dip_pipeline.config import RunConfig
from dip_pipeline.engine import RunDirectory
from dip_pipeline.errors import FrameError
from dip_pipeline.frame_noise import noise_in_words
from dip_pipeline.frames import (
    Frame,
    check_target,
    file_digest,
    open_frame,
    read_provenance,
    save_frame,
    split_selector,
)
from dip_pipeline.planning import (
    FrameDescription,
    describe_frame,
    devices_of,
    fit_windows,
    problem_source,
    resolve_noise,
)
from dip_pipeline.prior_file import PriorFile
from dip_pipeline.progress import SILENT, Progress, Told
from dip_pipeline.record import ALGORITHM_VERSION, RunFacts, describe_run, pooled_risk, run_key
from dip_pipeline.restoration.prior import Prior
from dip_pipeline.restoration.problem import Scope
from dip_pipeline.restoration.stopping import StepHook
from dip_pipeline.restoring import blend_tiles, restore_tiles
from dip_pipeline.sensor import NoiseModel
from dip_pipeline.tiling import plan_tiles
from dip_pipeline.work import (
    FramePlan,
    bind_frame_prior,
    fit_frame_prior,
    prior_key,
)

__all__ = ["FrameDescription", "Progress", "RunReport", "describe_frame", "restore_frame"]


@dataclass(frozen=True, slots=True)
class RunReport:
    """How the restoration of one frame went.

    risk : estimated rms of (delivered - truth) / sigma, with its standard error
    flux_change : sum of (delivered - observed) over unmasked pixels, the frame's unit
    """

    source: str
    target: Path
    status: Literal["restored", "already done"]
    tiles: int
    found_done: int
    failed_tiles: int
    risk: float
    risk_error: float
    noise: str
    flux_change: float
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every tile was restored."""
        return self.failed_tiles == 0


def restore_frame(
    source: str,
    target: Path,
    config: RunConfig,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    command_line: Sequence[str] = (),
) -> RunReport:
    """Restore one image file and write it with its provenance.

    A run that was interrupted goes on where it stopped; a finished product is left alone.
    Raises a DipError for whatever a user can cause.
    """
    started = time.monotonic()
    told = progress or SILENT
    frame = open_frame(source)
    digest = file_digest(frame.path)
    shared = None if config.fit.prior is None else PriorFile.read(Path(config.fit.prior))
    prior_digest = None if shared is None else shared.sha256
    key = run_key(config, digest, split_selector(source)[1], prior_digest=prior_digest)
    if not overwrite and _is_product_of(target, key):
        return _already_done(source, target)
    check_target(target, frame, overwrite=overwrite)
    if shared is not None:
        shared.check(frame, config)
    noise = resolve_noise(frame, config)
    told.note(f"{source}: noise {noise_in_words(noise)}")
    tiles = plan_tiles(frame.shape, config.tile_options())
    about = _about(source, target, config, tiles=len(tiles), command_line=command_line)
    with RunDirectory.open(scratch_of(target), key, about=about) as run:
        if run.restarted_because:
            changed = ", ".join(run.restarted_because)
            told.note(f"{run.path}: begun anew, for these changed: {changed}")
        plan = _plan(frame, noise, config, run, shared)
        listener = Told(told, source)
        make_prior = partial(_make_prior, plan, shared, digest, listener.on_step)
        workers = config.worker_options(devices_of(config))
        records, found_done = restore_tiles(plan, tiles, run, workers, listener, make_prior)
        facts = RunFacts(
            run_id=run.run_id,
            source=source,
            key=key,
            config=config,
            noise=noise,
            network=str((shared.prior if shared else plan.source.options).network_kind),
            device=_device_name(plan.source.device),
            tiles=records,
            command_line=command_line,
            prior=_prior_facts(plan, run, shared),
            seconds=time.monotonic() - started,
            frame_pixels=frame.shape[0] * frame.shape[1],
        )
        planes = blend_tiles(plan, tiles, run)
        run.tell("write")
        save_frame(target, frame, planes, provenance=describe_run(facts), overwrite=overwrite)
        run.remove()
    risk = pooled_risk(records, facts.frame_pixels)
    return RunReport(
        source=source,
        target=target,
        status="restored",
        tiles=len(tiles),
        found_done=found_done,
        failed_tiles=facts.failed_tiles,
        risk=risk.rms,
        risk_error=risk.error,
        noise=noise_in_words(noise),
        flux_change=facts.flux_change,
        seconds=time.monotonic() - started,
    )


def scratch_of(target: Path) -> Path:
    """Where the scratch folder of an output lies: beside it."""
    return target.with_name(f"{target.name}.dip")


def _about(
    source: str, target: Path, config: RunConfig, *, tiles: int, command_line: Sequence[str]
) -> dict[str, object]:
    """Say what a run is about, for `dip status` and `dip finish`."""
    path, selector = split_selector(source)
    return {
        "source": str(path.resolve()) + ("" if selector is None else f"[{selector}]"),
        "target": str(target.resolve()),
        "tiles": tiles,
        "configuration": config.model_dump(mode="json", exclude_none=True),
        "command_line": list(command_line),
    }


def _is_product_of(target: Path, key: Mapping[str, object]) -> bool:
    """Whether the target exists and is the finished product of this very run."""
    if not target.exists():
        return False
    try:
        found = read_provenance(target)
    except FrameError:
        return False
    return found is not None and found.document.get("key") == key


def _already_done(source: str, target: Path) -> RunReport:
    """Report on a finished product from its own record."""
    found = read_provenance(target)
    tiles = [] if found is None else found.tiles
    cards = {} if found is None else {card[0]: card[1] for card in found.cards}
    risk, error = (cards.get(name) for name in ("DIPRISK", "DIPRISKE"))
    return RunReport(
        source=source,
        target=target,
        status="already done",
        tiles=len(tiles),
        found_done=len(tiles),
        failed_tiles=sum(bool(tile["failed"]) for tile in tiles),
        risk=risk if isinstance(risk, float) else float("nan"),
        risk_error=error if isinstance(error, float) else float("nan"),
        noise=str(cards.get("DIPNOISE", "")),
        flux_change=0.0,
        seconds=0.0,
    )


def _plan(
    frame: Frame,
    noise: NoiseModel,
    config: RunConfig,
    run: RunDirectory,
    shared: PriorFile | None,
) -> FramePlan:
    source = problem_source(frame, noise, config)
    plan = FramePlan(source, config.fit.seed, run.tiles, None, ALGORITHM_VERSION)
    if source.options.scope is not Scope.FRAME:
        return plan
    windows = fit_windows(frame.shape, seed=plan.seed)
    key = prior_key(plan, windows, "" if shared is None else shared.sha256)
    return replace(plan, prior_path=run.keyed_path("prior", key))


def _make_prior(
    plan: FramePlan, shared: PriorFile | None, input_digest: str, on_step: StepHook
) -> bytes:
    """Fit the frame's prior, or make it of the prior file."""
    frame = plan.source.frame
    windows = fit_windows(frame.shape, seed=plan.seed)
    if shared is None:
        return fit_frame_prior(plan, windows, on_step)
    seen = shared.has_seen(frame, input_digest)
    return bind_frame_prior(plan, windows, shared.prior, seen=seen)


def _prior_facts(plan: FramePlan, run: RunDirectory, shared: PriorFile | None) -> dict[str, object]:
    """Tell the record of the frame's prior."""
    content = None if plan.prior_path is None else run.find_file(plan.prior_path.name)
    if content is None:
        return {"scope": "tile"}
    prior = Prior.from_bytes(content)
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


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else device
