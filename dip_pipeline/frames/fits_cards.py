"""Header cards: 80 raw bytes a card for copying, (keyword, value, comment) for reading."""

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from astropy.io import fits

from dip_pipeline.frames.frame import Card
from dip_pipeline.quiet_warnings import ignored_warnings

CARD_BYTES = 80
BLOCK_BYTES = 2880

_SIZE_WORDS = ("SIMPLE", "XTENSION", "BITPIX", "PCOUNT", "GCOUNT", "GROUPS", "END")
SCALING_WORDS = ("BSCALE", "BZERO", "BLANK")
CHECKSUM_WORDS = ("CHECKSUM", "DATASUM")
_SMALL_EXPONENT = re.compile(rb"^(.{8}= *[+-]?[0-9.]+)e([+-]?[0-9]+ *(?:/|$))")
_COMMENTARY = ("", "COMMENT", "HISTORY")


def keyword_of(raw: bytes) -> str:
    """Keyword field of a raw card."""
    return raw[:8].decode("latin-1").rstrip()


def name_of(raw: bytes) -> str:
    """Keyword of a raw card as `parse_cards` gives it: of HIERARCH cards the long one."""
    return parse_cards([raw])[0][0] if raw.startswith(b"HIERARCH") else keyword_of(raw)


def is_structural(keyword: str) -> bool:
    """Whether a card states the form of the HDU and not what is in it."""
    if keyword.startswith("NAXIS"):
        return not keyword[5:] or keyword[5:].isdigit()
    return keyword in _SIZE_WORDS or keyword in SCALING_WORDS or keyword in CHECKSUM_WORDS


def split_cards(header: bytes) -> list[bytes]:
    """Raw cards of a header up to its END, which is left out."""
    cards = []
    for start in range(0, len(header) - CARD_BYTES + 1, CARD_BYTES):
        raw = header[start : start + CARD_BYTES]
        if raw[:8] == b"END     ":
            break
        cards.append(raw)
    return cards


def join_cards(cards: Iterable[bytes]) -> bytes:
    """Header of an HDU: the cards, END, and blanks up to a whole block."""
    header = b"".join(cards) + b"END".ljust(CARD_BYTES)
    return header + b" " * (-len(header) % BLOCK_BYTES)


def parse_cards(raw_cards: Iterable[bytes]) -> tuple[Card, ...]:
    """Read raw cards; one that cannot be read keeps its text as value.

    Undefined values are None, numbers numbers, CONTINUE cards joined to their string.
    """
    whole: list[bytes] = []
    for raw in raw_cards:
        if raw[:8] == b"CONTINUE" and whole:
            whole[-1] += raw
        else:
            whole.append(raw)
    with ignored_warnings():
        # What is odd about a card stays visible: its text is kept, and copied byte for byte.
        return tuple(_parse_card(raw) for raw in whole)


def format_card(keyword: str, value: object, comment: str = "") -> list[bytes]:
    """Write one card as raw cards (several where the text is long).

    What a header cannot hold is written as near as it can: NaN as its name, letters outside
    ASCII without their accents or as "?".
    """
    value, comment = legal_value(value), plain_text(comment)
    if keyword in _COMMENTARY:
        text = "" if value is None else str(value)
        pieces = [text[start : start + 72] for start in range(0, len(text), 72)] or [""]
        return [f"{keyword:<8}{piece}".ljust(CARD_BYTES).encode() for piece in pieces]
    name = keyword
    if len(keyword) > 8 or " " in keyword:
        name = "HIERARCH " + keyword.removeprefix("HIERARCH ")
    with ignored_warnings():  # a comment that does not fit is cut
        try:
            image = str(fits.Card(name, value, comment))
            kept = fits.Card.fromstring(image).comment if len(image) == CARD_BYTES else comment
            if len(kept) < min(8, len(comment)):  # a stub of a comment says nothing
                image = str(fits.Card(name, value))
        except ValueError:
            return _card_beyond(name, value)
    raw = image.encode("ascii", "replace")
    return [raw[start : start + CARD_BYTES] for start in range(0, len(raw), CARD_BYTES)]


def _card_beyond(name: str, value: object) -> list[bytes]:
    """Write what no card can hold: its value cut where it is too long, else in a COMMENT."""
    try:
        image = str(fits.Card(name, str(value)[: max(0, 60 - len(name))] + "..."))
    except ValueError:  # a keyword of letters that no header has
        name = name.removeprefix("HIERARCH ")
        return format_card("COMMENT", plain_text(f"{name} = {'' if value is None else value}"))
    raw = image.encode("ascii", "replace")
    return [raw[start : start + CARD_BYTES] for start in range(0, len(raw), CARD_BYTES)]


def fixed_card(keyword: str, value: int | str, comment: str) -> bytes:
    """One mandatory card in fixed format; logical values are "T" and "F"."""
    return f"{keyword:<8}= {value:>20} / {comment}".ljust(CARD_BYTES)[:CARD_BYTES].encode()


def image_cards(shape: Sequence[int], bitpix: int, *, primary: bool) -> list[bytes]:
    """Mandatory cards of an image HDU, in the order the standard demands."""
    first = fixed_card("SIMPLE", "T", "conforms to FITS standard")
    if not primary:
        first = b"XTENSION= 'IMAGE   '           / image extension".ljust(CARD_BYTES)
    cards = [first, bitpix_card(bitpix), fixed_card("NAXIS", len(shape), "number of array axes")]
    for axis, length in enumerate(reversed(shape), start=1):
        cards.append(fixed_card(f"NAXIS{axis}", length, f"length of axis {axis}"))
    if not primary:
        cards.append(fixed_card("PCOUNT", 0, "number of group parameters"))
        cards.append(fixed_card("GCOUNT", 1, "number of groups"))
    return cards


def bitpix_card(bitpix: int) -> bytes:
    """Type of the pixels; a negative number means IEEE floats."""
    return fixed_card("BITPIX", bitpix, "bits per pixel, negative: IEEE float")


def upper_exponents(raw: bytes) -> bytes:
    """Write an exponent of a card in capitals, 1.5e-07 as 1.5E-07.

    The standard knows no other, and astropy's check sum of small letters disagrees with the bytes.
    """
    return _SMALL_EXPONENT.sub(rb"\1E\2", raw)


def without(raw_cards: Iterable[bytes], keywords: Iterable[str]) -> list[bytes]:
    """Cards without those of the given keywords, their CONTINUE cards included."""
    unwanted = frozenset(keywords)
    kept: list[bytes] = []
    dropping = False
    for raw in raw_cards:
        keyword = name_of(raw)
        if keyword != "CONTINUE":
            dropping = keyword in unwanted
        if not dropping:
            kept.append(raw)
    return kept


@lru_cache(maxsize=20_000)  # headers of a mosaic are read again for each of its chips
def _parse_card(raw: bytes) -> Card:
    text = raw.decode("ascii", "replace").replace("\N{REPLACEMENT CHARACTER}", "?")
    try:
        card = fits.Card.fromstring(text)
        value, comment = card.rawvalue, card.comment
    except (fits.VerifyError, ValueError):
        return keyword_of(raw), text[8:].strip(), ""
    keyword = card.rawkeyword
    if isinstance(value, fits.card.Undefined):
        value = None
    elif keyword in _COMMENTARY or isinstance(value, complex):
        value = str(value)
    return keyword, value, comment


def legal_value(value: object) -> object:
    """Give a value as a header can hold it: NaN as its name, all but numbers as ASCII."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, int | float):
        return value
    return plain_text(str(value))


def plain_text(text: str) -> str:
    """Letters that a header may hold: accents dropped, the rest as "?"."""
    plain = unicodedata.normalize("NFKD", text.replace("\n", " ").replace("\N{MICRO SIGN}", "u"))
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return "".join(letter if " " <= letter <= "~" else "?" for letter in plain)
