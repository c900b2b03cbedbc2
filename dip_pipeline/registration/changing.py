"""Sources that one exposure shows brighter or fainter than another: told by their light alone.

Light around a place is summed in sectors of a ring, and the sectors are compared one by one. What
counts is the middle of them: a cosmic ray or a trail lies in few, a star in all. What the sectors
of most stars have in common (clouds, seeing, trailed stars) is taken off before.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from dip_pipeline.registration.geometry import Geometry, Places
from dip_pipeline.registration.matching import StarMatch
from dip_pipeline.registration.seeing import Seen
from dip_pipeline.registration.stars import Image, Mask, bright_ones

_SECTORS = 6
_ANGLES = 4  # of a sector
_RADII = (0.25, 0.75, 1.25, 1.75, 2.25)  # of a star's width; the first is not of the ring
_STEP = 0.5
_MEDIAN_NOISE = 1.2533  # of a median, in that of a mean
_CLEAR_SNR = 30.0
_FEWEST_CLEAR = 5
_FEWEST_TO_TELL = 8  # of how unlike the sources of two exposures are
_LEAST_SCATTER = 0.01  # of a star's light: interpolation, flat field
_SIGNIFICANT = 6.0
_UNLIKE = 0.12  # of the squared light of what differs, that no star has
_MISFIT = 0.05  # of the light of a star, by which it differs from most
_MOST_SHARE = 0.3  # of the stars: it is not these that change


@dataclass(frozen=True, slots=True)
class Change:
    """A place where an exposure does not show the light that the reference does.

    row, col : of the reference; light : of the reference, its unit, or rather that of a ring around
        the place; more : of the exposure; sigma : how many standard errors that is
    """

    row: float
    col: float
    light: float
    more: float
    sigma: float


@dataclass(frozen=True, slots=True)
class _Rings:
    """Light in sectors, (places, sectors), and which places are seen whole, (places,).

    noise : of the sum of a ring's sectors by their median; spots : (places, spots), pixels read
        over ring and middle, each times the root of its area; spot_noise : of these
    """

    light: Image
    spots: Image
    whole: Mask
    noise: float
    spot_noise: float

    @property
    def total(self) -> Image:
        """Light of all sectors, (places,)."""
        total: Image = self.light.sum(axis=1)
        return total


@dataclass(frozen=True, slots=True)
class Compared:
    """What the stars of an exposure show otherwise than those of the reference.

    changes : sources that are brighter or fainter, the most significant first
    drawn_out : by how much the light around its stars goes up and down with the direction, in
        shares of that light: 0.01 by chance, 0.05 to 0.09 of a trail as long as stars are wide
    angle_deg : along which they are drawn out, on the reference; 0 along a row, 90 along a column
    unlike : scatter of the light of its bright sources against the reference's, in shares of it:
        0.01 to 0.05 of one scene, 0.1 to 0.5 of another filter; 0 where fewer than eight tell
    """

    changes: tuple[Change, ...] = ()
    drawn_out: float = 0.0
    angle_deg: float = 0.0
    unlike: float = 0.0


def compare_sources(
    exposure: Seen, reference: Seen, geometry: Geometry, match: StarMatch | None, flux_scale: float
) -> Compared:
    """Compare the light of all sources that either shows.

    flux_scale : see `Registered`. Nothing is told where fewer than five bright stars say what most
    of them do, and no changes where a good part of them differs.
    """
    if match is None:
        return Compared()
    width_px = max(reference.stars.width_px, exposure.stars.width_px * geometry.scale)
    alone = np.setdiff1d(np.flatnonzero(_bright(exposure)), match.own)
    own = reference.stars.places
    places = np.vstack([own, geometry.to_reference(exposure.stars.places[alone])])
    there = _rings(reference, places, width_px, Geometry())
    here = _rings(exposure, places, width_px, geometry)
    whole = there.whole & here.whole
    stars = _clear_ones(there, here, match.reference[whole[match.reference]])
    if len(stars) < _FEWEST_CLEAR:
        return Compared()
    common = np.median(here.light[stars] / there.light[stars], axis=0)
    drawn_out, angle_deg = _drawn_out(common)
    noise = np.hypot(there.noise, here.noise / flux_scale)
    apart = here.light / common - there.light
    more = _SECTORS * np.median(apart, axis=1)
    brighter = np.maximum((here.light / common).sum(axis=1), there.total)
    brighter = np.maximum(brighter, noise)
    clear = whole & (brighter > _CLEAR_SNR * noise)
    scatter = _robust((more / brighter)[clear])
    unlike = round(scatter, 3) if clear.sum() >= _FEWEST_TO_TELL else 0.0
    sigma = more / np.hypot(noise, max(_LEAST_SCATTER, scatter) * brighter)
    sigma = sigma / max(1.0, _robust(sigma[whole]))
    fainter = float(np.median(here.spots[stars].sum(axis=1) / there.spots[stars].sum(axis=1)))
    seen = _Spots.of(here.spots / fainter, stars, here.spot_noise / fainter)
    before = _Spots.of(there.spots, stars, there.spot_noise)
    starry = np.where(more > 0, seen.is_starry_beyond(before), before.is_starry_beyond(seen))
    found = np.flatnonzero(whole & starry & (np.abs(sigma) > _SIGNIFICANT))
    if np.sum(found < len(own)) > max(1.0, _MOST_SHARE * float(whole[: len(own)].sum())):
        return Compared((), drawn_out, angle_deg, unlike)
    order = found[np.argsort(-np.abs(sigma[found]), kind="stable")]
    facts = np.column_stack([places, there.total, more, sigma])[order]
    return Compared(tuple(Change(*row) for row in facts.tolist()), drawn_out, angle_deg, unlike)


def _drawn_out(common: Image) -> tuple[float, float]:
    """Second harmonic of the light of sectors over the reference's, and its direction, degrees."""
    angles = (np.arange(_SECTORS) + 0.5) * 2 * np.pi / _SECTORS
    wave = 2 * complex((np.log(common) * np.exp(2j * angles)).mean())
    return round(abs(wave), 3), round(float(np.degrees(np.angle(wave)) / 2) % 180.0)


@dataclass(frozen=True, slots=True)
class _Spots:
    """Light at spots around places, (places, spots), and what the exposure's stars have of theirs.

    heights : of the places, (places,), of a star with that profile; noise : of a spot
    """

    light: Image
    profile: Image
    heights: Image
    noise: float

    @classmethod
    def of(cls, light: Image, stars: NDArray[np.int64], noise: float) -> Self:
        """Take the profile from some of the places, which are stars."""
        bright = light[stars]
        profile = np.median(bright / bright.sum(axis=1, keepdims=True), axis=0)
        return cls(light, profile, light @ profile / (profile @ profile), noise)

    def is_starry_beyond(self, other: Self) -> Mask:
        """Whether what it has beyond another one looks like a star, (places,): no cosmic ray."""
        steady = np.maximum(other.heights, 0.0)
        beyond = self.heights - steady
        power = self.profile @ self.profile
        left = ((self.light - self.heights[:, None] * self.profile) ** 2).sum(axis=1) / power
        by_noise = len(self.profile) * self.noise**2 / power
        return np.asarray(left < _UNLIKE * beyond**2 + (_MISFIT * steady) ** 2 + 2 * by_noise)


def _bright(seen: Seen) -> Mask:
    return bright_ones(seen.stars, np.arange(len(seen.stars)))


def _rings(seen: Seen, places: Places, width_px: float, geometry: Geometry) -> _Rings:
    """Sum light around places of the reference, the width in its pixels."""
    angles = (np.arange(_SECTORS * _ANGLES) + 0.5) * 2 * np.pi / (_SECTORS * _ANGLES)
    radii = np.array(_RADII) * width_px
    offsets = radii[:, None, None] * np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    spots = (places[:, None, None, :] + offsets).reshape(-1, 2)
    at = geometry.to_exposure(spots).T
    shape = (len(places), len(radii), _SECTORS, _ANGLES)
    # Pixels of the exposure in that of a spot; all spots of a radius have as large a part.
    areas = 2 * np.pi * radii * _STEP * width_px / len(angles) / geometry.scale**2
    values = map_coordinates(seen.cleaned.light, at, order=1, mode="nearest").reshape(shape)
    usable = map_coordinates(seen.usable.astype(np.float64), at, order=1, cval=0.0)
    return _Rings(
        light=np.einsum("prsa,r->ps", values[:, 1:], areas[1:]),
        spots=(values * np.sqrt(areas)[:, None, None]).reshape(len(places), -1),
        whole=np.asarray(usable.reshape(len(places), -1).min(axis=1, initial=1.0) > 0.5),
        noise=_MEDIAN_NOISE * seen.cleaned.noise * float(np.sqrt(len(angles) * areas[1:].sum())),
        spot_noise=seen.cleaned.noise * float(np.sqrt(areas.mean())),
    )


def _clear_ones(there: _Rings, here: _Rings, known: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of some stars that stand out in both."""
    clear = np.ones(len(known), dtype=bool)
    for rings in (there, here):
        clear &= (rings.total[known] > _CLEAR_SNR * rings.noise) & (rings.light[known] > 0).all(
            axis=1
        )
    return known[clear]


def _robust(values: Image) -> float:
    return 1.4826 * float(np.median(np.abs(values))) if len(values) else 0.0
