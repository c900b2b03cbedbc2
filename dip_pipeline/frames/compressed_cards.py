"""Cards of a compressed image: those of the image, in the header of the table that holds it.

FITS standard 4.0, section 10.1: what states the form of the image is renamed, all else stays.
"""

from collections.abc import Iterable

from dip_pipeline.frames.fits_cards import (
    CHECKSUM_WORDS,
    fixed_card,
    is_structural,
    keyword_of,
    parse_cards,
    without,
)

_RENAMED = {"XTENSION": "ZTENSION", "CHECKSUM": "ZHECKSUM", "DATASUM": "ZDATASUM"}
_BACK = {new: old for old, new in _RENAMED.items()}
_FORM = ("ZSIMPLE", "ZTENSION", "ZBITPIX", "ZNAXIS", "ZPCOUNT", "ZGCOUNT", "ZEXTEND", "ZBLOCKED")
CODEC_WORDS = ("ZCMPTYPE", "ZNAME", "ZVAL", "ZQUANTIZ", "ZDITHER0", "ZBLANK", "ZMASKCMP")
_TABLE_WORDS = ("TFIELDS", "THEAP", "TTYPE", "TFORM", "TUNIT", "TSCAL", "TZERO", "TNULL", "TDIM",
                "TDISP", "TBCOL", "TCOMM")  # fmt: skip
_RESERVED = frozenset(
    (*_FORM, *_TABLE_WORDS, *CODEC_WORDS, *_BACK, "ZIMAGE", "ZTILE", "ZSCALE", "ZZERO")
)
_NO_NAME = "COMPRESSED_IMAGE"  # EXTNAME that some writers give to an image without one


def is_reserved(keyword: str) -> bool:
    """Whether a keyword has a meaning of its own in a table that holds a compressed image."""
    return keyword in _RESERVED or keyword.rstrip("0123456789") in _RESERVED


def states_form(keyword: str) -> bool:
    """Whether a card of an image states its form: its own keyword is the table's now."""
    if keyword in ("BSCALE", "BZERO", "BLANK"):
        return False
    return is_structural(keyword) or keyword == "EXTEND"


def to_table_card(card: bytes) -> bytes:
    """Card that states the form of an image, as the table holds it: under another keyword."""
    keyword = keyword_of(card)
    return f"{_RENAMED.get(keyword, f'Z{keyword}'):<8}".encode() + card[8:]


def image_cards_of_table(raw_cards: Iterable[bytes]) -> list[bytes]:
    """Cards of the image in a table, byte for byte, those of its form first.

    Without check sums, and an EXTNAME that only says that there is none.
    """
    cards = list(raw_cards)
    form = [_back(card) for card in cards if keyword_of(card).rstrip("0123456789") in _FORM]
    words = [keyword_of(card) for card in form]
    if "SIMPLE" not in words and "XTENSION" not in words:
        form.insert(0, b"XTENSION= 'IMAGE   '           / image extension".ljust(80))
    form.sort(key=lambda card: _rank(keyword_of(card)))
    if keyword_of(form[0]) == "XTENSION":
        last = len([card for card in form if _rank(keyword_of(card)) < len(_ORDER)])
        missing = [w for w in ("PCOUNT", "GCOUNT") if w not in words]
        form[last:last] = [fixed_card(w, int(w == "GCOUNT"), "of the image") for w in missing]
    others = {k for c in cards if states_form(k := keyword_of(c)) or is_reserved(k)}
    rest = without(cards, others | set(CHECKSUM_WORDS))
    named = [card for card in rest if keyword_of(card) == "EXTNAME"]
    if named and str(parse_cards(named)[0][1]).strip() == _NO_NAME:
        rest = without(rest, ("EXTNAME",))
    return form + rest


_ORDER = ("SIMPLE", "XTENSION", "BITPIX", "NAXIS", "PCOUNT", "GCOUNT")


def _rank(keyword: str) -> float:
    """Place of a card of the form; NAXISn stand between NAXIS and the next."""
    if keyword.startswith("NAXIS") and keyword != "NAXIS":
        return _ORDER.index("NAXIS") + int(keyword[5:]) / 1000
    return _ORDER.index(keyword) if keyword in _ORDER else len(_ORDER)


def _back(card: bytes) -> bytes:
    keyword = keyword_of(card)
    return f"{_BACK.get(keyword, keyword[1:]):<8}".encode() + card[8:]
