"""Transforms to noise of unit variance and back, for peers that know no other."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]

_TABLE_END_E = 1000.0  # above, the asymptotic inverse is good to 1e-3 electrons
_TABLE_KNOTS = 600
_GAUSSIAN_NODES = np.linspace(-8.0, 8.0, 1601)


class Stabiliser(Protocol):
    """Turns pixels into values whose noise is 1, and an estimate of their mean into a level."""

    def forward(self, pixels: Values) -> Values:
        """Pixels in the frame's unit to values of unit noise."""

    def inverse(self, means: Values) -> Values:
        """Means of values to levels in the frame's unit, without bias."""


@dataclass(frozen=True, slots=True)
class White:
    """Noise that is the same everywhere: only its strength changes."""

    sigma: float

    def forward(self, pixels: Values) -> Values:
        """Divide by sigma."""
        return pixels / self.sigma

    def inverse(self, means: Values) -> Values:
        """Multiply by sigma."""
        return means * self.sigma


@dataclass(frozen=True, slots=True)
class Anscombe:
    """The generalised Anscombe transform of a sensor's pixels, and its exact unbiased inverse.

    f(y) = 2 sqrt(max(y + 3/8 + r^2, 0)), y in electrons, r the read noise. The inverse maps
    E[f(y) | x] to x, by a table, and where there is light in plenty by its asymptote; the
    algebraic inverse would be biased, the more the fainter the light. Makitalo and Foi 2013,
    IEEE Trans. Image Process. 22(1), 91.
    """

    gain_e_per_dn: float
    read_noise_e: float
    pedestal_dn: float = 0.0

    def forward(self, pixels: Values) -> Values:
        """Pixels in DN to values of unit noise."""
        return _transform((pixels - self.pedestal_dn) * self.gain_e_per_dn, self.read_noise_e)

    def inverse(self, means: Values) -> Values:
        """Means of values to levels in DN, never below the pedestal."""
        knots_e, table = _expected_values(self.read_noise_e)
        electrons = np.interp(means, table, knots_e)
        bright = means > table[-1]
        electrons[bright] = means[bright] ** 2 / 4 - 1 / 8 - self.read_noise_e**2
        return electrons / self.gain_e_per_dn + self.pedestal_dn

    def undo(self, values: Values) -> Values:
        """Give the levels in DN whose own transforms those are: the algebraic inverse."""
        electrons = values**2 / 4 - 3 / 8 - self.read_noise_e**2
        return electrons / self.gain_e_per_dn + self.pedestal_dn


def _transform(electrons: Values, read_noise_e: float) -> Values:
    values: Values = 2 * np.sqrt(np.maximum(electrons + 0.375 + read_noise_e**2, 0.0))
    return values


@lru_cache(maxsize=8)
def _expected_values(read_noise_e: float) -> tuple[Values, Values]:
    """E[f(y) | x] at levels x from 0 to the table's end, electrons.

    The mean over photons is a sum over the Poisson law; the mean over read noise for each
    number of photons, an integral over the Gaussian.
    """
    levels_e = np.linspace(0, np.sqrt(_TABLE_END_E), _TABLE_KNOTS) ** 2
    photons = np.arange(_TABLE_END_E + 10 * np.sqrt(_TABLE_END_E))
    weights = stats.norm.pdf(_GAUSSIAN_NODES)
    weights /= weights.sum()
    read_e = read_noise_e * _GAUSSIAN_NODES
    each = _transform(photons[:, None] + read_e[None, :], read_noise_e) @ weights
    return levels_e, stats.poisson.pmf(photons[None, :], levels_e[:, None]) @ each
