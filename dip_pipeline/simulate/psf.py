"""The point spread function of simulated frames, and stars drawn with it."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from astropy.modeling.models import Moffat2D
from numpy.typing import NDArray

from dip_pipeline.errors import ConfigError

CORE_RADIUS_PX = 6.0  # inside: four Gauss-Legendre nodes a pixel and axis; outside: two
WING_DN = 0.005  # a star is drawn out to where its light falls below this, in DN per pixel ...
MISSING_SHARE = 1e-3  # ... and at least until no more than this share of its flux is left out


@dataclass(frozen=True, slots=True)
class MoffatPsf:
    """A round Moffat profile of unit volume; lengths in nominal pixels.

    fwhm_px : full width at half maximum
    beta : slope of the wings, which fall as radius ** (-2 * beta)
    """

    fwhm_px: float = 2.7
    beta: float = 3.0

    def __post_init__(self) -> None:
        if not (self.fwhm_px > 0 and self.beta > 1):
            raise ConfigError(
                f"PSF fwhm_px={self.fwhm_px:g}, beta={self.beta:g}: need fwhm > 0 and beta > 1"
            )

    @property
    def core_px(self) -> float:
        """Core width of the Moffat formula (astropy's gamma)."""
        return float(self.fwhm_px / (2 * np.sqrt(2 ** (1 / self.beta) - 1)))

    @property
    def peak(self) -> float:
        """Density at the centre, per square pixel, for a flux of 1."""
        return (self.beta - 1) / (np.pi * self.core_px**2)

    def density(
        self, rows_px: NDArray[np.floating], cols_px: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Flux per square pixel of a star of flux 1 at the origin; the arguments broadcast."""
        values: NDArray[np.float64] = Moffat2D.evaluate(
            cols_px, rows_px, self.peak, 0.0, 0.0, self.core_px, self.beta
        )
        return values

    def radius_px(self, flux_dn: float) -> float:
        """Radius out to which a star of this flux is drawn."""
        wing = (flux_dn * self.peak / WING_DN) ** (1 / self.beta)
        missing = MISSING_SHARE ** (1 / (1 - self.beta))
        return float(self.core_px * np.sqrt(max(wing, missing) - 1))


def add_star(
    image: NDArray[np.float64],
    position_px: tuple[float, float],
    flux_dn: float,
    *,
    psf: MoffatPsf,
    oversample: int = 1,
) -> None:
    """Add a star to `image`, integrated over its pixels; light beyond the border is lost.

    position_px : (row, col) in nominal pixels, whole numbers at pixel centres
    oversample : fine pixels of `image` per nominal pixel and axis
    """
    for radius, nodes in ((psf.radius_px(flux_dn), 2), (CORE_RADIUS_PX, 4)):
        row0, row1 = _span(position_px[0], radius, image.shape[0], oversample)
        col0, col1 = _span(position_px[1], radius, image.shape[1], oversample)
        if row0 >= row1 or col0 >= col1:
            continue
        where = (slice(row0, row1), slice(col0, col1))
        light = flux_dn * _integrate(psf, position_px, where, nodes=nodes, oversample=oversample)
        if nodes > 2:  # the core replaces what the coarser rule gave there
            light -= flux_dn * _integrate(psf, position_px, where, nodes=2, oversample=oversample)
        image[where] += light


def _span(centre_px: float, radius_px: float, size: int, oversample: int) -> tuple[int, int]:
    """First and last-plus-one fine pixel within a radius, clipped to the image."""
    first = int(np.floor((centre_px - radius_px + 0.5) * oversample))
    last = int(np.ceil((centre_px + radius_px + 0.5) * oversample))
    return max(first, 0), min(last, size)


def _integrate(
    psf: MoffatPsf,
    position_px: tuple[float, float],
    where: tuple[slice, slice],
    *,
    nodes: int,
    oversample: int,
) -> NDArray[np.float64]:
    """Integral of the PSF over each fine pixel of a region, by Gauss-Legendre quadrature."""
    places, weights = _nodes(nodes)
    axes = []
    for centre_px, span in zip(position_px, where, strict=True):
        fine = np.arange(span.start, span.stop)[:, None] + 0.5 + places / 2
        axes.append((fine / oversample - 0.5 - centre_px).ravel())
    density = psf.density(axes[0][:, None], axes[1][None, :])
    density = density.reshape(axes[0].size // nodes, nodes, axes[1].size // nodes, nodes)
    share = weights / 2 / oversample
    total: NDArray[np.float64] = np.einsum("ikjl,k,l->ij", density, share, share)
    return total


@cache
def _nodes(count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places and weights of so many nodes in [-1, 1]; to find them takes longer than a faint star.

    Not to be written to.
    """
    places, weights = np.polynomial.legendre.leggauss(count)
    return places, weights
