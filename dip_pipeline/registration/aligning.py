"""The last fraction of a pixel between two exposures: least squares on all their light."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter, map_coordinates, spline_filter

from dip_pipeline.registration.correlating import scene_alone
from dip_pipeline.registration.geometry import Geometry
from dip_pipeline.registration.stars import Cleaned
from dip_pipeline.sensor import estimate_sigma

_LEAST_SMOOTHED_PX = 1.0  # both, so that neither pixels nor their noise decide
_LIGHT_SIGMA = 4.0  # elsewhere there is noise alone, and its slopes tell nothing
_BRIGHT_SIGMA = 10.0  # of the brightest tenth of the light, at least
_ROUNDS = 30
_CUT = 4.0  # of sigma: beyond, a pixel shows what only one of the two has
_SHAPE_ERROR = 0.05  # of a step to the next pixel, by which the two may differ in sharpness
_FARTHEST_PX = 1.5
_STILL_PX = 1e-6
_BORDER_PX = 6
_LEAST_SPOILT, _OVER_USUAL = 0.02, 1.5  # share of what is smoothed; two pixels beside one of 1 px
_LEAST_PLACES = 60
_MOST_PLACES = 1_500_000


@dataclass(frozen=True, slots=True)
class Aligned:
    """A geometry whose shift was fitted to all light.

    error_px : standard error along the less certain axis
    """

    geometry: Geometry
    error_px: float


def align(
    exposure: Cleaned,
    reference: Cleaned,
    start: Geometry,
    width_px: float,
    wider_px2: float = 0.0,
) -> Aligned | None:
    """Fit shift and flux scale so that the reference shows what the exposure shows, robustly.

    width_px : standard deviation of the stars
    wider_px2 : of the exposure's stars, see `wider_by_px2`: the sharper one is softened, else what
        counts most, the middles of stars, would seem to be no light of both
    Gauss-Newton with Tukey's weights; Lucas & Kanade 1981, Proc. 7th IJCAI, 674. None where the
    light does not fix the shift, or moves it far from where it starts.
    """
    smoothed_px = max(width_px, _LEAST_SMOOTHED_PX)
    own, theirs = (
        gaussian_filter(scene_alone(each.light), np.sqrt(smoothed_px**2 + max(0.0, softer_px2)))
        for each, softer_px2 in ((exposure, -wider_px2), (reference, wider_px2))
    )
    places = _places(exposure)
    spoilt = [_spoilt(each, smoothed_px) for each in (exposure, reference)]
    known = ~_at(spoilt[0], places)
    spline = spline_filter(theirs, order=3)
    slopes = [spline_filter(slope, order=3) for slope in np.gradient(theirs)]
    light = own[tuple(places.T.astype(int))]
    noise = _noise(exposure, smoothed_px), _noise(reference, smoothed_px)
    known &= light > _LIGHT_SIGMA * noise[0]
    if not known.any() or np.quantile(light[known], 0.9) < _BRIGHT_SIGMA * noise[0]:
        return None  # noise would choose the places, and move the shift
    moved = np.zeros(2)
    line: _Line | None = None
    error = float("inf")
    for _ in range(_ROUNDS):
        there = start.to_reference(places) + moved
        inside = known & _inside(there, theirs.shape)
        inside[inside] = ~_at(spoilt[1], there[inside])
        if inside.sum() < _LEAST_PLACES:
            return None
        value, *slope = (
            map_coordinates(plane, there[inside].T, order=3, prefilter=False)
            for plane in (spline, *slopes)
        )
        if line is None:
            line = _Line(_first_scale(light[inside], value, noise[1]), 0.0)
        step, line, error = _step(light[inside], value, np.stack(slope), line, noise)
        moved = moved + step
        if not np.isfinite(moved).all() or float(np.hypot(*moved)) > _FARTHEST_PX:
            return None
        if float(np.hypot(*step)) < _STILL_PX:
            break
    row, col = (np.asarray(start.shift_px) + moved).tolist()
    # Smoothed noise is alike over some pixels; the slopes of a star change sign as fast.
    error *= 1.5 * smoothed_px
    return Aligned(Geometry(start.matrix, (row, col)), error)


class _Line(NamedTuple):
    """Light of the exposure where the reference has none, and for one unit of its light."""

    scale: float
    level: float


def _first_scale(light: NDArray[np.float64], value: NDArray[np.float64], noise: float) -> float:
    """Light for one unit of the reference's: far from it, all that is bright would seem unlike."""
    lit = value > _LIGHT_SIGMA * noise
    return float(np.median(light[lit] / value[lit])) if lit.sum() >= _LEAST_PLACES else 1.0


def _step(
    light: NDArray[np.float64],
    value: NDArray[np.float64],
    slope: NDArray[np.float64],
    line: _Line,
    noise: tuple[float, float],
) -> tuple[NDArray[np.float64], _Line, float]:
    """One step: change of the shift, the light of both, the shift's standard error by white noise.

    What is unlike is told about the line: by its scale alone most would be, and the scale fall.
    """
    scale = line.scale
    residual = light - scale * value - line.level
    steep = np.hypot(*slope)
    variance = noise[0] ** 2 + (scale * noise[1]) ** 2
    sigma = np.sqrt(variance + (_SHAPE_ERROR * scale * steep) ** 2)
    ratio = residual / (_CUT * sigma)
    weight = np.where(np.abs(ratio) < 1, (1 - ratio**2) ** 2, 0.0) / sigma**2
    design = np.stack([scale * slope[0], scale * slope[1], value, np.ones_like(value)])
    size = np.sqrt((design**2 * weight).sum(axis=1))  # so that no unit makes a row the largest
    design /= np.where(size > 0, size, 1.0)[:, None]
    normal = (design * weight) @ design.T
    solution = np.linalg.lstsq(normal, (design * weight) @ residual, rcond=None)[0]
    solution /= np.where(size > 0, size, 1.0)
    if np.linalg.matrix_rank(normal) < len(normal):  # what counts does not fix the shift
        return solution[:2], line, float("inf")
    error = float((np.sqrt(np.linalg.inv(normal).diagonal()[:2]) / size[:2]).max())
    better = _Line(scale + float(solution[2]), line.level + float(solution[3]))
    return solution[:2], better, error


def _places(exposure: Cleaned) -> NDArray[np.float64]:
    rows, cols = exposure.light.shape
    if min(rows, cols) <= 2 * _BORDER_PX:
        return np.zeros((0, 2))
    step = max(1, int(np.ceil(np.sqrt(rows * cols / _MOST_PLACES))))
    grid = np.mgrid[_BORDER_PX : rows - _BORDER_PX : step, _BORDER_PX : cols - _BORDER_PX : step]
    return grid.reshape(2, -1).T.astype(np.float64)


def _spoilt(image: Cleaned, smoothed_px: float) -> NDArray[np.bool_]:
    """Find places near to what is not to be used, and to more of it than all others.

    Of many lone pixels, each filled from around, a wide star does not change.
    """
    share = gaussian_filter(image.unusable.astype(np.float32), smoothed_px)
    most = max(_LEAST_SPOILT, _OVER_USUAL * float(share.mean()))
    near: NDArray[np.bool_] = binary_dilation(image.unusable, iterations=2) & (share > most)
    return near


def _inside(places: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = np.all(
        (places >= _BORDER_PX) & (places <= np.array(shape) - 1 - _BORDER_PX), axis=1
    )
    return inside


def _at(mask: NDArray[np.bool_], places: NDArray[np.float64]) -> NDArray[np.bool_]:
    rows, cols = np.rint(places.T).astype(int)
    found: NDArray[np.bool_] = mask[rows, cols]
    return found


def _noise(image: Cleaned, smoothed_px: float) -> float:
    """Scatter of the smoothed image by noise: white, or what correlated noise has at its scale."""
    white = estimate_sigma(image.light.astype(np.float32))
    white /= 2 * float(np.sqrt(np.pi)) * smoothed_px
    fine, coarse = (gaussian_filter(image.light, by * smoothed_px) for by in (1, 2))
    band = fine - coarse
    return max(white, 1.4826 * float(np.median(np.abs(band - np.median(band)))))
