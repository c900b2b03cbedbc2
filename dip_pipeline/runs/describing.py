"""What is known of a frame before anything is restored, and what a run would do with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dip_pipeline.account.restored_input import inferred_notes
from dip_pipeline.config import RunConfig
from dip_pipeline.config.task_optics import AskedOptics
from dip_pipeline.errors import ConfigError, FrameError, PriorError, SensorError
from dip_pipeline.exposures.guiding import fitted_exposures, sharing_words
from dip_pipeline.frames import (
    Frame,
    PlaneInfo,
    calibration_kind,
    finer_frame,
    finer_notes,
    images_beside,
    open_frames,
    unlike_notes,
    wcs_words,
    whole_frames,
    with_mask,
)
from dip_pipeline.noise.frame_sensor import sensor_of
from dip_pipeline.noise.in_words import noise_in_words
from dip_pipeline.noise.ladder import Rung, climb
from dip_pipeline.preparing.planning import (
    devices_of,
    fit_windows,
    kernels_of_stacks,
    run_room,
    settle_frame,
)
from dip_pipeline.preparing.stacking import stack_notes, stacks_of
from dip_pipeline.restoration.computing.callers_settings import settings_kept
from dip_pipeline.runs.mosaics import check_mosaics, mosaic_notes
from dip_pipeline.runs.prior_file import PriorFile
from dip_pipeline.runs.time_guess import guess_seconds
from dip_pipeline.sensor.noise_kernel import NoiseKernel
from dip_pipeline.tiling import plan_tiles


@dataclass(frozen=True, slots=True)
class FrameDescription:
    """What is known of a frame before anything is restored.

    memory_bytes : of all processes that would work on it together
    """

    source: str
    format: str
    layout: str
    science: tuple[str, ...]
    shape: tuple[int, int]
    unit: str
    planes: tuple[PlaneInfo, ...]
    wcs: str
    mask: str
    ladder: tuple[Rung, ...]
    noise: str
    noise_lines: tuple[str, ...]
    tile_lines: str
    masked_share: float
    memory_bytes: int
    processes: int
    disk_bytes: int
    seconds: float
    notes: tuple[str, ...] = ()
    result: str = ""


@settings_kept()
def describe_frame(source: str, config: RunConfig) -> FrameDescription:
    """Say what a frame holds and what a run would do with it; restores nothing."""
    frames = with_mask(open_frames(source, config.frame_reading()), config.task.mask)
    check_mosaics(frames, config.task)
    frame = frames[0]
    sensor = sensor_of(frame, config)
    correlation: NoiseKernel | None = None
    notes: tuple[str, ...] = ()
    try:
        frame, found = settle_frame(frame, config, kernels_of_stacks(frames, config).get(0))
        rungs = climb(frame, config, sensor, found)
        # What was estimated stands in the place of what the header does not say.
        noise, sensor, correlation = noise_in_words(found), found.sensor, found.correlation
    except (SensorError, FrameError) as error:
        noise, notes = "not to be had", (str(error),)
        rungs = climb(frame, config, sensor, None)
    lines = [
        f"{name}: {'not known' if number is None else number}"
        for name, number in (
            ("gain", sensor.gain_e_per_dn),
            ("read noise", sensor.read_noise_e),
            ("pedestal", sensor.pedestal_dn),
            ("saturation", sensor.saturation_dn),
            ("subtracted sky", sensor.subtracted_sky_dn),
            ("exposures combined", sensor.n_combined),
            ("error plane", "yes" if frame.has_error_plane else None),
            ("correlation of the noise", correlation),
        )
    ]
    asked = AskedOptics.of(config)
    factor = 1 if asked is None else asked.factor
    options = config.tile_options()
    options = asked.tile_options(options) if asked else options
    planes = [(item, plan_tiles(item.shape, options)) for item in frames]
    tiles = planes[0][1]
    count = sum(len(plane_tiles) for _, plane_tiles in planes)
    stacks = stacks_of(frames, config)
    sharing = {number: len(stack) for stack in stacks for number in stack}
    exposures = len(config.task.exposures) + 1
    if shared := fitted_exposures(config, exposures):
        sharing = dict.fromkeys(range(len(frames)), exposures)
    room = run_room(planes, config, processes=_processes(config), factor=factor)
    return FrameDescription(
        source=source,
        format=frame.format,
        layout=frame.layout,
        science=tuple(item.label or "the image" for item in frames),
        shape=whole_frames([frame])[0].shape,
        unit=frame.unit,
        planes=frame.planes,
        wcs=wcs_words(whole_frames([frame])[0].header),
        mask=frame.flag_words,
        ladder=rungs,
        noise=noise,
        noise_lines=tuple(lines),
        tile_lines=f"{count} {'tile' if count == 1 else 'tiles'} of "
        f"{tiles[0].shape[0]} x {tiles[0].shape[1]} px, "
        f"sharing {config.tiles.overlap_px} px",
        masked_share=_masked_share(frame),
        memory_bytes=room.all_memory_bytes,
        processes=room.processes,
        disk_bytes=room.disk_bytes,
        seconds=sum(
            guess_seconds(item.shape, cut, config, asked, sharing=sharing.get(number, 1))
            for number, (item, cut) in enumerate(planes)
        ),
        result=_result_words(frame, asked),
        notes=notes
        + inferred_notes(frame)
        + unlike_notes(frames)
        + mosaic_notes(frames, config.reading.bayer)
        + _sort_notes(frame)
        + sensor.notes
        + sensor.guesses
        + stack_notes(frames, stacks)
        + ((sharing_words(shared, exposures),) if shared else ())
        + _prior_notes(frames, config),
    )


def _processes(config: RunConfig) -> int:
    """How many processes would work on tiles, as if on this machine."""
    try:
        devices = devices_of(config)
    except ConfigError:  # a GPU, which the machine that will do the work may have
        devices = ("cuda:0",)
    return config.worker_options(devices).slots


def _result_words(frame: Frame, asked: AskedOptics | None) -> str:
    """Say what a task that restores a scene would give; "" for one of the frame's own pixels.

    Raises FrameError where it could not be done.
    """
    if asked is None:
        return ""
    asked.of_frame(frame)
    grid = asked.grid(frame)
    sides = [side * asked.factor for side in frame.shape]
    words = f"{sides[0]} rows x {sides[1]} columns, PSF: {asked.words}"
    if asked.factor == 1:
        return words
    shared = "share the flux" if grid.per_pixel else "have the brightness"
    notes = finer_notes(finer_frame(frame, grid))
    return "; ".join([f"{words}; finer pixels {shared} of the one they are cut from", *notes])


def _sort_notes(frame: Frame) -> tuple[str, ...]:
    """Say where the header calls the frame a calibration frame, and not one of the sky."""
    kind = calibration_kind(frame.header)
    return (f"the header calls it {kind}: a calibration frame, not the sky",) if kind else ()


def _masked_share(frame: Frame) -> float:
    """Share of bad pixels, of the frame or of the windows that a fit looks at; of all filters."""
    seen = [frame, *images_beside(frame)]
    shares = [one.read(*w).masked.mean() for one in seen for w in fit_windows(one.shape, seed=0)]
    return float(np.mean(shares))


def _prior_notes(frames: Sequence[Frame], config: RunConfig) -> tuple[str, ...]:
    """Say whether the prior that was asked for can be applied."""
    if config.fit.prior is None:
        return ()
    try:
        prior = PriorFile.read(Path(config.fit.prior))
        prior.check(frames[0], config, frames[1:])
    except PriorError as error:
        return (str(error),)
    names = ", ".join(item.name for item in prior.frames)
    return (f"no fit: {prior.path} is applied, fitted to {names}",)
