"""The header of an image whose every pixel is cut into factor x factor finer ones."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from dip_pipeline.frames.finer_cards import finer_place, finer_rule, finer_value, is_lookup
from dip_pipeline.frames.fits_cards import format_card, parse_cards
from dip_pipeline.frames.frame import Card

# Cards that say that there are world coordinates, whose letter is that of an alternate or none.
_WCS_CARD = re.compile(r"(?:C(?:TYPE|RVAL|RPIX|DELT)[12]|(?:CD|PC)[12]_[12])(?P<letter>[A-Z]?)")
_PC_CARD = re.compile(r"PC\d+_(?P<axis>\d+)(?P<letter>[A-Z]?)")
_CDELT_CARD = re.compile(r"CDELT[12](?P<letter>[A-Z]?)")
_POLYNOMIALS = ("TPV", "TNX", "ZPX")  # projections with a polynomial between matrix and sphere
_SKIPPED = ("", "COMMENT", "HISTORY", "CONTINUE", "END")


class Grid(Protocol):
    """Another grid for the same image: how many of its pixels are one, and what is in them."""

    @property
    def factor(self) -> float:
        """Pixels for one, along each axis; below 1 they are wider."""

    @property
    def per_pixel(self) -> bool:
        """Whether a pixel holds a flux that is shared among those of the grid."""


@dataclass(frozen=True, slots=True)
class FinerGrid:
    """How fine pixels are cut, and what is in them.

    factor : finer pixels for one, along each axis
    per_pixel : a pixel holds a flux that is shared among the finer ones; else a brightness
    """

    factor: int
    per_pixel: bool

    @property
    def share(self) -> float:
        """What a finer pixel has of the number in its pixel, if the light is even."""
        return 1 / self.factor**2 if self.per_pixel else 1.0


def finer_cards(
    cards: Sequence[Card], grid: Grid, primary: Sequence[Card] = ()
) -> tuple[Card, ...]:
    """Cards of a science header on the finer grid; cards of lookup distortions are left out.

    primary : cards of the primary header, where the science is an extension: what is true of its
        pixels and stands there alone is said anew
    """
    letters = _with_polynomial(cards)
    kept = (_finer(card, grid, letters) for card in cards if not is_lookup(card[0], card[1]))
    return (*kept, *_added(cards, grid, primary))


def finer_raw_cards(
    raw_cards: Sequence[bytes], grid: FinerGrid, primary: Sequence[Card] = ()
) -> list[bytes]:
    """Do as `finer_cards` with raw cards; one whose value stays is copied byte for byte."""
    groups = list(_with_continuations(raw_cards))
    cards = [parse_cards(group)[0] for group in groups]
    letters = _with_polynomial(cards)
    made: list[bytes] = []
    for card, group in zip(cards, groups, strict=True):
        if not is_lookup(card[0], card[1]):
            finer = _finer(card, grid, letters)
            made += group if finer == card else format_card(*finer)
    for card in _added(cards, grid, primary):
        made += format_card(*card)
    return made


def lookup_keywords(cards: Iterable[Card]) -> tuple[str, ...]:
    """Keywords of the cards of lookup distortions, each once."""
    return tuple(dict.fromkeys(card[0] for card in cards if is_lookup(card[0], card[1])))


def _with_polynomial(cards: Sequence[Card]) -> frozenset[str]:
    """Letters of world coordinates in PC form whose projection has a polynomial.

    By the convention its argument is in degrees, after CDELT; wcslib takes it before CDELT. Both
    agree where the matrix takes the factor and CDELT stays.
    """
    present = {card[0] for card in cards}
    return frozenset(
        keyword[6:]
        for keyword, value, _ in cards
        if keyword.startswith("CTYPE1")
        and str(value).strip().endswith(_POLYNOMIALS)
        and any(f"PC{i}_{j}{keyword[6:]}" in present for i in (1, 2) for j in (1, 2))
    )


def _finer(card: Card, grid: Grid, letters: frozenset[str] = frozenset()) -> Card:
    """Card on the finer grid; letters : of coordinates whose PC matrix takes the factor."""
    keyword, value, comment = card
    if keyword in _SKIPPED:
        return card
    matrix, step = _PC_CARD.fullmatch(keyword), _CDELT_CARD.fullmatch(keyword)
    if step is not None and step["letter"] in letters:
        return card
    if matrix is not None and matrix["letter"] in letters:
        by = grid.factor if matrix["axis"] in ("1", "2") else 1
        return keyword, value / by if isinstance(value, int | float) else value, comment
    return keyword, finer_value(keyword, value, grid.factor, per_pixel=grid.per_pixel), comment


def _with_continuations(raw_cards: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Raw cards, each with the CONTINUE cards of its text."""
    group: list[bytes] = []
    for raw in raw_cards:
        if raw[:8] == b"CONTINUE" and group:
            group.append(raw)
            continue
        if group:
            yield group
        group = [raw]
    if group:
        yield group


def _added(cards: Sequence[Card], grid: Grid, primary: Sequence[Card]) -> Iterator[Card]:
    """Cards whose default would say something else now, and what was inherited."""
    present = {card[0] for card in cards}
    letters = _with_polynomial(cards)
    if {card[0]: card[1] for card in cards}.get("INHERIT") is False:
        primary = ()
    yield from _defaults_told(present, grid, letters)
    yield from _physical_defaults(present | {card[0] for card in primary}, grid.factor)
    for letter in sorted(letters):
        for axis in (1, 2):
            if f"PC{axis}_{axis}{letter}" not in present:
                yield f"PC{axis}_{axis}{letter}", 1 / grid.factor, "of a finer pixel"
    told = set(present)
    for card in primary:
        rule = finer_rule(card[0])
        if rule is None or not rule.inherited or card[0] in told:
            continue
        told.add(card[0])
        finer = _finer(card, grid)
        if finer != card:
            yield finer


def _defaults_told(present: set[str], grid: Grid, letters: frozenset[str]) -> Iterator[Card]:
    """Say what a header leaves to its defaults: CRPIX = 0, CDELT = 1.

    Where there are CD cards a missing one is 0, and CDELT means nothing; Greisen & Calabretta
    2002, A&A 395, 1061.
    """
    found = (_WCS_CARD.fullmatch(keyword) for keyword in present)
    for letter in sorted({match["letter"] for match in found if match is not None}):
        with_cd = any(re.fullmatch(rf"CD\d+_\d+{letter}", keyword) for keyword in present)
        for axis in (1, 2):
            if f"CRPIX{axis}{letter}" not in present:
                yield f"CRPIX{axis}{letter}", finer_place(0.0, grid.factor), "reference pixel"
            if f"CDELT{axis}{letter}" not in present and not (with_cd or letter in letters):
                yield f"CDELT{axis}{letter}", 1 / grid.factor, "of a finer pixel"


def _physical_defaults(present: set[str], factor: float) -> Iterator[Card]:
    """Say the same of physical pixels, where any card speaks of them: LTV = 0, LTM = 1."""
    if not present & {"LTV1", "LTV2", "LTM1_1", "LTM2_2"}:
        return
    for axis in (1, 2):
        if f"LTV{axis}" not in present:
            yield f"LTV{axis}", finer_place(0.0, factor), "origin of the physical pixels"
        if f"LTM{axis}_{axis}" not in present:
            yield f"LTM{axis}_{axis}", float(factor), "pixels for one physical pixel"
