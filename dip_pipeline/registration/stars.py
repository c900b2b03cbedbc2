"""Stars of an exposure: where they are, how bright, with single hot pixels kept out."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import sep
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, median_filter, rank_filter

from dip_pipeline.registration.geometry import Places

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]

_WIDTHS_PX = (0.8, 1.4, 2.4, 4.2)  # standard deviations of the filters that are tried
_RANK = 12  # the filter is chosen by the signal-to-noise of the star of this rank
_DETECTION_SIGMA = 5.0
_MOST_STARS = 400
_HOT_SIGMA = 6.0
_HOT_NEIGHBOUR = 0.2  # of a hot pixel's excess, at most, in the second brightest one around it
_BACKGROUND_PX = 64
_EDGE_PX = 3
_SHARP_ERROR = 0.1  # of the width: stars whose place is known as well are bright
_LEAST_SHARP, _MOST_SHARP = 5, 60
_CORE_WIDTHS = 2.0  # within which pixels make out how bright and how wide a star seems
FWHM_OF_SIGMA = 2.3548
APERTURE_WIDTHS = 6.0  # that holds all of a star's light


@dataclass(frozen=True, slots=True)
class Stars:
    """Stars, brightest first.

    places : (n, 2); errors_px : standard error of each along an axis
    width_px : standard deviation of the filter
    """

    places: Places
    errors_px: NDArray[np.float64]
    width_px: float

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """An exposure without its sky: light, its noise in the dark, and what is not to be used.

    light : (rows, cols), hot and masked pixels replaced by the median around them
    sky : its level; noise : standard deviation of a pixel of the dark sky
    """

    light: Image
    unusable: Mask
    sky: float
    noise: float


def clean(pixels: NDArray[np.float32], masked: Mask) -> Cleaned:
    """Take the sky off, replace what is masked, not finite or hot.

    A pixel is hot where it stands out and its neighbours do not: no telescope makes such a star.
    """
    known = np.isfinite(pixels) & ~masked
    sky, _ = robust_level(pixels[known])
    plane = np.where(known, pixels, sky).astype(np.float64)
    median = median_filter(plane, 5)
    plane = np.where(known, plane, median)
    excess = plane - median
    noise = 1.4826 * float(np.median(np.abs(excess[known]))) if known.any() else 0.0
    hot = np.abs(excess) > _HOT_SIGMA * noise
    hot &= _second_around(np.abs(excess)) < _HOT_NEIGHBOUR * np.abs(excess) + 3 * noise
    plane = np.where(hot, median, plane)
    unusable = ~known | hot
    box = [min(_BACKGROUND_PX, side) for side in plane.shape]
    background = sep.Background(
        np.ascontiguousarray(plane), mask=unusable, bw=box[1], bh=box[0], fw=3, fh=3
    )
    return Cleaned(plane - background.back(), unusable, sky, float(background.globalrms))


def find_stars(cleaned: Cleaned) -> Stars:
    """Find the stars of an exposure with the filter that suits their width."""
    width = _width_px(cleaned)
    light = np.ascontiguousarray(cleaned.light)
    reach = int(np.ceil(3 * width))
    offset = np.arange(-reach, reach + 1)
    kernel = np.exp(-(offset[:, None] ** 2 + offset[None] ** 2) / (2 * width**2))
    found = _extracted(light, cleaned.noise, kernel)
    cols, rows = found["x"], found["y"]
    cols, rows, failed = sep.winpos(light, cols, rows, width)
    # Light that overflows has no place: outside.
    cols, rows = (np.nan_to_num(at, nan=-1.0, posinf=-1.0, neginf=-1.0) for at in (cols, rows))
    fluxes, _, _ = sep.sum_circle(light, cols, rows, 3 * width)
    places = np.column_stack([rows, cols])
    inside = (places >= _EDGE_PX) & (places < np.array(light.shape) - _EDGE_PX)
    peaks = np.maximum(found["peak"], cleaned.noise)
    good = inside.all(axis=1) & (failed == 0) & (fluxes > 0) & _mostly_usable(cleaned, places)
    # Of a Gaussian of that width and peak in white noise: width noise / (peak width sqrt(pi)).
    errors = cleaned.noise / (np.sqrt(np.pi) * peaks)
    order = np.flatnonzero(good)[np.argsort(-fluxes[good], kind="stable")][:_MOST_STARS]
    return Stars(places[order], errors[order] + 0.01 * width, width)


def _extracted(light: Image, noise: float, kernel: Image) -> NDArray[np.void]:
    """Find what stands out, however much of the image that is."""
    sep.set_extract_pixstack(max(sep.get_extract_pixstack(), light.size))
    # Of one number for the noise sep makes no matched filter.
    find = partial(
        sep.extract,
        light,
        _DETECTION_SIGMA,
        err=np.full_like(light, noise),
        filter_kernel=kernel,
        minarea=3,
    )
    try:
        found: NDArray[np.void] = find(deblend_cont=0.01)
    except Exception as error:  # sep raises no narrower class; all but one message goes on
        if "deblending overflow" not in str(error):
            raise
        found = find(deblend_nthresh=1)  # whole, as no star is
    return found


def bright_ones(stars: Stars, chosen: NDArray[np.int64]) -> Mask:
    """Which of some stars are bright enough to tell of their width, (chosen,)."""
    bright: Mask = stars.errors_px[chosen] < _SHARP_ERROR * stars.width_px
    return bright


def are_whole(cleaned: Cleaned, places: Places, width_px: float) -> Mask:
    """Whether all pixels of stars' cores were observed: those replaced hold less light."""
    if not len(places):
        return np.zeros(0, dtype=bool)
    gone, _, _ = sep.sum_circle(
        cleaned.unusable.astype(np.float64), places[:, 1], places[:, 0], _CORE_WIDTHS * width_px
    )
    return np.asarray(gone < 0.5)


def measure_fwhm(cleaned: Cleaned, stars: Stars, chosen: NDArray[np.int64]) -> float:
    """Width of some of the stars at half their height, pixels; NaN where these are too few.

    From the radius that holds half the light, see `fwhm_of_radius`. Galaxies are wider than stars:
    the lower quartile counts.
    """
    bright = chosen[bright_ones(stars, chosen)]
    bright = bright[are_whole(cleaned, stars.places[bright], stars.width_px)]
    places = stars.places[np.sort(bright)][:_MOST_SHARP]
    if len(places) < _LEAST_SHARP:
        return float("nan")
    radii, flags = sep.flux_radius(
        np.ascontiguousarray(cleaned.light),
        places[:, 1],
        places[:, 0],
        np.full(len(places), APERTURE_WIDTHS * stars.width_px),
        0.5,
        subpix=5,
    )
    good = radii[(flags == 0) & (radii > 0)]
    if len(good) < _LEAST_SHARP:
        return float("nan")
    return fwhm_of_radius(float(np.quantile(good, 0.25)))


def fwhm_of_radius(radius_px: float) -> float:
    """FWHM of a Gaussian that holds half its light in a radius, sigma sqrt(2 ln 2).

    The blur of a pixel, variance 1 / 12, is taken off.
    """
    variance = radius_px**2 / (2 * np.log(2)) - 1 / 12
    return FWHM_OF_SIGMA * float(np.sqrt(max(variance, 0.04)))


def robust_level(values: NDArray[np.floating]) -> tuple[float, float]:
    """Median of values without what lies far from it, and the scatter of what is left."""
    kept = values[np.isfinite(values)].astype(np.float64)
    level, scatter = 0.0, 0.0
    for _ in range(6):
        if not kept.size:
            break
        level = float(np.median(kept))
        scatter = 1.4826 * float(np.median(np.abs(kept - level)))
        inside = np.abs(kept - level) <= 3 * scatter
        if inside.all() or not inside.any():
            break
        kept = kept[inside]
    return level, scatter


def _width_px(cleaned: Cleaned) -> float:
    """Choose the filter under which the stars stand out most."""
    best, choice = 0.0, _WIDTHS_PX[1]
    for width in _WIDTHS_PX:
        smoothed = gaussian_filter(cleaned.light, width)
        noise = 1.4826 * float(np.median(np.abs(smoothed - np.median(smoothed))))
        side = max(3, int(4 * width))
        rows, cols = (length // side * side for length in smoothed.shape)
        if noise <= 0 or not rows or not cols:
            continue
        blocks = smoothed[:rows, :cols].reshape(rows // side, side, cols // side, side)
        peaks = np.sort(blocks.max(axis=(1, 3)).ravel())[::-1]
        strength = float(peaks[min(_RANK, len(peaks) - 1)]) / noise
        if strength > best:
            best, choice = strength, width
    return choice


def _second_around(excess: Image) -> Image:
    """Second largest of the eight pixels around each."""
    around = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool)
    second: Image = rank_filter(excess, -2, footprint=around)
    return second


def _mostly_usable(cleaned: Cleaned, places: Places) -> NDArray[np.bool_]:
    """Whether the pixel of each place, and most of those around it, can be used."""
    share = median_filter(cleaned.unusable.astype(np.uint8), 3)
    rows, cols = (
        np.clip(np.rint(places[:, axis]), 0, cleaned.light.shape[axis] - 1).astype(int)
        for axis in (0, 1)
    )
    usable: NDArray[np.bool_] = (share[rows, cols] == 0) & ~cleaned.unusable[rows, cols]
    return usable
