"""Stars of two exposures matched, and the geometry that they give."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.registration.geometry import Geometry, Places, fit_shift, fit_similarity
from dip_pipeline.registration.stars import Stars

_CONTROL_STARS = 40
_REACH_PX = (4.0, 2.5, 2.5, 2.0)  # how far a partner may lie, round by round; at least 3 errors
_LEAST_PAIRS = 3
_PAIRS_FOR_A_TURN = 6
_SIGNIFICANT = 3.5  # standard errors by which a turn or a stretch must differ from none
_CLIP = 4.0
_MORE_THAN_CHANCE = 3.0  # standard deviations above the pairs that chance would give
_VOTERS = 60  # brightest stars of either list
_VOTE_PX = 2.0  # within which two pairs say the same; at least 3 errors of the usual star
_LEAST_VOTES = 4
_NOT_BY_CHANCE = 0.01  # probability of the votes that a geometry has as it is
_BY_CHANCE = 1e-4  # probability that so many pairs agree anywhere


@dataclass(frozen=True, slots=True)
class StarMatch:
    """Geometry from matched stars.

    own, reference : index of each pair's star in its list
    error_px : standard error of the shift along an axis, in the middle of the stars
    """

    geometry: Geometry
    own: NDArray[np.int64]
    reference: NDArray[np.int64]
    error_px: float


def match_unknown(stars: Stars, reference: Stars) -> StarMatch | None:
    """Match stars of which nothing is known: triangles of the brightest find the geometry.

    astroalign, Beroiz et al. 2020, Astronomy and Computing 32, 100384. None where too few agree.
    """
    import astroalign

    if min(len(stars), len(reference)) < _LEAST_PAIRS:
        return None
    try:
        found, _ = astroalign.find_transform(
            stars.places[:, ::-1], reference.places[:, ::-1], max_control_points=_CONTROL_STARS
        )
    except (astroalign.MaxIterError, ValueError, TypeError, np.linalg.LinAlgError):
        return None
    (a, b, col), (c, d, row), _ = np.asarray(found.params).tolist()
    return refine(stars, reference, Geometry(((d, c), (b, a)), (row, col)))


def moved_by_votes(stars: Stars, reference: Stars, known: Geometry) -> Geometry | None:
    """Move a geometry by the shift that most pairs of stars agree on, however far that is.

    None where no shift has more votes than chance would give, or the geometry as it is has: what
    stays on the detector, hot pixels above all, agrees on no shift at all. Turn and stretch are
    taken as known.
    """
    from scipy.spatial import KDTree
    from scipy.special import pdtrc

    if min(len(stars), len(reference)) < _LEAST_VOTES:
        return None
    there, aims = known.to_reference(stars.places[:_VOTERS]), reference.places[:_VOTERS]
    apart = (aims[None] - there[:, None]).reshape(-1, 2)
    usual_px = np.hypot(np.median(stars.errors_px), np.median(reference.errors_px))
    reach_px = max(_VOTE_PX, 3 * float(usual_px))
    tree = KDTree(apart)
    votes = tree.query_ball_point(apart, reach_px, return_length=True)
    most = int(votes.max())
    as_it_is = int(tree.query_ball_point(np.zeros(2), reach_px, return_length=True))
    area = float(np.prod(np.ptp(apart, axis=0)))
    expected = len(apart) * np.pi * reach_px**2 / max(area, 1.0)
    by_chance = len(apart) * float(pdtrc(most - 2, expected))  # the first vote is a given
    if most < max(_LEAST_VOTES, 2 * as_it_is) or by_chance > _BY_CHANCE:
        return None
    if as_it_is > 0 and float(pdtrc(as_it_is - 1, expected)) < _NOT_BY_CHANCE:
        return None  # stars are where they should be; what else agrees may be of the detector
    agreeing = apart[tree.query_ball_point(apart[int(votes.argmax())], reach_px)]
    row, col = np.median(agreeing, axis=0).tolist()
    return Geometry(shift_px=(row, col)).after(known)


def refine(
    stars: Stars, reference: Stars, start: Geometry, *, trusted: bool = False
) -> StarMatch | None:
    """Match each star with the nearest where a geometry puts it, and fit that anew.

    trusted : the turn, the stretch and the mirror of the start are known (celestial coordinates):
        another turn or stretch is taken where the stars tell it apart from these, else from none;
        else a shift is fitted
    None where no more pairs agree than by chance.
    """
    if min(len(stars), len(reference)) < _LEAST_PAIRS:
        return None
    geometry = start
    match: StarMatch | None = None
    for reach_px in _REACH_PX:
        pairs = _pairs(stars, reference, geometry, reach_px)
        if len(pairs) < _LEAST_PAIRS:
            return None
        pairs = _agreeing(stars, reference, pairs, geometry)
        match = _fitted(stars, reference, pairs, keep=start, trusted=trusted)
        geometry = match.geometry
    return match if match is not None and _beats_chance(stars, reference, match) else None


def _beats_chance(stars: Stars, reference: Stars, match: StarMatch) -> bool:
    """Whether more stars found a partner than would where two fields have nothing in common."""
    mapped = match.geometry.to_reference(stars.places)
    low, high = reference.places.min(axis=0), reference.places.max(axis=0)
    inside = int(((mapped >= low) & (mapped <= high)).all(axis=1).sum())
    density = len(reference) / max(float(np.prod(high - low)), 1.0)
    expected = inside * min(1.0, density * np.pi * _REACH_PX[-1] ** 2)
    pairs = len(match.own)
    return bool(pairs >= expected + _MORE_THAN_CHANCE * np.sqrt(expected + 1))


def _pairs(
    stars: Stars, reference: Stars, geometry: Geometry, reach_px: float
) -> NDArray[np.int64]:
    """Pairs (own, reference) that are each other's nearest, within reach."""
    from scipy.spatial import KDTree  # slow to load, and few commands need it

    mapped = geometry.to_reference(stars.places)
    there, back = KDTree(reference.places), KDTree(mapped)
    distance, nearest = there.query(mapped)
    _, returned = back.query(reference.places)
    own = np.arange(len(mapped))
    reach = np.maximum(reach_px, 3 * np.hypot(stars.errors_px, reference.errors_px[nearest]))
    good = (returned[nearest] == own) & (distance <= reach)
    return np.column_stack([own[good], nearest[good]]).astype(np.int64)


def _agreeing(
    stars: Stars, reference: Stars, pairs: NDArray[np.int64], geometry: Geometry
) -> NDArray[np.int64]:
    """Leave out pairs that lie far from what most say: a bright one of them would rule the fit."""
    apart = geometry.to_reference(stars.places[pairs[:, 0]]) - reference.places[pairs[:, 1]]
    errors = np.hypot(stars.errors_px[pairs[:, 0]], reference.errors_px[pairs[:, 1]])
    apart = np.abs(apart - np.median(apart, axis=0))
    scatter = 1.4826 * np.median(apart, axis=0)
    good = (apart <= _CLIP * np.maximum(scatter, errors[:, None])).all(axis=1)
    return pairs[good] if good.sum() >= _LEAST_PAIRS else pairs


def _fitted(
    stars: Stars,
    reference: Stars,
    pairs: NDArray[np.int64],
    *,
    keep: Geometry,
    trusted: bool,
) -> StarMatch:
    """Fit the geometry to pairs, leaving out those that do not agree with the rest."""
    for _ in range(5):
        places, aims = stars.places[pairs[:, 0]], reference.places[pairs[:, 1]]
        errors = np.hypot(stars.errors_px[pairs[:, 0]], reference.errors_px[pairs[:, 1]])
        weights = 1 / errors**2
        geometry = (
            _corrected(places, aims, weights, keep)
            if trusted
            else _geometry(places, aims, weights, keep)
        )
        apart = (geometry.to_reference(places) - aims) / errors[:, None]
        widening = max(1.0, 1.4826 * float(np.median(np.abs(apart))))
        good = (np.abs(apart) <= _CLIP * widening).all(axis=1)
        if good.all() or good.sum() < _LEAST_PAIRS:
            break
        pairs = pairs[good]
    error = widening / float(np.sqrt(weights.sum()))
    return StarMatch(geometry, pairs[:, 0], pairs[:, 1], error)


def _corrected(
    places: Places, aims: Places, weights: NDArray[np.float64], known: Geometry
) -> Geometry:
    """Fit what is left between aims and where a geometry that is known puts the places."""
    there = known.to_reference(places)
    turned = _turned(there, aims, weights)
    return (fit_shift(there, aims, weights) if turned is None else turned).after(known)


def _geometry(
    places: Places, aims: Places, weights: NDArray[np.float64], keep: Geometry
) -> Geometry:
    """Fit a similarity where the stars tell it from a shift, else a shift after what is known."""
    if len(places) >= _PAIRS_FOR_A_TURN:
        turned = _turned(places, aims, weights)
        return fit_shift(places, aims, weights) if turned is None else turned
    if keep.is_shift or (abs(keep.scale - 1) < 0.002 and abs(keep.matrix[1][0]) < 0.002):
        return fit_shift(places, aims, weights)
    known = Geometry(keep.matrix)
    return fit_shift(known.to_reference(places), aims, weights).after(known)


def _turned(places: Places, aims: Places, weights: NDArray[np.float64]) -> Geometry | None:
    """Fit a similarity; None where a shift does as well."""
    if len(places) < _PAIRS_FOR_A_TURN:
        return None
    turned = fit_similarity(places, aims, weights)
    middle = np.average(places, axis=0, weights=weights)
    spread = float(np.sum(weights[:, None] * (places - middle) ** 2))
    apart = turned.to_reference(places) - aims
    widening = max(1.0, float(np.sqrt(np.mean(weights[:, None] * apart**2))))
    doubt = widening / np.sqrt(max(spread, 1e-12))
    (cosine, _), (sine, _) = turned.matrix
    return turned if max(abs(cosine - 1), abs(sine)) > _SIGNIFICANT * doubt else None
