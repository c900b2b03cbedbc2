"""What a frame shows of single stars: fitted, moved, taken off and put back.

Photometry by point spread function (Stetson 1987, PASP 99, 191), of stars in part hidden.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import fft, optimize

from dip_pipeline.restoration.star_grid import DRAWN_SIGMA, FARTHEST_PX
from dip_pipeline.restoration.star_shape import USUAL_SHAPE, Image, Mask, StarShape

_REACH_PX = 7  # of what is looked at around a star; of bright stars more
_FAR_PX = 30
_STEP_PX = 0.05  # for derivatives
_PASSES = 2  # of looking again around the place that was found
GOOD_MISFIT = 1.6  # chi-square a pixel up to which a fit is good as it is
_GAIN = 0.25  # a worse one must leave no more than this of the chi-square without the star
_SHIFT_PX = 3.0  # largest distance of a star from where it was looked for
NEIGHBOUR_PX = 12.0
# Grids of positions that are tried in turn, (half width, step) in px.
_SEARCH = ((_SHIFT_PX, 0.75), (0.75, 0.25), (0.25, 0.08))
REFINEMENT = ((0.5, 0.125),)
FAR_SEARCH = ((7.0, 0.75), (0.75, 0.25), (0.25, 0.08))
_NEARNESS = 0.1  # cost of a px squared from where a star was looked for
# Logarithm of how many stars there are by height: N(> f) ~ f^-0.65, so few are bright.
_COUNTS = 1.65
_TELLING = 100.0  # standard errors of a height, from which on a star may have a shape of its own
_BRIGHT = 1000.0  # sky sigma
_MUCH_BETTER = 0.7  # of the chi-square that the common shape leaves
_USUAL_CHANGE = 0.3  # of the logarithm of an axis or the exponent, and of the tilt
_MOST_CHANGE = np.array([1.0, 1.0, 0.5, 0.5, 0.5, 0.7])
_UNKNOWN = 2.5  # times as far a shape may change, where none is known
_TRIES = 40
_MANY = 200  # places
_WITHIN_PX = 0.15  # of a place that was tried: farther off the next one was
_MODEL_ERROR = 0.02  # of a star's light, that its shape is not known to
_DECIMALS = 9  # of offsets in px that are the same but for rounding


@dataclass(slots=True)
class Star:
    """A star; px and sky sigma. shape : its own, where it is known to differ from the others'."""

    row: float
    col: float
    height: float
    error: float
    shape: StarShape | None = None


@dataclass(frozen=True, slots=True)
class Fit:
    """A star fitted at a place; chi-squares a pixel without and with it."""

    star: Star
    before: float
    after: float

    @property
    def believed(self) -> bool:
        """Whether what is seen looks like a star."""
        return self.after < GOOD_MISFIT or self.after < _GAIN * self.before


@dataclass(frozen=True, slots=True)
class Trial:
    """Pixels around a place: offsets from it, roots of their weights, and their weighted light.

    sky : orthonormal columns of a sloping sky, which the light is already free of
    """

    rows: Image
    cols: Image
    scale: Image
    sky: Image
    light: Image

    @property
    def before(self) -> float:
        """Chi-square without a star."""
        return float(self.light @ self.light)

    @property
    def freedom(self) -> int:
        """Degrees of freedom that a star leaves."""
        return max(1, self.light.size - int(self.sky.shape[1]) - 3)

    def tried(self, shape: StarShape, places: Image) -> tuple[Image, Image, Image]:
        """Heights of stars at (places, 2) offsets, inverse variances of these, and the costs.

        A cost is -2 times the logarithm of the likelihood and of what was believed before.
        """
        models = self.scale * self._shapes(shape, places)
        models -= (models @ self.sky) @ self.sky.T
        power = (models**2).sum(axis=1) + 1e-12
        heights = (models @ self.light) / power
        cost = self.before - np.maximum(heights, 0.0) ** 2 * power
        cost += 2 * _COUNTS * np.log(np.maximum(heights, 1.0))
        cost += _NEARNESS * (places**2).sum(axis=1)
        return heights, power, cost

    def _shapes(self, shape: StarShape, places: Image) -> Image:
        """Give the shape of a star at each of (places, 2) offsets, (places, pixels).

        Pixels and places lie on grids: of many places most pairs have the offset of another pair,
        and the shape is computed once for each offset that there is.
        """
        if len(places) < _MANY:
            return shape.at(self.rows - places[:, :1], self.cols - places[:, 1:])
        rows, at_row = _apart(self.rows, places[:, 0])
        cols, at_col = _apart(self.cols, places[:, 1])
        table = shape.at(rows[:, None], cols[None, :])
        shapes: Image = table[at_row, at_col]
        return shapes


class Sheet:
    """What is seen of a sky, less the stars that were taken off; planes (rows, cols), sky sigma.

    shape : of stars; known : whether it was measured
    left : what is not explained yet, 0 where nothing is seen
    weight : inverse variance; 0 where nothing is seen
    """

    def __init__(
        self, observed: Image, sigma: Image, trusted: Mask, shape: StarShape | None
    ) -> None:
        self.shape = shape or USUAL_SHAPE
        self.known = shape is not None
        self.left = np.where(trusted, observed, 0.0)
        self.weight = np.where(trusted, 1 / sigma**2, 0.0)
        self._taps: _Taps | None = None
        self._sums: list[Image] = []

    def move_together(self, stars: list[Star]) -> None:
        """Move stars that share their light, all at once: one step of Gauss and Newton."""
        trial = self.trial(stars[0].row, stars[0].col, stars[0].height)
        if trial is None:
            return
        rows, cols = trial.rows, trial.cols
        changes = [one for star in stars for one in self._changes(star, stars[0], rows, cols)]
        columns = np.stack(changes, axis=1) * trial.scale[:, None]
        columns -= trial.sky @ (trial.sky.T @ columns)
        scale = np.sqrt((columns**2).sum(axis=0)) + 1e-9
        step = np.linalg.lstsq(columns / scale, trial.light, rcond=1e-3)[0] / scale
        for star, (height, row, col) in zip(stars, step.reshape(-1, 3), strict=True):
            self.put_back(star)
            star.height *= 1 + float(np.clip(height, -0.5, 0.5))
            star.row += float(np.clip(row, -0.5, 0.5))
            star.col += float(np.clip(col, -0.5, 0.5))
            self.take_off(star)

    def _changes(self, star: Star, centre: Star, rows: Image, cols: Image) -> list[Image]:
        """Give the change of a star's light with ln(height), row and col."""
        down, across = rows - (star.row - centre.row), cols - (star.col - centre.col)
        shape = star.shape or self.shape
        here = shape.at(down, across)
        by_row = shape.at(down - _STEP_PX, across) - here
        by_col = shape.at(down, across - _STEP_PX) - here
        return [star.height * one for one in (here, by_row / _STEP_PX, by_col / _STEP_PX)]

    def refine(self, star: Star) -> None:
        """Fit a star again where it is, all others taken off."""
        self.put_back(star)
        fit = self.fit(star.row, star.col, star.height, REFINEMENT, shape=star.shape)
        if fit is not None and fit.star.height > 0:
            star.row, star.col = fit.star.row, fit.star.col
            star.height, star.error = fit.star.height, fit.star.error
        self.take_off(star)

    def height_everywhere(self) -> tuple[Image, Image]:
        """Height of a star centred at each pixel and its standard error, over a level sky."""
        if self._taps is None:
            offsets = np.arange(-_REACH_PX, _REACH_PX + 1, dtype=np.float64)
            rows, cols = offsets[:, None], offsets[None, :]
            disc = (rows**2 + cols**2 <= _REACH_PX**2).astype(np.float64)
            kernel = self.shape.at(rows, cols) * disc
            self._taps = _Taps((kernel, disc, kernel**2), self.weight.shape)
            self._sums = self._taps.summed(self.weight, 3)  # of weights: these stay as they are
        single, level, square = self._sums
        with_star, with_level = self._taps.summed(self.weight * self.left, 2)
        # Both are fitted at once: two normal equations a pixel, solved by Cramer's rule.
        determinant = level * square - single**2
        known = (square > 1e-6) & (determinant > 1e-4 * level)
        safe = np.where(known, determinant, 1.0)
        height = np.where(known, (level * with_star - single * with_level) / safe, 0.0)
        error = np.sqrt(np.where(known, np.maximum(level, 1e-9) / safe, 1e18))
        return height, error

    def fit_from(self, row: float, col: float, height: float) -> Fit | None:
        """Look for a star around a place, then around where it was found."""
        fit = self.fit(row, col, height, _SEARCH)
        for _ in range(_PASSES):
            if fit is None or fit.star.height <= 0:
                break
            fit = self.fit(fit.star.row, fit.star.col, fit.star.height, _SEARCH)
        return fit

    def fit(
        self,
        row: float,
        col: float,
        height: float,
        grids: tuple[tuple[float, float], ...],
        beside: Sequence[Star] = (),
        shape: StarShape | None = None,
    ) -> Fit | None:
        """Fit place and height of a star over a sloping sky; None where too little is seen.

        beside : stars, already taken off, that may move a little as it comes
        shape : of its own
        """
        trial = self.trial(row, col, height, beside)
        if trial is None:
            return None
        place, height_at, power_at = np.zeros(2), 0.0, 1.0
        for half_width, step in grids:
            places = place + grid_px(half_width, step)
            heights, power, cost = trial.tried(shape or self.shape, places)
            at = int(np.argmin(cost))
            place, height_at, power_at = places[at], float(heights[at]), float(power[at])
        after = trial.before - max(height_at, 0.0) ** 2 * power_at
        star = Star(row + float(place[0]), col + float(place[1]), height_at, power_at**-0.5, shape)
        return Fit(star, trial.before / trial.freedom, after / trial.freedom)

    def in_its_own_shape(self, fit: Fit) -> Fit:
        """Fit a star again, its shape a little different from the others' where it tells so.

        A bright star shows its shape better than the few others of a small region do; and the
        shape of stars changes over a field. The star is not taken off. Where the shape of the
        others is not known, only such stars are believed.
        """
        star = fit.star
        if star.height < _TELLING * star.error:
            return fit if self.known else replace(fit, after=np.inf)
        if self.known and (fit.after < GOOD_MISFIT or star.height < _BRIGHT):
            return fit  # or two fainter stars side by side would be one of a new shape
        trial = self.trial(star.row, star.col, star.height)
        if trial is None:
            return fit
        most = _MOST_CHANGE * (1.0 if self.known else _UNKNOWN)
        changes = optimize.least_squares(
            partial(_misfit, trial=trial, shape=self.shape),
            np.zeros(6),
            bounds=(-most, most),
            max_nfev=_TRIES,
        ).x
        shape = _changed(self.shape, changes[2:])
        own = self.fit(
            star.row + changes[0], star.col + changes[1], star.height, REFINEMENT, shape=shape
        )
        return own if own is not None and own.after < _MUCH_BETTER * fit.after else fit

    def trial(
        self, row: float, col: float, height: float, beside: Sequence[Star] = ()
    ) -> "Trial | None":
        """Lay out what is seen around a place, less a sloping sky; None where it is too little."""
        reach = int(np.clip(self.shape.radius_px(0.5 / max(height, 0.6)), _REACH_PX, _FAR_PX))
        window, rows, cols = self._window(row, col, reach)
        weight = self.weight[window]
        seen = (weight > 0) & (rows**2 + cols**2 <= reach**2)
        if np.count_nonzero(seen) < 12:
            return None
        rows, cols, scale = rows[seen], cols[seen], np.sqrt(weight[seen])
        columns = [np.ones_like(scale), rows, cols]
        centre = Star(row, col, height, 0.0)
        for star in beside:
            columns += self._changes(star, centre, rows, cols)
        sky, _ = np.linalg.qr(np.stack(columns, axis=1) * scale[:, None])
        light = self.left[window][seen] * scale
        return Trial(rows, cols, scale, sky, light - sky @ (sky.T @ light))

    def put_back(self, star: Star) -> None:
        """Add a star's light to what is left."""
        self.add(self.left, star, 1.0)

    def take_off(self, star: Star) -> None:
        """Take a star's light off what is left."""
        self.add(self.left, star, -1.0)

    def add(self, plane: Image, star: Star, sign: float, shape: StarShape | None = None) -> None:
        """Add a star's light, or take it off; of a shape of its own, if any."""
        window, light = self.light_of(star, shape)
        plane[window] += sign * light

    def light_of(
        self, star: Star, shape: StarShape | None = None
    ) -> tuple[tuple[slice, slice], Image]:
        """Draw a star's light; gives the window that it falls on, and the light there."""
        shape = shape or star.shape or self.shape
        window, rows, cols = self._window(star.row, star.col, self._drawn_px(star, shape))
        light: Image = star.height * shape.at(rows, cols)
        return window, light

    @staticmethod
    def _drawn_px(star: Star, shape: StarShape) -> int:
        radius = shape.radius_px(DRAWN_SIGMA / max(star.height, DRAWN_SIGMA))
        return int(min(radius, FARTHEST_PX)) + 1

    def add_variance(self, plane: Image, star: Star, misfit: float) -> None:
        """Add the variance that a star's light has for what is not known of its place and height.

        star : put back, as it fits best; misfit : chi-square a pixel of that
        By the curvature of the likelihood within a step of the grids that places were tried on,
        and what no model of a star is good to.
        """
        trial = self.trial(star.row, star.col, star.height)
        if trial is None:
            return
        columns = self._seen_changes(star, trial)
        fisher = columns.T @ columns + np.diag([1e-6, *(2 * [_WITHIN_PX**-2])])
        covariance = np.linalg.inv(fisher) * max(1.0, misfit)
        reach = self._drawn_px(star, star.shape or self.shape)
        window, rows, cols = self._window(star.row, star.col, reach)
        changes = np.stack(self._changes(star, star, rows, cols))
        plane[window] += np.einsum("iab,ij,jab->ab", changes, covariance, changes)
        plane[window] += (_MODEL_ERROR * changes[0]) ** 2

    def _seen_changes(self, star: Star, trial: "Trial") -> Image:
        """Give `_changes` in what is seen, weighted, free of a sloping sky, (pixels, 3)."""
        columns = np.stack(self._changes(star, star, trial.rows, trial.cols), axis=1)
        columns *= trial.scale[:, None]
        free: Image = columns - trial.sky @ (trial.sky.T @ columns)
        return free

    def _window(
        self, row: float, col: float, reach: int
    ) -> tuple[tuple[slice, slice], Image, Image]:
        """Pixels within reach on each axis, and how far their rows and cols are off."""
        first = [max(0, round(at) - reach) for at in (row, col)]
        last = [
            max(0, min(size, round(at) + reach + 1))
            for at, size in zip((row, col), self.left.shape, strict=True)
        ]
        rows = np.arange(first[0], max(first[0], last[0]), dtype=np.float64) - row
        cols = np.arange(first[1], max(first[1], last[1]), dtype=np.float64) - col
        window = (slice(first[0], first[0] + rows.size), slice(first[1], first[1] + cols.size))
        return window, *np.meshgrid(rows, cols, indexing="ij")


class _Taps:
    """Sums of planes around each pixel, times taps; a plane is transformed once for all of them.

    taps : squares of one odd side; shape : (rows, cols) of the planes
    """

    def __init__(self, taps: Sequence[Image], shape: tuple[int, ...]) -> None:
        reach = len(taps[0]) // 2
        self._size = [fft.next_fast_len(side + 2 * reach, real=True) for side in shape]
        self._inner = tuple(slice(reach, reach + side) for side in shape)
        self._waves = [fft.rfft2(one[::-1, ::-1], self._size) for one in taps]

    def summed(self, plane: Image, first: int) -> list[Image]:
        """Give the sums for each of so many first ones of the taps."""
        waves = fft.rfft2(plane, self._size)
        return [fft.irfft2(waves * own, self._size)[self._inner] for own in self._waves[:first]]


def _apart(pixels: Image, places: Image) -> tuple[Image, NDArray[np.intp]]:
    """Give all offsets that there are on an axis, and which of them each pair has.

    pixels : (pixels,); places : (places,); pairs are (places, pixels)
    """
    pixel, of_pixel = np.unique(pixels, return_inverse=True)
    place, of_place = np.unique(places, return_inverse=True)
    offsets = np.round(pixel[None, :] - place[:, None], _DECIMALS)
    there, which = np.unique(offsets, return_inverse=True)
    return there, which.reshape(offsets.shape)[of_place[:, None], of_pixel[None, :]]


def _misfit(changes: Image, *, trial: Trial, shape: StarShape) -> Image:
    """Give what a star of a changed shape leaves, and how unlikely the change is."""
    model = trial.scale * _changed(shape, changes[2:]).at(
        trial.rows - changes[0], trial.cols - changes[1]
    )
    model -= trial.sky @ (trial.sky.T @ model)
    height = (model @ trial.light) / (model @ model + 1e-12)
    return np.concatenate([trial.light - height * model, changes[2:] / _USUAL_CHANGE])


def _changed(shape: StarShape, changes: Image) -> StarShape:
    """Change the logarithms of both axes and of the exponent at one width, and the tilt."""
    down, across, tilt, fall = (float(change) for change in changes)
    beta = shape.beta * np.exp(fall)
    # A profile that falls more steeply is as wide at half its height.
    same = (2 ** (1 / beta) - 1) / (2 ** (1 / shape.beta) - 1)
    a, d = shape.a * np.exp(down) * same, shape.d * np.exp(across) * same
    usual = shape.b / np.sqrt(shape.a * shape.d)
    return StarShape(a, float(np.clip(usual + tilt, -0.9, 0.9)) * np.sqrt(a * d), d, beta)


def apart(one: Star, other: Star) -> float:
    """Give their distance in px."""
    return float(np.hypot(one.row - other.row, one.col - other.col))


def grid_px(half_width: float, step: float) -> Image:
    """Give offsets on a square grid, (places, 2)."""
    line = np.arange(-half_width, half_width + step / 2, step)
    rows, cols = np.meshgrid(line, line, indexing="ij")
    return np.stack([rows.ravel(), cols.ravel()], axis=1)
