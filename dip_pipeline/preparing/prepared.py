"""A frame made ready to be restored: its noise law settled, and all that its pixels depend on."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.blind.correlation import measure_correlation
from dip_pipeline.blind.sky import Window, find_sky
from dip_pipeline.config import RunConfig
from dip_pipeline.errors import SensorError
from dip_pipeline.frames import Frame, Pixels, is_sdss, scale_noise
from dip_pipeline.frames.pixels_over import (
    MOST_BESIDE,
    MOST_IN_ALL,
    WithoutHopeless,
    WithoutMarks,
)
from dip_pipeline.noise.amplifiers import with_amplifiers
from dip_pipeline.noise.frame_noise import find_noise
from dip_pipeline.noise.frame_sensor import sensor_of
from dip_pipeline.noise.in_words import scaled_words
from dip_pipeline.noise.sdss import with_sdss_noise
from dip_pipeline.noise.windows import Place
from dip_pipeline.preparing.blank_areas import without_blanks
from dip_pipeline.preparing.lone_dots import without_lone_dots
from dip_pipeline.sensor import NoiseChoice, NoiseModel, Sensor, unit_counts_electrons
from dip_pipeline.sensor.noise_kernel import NoiseKernel
from dip_pipeline.task import Task

log = logging.getLogger(__name__)

# Times the scatter of a frame. Writers mark pixels by 1e30 or 1.6e38; in single precision the
# square of what lies beyond 1.8e19 of the noise is infinite, and one such pixel ends the fit.
_MOST_CONTRAST = 1e18
_FAR_APART = 1e3  # of errors: the usual one is of those that are nearer to the small ones


def settle_noise(
    frame: Frame,
    config: RunConfig,
    places: Sequence[Place],
    elsewhere: NoiseKernel | None = None,
) -> tuple[Frame, NoiseModel]:
    """Find the noise law of a frame; return the frame with the noise and the masks it takes.

    places : rows and columns of the windows to look at
    elsewhere : correlation of the noise in other planes of the same cube, for one without a sky
    Raises SensorError where the noise is not
    known and must be, FrameError where there is no scatter to estimate from.
    """
    frame = _without_marks(frame, places)
    pictures = NoiseChoice(config.noise.law) is NoiseChoice.NONE
    if config.task.name is not Task.INPAINT and not pictures:  # of one the known pixels stay
        frame = without_blanks(frame, places)
    frame = with_noise_planes(frame, config, places)
    if frame.has_error_plane and _takes_error_plane(config):
        frame = _without_hopeless(frame, places)
    if config.task.name is not Task.INPAINT:  # whose known pixels stay
        frame = without_lone_dots(frame, places)
    noise, factor = find_noise(frame, config, places, elsewhere)
    if factor != 1.0:
        frame = _by_factor(frame, factor)
    if config.reading.strict:
        _refuse_guesses(frame, noise)
    if config.reading.find_cosmics:
        from dip_pipeline.preparing.cosmics import without_cosmics

        frame = without_cosmics(frame, noise, places)
    return frame, noise


def _without_marks(frame: Frame, places: Sequence[Place]) -> Frame:
    """Mask pixels whose numbers are no light beside the others', as 1e30 among hundreds."""
    parts = [frame.read(*place) for place in places]
    science = np.concatenate([part.science[~part.masked] for part in parts])
    if science.size == 0:
        return frame
    level = float(np.median(science))
    with np.errstate(over="ignore"):
        scatter = float(np.median(np.abs(science - np.float32(level))))
    if not 0 < scatter < np.finfo(np.float32).max / _MOST_CONTRAST:
        return frame
    source = WithoutMarks(frame.source, level, _MOST_CONTRAST * scatter)
    number = sum(int(np.count_nonzero(source.found(part) & ~part.masked)) for part in parts)
    if number:
        log.warning(
            "%s: %d of the pixels that were looked at hold numbers beyond %.2g, which are no light "
            "beside a scatter of %.2g: such are taken as masked",
            *(frame.path, number, source.most, scatter),
        )
    return replace(frame, source=source)


def with_noise_planes(frame: Frame, config: RunConfig, places: Sequence[Place]) -> Frame:
    """Bring a relative weight to scale; make an error plane of amplifiers that differ."""
    law = NoiseChoice(config.noise.law)
    if law is NoiseChoice.POISSON_GAUSSIAN and (sensor := _of_unlike_amplifiers(frame, config)):
        return with_amplifiers(frame, sensor)
    if frame.relative_noise:
        return _scaled(frame, places)
    if is_sdss(frame) and not frame.has_error_plane:
        return with_sdss_noise(frame)
    told = frame.has_error_plane or config.sensor_overrides().sigma_dn is not None
    if law is NoiseChoice.AUTO and not told and (sensor := _of_unlike_amplifiers(frame, config)):
        return with_amplifiers(frame, sensor)
    return frame


def _of_unlike_amplifiers(frame: Frame, config: RunConfig) -> Sensor | None:
    """Sensor whose amplifiers differ, where pixels count electrons; else None."""
    if not unit_counts_electrons(frame.unit):
        return None
    sensor = sensor_of(frame, config)
    return sensor if sensor.amplifiers else None


def _scaled(frame: Frame, places: Sequence[Place]) -> Frame:
    """Scale a relative sigma to the scatter of the sky; without a sky, do without the weights."""
    windows = []
    for place in places:
        pixels = frame.read(*place)
        windows.append(Window.of(pixels.science, ~pixels.masked, pixels.error))
    factor = measure_correlation([find_sky(window) for window in windows]).sigma
    if np.isfinite(factor) and factor > 0:
        return _by_factor(frame, factor)
    log.warning("%s: no empty sky to scale its weights by: not used", frame.path)
    return replace(frame, has_error_plane=False, relative_noise=False, noise_words="")


def _takes_error_plane(config: RunConfig) -> bool:
    law = NoiseChoice(config.noise.law)
    return law in (NoiseChoice.AUTO, NoiseChoice.GAUSSIAN) and config.noise.sigma is None


def _without_hopeless(frame: Frame, places: Sequence[Place]) -> Frame:
    """Mask pixels whose error says that they tell nothing, as writers mark bad ones by 1e6 or 1e10.

    They may hold any number, which their neighbours would share; so would those share the noise of
    hot pixels, whose errors are larger than those around. The cores of bright stars have large
    errors, too, and are clear all the same.
    """
    parts = [_known(frame.read(*place)) for place in places]
    science, error = (np.concatenate(part) for part in zip(*parts, strict=True))
    if error.size == 0:
        return frame
    usual = float(np.median(error[error <= _FAR_APART * np.quantile(error, 0.1)]))
    level = float(np.median(science[error <= MOST_IN_ALL * usual]))
    source = WithoutHopeless(frame.source, usual, level, frame.shape)
    without = replace(frame, source=source)
    left = sum(np.count_nonzero(~without.read(*place).masked) for place in places)
    if left < error.size:
        log.warning(
            "%s: %.2g %% of its pixels have errors over %g times the usual, or over %g times those "
            "around, and show nothing: taken as masked",
            *(frame.path, 100 * (1 - left / error.size), MOST_IN_ALL, MOST_BESIDE),
        )
    return without


def _known(pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Science and error of the pixels that are not masked."""
    assert pixels.error is not None
    return pixels.science[~pixels.masked], pixels.error[~pixels.masked]


def _by_factor(frame: Frame, factor: float) -> Frame:
    told = frame.noise_words or "error plane of the file"
    return replace(scale_noise(frame, factor), noise_words=f"{told}, {scaled_words(factor)}")


def _refuse_guesses(frame: Frame, noise: NoiseModel) -> None:
    """Raise SensorError for whatever was taken for granted."""
    guesses = []
    if noise.rung.startswith("estimated"):
        guesses.append("the noise is estimated from the frame; give it on the command line")
    elif "scaled by" in noise.rung:
        guesses.append("its noise plane is scaled to the sky; give an error plane that is right")
    elif not noise.from_error_plane and noise.sigma is None:
        guesses += noise.sensor.guesses
    if guesses:
        raise SensorError(f"{frame.path}: refused by --strict: {'; '.join(guesses)}")
