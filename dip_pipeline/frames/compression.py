"""Tile-compressed images (.fz): floats in steps of an absolute size, dithered; the rest exactly.

A step is a length in the unit of the pixels, so a restored image, which has no noise left to set
a relative step by, is stored as finely as its input's noise demands and no finer. The dither is
subtractive and keeps exact zeros (method 2, FITS standard 4.0, section 10.2.1): values are moved by
half a step at most, and their mean is not moved. Compressed band by band, in memory for a band.
"""

import io
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from dip_pipeline.errors import OutputError
from dip_pipeline.frames.compressed_cards import (
    CODEC_WORDS,
    is_reserved,
    states_form,
    to_table_card,
)
from dip_pipeline.frames.fits_cards import (
    BLOCK_BYTES,
    CARD_BYTES,
    fixed_card,
    format_card,
    join_cards,
    keyword_of,
    parse_cards,
    split_cards,
)
from dip_pipeline.frames.fits_layout import COPY_BYTES
from dip_pipeline.frames.frame import header_mapping
from dip_pipeline.frames.hdu_plans import HduPlan

TILE_PX = (64, 256)  # rows, cols of a compression tile; both divide the tiles of a run
DITHER_SEED = 1
_DITHER_SEEDS = 10000
Stored = NDArray[np.number[Any]]
_BAND_BYTES = 8 * 1024 * 1024
_MOST_P = 2**31 - 1  # bytes of a heap that 32-bit descriptors reach
_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


@dataclass(slots=True)
class _Table:
    """Compressed tiles so far: rows of the table in memory, the heap on disk.

    bands : rows of the table and where the band's part of the heap starts; longest : by column
    """

    heap: BinaryIO
    bands: list[tuple[NDArray[np.void], int]] = field(default_factory=list)
    codec_cards: dict[str, bytes] = field(default_factory=dict)
    tiles: int = 0
    heap_bytes: int = 0
    longest: dict[str, int] = field(default_factory=dict)


@contextmanager
def compressed(plans: list[HduPlan], folder: Path) -> Iterator[list[HduPlan]]:
    """Lend the plans with images compressed that may be; an image in the primary moves behind one.

    folder : where compressed bytes wait to be written
    Raises OutputError for a header that a compressed image cannot have.
    """
    with ExitStack() as heaps:
        packed = []
        if plans and plans[0].compressible:
            empty = [
                fixed_card("SIMPLE", "T", "conforms to FITS standard"),
                fixed_card("BITPIX", 8, "no pixels here"),
                fixed_card("NAXIS", 0, "the image is in the first extension"),
                fixed_card("EXTEND", "T", "extensions may follow"),
            ]
            packed.append(HduPlan(empty, 0, lambda: iter(())))
        for plan in plans:
            if plan.compressible:
                heap = heaps.enter_context(tempfile.TemporaryFile(dir=folder))
                packed.append(_compress(plan, cast(BinaryIO, heap)))
            else:
                packed.append(plan)
        yield packed


def _compress(plan: HduPlan, heap: BinaryIO) -> HduPlan:
    values = header_mapping(parse_cards(plan.cards))
    shape = tuple(int(str(values[f"NAXIS{n}"])) for n in range(int(str(values["NAXIS"])), 0, -1))
    bitpix = int(str(values["BITPIX"]))
    refuse_reserved(plan.cards)
    table = _Table(heap)
    for band in _bands(plan, shape, np.dtype(_DTYPES[bitpix])):
        _add_band(table, band, plan.step)
    rows = _whole_table(table)
    cards = _cards(plan, shape, table, rows)
    content = rows.tobytes()

    def blocks() -> Iterator[bytes]:
        yield content
        heap.seek(0)
        while block := heap.read(COPY_BYTES):
            yield block

    return HduPlan(cards, len(content) + table.heap_bytes, blocks)


def refuse_reserved(cards: Iterable[bytes]) -> None:
    """Raise OutputError for a card of an image that means something else in a compressed one."""
    for card in cards:
        keyword = keyword_of(card)
        if is_reserved(keyword):
            raise OutputError(
                f"card {keyword}: has another meaning in a compressed image; write to a name that "
                "ends in .fits or .fits.gz"
            )


def _bands(plan: HduPlan, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[Stored]:
    """Cut an image into bands of whole rows of tiles; a band does not reach over a plane."""
    rows, cols = (shape[-2], shape[-1]) if len(shape) > 1 else (1, shape[0])
    tile_rows = max(1, _BAND_BYTES // (cols * dtype.itemsize) // TILE_PX[0]) * TILE_PX[0]
    waiting, blocks, done = b"", plan.blocks(), 0
    while done < int(np.prod(shape)) // cols:
        height = min(tile_rows, rows - done % rows)
        wanted = height * cols * dtype.itemsize
        parts = [waiting]
        size = len(waiting)
        while size < wanted:
            parts.append(next(blocks))
            size += len(parts[-1])
        content = b"".join(parts)
        waiting = content[wanted:]
        yield np.frombuffer(content, dtype, height * cols).reshape(height, cols)
        done += height


def _add_band(table: _Table, band: Stored, step: float | None) -> None:
    """Compress one band as an image of its own and take over its tiles.

    The dither of a tile goes by its number: the seed of a band is that of its first tile.
    """
    pixels = band.astype(band.dtype.newbyteorder("="))
    tile = (min(TILE_PX[0], band.shape[0]), min(TILE_PX[1], band.shape[1]))
    options: dict[str, Any] = {"compression_type": "RICE_1", "quantize_level": 0.0}
    if step is not None and pixels.dtype.kind == "f":
        seed = (DITHER_SEED - 1 + table.tiles) % _DITHER_SEEDS + 1
        options |= {"quantize_level": -step, "quantize_method": 2, "dither_seed": seed}
    elif pixels.dtype.kind == "f" or pixels.dtype.itemsize == 8:
        options["compression_type"] = "GZIP_2"
    stream = io.BytesIO()
    fits.CompImageHDU(pixels, tile_shape=tile, **options).writeto(stream)
    content = stream.getvalue()[BLOCK_BYTES:]  # writeto puts an empty primary before it
    cards = split_cards(content)
    values = header_mapping(parse_cards(cards))
    start = len(join_cards(cards))
    kind = _row_type(values)
    rows = np.frombuffer(content, kind, int(str(values["NAXIS2"])), start).copy()
    heap_bytes = int(str(values["PCOUNT"]))
    table.heap.write(content[start + rows.nbytes :][:heap_bytes])
    for name in kind.names or ():
        if rows[name].ndim == 2:
            longest = int(rows[name][:, 0].max(initial=0))
            table.longest[name] = max(longest, table.longest.get(name, 0))
    table.bands.append((rows, table.heap_bytes))
    table.heap_bytes += heap_bytes
    table.tiles += len(rows)
    for card in cards:
        if keyword_of(card).rstrip("0123456789") in CODEC_WORDS or keyword_of(card) == "ZDITHER0":
            table.codec_cards.setdefault(keyword_of(card), card)


def _row_type(values: dict[str, object]) -> np.dtype[Any]:
    """Type of a row: descriptors (number and offset of bytes in the heap) and numbers."""
    kinds = {"P": (">i4", (2,)), "Q": (">i8", (2,)), "D": (">f8", ())}
    fields = []
    for number in range(1, int(str(values["TFIELDS"])) + 1):
        form = str(values[f"TFORM{number}"]).lstrip("1")[0]
        fields.append((str(values[f"TTYPE{number}"]), *kinds[form]))
    return np.dtype(fields)


def _whole_table(table: _Table) -> NDArray[np.void]:
    """Rows of all bands, their offsets counted from the start of the whole heap."""
    wide = table.heap_bytes > _MOST_P
    first = table.bands[0][0].dtype
    fields = []
    for name in first.names or ():
        descriptor = first[name].shape == (2,)
        kind = (">i8" if wide else ">i4", (2,)) if descriptor else (">f8", ())
        fields.append((name, *kind))
    whole = np.zeros(table.tiles, np.dtype(fields))
    done = 0
    for rows, offset in table.bands:
        part = whole[done : done + len(rows)]
        for name in first.names or ():
            part[name] = rows[name]
            if rows[name].ndim == 2:
                part[name][:, 1] += np.where(rows[name][:, 0] > 0, offset, 0)
        done += len(rows)
    return whole


def _cards(
    plan: HduPlan, shape: tuple[int, ...], table: _Table, rows: NDArray[np.void]
) -> list[bytes]:
    """Header of the table: its form, how the image is compressed, and the cards of the image."""
    cards = [
        b"XTENSION= 'BINTABLE'           / binary table extension".ljust(CARD_BYTES),
        fixed_card("BITPIX", 8, "array data type"),
        fixed_card("NAXIS", 2, "number of array dimensions"),
        fixed_card("NAXIS1", rows.dtype.itemsize, "width of a row in bytes"),
        fixed_card("NAXIS2", len(rows), "number of compression tiles"),
        fixed_card("PCOUNT", table.heap_bytes, "bytes of compressed pixels"),
        fixed_card("GCOUNT", 1, "number of groups"),
        fixed_card("TFIELDS", len(rows.dtype.names or ()), "number of fields in each row"),
    ]
    for number, name in enumerate(rows.dtype.names or (), start=1):
        form = "1D"
        if rows.dtype[name].shape == (2,):
            letter = "Q" if rows.dtype[name].base.itemsize == 8 else "P"
            form = f"1{letter}B({table.longest[name]})"
        cards += format_card(f"TTYPE{number}", name) + format_card(f"TFORM{number}", form)
    cards.append(fixed_card("ZIMAGE", "T", "this table is a compressed image"))
    cards += [to_table_card(card) for card in plan.cards if states_form(keyword_of(card))]
    tile = (*[1] * (len(shape) - 2), *TILE_PX)[-len(shape) :]
    for axis, (length, side) in enumerate(zip(shape[::-1], tile[::-1], strict=True), start=1):
        cards.append(fixed_card(f"ZTILE{axis}", min(side, length), "of a compression tile"))
    cards += table.codec_cards.values()
    return cards + [card for card in plan.cards if not states_form(keyword_of(card))]
