"""How long a run will take, roughly, from figures measured on two CPU cores and on a GPU."""

from dip_pipeline.config import RunConfig
from dip_pipeline.planning import devices_of, fit_options
from dip_pipeline.restoration.blocks import folds_for
from dip_pipeline.restoration.prior import MOST_CALIBRATION_PIXELS
from dip_pipeline.restoration.problem import FitOptions, InputKind, Scope
from dip_pipeline.task_optics import AskedOptics


def guess_seconds(
    shape: tuple[int, int], tiles: int, config: RunConfig, asked: AskedOptics | None
) -> float:
    """Rough time of one plane, on a GPU where one is asked for: it may be another machine's."""
    options, side = fit_options(config), config.tiles.size_px
    if asked is not None:
        return _scene_seconds(shape, tiles, config, asked.factor)
    pixels = max(shape[0] * shape[1], tiles * side**2)
    asked_for = config.workers.device
    device = devices_of(config)[0] if asked_for == "auto" else asked_for
    if device.startswith("cuda") and options.input is InputKind.IMAGE:
        return _gpu_seconds(pixels, tiles, config, options)
    fit = 0.0 if config.fit.prior else _fit_seconds(shape, tiles, side, options)
    return fit + _calibration_seconds(shape, tiles, side, options) + _apply_seconds(pixels, options)


def _gpu_seconds(pixels: int, tiles: int, config: RunConfig, options: FitOptions) -> float:
    """Rough time on one H200, as measured there: a step takes as long for two networks as for four.

    Of tiles with networks of their own sixteen are fitted at once, in twice the time of one.
    """
    applied = 2.3e-7 * options.view_count * pixels
    if config.fit.prior:
        return applied
    fits = max(1.0, tiles / 8) if options.scope is Scope.TILE else 1.0
    return fits * (3.0 + 0.005 * options.step_limit) + applied


def _scene_seconds(shape: tuple[int, int], tiles: int, config: RunConfig, factor: int) -> float:
    """Rough time of a scene's fits, calibration and tiles on two CPU cores, as measured there."""
    options, pixels = fit_options(config), shape[0] * shape[1]
    fits = tiles if options.scope is Scope.TILE else 1
    seen = config.tiles.size_px**2 if options.scope is Scope.TILE else pixels
    fit = 2 * options.step_limit * (0.08 + 0.025 * factor**2)
    calibration = 60e-6 * factor**2 * min(seen, 300_000)
    applied = 9e-6 * factor**2 * max(pixels, tiles * config.tiles.size_px**2)
    return fits * (fit + calibration) + applied


def _fit_seconds(shape: tuple[int, int], tiles: int, side: int, options: FitOptions) -> float:
    """Rough time of the fits on two CPU cores, from figures measured there; GPUs are faster."""
    a_step = 0.024 if options.input is InputKind.IMAGE else 2.5e-6 * min(side**2, 256**2)
    fits, pixels = (tiles, side**2) if options.scope is Scope.TILE else (1, shape[0] * shape[1])
    image = options.input is InputKind.IMAGE
    networks = folds_for(pixels, options) if image else 1
    return fits * networks * options.step_limit * a_step


def _apply_seconds(pixels: int, options: FitOptions) -> float:
    """Rough time on two CPU cores to apply the networks to so many pixels, overlaps counted."""
    return 4e-6 * options.view_count * pixels


def _calibration_seconds(
    shape: tuple[int, int], tiles: int, side: int, options: FitOptions
) -> float:
    """Rough time on two CPU cores to prepare what networks are fitted on, and to judge them."""
    of_tiles = options.scope is Scope.TILE
    pixels = min(MOST_CALIBRATION_PIXELS, side**2 if of_tiles else shape[0] * shape[1])
    return 45e-6 * (tiles if of_tiles else 1) * pixels
