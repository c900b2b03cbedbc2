"""Provenance: what was done to a frame, as cards, as one JSON document, as one table row a tile.

In FITS: DIP* cards and one HISTORY line in the science header, the document in the cells of
DIP_PROV, the tiles in DIP_TILE. In Zarr: attributes of the same names. What has no
value has no card.
"""

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.fits_cards import format_card, join_cards, parse_cards, split_cards
from dip_pipeline.frames.fits_file import READ_ERRORS, fits_file, log_warnings
from dip_pipeline.frames.frame import Card

PROVENANCE_NAME = "DIP_PROV"
TILES_NAME = "DIP_TILE"
KEYWORDS_NAME = "DIPCARDS"  # which cards are ours, so that a later run replaces those alone
HISTORY_NAME = "DIPHIST"

# A long document is in several rows: CFITSIO refuses text columns wider than 28800.
_MOST_CHARACTERS = 28_000

_NUMBER = "number"  # JSON has no NaN and no infinity: {"number": "nan"}


@dataclass(frozen=True, slots=True)
class Provenance:
    """What was done to a frame.

    cards : DIP* cards for the science header; history : the one HISTORY line
    document : whatever JSON can hold; tiles : one row a tile, the columns those of the first
    """

    cards: tuple[Card, ...]
    history: str
    document: dict[str, object]
    tiles: list[dict[str, object]]

    @property
    def keywords(self) -> tuple[str, ...]:
        """Keywords of the cards."""
        return tuple(keyword for keyword, _, _ in self.cards)


def to_json(value: object) -> object:
    """Replace what JSON cannot hold: numpy numbers, NaN, infinities, tuples, paths."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {_NUMBER: str(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value)


def from_json(value: object) -> object:
    """Undo `to_json`; tuples come back as lists."""
    if isinstance(value, dict):
        if set(value) == {_NUMBER}:
            return float(str(value[_NUMBER]))
        return {key: from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_json(item) for item in value]
    return value


def plain_cards(provenance: Provenance) -> tuple[Card, ...]:
    """Return the cards and the HISTORY line; without those of no value, or of no finite one."""
    cards: list[Card] = []
    for keyword, value, comment in provenance.cards:
        plain = value.item() if isinstance(value, np.generic) else value
        if plain is not None and (not isinstance(plain, float) or math.isfinite(plain)):
            cards.append((keyword, plain, comment))
    return (*cards, ("HISTORY", provenance.history, ""))


def provenance_cards(provenance: Provenance) -> list[bytes]:
    """Raw cards for the science header, the HISTORY line last."""
    raw: list[bytes] = []
    for card in plain_cards(provenance):
        raw += format_card(*card)
    return raw


def document_hdu(provenance: Provenance) -> tuple[list[bytes], bytes]:
    """Header cards and data of DIP_PROV."""
    text = "DOCUMENT is W3C PROV-JSON: how this file was made."
    cards, data = document_table(PROVENANCE_NAME, provenance.document, text)
    cards += format_card("LONGSTRN", "OGIP 1.0", "long texts go on in CONTINUE cards")
    cards += format_card(KEYWORDS_NAME, " ".join(provenance.keywords), "cards written by dip")
    cards += format_card(HISTORY_NAME, provenance.history, "")
    return cards, data


def document_table(name: str, document: object, comment: str) -> tuple[list[bytes], bytes]:
    """Header cards and data of a table whose cells, joined, are a document as JSON."""
    pieces = _pieces(json.dumps(to_json(document), ensure_ascii=True, allow_nan=False))
    width = max(len(piece) for piece in pieces)
    column = fits.Column(name="DOCUMENT", format=f"{width}A", array=np.array(pieces))
    cards, data = _table_bytes([column], name)
    return cards + format_card("COMMENT", comment), data


def _pieces(text: str) -> list[str]:
    """Cut a text into cells; none ends in a blank, which a cell of a FITS table would lose."""
    pieces = []
    while text:
        piece = text[:_MOST_CHARACTERS]
        piece = (piece.rstrip() or text) if len(piece) < len(text) else piece
        pieces.append(piece)
        text = text[len(piece) :]
    return pieces


def document_of(table: NDArray[np.void]) -> object:
    """Read what `document_table` wrote; raises ValueError where it is no JSON."""
    return json.loads("".join(table["DOCUMENT"]))


def tiles_hdu(provenance: Provenance) -> tuple[list[bytes], bytes]:
    """Header cards and data of DIP_TILE."""
    cards, data = _tiles_table(provenance.tiles)
    return cards + format_card("COMMENT", "One row a tile of the restoration."), data


def digest_tiles(tiles: Sequence[Mapping[str, object]]) -> str:
    """Sha256 of the rows as DIP_TILE holds them, whatever format they were read from."""
    return hashlib.sha256(_tiles_table(tiles)[1]).hexdigest()


def _tiles_table(tiles: Sequence[Mapping[str, object]]) -> tuple[list[bytes], bytes]:
    names = list(tiles[0]) if tiles else []
    columns = [_column(name, [row.get(name) for row in tiles]) for name in names]
    return _table_bytes(columns, TILES_NAME)


def read_fits_provenance(path: Path) -> Provenance | None:
    """Read the provenance of a FITS product; None where the file is not one."""
    try:
        with fits_file(path) as opened, log_warnings(path):
            spans = {hdu.name: hdu for hdu in opened.layout.hdus}
            if PROVENANCE_NAME not in spans or TILES_NAME not in spans:
                return None
            span = spans[PROVENANCE_NAME]
            document = from_json(document_of(opened.hdus[span.index].data))
            tiles = _rows(opened.hdus[spans[TILES_NAME].index].data)
            own = {keyword: value for keyword, value, _ in parse_cards(span.cards)}
            keywords = str(own.get(KEYWORDS_NAME) or "").split()
            cards = _find_cards([parse_cards(hdu.cards) for hdu in opened.layout.hdus], keywords)
    except (FrameError, *READ_ERRORS):
        return None
    if not isinstance(document, dict):
        return None
    return Provenance(cards, str(own.get(HISTORY_NAME) or ""), document, tiles)


def own_keywords(headers: Sequence[tuple[Card, ...]]) -> frozenset[str]:
    """Keywords that an earlier restoration wrote, by the headers of its product's HDUs."""
    for cards in headers:
        for keyword, value, _ in cards:
            if keyword == KEYWORDS_NAME:
                return frozenset(str(value).split())
    return frozenset()


def _find_cards(headers: Sequence[tuple[Card, ...]], keywords: list[str]) -> tuple[Card, ...]:
    """Our cards from the first of the headers that hold most of them."""
    held = [{card[0]: card for card in cards} for cards in headers]
    most = max(held, key=lambda cards: sum(keyword in cards for keyword in keywords))
    return cards_by_keyword(most, keywords)


def cards_by_keyword(held: Mapping[str, Card], keywords: Sequence[str]) -> tuple[Card, ...]:
    """Cards of the keywords, undefined where there is none; no card at all where none is held."""
    if not any(keyword in held for keyword in keywords):
        return ()
    return tuple(held.get(keyword, (keyword, None, "")) for keyword in keywords)


def _table_bytes(columns: list[fits.Column], name: str) -> tuple[list[bytes], bytes]:
    stream = io.BytesIO()
    fits.BinTableHDU.from_columns(columns, name=name).writeto(stream)
    content = stream.getvalue()
    # writeto puts an empty primary before the table.
    primary_bytes = len(join_cards(split_cards(content)))
    cards = split_cards(content[primary_bytes:])
    return cards, content[primary_bytes + len(join_cards(cards)) :]


def _column(name: str, values: list[object]) -> fits.Column:
    """Choose the narrowest column that holds every value; None needs floats or text."""
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    if all(isinstance(value, bool) for value in plain):
        return fits.Column(name=name, format="L", array=np.array(plain, dtype=bool))
    if all(isinstance(value, int) and not isinstance(value, bool) for value in plain):
        return fits.Column(name=name, format="K", array=np.array(plain, dtype=np.int64))
    if all(value is None or _is_number(value) for value in plain):
        numbers = [math.nan if value is None else value for value in plain]
        return fits.Column(name=name, format="D", array=np.array(numbers, dtype=np.float64))
    texts = ["" if value is None else _text(value) for value in plain]
    width = max(1, *(len(text) for text in texts))
    return fits.Column(name=name, format=f"{width}A", array=np.array(texts))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: object) -> str:
    """Text of a cell: ASCII, other letters as escapes."""
    text = value if isinstance(value, str) else json.dumps(to_json(value))
    return text.encode("ascii", "backslashreplace").decode()


def _rows(table: NDArray[np.void] | None) -> list[dict[str, object]]:
    if table is None or not table.dtype.names:
        return []
    columns = {name: table[name].tolist() for name in table.dtype.names}
    return [
        {name: _cell(values[row]) for name, values in columns.items()} for row in range(len(table))
    ]


def _cell(value: object) -> object:
    """Undefined numbers come back as None."""
    return None if isinstance(value, float) and math.isnan(value) else value
