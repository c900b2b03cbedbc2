"""A noise that nobody tells: why it is not known, and counts too few to have one that is fitted."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.blind.sky import Window, quantum_of
from dip_pipeline.sensor import Sensor
from dip_pipeline.sensor.units import UnitKind, unit_kind

log = logging.getLogger(__name__)

_FEW_COUNTS = 5.0  # a pixel; below, Poisson noise is far from the Gaussian draws of the fit
_AS_EVENTS = (0.6, 1.6)  # variance over mean; of independent events 1, of clipped ones 0.9
_CLIPPINGS = 5


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


def warn_of_few_events(name: str, windows: Sequence[Window]) -> None:
    """Warn where whole-numbered pixels scatter as events do that are few in a pixel."""
    if not quantum_of(windows):
        return
    values = _values_of(windows)
    if values.min() < 0:
        return
    sky = values[values <= _highest_of_sky(values, 1.0)]
    mean = float(sky.mean())
    if mean > 0 and _AS_EVENTS[0] < sky.var() / mean < _AS_EVENTS[1]:
        warn_of_few_counts(name, mean)


def warn_of_few_counts(name: str, counts: float) -> None:
    """Warn where there are too few counts in a pixel of the sky."""
    if counts < _FEW_COUNTS:
        log.warning(
            "%s: %.2g counts a pixel: too few for the Gaussian draws of the fit; bin the frame",
            name,
            counts,
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
