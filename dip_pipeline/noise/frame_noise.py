"""The noise of a frame: what its header or its user says, and what its own pixels tell."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dip_pipeline.blind.at_once import of_each
from dip_pipeline.blind.correlation import MEASURED, SkyNoise, measure_correlation
from dip_pipeline.blind.estimate import estimate_noise
from dip_pipeline.blind.sky import Sky, Window, find_sky, quantum_of
from dip_pipeline.config import RunConfig
from dip_pipeline.errors import EmptyFrameError, SensorError
from dip_pipeline.frames import Frame, mosaic_of
from dip_pipeline.noise.agreement import hold_against_sky, level_of, nearest_to_scatter
from dip_pipeline.noise.beam import warn_of_wide_beam
from dip_pipeline.noise.dark_places import warn_of_dark_places
from dip_pipeline.noise.evenness import warn_of_uneven_noise
from dip_pipeline.noise.filters import law_of_filters
from dip_pipeline.noise.frame_sensor import sensor_of, step_stored
from dip_pipeline.noise.in_words import name_of, noise_in_words, scaled_words
from dip_pipeline.noise.not_known import (
    counts_of_sky,
    law_of_events,
    photons_left_out,
    warn_of_coarse_steps,
    warn_of_few_counts,
    why_not_known,
)
from dip_pipeline.noise.precision import check_precision, nothing_in
from dip_pipeline.noise.windows import (
    Place,
    why_unusable,
    window_of,
    windows_behind_other_filters,
)
from dip_pipeline.restoration.computing.freed_memory import reuse_memory
from dip_pipeline.sensor import (
    NoiseChoice,
    NoiseKind,
    NoiseModel,
    Sensor,
    SensorOverrides,
    Sourced,
    choose_noise,
)
from dip_pipeline.sensor.noise_kernel import NoiseKernel, kernel_asked
from dip_pipeline.sensor.noise_sigma import sigma_at, variance_line

log = logging.getLogger(__name__)

_COARSE = 0.5  # of a quantum: a sigma below this shows the steps
_FINE = 1.0  # a sigma above this hardly does: a twelfth of a quantum squared is 8 % of its variance
_AS_LIGHT = 0.6  # correlation of neighbours; that of resampled noise is seldom more
_LIKE_LIGHT = (
    "; light of stars too close to be told apart correlates so, too, and would be smoothed away as "
    "noise: where there are any give gain and read noise, or --noise-correlation white"
)
FROM_OTHERS = "measured on the sky of other planes"


def find_noise(
    frame: Frame,
    config: RunConfig,
    places: Sequence[Place],
    elsewhere: NoiseKernel | None = None,
) -> tuple[NoiseModel, float]:
    """Find the noise law and its correlation; where nobody says, estimate them from the frame.

    places : rows and columns of the windows to look at
    elsewhere : correlation in other planes of the same cube, for one that has not the sky for it
    Also gives what the frame's noise plane has to be multiplied by: 1 but for one that says much
    more than the sky scatters, which cannot be. Raises SensorError where the asked law
    needs numbers that nobody gives, EmptyFrameError where there is no scatter to estimate from.
    """
    overrides = config.sensor_overrides()
    sensor = sensor_of(frame, config)
    choice = NoiseChoice(config.noise.law)
    try:
        noise = choose_noise(
            choice,
            sensor,
            frame.unit,
            overrides,
            has_error_plane=frame.has_error_plane,
            error_words=frame.noise_words or "error plane of the file",
        )
    except SensorError as error:
        raise SensorError(f"{frame.path}: {error}") from error
    if noise is not None and noise.kind is NoiseKind.NONE:
        return noise, 1.0
    by_error = noise is not None and noise.from_error_plane
    windows = [window_of(frame, place, sensor, by_error=by_error) for place in places]
    if not any(window.good.any() for window in windows):
        raise EmptyFrameError(f"{frame.path}: {why_unusable(frame, places, sensor)}")
    sky = _sky_of(frame, windows, config, elsewhere)
    warn_of_wide_beam(name_of(frame), frame, windows, sky)
    kernel = kernel_asked(config.noise.correlation) or sky.kernel
    why = why_not_known(sensor, frame.unit) if choice is NoiseChoice.AUTO else "none given"
    if noise is not None:
        noise = replace(_with_counts_checked(frame, noise, windows), correlation=kernel)
        check_precision(frame, noise, windows)
        asked = overrides != SensorOverrides() or choice is not NoiseChoice.AUTO
        _check_not_even(frame, () if asked else windows)
        held = hold_against_sky(noise, windows, sky)
        if noise.from_error_plane and not asked and held.is_refuted:
            warn_of_uneven_noise(name_of(frame), noise, windows, config.threads_per_fit)
            return _brought_to_sky(frame, held.noise, held.ratio), held.ratio
        against = "" if asked else held.against(windows)
        if not against:
            noise = held.told(frame.path)
            _warn_of_pixels(frame, noise, windows, config)
            return noise, 1.0
        why, kernel = against, held.noise.correlation
        sensor = replace(sensor, gain_e_per_dn=None, read_noise_e=None)
    one_sigma = choice is NoiseChoice.GAUSSIAN
    noise = None if one_sigma else law_of_events(name_of(frame), sensor, windows)
    if noise is None:
        look = _Look(frame, places, windows, sky, kernel)
        noise = look.estimated(sensor, one_sigma=one_sigma)
    _warn_of_estimate(frame, why, noise, sky, "" if one_sigma else photons_left_out(noise, windows))
    _warn_of_steps(frame, noise, windows)
    _warn_of_pixels(frame, noise, windows, config)
    return noise, 1.0


def _check_not_even(frame: Frame, windows: Sequence[Window]) -> None:
    """Raise EmptyFrameError where every pixel holds one and the same number.

    As a dead chip, whose header tells the noise that the others have.
    """
    known = [window.pixels[window.good] for window in windows if window.good.any()]
    if known and min(map(np.min, known)) == max(map(np.max, known)):
        raise nothing_in(frame, level_of(windows))


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """A frame as its noise is estimated: its windows, their sky, the correlation in force."""

    frame: Frame
    places: Sequence[Place]
    windows: Sequence[Window]
    sky: SkyNoise
    kernel: NoiseKernel

    def estimated(self, sensor: Sensor, *, one_sigma: bool) -> NoiseModel:
        """Estimate the law, by all filters of a raw mosaic where these agree."""
        unit, found = self.frame.unit, None
        if not one_sigma and self.kernel is self.sky.kernel:
            others = windows_behind_other_filters(self.frame, self.places, sensor)
            found = law_of_filters([self.windows, *others], self.sky, sensor, unit)
        if found is None:
            seen = self.windows, self.sky, self.kernel
            found = estimate_noise(*seen, sensor, unit, one_sigma=one_sigma)
        if found is None:
            raise nothing_in(self.frame, level_of(self.windows))
        return replace(found, correlation=self.kernel)


def _warn_of_estimate(
    frame: Frame, why: str, noise: NoiseModel, sky: SkyNoise, left_out: str
) -> None:
    kernel = noise.correlation
    log.warning(
        "%s: NOISE NOT KNOWN: %s; taken from the frame itself: %s%s%s",
        name_of(frame),
        why,
        noise_in_words(noise),
        _LIKE_LIGHT if max(kernel.neighbours) > _AS_LIGHT and kernel is sky.kernel else "",
        left_out,
    )


def _warn_of_pixels(
    frame: Frame, noise: NoiseModel, windows: Sequence[Window], config: RunConfig
) -> None:
    told = name_of(frame), noise, windows, config.threads_per_fit
    warn_of_uneven_noise(*told)
    warn_of_dark_places(*told)


def _warn_of_steps(frame: Frame, noise: NoiseModel, windows: Sequence[Window]) -> None:
    step = step_stored(frame) or quantum_of(windows)
    if step is not None and noise.kind is not NoiseKind.POISSON:  # whose steps are events
        warn_of_coarse_steps(name_of(frame), sigma_at(noise, level_of(windows)), step)


def _sky_of(
    frame: Frame, windows: Sequence[Window], config: RunConfig, elsewhere: NoiseKernel | None
) -> SkyNoise:
    """Measure the noise of the sky; its correlation, where it tells none, is that of elsewhere.

    Nothing resamples a raw mosaic, or it were none: what correlates in it is light.
    """
    sky = measure_correlation(_skies(windows, config.threads_per_fit))
    if mosaic_of(frame) is not None:
        return replace(sky, kernel=NoiseKernel(source="pixels as they were read out"))
    if elsewhere is None or sky.kernel.source == MEASURED:
        return sky
    return replace(sky, kernel=elsewhere)


def correlation_of(
    planes: Sequence[tuple[Frame, Sequence[Place]]], config: RunConfig
) -> NoiseKernel | None:
    """Measure the correlation of the noise that planes of a cube share; None where none can be.

    planes : some of them, each with windows to look at; those that cannot tell do not count
    """
    if kernel_asked(config.noise.correlation) is not None:
        return None
    telling: list[Sky] = []
    for frame, places in planes:
        sensor = sensor_of(frame, config)
        windows = [window_of(frame, p, sensor, by_error=frame.has_error_plane) for p in places]
        skies = _skies(windows, config.threads_per_fit)
        if measure_correlation(skies).kernel.source == MEASURED:
            telling += skies
    if not telling:
        return None
    kernel = measure_correlation(telling).kernel
    return replace(kernel, source=FROM_OTHERS) if kernel.source == MEASURED else None


def _skies(windows: Sequence[Window], threads: int) -> list[Sky]:
    """Look for the sky in some windows, as many at once as a fit may have cores."""
    reuse_memory()
    return of_each(find_sky, windows, threads)


def _brought_to_sky(frame: Frame, noise: NoiseModel, ratio: float) -> NoiseModel:
    """Tell of a noise plane that is brought to the scatter of the sky."""
    noise = replace(noise, rung=f"{noise.rung}, {scaled_words(ratio)}")
    log.warning(
        "%s: %s, which scatters less than it says (as resampled pixels do, too)",
        frame.path,
        noise.rung,
    )
    return noise


def _counts_electrons(noise: NoiseModel, step: float) -> bool:
    """Whether steps are electrons that a detector without read noise counts: nothing is rounded."""
    gain, read_noise = noise.sensor.gain_e_per_dn, noise.sensor.read_noise_e
    silent = read_noise is None or read_noise.value == 0
    return silent and gain is not None and step * gain.value <= 1.0


def _with_counts_checked(frame: Frame, noise: NoiseModel, windows: Sequence[Window]) -> NoiseModel:
    """Allow for coarse steps of whole-numbered pixels; warn of few counts."""
    if noise.kind not in (NoiseKind.POISSON, NoiseKind.POISSON_GAUSSIAN):
        return noise
    values = np.concatenate([window.pixels[window.good] for window in windows])
    if values.size == 0:
        return noise
    if noise.kind is NoiseKind.POISSON:
        law = variance_line(noise)
        warn_of_few_counts(name_of(frame), counts_of_sky(windows, law.zero_level, law.slope))
        return noise
    step = step_stored(frame) or quantum_of(windows)
    sigma = sigma_at(noise, float(np.median(values)))
    if step is None or sigma >= _FINE * step or _counts_electrons(noise, step):
        return noise
    rounded = replace(noise, quantum=Sourced(step, frame.unit or "DN", "whole numbers in the file"))
    if sigma < _COARSE * step:
        _warn_of_steps(frame, rounded, windows)
        return rounded
    # A read noise that was measured on such frames has their rounding in it.
    return nearest_to_scatter([noise, rounded], windows)
