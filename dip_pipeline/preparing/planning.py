"""Before a frame is restored: its noise law, what it is fitted on, what it will cost."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from dip_pipeline.config import RunConfig
from dip_pipeline.engine import ExecutorKind, WorkerOptions
from dip_pipeline.errors import ConfigError, EmptyFrameError, SensorError
from dip_pipeline.frames import PLACES, Frame, Guide, mosaic_of, open_guides
from dip_pipeline.machine.gpus import gpu_count
from dip_pipeline.machine.room import Room, room_for
from dip_pipeline.noise.frame_noise import correlation_of
from dip_pipeline.preparing.cutting import ExposureSource, ProblemSource, Window
from dip_pipeline.preparing.prepared import settle_noise
from dip_pipeline.preparing.stacking import fitted_planes, planes_of_hdus, stacks_of
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.problem import (
    SMALLEST_SIDE_PX,
    Effort,
    FitOptions,
    InputKind,
    NetworkKind,
    Scope,
)
from dip_pipeline.sensor import NoiseModel
from dip_pipeline.sensor.noise_kernel import NoiseKernel
from dip_pipeline.task import Task
from dip_pipeline.tiling import Tile

_WHOLE_FRAME_PX = 1024 * 1024  # up to this the frame prior is fitted on all of it
_WINDOW_PX = 512  # above, on windows of this side
_LEAST_WINDOW_PX = 192  # of a frame whose scene is finer
_WINDOWS = 12
# Measured, as the largest that a process ever held, on one, two and four threads.
_PROCESS_BYTES = 400_000_000  # torch itself
_HELD_BYTES = 135  # a pixel of all windows that a prior is fitted on
_APPLIED_BYTES = 1650  # a pixel and thread, where networks are applied: each has a view of its own
_SCENE_BYTES = 1000  # the same of a scene's pixels: a pixel of the frame has several
SEEN_BYTES = 400_000_000  # at most, of exposures as they are seen that guide each other
_SEEN_PIXEL_BYTES = 14
_MOST_VIEWS = 3  # that are in memory at once; more threads do not all hold theirs


def resolve_noise(frame: Frame, config: RunConfig) -> NoiseModel:
    """Find the noise law of a frame, as `settle_frame` does."""
    return settle_frame(frame, config)[1]


def settle_frame(
    frame: Frame, config: RunConfig, elsewhere: NoiseKernel | None = None
) -> tuple[Frame, NoiseModel]:
    """Find the noise law; where nobody says, estimate it from the frame itself.

    elsewhere : correlation of the noise in other planes of the same cube; see `kernels_of_stacks`
    Returns the frame with the noise planes and the masks that the law and the options call for.
    Raises EmptyFrameError for a frame that is too small, or has no scatter to estimate from.
    """
    if min(frame.shape) < SMALLEST_SIDE_PX:
        raise EmptyFrameError(
            f"{frame.path}: {frame.shape[0]} x {frame.shape[1]} px is too small to fit a network "
            f"to; need at least {SMALLEST_SIDE_PX} px a side"
        )
    # Of a raw mosaic every filter is looked at, and what all four show tells the law of each.
    parts = 1 if mosaic_of(frame) is None else len(PLACES)
    return settle_noise(frame, config, fit_windows(frame.shape, seed=0, frames=parts), elsewhere)


def kernels_of_stacks(frames: Sequence[Frame], config: RunConfig) -> dict[int, NoiseKernel]:
    """Measure how noise correlates in the planes of each cube, by the number of the plane.

    Light may fill a plane, so that it has no sky to measure on: the others have. Of raw mosaics
    nothing is measured: their noise is white.
    """
    kernels: dict[int, NoiseKernel] = {}
    for stack in planes_of_hdus(frames):
        if mosaic_of(frames[stack[0]]) is not None:
            continue
        shape = frames[stack[0]].shape
        chosen = fitted_planes(stack, shape)
        places = fit_windows(shape, seed=0, frames=len(chosen))
        planes = [(frames[number], places) for number in chosen]
        if (kernel := correlation_of(planes, config)) is not None:
            kernels |= dict.fromkeys(stack, kernel)
    return kernels


def fit_options(config: RunConfig) -> FitOptions:
    """Give the restoration room its options."""
    fit = config.fit
    return FitOptions(
        input=InputKind(fit.input),
        scope=Scope(config.scope_in_force),
        network=NetworkKind(fit.network),
        effort=Effort(fit.effort),
        steps=fit.steps,
        flux_scale_px=fit.flux_scale_px,
        task=config.task.name,
        keep_known=config.task.name is Task.INPAINT and not config.task.denoise_known,
        by_hiding=config.by_hiding,
    )


def guides_of(config: RunConfig, frames: Sequence[Frame]) -> dict[str, tuple[Guide, ...]]:
    """Open the guides of each plane of a file, by its label; an error where they are of no use."""
    guides = config.task.guides
    if guides and config.fit.input != "image":
        raise ConfigError(f"--input {config.fit.input}: --guide needs --input image; leave one out")
    if guides and config.task.name is not Task.DENOISE:
        raise ConfigError(
            f"guides for the task {config.task.name}: only denoise takes them; leave them out"
        )
    found = open_guides(guides, frames)
    return {frame.label: own for frame, own in zip(frames, found, strict=True)}


def problem_source(
    frame: Frame,
    noise: NoiseModel,
    config: RunConfig,
    optics: Optics | None = None,
    exposures: tuple[ExposureSource, ...] = (),
    guides: tuple[Guide, ...] = (),
) -> ProblemSource:
    """Put together all that problems of a frame have in common.

    optics : between the scene that is asked for and the pixels; None: the scene is what they show
    exposures : further ones, to be combined with the frame
    guides : other images of the same sky
    Raises SensorError where the input needs a noise law, and there is none.
    """
    options = fit_options(config)
    if options.input is InputKind.IMAGE and noise.kind == "none" and not options.by_hiding:
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
        optics=optics,
        exposures=exposures,
    )


def fit_windows(
    shape: tuple[int, int], *, seed: int, frames: int = 1, factor: int = 1
) -> list[Window]:
    """Windows that a prior is fitted on: the frame, or a stratified choice of windows.

    frames : how many frames the prior is fitted on; each gives its part
    factor : pixels of the scene for one of the frame, along each axis: windows hold about as many
        pixels of the scene, whatever it is
    """
    window_px = _WINDOW_PX if factor == 1 else max(_LEAST_WINDOW_PX, _WINDOW_PX // factor)
    whole_px = min(_WHOLE_FRAME_PX, max(_WINDOW_PX**2, 3 * _WHOLE_FRAME_PX // frames))
    whole_px = max(whole_px // factor**2, window_px**2)
    if shape[0] * shape[1] <= whole_px:
        return [(slice(0, shape[0]), slice(0, shape[1]))]
    rng = np.random.default_rng(np.random.SeedSequence([seed, 11]))
    sides = [min(window_px, length) for length in shape]
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
    planes: Sequence[tuple[Frame, Sequence[Tile]]],
    config: RunConfig,
    *,
    processes: int = 1,
    factor: int = 1,
) -> Room:
    """Estimate what a run needs: the memory of its largest plane, the disk of all together.

    planes : every plane that is restored, with its tiles
    factor : pixels of the result for one of the frame, along each axis
    """
    shared_px = _shared_pixels([frame for frame, _ in planes], config)
    rooms = [
        _plane_room(frame, tiles, config, processes=processes, factor=factor, shared_px=shared_px)
        for frame, tiles in planes
    ]
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


def _shared_pixels(frames: Sequence[Frame], config: RunConfig) -> int:
    """Count the pixels of the largest fit that planes share; 0 where none do."""
    counts = [0]
    for stack in stacks_of(frames, config):
        shape = frames[stack[0]].shape
        fitted = len(fitted_planes(stack, shape))
        windows = fit_windows(shape, seed=0, frames=fitted)
        counts.append(fitted * sum(_pixels_of(window) for window in windows))
    return max(counts)


def _pixels_of(window: Window) -> int:
    rows, cols = window
    return int((rows.stop - rows.start) * (cols.stop - cols.start))


def _plane_room(
    frame: Frame,
    tiles: Sequence[Tile],
    config: RunConfig,
    *,
    processes: int,
    factor: int,
    shared_px: int,
) -> Room:
    """Estimate what the restoration of one plane needs of memory and disk.

    shared_px : that the largest fit of several planes is made on
    """
    tile_px = max(_pixels_of((tile.halo_rows, tile.halo_cols)) for tile in tiles)
    fitted_px = held_px = tile_px
    if config.scope_in_force == "frame":
        windows = fit_windows(frame.shape, seed=0, factor=factor)
        sizes = [_pixels_of(window) for window in windows]
        held_px, fitted_px = max(sum(sizes), shared_px), max(sizes)
    applied_px = max(fitted_px, tile_px) * factor**2
    applied_bytes = _APPLIED_BYTES if factor == 1 else _SCENE_BYTES
    applied_bytes *= min(config.threads_per_fit, _MOST_VIEWS)
    held_bytes = _HELD_BYTES * held_px * factor**2
    memory = _PROCESS_BYTES + held_bytes + applied_bytes * applied_px
    if config.task.each:
        count = 1 + len(config.task.exposures)
        memory += min(SEEN_BYTES, _SEEN_PIXEL_BYTES * count * frame.shape[0] * frame.shape[1])
    return room_for(frame, tiles, memory_bytes=memory, processes=processes, factor=factor)


def options_when_needed(config: RunConfig) -> Callable[[], WorkerOptions]:
    """Give what makes the options of the workers; GPUs are counted when it is called.

    Raises ConfigError now for options that cannot be, and for a device that is asked for by its
    name and is not there.
    """
    if config.workers.device == "auto":
        config.worker_options()  # what is wrong whatever the devices are
        return lambda: config.worker_options(devices_of(config))
    options = config.worker_options(devices_of(config))
    return lambda: options


def devices_of(config: RunConfig) -> tuple[str, ...]:
    """Devices in force. Raises ConfigError where a GPU is asked for and there is none."""
    asked = config.workers.device
    if config.workers.executor_in_force is ExecutorKind.DASK:
        return (asked,)  # what its workers have is not known here
    count = 0 if asked == "cpu" else gpu_count()
    if asked == "cpu" or (asked == "auto" and count == 0):
        return ("cpu",)
    if count == 0 or (":" in asked and int(asked.split(":")[1]) >= count):
        raise ConfigError(f"--device {asked}: this machine has {count} GPUs; use auto or cpu")
    return tuple(f"cuda:{i}" for i in range(count)) if asked in ("auto", "cuda") else (asked,)
