"""Noise laws: variance, likelihood, sampling, and splitting into independent copies.

Units are the frame's own (DN, or whatever BUNIT says); a level is the noiseless value.
"""

from typing import Protocol

import torch
from torch import Generator, Tensor

from dip_pipeline.errors import SensorError
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sensor


class NoiseLaw(Protocol):
    """How an observation scatters around its noiseless level.

    variance = floor + slope * max(level - dark_level, 0), for every law here.
    """

    dark_level: float
    slope: float

    def variance(self, level: Tensor) -> Tensor:
        """Variance of each pixel at that level, unit squared."""

    def nll(self, expected: Tensor, observed: Tensor) -> Tensor:
        """Mean negative log-likelihood, constants left out; NaN in observed is ignored."""

    def sample(self, expected: Tensor, generator: Generator) -> Tensor:
        """Draw one observation of the expected levels."""


class SquaredError:
    """No noise law: every pixel weighs the same and the level of the noise is unknown."""

    dark_level = 0.0
    slope = 0.0

    def variance(self, level: Tensor) -> Tensor:
        """One everywhere: residuals keep the frame's unit."""
        return torch.ones_like(level)

    def nll(self, expected: Tensor, observed: Tensor) -> Tensor:
        """Half the mean squared difference."""
        return _mean_of_known(0.5 * _residual(observed, expected) ** 2, observed)

    def sample(self, expected: Tensor, generator: Generator) -> Tensor:  # noqa: ARG002 (protocol)
        """Refuse: nothing says how strong the noise is."""
        raise SensorError("noise 'none' has no strength to draw from; give a noise law")


class Gaussian:
    """Additive noise of a known standard deviation, one for all pixels or one each."""

    dark_level = 0.0
    slope = 0.0

    def __init__(self, sigma: Tensor) -> None:
        self.sigma = sigma

    def variance(self, level: Tensor) -> Tensor:
        """Sigma squared, whatever the level."""
        return (self.sigma**2).expand_as(level)

    def nll(self, expected: Tensor, observed: Tensor) -> Tensor:
        """Half the mean squared residual in units of sigma."""
        return _mean_of_known(0.5 * (_residual(observed, expected) / self.sigma) ** 2, observed)

    def sample(self, expected: Tensor, generator: Generator) -> Tensor:
        """Add Gaussian noise."""
        return expected + self.sigma * _normal(expected, generator)


class PoissonGaussian:
    """Photon noise and read noise of a sensor.

        variance = (max(level - pedestal + subtracted sky, 0) / gain + (read_noise / gain)^2) / n

    for the mean of n exposures. The likelihood is the Gaussian approximation of Foi et al.
    2008, IEEE Trans. Image Process. 17(10), 1737.
    """

    def __init__(self, sensor: Sensor) -> None:
        if sensor.gain_e_per_dn is None or sensor.read_noise_e is None:
            raise SensorError("poisson-gaussian noise needs a gain and a read noise")
        self.gain_e_per_dn = sensor.gain_e_per_dn.value
        self.read_noise_e = sensor.read_noise_e.value
        self.n_combined = sensor.n_combined.value if sensor.n_combined else 1.0
        pedestal = sensor.pedestal_dn.value if sensor.pedestal_dn else 0.0
        sky = sensor.subtracted_sky_dn.value if sensor.subtracted_sky_dn else 0.0
        self.dark_level = pedestal - sky  # DN; the level at which no photon arrived
        self.slope = 1 / (self.gain_e_per_dn * self.n_combined)

    def variance(self, level: Tensor) -> Tensor:
        """Photon and read noise at that level, DN squared."""
        photons_dn = torch.clamp(level - self.dark_level, min=0.0)
        read_dn = self.read_noise_e / self.gain_e_per_dn
        return self.slope * photons_dn + read_dn**2 / self.n_combined

    def nll(self, expected: Tensor, observed: Tensor) -> Tensor:
        """Gaussian with the variance of the expected level."""
        variance = self.variance(expected)
        # The log term is kept: the variance depends on the output, so dropping it would
        # reward the network for predicting bright pixels.
        each = 0.5 * (_residual(observed, expected) ** 2 / variance + variance.log())
        return _mean_of_known(each, observed)

    def sample(self, expected: Tensor, generator: Generator) -> Tensor:
        """Poisson electrons plus Gaussian read noise, back in DN."""
        scale = self.gain_e_per_dn * self.n_combined
        electrons = torch.clamp(expected - self.dark_level, min=0.0) * scale
        photons = torch.poisson(electrons, generator=generator)
        read = self.read_noise_e * self.n_combined**0.5 * _normal(expected, generator)
        observed: Tensor = (photons + read) / scale + self.dark_level
        return observed


def law_for(noise: NoiseModel, error: Tensor | None = None) -> NoiseLaw:
    """Build the noise law of a frame; error is its sigma plane, where it has one.

    Raises SensorError where the model names an error plane that is not given.
    """
    if noise.kind is NoiseKind.NONE:
        return SquaredError()
    if noise.kind is NoiseKind.POISSON_GAUSSIAN:
        return PoissonGaussian(noise.sensor)
    if noise.from_error_plane:
        if error is None:
            raise SensorError("the noise model names an error plane, but none was read")
        return Gaussian(error)
    if noise.sigma is None:
        raise SensorError("gaussian noise needs a sigma (--sigma) or an error plane")
    # float64: the square of a sigma of 1e-25 (SI flux units) is 0 in float32.
    return Gaussian(torch.tensor(noise.sigma.value, dtype=torch.float64))


def split_observation(
    observed: Tensor, sigma: Tensor, strength: float, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Split one observation into two copies that are independent given the truth.

    y1 = y + a n and y2 = y - n / a with n ~ N(0, sigma^2), so cov(y1, y2 | x) = 0 and
    (y1 + a^2 y2) / (1 + a^2) = y; Pang et al. 2021 (recorrupted-to-recorrupted), Oliveira et
    al. 2022 (coupled bootstrap). Exact for Gaussian noise, second-order for the others.
    """
    noise = sigma * _normal(observed, generator)
    return observed + strength * noise, observed - noise / strength


def join_copies(first: Tensor, second: Tensor, strength: float) -> Tensor:
    """Put the two copies of `split_observation` together again."""
    return (first + strength**2 * second) / (1 + strength**2)


def _normal(like: Tensor, generator: Generator) -> Tensor:
    draw = torch.randn(like.shape, generator=generator, device=generator.device)
    return draw.to(like.device, like.dtype)


def _residual(observed: Tensor, expected: Tensor) -> Tensor:
    """Observed minus expected; unknown pixels get a number, for 0 * NaN spoils a gradient."""
    return torch.where(torch.isfinite(observed), observed, 0.0) - expected


def _mean_of_known(each: Tensor, observed: Tensor) -> Tensor:
    return each[torch.isfinite(observed)].mean()
