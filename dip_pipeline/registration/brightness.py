"""How bright one exposure is beside another, and whether both show the same sky."""

from dataclasses import dataclass

import numpy as np
import sep
from numpy.typing import NDArray

from dip_pipeline.errors import ContradictionError
from dip_pipeline.registration.geometry import Geometry, Places
from dip_pipeline.registration.matching import StarMatch
from dip_pipeline.registration.seeing import Seen
from dip_pipeline.registration.star_rings import Mixture, StarRings, light_kept
from dip_pipeline.registration.stars import are_whole

LEAST_FLUX_PAIRS = 5
_APERTURE_WIDTHS = 3.0
_WING_WIDTHS = 5.0
_SURE_FLUX = 0.05  # relative standard error of a flux scale that is used
_SIGNIFICANT_FLUX = 3.0  # standard errors by which stars must differ from the cards
_FAR_APART = 0.4  # ln: clouds, whose few stars need not be as sure
_SURE_OF_CLOUDS = 0.15
_CLEAR_SNR = 10.0  # of a source that both must show
_SHOWN_SHARE = 0.3  # of the light that is expected, to say that it is there
_FEWEST_CLEAR = 8
_COVERED = 0.9  # of an aperture that may be judged
_LEAST_SHOWN, _FEWEST_SHOWN = 0.2, 5  # of the sources that are clear


def check_shown(exposure: Seen, reference: Seen, geometry: Geometry, flux_scale: float) -> None:
    """Raise ContradictionError where one of two exposures hardly shows what the other one shows.

    As under clouds: of two exposures the fainter pixel is believed, so that one without any star
    would take all of them away.
    """
    there, back = (
        geometry.to_exposure(reference.stars.places),
        geometry.to_reference(exposure.stars.places),
    )
    pairs = (
        (reference, exposure, there, flux_scale, "leave it out"),
        (exposure, reference, back, 1 / flux_scale, "give another exposure first"),
    )
    for bright, other, places, scale, what in pairs:
        shown, clear = _shown(bright, other, places, scale)
        if clear >= _FEWEST_CLEAR and shown < min(_LEAST_SHOWN * clear, _FEWEST_SHOWN):
            raise ContradictionError(
                f"{other.name}: shows {shown} of {clear} sources that are clear in {bright.name}: "
                f"clouds, coordinates that are off, or cosmic rays in {bright.name} (which "
                f"--find-cosmics finds); {what} (--any-optics takes it all the same)"
            )


def _shown(bright: Seen, other: Seen, places: Places, scale: float) -> tuple[int, int]:
    """How many of the sources of one exposure another one shows, of how many that it must show.

    places : of the sources, in the other exposure; scale : light there for one unit of light here
    """
    if not len(places):
        return 0, 0
    radius = _APERTURE_WIDTHS * max(bright.stars.width_px, other.stars.width_px)
    inside = (places >= radius) & (places <= np.array(other.cleaned.light.shape) - 1 - radius)
    kept = inside.all(axis=1)
    here, doubt = _fluxes(bright, bright.stars.places[kept], radius)
    there, other_doubt = _fluxes(other, places[kept], radius)
    covered = _usable_share(other, places[kept], radius) > _COVERED
    expected = here * scale
    clear = covered & (here > _CLEAR_SNR * doubt) & (expected > _CLEAR_SNR * other_doubt)
    return int((clear & (there > _SHOWN_SHARE * expected)).sum()), int(clear.sum())


def _usable_share(seen: Seen, places: Places, radius: float) -> NDArray[np.float64]:
    """Share of usable pixels within apertures."""
    usable, _, _ = sep.sum_circle(seen.usable.astype(np.float64), *places.T[::-1].copy(), radius)
    share: NDArray[np.float64] = usable / (np.pi * radius**2)
    return share


@dataclass(frozen=True, slots=True)
class Wider:
    """How the stars of an exposure are wider than the reference's.

    px2 : see `wider_by_px2`; mixture : Gaussians between the sharper of the two and the other
    sharp : stars of the sharper one
    """

    px2: float = 0.0
    mixture: Mixture = ()
    sharp: StarRings | None = None

    def kept(self, radius_px: float) -> float:
        """Light of an aperture of the exposure for that of the reference, the sky as clear."""
        if self.sharp is None:
            return 1.0
        kept = light_kept(self.mixture, self.sharp, radius_px)
        return kept if self.px2 > 0 else 1 / kept


_ALIKE = Wider()


def find_flux_scale(  # noqa: PLR0913  (two are by name alone)
    exposure: Seen,
    reference: Seen,
    match: StarMatch | None,
    size: float,
    by_cards: tuple[float, str] | None,
    *,
    summed: bool,
    wider: Wider = _ALIKE,
) -> tuple[float, str]:
    """Light of the exposure's pixels for one unit in the reference's: by stars, else by cards.

    size : of the exposure's pixels, in those of the reference; by_cards, summed : see `register`
    wider : its stars than the reference's; an aperture holds less of a wider star's light
    Stars outrank the cards only where they tell the two apart: a few faint ones are off by some
    percent, and an exposure is seldom.
    """
    told, cards = (1.0, "taken as equal") if by_cards is None else by_cards
    told *= size**2 if summed else 1.0
    if match is not None and len(match.own) >= LEAST_FLUX_PAIRS:
        scale, error = _star_ratio(exposure, reference, match, size, wider)
        scale *= size**2
        words = f"{len(match.own)} stars (+- {100 * error:.1f} %)"
        apart = abs(float(np.log(scale / told)))
        sure = error <= _SURE_FLUX or (apart > _FAR_APART and error <= _SURE_OF_CLOUDS)
        if apart > _SIGNIFICANT_FLUX * error and sure:
            return scale, words
        if error <= _SURE_FLUX:
            return told, f"{cards}, as {words} confirm"
    return told, f"{cards}: too few stars to tell"


def _star_ratio(
    exposure: Seen, reference: Seen, match: StarMatch, size: float, wider: Wider
) -> tuple[float, float]:
    """Ratio of sums over pixels, and its relative error: of stars with their wings.

    A star a fiftieth wider, which nothing tells apart, has 2 % less light near its middle, and half
    as much less with its wings. Faint stars that these leave unsure are compared without.
    """
    width_px = max(exposure.stars.width_px * size, reference.stars.width_px)
    if wider.px2 != 0:
        radius = _WING_WIDTHS * (width_px**2 + abs(wider.px2)) ** 0.5
        return _ratio_within(radius, exposure, reference, match, size, wider)
    scale, error = _ratio_within(_WING_WIDTHS * width_px, exposure, reference, match, size)
    if error <= _SURE_FLUX:
        return scale, error
    return _ratio_within(_APERTURE_WIDTHS * width_px, exposure, reference, match, size)


def _ratio_within(
    radius: float,
    exposure: Seen,
    reference: Seen,
    match: StarMatch,
    size: float,
    wider: Wider = _ALIKE,
) -> tuple[float, float]:
    """Weighted median of the ratio of sums over pixels, and its relative error.

    radius : of the apertures, pixels of the reference; they are as wide on the sky. What a wider
    star has outside of them is reckoned by what lies between the stars of both.
    """
    kept = wider.kept(radius)
    (own, doubt), (other, other_doubt) = (
        _fluxes(seen, seen.stars.places[index], wide)
        for seen, index, wide in (
            (exposure, match.own, radius / size),
            (reference, match.reference, radius),
        )
    )
    good = (own > 3 * doubt) & (other > 3 * other_doubt)
    for seen, index in ((exposure, match.own), (reference, match.reference)):
        good &= are_whole(seen.cleaned, seen.stars.places[index], seen.stars.width_px)
    if good.sum() < LEAST_FLUX_PAIRS:
        return 1.0, float("inf")
    ratios = np.log(own[good] / other[good])
    errors = np.hypot(doubt[good] / own[good], other_doubt[good] / other[good])
    # No star weighs more than its PSF and flat field allow.
    weights = 1 / (errors**2 + 0.02**2)
    order = np.argsort(ratios)
    place = np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)
    middle = float(ratios[order][place])
    scatter = 1.4826 * float(np.median(np.abs(ratios - middle)))
    error = 1.25 * max(scatter / np.sqrt(len(ratios)), float(1 / np.sqrt(weights.sum())))
    return float(np.exp(middle)) / kept, error


def _fluxes(
    seen: Seen, places: NDArray[np.float64], radius: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    fluxes, errors, _ = sep.sum_circle(
        np.ascontiguousarray(seen.cleaned.light),
        places[:, 1],
        places[:, 0],
        radius,
        err=seen.cleaned.noise,
    )
    return fluxes, errors
