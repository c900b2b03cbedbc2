"""How strong the noise of pixels is by a noise law, at their levels: numbers alone, no draws.

Units are the frame's own (DN, or whatever BUNIT says); a level is the noiseless value.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.errors import SensorError
from dip_pipeline.sensor.sensor import NoiseKind, NoiseModel, Sensor


@dataclass(frozen=True, slots=True)
class VarianceLine:
    """How the variance of a pixel grows with its level.

    variance = slope * max(level - zero_level, 0) + floor

    zero_level : level at which no photon arrived
    slope : unit of the frame for a photon, over the number of exposures; 0: the floor everywhere
    floor : variance where no photon arrived, unit squared
    """

    zero_level: float
    slope: float
    floor: float = 0.0

    def variance(self, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Variance of each pixel at its level, unit squared; of any shape."""
        if self.slope == 0:
            return np.full(levels.shape, self.floor)
        with np.errstate(all="ignore"):  # levels need not be finite
            photons = np.maximum(levels - self.zero_level, 0.0)
            variance: NDArray[np.float64] = self.slope * photons + self.floor
        return variance


def photon_line(sensor: Sensor) -> VarianceLine:
    """Give the line of photons without read noise; SensorError where there is no gain."""
    if sensor.gain_e_per_dn is None:
        raise SensorError("poisson noise needs a gain (--gain, electrons per DN)")
    slope = 1 / (sensor.gain_e_per_dn.value * exposures_combined(sensor))  # DN a count
    return VarianceLine(zero_level(sensor), slope)


def photon_and_read_line(sensor: Sensor, quantum_dn: float = 0.0) -> VarianceLine:
    """Give the line of photons and read noise; SensorError where gain or read noise are missing.

    quantum_dn : to which pixels are rounded, where that is so coarse that it matters
    """
    if sensor.gain_e_per_dn is None or sensor.read_noise_e is None:
        raise SensorError("poisson-gaussian noise needs a gain and a read noise")
    gain_e_per_dn, n_combined = sensor.gain_e_per_dn.value, exposures_combined(sensor)
    read_dn = sensor.read_noise_e.value / gain_e_per_dn
    floor = read_dn**2 / n_combined + quantum_dn**2 / 12
    return VarianceLine(zero_level(sensor), 1 / (gain_e_per_dn * n_combined), floor)


def variance_line(noise: NoiseModel) -> VarianceLine:
    """Give the line of a law that needs no error plane; without a law the variance is 1.

    Raises SensorError where the law is an error plane, or lacks a number.
    """
    if noise.kind is NoiseKind.NONE:
        return VarianceLine(0.0, 0.0, 1.0)
    if noise.kind is NoiseKind.POISSON:
        return photon_line(noise.sensor)
    if noise.kind is NoiseKind.POISSON_GAUSSIAN:
        return photon_and_read_line(noise.sensor, noise.quantum.value if noise.quantum else 0.0)
    if noise.from_error_plane:
        raise SensorError("the noise model names an error plane, but none was read")
    if noise.sigma is None:
        raise SensorError("gaussian noise needs a sigma (--sigma) or an error plane")
    return VarianceLine(0.0, 0.0, noise.sigma.value * noise.sigma.value)


def sigmas_at(noise: NoiseModel, levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the standard deviation of pixels, each at its level; no error plane is needed."""
    return np.sqrt(variance_line(noise).variance(levels))


def sigma_plane(
    noise: NoiseModel, levels: NDArray[np.float32], error: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Give the standard deviation of every pixel, (rows, cols), at its level.

    error : of the frame, where the law is its error plane
    """
    if noise.from_error_plane and error is not None:
        with np.errstate(all="ignore"):  # a sigma may be NaN, or infinite
            given = np.sqrt(np.asarray(error, np.float64) ** 2)
            return np.broadcast_to(given, levels.shape).astype(np.float32)
    sigmas = sigmas_at(noise, np.asarray(levels, np.float64))
    with np.errstate(all="ignore"):  # those that float32 does not hold
        return sigmas.astype(np.float32)


def sigma_at(noise: NoiseModel, level: float) -> float:
    """Give the standard deviation of a pixel at one level, where no error plane is needed."""
    return float(sigmas_at(noise, np.array([level]))[0])


def exposures_combined(sensor: Sensor) -> float:
    """How many exposures a pixel is the mean of."""
    return sensor.n_combined.value if sensor.n_combined else 1.0


def zero_level(sensor: Sensor) -> float:
    """Give the level at which no photon arrived, DN."""
    pedestal = sensor.pedestal_dn.value if sensor.pedestal_dn else 0.0
    sky = sensor.subtracted_sky_dn.value if sensor.subtracted_sky_dn else 0.0
    return pedestal - sky
