"""Before a frame is restored: its noise law, what it is fitted on, what it will cost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from dip_pipeline.config import RunConfig
from dip_pipeline.cutting import ProblemSource, Window
from dip_pipeline.engine import ExecutorKind
from dip_pipeline.errors import ConfigError, EmptyFrameError, FrameError, PriorError, SensorError
from dip_pipeline.frame_noise import noise_in_words, sensor_of
from dip_pipeline.frames import Frame, Guide, PlaneInfo, open_frames, wcs_words
from dip_pipeline.ladder import Rung, climb
from dip_pipeline.noise_kernel import NoiseKernel
from dip_pipeline.preparing import settle_noise
from dip_pipeline.prior_file import PriorFile
from dip_pipeline.restoration.problem import (
    SMALLEST_SIDE_PX,
    Effort,
    FitOptions,
    InputKind,
    NetworkKind,
    Scope,
)
from dip_pipeline.room import Room, room_for
from dip_pipeline.sensor import NoiseModel
from dip_pipeline.tiling import Tile, plan_tiles

_WHOLE_FRAME_PX = 1024 * 1024  # up to this the frame prior is fitted on all of it
_WINDOW_PX = 512  # above, on windows of this side
_WINDOWS = 12
_CALIBRATIONS = ("bias", "zero", "dark", "flat", "dflat", "domeflat", "skyflat", "dome")
_PROCESS_BYTES = 350_000_000  # torch itself
_HELD_BYTES = 40  # a pixel of all windows that a prior is fitted on
_APPLIED_BYTES = 1900  # a pixel that networks are applied to: two views are computed at a time


@dataclass(frozen=True, slots=True)
class FrameDescription:
    """What is known of a frame before anything is restored."""

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
    tiles: int
    tile_lines: str
    masked_share: float | None
    memory_bytes: int
    disk_bytes: int
    seconds: float
    notes: tuple[str, ...] = ()


def describe_frame(source: str, config: RunConfig) -> FrameDescription:
    """Say what a frame holds and what a run would do with it; restores nothing."""
    frames = open_frames(source, config.frame_reading())
    frame = frames[0]
    sensor = sensor_of(frame, config)
    correlation: NoiseKernel | None = None
    notes: tuple[str, ...] = ()
    try:
        frame, found = settle_frame(frame, config)
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
    planes = [(item, plan_tiles(item.shape, config.tile_options())) for item in frames]
    tiles = planes[0][1]
    count = sum(len(plane_tiles) for _, plane_tiles in planes)
    room = run_room(planes, config)
    return FrameDescription(
        source=source,
        format=frame.format,
        layout=frame.layout,
        science=tuple(item.label for item in frames),
        shape=frame.shape,
        unit=frame.unit,
        planes=frame.planes,
        wcs=wcs_words(frame.header),
        mask=frame.flag_words,
        ladder=rungs,
        noise=noise,
        noise_lines=tuple(lines),
        tiles=count,
        tile_lines=f"{count} tiles of {tiles[0].shape[0]} x {tiles[0].shape[1]} px, "
        f"sharing {config.tiles.overlap_px} px",
        masked_share=_masked_share(frame),
        memory_bytes=room.memory_bytes,
        disk_bytes=room.disk_bytes,
        seconds=sum(_seconds(item.shape, len(of_item), config) for item, of_item in planes),
        notes=notes
        + _sort_notes(frame)
        + sensor.notes
        + sensor.guesses
        + _prior_notes(frame, config),
    )


def _sort_notes(frame: Frame) -> tuple[str, ...]:
    """Say where the header calls the frame a calibration frame, and not one of the sky."""
    sorts = {str(frame.header.get(name) or "").strip().lower() for name in ("IMAGETYP", "OBSTYPE")}
    found = sorted(sort for sort in sorts if sort.split(" ")[0] in _CALIBRATIONS)
    return tuple(f"the header calls it {sort}: a calibration frame, not the sky" for sort in found)


def _masked_share(frame: Frame) -> float:
    """Share of bad pixels, of the frame or of the windows that a fit looks at."""
    windows = fit_windows(frame.shape, seed=0)
    return float(np.mean([frame.read(*window).masked.mean() for window in windows]))


def _prior_notes(frame: Frame, config: RunConfig) -> tuple[str, ...]:
    """Say whether the prior that was asked for can be applied."""
    if config.fit.prior is None:
        return ()
    try:
        prior = PriorFile.read(Path(config.fit.prior))
        prior.check(frame, config)
    except PriorError as error:
        return (str(error),)
    names = ", ".join(item.name for item in prior.frames)
    return (f"no fit: {prior.path} is applied, fitted to {names}",)


def resolve_noise(frame: Frame, config: RunConfig) -> NoiseModel:
    """Find the noise law of a frame, as `settle_frame` does."""
    return settle_frame(frame, config)[1]


def settle_frame(frame: Frame, config: RunConfig) -> tuple[Frame, NoiseModel]:
    """Find the noise law; where nobody says, estimate it from the frame itself.

    Returns the frame with the noise planes and the masks that the law and the options call for.
    Raises EmptyFrameError for a frame that is too small, or has no scatter to estimate from.
    """
    if min(frame.shape) < SMALLEST_SIDE_PX:
        raise EmptyFrameError(
            f"{frame.path}: {frame.shape[0]} x {frame.shape[1]} px is too small to fit a network "
            f"to; need at least {SMALLEST_SIDE_PX} px a side"
        )
    return settle_noise(frame, config, fit_windows(frame.shape, seed=0))


def fit_options(config: RunConfig) -> FitOptions:
    """Give the restoration room its options."""
    fit = config.fit
    return FitOptions(
        input=InputKind(fit.input),
        scope=Scope(fit.scope),
        network=NetworkKind(fit.network),
        effort=Effort(fit.effort),
        steps=fit.steps,
        flux_scale_px=fit.flux_scale_px,
    )


def problem_source(
    frame: Frame, noise: NoiseModel, config: RunConfig, guides: tuple[Guide, ...] = ()
) -> ProblemSource:
    """Put together all that problems of a frame have in common.

    guides : other images of the same sky
    Raises SensorError where the input needs a noise law, and there is none.
    """
    options = fit_options(config)
    if options.input is InputKind.IMAGE and noise.kind == "none":
        raise SensorError(
            f"{frame.path}: --input image draws noise from the noise law, and --noise none has "
            "none; give a noise law, or --input code"
        )
    saturation = noise.sensor.saturation_dn
    return ProblemSource(
        frame=frame,
        noise=noise,
        options=options,
        saturation_dn=None if saturation is None else saturation.value,
        device=config.worker_options(devices_of(config)).item_device,
        threads=config.threads_per_fit,
        guides=guides,
    )


def fit_windows(shape: tuple[int, int], *, seed: int, frames: int = 1) -> list[Window]:
    """Windows that a prior is fitted on: the frame, or a stratified choice of windows.

    frames : how many frames the prior is fitted on; each gives its part
    """
    whole_px = min(_WHOLE_FRAME_PX, max(_WINDOW_PX**2, 3 * _WHOLE_FRAME_PX // frames))
    if shape[0] * shape[1] <= whole_px:
        return [(slice(0, shape[0]), slice(0, shape[1]))]
    rng = np.random.default_rng(np.random.SeedSequence([seed, 11]))
    sides = [min(_WINDOW_PX, length) for length in shape]
    wanted = max(1, _WINDOWS // frames)
    across = max(1, round((wanted * shape[1] / shape[0]) ** 0.5))
    down = max(1, round(wanted / across))
    windows = []
    for row, col in np.ndindex(down, across):
        corner = [
            int((place + rng.random()) / count * (length - side))
            for place, count, length, side in zip(
                (row, col), (down, across), shape, sides, strict=True
            )
        ]
        rows, cols = (slice(first, first + side) for first, side in zip(corner, sides, strict=True))
        windows.append((rows, cols))
    return windows


def run_room(
    planes: Sequence[tuple[Frame, Sequence[Tile]]], config: RunConfig, *, processes: int = 1
) -> Room:
    """Estimate what a run needs: the memory of its largest plane, the disk of all together.

    planes : every plane that is restored, with its tiles
    """
    rooms = [_plane_room(frame, tiles, config, processes) for frame, tiles in planes]
    # Every room counts what the file itself takes; the product has it once.
    largest = max(rooms, key=lambda room: room.product_bytes)
    blending = sum(room.blending_bytes for room in rooms)
    return replace(
        largest,
        memory_bytes=max(room.memory_bytes for room in rooms),
        tiles_bytes=sum(room.tiles_bytes for room in rooms),
        blending_bytes=blending,
        product_bytes=largest.product_bytes + blending - largest.blending_bytes,
    )


def _plane_room(frame: Frame, tiles: Sequence[Tile], config: RunConfig, processes: int) -> Room:
    """Estimate what the restoration of one plane needs of memory and disk."""
    pixels = frame.shape[0] * frame.shape[1]
    tile_px = max(
        (t.halo_rows.stop - t.halo_rows.start) * (t.halo_cols.stop - t.halo_cols.start)
        for t in tiles
    )
    fitted_px = held_px = tile_px
    if config.fit.scope == "frame":
        held_px = min(pixels, _WINDOWS * _WINDOW_PX**2)
        fitted_px = pixels if pixels <= _WHOLE_FRAME_PX else _WINDOW_PX**2
    memory = _PROCESS_BYTES + _HELD_BYTES * held_px + _APPLIED_BYTES * max(fitted_px, tile_px)
    return room_for(frame, tiles, memory_bytes=memory, processes=processes)


def devices_of(config: RunConfig) -> tuple[str, ...]:
    """Devices in force. Raises ConfigError where a GPU is asked for and there is none."""
    asked = config.workers.device
    if config.workers.executor_in_force is ExecutorKind.DASK:
        return (asked,)  # what its workers have is not known here
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "cpu" or (asked == "auto" and count == 0):
        return ("cpu",)
    if count == 0 or (":" in asked and int(asked.split(":")[1]) >= count):
        raise ConfigError(f"--device {asked}: this machine has {count} GPUs; use auto or cpu")
    return tuple(f"cuda:{i}" for i in range(count)) if asked in ("auto", "cuda") else (asked,)


def _seconds(shape: tuple[int, int], tiles: int, config: RunConfig) -> float:
    """Rough time of one plane."""
    options, side = fit_options(config), config.tiles.size_px
    fit = 0.0 if config.fit.prior else _fit_seconds(tiles, side, options)
    return fit + _apply_seconds(max(shape[0] * shape[1], tiles * side**2), options)


def _fit_seconds(tiles: int, side: int, options: FitOptions) -> float:
    """Rough time of the fits on two CPU cores, from figures measured there; GPUs are faster."""
    a_step = 0.024 if options.input is InputKind.IMAGE else 2.5e-6 * min(side**2, 256**2)
    networks = 2 if options.input is InputKind.IMAGE else 1
    fits = tiles if options.scope is Scope.TILE else 1
    return fits * networks * options.step_limit * a_step


def _apply_seconds(pixels: int, options: FitOptions) -> float:
    """Rough time on two CPU cores to apply the networks to so many pixels, overlaps counted."""
    return 6e-6 * options.view_count * pixels
