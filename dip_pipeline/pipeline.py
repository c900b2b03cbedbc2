"""The story of one frame: read, know its noise, fit, restore tile by tile, blend, write."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from dip_pipeline.config import RunConfig
from dip_pipeline.devices import device_name
from dip_pipeline.engine import ExecutorKind, RunDirectory, open_pool, reach, read_status
from dip_pipeline.errors import ConfigError, FrameError, RunError
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
    frame_room,
    problem_source,
    resolve_noise,
)
from dip_pipeline.prior_file import PriorFile
from dip_pipeline.progress import SILENT, Progress, Told
from dip_pipeline.record import ALGORITHM_VERSION, RunFacts, describe_run, pooled_risk, run_key
from dip_pipeline.restoration.prior import Prior
from dip_pipeline.restoration.problem import Scope
from dip_pipeline.restoring import Place, blend_tiles, restore_tiles
from dip_pipeline.room import check_disk, check_memory, disk_watched
from dip_pipeline.sensor import NoiseModel
from dip_pipeline.tiling import plan_tiles
from dip_pipeline.work import FramePlan, PriorTask, prior_key

__all__ = ["FrameDescription", "Progress", "RunReport", "describe_frame", "restore_frame"]


@dataclass(frozen=True, slots=True)
class RunReport:
    """How the restoration of one frame went.

    risk : estimated rms of (delivered - truth) / sigma, with its standard error
    flux_change : sum of (delivered - observed) over unmasked pixels, the frame's unit
    """

    source: str
    target: Path
    status: Literal["restored", "already done", "part done"]
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


def restore_frame(  # noqa: PLR0913  (all but three have defaults)
    source: str,
    target: Path,
    config: RunConfig,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    command_line: Sequence[str] = (),
    place: Place | None = None,
) -> RunReport:
    """Restore one image file and write it with its provenance.

    A run that was interrupted goes on where it stopped; a finished product is left alone.
    place : where it runs; None for what the configuration says
    Raises a DipError for whatever a user can cause.
    """
    if place is None:
        with open_pool(config.worker_options(devices_of(config))) as pool:
            return restore_frame(
                source,
                target,
                config,
                overwrite=overwrite,
                progress=progress,
                command_line=command_line,
                place=Place(pool),
            )
    started = time.monotonic()
    told = progress or SILENT
    if place.pool.options.executor is ExecutorKind.DASK:  # workers may stand in another folder
        source, target = _absolute(source), target.absolute()
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
    room = frame_room(frame, tiles, config, processes=place.pool.options.slots)
    check_memory(room, source, place.pool.options)
    check_disk(room, target, scratch_of(target))
    about = {
        **_about(source, target, config, command_line),
        "tiles": len(tiles),
        "overwrite": overwrite,
    }
    with (
        disk_watched(room, scratch_of(target)),
        RunDirectory.open(scratch_of(target), key, about=about, shard=place.shard) as run,
    ):
        if run.restarted_because:
            changed = ", ".join(run.restarted_because)
            told.note(f"{run.path}: begun anew, for these changed: {changed}")
        prior = _prior_task(frame, noise, config, run, shared)
        prior = replace(prior, seen=shared is not None and shared.has_seen(frame, digest))
        records, found_done = restore_tiles(prior, tiles, run, place, Told(told, source))
        facts = RunFacts(
            run_id=run.run_id,
            source=source,
            key=key,
            config=config,
            noise=noise,
            network=str((shared.prior if shared else prior.plan.source.options).network_kind),
            device=device_name(records),
            tiles=records,
            command_line=command_line,
            prior=_prior_facts(prior.plan, run, shared),
            seconds=time.monotonic() - started,
            frame_pixels=frame.shape[0] * frame.shape[1],
        )
        if place.shard is None:
            planes = blend_tiles(prior.plan, tiles, run)
            run.tell("write")
            reach("before save")
            save_frame(target, frame, planes, provenance=describe_run(facts), overwrite=overwrite)
            reach("after save")
            run.remove()
    risk = pooled_risk(records, facts.frame_pixels)
    return RunReport(
        source=source,
        target=target,
        status="restored" if place.shard is None else "part done",
        tiles=len(tiles),
        found_done=found_done,
        failed_tiles=facts.failed_tiles,
        risk=risk.rms,
        risk_error=risk.error,
        noise=noise_in_words(noise),
        flux_change=facts.flux_change,
        seconds=time.monotonic() - started,
    )


def finish_run(
    scratch: Path, *, complete: bool = False, progress: Progress | None = None
) -> RunReport:
    """Write the product of a run whose tiles are there, made by shards or before a crash.

    complete : restore here what is missing; otherwise that is a RunError
    """
    about = read_status(scratch).about
    try:
        config = RunConfig.model_validate(about["configuration"])
        source, target = str(about["source"]), Path(str(about["target"]))
        overwrite = bool(about["overwrite"])
    except (KeyError, ValueError, ConfigError) as error:
        raise RunError(
            f"{scratch}: does not say how it was begun; run the command that began it again"
        ) from error
    if scratch_of(target) != scratch.absolute():
        target = scratch.absolute().with_suffix("")  # the folder was moved since
    options = config.worker_options(devices_of(config))
    if not complete:
        options = replace(options, executor=ExecutorKind.INLINE, workers=None)
    with open_pool(options) as pool:
        return restore_frame(
            source,
            target,
            config,
            overwrite=overwrite,
            progress=progress,
            command_line=tuple(about.get("command_line", ())),
            place=Place(pool, finish=not complete),
        )


def scratch_of(target: Path) -> Path:
    """Where the scratch folder of an output lies: beside it."""
    return target.with_name(f"{target.name}.dip")


def _about(
    source: str, target: Path, config: RunConfig, command_line: Sequence[str]
) -> dict[str, object]:
    """Say what a run is about, for `finish_run` on whichever machine."""
    prior = None if config.fit.prior is None else str(Path(config.fit.prior).absolute())
    settled = {"fit.prior": prior, "workers.threads_per_fit": config.threads_per_fit}
    full = config.with_overrides(**settled)
    return {
        "source": _absolute(source),
        "target": str(target.absolute()),
        "configuration": full.model_dump(mode="json", exclude_none=True),
        "command_line": list(command_line),
    }


def _absolute(source: str) -> str:
    path, selector = split_selector(source)
    return str(path.absolute()) + ("" if selector is None else f"[{selector}]")


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


def _prior_task(
    frame: Frame,
    noise: NoiseModel,
    config: RunConfig,
    run: RunDirectory,
    shared: PriorFile | None,
) -> PriorTask:
    """Plan the work on a frame, and its prior."""
    source = problem_source(frame, noise, config)
    plan = FramePlan(source, config.fit.seed, run.tiles, None, ALGORITHM_VERSION)
    shared_path = None if shared is None else shared.path.absolute()
    windows = tuple(fit_windows(frame.shape, seed=plan.seed))
    if source.options.scope is Scope.FRAME:
        key = prior_key(plan, windows, "" if shared is None else shared.sha256)
        plan = replace(plan, prior_path=run.keyed_path("prior", key))
    return PriorTask(plan, windows, shared_path, seen=False, telling=run.progress_path)


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
