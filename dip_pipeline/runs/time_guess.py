"""How long a run will take, roughly, from figures measured on two CPU cores and on a GPU."""

from collections.abc import Sequence

from dip_pipeline.config import RunConfig
from dip_pipeline.config.task_optics import AskedOptics
from dip_pipeline.preparing.planning import devices_of, fit_options, fit_windows
from dip_pipeline.restoration.priors.fit_size import MOST_CALIBRATION_PIXELS, folds_for
from dip_pipeline.restoration.problem import FitOptions, InputKind, Scope
from dip_pipeline.tiling import Tile

_IMAGE_STEP_S = 0.024  # of one network of the image input
_SHARED_NETWORKS = 2  # of planes that share them


def guess_seconds(
    shape: tuple[int, int],
    tiles: Sequence[Tile],
    config: RunConfig,
    asked: AskedOptics | None,
    *,
    sharing: int = 1,
) -> float:
    """Rough time of one plane, on a GPU where one is asked for: it may be another machine's.

    sharing : planes, or exposures, that share one fit; its time is shared out among them
    """
    options = fit_options(config)
    sizes = [tile.shape[0] * tile.shape[1] for tile in tiles]
    if asked is not None:
        return _scene_seconds(shape, sizes, config, asked.factor)
    pixels = sum(sizes)
    asked_for = config.workers.device
    device = devices_of(config)[0] if asked_for == "auto" else asked_for
    if device.startswith("cuda") and options.input is InputKind.IMAGE:
        windows = fit_windows(shape, seed=0)
        looked_at = sum(
            (rows.stop - rows.start) * (cols.stop - cols.start) for rows, cols in windows
        )
        return _gpu_seconds(pixels, len(sizes), looked_at, config, sharing=sharing)
    # Exposures share as many networks as one of them would have alone.
    networks = _SHARED_NETWORKS if sharing > 1 and not config.task.each else None
    fit = 0.0 if config.fit.prior else _fit_seconds(shape, sizes, options, networks) / sharing
    return fit + _calibration_seconds(shape, sizes, options) + _apply_seconds(pixels, options)


def _gpu_seconds(
    pixels: int, tiles: int, looked_at: int, config: RunConfig, *, sharing: int
) -> float:
    """Rough time on one H200, as measured there: a step takes as long for two networks as for four.

    Of tiles with networks of their own sixteen are fitted at once, in twice the time of one.
    looked_at : pixels that the noise and the stars of the frame are measured on
    """
    options = fit_options(config)
    applied = 2.3e-7 * options.view_count * pixels
    if config.fit.prior:
        return applied
    fits = max(1.0, tiles / 8) if options.scope is Scope.TILE else 1.0
    return fits * (3.0 + 0.005 * options.step_limit) / sharing + 3.5e-6 * looked_at + applied


def _scene_seconds(
    shape: tuple[int, int], sizes: Sequence[int], config: RunConfig, factor: int
) -> float:
    """Rough time of a scene's fits, calibration and tiles on two CPU cores, as measured there."""
    options = fit_options(config)
    seen = _fitted(shape, sizes, options)
    fit = 2 * options.step_limit * (0.08 + 0.025 * factor**2)
    calibration = 60e-6 * factor**2
    calibrated = sum(min(pixels, 300_000) for pixels in seen)
    return len(seen) * fit + calibration * calibrated + 9e-6 * factor**2 * sum(sizes)


def _fitted(shape: tuple[int, int], sizes: Sequence[int], options: FitOptions) -> Sequence[int]:
    """Pixels that each fit is made on: of every tile, or of the frame."""
    return sizes if options.scope is Scope.TILE else [shape[0] * shape[1]]


def _fit_seconds(
    shape: tuple[int, int], sizes: Sequence[int], options: FitOptions, networks: int | None
) -> float:
    """Rough time of the fits on two CPU cores, from figures measured there; GPUs are faster.

    networks : of the image input; None for as many as the pixels ask for
    """
    seconds = 0.0
    for pixels in _fitted(shape, sizes, options):
        if options.input is InputKind.IMAGE:
            a_step = _IMAGE_STEP_S * (networks or folds_for(pixels, options))
        else:
            a_step = 2.5e-6 * min(max(sizes), 256**2)
        seconds += options.step_limit * a_step
    return seconds


def _apply_seconds(pixels: int, options: FitOptions) -> float:
    """Rough time on two CPU cores to apply the networks to so many pixels, overlaps counted."""
    return 4e-6 * options.view_count * pixels


def _calibration_seconds(
    shape: tuple[int, int], sizes: Sequence[int], options: FitOptions
) -> float:
    """Rough time on two CPU cores to prepare what networks are fitted on, and to judge them."""
    seen = _fitted(shape, sizes, options)
    return 45e-6 * sum(min(MOST_CALIBRATION_PIXELS, pixels) for pixels in seen)
