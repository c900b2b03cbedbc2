"""Cards of one of the four images in a raw colour mosaic.

Its pixels are two of the mosaic's wide along each axis, from the middle of one to that of the next,
so that its header is that of a grid half as fine, moved by its place in the pattern.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dip_pipeline.frames.finer_cards import SIDE_RULE, finer_rule
from dip_pipeline.frames.finer_header import finer_cards
from dip_pipeline.frames.frame import Card
from dip_pipeline.frames.world_cards import is_world

_PLACE = re.compile(r"(CRPIX|LTV)(?P<axis>[12])[A-Z]?")


@dataclass(frozen=True, slots=True)
class _HalfAsFine:
    factor: float = 0.5
    per_pixel: bool = False  # it holds the light of its own pixel, not of four


def cards_of_filter(
    cards: Sequence[Card], place: tuple[int, int], left_out: Sequence[str]
) -> tuple[Card, ...]:
    """Cards that are true of an image: those of the sky told anew, and none that counts pixels.

    cards : of the mosaic; place : row and column of the filter in the pattern
    left_out : keywords of cards that are of the whole mosaic
    """
    own = [c for c in cards if c[0] not in left_out and (_is_sky(c[0]) or not _counts_pixels(c[0]))]
    return tuple(_moved(card, place) for card in finer_cards(own, _HalfAsFine()))


def header_of_filter(
    header: Mapping[str, object], place: tuple[int, int], left_out: Sequence[str]
) -> dict[str, object]:
    """Do as `cards_of_filter` with what is read by keyword."""
    cards = [(keyword, value, "") for keyword, value in header.items()]
    return {keyword: value for keyword, value, _ in cards_of_filter(cards, place, left_out)}


def _is_sky(keyword: str) -> bool:
    """Whether a card says where pixels lie on the sky, or how wide they are."""
    return is_world(keyword) or finer_rule(keyword) is SIDE_RULE


def _counts_pixels(keyword: str) -> bool:
    rule = finer_rule(keyword)
    return rule is not None and not rule.per_pixel


def _moved(card: Card, place: tuple[int, int]) -> Card:
    """Move a place on the grid half as fine to that of the filter's own pixels.

    Coordinate p of the mosaic is (p - 0.5) / 2 + 0.5 on a grid of pixels that hold four each, and
    (p - place + 1) / 2 among the pixels behind one filter.
    """
    keyword, value, comment = card
    found = _PLACE.fullmatch(keyword)
    if found is None or isinstance(value, bool) or not isinstance(value, int | float):
        return card
    row, col = place
    return keyword, value + 0.25 - (col if found["axis"] == "1" else row) / 2, comment
