"""A noise that nobody tells: why it is not known, and counts too few to have one that is fitted."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from dip_pipeline.blind.sky import Window, quantum_of
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sensor, Sourced
from dip_pipeline.sensor.units import UnitKind, unit_kind

log = logging.getLogger(__name__)

_FEW_COUNTS = 5.0  # a pixel, in which events are told from other noise
_HARDLY_ANY = 0.2  # counts a pixel, of which no Stein's estimate of the risk holds
_AS_EVENTS = (0.6, 1.6)  # variance over mean; of independent events 1, of clipped ones 0.9
_COARSE = 0.4  # of a step: noise of 0.42 is restored as any other, of 0.35 it is not
_CLIPPINGS = 5
_BRIGHT_SIGMA, _FEWEST_BRIGHT = 10.0, 12  # pixels in which photons would make a difference
_LEVEL_PX = 5  # side of the square over which it is told what is bright
_SKY_SHARE = 0.75


def why_not_known(sensor: Sensor, unit: str) -> str:
    """Say what the header lacks, or what it has and cannot be used."""
    gain, read_noise = sensor.gain_e_per_dn, sensor.read_noise_e
    if unit_kind(unit) is UnitKind.CALIBRATED:
        if gain is None and read_noise is None:
            return "none in the header and none given"
        return f"gain and read noise of the header do not tell it in {unit}, and none is given"
    if sensor.notes:
        doubted = any("cannot be true" in note for note in sensor.notes)
        if_true = "; if it is, give --gain and --read-noise" if doubted else ""
        return f"{'; '.join(sensor.notes)}{if_true}"
    if gain is None and read_noise is not None:
        return "no gain in the header and none given"
    if read_noise is None and gain is not None:
        return "no read noise in the header and none given"
    return "none in the header and none given"


def law_of_events(name: str, sensor: Sensor, windows: Sequence[Window]) -> NoiseModel | None:
    """Give the law of events that are counted one by one; None of other pixels.

    It is white: each event comes by itself. Warns of so few that no risk can be told.
    """
    if not _are_few_events(windows):
        return None
    warn_of_few_counts(name, counts_of_sky(windows, 0.0, 1.0))
    told = "estimated: whole numbers that scatter as events do"
    counted = replace(
        sensor,
        gain_e_per_dn=Sourced(1.0, "e/DN", told),
        pedestal_dn=Sourced(0.0, "DN", told),
        read_noise_e=None,
        subtracted_sky_dn=None,
    )
    return NoiseModel(NoiseKind.POISSON, "estimated from the frame", sensor=counted)


def _are_few_events(windows: Sequence[Window]) -> bool:
    """Whether whole-numbered pixels scatter as events do that are few in a pixel."""
    if not quantum_of(windows) or _values_of(windows).min() < 0:
        return False
    totals = np.sum([_of_pairs(window) for window in windows], axis=0)
    squares, sums, pairs = (float(total) for total in totals)
    # Of events the square of a difference is the sum of both, in the mean, whatever the light.
    return 0 < sums < 2 * _FEW_COUNTS * pairs and _AS_EVENTS[0] < squares / sums < _AS_EVENTS[1]


def _of_pairs(window: Window) -> tuple[float, float, int]:
    """Squared differences and sums of pixels beside each other, where it is not bright."""
    if not window.good.any():
        return 0.0, 0.0, 0
    level = uniform_filter(np.where(window.good, window.pixels, 0.0), _LEVEL_PX)
    sky = window.good & (level <= np.quantile(level[window.good], _SKY_SHARE))
    both = sky[:, 1:] & sky[:, :-1]
    one, other = window.pixels[:, 1:][both], window.pixels[:, :-1][both]
    return float(((one - other) ** 2).sum()), float((one + other).sum()), int(both.sum())


def photons_left_out(noise: NoiseModel, windows: Sequence[Window]) -> str:
    """Say that one sigma has been found where there is light that would have more; else nothing."""
    if noise.kind is not NoiseKind.GAUSSIAN or noise.sigma is None:
        return ""
    values = _values_of(windows)
    bright = float(np.median(values)) + _BRIGHT_SIGMA * noise.sigma.value
    if np.count_nonzero(values > bright) < _FEWEST_BRIGHT:
        return ""
    return (
        "; no noise of photons shows in it: if there is any (a detector that counts them), errors "
        f"of what is brighter than {bright:.4g} are too small, the more the brighter it is; give "
        "--gain and --read-noise, or a noise plane (--err)"
    )


def warn_of_few_counts(name: str, counts: float) -> None:
    """Warn where there are too few counts in a pixel of the sky."""
    if counts < _HARDLY_ANY:
        log.warning(
            "%s: %.2g counts a pixel: too few for its residual noise to be told; bin the frame",
            name,
            counts,
        )


def warn_of_coarse_steps(name: str, sigma: float, step: float) -> None:
    """Warn where noise is finer than the steps of the pixels: what they hold is no Gaussian's.

    sigma : of the sky, its rounding included
    """
    own = max(sigma**2 - step**2 / 12, 0.0) ** 0.5
    if own < _COARSE * step:
        log.warning(
            "%s: its numbers come in steps of %g, too coarse for its noise of %.2g: what is "
            "restored sticks to them, and its residual noise may not be told; add uniform noise of "
            "one step first, or take the mean of several exposures",
            *(name, step, own),
        )


def counts_of_sky(windows: Sequence[Window], zero_level: float, level_of_one: float) -> float:
    """Mean counts of a pixel that no bright source lies on."""
    values = _values_of(windows) - zero_level
    sky = values[values <= _highest_of_sky(values, level_of_one)]
    return float(sky.mean()) / level_of_one


def _values_of(windows: Sequence[Window]) -> NDArray[np.float64]:
    values = np.concatenate([window.pixels[window.good] for window in windows])
    return values.astype(np.float64)


def _highest_of_sky(values: NDArray[np.float64], level_of_one: float) -> float:
    """Level above which counts are hardly the sky's own, four sigma and two counts."""
    highest = float(values.max())
    # Where a source fills much of a frame its mean would clip nothing.
    mean = float(np.mean(values[values <= np.quantile(values, 0.75)]))
    for _ in range(_CLIPPINGS):
        highest = mean + 4 * np.sqrt(max(mean, 0.0) * level_of_one) + 2 * level_of_one
        mean = float(np.mean(values[values <= highest]))
    return highest
