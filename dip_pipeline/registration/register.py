"""Geometry and flux scale of one exposure relative to another, and how they were found."""

import logging
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.errors import ContradictionError, ExposureError
from dip_pipeline.registration.aligning import Aligned, align
from dip_pipeline.registration.brightness import (
    LEAST_FLUX_PAIRS,
    Wider,
    check_shown,
    find_flux_scale,
)
from dip_pipeline.registration.changing import Compared, compare_sources
from dip_pipeline.registration.correlating import shift_by_light
from dip_pipeline.registration.geometry import Geometry, Places
from dip_pipeline.registration.matching import StarMatch, match_unknown, moved_by_votes, refine
from dip_pipeline.registration.seeing import Seen
from dip_pipeline.registration.sharpness import wider_by_px2
from dip_pipeline.registration.star_rings import (
    Between,
    Mixture,
    StarRings,
    mixture_between,
    star_rings,
)
from dip_pipeline.registration.stars import FWHM_OF_SIGMA, measure_fwhm

log = logging.getLogger(__name__)

_SURE_PX = 0.1  # stars that fix the shift better than this are not outvoted by faint light
_SURE_STARS = 10  # of fewer, one cosmic ray taken for a star spoils the shift
_FEWEST_TO_CORRECT = 4  # stars, which must move it far
_FAR_PX = 0.5
_WRONG_PX = 1.0  # coordinates are warned of
_SEEN_SIGMA = 8.0  # of a correlation near a place that is looked for
_DOUBTFUL_PX = 0.3  # of a shift that was measured: stars come out wider, or are left out
_LEAST_TURN = 0.01  # of coordinates, that the correlation of light sees
_FEWEST_TO_MISS = 8  # sources that should be found again
_SCALE_TOLERANCE = 0.01
_LEAST_SHARED = 0.02  # of the exposure's pixels must lie on the reference


@dataclass(frozen=True, slots=True)
class Registered:
    """How an exposure compares with the reference.

    error_px : standard error of the shift, as stars or light tell it; NaN where these do not
    flux_scale : light of its pixels for one unit of light in those of the reference
    fwhm_px : of the stars that both have, in the sharper of the two, pixels of the reference; NaN
        where it cannot be told
    wider_px2 : by how much the variance of its stars is above the reference's, see `wider_by_px2`
    how, how_flux : in words
    compared : what its sources show otherwise than the reference's
    rings : light around its stars, for what lies between them and another exposure's; None where
        none were matched
    between : what lies between its stars and the reference's
    """

    geometry: Geometry
    error_px: float
    flux_scale: float
    fwhm_px: float
    wider_px2: float
    how: str
    how_flux: str
    compared: Compared = field(default_factory=Compared)
    rings: StarRings | None = None
    between: Between = field(default_factory=Between)

    @property
    def seeing_words(self) -> str:
        """Say by what Gaussian its stars are wider or narrower; "" where they are alike."""
        if self.wider_px2 == 0:
            return ""
        fwhm_px = FWHM_OF_SIGMA * abs(self.wider_px2) ** 0.5
        return f"; stars {'wider' if self.wider_px2 > 0 else 'narrower'} by FWHM {fwhm_px:.2f} px"


def register(
    exposure: Seen,
    reference: Seen,
    *,
    known: Geometry | None = None,
    by_cards: tuple[float, str] | None = None,
    summed: bool = True,
    any_optics: bool = False,
) -> Registered:
    """Register an exposure: by what its coordinates say, by stars, or by all its light.

    known : what the coordinates of both say; stars correct it where there are enough
    by_cards : what the cards say of all the light of the exposure for one unit of the
        reference's, and how; where their units count
    summed : pixels twice as large hold four times the light; else they show a brightness
    any_optics : take other pixel scales, and exposures that contradict each other, too
    Raises ExposureError where the two differ in scale, ContradictionError where nothing can be
    found, they do not overlap, or one hardly shows what the other one shows.
    """
    found = _found(exposure, reference, known)
    match, geometry = found.match, found.geometry.rounded()
    if abs(geometry.scale - 1) > _SCALE_TOLERANCE and not any_optics:
        raise ExposureError(
            f"{exposure.name}: its pixels are {geometry.scale:.3f} times as large as those of "
            f"{reference.name}; exposures of one scale are needed (--any-optics takes others)"
        )
    check_overlap(exposure, reference, geometry)
    _check_sure(exposure, reference, found, any_optics=any_optics)
    wider_px2 = wider_by_px2(exposure, reference, match, geometry.scale)
    rings = _rings_of(exposure, reference, match, geometry.scale)
    mixture, sharp = _mixture_of(reference, match, rings, wider_px2)
    flux_scale, how_flux = find_flux_scale(
        exposure,
        reference,
        match,
        geometry.scale,
        by_cards,
        summed=summed,
        wider=Wider(wider_px2, mixture, sharp),
    )
    if not any_optics and (match is None or len(match.own) < LEAST_FLUX_PAIRS):
        check_shown(exposure, reference, geometry, flux_scale)
    return Registered(
        geometry=geometry,
        error_px=found.error_px,
        flux_scale=flux_scale,
        fwhm_px=_fwhm_px(exposure, reference, match, geometry.scale),
        wider_px2=wider_px2,
        how=found.how,
        how_flux=how_flux,
        compared=compare_sources(exposure, reference, geometry, match, flux_scale),
        rings=rings,
        between=Between.of(mixture, wider_px2, geometry.scale),
    )


def _rings_of(
    exposure: Seen, reference: Seen, match: StarMatch | None, scale: float
) -> StarRings | None:
    if match is None:
        return None
    return star_rings(exposure, match.own, match.reference, reference.stars.width_px, scale)


def _mixture_of(
    reference: Seen, match: StarMatch | None, own: StarRings | None, wider_px2: float
) -> tuple[Mixture, StarRings | None]:
    """Find what lies between the sharper of two exposures and the other; and its stars."""
    if match is None or own is None or wider_px2 == 0:
        return (), None
    chosen = match.reference
    other = star_rings(reference, chosen, chosen, reference.stars.width_px, 1.0)
    sharp, broad = (other, own) if wider_px2 > 0 else (own, other)
    return mixture_between(sharp, broad), sharp


def check_overlap(exposure: Seen, reference: Seen, geometry: Geometry) -> None:
    """Raise ContradictionError for an exposure of another part of the sky."""
    shape = exposure.cleaned.light.shape
    rows, cols = (np.linspace(0, side - 1, 33) for side in shape)
    grid = np.stack(np.meshgrid(rows, cols, indexing="ij"), axis=-1).reshape(-1, 2)
    mapped = geometry.to_reference(grid)
    size = np.array(reference.cleaned.light.shape)
    shared = float(((mapped >= -0.5) & (mapped <= size - 0.5)).all(axis=1).mean())
    if shared < _LEAST_SHARED:
        raise ContradictionError(
            f"{exposure.name}: does not overlap with {reference.name} (of its pixels "
            f"{100 * shared:.0f} % lie on it); give exposures of the same sky"
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """A geometry, the stars that both show, and in words how it was found.

    error_px : see `Registered`; measured : whether it is of stars or light, not of coordinates
    """

    geometry: Geometry
    match: StarMatch | None
    error_px: float
    how: str
    measured: bool = True


def _check_sure(exposure: Seen, reference: Seen, found: _Found, *, any_optics: bool) -> None:
    """Warn of a shift that was measured badly; refuse one that may be off by a star's width."""
    if not found.measured or found.error_px <= _DOUBTFUL_PX:
        return
    fwhm_px = FWHM_OF_SIGMA * max(exposure.stars.width_px, reference.stars.width_px)
    known = f"to {found.error_px:.1f} px alone" if np.isfinite(found.error_px) else "roughly"
    words = (
        f"{exposure.name}: its place on {reference.name} is known {known} ({found.how}): what "
        "both show is too little, or runs along one line"
    )
    if found.error_px > fwhm_px and not any_optics:
        raise ContradictionError(
            f"{words}; leave it out, or give both celestial coordinates (--any-optics takes it "
            "all the same)"
        )
    log.warning("%s; where it is off its sources are left out, or come out wider", words)


def _found(exposure: Seen, reference: Seen, known: Geometry | None) -> _Found:
    """Find a first geometry, let stars refine it, and all light where it knows better."""
    if known is not None:
        return _by_coordinates(exposure, reference, known)
    start, how = _first(exposure, reference)
    match = refine(exposure.stars, reference.stars, start)
    geometry, error_px = (start, float("nan")) if match is None else _of(match)
    by = f"{0 if match is None else len(match.own)} stars"
    few = match is None or len(match.own) < _SURE_STARS
    aligned = _aligned(exposure, reference, geometry, match)
    if aligned is not None and (few or aligned.error_px < error_px):
        return _Found(aligned.geometry, match, aligned.error_px, f"{how}; refined by all light")
    if few:  # and faint: they know no better than what was begun with
        return _Found(start, match, error_px, how)
    return _Found(geometry, match, error_px, f"{how}; refined by {by}")


def _aligned(
    exposure: Seen, reference: Seen, start: Geometry, match: StarMatch | None
) -> Aligned | None:
    """Bring all light together; None where the stars that agree on a place lie elsewhere then."""
    width = max(exposure.stars.width_px, reference.stars.width_px)
    wider_px2 = wider_by_px2(exposure, reference, match, start.scale)
    aligned = align(exposure.cleaned, reference.cleaned, start, width, wider_px2)
    if aligned is None or match is None or len(match.own) < _FEWEST_TO_CORRECT:
        return aligned
    apart_px = _apart(aligned.geometry, match.geometry, exposure)
    return aligned if apart_px <= max(_FAR_PX, 8 * match.error_px) else None


def _by_coordinates(exposure: Seen, reference: Seen, known: Geometry) -> _Found:
    """Take what celestial coordinates say, unless stars contradict it; from there they alone lead.

    Where many stars agree a small difference counts, where a few do it must be a large one. Where
    these are too few, all light may say the same.
    """
    how = "celestial coordinates"
    stars, others = exposure.stars, reference.stars
    match = refine(stars, others, known, trusted=True)
    moved = moved_by_votes(stars, others, known)
    if moved is not None:
        match = refine(stars, others, moved, trusted=True) or match
    if match is None or len(match.own) < _FEWEST_TO_CORRECT:
        return _by_light(exposure, reference, known, match)
    geometry, error_px = _of(match)
    moved_px = _apart(geometry, known, exposure)
    pairs = len(match.own)
    sure = pairs >= _SURE_STARS and error_px <= _SURE_PX
    limit_px = max(_SURE_PX, 4 * error_px) if sure else max(_FAR_PX, 8 * error_px)
    if moved_px <= limit_px and not sure:
        return _by_light(exposure, reference, known, match)
    if moved_px <= limit_px:
        return _Found(known, match, error_px, how, measured=False)
    _warn_of_coordinates(exposure, reference, moved_px, f"{pairs} stars")
    return _Found(geometry, match, error_px, f"{how}, moved {moved_px:.2f} px by {pairs} stars")


def _by_light(exposure: Seen, reference: Seen, known: Geometry, match: StarMatch | None) -> _Found:
    """Take what celestial coordinates say where stars are too few, unless all light is elsewhere.

    Only nearby is looked; farther off light is warned of alone.
    """
    how = "celestial coordinates"
    unsure = f"{how}, which nothing confirms"
    aligned = _aligned(exposure, reference, known, match)
    if aligned is not None and aligned.error_px <= _SURE_PX:
        moved_px = _apart(aligned.geometry, known, exposure)
        if moved_px <= max(_FAR_PX, 8 * aligned.error_px):
            return _Found(known, match, aligned.error_px, how, measured=False)
        if not _correlates(exposure, reference, aligned.geometry):
            return _Found(known, match, float("nan"), unsure, measured=False)
        _warn_of_coordinates(exposure, reference, moved_px, "all its light")
        how = f"{how}, moved {moved_px:.2f} px by all light"
        return _Found(aligned.geometry, match, aligned.error_px, how)
    if match is None:
        _warn_where_not_found(exposure, reference, known)
        return _Found(known, match, float("nan"), unsure, measured=False)
    few = len(match.own) < _FEWEST_TO_CORRECT
    return _Found(known, match, match.error_px, unsure if few else how, measured=False)


def _correlates(exposure: Seen, reference: Seen, geometry: Geometry) -> bool:
    """Whether the correlation of all light says the same, which no start leads astray."""
    if np.abs(np.asarray(geometry.matrix) - np.eye(2)).max() >= _LEAST_TURN:
        return False
    width = max(exposure.stars.width_px, reference.stars.width_px)
    near = (geometry.shift_px, 4 * max(width, _FAR_PX))
    light = shift_by_light(reference.cleaned, exposure.cleaned, width, near)
    apart_px = float(np.hypot(*np.subtract(light.shift_px, geometry.shift_px)))
    return light.significance >= _SEEN_SIGMA and apart_px < _FAR_PX


def _warn_of_coordinates(exposure: Seen, reference: Seen, moved_px: float, by: str) -> None:
    if moved_px > _WRONG_PX:
        log.warning(
            "%s: its celestial coordinates are off by %.1f px against those of %s, by %s: taken "
            "from there",
            *(exposure.name, moved_px, reference.name, by),
        )


def _warn_where_not_found(exposure: Seen, reference: Seen, known: Geometry) -> None:
    """Say that what an exposure shows is not where its coordinates put it, where that can be told.

    By its light, if that is neither turned nor stretched, else by its sources.
    """
    if np.abs(np.asarray(known.matrix) - np.eye(2)).max() < _LEAST_TURN:
        width = max(exposure.stars.width_px, reference.stars.width_px)
        light = shift_by_light(reference.cleaned, exposure.cleaned, width)
        apart_px = float(np.hypot(*np.subtract(light.shift_px, known.shift_px)))
        if light.believable and apart_px > max(_WRONG_PX, 2 * width):
            log.warning(
                "%s: its light lies %.1f px from where celestial coordinates put it against %s, "
                "and its stars are too few to tell: look whether these coordinates are right",
                *(exposure.name, apart_px, reference.name),
            )
            return
    shared = [
        int(_within(places, other.cleaned.light.shape).sum())
        for places, other in (
            (known.to_reference(exposure.stars.places), reference),
            (known.to_exposure(reference.stars.places), exposure),
        )
    ]
    if min(shared) >= _FEWEST_TO_MISS:
        log.warning(
            "%s: its %d sources and the %d of %s are not where the celestial coordinates of both "
            "put them: clouds, stars out of focus, cosmic rays, or coordinates that are off",
            *(exposure.name, *shared, reference.name),
        )


def _within(places: Places, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which places lie on a frame, (n,)."""
    return np.asarray(((places >= 0) & (places <= np.array(shape) - 1)).all(axis=1))


def _of(match: StarMatch) -> tuple[Geometry, float]:
    return match.geometry, match.error_px


def _first(exposure: Seen, reference: Seen) -> tuple[Geometry, str]:
    """Find a geometry of which nothing is known: by stars, or what shift brings light together."""
    match = match_unknown(exposure.stars, reference.stars)
    if match is not None:
        return match.geometry, f"{len(match.own)} stars"
    width = max(exposure.stars.width_px, reference.stars.width_px)
    light = shift_by_light(reference.cleaned, exposure.cleaned, width)
    if light.believable:
        words = f"correlation of all light ({light.significance:.0f} sigma)"
        return Geometry(shift_px=light.shift_px), words
    raise ContradictionError(
        f"{exposure.name}: could not be registered to {reference.name}: no celestial coordinates "
        f"in both, {len(exposure.stars)} and {len(reference.stars)} stars that do not match, and "
        f"a correlation of {light.significance:.1f} sigma; leave it out, or give both a WCS"
    )


def _fwhm_px(exposure: Seen, reference: Seen, match: StarMatch | None, pixel_scale: float) -> float:
    """Width of the stars of the sharper exposure; a cosmic ray is in one only, and no star.

    pixel_scale : pixels of the reference, in which the width is given, along one of the exposure's
    """
    if match is None:
        return float("nan")
    widths = (
        measure_fwhm(exposure.cleaned, exposure.stars, match.own) * pixel_scale,
        measure_fwhm(reference.cleaned, reference.stars, match.reference),
    )
    return float(np.fmin(*widths))


def _apart(first: Geometry, second: Geometry, exposure: Seen) -> float:
    """Largest distance between two geometries over an exposure, pixels."""
    rows, cols = exposure.cleaned.light.shape
    corners = np.array([[0, 0], [0, cols - 1], [rows - 1, 0], [rows - 1, cols - 1]], dtype=float)
    apart = first.to_reference(corners) - second.to_reference(corners)
    return float(np.hypot(*apart.T).max())
