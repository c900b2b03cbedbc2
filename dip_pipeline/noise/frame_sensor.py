"""The sensor of a frame, and in which steps its pixels are stored."""

from dataclasses import replace

import numpy as np

from dip_pipeline.config import RunConfig
from dip_pipeline.frames import Frame
from dip_pipeline.sensor import Sensor, Sourced
from dip_pipeline.sensor.reading import read_sensor
from dip_pipeline.sensor.units import UnitKind, unit_kind

_AMPLIFIERS = "ABCD12345678"  # as cards of sections name them
_SIXTEEN_BITS = {"int16": 32767.0, "uint16": 65535.0}


def sensor_of(frame: Frame, config: RunConfig) -> Sensor:
    """Collect the sensor's numbers of a frame: command line, cards, overscan."""
    levels = {name: frame.overscan_level(name) for name in _AMPLIFIERS}
    sensor = read_sensor(
        frame.header,
        frame.unit,
        config.sensor_overrides(),
        overscan_level_dn=frame.overscan_level(),
        amplifier_levels_dn={name: level for name, level in levels.items() if level is not None},
        shape=frame.shape,
    )
    if sensor.saturation_dn is None and unit_kind(frame.unit) in (
        UnitKind.COUNTS,
        UnitKind.UNKNOWN,
    ):
        return replace(sensor, saturation_dn=_largest_stored(frame))
    return sensor


def _largest_stored(frame: Frame) -> Sourced | None:
    """Largest number that 16 bits hold, where a converter's numbers are stored as they came.

    None for other numbers: pictures of 8 bits have white paper, and scaled ones (BSCALE) may be
    scaled to their own brightest pixel.
    """
    stored = stored_as(frame)
    cards = {keyword: value for keyword, value, _ in frame.cards}
    zero, scale = cards.get("BZERO", 0), cards.get("BSCALE", 1)
    if stored not in _SIXTEEN_BITS or scale != 1 or zero not in (0, 32768):
        return None
    top = _SIXTEEN_BITS[stored] + (float(zero) if stored == "int16" else 0.0)
    return Sourced(top, "DN", "largest number that 16 bits hold")


def stored_as(frame: Frame) -> str:
    """Name the type of numbers that the science pixels are stored in."""
    return next(
        (
            np.dtype(plane.dtype).name
            for plane in sorted(frame.planes, key=lambda plane: plane.where != frame.where)
            if plane.role == "science"
        ),
        "float32",
    )


def step_stored(frame: Frame) -> float | None:
    """Step of pixels that are stored as whole numbers and scaled (BSCALE); None for others."""
    scale = next((value for keyword, value, _ in frame.cards if keyword == "BSCALE"), None)
    if (
        np.dtype(stored_as(frame)).kind not in "iu"
        or not isinstance(scale, int | float)
        or not scale
    ):
        return None
    return abs(float(scale))
