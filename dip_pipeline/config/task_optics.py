"""What a task says of the way from the scene to the pixels: factor and PSF, checked."""

import logging
import math
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.config.run_config import RunConfig
from dip_pipeline.errors import ConfigError, FrameError
from dip_pipeline.frames import (
    FinerGrid,
    Frame,
    PixelFlux,
    is_guess,
    pixel_flux,
    pixel_side_arcsec,
    read_psf,
)
from dip_pipeline.restoration.forward.gaussian_psf import fwhm_of_peak, gaussian_psf
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.forward.target_star import TARGET_FWHM_PX, TARGET_SIGMA_PX
from dip_pipeline.restoration.psf.psf_shape import PsfShape
from dip_pipeline.sensor import NoiseChoice
from dip_pipeline.task import Task
from dip_pipeline.tiling import TileOptions

log = logging.getLogger(__name__)

SCENE_TASKS = (Task.SUPER_RESOLVE, Task.DECONVOLVE)
FACTORS = (2, 3, 4)  # of super-resolution
_FINEST = 4  # pixels for one along each axis that exposures are combined on
_SCALE_TOLERANCE = 0.02
_TARGET_PEAK = 1 / (2 * math.pi * TARGET_SIGMA_PX**2)  # share of a scene's star in its pixel
_LEAST_ACROSS = 0.95  # of that star's width, along the shorter axis of a PSF
_LARGEST_SHARE = 8  # a PSF may reach as far as the side of a tile over this


def check_task(config: RunConfig) -> None:
    """Raise ConfigError for options that do not go with the task, before any file is looked at."""
    task = config.task
    if task.each and task.name is not Task.COMBINE:
        raise ConfigError(f"--each: {task.name} restores every frame for itself; leave it out")
    _check_unused(config)
    if config.by_hiding:
        _check_hiding(config)
    if task.name is Task.COMBINE:
        _check_combine(config)
    if task.name in SCENE_TASKS:
        _check_fit(config)
        _check_scene(config)


def _check_unused(config: RunConfig) -> None:
    """Raise ConfigError for an option that would change nothing, whatever it says."""
    task = config.task
    keeps_pixels = task.name not in (*SCENE_TASKS, Task.COMBINE)
    unused = {
        f"--factor {task.factor}": keeps_pixels and task.factor_in_force != 1,
        f"--psf {task.psf}": task.name not in SCENE_TASKS and task.psf is not None,
        f"--fwhm {task.fwhm_px}": task.name not in SCENE_TASKS and task.fwhm_px is not None,
        "--denoise-known": task.name is not Task.INPAINT and task.denoise_known,
    }
    for option in (name for name, given in unused.items() if given):
        raise ConfigError(
            f"{option}: {task.name} does not use it; leave it out, or name another task"
        )


def _check_scene(config: RunConfig) -> None:
    """Raise ConfigError for factors and PSFs that do not go with the task."""
    task = config.task
    factor = task.factor_in_force
    if task.name is Task.SUPER_RESOLVE and factor not in FACTORS:
        raise ConfigError(
            f"--factor {factor}: super-resolve needs 2, 3 or 4 pixels for one along each axis"
            + ("; dip deconvolve sharpens on the same pixels" if factor == 1 else "")
        )
    if task.name is Task.DECONVOLVE and factor != 1:
        raise ConfigError(
            f"--factor {factor}: deconvolve keeps the pixels; for finer ones use super-resolve"
        )
    if task.psf is not None and task.fwhm_px is not None:
        raise ConfigError(
            f"--psf {task.psf} and --fwhm {task.fwhm_px:g}: two PSFs; give one of them"
        )
    if task.name is Task.DECONVOLVE and task.psf is None and task.fwhm_px is None:
        raise ConfigError(
            "deconvolve: no PSF to undo; give its image with --psf FILE (dip psf measures it on "
            "stars of the frame), or the width of a Gaussian with --fwhm PIXELS"
        )


def _check_fit(config: RunConfig) -> None:
    """Raise ConfigError for a fit that no scene can come from."""
    task, fit = config.task, config.fit
    if config.by_drawing:
        if task.psf is not None or task.fwhm_px is not None:
            raise ConfigError(
                "--psf or --fwhm with --input code: pictures are drawn through the paper's low "
                "pass; leave one of them out"
            )
    elif fit.input != "image":
        pictures = task.name is Task.SUPER_RESOLVE
        raise ConfigError(
            f"--input {fit.input}: {task.name} needs --input image"
            + (", or --noise none beside it for a picture" if pictures else "")
        )
    elif config.noise.law is NoiseChoice.NONE:
        raise ConfigError(f"--noise none: {task.name} needs a noise law; leave --noise out")
    if fit.prior is not None:
        raise ConfigError(
            f"--prior {fit.prior}: a prior of `dip fit` denoises, and cannot {task.name}; leave "
            "it out"
        )


def _check_hiding(config: RunConfig) -> None:
    """Raise ConfigError for what a picture without a noise law cannot be given."""
    if config.task.denoise_known:
        raise ConfigError(
            "--denoise-known with --noise none: to denoise, the noise has to be known; leave one "
            "of them out"
        )
    if config.fit.prior is not None:
        raise ConfigError(
            f"--prior {config.fit.prior} with --noise none: a prior of `dip fit` goes with the "
            "noise it was fitted to; leave one of them out"
        )


def _check_combine(config: RunConfig) -> None:
    task, fit = config.task, config.fit
    if not task.exposures:
        raise ConfigError("combine: one input; give two exposures of the same sky or more")
    if task.each and task.factor_in_force != 1:
        raise ConfigError(
            f"--factor {task.factor_in_force}: with --each every exposure keeps its own pixels; "
            "leave one of them out"
        )
    if task.each and fit.input != "image":
        raise ConfigError(f"--input {fit.input}: --each needs --input image; leave one of them out")
    if task.factor_in_force > _FINEST:
        raise ConfigError(f"--factor {task.factor_in_force}: combine needs 1 to {_FINEST}")
    if config.noise.law == "none":
        raise ConfigError("--noise none: exposures are combined by their noise; leave it out")
    if fit.prior is not None and not task.each:
        raise ConfigError(
            f"--prior {fit.prior}: a prior of `dip fit` is of one exposure's noise; leave it out"
        )


@dataclass(frozen=True, slots=True, eq=False)
class AskedOptics:
    """What is asked for, the same for all frames of a run.

    factor : pixels of the scene for one of the frame, along each axis
    psf : (rows, cols), odd sides, sum 1, on the scene's pixels; None for none
    words : the PSF, for people and for the record
    is_gaussian : it was asked for by its width
    scale_arcsec : side of a pixel of the PSF by its own header; None: not told
    """

    factor: int = 1
    psf: NDArray[np.float32] | None = field(default=None, repr=False)
    words: str = "none"
    scale_arcsec: float | None = None
    is_gaussian: bool = False

    @classmethod
    def of(cls, config: RunConfig) -> Self | None:
        """Read what the configuration asks for; None where the task has no scene of its own.

        Raises ConfigError for options that do not go together, and for a PSF that is too wide for
        the tiles or too narrow for its pixels; FrameError for a PSF file that cannot be used.
        """
        check_task(config)
        task = config.task
        factor = task.factor_in_force
        if task.name is Task.COMBINE:
            return None if task.each else cls(factor)
        if task.name not in SCENE_TASKS:
            return None
        found = cls(factor)
        if task.psf is not None:
            file = read_psf(task.psf)
            words = f"{file.path.name}, {file.where}"
            found = cls(factor, file.kernel.astype(np.float32), words, file.scale_arcsec)
        elif task.fwhm_px is not None:
            kernel = gaussian_psf(task.fwhm_px * factor)
            words = f"Gaussian, FWHM {task.fwhm_px:g} px of the input"
            found = cls(factor, kernel.astype(np.float32), words, is_gaussian=True)
        most_px = config.tile_px // _LARGEST_SHARE
        if found.reach_px > most_px:
            raise ConfigError(found._too_large(most_px, f"--tile {config.tile_px}"))
        found._check_width(task.name)
        return found

    @property
    def facts(self) -> dict[str, object]:
        """Tell it for the record."""
        return {"factor": self.factor, "psf": self.words}

    @property
    def reach_px(self) -> int:
        """How far the PSF reaches from its middle, in pixels of the frame."""
        longest = 1 if self.psf is None else int(max(self.psf.shape))
        return math.ceil((longest // 2) / self.factor)

    def tile_options(self, options: TileOptions) -> TileOptions:
        """Let a tile see as much more of its surroundings as the PSF brings in."""
        return replace(options, halo_px=options.halo_px + self.reach_px)

    def of_frame(self, frame: Frame) -> Optics:
        """Put together what lies between the scene of a frame and its pixels.

        Raises FrameError for pixels that hold a logarithm, and for a PSF larger than the frame.
        """
        most_px = min(frame.shape) // 2
        if self.reach_px > most_px:
            size = f"a frame of {frame.shape[0]} x {frame.shape[1]} px"
            raise FrameError(f"{frame.path}: {self._too_large(most_px, size)}")
        self._tell_scale(frame)
        grid = self.grid(frame)
        if self.factor > 1 and is_guess(frame.unit):
            log.warning(
                "%s: unit %r: not known whether of a pixel or of what does not depend on pixels; "
                "taken for a flux of a pixel, which finer ones share: numbers are divided by %d",
                frame.path,
                frame.unit,
                self.factor**2,
            )
        return Optics(self.factor, self.psf, summed=grid.per_pixel)

    @property
    def measuring(self) -> str:
        """The command that measures a PSF on the scene's pixels."""
        return "dip psf" if self.factor == 1 else f"dip psf --factor {self.factor}"

    def _tell_scale(self, frame: Frame) -> None:
        """Warn of a PSF whose pixels are not as wide, by its header, as those of the scene."""
        scale = pixel_side_arcsec(frame.header)
        if scale is None or self.scale_arcsec is None:
            return
        wanted = scale / self.factor
        if abs(self.scale_arcsec / wanted - 1) <= _SCALE_TOLERANCE:
            return
        as_input = self.factor > 1 and abs(self.scale_arcsec / scale - 1) <= _SCALE_TOLERANCE
        log.warning(
            "%s: pixels of the PSF (%s) are %.4g arcsec wide by its header, those of the "
            "result %.4g: it should be sampled as these are%s (%s measures such a one)",
            frame.path,
            self.words,
            self.scale_arcsec,
            wanted,
            ", and is as the frame is" if as_input else "",
            self.measuring,
        )

    def grid(self, frame: Frame) -> FinerGrid:
        """Say how the frame's pixels are cut, and whether finer ones share what is in them."""
        try:
            flux = pixel_flux(frame.unit)
        except FrameError as error:
            raise FrameError(f"{frame.path}: {error}") from error
        return FinerGrid(self.factor, per_pixel=flux is PixelFlux.PER_PIXEL)

    def _check_width(self, task: Task) -> None:
        """Raise ConfigError for a PSF sharper than the stars of a scene: none looks like its."""
        if self.psf is None:
            return
        factor = factor_to_undo(self.psf, self.factor)
        if factor == self.factor:
            return
        peak, as_of_px, across_px = _sharpness(self.psf)
        least_px = fwhm_of_peak(_TARGET_PEAK)
        remedy = (
            "dip denoise leaves it as it is, and so does super-resolve without a PSF"
            if factor is None
            else f"dip super-resolve --factor {factor} has finer pixels to undo it on (a PSF file "
            f"has to be on those: dip psf --factor {factor}); dip denoise leaves it as it is"
        )
        if self.factor > 1:
            remedy = (
                f"if it is on the pixels of the input, {self.measuring} gives one on those of the "
                f"result; else {remedy}"
            )
        axis = f", {across_px:.2f} px along its shorter axis" if as_of_px >= least_px else ""
        raise ConfigError(
            f"PSF ({self.words}): its brightest pixel holds {peak:.0%} of the light, as of a "
            f"Gaussian of FWHM {as_of_px:.2f} px of the result{axis}; {task} gives stars "
            f"{TARGET_FWHM_PX:g} px wide as pixels see them, so what is narrower than "
            f"{least_px:.2f} px cannot be undone: {remedy}"
        )

    def _too_large(self, most_px: int, what: str) -> str:
        side = 2 * most_px * self.factor + 1
        rows, cols = (0, 0) if self.psf is None else self.psf.shape
        return (
            f"PSF ({self.words}) of {rows} x {cols} px of the result is too large for {what}: at "
            f"most {side} x {side}, {most_px} px of the frame to each side; cut its faint wings "
            "and divide it by its sum, or take larger tiles"
        )


def factor_to_undo(psf: NDArray[np.floating], factor: int) -> int | None:
    """Tell on how many pixels for one, along an axis, a PSF is wide enough to be undone.

    psf : sum 1, on pixels of which factor^2 make one of the frame; where these are fine enough
        their factor is given, else that of super-resolve; None: none is large enough
    """
    _, as_of_px, across_px = _sharpness(psf)
    least_px = fwhm_of_peak(_TARGET_PEAK)
    if as_of_px >= least_px and across_px >= _LEAST_ACROSS * least_px:
        return factor
    return next((f for f in FACTORS if f * across_px >= least_px * factor), None)


def _sharpness(psf: NDArray[np.floating]) -> tuple[float, float, float]:
    """Give the share of light in the brightest pixel, and the FWHM of a Gaussian with as much, px.

    And that along its shorter axis.
    """
    peak = min(float(psf.max()), 1.0)
    as_of_px = fwhm_of_peak(peak)
    return peak, as_of_px, as_of_px * math.sqrt(1 - _ellipticity(psf))


def _ellipticity(psf: NDArray[np.floating]) -> float:
    """By how much the shorter axis of a PSF's core is shorter, as a share of the longer one."""
    shape = PsfShape.of(psf)
    return 0.0 if shape is None else shape.core.ellipticity
