"""The shape that the stars of a frame have in common."""

from collections.abc import Sequence

import numpy as np

from dip_pipeline.restoration.stars.star_shape import (
    FEWEST_STARS,
    Cutout,
    FittedStar,
    Image,
    StarShape,
    is_usual,
)

_ALIKE = 0.1  # largest difference of ln(FWHM) between stars that agree on a shape
_MISFIT = 0.003  # of the height: no star is known better than its model
_OUTLYING = 2.5  # sigma, from where on a pixel counts less
_GOOD_MISFIT = 1.3  # chi-square a pixel, from where on a star counts less
_STEPS = 10
_MOST_STEP = 0.3  # of a logarithm, or the tilt
_MOST_SHIFT_PX = 0.5
_SMALL_STEP = 1e-4
_DIFFERENCE = 1e-3  # for derivatives
_MOST_TILT = 0.9
_RIDGE = 1e-9
_GROUPS = 4  # of stars, each left out once


def measure_shape(stars: Sequence[FittedStar]) -> StarShape | None:
    """Find the shape that most of some stars agree on; None where too few do.

    Galaxies are wider and each in its own way: the largest group of about equal width counts. The
    median of their shapes is where a fit to all of them at once begins.
    """
    if len(stars) < FEWEST_STARS:
        return None
    widths = np.log([star.shape.fwhm_px for star in stars])
    groups = [np.abs(widths - width) < _ALIKE for width in widths]
    members = max(groups, key=np.count_nonzero)
    if np.count_nonzero(members) < FEWEST_STARS:
        return None
    alike = [star for star, member in zip(stars, members, strict=True) if member]
    terms = [[s.shape.a, s.shape.b, s.shape.d, s.shape.beta] for s in alike]
    median = StarShape(*(float(value) for value in np.median(terms, axis=0)))
    fitted = _fit_together([_Sight(star.height, star.cutout) for star in alike], median)
    moved = abs(np.log(fitted.fwhm_px / median.fwhm_px))
    return fitted if is_usual(fitted) and moved < _ALIKE else median


def alike_stars(stars: Sequence[FittedStar], shape: StarShape) -> list[FittedStar]:
    """Choose those that are as wide as a shape."""
    return [star for star in stars if abs(np.log(star.shape.fwhm_px / shape.fwhm_px)) < _ALIKE]


def shapes_of_the_others(stars: Sequence[FittedStar], shape: StarShape) -> list[StarShape]:
    """Fit a common shape anew with every fourth star left out, each of them once: a jackknife.

    stars : as many as are needed for a shape; shape : where the fits begin
    """
    sights = [
        [_Sight(star.height, star.cutout) for at, star in enumerate(stars) if at % _GROUPS != out]
        for out in range(_GROUPS)
    ]
    return [_fit_together(others, shape) for others in sights]


class _Sight:
    """A star as it is seen, and what fits it in a shape: height, row, col and the light around."""

    def __init__(self, height: float, cutout: Cutout) -> None:
        self.terms = np.array([height, *cutout.place, cutout.around])
        self.cutout = cutout
        self.sigma = np.hypot(cutout.sigma, _MISFIT * height)

    def settle(self, shape: StarShape) -> None:
        """Take one step of Gauss and Newton in the star's own four terms."""
        columns, left, _ = self._linear(shape)
        step = np.linalg.lstsq(columns, left, rcond=None)[0]
        step[1:3] = np.clip(step[1:3], -_MOST_SHIFT_PX, _MOST_SHIFT_PX)
        self.terms += step

    def says(self, shape: StarShape) -> tuple[Image, Image]:
        """Give normal equations of a step of the shape, (4, 4) and (4,); the star follows it.

        By variable projection: of each change of the shape only what no change of the star's own
        terms can do. A star that no shape fits well counts less.
        """
        columns, left, root = self._linear(shape)
        basis, _ = np.linalg.qr(columns)
        changes = self._shape_changes(shape) * root[:, None]
        changes -= basis @ (basis.T @ changes)
        weight = min(1.0, (_GOOD_MISFIT * left.size / max(float(left @ left), 1e-12)) ** 2)
        return weight * changes.T @ changes, weight * changes.T @ left

    def _linear(self, shape: StarShape) -> tuple[Image, Image, Image]:
        """Give changes with the star's own terms, and what is not explained, both weighted.

        And the roots of the weights.
        """
        height, _, _, around = self.terms
        light, by_row, by_col = shape.slopes(*self._offsets())
        left = (self.cutout.light - height * light - around) / self.sigma
        # Huber's weights: what is far off is a neighbour or a cosmic ray.
        trust = np.sqrt(np.minimum(1.0, _OUTLYING / np.maximum(np.abs(left), 1e-9)))
        columns = [light, height * by_row, height * by_col, np.ones_like(light)]
        root = trust / self.sigma
        return np.stack(columns, axis=1) * root[:, None], left * trust, root

    def _shape_changes(self, shape: StarShape) -> Image:
        terms, offsets = _terms_of(shape), self._offsets()
        here = shape.at(*offsets)
        there = [_shape_of(terms + _DIFFERENCE * one).at(*offsets) for one in np.eye(4)]
        slopes = (np.stack(there, axis=1) - here[:, None]) / _DIFFERENCE
        changes: Image = self.terms[0] * slopes
        return changes

    def _offsets(self) -> tuple[Image, Image]:
        _, row, col, _ = self.terms
        return self.cutout.rows - row, self.cutout.cols - col


def _fit_together(sights: Sequence[_Sight], shape: StarShape) -> StarShape:
    """Fit one shape to all stars, each of its own height and place; Gauss and Newton, robust."""
    for _ in range(_STEPS):
        for sight in sights:
            sight.settle(shape)
        normal, right = np.zeros((4, 4)), np.zeros(4)
        for sight in sights:
            own_normal, own_right = sight.says(shape)
            normal, right = normal + own_normal, right + own_right
        ridge = np.diag(_RIDGE + _RIDGE * normal.diagonal())
        step = np.clip(np.linalg.solve(normal + ridge, right), -_MOST_STEP, _MOST_STEP)
        shape = _shape_of(_terms_of(shape) + step)
        if np.abs(step).max() < _SMALL_STEP:
            break
    return shape


def _terms_of(shape: StarShape) -> Image:
    """Logarithms of both axes, the tilt, the logarithm of the exponent: any numbers are a shape."""
    tilt = shape.b / np.sqrt(shape.a * shape.d)
    return np.array([np.log(shape.a), np.log(shape.d), tilt, np.log(shape.beta)])


def _shape_of(terms: Image) -> StarShape:
    a, d = np.exp(terms[0]), np.exp(terms[1])
    tilt = float(np.clip(terms[2], -_MOST_TILT, _MOST_TILT))
    return StarShape(float(a), tilt * float(np.sqrt(a * d)), float(d), float(np.exp(terms[3])))
