"""The story of one frame: open it; what is made already is left alone, the rest is restored."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dip_pipeline.account.earlier_product import Made, differences_told, made_before
from dip_pipeline.account.restored_input import check_observed, check_whole
from dip_pipeline.account.run_report import RunReport, already_done, warn_of_refuted_law
from dip_pipeline.config import RunConfig
from dip_pipeline.engine import ExecutorKind, RunDirectory, open_pool, open_when_needed, read_status
from dip_pipeline.errors import ConfigError, RunError
from dip_pipeline.frames import Frame, calibration_kind, check_target, left_behind, split_selector
from dip_pipeline.frames.publishing import prepare
from dip_pipeline.preparing.planning import devices_of, options_when_needed
from dip_pipeline.progress import SILENT, Progress
from dip_pipeline.restoration.computing.callers_settings import settings_kept
from dip_pipeline.runs.asked_run import AskedRun, absolute_source
from dip_pipeline.runs.describing import FrameDescription, describe_frame
from dip_pipeline.runs.place import Place, scratch_of

log = logging.getLogger(__name__)

__all__ = [
    "FrameDescription",
    "Progress",
    "RunReport",
    "describe_frame",
    "finish_run",
    "restore_frame",
    "scratch_of",
]


def restore_frame(  # noqa: PLR0913  (all but three have defaults)
    source: str | Path,
    target: str | Path,
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
    source, target = str(source), Path(target)
    if place is not None:
        return _restored(source, target, config, place, told, command_line, overwrite=overwrite)
    executor = config.workers.executor_in_force
    with settings_kept(), open_when_needed(executor, options_when_needed(config)) as pool:
        place = Place(pool, elsewhere=executor is ExecutorKind.DASK)
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
    if place.elsewhere:
        source, target = absolute_source(source), target.absolute()
    asked = AskedRun.opened(source, target, config, command_line)
    made = made_before(target, asked.key, overwrite=overwrite)
    if made is Made.WHOLE:
        return _left_alone(source, target, asked.key)
    overwrite |= made is Made.LACKING
    with differences_told(target, asked.key):
        _check_target(asked, overwrite=overwrite)
    _check_kind(asked.frame, strict=config.reading.strict)
    from dip_pipeline.runs.frame_run import restore_asked  # torch loads here

    return restore_asked(asked, place, told, overwrite=overwrite)


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


def _left_alone(source: str, target: Path, key: Mapping[str, object]) -> RunReport:
    """Report on a product that is there; a run that died once it was written left its scratch."""
    RunDirectory.forget(scratch_of(target), key)
    return warn_of_refuted_law(already_done(source, target))


def _check_target(asked: AskedRun, *, overwrite: bool) -> None:
    """Refuse a target that must not be written, or that anything is read of; raises OutputError.

    FrameError for some images of a result of several.
    """
    target, frames = asked.target, asked.frames
    exposures = asked.others.first_planes if asked.others else ()
    check_whole(frames)
    check_target(target, frames[0], overwrite=overwrite)
    task, prior = asked.config.task, asked.config.fit.prior
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
            place=Place(
                pool,
                finish=not complete,
                elsewhere=options.executor is ExecutorKind.DASK,
            ),
        )
