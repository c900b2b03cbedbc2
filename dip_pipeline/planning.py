"""Before a frame is restored: its noise law, what it is fitted on, what it will cost."""

import logging
from dataclasses import dataclass

import numpy as np
import torch

from dip_pipeline.config import RunConfig
from dip_pipeline.errors import ConfigError, FrameError, SensorError
from dip_pipeline.frames import Frame, PlaneInfo, open_frame
from dip_pipeline.restoration.problem import (
    SMALLEST_SIDE_PX,
    FitOptions,
    InputKind,
    NetworkKind,
    Scope,
)
from dip_pipeline.sensor import (
    NoiseChoice,
    NoiseModel,
    choose_noise,
    estimate_sigma,
    estimated_noise,
    read_sensor,
)
from dip_pipeline.tiling import plan_tiles
from dip_pipeline.work import Window

log = logging.getLogger(__name__)

_WHOLE_FRAME_PX = 1024 * 1024  # up to this the frame prior is fitted on all of it
_WINDOW_PX = 512  # above, on windows of this side
_WINDOWS = 12


@dataclass(frozen=True, slots=True)
class FrameDescription:
    """What is known of a frame before anything is restored."""

    source: str
    format: str
    shape: tuple[int, int]
    unit: str
    planes: tuple[PlaneInfo, ...]
    noise: str
    noise_lines: tuple[str, ...]
    tiles: int
    tile_lines: str
    masked_share: float | None
    memory_bytes: int
    seconds: float
    notes: tuple[str, ...] = ()


def describe_frame(source: str, config: RunConfig) -> FrameDescription:
    """Say what a frame holds and what a run would do with it; restores nothing."""
    frame = open_frame(source)
    sensor = read_sensor(
        frame.header,
        frame.unit,
        config.sensor_overrides(),
        overscan_level_dn=frame.overscan_level(),
    )
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
        )
    ]
    notes: tuple[str, ...] = ()
    try:
        noise = noise_in_words(resolve_noise(frame, config))
    except (SensorError, FrameError) as error:
        noise, notes = "not to be had", (str(error),)
    tiles = plan_tiles(frame.shape, config.tile_options())
    options = fit_options(config)
    pixels = frame.shape[0] * frame.shape[1]
    side = config.tiles.size_px
    return FrameDescription(
        source=source,
        format=frame.format,
        shape=frame.shape,
        unit=frame.unit,
        planes=frame.planes,
        noise=noise,
        noise_lines=tuple(lines),
        tiles=len(tiles),
        tile_lines=f"{len(tiles)} tiles of {tiles[0].shape[0]} x {tiles[0].shape[1]} px, "
        f"sharing {config.tiles.overlap_px} px",
        masked_share=None,
        memory_bytes=_memory_bytes(pixels, side, options),
        seconds=_seconds(pixels, len(tiles), side, options),
        notes=notes,
    )


def resolve_noise(frame: Frame, config: RunConfig) -> NoiseModel:
    """Find the noise law; where nobody says, estimate it from the frame itself.

    Raises FrameError for a frame that is too small, or has no scatter to estimate from.
    """
    if min(frame.shape) < SMALLEST_SIDE_PX:
        raise FrameError(
            f"{frame.path}: {frame.shape[0]} x {frame.shape[1]} px is too small to fit a network "
            f"to; need at least {SMALLEST_SIDE_PX} px a side"
        )
    overrides = config.sensor_overrides()
    sensor = read_sensor(
        frame.header, frame.unit, overrides, overscan_level_dn=frame.overscan_level()
    )
    choice = NoiseChoice(config.noise.law)
    try:
        noise = choose_noise(
            choice, sensor, frame.unit, overrides, has_error_plane=frame.has_error_plane
        )
    except SensorError as error:
        raise SensorError(f"{frame.path}: {error}") from error
    if noise is not None:
        return noise
    scatters = []
    for window in fit_windows(frame.shape, seed=0):
        pixels = frame.read(*window)
        scatters.append(estimate_sigma(np.where(pixels.masked, np.float32(np.nan), pixels.science)))
    known = [scatter for scatter in scatters if np.isfinite(scatter)]
    sigma = float(np.median(known)) if known else 0.0
    if sigma <= 0:
        raise FrameError(
            f"{frame.path}: its pixels are masked, constant or nearly so: no noise to estimate; "
            "give --sigma, or --gain and --read-noise, if there is something to restore"
        )
    log.warning(
        "%s: no noise in the header and none given; estimated sigma %.6g from the frame",
        frame.path,
        sigma,
    )
    return estimated_noise(sigma, sensor, frame.unit)


def fit_options(config: RunConfig) -> FitOptions:
    """Give the restoration room its options."""
    fit = config.fit
    return FitOptions(
        input=InputKind(fit.input),
        scope=Scope(fit.scope),
        network=NetworkKind(fit.network),
        steps=fit.steps,
        flux_scale_px=fit.flux_scale_px,
    )


def fit_windows(shape: tuple[int, int], *, seed: int) -> list[Window]:
    """Windows that a frame's prior is fitted on: the frame, or a stratified choice of windows."""
    if shape[0] * shape[1] <= _WHOLE_FRAME_PX:
        return [(slice(0, shape[0]), slice(0, shape[1]))]
    rng = np.random.default_rng(np.random.SeedSequence([seed, 11]))
    sides = [min(_WINDOW_PX, length) for length in shape]
    across = max(1, round((_WINDOWS * shape[1] / shape[0]) ** 0.5))
    down = max(1, round(_WINDOWS / across))
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


def noise_in_words(noise: NoiseModel) -> str:
    """Say the noise law in one line: which, by which rung, with which numbers from where."""
    numbers = [] if noise.sigma is None else [f"sigma {noise.sigma}"]
    if noise.kind == "poisson-gaussian":
        sensor = noise.sensor
        numbers += [f"gain {sensor.gain_e_per_dn}", f"read noise {sensor.read_noise_e}"]
        numbers += [f"pedestal {sensor.pedestal_dn}"] if sensor.pedestal_dn else []
    return f"{noise.kind}, {noise.rung}" + (f": {', '.join(numbers)}" if numbers else "")


def devices_of(config: RunConfig) -> tuple[str, ...]:
    """Devices in force. Raises ConfigError where a GPU is asked for and there is none."""
    asked = config.workers.device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "cpu" or (asked == "auto" and count == 0):
        return ("cpu",)
    if count == 0 or (":" in asked and int(asked.split(":")[1]) >= count):
        raise ConfigError(f"--device {asked}: this machine has {count} GPUs; use auto or cpu")
    return tuple(f"cuda:{i}" for i in range(count)) if asked in ("auto", "cuda") else (asked,)


def _memory_bytes(pixels: int, side: int, options: FitOptions) -> int:
    """Peak memory of the driver or a worker: torch itself, fit windows, one tile applied."""
    window = min(pixels, _WHOLE_FRAME_PX if options.scope is Scope.FRAME else side**2)
    applied = max(window, (side + 32) ** 2)
    return int(350e6 + 40 * min(pixels, _WINDOWS * _WINDOW_PX**2) + 450 * applied)


def _seconds(pixels: int, tiles: int, side: int, options: FitOptions) -> float:
    """Rough time on two CPU cores, from figures measured there; GPUs are far faster."""
    a_step = 0.06 if options.input is InputKind.IMAGE else 2.5e-6 * min(side**2, 256**2)
    networks = 2 if options.input is InputKind.IMAGE else 1
    fits = tiles if options.scope is Scope.TILE else 1
    overlap = tiles * side**2 / max(pixels, 1)
    return fits * networks * options.step_limit * a_step + 2.4e-5 * pixels * max(overlap, 1.0)
