"""The sensor behind a frame: its numbers, where each came from, and what noise follows."""

from dip_pipeline.sensor.sensor import (
    FROM_SCATTER,
    NO_PEDESTAL,
    NoiseChoice,
    NoiseKind,
    NoiseModel,
    Sensor,
    SensorOverrides,
    Sourced,
    choose_noise,
    estimate_sigma,
    estimated_noise,
    unit_counts_electrons,
)

__all__ = [
    "FROM_SCATTER",
    "NO_PEDESTAL",
    "NoiseChoice",
    "NoiseKind",
    "NoiseModel",
    "Sensor",
    "SensorOverrides",
    "Sourced",
    "choose_noise",
    "estimate_sigma",
    "estimated_noise",
    "unit_counts_electrons",
]
