"""A star as a given PSF shows it, wherever in a pixel it lies."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dip_pipeline.restoration.stars.star_grid import Places
from dip_pipeline.restoration.stars.star_shape import (
    AS_GAUSSIANS,
    FittedStar,
    Image,
    StarShape,
    fit_star,
)

_MARGIN_PX = 8  # of zeros around a PSF: a fit looks six pixels around its peak
_FIT_SIGMA = 1e-4  # of the peak
_ORDER = 3  # of the splines through what is left of a PSF


@dataclass(frozen=True, slots=True, eq=False)
class PsfShape:
    """A PSF between the pixels that it is given at: a Moffat profile, and splines for the rest.

    A narrow PSF has too few pixels to be shifted by interpolation alone: its core rings. What a
    profile leaves of it is fainter, and smoother.

    core, height, at_px : the profile, its height, and its middle relative to the PSF's middle
        pixel, (row, col)
    rest : spline coefficients of the PSF less that, (rows, cols), with a margin of zeros
    reach_px : how far the PSF is known, along rows and cols
    """

    core: StarShape
    height: float
    at_px: tuple[float, float]
    rest: Image
    reach_px: tuple[int, int]

    @classmethod
    def of(cls, psf: NDArray[np.floating]) -> Self | None:
        """Lay it out; None for a PSF that no profile fits: one that is wide enough to be shifted.

        psf : (rows, cols), odd sides, sum 1
        """
        wide = np.pad(psf.astype(np.float64), _MARGIN_PX)
        middle = (wide.shape[0] // 2, wide.shape[1] // 2)
        found = _fitted(wide)
        if found is None:
            return None
        at_px = tuple(
            brightest + offset - at
            for brightest, offset, at in zip(found.at, found.cutout.place, middle, strict=True)
        )
        rows, cols = (
            np.arange(side, dtype=np.float64) - at
            for side, at in zip(wide.shape, middle, strict=True)
        )
        core = found.height * found.shape.at(rows[:, None] - at_px[0], cols[None, :] - at_px[1])
        inside = np.pad(np.ones(psf.shape), _MARGIN_PX)
        rest = ndimage.spline_filter((wide - core) * inside, _ORDER)
        reach_px = (psf.shape[0] // 2, psf.shape[1] // 2)
        return cls(found.shape, found.height, (at_px[0], at_px[1]), rest, reach_px)

    def at(self, rows_px: Image, cols_px: Image) -> Image:
        """Light of pixels at offsets from a star whose light sums to 1; they broadcast."""
        rows, cols = np.broadcast_arrays(rows_px, cols_px)
        middle = (self.rest.shape[0] // 2, self.rest.shape[1] // 2)
        places = np.stack([rows + middle[0], cols + middle[1]])
        light: Image = ndimage.map_coordinates(self.rest, places, order=_ORDER, prefilter=False)
        light += self.height * self.core.at(rows - self.at_px[0], cols - self.at_px[1])
        return light

    def drawn(self, size: tuple[int, ...], stars: Places) -> Image:
        """Draw stars on a plane of a size, as far as the PSF is known.

        stars : (stars, 3), the light of each, its row and its col
        """
        light = np.zeros(size)
        for flux, row, col in stars:
            spans = list(zip((row, col), size, self.reach_px, strict=True))
            firsts = [max(0, round(at) - reach) for at, _, reach in spans]
            lasts = [min(side, round(at) + reach + 1) for at, side, reach in spans]
            rows, cols = (np.arange(*ends) for ends in zip(firsts, lasts, strict=True))
            if rows.size and cols.size:
                window = (slice(firsts[0], lasts[0]), slice(firsts[1], lasts[1]))
                light[window] += flux * self.at(rows[:, None] - row, cols[None, :] - col)
        return light


def _fitted(wide: Image) -> FittedStar | None:
    """Fit the brightest place of a PSF with a profile."""
    row, col = np.unravel_index(int(np.argmax(wide)), wide.shape)
    sigma = np.full(wide.shape, _FIT_SIGMA * float(wide.max()))
    return fit_star(wide, sigma, (int(row), int(col)), most_beta=AS_GAUSSIANS)
