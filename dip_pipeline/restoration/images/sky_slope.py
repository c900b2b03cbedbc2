"""A sky that slopes: the plane or quadratic surface that most of the light of a region lies on.

Moonlight, twilight, a bright star's glow, what is left of a flat field. Planes of pixels are
(1, 1, rows, cols), in sky-sigma units; medians stand on a grid of larger pixels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares
from torch import Tensor

# Share of the level's misses (their median) that a plane may leave at most, and of the plane's a
# quadratic surface. On skies without a slope it is 0.9 and more.
_OF_PLANE, _OF_QUADRATIC = 0.7, 0.5
_FEWEST_PLACES = 64
_NEAREST_EDGE = 0.1  # share of the known squares that are on either side of a step, at least
_RATHER_ABSOLUTE = 0.1  # of the median miss: larger ones count as they are, not squared

Values = NDArray[np.float64]


def sky_slope(medians: Tensor, shape: tuple[int, int], step_px: int) -> Tensor | None:
    """Surface of a sloping sky at each pixel; None where the sky has no slope to speak of.

    medians : (1, 1, rows, cols), of squares of step_px, NaN where not known
    shape : of the surface, (rows, cols) pixels
    Sources are lights above it: misses are weighed by their size, not by their square. Where
    nothing is known it is nowhere outside of the range that it has over the known squares. A sky of
    two levels on both sides of a row or column, as two amplifiers have, is no slope.
    """
    seen = medians[0, 0].double().cpu().numpy()
    known = np.isfinite(seen)
    if np.count_nonzero(known) < _FEWEST_PLACES:
        return None
    values = seen[known]
    middles = [step_px * (index.astype(np.float64) + 0.5) - 0.5 for index in np.nonzero(known)]
    found: tuple[int, Values] | None = None
    of_found = np.inf
    left = float(np.median(np.abs(values - np.median(values))))
    for degree, share in ((1, _OF_PLANE), (2, _OF_QUADRATIC)):
        terms = _terms(middles, shape, degree)
        weights = _fitted(terms, values, left)
        misses = float(np.median(np.abs(values - terms @ weights)))
        if misses < share * left:
            found, of_found = (degree, weights), misses
        left = misses
    if found is None or _misses_of_step(values, np.nonzero(known)) < of_found:
        return None
    degree, weights = found
    within = _terms(middles, shape, degree) @ weights
    places = [index.astype(np.float64) for index in np.indices(shape)]
    surface = np.clip(_terms(places, shape, degree) @ weights, within.min(), within.max())
    return torch.from_numpy(surface).to(medians.device, medians.dtype)[None, None]


def _misses_of_step(values: Values, places: tuple[NDArray[np.intp], ...]) -> float:
    """Least median of misses from two levels, one on each side of a row or a column.

    values : (places,); places : row and col of each
    """
    least = np.inf
    for along in places:
        ends = np.quantile(along, (_NEAREST_EDGE, 1 - _NEAREST_EDGE)).astype(int)
        for first in range(ends[0], ends[1] + 1):
            beyond = along >= first
            if not beyond.any() or beyond.all():
                continue
            levels = np.where(beyond, np.median(values[beyond]), np.median(values[~beyond]))
            least = min(least, float(np.median(np.abs(values - levels))))
    return least


def _fitted(terms: Values, values: Values, misses: float) -> Values:
    """Weights of terms (places, terms) by which the sum of the misses is least, nearly."""
    start = np.asarray(np.linalg.lstsq(terms, values, rcond=None)[0], np.float64)
    if misses == 0:
        return start
    fit = least_squares(
        lambda weights: terms @ weights - values,
        start,
        jac=lambda _: terms,
        loss="soft_l1",
        f_scale=_RATHER_ABSOLUTE * misses,
    )
    weights: Values = fit.x
    return weights


def _terms(places_px: list[Values], shape: tuple[int, int], degree: int) -> Values:
    """Powers of row and col up to a degree at places, (..., terms); -1 to 1 across the region."""
    down, across = (2 * place / side - 1 for place, side in zip(places_px, shape, strict=True))
    powers = [(row, col) for row in range(degree + 1) for col in range(degree + 1 - row)]
    return np.stack([down**row * across**col for row, col in powers], axis=-1)
