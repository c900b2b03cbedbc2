"""The story of a noise plane: read a frame, know its noise, write the sigma of every pixel."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dip_pipeline import __version__
from dip_pipeline.account.restored_input import inferred_by
from dip_pipeline.config import RunConfig
from dip_pipeline.errors import ConfigError, EmptyFrameError, FrameError, OutputError
from dip_pipeline.exposures.light import usable_pixels
from dip_pipeline.frames import (
    FITS_SUFFIXES,
    Card,
    Frame,
    RestoredFrame,
    RestoredPlanes,
    around,
    companions_of,
    open_frames,
    write_noise,
)
from dip_pipeline.frames.publishing import prepare
from dip_pipeline.frames.workshops import clear_workshops
from dip_pipeline.noise.in_words import noise_in_words
from dip_pipeline.preparing.planning import kernels_of_stacks, settle_frame
from dip_pipeline.restoration.computing.callers_settings import settings_kept
from dip_pipeline.sensor import NoiseKind, NoiseModel
from dip_pipeline.sensor.noise_sigma import sigmas_at
from dip_pipeline.sensor.smooth_level import LEVEL_PX, level_for_noise

log = logging.getLogger(__name__)

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SigmaPlane:
    """Standard deviation of the noise of a frame's pixels, (rows, cols), its unit; read in bands.

    NaN where a pixel is masked or saturated. Levels are taken from the neighbours of a pixel, so
    that bright noise has no larger sigma than faint noise.
    """

    frame: Frame
    noise: NoiseModel

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.frame.shape

    def __getitem__(self, region: tuple[slice, slice]) -> Plane:
        """Read one region; it does not depend on what else is read."""
        bounds = [
            slice(*part.indices(side)[:2]) for part, side in zip(region, self.shape, strict=True)
        ]
        wide, inner = around(bounds[0], bounds[1], self.shape, LEVEL_PX // 2)
        pixels = self.frame.read(*wide)
        usable = usable_pixels(pixels, self.noise)
        if self.noise.from_error_plane:
            assert pixels.error is not None  # the law names it
            sigma = pixels.error[inner].astype(np.float64)
        else:
            sigma_of = partial(sigmas_at, self.noise)
            sigma = sigma_of(level_for_noise(pixels.science, usable, inner, sigma_of))
        known = usable[inner] & np.isfinite(sigma)
        return np.where(known, sigma, np.nan).astype(np.float32)


@dataclass(frozen=True, slots=True)
class NoisePlaneSummary:
    """What was written, and what it says, plane by plane.

    planes : name of each, its law in words, its median sigma (unit of the frame), and what errors
        of sums over many pixels have to be multiplied by; left : name and reason
    """

    target: Path
    planes: tuple[tuple[str, str, float, float], ...]
    unit: str | None
    left: tuple[tuple[str, str], ...] = ()


def _tell_of_companion(target: Path, source: Path) -> None:
    """Warn of a name by which the next reading of the frame takes the file for its noise plane."""
    beside = target.absolute().parent == source.absolute().parent
    if beside and target.name in companions_of(source.name):
        log.warning(
            "%s: by its name it is the noise plane of %s from now on, and what was restored of it "
            "counts as made with other noise; name it otherwise where that is not meant",
            target,
            source,
        )


@settings_kept()
def write_noise_planes(
    source: str, target: Path, config: RunConfig, *, overwrite: bool = False
) -> NoisePlaneSummary:
    """Write the noise that a restoration would take a frame to have, plane by plane.

    Raises a DipError for whatever a user can cause: SensorError where the noise cannot be known,
    FrameError for a result of dip, EmptyFrameError where no plane holds what can be looked at.
    """
    if not target.name.lower().endswith(FITS_SUFFIXES):
        raise OutputError(f"{target}: noise is written as FITS; give a name that ends in .fits")
    frames = open_frames(source, config.frame_reading())
    clear_workshops(target)
    destination = prepare(target, frames[0].path, overwrite=overwrite)
    _tell_of_companion(target, frames[0].path)
    if task := inferred_by(frames[0]):
        raise FrameError(
            f"{frames[0].path}: a result of dip ({task}): what is left of its noise follows no "
            "law; give the frame that it was made of"
        )
    planes: list[RestoredFrame] = []
    told: list[tuple[str, str, float, float]] = []
    left: list[tuple[str, str]] = []
    kernels = kernels_of_stacks(frames, config)
    for number, frame in enumerate(frames):
        try:
            settled, noise = settle_frame(frame, config, kernels.get(number))
        except EmptyFrameError as error:
            if len(frames) == 1:
                raise
            left.append((frame.label, str(error).removeprefix(f"{frame.path}: ")))
            planes.append(RestoredFrame(frame, None, ()))
            continue
        if noise.kind is NoiseKind.NONE:
            raise ConfigError("--noise none: no strength is known, so there is nothing to write")
        sigma = SigmaPlane(settled, noise)
        planes.append(
            RestoredFrame(frame, RestoredPlanes(sigma, sigma, sigma), _cards(noise, frame))
        )
        told.append((frame.label, noise_in_words(noise), _median(sigma), sum_factor(noise)))
    if not told:
        raise EmptyFrameError(f"{frames[0].path}: no plane has a noise to know: {left[0][1]}")
    write_noise(destination, planes, _file_cards(source))
    return NoisePlaneSummary(target, tuple(told), frames[0].unit, tuple(left))


def sum_factor(noise: NoiseModel) -> float:
    """Give the error of a sum of many pixels over that of as many independent ones.

    For white noise 1; else the square root of the sum of correlations over all lags. Sums of few
    pixels have less of it.
    """
    return math.sqrt(max(0.0, float(noise.correlation.correlation.sum())))


def _median(plane: SigmaPlane) -> float:
    """Median of some rows all over a plane."""
    rows, cols = plane.shape
    some = [
        plane[slice(row, row + 1), slice(0, cols)]
        for row in np.linspace(0, rows - 1, 32, dtype=int)
    ]
    values = np.concatenate([row.ravel() for row in some])
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else math.nan


def _cards(noise: NoiseModel, frame: Frame) -> tuple[Card, ...]:
    return (
        ("NOISELAW", str(noise.kind), "noise law"),
        ("NOISESRC", noise.rung, "where it came from"),
        (
            "NOISECOR",
            round(sum(noise.correlation.neighbours) / 2, 4),
            "correlation of pixels 1 px apart",
        ),
        ("NOISESUM", round(sum_factor(noise), 4), "errors of sums over many pixels: times this"),
        ("NOISEOF", frame.where, "image that it belongs to"),
    )


def _file_cards(source: str) -> Sequence[Card]:
    return (
        ("DIPVER", __version__, "version of dip-pipeline"),
        ("NOISFILE", Path(source).name, "file that it belongs to"),
    )
