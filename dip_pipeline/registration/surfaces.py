"""Smooth surfaces over the pixels of an exposure, fitted to values at places of it."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dip_pipeline.registration.geometry import Places

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Places, places apart along each axis, and of the span along each, that ask for so many terms.
_SUPPORT = {2: (8, 3, 0.4), 5: (16, 4, 0.6)}
_WORTH = 8.0  # that a further term must lower chi square by: a slope that chance makes is rare
_ROUNDS = 20
_NEAREST = 0.65  # of the values, that a surface is laid through
_OUTLYING = 4.0  # standard deviations


@dataclass(frozen=True, slots=True)
class Surface:
    """A polynomial of rows and columns, 0 at its middle.

    middle_px, half_px : rows and columns each; u = (row - middle) / half, v likewise of columns
    terms : factors of u, v, u^2, u v, v^2; none of a level surface, two of a plane
    """

    middle_px: tuple[float, float] = (0.0, 0.0)
    half_px: tuple[float, float] = (1.0, 1.0)
    terms: tuple[float, ...] = ()

    @property
    def is_level(self) -> bool:
        """Whether it is 0 everywhere."""
        return not self.terms

    def at(self, rows: ArrayLike, cols: ArrayLike) -> Floats:
        """Height at rows and columns that go together as numpy has it, in the unit of the terms."""
        u, v = self.reduced(rows, cols)
        height = np.zeros(np.broadcast_shapes(u.shape, v.shape))
        for factor, power in zip(self.terms, _powers(u, v), strict=False):
            height = height + factor * power
        return height

    def times(self, factor: float) -> "Surface":
        """Give it in another unit."""
        return replace(self, terms=tuple(factor * each for each in self.terms))

    def rounded(self, digits: int) -> "Surface":
        """Leave out what its terms have behind so many decimals."""
        return replace(self, terms=tuple(round(each, digits) for each in self.terms))

    def reduced(self, rows: ArrayLike, cols: ArrayLike) -> tuple[Floats, Floats]:
        """Rows and columns as u and v."""
        middle, half = self.middle_px, self.half_px
        u = (np.asarray(rows, dtype=np.float64) - middle[0]) / half[0]
        v = (np.asarray(cols, dtype=np.float64) - middle[1]) / half[1]
        return u, v


def fit_surface(
    places: Places, values: Floats, errors: Floats, over: tuple[slice, slice]
) -> tuple[float, Surface]:
    """Fit a level, a plane or a quadratic: the fewest terms that the values ask for.

    values, errors : (n,), at the places, and their standard errors
    over : rows and columns that the places are spread over; in their middle the surface is 0
    Gives the level in the middle, NaN without places, and the surface. What lies far from a surface
    that most values lie near does not count.
    """
    level_one = Surface(*zip(*(_middle_of(span) for span in over), strict=True))
    if not len(values):
        return float("nan"), level_one
    u, v = level_one.reduced(places[:, 0], places[:, 1])
    design = np.column_stack([np.ones_like(u), *_powers(u, v)]) / errors[:, None]
    allowed = [0, *(terms for terms in _SUPPORT if _can_tell(u, v, terms))]
    halves = [np.ones(len(u), bool), *(side * axis >= 0 for axis in (u, v) for side in (-1, 1))]
    near = [
        _near(design[:, : 1 + terms], values / errors, half) for terms in allowed for half in halves
    ]
    scale, kept = min(near, key=lambda found: found[0])
    best, chi_square = _solved(design[kept, :1], values[kept] / errors[kept])
    for terms in allowed[1:]:
        found, left = _solved(design[kept, : 1 + terms], values[kept] / errors[kept])
        if chi_square - left > _WORTH * scale**2 * (len(found) - len(best)):
            best, chi_square = found, left
    level, *terms_found = best.tolist()
    return level, replace(level_one, terms=tuple(terms_found))


def _middle_of(span: slice) -> tuple[float, float]:
    return (span.start + span.stop - 1) / 2, max(1.0, (span.stop - span.start) / 2)


def _powers(u: Floats, v: Floats) -> tuple[Floats, ...]:
    return u, v, u * u, u * v, v * v


def _can_tell(u: Floats, v: Floats, terms: int) -> bool:
    """Whether there are places enough for so many terms, and far enough apart."""
    least, apart, span = _SUPPORT[terms]
    return len(u) >= least and all(
        len(np.unique(axis)) >= apart and np.ptp(axis) >= 2 * span for axis in (u, v)
    )


def _near(design: Floats, values: Floats, start: Mask) -> tuple[float, Mask]:
    """Scatter around a surface that most values lie near, at least 1, and which ones do.

    start : of the values, those that it is first laid through; then through those nearest to it,
        again and again (Rousseeuw & Van Driessen 1999, Technometrics 41, 212). A bent surface goes
        half of the way with a patch that lies off: several starts are needed.
    """
    kept = start
    for _ in range(_ROUNDS):
        solution, _ = _solved(design[kept], values[kept])
        off = np.abs(values - design @ solution)
        kept = off <= np.quantile(off, _NEAREST)
    scale = max(1.0, 1.4826 * float(np.median(off)))
    return scale, off <= _OUTLYING * scale


def _solved(design: Floats, values: Floats) -> tuple[Floats, float]:
    """Solve by least squares; the second is the sum of squares left."""
    solution = np.asarray(np.linalg.lstsq(design, values, rcond=None)[0], dtype=np.float64)
    return solution, float(np.sum((values - design @ solution) ** 2))
