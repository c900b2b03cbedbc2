"""Stars that a frame shows well: fitted all at once, taken off it, and put back at the end.

The light of a star has three unknowns, its height and its place. Restored pixel by pixel, as the
rest of a frame has to be, more of its noise stays. Photometry by point spread function (Stetson
1987, PASP 99, 191) takes the star off; what its model misses stays in the frame and is restored
with it, so that nothing rests on the model being right.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu, spsolve
from torch import Tensor

from dip_pipeline.restoration.stars.star_grid import Places, StarGrid
from dip_pipeline.restoration.stars.star_shape import Image, Mask, StarShape
from dip_pipeline.restoration.stars.star_sheet import Sheet

_SIGNIFICANCE = 12.0  # standard errors
_ROUNDS = 3  # of looking for stars beside those that were found
_STEPS = (3, 2)  # of Gauss and Newton: at first, and later on
REACH_PX = 5.5  # of a star's fit
_NEAR_PX = 3.5  # of its middle, where the model must be right
_GOOD_MISFIT = 1.5  # chi-square a pixel
_GAIN = 0.02  # a worse one must leave no more than this of the chi-square without the star
_SURE = 5.0  # standard errors of such a chi-square, above which what is left is no noise
_FEWEST_PIXELS = 8
_APART_PX = 5  # side of the square in which a star is the brightest
_EDGE_PX = 2
_MESH_PX = 16  # of the light around stars: faint ones, nebulae
_MOST_STEP = 0.5  # of ln(height), or px
_TWO = 0.1  # of what looks like one star is two
_LOST = 0.17  # of a star's height, half of what networks that see it in the frame make too low
# In which a star is the one that counts: standard deviations in px of the scene, and their shares.
_SPHERE = ((3.0, 1.0), (10.0, 0.01), (30.0, 0.0001))
_AT_ONCE = 100  # stars whose covariances are computed together
_RIDGE = 1e-4  # of the normal equations' diagonal: stars in one place keep their sum


@dataclass(frozen=True, slots=True, eq=False)
class Equations:
    """Least squares of small changes of stars, whose light overlaps.

    columns : (pixels, 3 stars), sparse, change with ln(height), row and col of each star
    weighted : (3 stars, pixels), those times the pixels' inverse variances
    normal : (3 stars, 3 stars)
    """

    columns: Any
    weighted: Any
    normal: Any

    def step(self, left: Image) -> Image:
        """Give the changes that explain what is left best, (3 stars)."""
        step: Image = np.atleast_1d(spsolve(self.normal, self.weighted @ left.ravel()))
        return step

    def covariances(self) -> list[Image]:
        """Give the covariance of each star's own three changes, (3, 3), its neighbours free."""
        solver = splu(self.normal)
        size = self.normal.shape[0]
        found: list[Image] = []
        for first in range(0, size, 3 * _AT_ONCE):
            last = min(first + 3 * _AT_ONCE, size)
            asked = np.zeros((size, last - first))
            asked[np.arange(first, last), np.arange(last - first)] = 1.0
            part = solver.solve(asked)[first:last]
            found += [part[at : at + 3, at : at + 3] for at in range(0, last - first, 3)]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class ShownStars:
    """Stars that were taken off a region, and how their fit would move with its pixels.

    places : of the stars, and their heights
    light : (rows, cols), sky sigma
    around : (rows, cols), the light around them that the fit took off
    equations : of small changes of these stars
    doubts : (stars,), share of each one's light that its fit leaves, 0 where noise explains that
    unseen : (stars,), such a share of what may be left beside noise as it looks
    odds : (stars,), that what looks like a star is two
    scene : the same stars, (fine rows, cols) and (fine pixels, 3 stars), as they are in the scene
        of the region; None where that is not asked for
    beside : where they were fitted in the mean of the region and a twin of it, the twin's share of
        each pixel and what it holds without these stars, each (rows, cols); None without a twin
    """

    places: Places
    light: Image
    around: Image
    equations: Equations
    doubts: Image
    unseen: Image
    odds: Image
    scene: tuple[Image, Any] | None = None
    beside: tuple[Image, Image] | None = None

    def step(self, left: Tensor) -> Image:
        """Give how the stars change where this is left of a frame, to first order, (3 stars).

        left : (1, 1, rows, cols), sky sigma, a frame less `light`; next to nothing comes back for
        the frame that was fitted
        """
        fitted: Image = left[0, 0].detach().double().cpu().numpy()
        if self.beside is not None:
            share, twin = self.beside
            fitted = fitted + share * (twin - fitted)
        return self.equations.step(fitted - self.around)

    def change(self, left: Tensor) -> Tensor:
        """Give how the stars' light changes where this is left of a frame; see `step`."""
        changed = (self.equations.columns @ self.step(left)).reshape(self.light.shape)
        return torch.from_numpy(changed)[None, None].to(left)

    def in_scene(self, like: Tensor) -> Tensor:
        """Give their light in the scene, where and of the kind of a tensor."""
        assert self.scene is not None
        return torch.from_numpy(self.scene[0])[None, None].to(like)

    def trust_in_scene(self) -> Image:
        """How far these stars are to be taken for what they look like, (fine rows, fine cols).

        From 0 to 1. One that is a star loses a share `_LOST` of its light where it is not believed;
        one that is two has `unseen` of it elsewhere where it is: both squared, by their odds. It
        changes so slowly that as much light is moved away from a star as is moved to it.
        """
        assert self.scene is not None
        shape = self.scene[0].shape
        factor = shape[0] // self.light.shape[0]
        trust = _LOST**2 / (_LOST**2 + self.odds * self.unseen**2)
        rows, cols = (
            np.clip(np.rint((at + 0.5) * factor - 0.5), 0, side - 1).astype(int)
            for at, side in zip(self.places[:, 1:].T, shape, strict=True)
        )
        heights = np.abs(self.places[:, 0])
        total, trusted = np.zeros(shape), np.zeros(shape)
        np.add.at(total, (rows, cols), heights)
        np.add.at(trusted, (rows, cols), heights * trust)
        total, trusted = (
            sum(
                share * ndimage.gaussian_filter(plane, scale_px, mode="constant")
                for scale_px, share in _SPHERE
            )
            for plane in (total, trusted)
        )
        shared: Image = np.where(total > 0, trusted / np.where(total > 0, total, 1.0), 0.0)
        return shared

    def variance_in_scene(self, widening: float = 1.0) -> Image:
        """Variance of their light in the scene for the noise that they were fitted in.

        (fine rows, fine cols), sky sigma squared: of their heights and places; and the doubt in
        them: one that looks unlike a star may be two, which no noise tells of.
        widening : of the errors of stars' heights, for correlated noise
        """
        assert self.scene is not None
        light, columns = self.scene
        of_noise = self.equations.covariances()
        doubted = [np.diag([doubt**2, 0.0, 0.0]) for doubt in self.doubts]
        both = [widening**2 * own + more for own, more in zip(of_noise, doubted, strict=True)]
        own = sparse.block_diag(both, format="csr")
        variance: Image = np.asarray((columns @ own).multiply(columns).sum(axis=1))
        return variance.reshape(light.shape)

    def change_of_scene(self, left: Tensor) -> Tensor:
        """Give how their light in the scene changes; see `step`."""
        assert self.scene is not None
        light, columns = self.scene
        changed = (columns @ self.step(left)).reshape(light.shape)
        return torch.from_numpy(changed)[None, None].to(left)


def find_shown_stars(
    observed: Image, sigma: Image, trusted: Mask, shape: StarShape, widening: float = 1.0
) -> ShownStars | None:
    """Find all stars that stand well out of a region and look like stars; None without any.

    observed : (rows, cols), sky at zero, its sigma at one; sigma : of each pixel
    trusted : neither masked nor saturated; shape : of stars; widening : of the errors of sums over
        pixels, for correlated noise
    """
    search = _Search(observed, sigma, trusted, shape)
    search.threshold *= widening
    return search.found() if trusted.any() else None


class _Misfits(NamedTuple):
    """How stars are fitted where they are brightest, each (stars,).

    after, before : chi-square a pixel with the star taken off, and without; power : the star's own,
        of all pixels together; pixels : how many these are
    """

    after: Image
    before: Image
    power: Image
    pixels: Image

    @property
    def unlike(self) -> Image:
        """How far each looks unlike a star, in standard errors; not below 0."""
        unlike: Image = np.maximum(self.after - 1, 0.0) / np.sqrt(2 / self.pixels)
        return unlike

    @property
    def unseen(self) -> Image:
        """Share of the light, as an amplitude, of what may be left beside noise as it looks."""
        share: Image = np.sqrt(
            np.maximum(self.unlike, 1.0) * np.sqrt(2 / self.pixels) / self.before
        )
        return share

    @property
    def odds(self) -> Image:
        """Of being two stars: such look unlike one by anything up to `_SURE` standard errors."""
        of_one = np.exp(-0.5 * np.minimum(self.unlike, 7.0) ** 2) / np.sqrt(2 * np.pi)
        odds: Image = _TWO / (1 - _TWO) / _SURE / of_one
        return odds

    @property
    def doubts(self) -> Image:
        """Share of the light that is left, as an amplitude; 0 where it may be noise."""
        more = self.after - 1
        share = np.sqrt(np.maximum(more, 0.0) / self.before)
        doubts: Image = np.where(more < _SURE * np.sqrt(2 / self.pixels), 0.0, share)
        return doubts


class _Search:
    """Finds stars in rounds, brightest first, and fits all of them together after each."""

    def __init__(self, observed: Image, sigma: Image, trusted: Mask, shape: StarShape) -> None:
        self.observed = np.where(trusted, observed, 0.0)
        self.trusted = trusted
        self.shape = shape
        self.grid = StarGrid(observed.shape, shape)
        self.sheet = Sheet(observed, sigma, trusted, shape)
        self.weight = self.sheet.weight
        self.around = _around(self.observed, trusted)
        self.given_up = ~trusted
        for side in (slice(None, _EDGE_PX), slice(-_EDGE_PX, None)):
            self.given_up[side] = True
            self.given_up[:, side] = True
        self.threshold = _SIGNIFICANCE

    def found(self) -> ShownStars | None:
        """Find them; see `find_shown_stars`."""
        stars = doubted = np.zeros((0, 3))
        for number in range(_ROUNDS):
            new = self._peaks(np.concatenate([stars, doubted]))
            if not len(new) and not len(doubted):
                break
            steps = _STEPS[min(number, 1)]
            stars = self._fitted(np.concatenate([stars, doubted, new]), steps)
            once = np.arange(len(stars)) >= len(stars) - len(new)
            # A star beside another one looks like none until that one is found, too.
            last_time = ~once | (number == _ROUNDS - 1)
            good = self._believed(stars)
            self._give_up(stars[~good & last_time])
            doubted = stars[~good & ~last_time]
            stars = stars[good]
        while len(stars):
            stars = self._fitted(stars, _STEPS[1])
            good = self._believed(stars)
            if good.all():
                break
            stars = stars[good]
        if not len(stars):
            return None
        light = self.grid.drawn(stars)
        fits = self._misfits(stars)
        said = fits.doubts, fits.unseen, fits.odds
        return ShownStars(stars, light, self.around, self._equations(stars), *said)

    def _peaks(self, stars: Places) -> Places:
        """Places where another star stands out of what is left, (stars, 3)."""
        left = self.observed - self.grid.drawn(stars)
        if len(stars):
            self.around = _around(left, self.trusted)
        self.sheet.left = np.where(self.trusted, left - self.around, 0.0)
        height, error = self.sheet.height_everywhere()
        significance = height / error
        significance[self.given_up] = -np.inf
        peaks = significance == ndimage.maximum_filter(significance, _APART_PX)
        places = np.argwhere(peaks & (significance > self.threshold) & (height > 0))
        return np.column_stack([height[tuple(places.T)], places])

    def _fitted(self, stars: Places, steps: int) -> Places:
        """Fit all stars together, from where they are."""
        for _ in range(steps if len(stars) else 0):
            left = self.observed - self.around - self.grid.drawn(stars)
            step = self._equations(stars).step(left).reshape(-1, 3)
            step = np.clip(step, -_MOST_STEP, _MOST_STEP)
            stars = np.column_stack([stars[:, 0] * (1 + step[:, 0]), stars[:, 1:] + step[:, 1:]])
        return stars

    def _believed(self, stars: Places) -> Mask:
        """Which of the stars look like stars where they are brightest."""
        fits = self._misfits(stars)
        bright = fits.power > (self.threshold / 2) ** 2
        alike = (fits.after < _GOOD_MISFIT) | (fits.after < _GAIN * fits.before)
        believed: Mask = (stars[:, 0] > 0) & bright & alike & (fits.pixels >= _FEWEST_PIXELS)
        return believed

    def _misfits(self, stars: Places) -> "_Misfits":
        left = self.observed - self.around - self.grid.drawn(stars)
        pixels, down, across, inside = self.grid.windows(stars, _NEAR_PX)
        seen = self.weight.ravel()[pixels] * inside
        own = stars[:, :1, None] * self.shape.at(down, across)
        count = np.maximum((seen > 0).sum(axis=(1, 2)), 1)
        after = (seen * left.ravel()[pixels] ** 2).sum(axis=(1, 2)) / count
        before = (seen * (left.ravel()[pixels] + own) ** 2).sum(axis=(1, 2)) / count
        return _Misfits(after, before, (seen * own**2).sum(axis=(1, 2)), count)

    def _give_up(self, stars: Places) -> None:
        """Look for no star there any more."""
        rows, cols = (
            np.clip(np.rint(at), 0, side - 1).astype(int)
            for at, side in zip(stars[:, 1:].T, self.observed.shape, strict=True)
        )
        for row, col in zip(rows, cols, strict=True):
            self.given_up[max(0, row - 2) : row + 3, max(0, col - 2) : col + 3] = True

    def _equations(self, stars: Places) -> Equations:
        columns = self.grid.changes(stars, REACH_PX)
        weighted = columns.copy()
        weighted.data *= np.repeat(self.weight.ravel(), np.diff(columns.indptr))
        weighted = weighted.T.tocsr()
        normal = (weighted @ columns).tocsc()
        ridge = _RIDGE * normal.diagonal() + 1e-12
        return Equations(columns, weighted, normal + sparse.diags(ridge, format="csc"))


def _around(light: Image, seen: Mask) -> Image:
    """Light around stars: medians over a mesh, and over those of their neighbours, between them."""
    high, wide = light.shape
    tall, broad = (-(-side // _MESH_PX) for side in light.shape)
    padding = ((0, tall * _MESH_PX - high), (0, broad * _MESH_PX - wide))
    padded = np.pad(np.where(seen, light, np.nan), padding, constant_values=np.nan)
    tiled = padded.reshape(tall, _MESH_PX, broad, _MESH_PX).transpose(0, 2, 1, 3)
    boxes = tiled.reshape(tall, broad, -1)
    shown = np.isfinite(boxes).any(axis=2)
    medians = np.full(shown.shape, float(np.median(light[seen])))
    full = np.isfinite(boxes).all(axis=2)
    medians[full] = np.median(boxes[full], axis=1)  # several times faster than the other one
    medians[shown & ~full] = np.nanmedian(boxes[shown & ~full], axis=1)
    medians = ndimage.median_filter(medians, 3, mode="nearest")
    down, across = (
        _between(boxes, side) for boxes, side in zip(medians.shape, light.shape, strict=True)
    )
    between: Image = down @ medians @ across.T
    return between


def _between(boxes: int, side: int) -> Image:
    """Shares that pixels of an axis have of the boxes before and behind them, (side, boxes)."""
    places = np.clip((np.arange(side) + 0.5) / _MESH_PX - 0.5, 0, boxes - 1)
    shares: Image = np.maximum(1 - np.abs(places[:, None] - np.arange(boxes)), 0.0)
    return shares
