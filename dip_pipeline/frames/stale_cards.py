"""Cards of the input that are not true of the restored pixels: which, and why.

A dropped card has nothing left to say. A moved one was true of the input: its value is kept in the
provenance document, and a COMMENT in the science header names it. Everything else stays.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from dip_pipeline.frames.fits_cards import (
    format_card,
    name_of,
    parse_cards,
    without,
)
from dip_pipeline.frames.frame import Card

_COMMENT = "Moved to DIP_PROV, not true of restored pixels:"


@dataclass(frozen=True, slots=True)
class StaleRule:
    """What becomes of the cards whose whole keyword the pattern matches."""

    pattern: str
    action: Literal["moved", "dropped"]
    reason: str


STALE_RULES = (
    StaleRule(
        "BSCALE|BZERO|BLANK", "dropped", "scaling of integers; restored pixels are plain floats"
    ),
    StaleRule("CHECKSUM|DATASUM", "dropped", "sum of the old bytes; written anew"),
    StaleRule(
        "SEEING|((PSF|AV|AVG|MED|MEAN|IQ|L1)_?)?FWHM|FWHM_?(PIX|PX|ARC|AS|AV|AVG|MED|MEAN|X|Y)|IMGQUAL",
        "moved",
        "width of stars measured on the input; restoring changes it",
    ),
    StaleRule(
        "ELLIPTIC|ELLIPT[A-Z]*|(L1)?ELLIP|PSF_E[12]?|ELONGAT[A-Z]*",
        "moved",
        "shape of stars measured on the input",
    ),
    StaleRule(
        "MAGLIM[A-Z0-9]*|ABMAGLIM|LIMMAG[A-Z0-9]*|GALDEPTH|PSFDEPTH|PHOTDPTH",
        "moved",
        "depth for the noise of the input",
    ),
    StaleRule(
        "DATA(MIN|MAX|MEAN|MED|STD|RMS)|IRAF-M(IN|AX)|GOOD(MIN|MAX|MEAN)|MEANC[0-9]+|MEDIAN|"
        "CMEDIAN|STDDEV|IMMODE|L1(MEAN|MEDIAN)",
        "moved",
        "statistics of the input's pixels",
    ),
    StaleRule("SNR(MIN|MAX|MEAN)", "moved", "signal to noise of the input's pixels"),
    StaleRule(
        "SKY_?(SIG|SIGMA|RMS|STD|NOISE)|BKG_?(SIG|SIGMA|RMS|STD|NOISE)|BACKSIG|BACKRMS|NOISERMS|"
        "IMRMS|RMSNOISE|SKYVAR|L1SIGMA",
        "moved",
        "scatter of the input's sky, which restoring takes away",
    ),
)

_PATTERNS = [(re.compile(rule.pattern), rule) for rule in STALE_RULES]


def rule_of(keyword: str) -> StaleRule | None:
    """Rule that a card of this keyword falls under; None for a card that stays."""
    return next((rule for pattern, rule in _PATTERNS if pattern.fullmatch(keyword)), None)


def split_stale(raw_cards: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Raw cards that stay, and the COMMENT that names those which were moved (none: empty)."""
    stale = {k for raw in raw_cards if rule_of(k := name_of(raw)) is not None}
    moved = [card[0] for card in moved_cards(parse_cards(raw_cards))]
    kept = without(raw_cards, stale)
    return kept, comment_on(moved)


def comment_on(moved: Iterable[str]) -> list[bytes]:
    """COMMENT that names moved cards."""
    names = list(dict.fromkeys(moved))
    return format_card("COMMENT", f"{_COMMENT} {' '.join(names)}") if names else []


def kept_cards(cards: Sequence[Card]) -> tuple[Card, ...]:
    """Do as `split_stale` for cards that are no FITS bytes: those that stay, and the COMMENT."""
    kept = tuple(card for card in cards if rule_of(card[0]) is None)
    comment = comment_on(card[0] for card in moved_cards(cards))
    text = "".join(str(card[1] or "") for card in parse_cards(comment))
    return (*kept, ("COMMENT", text, "")) if text else kept


def moved_cards(cards: Iterable[Card]) -> tuple[Card, ...]:
    """Cards that are moved to the provenance document."""
    found = ((card, rule_of(card[0])) for card in cards)
    return tuple(card for card, rule in found if rule is not None and rule.action == "moved")
