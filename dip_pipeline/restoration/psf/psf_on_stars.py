"""A PSF beside stars of a frame: how much wider they are, and how much of their light it misses."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dip_pipeline.restoration.stars.common_shape import (
    alike_stars,
    measure_shape,
    shapes_of_the_others,
)
from dip_pipeline.restoration.stars.star_shape import (
    AS_GAUSSIANS,
    FEWEST_STARS,
    Cutout,
    FittedStar,
    Image,
    StarShape,
    fit_star,
)

_AS_NARROW = 0.04  # the same, by which an object may be wider than the PSF and still be of it
# Of the ellipticities of half of all objects: 0.01 to 0.06 of stars, 0.09 to 0.3 of galaxies.
_UNLIKE = 0.08
_MISFIT = 0.01  # of a star's height: no star is known better than its model
_DRAWN = 9  # stars of a PSF, each at another place in its pixel
_SHIFTS = 4  # steps by which a PSF finds its place on a star
_MOST_SHIFT_PX = 0.5
_SMALL_PX = 0.05  # for slopes of a PSF
_WINGS_PX = 12  # as far as wings are looked at
_OF_MEDIAN = 1.2533  # error of a median over that of the mean
_MEAN_OF_NOISE = 0.7979  # of its size, over its sigma


@dataclass(frozen=True, slots=True)
class PsfOnStars:
    """How the stars of a frame differ from a PSF.

    stars : how many tell
    star_px, psf_px : widths of both (FWHM), measured alike, pixels of the frame; NaN: not known
    elongation : size of the difference of their ellipticities, (a - d, 2 b) / (a + d)
    misplaced, doubt : share of a star's light that the PSF has elsewhere, less what noise makes of
        it; and its standard error
    wings : the same share by the profiles that fit both, as far as 12 px: wings that look like an
        even level near by are in it; NaN: not known
    as_narrow : objects that are no wider than the PSF, of all `fitted` ones
    """

    stars: int
    fitted: int
    star_px: float
    psf_px: float
    elongation: float
    misplaced: float
    doubt: float
    wings: float
    as_narrow: int


def stars_of_one_shape(fitted: Sequence[FittedStar]) -> tuple[StarShape, list[FittedStar]] | None:
    """Find the shape that most agree on, and those as wide; None where these are too few.

    Or no stars: galaxies and trails of one width lie in all directions.
    """
    shape = measure_shape(fitted)
    if shape is None:
        return None
    alike = alike_stars(fitted, shape)
    if len(alike) < FEWEST_STARS:
        return None
    apart = float(np.median([_apart(star.shape, shape) for star in alike]))
    return None if apart > _UNLIKE else (shape, alike)


def hold_against_stars(
    psf: NDArray[np.floating], factor: int, fitted: Sequence[FittedStar]
) -> PsfOnStars | None:
    """Compare a PSF with the stars that a frame shows; None where too few agree on a shape.

    psf : (rows, cols), of pixels of which factor^2 make one of the frame
    """
    found = stars_of_one_shape(fitted)
    if found is None:
        return None
    shape, alike = found
    view = _PsfView(psf, factor)
    drawn = [view.fitted(star.cutout, star.height) for star in alike[:_DRAWN]]
    own = measure_shape([star for star in drawn if star is not None])
    misplaced, doubt = _misplaced([view.missed(star.cutout) for star in alike])
    psf_px = float("nan") if own is None else own.fwhm_px
    widths = np.array([star.shape.fwhm_px for star in fitted])
    return PsfOnStars(
        len(alike),
        len(fitted),
        shape.fwhm_px,
        psf_px,
        float("nan") if own is None else _apart(shape, own),
        misplaced,
        doubt,
        float("nan") if own is None else _elsewhere(shape, own),
        int(np.count_nonzero(np.log(widths / psf_px) < _AS_NARROW)),
    )


def doubt_of_wings(fitted: Sequence[FittedStar]) -> float:
    """Give the standard error of `PsfOnStars.wings`; infinite where too few agree on a shape.

    What profiles of the stars, a quarter of them left out, have elsewhere than that of all.
    """
    found = stars_of_one_shape(fitted)
    if found is None:
        return float("inf")
    shape, alike = found
    apart = np.array([_elsewhere(other, shape) for other in shapes_of_the_others(alike, shape)])
    return float(np.sqrt((len(apart) - 1) / len(apart) * (apart**2).sum()))


class _PsfView:
    """A PSF as stars in a frame show it: at any place in a pixel."""

    def __init__(self, psf: NDArray[np.floating], factor: int) -> None:
        self.factor = factor
        self.middle = [side // 2 for side in psf.shape]
        self.splines = ndimage.spline_filter(np.asarray(psf, np.float64), order=3, mode="constant")

    def at(self, rows_px: Image, cols_px: Image) -> Image:
        """Light of the frame's pixels at offsets from the star; its sum is 1."""
        factor, total = self.factor, np.zeros(rows_px.shape)
        inside = np.arange(factor) - (factor - 1) / 2
        for down in inside:
            for across in inside:
                places = [
                    factor * rows_px + down + self.middle[0],
                    factor * cols_px + across + self.middle[1],
                ]
                total += ndimage.map_coordinates(self.splines, places, order=3, prefilter=False)
        return total

    def fitted(self, cutout: Cutout, height: float) -> FittedStar | None:
        """Fit a star that the PSF makes as those of the frame are fitted."""
        reach = int(cutout.rows.max()) + 1
        offsets = np.arange(-reach, reach + 1, dtype=np.float64)
        rows, cols = np.meshgrid(offsets, offsets, indexing="ij")
        light = self.at(rows - cutout.place[0], cols - cutout.place[1])
        if not light.max() > 0:
            return None
        light *= height / light.max()
        sigma = np.full(light.shape, float(np.median(cutout.sigma)))
        return fit_star(light, sigma, (reach, reach), most_beta=AS_GAUSSIANS)

    def missed(self, cutout: Cutout) -> tuple[Image, Image]:
        """Give light of a star that the PSF does not explain, and its sigma; of all its light.

        The PSF has the height and the place that fit best, on an even level.
        """
        place = np.array(cutout.place)
        doubt = np.hypot(cutout.sigma, _MISFIT * cutout.light.max())
        left, flux = cutout.light, 1.0
        for _ in range(_SHIFTS):
            rows, cols = cutout.rows - place[0], cutout.cols - place[1]
            light = self.at(rows, cols)
            down = (self.at(rows - _SMALL_PX, cols) - light) / _SMALL_PX
            across = (self.at(rows, cols - _SMALL_PX) - light) / _SMALL_PX
            columns = np.stack([light, down, across, np.ones_like(light)], axis=1)
            weighted = columns / doubt[:, None]
            terms = np.linalg.lstsq(weighted, cutout.light / doubt, rcond=None)[0]
            flux = max(float(terms[0]), 1e-12)
            place += np.clip(terms[1:3] / flux, -_MOST_SHIFT_PX, _MOST_SHIFT_PX)
            left = cutout.light - columns @ terms
        return left / flux, cutout.sigma / flux


def _misplaced(missed: Sequence[tuple[Image, Image]]) -> tuple[float, float]:
    """Half of all that stars show in common beside a PSF, less what their noise makes of it."""
    left = np.median([light for light, _ in missed], axis=0)
    count = len(missed)
    sigma = _OF_MEDIAN * np.median([sigma for _, sigma in missed], axis=0) / np.sqrt(count)
    size = np.abs(left)
    share = 0.5 * float((size - _MEAN_OF_NOISE * sigma).sum())
    return min(max(share, 0.0), 1.0), 0.5 * float(np.sqrt((sigma**2).sum()))


def _elsewhere(one: StarShape, other: StarShape) -> float:
    """Share of the light of one profile that another has elsewhere; of the same light in all."""
    drawn = [shape.stamp(_WINGS_PX) for shape in (one, other)]
    return 0.5 * float(np.abs(drawn[0] / drawn[0].sum() - drawn[1] / drawn[1].sum()).sum())


def _apart(one: StarShape, other: StarShape) -> float:
    """How far two ellipticities are apart."""
    both = [
        np.array([shape.a - shape.d, 2 * shape.b]) / (shape.a + shape.d) for shape in (one, other)
    ]
    return float(np.hypot(*(both[0] - both[1])))
