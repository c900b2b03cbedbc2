"""What a frame shows of single stars: fitted, moved, taken off and put back.

Photometry by point spread function (Stetson 1987, PASP 99, 191), of stars in part hidden.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial

import numpy as np
from scipy import fft, optimize

from dip_pipeline.restoration.stars.star_grid import DRAWN_SIGMA, FARTHEST_PX
from dip_pipeline.restoration.stars.star_shape import USUAL_SHAPE, Image, Mask, StarShape
from dip_pipeline.restoration.stars.star_trial import GOOD_MISFIT, Fit, Star, Trial, grid_px

_REACH_PX = 7  # of what is looked at around a star; of bright stars more
_FAR_PX = 30
_STEP_PX = 0.05  # for derivatives
_STEP_LN = 1e-3
_PASSES = 2  # of looking again around the place that was found
_SHIFT_PX = 3.0  # largest distance of a star from where it was looked for
NEIGHBOUR_PX = 12.0
# Grids of positions that are tried in turn, (half width, step) in px.
_SEARCH = ((_SHIFT_PX, 0.75), (0.75, 0.25), (0.25, 0.08))
REFINEMENT = ((0.5, 0.125),)
FAR_SEARCH = ((7.0, 0.75), (0.75, 0.25), (0.25, 0.08))
_TELLING = 100.0  # standard errors of a height, from which on a star may have a shape of its own
_BRIGHT = 1000.0  # sky sigma
_MUCH_BETTER = 0.7  # of the chi-square that the common shape leaves
_USUAL_CHANGE = 0.3  # of the logarithm of an axis or the exponent, and of the tilt
_MOST_CHANGE = np.array([1.0, 1.0, 0.5, 0.5, 0.5, 0.7])
_UNKNOWN = 2.5  # times as far a shape may change, where none is known
_TRIES = 40
_WITHIN_PX = 0.15  # of a place that was tried: farther off the next one was
_WITHIN_SHARE = 0.1  # of a height that was found
_SURE = 20.0  # standard errors of a height, from which on the grids of places are too coarse
MODEL_ERROR = 0.02  # of a star's light, that its shape is not known to
# Of ln(width): from the common shape stars of nine real frames scatter by 0.4 to 2.4 %.
_WIDTH_ERROR = 0.015


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

    def settle(self, star: Star) -> None:
        """Move a star between the places of a grid, all others taken off: a step of Gauss's.

        A faint star, and one that would go far, stays where it is.
        """
        self.put_back(star)
        trial = self.trial(star.row, star.col, star.height)
        if trial is not None and star.height > _SURE * star.error:
            columns = _as_seen(self._changes(star, star, trial.rows, trial.cols), trial)
            step = np.linalg.lstsq(columns, trial.light - columns[:, 0], rcond=1e-6)[0]
            if np.all(np.abs(step) < (_WITHIN_SHARE, _WITHIN_PX, _WITHIN_PX)):
                star.height *= 1 + float(step[0])
                star.row, star.col = star.row + float(step[1]), star.col + float(step[2])
        self.take_off(star)

    @cached_property
    def _taps(self) -> "_Taps":
        """A star, the disc that it is fitted on, and the star squared."""
        offsets = np.arange(-_REACH_PX, _REACH_PX + 1, dtype=np.float64)
        rows, cols = offsets[:, None], offsets[None, :]
        disc = (rows**2 + cols**2 <= _REACH_PX**2).astype(np.float64)
        kernel = self.shape.at(rows, cols) * disc
        return _Taps((kernel, disc, kernel**2), self.weight.shape)

    @cached_property
    def _weight_sums(self) -> list[Image]:
        return self._taps.summed(self.weight, 3)

    def height_everywhere(self) -> tuple[Image, Image]:
        """Height of a star centred at each pixel and its standard error, over a level sky."""
        single, level, square = self._weight_sums
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
    ) -> Trial | None:
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

    def add_variance(self, plane: Image, star: Star, misfit: float) -> Image | None:
        """Add the variance of a star's light for what is not known of its place, height and width.

        star : put back, as it fits best; misfit : chi-square a pixel of that
        Gives the covariance of ln(height), row and col, (3, 3); None where too little is seen.
        By the curvature of the likelihood within a step of the grids that places were tried on,
        and what no model of a star is good to. A star is a little wider or narrower than the
        others, which its wings tell, if they do: else what they say of its middle is as uncertain.
        """
        trial = self.trial(star.row, star.col, star.height)
        if trial is None:
            return None
        width = self._wider(star, trial.rows, trial.cols)
        columns = _as_seen([*self._changes(star, star, trial.rows, trial.cols), width], trial)
        known = np.array([1e-6, _WITHIN_PX**-2, _WITHIN_PX**-2, _WIDTH_ERROR**-2])
        # A misfit makes what is seen say less; not what is known before.
        seen = columns.T @ columns / max(1.0, misfit)
        covariance: Image = np.linalg.inv(seen + np.diag(known)).astype(np.float64)
        reach = self._drawn_px(star, star.shape or self.shape)
        window, rows, cols = self._window(star.row, star.col, reach)
        changes = np.stack([*self._changes(star, star, rows, cols), self._wider(star, rows, cols)])
        plane[window] += np.einsum("iab,ij,jab->ab", changes, covariance, changes)
        plane[window] += (MODEL_ERROR * changes[0]) ** 2
        return covariance[:3, :3]

    def _wider(self, star: Star, rows: Image, cols: Image) -> Image:
        """Give the change of a star's light with ln(width), at offsets from its middle."""
        shape = star.shape or self.shape
        wider = shape.widened(np.exp(_STEP_LN)).at(rows, cols)
        change: Image = star.height * (wider - shape.at(rows, cols)) / _STEP_LN
        return change

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


def _as_seen(changes: Sequence[Image], trial: Trial) -> Image:
    """Give changes in what is seen, weighted, free of a sloping sky, (pixels, changes)."""
    columns = np.stack(changes, axis=1) * trial.scale[:, None]
    free: Image = columns - trial.sky @ (trial.sky.T @ columns)
    return free


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
