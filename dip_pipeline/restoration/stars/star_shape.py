"""The shape of a star in a frame, measured on the frame's own stars."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]

_BRIGHT_SIGMA = 15.0  # smoothed over 1 px: fainter stars say little of their shape
_MOST_STARS = 40  # of one region
_STARS_IN_ALL = 120  # of all regions of a frame
FEWEST_STARS = 4
_RADIUS_PX = 6
_BETA = (1.0, 12.0)
AS_GAUSSIANS = 30.0  # beyond the steepest that is looked for: Gaussians are stars, too
_FWHM_PX = (0.6, 9.0)
_MISFIT = 0.01  # of the peak: no star is known better than its model
_MOST_AROUND = 0.9  # of a star's peak, above the sky or below, where its fit begins
_TRIES = 60
_MOST_TILT = 0.9  # of the mean axis
# Of Gauss and Legendre over a pixel: px from its middle, and weights.
_TWO_NODES = ((-0.5 / 3**0.5, 0.5), (0.5 / 3**0.5, 0.5))
_THREE_NODES = ((-0.5 * 0.6**0.5, 5 / 18), (0.0, 8 / 18), (0.5 * 0.6**0.5, 5 / 18))
_NARROW_FWHM_PX = 2.2  # below this two nodes are too few


@dataclass(frozen=True, slots=True)
class StarShape:
    """An elliptical Moffat profile of unit height, before pixels take their mean of it.

        (1 + a r^2 + 2 b r c + d c^2) ** -beta,  r and c offsets in rows and cols, px

    Moffat 1969, Astron. Astrophys. 3, 455. Means over pixels have no such shape: their cores are
    flatter, so that one fitted to them falls too steeply outside.
    """

    a: float
    b: float
    d: float
    beta: float

    def profile(self, rows_px: Image, cols_px: Image) -> Image:
        """Brightness at offsets from the centre; they broadcast."""
        square = self.a * rows_px**2 + 2 * self.b * rows_px * cols_px + self.d * cols_px**2
        values: Image = np.exp(-self.beta * np.log(1 + np.maximum(square, 0.0)))
        return values

    def at(self, rows_px: Image, cols_px: Image) -> Image:
        """Mean brightness over pixels at offsets from the centre; they broadcast.

        Right to 0.3 % of the height for a width from 2.2 px on, and from 0.9 px on to 0.5 %.
        """
        total = np.zeros(np.broadcast_shapes(np.shape(rows_px), np.shape(cols_px)))
        for down, across, weight in self.nodes:
            total += weight * self.profile(rows_px + down, cols_px + across)
        return total

    def slopes(self, rows_px: Image, cols_px: Image) -> tuple[Image, Image, Image]:
        """Give `at`, and how it changes as the star moves down its rows and along its columns."""
        total: list[Image] = [np.zeros(np.broadcast_shapes(rows_px.shape, cols_px.shape))] * 3
        for by_row, by_col, weight in self.nodes:
            down, across = rows_px + by_row, cols_px + by_col
            base = 1 + self.a * down**2 + 2 * self.b * down * across + self.d * across**2
            light = weight * np.exp(-self.beta * np.log(base))
            fall = 2 * self.beta * light / base
            moved = (self.a * down + self.b * across, self.b * down + self.d * across)
            parts = (light, fall * moved[0], fall * moved[1])
            total = [one + part for one, part in zip(total, parts, strict=True)]
        return total[0], total[1], total[2]

    @property
    def nodes(self) -> list[tuple[float, float, float]]:
        """Offsets in a pixel, px, and weights, of which its mean is taken."""
        line = _TWO_NODES if self.fwhm_px >= _NARROW_FWHM_PX else _THREE_NODES
        return [(down, across, high * wide) for down, high in line for across, wide in line]

    def stamp(self, reach_px: int = _RADIUS_PX) -> Image:
        """Draw a star in the middle of a square that reaches so far to each side."""
        offsets = np.arange(-reach_px, reach_px + 1, dtype=np.float64)
        return self.at(offsets[:, None], offsets[None, :])

    def widened(self, times: float) -> "StarShape":
        """Give the same profile, so many times as wide."""
        return StarShape(self.a / times**2, self.b / times**2, self.d / times**2, self.beta)

    def radius_px(self, share: float) -> float:
        """Radius within which the profile is above a share of its height."""
        square = max(share, 1e-12) ** (-1 / self.beta) - 1
        mean, tilted = (self.a + self.d) / 2, np.hypot((self.a - self.d) / 2, self.b)
        return float(np.sqrt(square / max(mean - tilted, 1e-12)))  # along the longer axis

    @property
    def fwhm_px(self) -> float:
        """Full width at half maximum, geometric mean over directions."""
        area = np.sqrt(max(self.a * self.d - self.b**2, 1e-12))
        return float(2 * np.sqrt((2 ** (1 / self.beta) - 1) / area))

    @property
    def ellipticity(self) -> float:
        """Tell by how much the shorter axis is shorter than the longer, as a share of that."""
        mean, tilted = (self.a + self.d) / 2, float(np.hypot((self.a - self.d) / 2, self.b))
        shorter_over_longer = float(np.sqrt(max(mean - tilted, 0.0) / (mean + tilted)))
        return 1 - shorter_over_longer


# Of seeing as it is, well sampled: FWHM 2.7 px. Where a shape is to be found, a search starts here.
USUAL_SHAPE = StarShape(a=0.143, b=0.0, d=0.143, beta=3.0)


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """Pixels around a star, (pixels,), and where it is.

    rows, cols : offsets from its brightest pixel; place : of the star among them, (row, col)
    light, sigma : sky at zero; around : light around the star, the same unit
    """

    rows: Image
    cols: Image
    light: Image
    sigma: Image
    place: tuple[float, float]
    around: float


@dataclass(frozen=True, slots=True)
class FittedStar:
    """A bright star and the shape that fits it.

    cutout : what was seen of it; at : its brightest pixel, (row, col)
    """

    shape: StarShape
    height: float
    cutout: Cutout
    at: tuple[int, int]


def stars_of_each(regions: int) -> int:
    """How many stars of each region are fitted: enough in all, and some of each."""
    return int(np.clip(_STARS_IN_ALL // regions, FEWEST_STARS, _MOST_STARS))


def fit_bright_stars(
    observed: Image,
    sigma: Image,
    trusted: Mask,
    *,
    most: int = _MOST_STARS,
    most_beta: float = _BETA[1],
) -> list[FittedStar]:
    """Fit each of the brightest lonely stars with a shape of its own.

    observed : (rows, cols), sky at zero; sigma : same unit; trusted : neither masked nor saturated
    most : stars that are fitted; most_beta : exponent below which they are taken for stars
    """
    smoothed = ndimage.gaussian_filter(np.where(trusted, observed, 0.0), 1.0)
    near_a_hole = ndimage.binary_dilation(~trusted, iterations=_RADIUS_PX)
    lonely = smoothed == ndimage.maximum_filter(smoothed, 2 * _RADIUS_PX + 1)
    found = lonely & (smoothed > _BRIGHT_SIGMA * sigma) & ~near_a_hole
    margin = _RADIUS_PX + 1
    inside = np.zeros_like(found)
    inside[margin:-margin, margin:-margin] = True
    places = np.argwhere(found & inside)
    heights = (smoothed / sigma)[found & inside]
    brightest = places[np.argsort(-heights, kind="stable")][:most]
    fits = (
        fit_star(observed, sigma, (int(row), int(col)), most_beta=most_beta)
        for row, col in brightest
    )
    return [star for star in fits if star is not None]


def fit_star(
    observed: Image, sigma: Image, place: tuple[int, int], *, most_beta: float = _BETA[1]
) -> FittedStar | None:
    """Fit the star whose brightest pixel is at a place, six pixels and more from all borders."""
    offsets = np.arange(-_RADIUS_PX, _RADIUS_PX + 1)
    rows, cols = (grid.astype(np.float64) for grid in np.meshgrid(offsets, offsets, indexing="ij"))
    disc = rows**2 + cols**2 <= _RADIUS_PX**2
    stamp = tuple(slice(at - _RADIUS_PX, at + _RADIUS_PX + 1) for at in place)
    light, noise = observed[stamp][disc], sigma[stamp][disc]
    rows, cols = rows[disc], cols[disc]
    peak = float(light.max())
    if peak <= 0:
        return None
    seen = _Seen(rows, cols, light / peak, np.hypot(noise / peak, _MISFIT))
    around = float(np.clip(np.percentile(light, 20) / peak, -_MOST_AROUND, _MOST_AROUND))
    start = [1.0, 0.0, 0.0, around, -1.5, -1.5, 0.0, 1.0]
    limits = [3.0, 2.0, 2.0, 1.0, 6.0, 6.0, 4.0, 3.0]
    bounds = ([-limit for limit in limits], limits)
    fit = optimize.least_squares(
        seen.misfit, start, seen.changes, bounds, loss="soft_l1", max_nfev=_TRIES
    )
    shape = _shape_of(fit.x)
    if not is_usual(shape, most_beta):
        return None
    height, row, col, around = (float(term) for term in fit.x[:4])
    cutout = Cutout(rows, cols, light, noise, (row, col), around * peak)
    return FittedStar(shape, height * peak, cutout, place)


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """Pixels that a star is fitted to, (pixels,), in units of the brightest.

    The terms: height, row, col, light around; the logarithms of a and d, a tangent of the tilt, the
    logarithm of beta: so every number is a profile.
    """

    rows: Image
    cols: Image
    light: Image
    doubt: Image

    def misfit(self, terms: Image) -> Image:
        """How far a star is from what is seen, in standard errors."""
        model = terms[0] * _shape_of(terms).at(self.rows - terms[1], self.cols - terms[2])
        misfit: Image = (model + terms[3] - self.light) / self.doubt
        return misfit

    def changes(self, terms: Image) -> Image:
        """How `misfit` changes with each of the terms, (pixels, terms)."""
        shape = _shape_of(terms)
        down, across, weight = np.array(shape.nodes).T[:, :, None]
        rows, cols = self.rows - terms[1] + down, self.cols - terms[2] + across
        tilted = shape.b * rows * cols
        high, wide = shape.a * rows**2, shape.d * cols**2
        base = 1 + high + 2 * tilted + wide
        steep = np.log(base)
        light = weight * np.exp(-shape.beta * steep)
        fall = shape.beta * light / base
        turn = 2 * _MOST_TILT * (1 - np.tanh(terms[6]) ** 2) * np.sqrt(shape.a * shape.d)
        of_shape = (
            2 * fall * (shape.a * rows + shape.b * cols),
            2 * fall * (shape.b * rows + shape.d * cols),
            -fall * (high + tilted),
            -fall * (wide + tilted),
            -fall * turn * rows * cols,
            -shape.beta * steep * light,
        )
        by_row, by_col, *rest = (terms[0] * part.sum(axis=0) for part in of_shape)
        columns = light.sum(axis=0), by_row, by_col, np.ones_like(self.light), *rest
        changes: Image = np.stack(columns, axis=1) / self.doubt[:, None]
        return changes


def _shape_of(terms: Image) -> StarShape:
    a, d = np.exp(terms[4]), np.exp(terms[5])
    tilt = _MOST_TILT * np.tanh(terms[6]) * np.sqrt(a * d)
    return StarShape(float(a), float(tilt), float(d), float(np.exp(terms[7])))


def is_usual(shape: StarShape, most_beta: float = _BETA[1]) -> bool:
    """Whether a star may look like that, and the search did not end at its limits."""
    return _BETA[0] < shape.beta < most_beta and _FWHM_PX[0] < shape.fwhm_px < _FWHM_PX[1]
