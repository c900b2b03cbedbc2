"""Noise laws: variance, likelihood, sampling, and splitting into independent copies.

Units are the frame's own (DN, or whatever BUNIT says); a level is the noiseless value.
"""

from typing import Protocol

import torch
from torch import Generator, Tensor

from dip_pipeline.errors import SensorError
from dip_pipeline.restoration.noise.correlation import draw_noise, root_of
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sensor
from dip_pipeline.sensor.noise_sigma import exposures_combined, photon_and_read_line, photon_line


class NoiseLaw(Protocol):
    """How an observation scatters around its noiseless level.

    variance = floor + slope * max(level - dark_level, 0), for every law here; of Poisson's see
    there.
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
        return expected + self.sigma * draw_noise(expected, generator)


class Poisson:
    """Counts of photons without read noise, in DN of a gain, above a dark level.

        variance = max(level - pedestal + subtracted sky, 0) / gain / n

    for the mean of n exposures. As dark_level stands the level of an eighth of a count: of eight
    neighbours without a photon, from which levels are taken, that is all that can be said, and
    no sigma may be 0.
    """

    def __init__(self, sensor: Sensor) -> None:
        line = photon_line(sensor)
        self.zero_level, self.slope = line.zero_level, line.slope
        self.dark_level = self.zero_level + self.slope / 8

    def variance(self, level: Tensor) -> Tensor:
        """Photon noise at that level, DN squared."""
        return self.slope * torch.clamp(level - self.zero_level, min=0.0)

    def nll(self, expected: Tensor, observed: Tensor) -> Tensor:
        """Take expected counts minus observed ones times the logarithm of the expected ones."""
        counts = ((expected - self.zero_level) / self.slope).clamp(min=1e-6)
        seen = torch.where(torch.isfinite(observed), observed - self.zero_level, 0.0) / self.slope
        return _mean_of_known(counts - seen * counts.log(), observed)

    def sample(self, expected: Tensor, generator: Generator) -> Tensor:
        """Poisson counts, back in DN."""
        counts = torch.clamp(expected - self.zero_level, min=0.0) / self.slope
        observed: Tensor = torch.poisson(counts, generator=generator) * self.slope
        return observed + self.zero_level


class PoissonGaussian:
    """Photon noise and read noise of a sensor.

        variance = (max(level - pedestal + subtracted sky, 0) / gain + (read_noise / gain)^2) / n

    for the mean of n exposures, and quantum^2 / 12 where pixels are rounded so coarsely that it
    matters. The likelihood is the Gaussian approximation of Foi et al. 2008, IEEE Trans. Image
    Process. 17(10), 1737.
    """

    def __init__(self, sensor: Sensor, quantum_dn: float = 0.0) -> None:
        line = photon_and_read_line(sensor, quantum_dn)
        assert sensor.gain_e_per_dn is not None  # the line is made of both
        assert sensor.read_noise_e is not None
        self.gain_e_per_dn = sensor.gain_e_per_dn.value
        self.read_noise_e = sensor.read_noise_e.value
        self.n_combined = exposures_combined(sensor)
        self.quantum_dn = quantum_dn
        self.dark_level, self.slope, self.floor = line.zero_level, line.slope, line.floor

    def variance(self, level: Tensor) -> Tensor:
        """Photon and read noise at that level, DN squared."""
        photons_dn = torch.clamp(level - self.dark_level, min=0.0)
        return self.slope * photons_dn + self.floor

    def nll(self, expected: Tensor, observed: Tensor) -> Tensor:
        """Gaussian with the variance of the expected level."""
        variance = self.variance(expected)
        # The log term is kept: the variance depends on the output, so dropping it would
        # reward the network for predicting bright pixels.
        each = 0.5 * (_residual(observed, expected) ** 2 / variance + variance.log())
        return _mean_of_known(each, observed)

    def sample(self, expected: Tensor, generator: Generator) -> Tensor:
        """Poisson electrons plus Gaussian read noise, back in DN, rounded if need be."""
        scale = self.gain_e_per_dn * self.n_combined
        electrons = torch.clamp(expected - self.dark_level, min=0.0) * scale
        photons = torch.poisson(electrons, generator=generator)
        read = self.read_noise_e * self.n_combined**0.5 * draw_noise(expected, generator)
        observed: Tensor = (photons + read) / scale + self.dark_level
        if self.quantum_dn > 0:
            observed = torch.round(observed / self.quantum_dn) * self.quantum_dn
        return observed


class Correlated:
    """Another law's noise, but with neighbouring pixels that hang together.

    Draws are Gaussian with the variances of that law. The likelihood is the product of the pixels'
    own ones (a composite likelihood; Varin et al. 2011, Stat. Sinica 21, 5): least at the same
    level in the mean, and no covariance to be inverted.
    """

    def __init__(self, law: NoiseLaw, root: Tensor) -> None:
        self.law = law
        self.root = root
        self.dark_level = law.dark_level
        self.slope = law.slope

    def variance(self, level: Tensor) -> Tensor:
        """Variance of each pixel: what it would be alone."""
        return self.law.variance(level)

    def nll(self, expected: Tensor, observed: Tensor) -> Tensor:
        """Mean over the pixels as if each were alone."""
        return self.law.nll(expected, observed)

    def sample(self, expected: Tensor, generator: Generator) -> Tensor:
        """Add correlated Gaussian noise; expected is (batch, 1, rows, cols)."""
        sigma = torch.sqrt(self.law.variance(expected))
        return expected + sigma * draw_noise(expected, generator, self.root)


def law_for(noise: NoiseModel, error: Tensor | None = None) -> NoiseLaw:
    """Build the noise law of a frame; error is its sigma plane, where it has one.

    Raises SensorError where the model names an error plane that is not given.
    """
    root = root_of(noise.correlation)
    law = _law_of_pixels(noise, error)
    return law if root is None else Correlated(law, root)


def _law_of_pixels(noise: NoiseModel, error: Tensor | None) -> NoiseLaw:
    if noise.kind is NoiseKind.NONE:
        return SquaredError()
    if noise.kind is NoiseKind.POISSON:
        return Poisson(noise.sensor)
    if noise.kind is NoiseKind.POISSON_GAUSSIAN:
        return PoissonGaussian(noise.sensor, noise.quantum.value if noise.quantum else 0.0)
    if noise.from_error_plane:
        if error is None:
            raise SensorError("the noise model names an error plane, but none was read")
        return Gaussian(error)
    if noise.sigma is None:
        raise SensorError("gaussian noise needs a sigma (--sigma) or an error plane")
    # float64: the square of a sigma of 1e-25 (SI flux units) is 0 in float32.
    return Gaussian(torch.tensor(noise.sigma.value, dtype=torch.float64))


def split_along(observed: Tensor, noise: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Split an observation along a draw of its noise into two copies, independent given the truth.

    y1 = y + a n and y2 = y - n / a with n ~ N(0, S), S the noise's covariance, so
    cov(y1, y2 | x) = 0 and (y1 + a^2 y2) / (1 + a^2) = y; Pang et al. 2021
    (recorrupted-to-recorrupted), Oliveira et al. 2022 (coupled bootstrap). Exact for Gaussian
    noise, second-order for the others.

    strength : a
    """
    return observed + strength * noise, observed - noise / strength


def _residual(observed: Tensor, expected: Tensor) -> Tensor:
    """Observed minus expected; unknown pixels get a number, for 0 * NaN spoils a gradient."""
    return torch.where(torch.isfinite(observed), observed, 0.0) - expected


def _mean_of_known(each: Tensor, observed: Tensor) -> Tensor:
    return each[torch.isfinite(observed)].mean()
