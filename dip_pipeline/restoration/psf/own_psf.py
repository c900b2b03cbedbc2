"""The point spread function of a frame, measured on its own stars.

Stars that agree on a width are fitted with one elliptical Moffat profile, and what all of them
show beside it is a surface of cubic splines, as Anderson & King 2000 (PASP 112, 1360) tabulate
theirs: an *effective* PSF, whose values at a pixel's offset from the star are what the pixel
holds. It is held near zero where the stars do not say otherwise. Measured on
fields of 512 x 512 px, twenty to a hundred stars (benchmarks/own_psf.py): 0.1 to 1.2 % of the
light misplaced, 1.1 % of a comatic PSF, 0.6 to 1.2 % of a donut, 3 to 5 % of one whose spikes leave
its image; photutils' EPSFBuilder misplaces 2 to 9 %, 3 to 5 %, 20 to 40 % and 4 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.interpolate import BSpline
from scipy.sparse.linalg import spsolve

from dip_pipeline.restoration.psf.neighbours import Crowd, StarPicture
from dip_pipeline.restoration.psf.psf_on_stars import stars_of_one_shape
from dip_pipeline.restoration.stars.moved_stars import DrawnStar, move_stars
from dip_pipeline.restoration.stars.star_shape import (
    AS_GAUSSIANS,
    FittedStar,
    Image,
    Mask,
    StarShape,
    fit_star,
)

Indices = NDArray[np.integer]

_REACH_FWHM = 4.0
# Wings of air and optics do not shrink as pixels grow: of stars 0.7 px wide 1 % of the light lies
# beyond 3 px, where the brightest still shine by ten sigma.
_LEAST_REACH_PX, _MOST_REACH_PX = 8, 30
_CYCLES = 6
_SETTLED = 3  # cycles, after which it is known what all stars have in common
# Times that neighbours are taken off with what is known so far: wings that are too faint leave
# those of neighbours, which pass for sky. Where so little of the light moves, no more.
_MOST_TAKEN_OFF, _SAME = 12, 2e-4
_SETTLINGS = 3  # of height and place of each star in a cycle
_MISFIT = 0.003  # of the height: no star is known better than its model
_OUTLYING = 2.0  # sigma, from where on a pixel counts less for height and place of its star
_UNLIKE = 1.0  # the same for what all stars have in common: neighbours are in the wings of any
_NEIGHBOUR = 2.0  # sigma of light too much, from where on it is a neighbour's
_MOST_SHIFT_PX = 0.3
_EXPECTED = 0.03  # of the root of the profile's height: what stars show beside a Moffat profile
_LEAST_EXPECTED = 1e-4
_CORE_SHARE = 0.02  # of the highest pixel: what tells where the light is
_CENTRINGS = 4
_FEWEST_TO_HALVE = 8
_CUBIC = BSpline.basis_element(np.arange(-2.0, 3.0)).antiderivative()


@dataclass(frozen=True, slots=True, eq=False)
class OwnPsf:
    """A PSF as the stars of a frame show it.

    kernel : (rows, cols), odd sides, sum 1, the core's light centred on the middle pixel, on
        pixels of which factor^2 make one of the frame
    shape : the Moffat profile under it, pixels of the frame
    stars : how many tell
    doubt : share of the light that lies elsewhere, estimated from two halves of the stars and from
        a second measurement, of stars that the first one draws elsewhere in the field, whichever is
        larger; NaN where stars are fewer than eight
    """

    kernel: Image
    shape: StarShape
    stars: int
    doubt: float


@dataclass(frozen=True, slots=True, eq=False)
class StarField:
    """Pixels that stars are looked for in; (rows, cols), sky at zero, units of any sigma.

    light, sigma ; trusted : neither masked nor saturated
    """

    light: Image
    sigma: Image
    trusted: Mask


def measure_psf(field: StarField, fitted: Sequence[FittedStar], *, factor: int) -> OwnPsf | None:
    """Measure the PSF of a field on its stars; None where too few agree on a shape.

    fitted : see `fit_bright_stars`; factor : of finer pixels that make the side of one
    """
    found = stars_of_one_shape(fitted)
    if found is None:
        return None
    shape, stars = found
    first = _measured(field, stars, shape)
    whole = first.surface.kernel(factor)
    doubt = np.nan
    if len(stars) >= _FEWEST_TO_HALVE:
        bare = replace(field, light=first.light)
        halves = [
            _measured(bare, stars[start::2], shape, alone=False).surface.kernel(factor)
            for start in (0, 1)
        ]
        # Each half errs by the root of two as much as the whole, and so does one from the other.
        apart = 0.5 * float(np.abs(halves[0] - halves[1]).sum()) / 2
        doubt = float(np.fmax(apart, _rehearsed(field, first, factor)))
    return OwnPsf(whole, shape, len(stars), doubt)


class _Measured(NamedTuple):
    """A surface, the stars that it was measured on, and the field's light without neighbours."""

    surface: "_Surface"
    views: list["_View"]
    light: Image


def _measured(
    field: StarField, stars: Sequence[FittedStar], shape: StarShape, *, alone: bool = True
) -> _Measured:
    """Measure what stars have in common beside a shape.

    alone : their neighbours are taken off in between
    """
    reach = int(np.clip(np.ceil(_REACH_FWHM * shape.fwhm_px), _LEAST_REACH_PX, _MOST_REACH_PX))
    surface = _Surface(shape, reach)
    views = [_View.of(field, star, reach) for star in stars]
    for cycle in range(_CYCLES):
        for view in views:
            view.wary = cycle >= _SETTLED
            view.settle(surface)
        surface = surface.fitted(views)
    light = field.light
    crowd = Crowd(light, field.sigma, field.trusted, [view.in_field() for view in views], reach)
    kernel = surface.kernel(1)
    for _ in range(_MOST_TAKEN_OFF if alone else 0):
        light = crowd.without_neighbours([view.in_field() for view in views], surface.picture())
        for view in views:
            view.look_at(light)
            view.settle(surface)
        surface, before = surface.fitted(views), kernel
        kernel = surface.kernel(1)
        if float(np.abs(kernel - before).sum()) / 2 < _SAME:
            break
    return _Measured(surface, views, light)


def _rehearsed(field: StarField, measured: _Measured, factor: int) -> float:
    """Share of the light that a second measurement misplaces, of stars that the first one draws.

    They are put at other places of the same field: what neighbours and an uneven sky do to all
    stars alike, no two halves of these can tell.
    """
    surface = measured.surface
    drawn = [DrawnStar(view.at, view.drawn(surface)) for view in measured.views]
    moved = move_stars(field.light, field.sigma, field.trusted, drawn)
    again = StarField(moved.light, moved.sigma, field.trusted)
    fits = (
        fit_star(again.light, again.sigma, place, most_beta=AS_GAUSSIANS) for place in moved.places
    )
    found = stars_of_one_shape([star for star in fits if star is not None])
    if found is None:
        return np.nan
    shape, alike = found
    kernel = _measured(again, alike, shape).surface.kernel(factor)
    before = surface.kernel(factor)
    both = [_middle_of(one, min(len(kernel), len(before))) for one in (kernel, before)]
    return 0.5 * float(np.abs(both[0] - both[1]).sum())


def _middle_of(kernel: Image, side: int) -> Image:
    cut = (len(kernel) - side) // 2
    return kernel[cut : cut + side, cut : cut + side]


class _Surface:
    """A profile and what is to be added to it, in units of the profile's height."""

    def __init__(self, shape: StarShape, reach_px: int, terms: Image | None = None) -> None:
        self.shape = shape
        self.knots = np.arange(-reach_px, reach_px + 1, dtype=np.float64)
        side = self.knots.size
        self.terms = np.zeros((side, side)) if terms is None else terms

    def splines(self, offsets_px: Image, width_px: float) -> Image:
        """Means of each cubic spline, over pixels of a width at offsets, (offsets, knots)."""
        distance = offsets_px[:, None] - self.knots[None, :]
        ends = (np.clip(distance + side * width_px / 2, -2.0, 2.0) for side in (1, -1))
        high, low = (np.asarray(_CUBIC(end), np.float64) for end in ends)
        means: Image = (high - low) / width_px
        return means

    def added(self, rows_px: Image, cols_px: Image, width_px: float = 1.0) -> Image:
        """Tell what is added at offsets of rows, (rows,), and columns, (cols,)."""
        down, across = self.splines(rows_px, width_px), self.splines(cols_px, width_px)
        plane: Image = down @ self.terms @ across.T
        return plane

    def light(self, rows_px: Image, cols_px: Image) -> Image:
        """Light of a star of unit height at offsets of rows, (rows,), and columns, (cols,)."""
        own = self.shape.at(rows_px[:, None], cols_px[None, :])
        whole: Image = own + self.added(rows_px, cols_px)
        return whole

    def picture(self) -> StarPicture:
        """Tell how a star looks, out to where that is known."""
        return StarPicture(self.shape, self.light, self.knots.size // 2)

    def fitted(self, views: Sequence["_View"]) -> "_Surface":
        """Fit what is to be added to all stars at once; ridge regression, robust."""
        side = self.knots.size
        root = np.sqrt(self.shape.at(self.knots[:, None], self.knots[None, :]))
        # What was found so far tells how much to expect: a donut differs by half its height.
        core = root > _CORE_SHARE**0.5
        found = float(np.sqrt(np.mean((self.terms / root)[core] ** 2)))
        expected = max(_EXPECTED, 2 * found) * root
        ridge = np.maximum(expected, _LEAST_EXPECTED).ravel() ** -2.0
        normal = sparse.diags(ridge).tocsr()
        right = np.zeros(side**2)
        for view in views:
            weights, wanted = view.says(self)
            rows, cols = view.offsets()
            columns = sparse.kron(
                sparse.csr_matrix(self.splines(rows, 1.0)),
                sparse.csr_matrix(self.splines(cols, 1.0)),
                format="csr",
            )
            weighted = columns.T.multiply(weights.ravel()).tocsr()
            normal = normal + weighted @ columns
            right += weighted @ wanted.ravel()
        terms = np.asarray(spsolve(normal.tocsc(), right), np.float64)
        return _Surface(self.shape, side // 2, terms.reshape(side, side))

    def kernel(self, factor: int) -> Image:
        """Light of finer pixels around a star in the middle one; sum 1."""
        reach = factor * (self.knots.size // 2)
        finer = np.arange(-reach, reach + 1, dtype=np.float64)
        profile = self.shape.widened(factor)
        away = np.zeros(2)
        for _ in range(_CENTRINGS):
            rows, cols = finer + away[0], finer + away[1]
            light = profile.at(rows[:, None], cols[None, :])
            light += self.added(rows / factor, cols / factor, 1 / factor)
            core = np.where(light > _CORE_SHARE * light.max(), light, 0.0)
            away += np.array([core.sum(1) @ finer, core.sum(0) @ finer]) / core.sum()
        kernel: Image = light / light.sum()
        return kernel


class _View:
    """A star as the frame shows it, out to where its PSF ends; height, row, col, light around."""

    def __init__(
        self, field: StarField, taken: tuple[Indices, ...], inside: Mask, star: FittedStar
    ) -> None:
        self.taken, self.at = taken, star.at
        self.light, self.trusted = field.light[taken], field.trusted[taken] & inside
        terms = np.array([star.height, *star.cutout.place, star.cutout.around])
        self.terms = terms
        self.wary = False  # of neighbours
        self.doubt = np.hypot(field.sigma[taken], _MISFIT * terms[0])

    @classmethod
    def of(cls, field: StarField, star: FittedStar, reach_px: int) -> "_View":
        """Cut a star out; beyond the frame nothing is trusted."""
        span = np.arange(-reach_px, reach_px + 1)
        rows, cols = (at + span for at in star.at)
        inside = [
            (index >= 0) & (index < side)
            for index, side in zip((rows, cols), field.light.shape, strict=True)
        ]
        taken = np.ix_(
            *(np.clip(i, 0, s - 1) for i, s in zip((rows, cols), field.light.shape, strict=True))
        )
        return cls(field, taken, inside[0][:, None] & inside[1][None, :], star)

    def offsets(self) -> tuple[Image, Image]:
        """Rows and columns from the star, px."""
        reach = self.light.shape[0] // 2
        span = np.arange(-reach, reach + 1, dtype=np.float64)
        return span - self.terms[1], span - self.terms[2]

    def drawn(self, surface: "_Surface") -> Image:
        """Draw the star without the light around it."""
        star: Image = self.terms[0] * surface.light(*self.offsets())
        return star

    def in_field(self) -> Image:
        """Give its height, and its row and column in the field."""
        return np.array([self.terms[0], self.at[0] + self.terms[1], self.at[1] + self.terms[2]])

    def look_at(self, light: Image) -> None:
        """See the same place of the field in another light, (rows, cols)."""
        self.light = light[self.taken]

    def settle(self, surface: _Surface) -> None:
        """Find the star's own four terms; Gauss and Newton, robust."""
        for _ in range(_SETTLINGS):
            light, by_row, by_col, left = self._beside(surface)
            columns = [light, self.terms[0] * by_row, self.terms[0] * by_col, np.ones_like(light)]
            root = np.sqrt(self._weights(left, _OUTLYING)).ravel()
            linear = np.stack([column.ravel() for column in columns], axis=1) * root[:, None]
            step = np.linalg.lstsq(linear, left.ravel() * root, rcond=None)[0]
            step[1:3] = np.clip(step[1:3], -_MOST_SHIFT_PX, _MOST_SHIFT_PX)
            self.terms += step

    def says(self, surface: _Surface) -> tuple[Image, Image]:
        """Give weights, and what should be added to the profile for this star."""
        left = self._beside(surface)[3]
        weights = self._weights(left, _UNLIKE) * self.terms[0] ** 2
        return weights, left / self.terms[0] + surface.added(*self.offsets())

    def _beside(self, surface: _Surface) -> tuple[Image, Image, Image, Image]:
        """Give the star of unit height, its slopes by place, and what it leaves."""
        rows, cols = self.offsets()
        grid = np.broadcast_arrays(rows[:, None], cols[None, :])
        light, by_row, by_col = surface.shape.slopes(grid[0], grid[1])
        light = light + surface.added(rows, cols)
        return light, by_row, by_col, self.light - self.terms[0] * light - self.terms[3]

    def _weights(self, left: Image, outlying: float) -> Image:
        """Huber's weights over the variance; nothing of what is not trusted.

        Neighbours only add light. Once it is known what all stars have in common, what stands out
        counts ever less: else the sky around a star is too bright, and its wings are lost.
        """
        off = left / self.doubt
        weights: Image = np.minimum(1.0, outlying / np.maximum(np.abs(off), 1e-9))
        if self.wary:
            weights *= np.minimum(1.0, _NEIGHBOUR / np.maximum(off, 1e-9)) ** 4
        return np.where(self.trusted, weights / self.doubt**2, 0.0)
