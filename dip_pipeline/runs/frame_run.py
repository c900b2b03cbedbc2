"""The run of a frame that is not done yet: know its noise, fit, restore, blend, write."""

import time
from collections.abc import Sequence
from pathlib import Path

from dip_pipeline.account.account import describe_run, input_facts
from dip_pipeline.account.earlier_product import Made, made_before
from dip_pipeline.account.record import RunFacts, exposure_names, is_lost, risk_of, usual_failure
from dip_pipeline.account.run_report import (
    RunReport,
    already_done,
    kept_words,
    warn_of_doubted,
    warn_of_refuted_law,
    with_failures_heard,
)
from dip_pipeline.config import RunConfig
from dip_pipeline.engine import RunDirectory, reach
from dip_pipeline.exposure_tallies import agreements, warn_of_exposures
from dip_pipeline.frames import RestoredFrame, left_out_names, save_frames
from dip_pipeline.frames.digests import count_filled, count_unknown
from dip_pipeline.machine.devices import devices_used
from dip_pipeline.machine.room import Room, check_disk, check_memory, disk_watched, scratch_watched
from dip_pipeline.preparing.planning import run_room
from dip_pipeline.progress import Progress, Told
from dip_pipeline.runs.asked_run import AskedRun, absolute_source
from dip_pipeline.runs.frame_prior import prior_facts, prior_task, stack_fits
from dip_pipeline.runs.place import Place, scratch_of
from dip_pipeline.runs.plane_results import (
    PlaneResult,
    blend_planes,
    pooled_facts,
    restore_planes,
)
from dip_pipeline.runs.planes import Plane, Planes, plan_planes
from dip_pipeline.runs.prior_file import PriorFile
from dip_pipeline.runs.prior_work import PriorTask
from dip_pipeline.runs.quantising import storage_step
from dip_pipeline.sensor import NoiseKind
from dip_pipeline.task import Task


def restore_asked(asked: AskedRun, place: Place, told: Progress, *, overwrite: bool) -> RunReport:
    """Restore the planes of a file and write the product; goes on where a run was interrupted.

    Raises a DipError for whatever a user can cause.
    """
    source, target, config, shared = asked.source, asked.target, asked.config, asked.shared
    if shared is not None:
        shared.check(asked.frame, config, asked.frames[1:])
        shared.load()  # an error in its weights is told now, not by a worker
    planes = plan_planes(
        source, asked.frames, config, Told(told, source), asked.optics, asked.others
    )
    asked.named.check_unchanged()
    room = _checked_room(planes, config, place, source=source, target=target)
    about = _about(asked) | {
        "tiles": planes.tiles,
        "overwrite": overwrite,
    }
    with (
        disk_watched(room, scratch_of(target)),
        RunDirectory.open(scratch_of(target), asked.key, about=about, shard=place.shard) as run,
        scratch_watched(run.path),
    ):
        if place.shard is None and _made_meanwhile(asked, overwrite=overwrite):
            run.remove()
            return warn_of_refuted_law(already_done(source, target))
        _tell_restarted(run, told)
        fits = stack_fits(planes, config, run, Told(told, source))
        stacks = [fits.get(plane.first_tile) for plane in planes.restored]
        priors = [
            (prior_task(plane, config, run, shared, stack), stack)
            for plane, stack in zip(planes.restored, stacks, strict=True)
        ]
        results = restore_planes(planes, priors, run, place, Told(told, source))
        facts = []
        for (prior, stack), result in zip(priors, results, strict=True):
            plane = result.plane
            facts.append(
                RunFacts(
                    run_id=run.run_id,
                    key=asked.key,
                    config=config,
                    noise=plane.noise,
                    network=_network(shared, prior),
                    device=devices_used(result.records),
                    tiles=result.records,
                    command_line=asked.command_line,
                    prior=prior_facts(prior, run, shared, stack),
                    seconds=time.monotonic() - asked.started,
                    frame_pixels=plane.pixels,
                    step=_step_of(plane, target, config),
                    optics=None if asked.optics is None else asked.optics.facts,
                    left_out=left_out_names(plane.product),
                    exposures=[each.facts for each in plane.exposures],
                    **input_facts(source, plane.origin),
                )
            )
        if place.shard is None:
            restored, facts = blend_planes(results, facts, planes, run, place)
            _tell_filled(restored, source, told, config)
            for plane, own in zip(planes.restored, facts, strict=True):
                _tell_of_plane(own, planes.name_of(plane, source), told)
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
            counts=planes.restored[0].noise.kind is NoiseKind.POISSON,
            combined=planes.restored[0].combined,
            missing_tiles=planes.tiles - len(total.tiles),
            flux_change=sum(own.flux_change for own in facts),
            seconds=time.monotonic() - asked.started,
            notes=planes.notes,
        )
    )


def _made_meanwhile(asked: AskedRun, *, overwrite: bool) -> bool:
    """Tell whether another run finished this very product while this one got ready."""
    return made_before(asked.target, asked.key, overwrite=overwrite) is Made.WHOLE


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


def _tell_of_plane(facts: RunFacts, name: str, told: Progress) -> None:
    """Say how far each of several exposures agrees with the others, and what no light explains."""
    names, found = exposure_names(facts), agreements(facts.tiles)
    for each in found:
        told.note(f"{name}: {names[each.number]}: {each.words}")
    warn_of_exposures(names, found)
    if words := kept_words(facts.tiles):
        told.note(f"{name}: {words}")
    warn_of_doubted(facts.tiles, name)


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


def _network(shared: PriorFile | None, prior: PriorTask) -> str:
    """Name the network of a plane."""
    return str((shared.record if shared else prior.plan.source.options).network_kind)


def _about(asked: AskedRun) -> dict[str, object]:
    """Say what a run is about, for `finish_run` on whichever machine."""
    config = asked.config
    prior = None if config.fit.prior is None else str(Path(config.fit.prior).absolute())
    settled = {"fit.prior": prior, "workers.threads_per_fit": config.threads_per_fit}
    full = config.with_overrides(**settled)
    return {
        "source": absolute_source(asked.source),
        "target": str(asked.target.absolute()),
        "configuration": full.model_dump(mode="json", exclude_none=True),
        "command_line": list(asked.command_line),
    }
