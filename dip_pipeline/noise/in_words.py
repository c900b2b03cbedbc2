"""Noise laws and frames in words."""

from dip_pipeline.frames import Frame
from dip_pipeline.sensor import NoiseKind, NoiseModel


def noise_in_words(noise: NoiseModel) -> str:
    """Say the noise law in one line: which, by which rung, with which numbers from where."""
    numbers = [] if noise.sigma is None else [f"sigma {noise.sigma}"]
    sensor = noise.sensor
    if noise.kind in (NoiseKind.POISSON, NoiseKind.POISSON_GAUSSIAN):
        numbers += [f"gain {sensor.gain_e_per_dn}"]
        if noise.kind is NoiseKind.POISSON_GAUSSIAN:
            numbers += [f"read noise {sensor.read_noise_e}"]
        numbers += [f"pedestal {sensor.pedestal_dn}"] if sensor.pedestal_dn else []
        sky = sensor.subtracted_sky_dn
        numbers += [f"subtracted sky {sky}"] if sky else []
    if noise.quantum is not None:
        numbers += [f"rounded to {noise.quantum}"]
    if not noise.correlation.is_white:
        numbers += [f"correlated by {noise.correlation}"]
    return f"{noise.kind}, {noise.rung}" + (f": {', '.join(numbers)}" if numbers else "")


def name_of(frame: Frame) -> str:
    """Name a frame with its place in the file, where that says something."""
    return str(frame.path) if frame.label in ("", "HDU 0") else f"{frame.path}, {frame.label}"


def scaled_words(factor: float) -> str:
    """Say that a noise plane was multiplied."""
    return f"scaled by {factor:.4g} to the frame's own scatter"
