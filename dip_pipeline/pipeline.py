"""The story of one frame: read, know its noise, fit, restore tile by tile, blend, write."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dip_pipeline.account import describe_run, input_facts
from dip_pipeline.config import RunConfig
from dip_pipeline.describing import FrameDescription, describe_frame
from dip_pipeline.devices import devices_used
from dip_pipeline.earlier_product import Made, differences_told, made_before
from dip_pipeline.engine import ExecutorKind, RunDirectory, open_pool, reach, read_status
from dip_pipeline.errors import ConfigError, RunError
from dip_pipeline.exposure_tallies import agreements, warn_of_exposures
from dip_pipeline.exposures import Exposures
from dip_pipeline.frame_prior import prior_facts, prior_task
from dip_pipeline.frames import (
    Frame,
    RestoredFrame,
    calibration_kind,
    check_target,
    file_digest,
    left_behind,
    left_out_names,
    open_frames,
    save_frames,
    split_selector,
)
from dip_pipeline.frames.digests import count_filled, count_unknown
from dip_pipeline.frames.publishing import prepare
from dip_pipeline.planes import (
    Plane,
    PlaneResult,
    Planes,
    blend_planes,
    plan_planes,
    pooled_facts,
    restore_plane,
)
from dip_pipeline.planning import devices_of, run_room
from dip_pipeline.prior_file import PriorFile
from dip_pipeline.progress import SILENT, Progress, Told
from dip_pipeline.quantising import storage_step
from dip_pipeline.read_beside import NamedFiles, digests_beside
from dip_pipeline.record import RunFacts, exposure_names, is_lost, risk_of, run_key, usual_failure
from dip_pipeline.restoration.computing import settings_kept
from dip_pipeline.restored_input import check_observed, check_whole
from dip_pipeline.restoring import Place
from dip_pipeline.room import Room, check_disk, check_memory, disk_watched, scratch_watched
from dip_pipeline.run_report import (
    RunReport,
    already_done,
    warn_of_refuted_law,
    with_failures_heard,
)
from dip_pipeline.task import Task
from dip_pipeline.task_optics import AskedOptics
from dip_pipeline.work import PriorTask

log = logging.getLogger(__name__)

__all__ = ["FrameDescription", "Progress", "RunReport", "describe_frame", "restore_frame"]


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
    place : where it runs; None for what the configuration says, and to leave the caller's own
        settings of torch (threads, ways of cuDNN) as they are
    Raises a DipError for whatever a user can cause.
    """
    told = progress or SILENT
    if place is not None:
        return _restored(source, target, config, place, told, command_line, overwrite=overwrite)
    with settings_kept(), open_pool(config.worker_options(devices_of(config))) as pool:
        place = Place(pool)
        return _restored(source, target, config, place, told, command_line, overwrite=overwrite)


def _restored(  # noqa: PLR0913  (as it was asked for)
    source: str,
    target: Path,
    config: RunConfig,
    place: Place,
    told: Progress,
    command_line: Sequence[str],
    *,
    overwrite: bool,
) -> RunReport:
    started = time.monotonic()
    named, asked = NamedFiles.of(config), AskedOptics.of(config)
    if place.pool.options.executor is ExecutorKind.DASK:  # workers may stand in another folder
        source, target = _absolute(source), target.absolute()
    frames = open_frames(source, config.frame_reading())
    frame, others = frames[0], Exposures.of(config, frames)
    shared = None if config.fit.prior is None else PriorFile.read(Path(config.fit.prior))
    key = run_key(
        config,
        file_digest(frame.path),
        split_selector(source)[1],
        prior_digest=None if shared is None else shared.sha256,
        companions=digests_beside(frames, others, config),
    )
    made = made_before(target, key, overwrite=overwrite)
    if made is Made.WHOLE:
        return _left_alone(source, target, key)
    overwrite |= made is Made.LACKING
    with differences_told(target, key):
        _check_target(target, frames, others, config, overwrite=overwrite)
    _check_kind(frame, strict=config.reading.strict)
    if shared is not None:
        shared.check(frame, config)
    planes = plan_planes(source, frames, config, Told(told, source), asked, others)
    named.check_unchanged()
    room = _checked_room(planes, config, place, source=source, target=target)
    about = _about(source, target, config, command_line) | {
        "tiles": planes.tiles,
        "overwrite": overwrite,
    }
    with (
        disk_watched(room, scratch_of(target)),
        RunDirectory.open(scratch_of(target), key, about=about, shard=place.shard) as run,
        scratch_watched(run.path),
    ):
        _tell_restarted(run, told)
        results, facts = [], []
        for plane in planes.restored:
            prior = prior_task(plane, config, run, shared)
            prior = replace(prior, seen=shared is not None and shared.has_seen(plane.origin))
            results.append(
                restore_plane(plane, prior, run, place, Told(told, planes.name_of(plane, source)))
            )
            facts.append(
                RunFacts(
                    run_id=run.run_id,
                    key=key,
                    config=config,
                    noise=plane.noise,
                    network=_network(shared, prior),
                    device=devices_used(results[-1].records),
                    tiles=results[-1].records,
                    command_line=command_line,
                    prior=prior_facts(prior.plan, run, shared),
                    seconds=time.monotonic() - started,
                    frame_pixels=plane.pixels,
                    step=_step_of(plane, target, config),
                    optics=None if asked is None else asked.facts,
                    left_out=left_out_names(plane.product),
                    exposures=[each.facts for each in plane.exposures],
                    **input_facts(source, plane.origin),
                )
            )
        if place.shard is None:
            restored, facts = blend_planes(results, facts, planes, run, place)
            _tell_filled(restored, source, told, config)
            for own in facts:
                _tell_of_exposures(own, source, told)
            run.tell("write")
            reach("before save")
            provenance = describe_run(pooled_facts(facts, planes))
            save_frames(target, restored, provenance=provenance, overwrite=overwrite)
            reach("after save")
            _let_go(run, results, told)
    total = pooled_facts(facts, planes)
    risk = risk_of(total)
    return with_failures_heard(
        RunReport(
            source=source,
            target=target,
            status="restored" if place.shard is None else "part done",
            tiles=planes.tiles,
            found_done=sum(result.found_done for result in results),
            failed_tiles=total.failed_tiles,
            failure=usual_failure(total.tiles),
            risk=risk.rms,
            risk_error=risk.error,
            below_zero=risk.below_zero,
            noise=planes.noise,
            flux_change=sum(own.flux_change for own in facts),
            seconds=time.monotonic() - started,
            notes=planes.notes,
        )
    )


def _check_kind(frame: Frame, *, strict: bool) -> None:
    """Say that a frame's header tells of no sky, or that its pixels were not observed."""
    check_observed(frame, strict=strict)
    if kind := calibration_kind(frame.header):
        log.warning(
            "%s: its header calls it %r, which shows no sky; it is restored as if it did; leave it "
            "out if that is not meant",
            frame.path,
            kind,
        )


def _let_go(run: RunDirectory, results: Sequence[PlaneResult], told: Progress) -> None:
    """Delete the scratch of a run that is done; where workers died, the same command goes on."""
    lost = sum(is_lost(tile) for result in results for tile in result.records)
    if not lost:
        run.remove()
        return
    run.drop_work()
    told.note(
        f"{run.path}: kept: the workers of {lost} tiles died; the same command restores these "
        "again, and puts them into the product"
    )


def _tell_restarted(run: RunDirectory, told: Progress) -> None:
    """Say why what was found of a run is not gone on with."""
    if run.restarted_because:
        changed = ", ".join(run.restarted_because)
        told.note(f"{run.path}: begun anew, for these changed: {changed}")


def _tell_filled(
    restored: Sequence[RestoredFrame], source: str, told: Progress, config: RunConfig
) -> None:
    """Say how many pixels were filled, where that was the task, and how many have no value."""
    made = [each.planes for each in restored if each.planes is not None]
    if config.task.name is Task.INPAINT:
        filled = sum(count_filled(planes) for planes in made)
        share = filled / sum(planes.flags.shape[0] * planes.flags.shape[1] for planes in made)
        told.note(f"{source}: {filled} pixels filled, {share:.2%} (flag 1)")
    if unknown := sum(count_unknown(planes) for planes in made):
        told.note(
            f"{source}: {unknown} pixels are NaN (flag 2): masked, or without a noise, and far "
            "from any that is known; dip inpaint fills what is masked"
        )


def _tell_of_exposures(facts: RunFacts, source: str, told: Progress) -> None:
    """Say how far each of several exposures agrees with the others."""
    names, found = exposure_names(facts), agreements(facts.tiles)
    for each in found:
        told.note(f"{source}: {names[each.number]}: {each.words}")
    warn_of_exposures(names, found)


def _left_alone(source: str, target: Path, key: Mapping[str, object]) -> RunReport:
    """Report on a product that is there; a run that died once it was written left its scratch."""
    RunDirectory.forget(scratch_of(target), key)
    return warn_of_refuted_law(already_done(source, target))


def _check_target(
    target: Path,
    frames: Sequence[Frame],
    others: Exposures | None,
    config: RunConfig,
    *,
    overwrite: bool,
) -> None:
    """Refuse a target that must not be written, or that anything is read of; raises OutputError.

    FrameError for some images of a result of several.
    """
    exposures = others.first_planes if others else ()
    check_whole(frames)
    check_target(target, frames[0], overwrite=overwrite)
    task, prior = config.task, config.fit.prior
    named = (name for name in (task.psf, task.mask, prior, *task.guides) if name is not None)
    beside = [path for each in (*frames, *exposures) for path in each.companions]
    beside += [each.path for each in exposures]
    for path in {*beside, *(split_selector(name)[0] for name in named)}:
        prepare(target, path, overwrite=overwrite)
    if gone := left_behind(target, frames[0]):
        log.warning(
            "%s: arrays that a FITS file of the result does not hold, left out: %s; write to a "
            "name that ends in .zarr to keep them",
            frames[0].path,
            ", ".join(gone[:8]) + (", ..." if len(gone) > 8 else ""),
        )


def _step_of(plane: Plane, target: Path, config: RunConfig) -> float | None:
    """Step that the pixels of a plane are stored in."""
    share = 1.0 if plane.optics is None else plane.optics.share
    share /= (1 + len(plane.exposures)) ** 0.5  # exposures combined have less noise
    return storage_step(target, plane.origin, plane.noise, config, share=share)


def _checked_room(
    planes: Planes, config: RunConfig, place: Place, *, source: str, target: Path
) -> Room:
    """Estimate what a run needs. Raises RunError or OutputError where it is not there."""
    restored = [(plane.frame, plane.tiles) for plane in planes.restored]
    optics = planes.restored[0].optics
    factor = 1 if optics is None else optics.factor
    room = run_room(restored, config, processes=place.pool.options.slots, factor=factor)
    check_memory(room, source, place.pool.options)
    check_disk(room, target, scratch_of(target))
    return room


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
    with settings_kept(), open_pool(options) as pool:
        return restore_frame(
            source,
            target,
            config,
            overwrite=overwrite,
            progress=progress,
            command_line=tuple(about.get("command_line", ())),
            place=Place(pool, finish=not complete),
        )


def _network(shared: PriorFile | None, prior: PriorTask) -> str:
    """Name the network of a plane."""
    return str((shared.prior if shared else prior.plan.source.options).network_kind)


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
