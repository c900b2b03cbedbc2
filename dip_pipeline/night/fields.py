"""Fields of a night: which frames look at one part of the sky."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.errors import DipError
from dip_pipeline.frames import (
    Card,
    calibration_kind,
    middle_on_sky,
    pointing_by_cards,
    side_by_cards_arcsec,
)

# Dithers of a telescope, its errors, and a quarter of a century of precession.
_ROUGHLY_DEG = 0.5


class Pointing(NamedTuple):
    """Where a frame looks; reach_deg : how far off another one still shows that field.

    is_rough : told by cards of the telescope, not by world coordinates
    may_be_hours : of a rough one, whether its longitude is a bare number of a unit that nothing
        tells: where it is hours the frame looks at 15 times that longitude
    """

    longitude_deg: float
    latitude_deg: float
    reach_deg: float
    is_rough: bool = False
    may_be_hours: bool = False


def pointing_of(
    image: Sequence[Card],
    cards: Mapping[str, Any],
    shape: tuple[int, ...],
    comments: Mapping[str, str] | None = None,
) -> Pointing | None:
    """Where on the sky a frame looks that does not say it in a word: half a frame is its reach.

    comments : of the cards, by their keywords
    By the world coordinates of its image, or else by cards of the telescope. None for calibration.
    """
    if str(cards.get("OBJECT") or "").strip() or calibration_kind(cards):
        return None
    rows, cols = shape
    try:
        middle = middle_on_sky(image, (rows, cols))
    except (DipError, OSError, LookupError, TypeError, ValueError):
        middle = None
    if middle is not None:
        return Pointing(*middle)
    told = pointing_by_cards(cards, comments)
    if told is None:
        return None
    half_deg = min(rows, cols) / 2 * (side_by_cards_arcsec(cards) or 0.0) / 3600
    return Pointing(
        told.longitude_deg,
        told.latitude_deg,
        max(_ROUGHLY_DEG, half_deg),
        is_rough=True,
        may_be_hours=told.may_be_hours,
    )


def fields_of(pointings: Sequence[Pointing | None]) -> list[list[int]]:
    """Part frames, by their numbers, into chains of neighbours on the sky.

    Two are neighbours that are no farther apart than the farther reach. Rough pointings chain no
    fields together that world coordinates tell apart: each is of the nearest one within reach.
    Frames that do not say where they look belong to the field if there is one only, else together.
    """
    pointings = _in_degrees(pointings)
    said = [(number, each) for number, each in enumerate(pointings) if each is not None]
    exact = [number for number, each in said if not each.is_rough]
    rough = [number for number, each in said if each.is_rough]
    sky = _Sky([each or Pointing(0.0, 0.0, 0.0) for each in pointings])
    fields = sky.chains(exact)
    home = {member: field for field in fields for member in field}
    apart = []
    for number in rough:
        nearest = sky.nearest(number, exact)
        if nearest is None:
            apart.append(number)
        else:
            home[nearest].append(number)
    fields += sky.chains(apart)
    lost = [number for number, each in enumerate(pointings) if each is None]
    if len(fields) <= 1:
        return [list(range(len(pointings)))] if pointings else []
    ordered = sorted((sorted(field) for field in fields), key=lambda field: field[0])
    return [*ordered, lost] if lost else ordered


def _in_degrees(pointings: Sequence[Pointing | None]) -> list[Pointing | None]:
    """Take bare numbers for hours where as hours more of them are near frames of known places.

    One camera writes one unit: a number that is too large for hours tells that of all. Where
    nothing tells it they are degrees: fields are then compared with each other that lie, as hours,
    further apart than they seem, as they were if no card said anything; none is parted by it.
    """
    open_ones = [each for each in pointings if each is not None and each.may_be_hours]
    known = [each for each in pointings if each is not None and not each.may_be_hours]
    if not known or not open_ones or any(each.longitude_deg > 24 for each in open_ones):
        return list(pointings)
    as_hours = [_hours(each) for each in open_ones]
    if _near(as_hours, known) <= _near(open_ones, known):
        return list(pointings)
    return [_hours(each) if each and each.may_be_hours else each for each in pointings]


def _hours(pointing: Pointing) -> Pointing:
    return pointing._replace(longitude_deg=(15 * pointing.longitude_deg) % 360)


def _near(some: Sequence[Pointing], known: Sequence[Pointing]) -> int:
    """Count those within reach of a known place."""
    sky = _Sky([*known, *some])
    places = range(len(known))
    return sum(
        sky.nearest(number, places) is not None
        for number in range(len(known), len(known) + len(some))
    )


class _Sky:
    """Places on the sky as unit vectors: a chord says how far two are apart."""

    def __init__(self, pointings: Sequence[Pointing]) -> None:
        longitude, latitude, reach = np.radians([each[:3] for each in pointings]).T.reshape(3, -1)
        flat = np.cos(latitude)
        self._places = np.stack(
            [flat * np.cos(longitude), flat * np.sin(longitude), np.sin(latitude)], axis=1
        )
        self._reach = 2 * np.sin(np.minimum(reach, np.pi) / 2)

    def chains(self, numbers: Sequence[int]) -> list[list[int]]:
        """Part some of them into chains of neighbours, in the order of the first of each."""
        waiting = np.array(numbers, dtype=int)
        fields = []
        while waiting.size:
            field = [int(waiting[0])]
            waiting = waiting[1:]
            for member in field:  # grows while its neighbours are found
                near = self._apart(member, waiting) <= self._farther(member, waiting)
                field += waiting[near].tolist()
                waiting = waiting[~near]
            fields.append(field)
        return fields

    def nearest(self, number: int, others: Sequence[int]) -> int | None:
        """Nearest of others within reach; None where there is none."""
        if not others:
            return None
        chosen = np.array(others, dtype=int)
        apart = self._apart(number, chosen)
        first = int(np.argmin(apart))
        return others[first] if apart[first] <= self._farther(number, chosen)[first] else None

    def _apart(self, number: int, others: NDArray[np.int_]) -> NDArray[np.float64]:
        apart: NDArray[np.float64] = np.linalg.norm(
            self._places[others] - self._places[number], axis=1
        )
        return apart

    def _farther(self, number: int, others: NDArray[np.int_]) -> NDArray[np.float64]:
        farther: NDArray[np.float64] = np.maximum(self._reach[others], self._reach[number])
        return farther
