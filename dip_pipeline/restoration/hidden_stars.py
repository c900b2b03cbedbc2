"""Stars that masked pixels hide, found by the wings that show around them.

A star under a satellite's trail or across a bad column is known from its visible pixels, as in
photometry by point spread function (Stetson 1987, PASP 99, 191): a model of it is taken off the
frame before anything else is done, and put back at the end. What a model misses stays in the frame.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.signal import fftconvolve

from dip_pipeline.restoration.star_shape import Image, Mask, StarShape

_SIGNIFICANCE = 4.0  # standard errors, times the scatter of the sky's own significance
_REACH_PX = 7  # of what is looked at around a star; of bright stars more
_FAR_PX = 30
_AROUND_PX = 6  # stars as near as this to a hole are fitted with it, so that none is counted twice
_NEAR_PX = 2.5  # stars whose centres are as near as this to a hole are taken off
_ROUNDS = 8
_PASSES = 2  # of looking again around the place that was found
_NEIGHBOUR_PX = 12.0
_BEST_MISFIT = 1.6  # chi-square a pixel up to which a fit is good as it is
_GAIN = 0.25  # a worse one must leave no more than this of the chi-square without the star
_SHIFT_PX = 3.0  # largest distance of a star from where it was looked for
_DRAWN_SIGMA = 0.02  # a star is drawn out to where it falls below this
_FARTHEST_PX = 120.0
# Grids of positions that are tried in turn, (half width, step) in px.
_SEARCH = ((_SHIFT_PX, 0.75), (0.75, 0.25), (0.25, 0.08))
_REFINEMENT = ((0.5, 0.125),)
_NEARNESS = 0.1  # cost of a px squared from where a star was looked for
_SPREAD = (3.0, 0.25)  # around where it was found, for the mean of all that explain it
_LEAST_CHANCE = 0.01  # of the likeliest's
# Logarithm of how many stars there are by height: N(> f) ~ f^-0.65, so few are bright.
_COUNTS = 1.65


@dataclass(slots=True)
class _Star:
    row: float
    col: float
    height: float
    error: float


@dataclass(frozen=True, slots=True)
class _Fit:
    """A star fitted at a place; chi-squares a pixel without and with it."""

    star: _Star
    before: float
    after: float

    @property
    def believed(self) -> bool:
        """Whether what is seen looks like a star."""
        return self.after < _BEST_MISFIT or self.after < _GAIN * self.before


@dataclass(frozen=True, slots=True)
class _Trial:
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
        return len(self.light) - 6

    def tried(self, shape: StarShape, places: Image) -> tuple[Image, Image, Image]:
        """Heights of stars at (places, 2) offsets, inverse variances of these, and the costs.

        A cost is -2 times the logarithm of the likelihood and of what was believed before.
        """
        models = self.scale * shape.at(self.rows - places[:, :1], self.cols - places[:, 1:])
        models -= (models @ self.sky) @ self.sky.T
        power = (models**2).sum(axis=1) + 1e-12
        heights = (models @ self.light) / power
        cost = self.before - np.maximum(heights, 0.0) ** 2 * power
        cost += 2 * _COUNTS * np.log(np.maximum(heights, 1.0))
        cost += _NEARNESS * (places**2).sum(axis=1)
        return heights, power, cost


def find_hidden_stars(observed: Image, sigma: Image, trusted: Mask, shape: StarShape) -> Image:
    """Draw the light of all stars that lie in or at pixels that are not trusted, (rows, cols).

    observed : sky at zero, its sigma at one; sigma : of each pixel. Zero where no star is hidden.
    """
    search = _Search(observed, sigma, trusted, shape)
    return search.drawn() if not trusted.all() and trusted.any() else np.zeros_like(observed)


class _Search:
    """Finds stars brightest first, and fits those that are near each other in turn."""

    def __init__(self, observed: Image, sigma: Image, trusted: Mask, shape: StarShape) -> None:
        self.shape = shape
        self.left = np.where(trusted, observed, 0.0)  # what is not explained yet
        self.weight = np.where(trusted, 1 / sigma**2, 0.0)
        self.away_px = ndimage.distance_transform_edt(trusted)
        self.zone = self.away_px <= _AROUND_PX
        self.threshold = _SIGNIFICANCE
        self._tried = np.zeros(observed.shape, bool)

    def drawn(self) -> Image:
        """Find the stars and draw those that are hidden."""
        stars: list[_Star] = []
        for number in range(_ROUNDS):
            found = self._round(first=number == 0)
            if not found:
                break
            stars += found
            self._fit_again(stars, found)
        light = np.zeros_like(self.left)
        for star in stars:
            row, col = round(star.row), round(star.col)
            rows, cols = light.shape
            inside = 0 <= row < rows and 0 <= col < cols
            hidden = inside and self.away_px[row, col] <= _NEAR_PX
            if hidden and star.height > self.threshold * star.error:
                self._add_mean(light, star)
        return light

    def _add_mean(self, light: Image, star: _Star) -> None:
        """Add the mean of all stars that explain what is seen of one, each by its likelihood.

        Of a star that shows one of its sides alone, place and height trade against each other: the
        likeliest of them is not the one of least expected error.
        """
        self._add(self.left, star, 1.0)
        for share, one in self._explaining(star):
            self._add(light, one, share)
        self._add(self.left, star, -1.0)

    def _explaining(self, star: _Star) -> list[tuple[float, _Star]]:
        """Stars that explain what is seen of one as well or nearly, and the chance of each."""
        trial = self._trial(star.row, star.col, star.height)
        if trial is None:
            return [(1.0, star)]
        places = _grid(*_SPREAD)
        heights, power, cost = trial.tried(self.shape, places)
        best = int(np.argmin(cost))
        misfit = (trial.before - max(heights[best], 0.0) ** 2 * power[best]) / trial.freedom
        chance = np.exp(-0.5 * (cost - cost[best]) / max(1.0, misfit))
        likely = np.flatnonzero(chance > _LEAST_CHANCE)
        total = float(chance[likely].sum())
        return [
            (
                float(chance[at]) / total,
                _Star(
                    star.row + float(places[at, 0]),
                    star.col + float(places[at, 1]),
                    max(0.0, float(heights[at])),
                    star.error,
                ),
            )
            for at in likely
        ]

    def _round(self, *, first: bool) -> list[_Star]:
        height, error = self._height_everywhere()
        significance = height / error
        if first:
            beyond = significance[~self.zone]
            scatter = 1.4826 * np.median(np.abs(beyond - np.median(beyond))) if beyond.size else 1.0
            self.threshold = _SIGNIFICANCE * max(1.0, float(scatter))
        significance = np.where(self.zone & ~self._tried, significance, -np.inf)
        peaks = significance == ndimage.maximum_filter(significance, 9)
        places = np.argwhere(peaks & (significance > self.threshold))
        order = np.argsort(-significance[tuple(places.T)], kind="stable")
        found: list[_Star] = []
        for row, col in places[order]:
            # Next to a new star wait until it is fitted well: its wings are not yet explained.
            if any(np.hypot(star.row - row, star.col - col) < _NEIGHBOUR_PX for star in found):
                continue
            self._tried[max(0, row - 1) : row + 2, max(0, col - 1) : col + 2] = True
            fit = self._fit_from(float(row), float(col), float(height[row, col]))
            if fit is None or not fit.believed:
                continue
            if fit.star.height > self.threshold * fit.star.error:
                self._add(self.left, fit.star, -1.0)
                found.append(fit.star)
        return found

    def _fit_again(self, stars: list[_Star], found: list[_Star]) -> None:
        """Fit stars again whose surroundings have changed."""
        places = np.array([(star.row, star.col) for star in found])
        for star in stars:
            distance = np.hypot(places[:, 0] - star.row, places[:, 1] - star.col)
            if distance.min() > _NEIGHBOUR_PX:
                continue
            self._add(self.left, star, 1.0)
            fit = self._fit(star.row, star.col, star.height, _REFINEMENT)
            if fit is not None and fit.star.height > 0:
                star.row, star.col = fit.star.row, fit.star.col
                star.height, star.error = fit.star.height, fit.star.error
            self._add(self.left, star, -1.0)

    def _height_everywhere(self) -> tuple[Image, Image]:
        """Height of a star centred at each pixel and its standard error, over a level sky."""
        offsets = np.arange(-_REACH_PX, _REACH_PX + 1, dtype=np.float64)
        rows, cols = offsets[:, None], offsets[None, :]
        disc = (rows**2 + cols**2 <= _REACH_PX**2).astype(np.float64)
        kernel = self.shape.at(rows, cols) * disc

        def summed(plane: Image, taps: Image) -> Image:
            total: Image = fftconvolve(plane, taps[::-1, ::-1], mode="same")
            return total

        weighted = self.weight * self.left
        square, single, level = (summed(self.weight, taps) for taps in (kernel**2, kernel, disc))
        with_star, with_level = summed(weighted, kernel), summed(weighted, disc)
        # Both are fitted at once: two normal equations a pixel, solved by Cramer's rule.
        determinant = level * square - single**2
        known = (square > 1e-6) & (determinant > 1e-4 * level)
        safe = np.where(known, determinant, 1.0)
        height = np.where(known, (level * with_star - single * with_level) / safe, 0.0)
        error = np.sqrt(np.where(known, np.maximum(level, 1e-9) / safe, 1e18))
        return height, error

    def _fit_from(self, row: float, col: float, height: float) -> _Fit | None:
        """Look for a star around a place, then around where it was found."""
        fit = self._fit(row, col, height, _SEARCH)
        for _ in range(_PASSES):
            if fit is None or fit.star.height <= 0:
                break
            fit = self._fit(fit.star.row, fit.star.col, fit.star.height, _SEARCH)
        return fit

    def _fit(
        self, row: float, col: float, height: float, grids: tuple[tuple[float, float], ...]
    ) -> _Fit | None:
        """Fit place and height of a star over a sloping sky; None where too little is seen."""
        trial = self._trial(row, col, height)
        if trial is None:
            return None
        place, height_at, power_at = np.zeros(2), 0.0, 1.0
        for half_width, step in grids:
            places = place + _grid(half_width, step)
            heights, power, cost = trial.tried(self.shape, places)
            at = int(np.argmin(cost))
            place, height_at, power_at = places[at], float(heights[at]), float(power[at])
        after = trial.before - max(height_at, 0.0) ** 2 * power_at
        star = _Star(row + float(place[0]), col + float(place[1]), height_at, power_at**-0.5)
        return _Fit(star, trial.before / trial.freedom, after / trial.freedom)

    def _trial(self, row: float, col: float, height: float) -> "_Trial | None":
        """Lay out what is seen around a place, less a sloping sky; None where it is too little."""
        reach = int(np.clip(self.shape.radius_px(0.5 / max(height, 0.6)), _REACH_PX, _FAR_PX))
        window, rows, cols = self._window(row, col, reach)
        weight = self.weight[window]
        seen = (weight > 0) & (rows**2 + cols**2 <= reach**2)
        if np.count_nonzero(seen) < 12:
            return None
        rows, cols, scale = rows[seen], cols[seen], np.sqrt(weight[seen])
        sky, _ = np.linalg.qr(np.stack([scale, scale * rows, scale * cols], axis=1))
        light = self.left[window][seen] * scale
        return _Trial(rows, cols, scale, sky, light - sky @ (sky.T @ light))

    def _add(self, plane: Image, star: _Star, sign: float) -> None:
        """Add a star's light, or take it off."""
        radius = self.shape.radius_px(_DRAWN_SIGMA / max(star.height, _DRAWN_SIGMA))
        window, rows, cols = self._window(star.row, star.col, int(min(radius, _FARTHEST_PX)) + 1)
        plane[window] += sign * star.height * self.shape.at(rows, cols)

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


def _grid(half_width: float, step: float) -> Image:
    """Offsets on a square grid, (places, 2)."""
    line = np.arange(-half_width, half_width + step / 2, step)
    rows, cols = np.meshgrid(line, line, indexing="ij")
    return np.stack([rows.ravel(), cols.ravel()], axis=1)
