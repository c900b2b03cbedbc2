"""Stars that masked pixels hide, found by the wings that show around them.

A star under a satellite's trail or across a bad column is known from its visible pixels, as in
photometry by point spread function (Stetson 1987, PASP 99, 191): a model of it is taken off the
frame before anything else is done, and put back at the end. What a model misses stays in the frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from dip_pipeline.restoration.stars.explained import explaining
from dip_pipeline.restoration.stars.star_grid import Places
from dip_pipeline.restoration.stars.star_shape import Image, Mask, StarShape
from dip_pipeline.restoration.stars.star_sheet import (
    FAR_SEARCH,
    NEIGHBOUR_PX,
    REFINEMENT,
    Sheet,
    apart,
)
from dip_pipeline.restoration.stars.star_trial import GOOD_MISFIT, Fit, Star

_SIGNIFICANCE = 4.0  # standard errors, times the scatter of the sky's own significance
_AROUND_PX = 6  # stars as near as this to a hole are fitted with it, so that none is counted twice
_NEAR_PX = 2.5  # stars whose centres are as near as this to a hole are taken off
_SAME_PX = 2.0  # two stars as near as this are one, found twice
_ROUNDS = 8
_BESIDE_PX = 4.0
_SETTLED = 2  # times that each star is moved alone, at the end
_SETTLING = 4  # steps in which a star and its neighbours move together
_SURE_GAIN = 0.02  # a fit of a worse misfit must leave no more than this of what is seen without it
_MOST_WIDER = 1.15  # than stars of the frame
_MUCH_BRIGHTER = 10.0  # than what is seen of it
# Of light, for each e-fold by which it is brighter than all that is seen of a star whose shape no
# other tells: no profile leads from the wings of real stars to their flatter cores.
_INFERRED_ERROR = 0.17
_LEAST_SEEN = 1e-3  # sky sigma


@dataclass(frozen=True, slots=True, eq=False)
class HiddenStar:
    """A hidden star, as far as what is seen of it has the shape of a star.

    shape : that shape
    places, chances : (places, 3) and (places,), all that explain it, and how likely each is: in all
        less than 1 where it may be wider than a star
    covariance : (3, 3), of ln(height), row and col, where it fits best
    window, light : of a plane, and its light there, sky sigma
    shape_error : share of its light that is not known where no other star tells its shape
    """

    shape: StarShape
    places: Places
    chances: Image
    covariance: Image
    window: tuple[slice, slice]
    light: Image
    shape_error: float = 0.0


class HiddenStars(NamedTuple):
    """Light of hidden stars; planes (rows, cols).

    error : its standard error where it is hidden, else 0
    doubted : light of stars that are not believed where these are hidden, else 0: it is not drawn,
        but may be there
    stars : that the light is of, but for what is wider than a star
    """

    light: Image
    error: Image
    doubted: Image
    stars: tuple[HiddenStar, ...] = ()


def find_hidden_stars(
    observed: Image, sigma: Image, trusted: Mask, shape: StarShape | None
) -> HiddenStars:
    """Draw the light of all stars that lie in or at pixels that are not trusted.

    observed : sky at zero, its sigma at one; sigma : of each pixel
    shape : of stars; where it is not known, only stars that show their own are drawn
    Zero where no star is hidden.
    """
    if trusted.all() or not trusted.any():
        return nothing_hidden(observed.shape)
    return _Search(observed, sigma, trusted, shape).drawn()


def nothing_hidden(shape: tuple[int, ...]) -> HiddenStars:
    """Give planes of zeros."""
    return HiddenStars(np.zeros(shape), np.zeros(shape), np.zeros(shape))


class _Search:
    """Finds stars brightest first, and fits those that are near each other in turn."""

    def __init__(
        self, observed: Image, sigma: Image, trusted: Mask, shape: StarShape | None
    ) -> None:
        self.sheet = Sheet(observed, sigma, trusted, shape)
        self.away_px = ndimage.distance_transform_edt(trusted)
        self.zone = self.away_px <= _AROUND_PX
        self.threshold = _SIGNIFICANCE
        self._tried = np.zeros(observed.shape, bool)
        self._doubted: list[Star] = []

    def drawn(self) -> HiddenStars:
        """Find the stars and draw those that are hidden."""
        stars: list[Star] = []
        for number in range(_ROUNDS):
            found = self._round(stars, first=number == 0)
            if not found:
                break
            stars += found
            self._fit_again(stars, found)
        stars = self._settled(stars)
        light, variance = np.zeros_like(self.sheet.left), np.zeros_like(self.sheet.left)
        drawn: list[HiddenStar] = []
        for star in stars:
            # Of a star just outside of the frame the nearest pixel tells.
            row, col = (
                int(np.clip(round(at), 0, side - 1))
                for at, side in zip((star.row, star.col), light.shape, strict=True)
            )
            outside = max(abs(star.row - row), abs(star.col - col))
            hidden = outside <= _NEAR_PX and self.away_px[row, col] <= _NEAR_PX
            if hidden and star.height > self.threshold * star.error:
                near = [one for one in stars if 0 < apart(one, star) < NEIGHBOUR_PX]
                mean, spread, like_a_star = self._mean(star, near)
                light, variance = light + mean, variance + spread
                drawn += [] if like_a_star is None else [like_a_star]
        doubted = np.zeros_like(light)
        for star in self._doubted:
            if not _same(star, stars):
                self.sheet.add(doubted, star, 1.0)
        shown = self.sheet.weight > 0
        error, doubted = (np.where(shown, 0.0, one) for one in (np.sqrt(variance), doubted))
        return HiddenStars(light, error, doubted, tuple(drawn))

    def _settled(self, stars: list[Star]) -> list[Star]:
        """Move stars to where they belong; those that are no longer seen then are put back."""
        for _ in range(_SETTLED):
            for star in stars:
                self.sheet.settle(star)
            stars = [star for star in stars if self._still_shows(star, stars)]
        return stars

    def _still_shows(self, star: Star, stars: Sequence[Star]) -> bool:
        """Whether a star is seen without what a much brighter one leaves, drawn a little off."""
        beside = [
            one
            for one in stars
            if apart(one, star) < _BESIDE_PX and one.height > _MUCH_BRIGHTER * star.height
        ]
        if not beside:
            return True
        self.sheet.put_back(star)
        for one in beside:
            self.sheet.settle(one)
        fit = self.sheet.fit(star.row, star.col, star.height, REFINEMENT, shape=star.shape)
        shows = fit is not None and fit.star.height > self.threshold * fit.star.error
        if shows:
            self.sheet.take_off(star)
        return shows

    def _mean(self, star: Star, near: Sequence[Star]) -> tuple[Image, Image, HiddenStar | None]:
        """Mean and variance of all sources that explain what is seen of one, by their likelihood.

        And those of them that have the shape of a star.

        Of a star that shows one of its sides alone, place and height trade against each other; and
        wings alone may be a galaxy's, whose middle is much fainter. The likeliest of them is not
        the one of least expected error. What explains the wings badly says nothing of a middle that
        is much brighter than they are: it is not drawn, but may be there.
        """
        self.sheet.put_back(star)
        sources = explaining(self.sheet, star)
        fit = self.sheet.fit(star.row, star.col, star.height, REFINEMENT, near, star.shape)
        variance, covariance = np.zeros_like(self.sheet.left), None
        if fit is not None:
            covariance = self.sheet.add_variance(variance, fit.star, fit.after)
        self.sheet.take_off(star)
        mean, square = np.zeros_like(self.sheet.left), np.zeros_like(self.sheet.left)
        for share, one, shape in sources:
            window, drawn = self.sheet.light_of(one, shape)
            mean[window] += share * drawn
            square[window] += share * drawn**2
        seen = self.sheet.weight > 0
        brightest_seen = mean[seen].max(initial=0.0)
        inferred = mean[~seen].max(initial=0.0) > _MUCH_BRIGHTER * brightest_seen
        shape_error = np.zeros_like(mean)
        if star.shape is not None or not self.sheet.known:
            shape_error = _shape_error(mean, brightest_seen)
            variance += (shape_error * mean) ** 2
        if inferred and (fit is None or fit.after >= GOOD_MISFIT):
            return np.zeros_like(mean), square, None
        like_a_star = None
        if covariance is not None and fit is not None and self._is_star(star, fit):
            like_a_star = self._like_a_star(star, sources, covariance)
            if like_a_star is not None:
                like_a_star = replace(like_a_star, shape_error=float(shape_error.max()))
        return mean, variance + np.maximum(square - mean**2, 0.0), like_a_star

    def _is_star(self, star: Star, fit: Fit) -> bool:
        """Whether what is seen of a star is as sharp as stars are, and like one."""
        alike = fit.after < GOOD_MISFIT or fit.after < _SURE_GAIN * fit.before
        sharp = star.shape is None or star.shape.fwhm_px < _MOST_WIDER * self.sheet.shape.fwhm_px
        return self.sheet.known and alike and sharp

    def _like_a_star(
        self, star: Star, sources: list[tuple[float, Star, StarShape]], covariance: Image
    ) -> HiddenStar | None:
        """Give the sources that have the shape of a star; None where there are none."""
        own = star.shape or self.sheet.shape
        alike = [(share, one) for share, one, shape in sources if shape == own]
        if not alike:
            return None
        places = np.array([(one.height, one.row, one.col) for _, one in alike])
        plane = np.zeros_like(self.sheet.left)
        for share, one in alike:
            window, drawn = self.sheet.light_of(one, own)
            plane[window] += share * drawn
        if not (plane > 0).any():
            return None
        window = ndimage.find_objects((plane > 0).astype(np.uint8))[0]
        chances = np.array([share for share, _ in alike])
        return HiddenStar(own, places, chances, covariance, window, plane[window])

    def _round(self, stars: list[Star], *, first: bool) -> list[Star]:
        height, error = self.sheet.height_everywhere()
        significance = height / error
        if first:
            beyond = significance[~self.zone]
            scatter = 1.4826 * np.median(np.abs(beyond - np.median(beyond))) if beyond.size else 1.0
            self.threshold = _SIGNIFICANCE * max(1.0, float(scatter))
        significance = np.where(self.zone & ~self._tried, significance, -np.inf)
        peaks = significance == ndimage.maximum_filter(significance, 9)
        places = np.argwhere(peaks & (significance > self.threshold))
        order = np.argsort(-significance[tuple(places.T)], kind="stable")
        found: list[Star] = []
        for row, col in places[order]:
            # Next to a new star wait until it is fitted well: its wings are not yet explained.
            if any(np.hypot(star.row - row, star.col - col) < NEIGHBOUR_PX for star in found):
                continue
            self._tried[max(0, row - 1) : row + 2, max(0, col - 1) : col + 2] = True
            fit = self.sheet.fit_from(float(row), float(col), float(height[row, col]))
            if fit is None or fit.star.height <= self.threshold * fit.star.error:
                continue
            star = self._taken_off(fit, stars)
            if star is not None:
                found.append(star)
        return found

    def _taken_off(self, fit: Fit, stars: list[Star]) -> Star | None:
        """Take a star off if it is believed, or once its neighbours make room; else doubt it."""
        own = self.sheet.in_its_own_shape(fit) if fit.believed or not self.sheet.known else fit
        if own.believed:
            self.sheet.take_off(own.star)
            return own.star
        beside = self._found_beside(fit.star, stars) if self.sheet.known else None
        if beside is None:
            self._doubt(fit.star)
        return beside

    def _doubt(self, star: Star) -> None:
        """Remember a star that is not believed, unless it is one that is doubted already."""
        if not _same(star, self._doubted):
            self._doubted.append(star)

    def _found_beside(self, star: Star, stars: list[Star]) -> Star | None:
        """Take off a star that is believed once its neighbours make room; None where none is.

        A neighbour that was fitted first has drawn part of its light, and stands a little off.
        """
        near = [one for one in stars if apart(one, star) < NEIGHBOUR_PX]
        if not near:
            return None
        fit = self.sheet.fit(star.row, star.col, star.height, FAR_SEARCH, near)
        if fit is None or fit.star.height <= self.threshold * fit.star.error:
            return None
        group = [fit.star, *near]
        before = [replace(one) for one in near]
        self.sheet.take_off(fit.star)
        for _ in range(_SETTLING):
            self.sheet.move_together(group)
        self.sheet.put_back(fit.star)
        final = self.sheet.fit(fit.star.row, fit.star.col, fit.star.height, REFINEMENT)
        if (
            final is not None
            and final.believed
            and final.star.height > self.threshold * final.star.error
        ):
            self.sheet.take_off(final.star)
            return final.star
        for one, old in zip(near, before, strict=True):
            self.sheet.put_back(one)
            one.row, one.col, one.height = old.row, old.col, old.height
            self.sheet.take_off(one)
        return None

    def _fit_again(self, stars: list[Star], found: list[Star]) -> None:
        """Fit stars again whose surroundings have changed."""
        places = np.array([(star.row, star.col) for star in found])
        for star in stars:
            distance = np.hypot(places[:, 0] - star.row, places[:, 1] - star.col)
            if distance.min() > NEIGHBOUR_PX:
                continue
            self.sheet.refine(star)


def _shape_error(light: Image, brightest_seen: float) -> Image:
    """Give the error of a star's light, as a share of it, where no other tells its shape."""
    brighter = np.maximum(light, brightest_seen) / max(brightest_seen, _LEAST_SEEN)
    error: Image = _INFERRED_ERROR * np.log(brighter)
    return error


def _same(star: Star, others: Sequence[Star]) -> bool:
    return any(apart(star, other) <= _SAME_PX for other in others)
