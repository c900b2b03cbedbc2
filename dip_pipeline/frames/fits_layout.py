"""The HDUs of a FITS file by offset, read strictly: what headers promise must be there.

astropy opens a cut file without a word where the cut falls well; this scan does not.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from astropy.io import fits

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.fits_cards import (
    BLOCK_BYTES,
    CHECKSUM_WORDS,
    keyword_of,
    split_cards,
)
from dip_pipeline.frames.fits_checksum import ALL_ONES, RunningSum, add_sums
from dip_pipeline.quiet_warnings import ignored_warnings

HduKind = Literal["image", "compressed", "table", "groups", "other"]
COPY_BYTES = 4 * 1024 * 1024

_MAX_HEADER_BYTES = 64 * 1024 * 1024
_TABLES = ("BINTABLE", "TABLE", "A3DTABLE")
_SHAPE_WORD = re.compile(r"Z?NAXIS\d*")
_WANTED = frozenset(
    ("SIMPLE", "XTENSION", "BITPIX", "PCOUNT", "GCOUNT", "GROUPS", "EXTNAME", "EXTVER")
) | {"ZIMAGE", "ZBITPIX", "NEXTEND"}


@dataclass(frozen=True, slots=True)
class HduSpan:
    """One HDU: where it lies, what it is, its raw cards.

    shape : axes of the image, slowest first; () where there is none
    data_bytes : size that the header promises, without padding
    """

    index: int
    kind: HduKind
    name: str
    version: int
    shape: tuple[int, ...]
    bitpix: int
    header_start: int
    data_start: int
    data_bytes: int
    cards: tuple[bytes, ...]

    @property
    def end(self) -> int:
        """Offset of the next HDU."""
        return self.data_start + padded(self.data_bytes)

    @property
    def where(self) -> str:
        """How a person finds it."""
        return f"HDU {self.index}" + (f" ({self.name},{self.version})" if self.name else "")

    @property
    def has_pixels(self) -> bool:
        """Whether it is an image with at least one pixel."""
        return self.kind in ("image", "compressed") and bool(self.shape) and 0 not in self.shape

    @property
    def plane_shape(self) -> tuple[int, ...]:
        """Shape without leading axes of length 1 beyond two."""
        shape = self.shape
        while len(shape) > 2 and shape[0] == 1:
            shape = shape[1:]
        return shape


@dataclass(frozen=True, slots=True)
class Layout:
    """All HDUs of a file, and what is odd about it in words."""

    hdus: tuple[HduSpan, ...]
    notes: tuple[str, ...]


def padded(size: int) -> int:
    """Bytes up to the next whole block."""
    return size + -size % BLOCK_BYTES


def is_packed(layout: Layout) -> bool:
    """Whether the first image was moved behind an empty primary to be compressed."""
    hdus = layout.hdus
    if len(hdus) < 2 or hdus[0].data_bytes or hdus[1].kind != "compressed":
        return False
    return any(keyword_of(card) == "ZSIMPLE" for card in hdus[1].cards)


def scan_layout(stream: BinaryIO, size: int, path: Path) -> Layout:
    """Find every HDU of an open file of this size.

    Raises FrameError where a header is broken, or the file is shorter than its headers promise.
    """
    hdus: list[HduSpan] = []
    notes: list[str] = []
    offset = 0
    while offset < size:
        stream.seek(offset)
        start = stream.read(80)
        if hdus and not start.startswith(b"XTENSION"):
            notes += _judge_rest(stream, offset, size, path)
            break
        hdus.append(_scan_hdu(stream, len(hdus), offset, path))
        last = hdus[-1]
        if last.data_start + last.data_bytes > size:
            raise FrameError(
                f"{path}: truncated: {last.where} promises {last.data_bytes} bytes of data, the "
                f"file ends after {max(0, size - last.data_start)}; get a complete copy"
            )
        offset = last.end
    if offset > size:
        notes.append("the padding after the last HDU is cut short")
    promised = _values(hdus[0].cards).get("NEXTEND") if hdus else None
    if isinstance(promised, int) and promised > len(hdus) - 1:
        notes.append(f"NEXTEND promises {promised} extensions, the file holds {len(hdus) - 1}")
    return Layout(tuple(hdus), tuple(notes))


def checksum_notes(stream: BinaryIO, layout: Layout) -> list[str]:
    """Verify every CHECKSUM and DATASUM of the file, block by block; say which are wrong."""
    notes = []
    for hdu in layout.hdus:
        present = {keyword_of(raw): raw for raw in hdu.cards}
        datasum, checksum = (_text_in(present.get(word)) for word in ("DATASUM", "CHECKSUM"))
        if not (datasum or checksum):
            continue
        data = sum_range(stream, hdu.data_start, hdu.end)
        header = sum_range(stream, hdu.header_start, hdu.data_start)
        wrong = []
        # Ones' complement has two zeros: no bits, and all bits.
        if datasum.isdigit() and int(datasum) % ALL_ONES != data % ALL_ONES:
            wrong.append("DATASUM")
        if checksum and add_sums(header, data) % ALL_ONES:
            wrong.append("CHECKSUM")
        if wrong:
            notes.append(
                f"{hdu.where}: {' and '.join(wrong)} wrong: changed since it was written; "
                "read all the same"
            )
    return notes


def lacks_checksums(hdu_cards: tuple[bytes, ...]) -> bool:
    """Whether CHECKSUM or DATASUM is missing."""
    return not set(CHECKSUM_WORDS) <= {keyword_of(raw) for raw in hdu_cards}


def _scan_hdu(stream: BinaryIO, index: int, offset: int, path: Path) -> HduSpan:
    cards, header_bytes = _read_header(stream, index, offset, path)
    values = _values(cards)
    try:
        shape, size = _size(values)
    except (KeyError, TypeError, ValueError) as error:
        raise FrameError(
            f"{path}: header of HDU {index} is broken ({error}): not a FITS file that can be read"
        ) from error
    kind = _kind(values)
    bitpix = values["BITPIX"]
    if kind == "compressed":
        try:
            shape, bitpix = _axes(values, "Z"), values["ZBITPIX"]
        except (KeyError, TypeError, ValueError) as error:
            raise FrameError(
                f"{path}: HDU {index} is a compressed image with a broken header ({error})"
            ) from error
    version = values.get("EXTVER")
    return HduSpan(
        index=index,
        kind=kind,
        name=str(values.get("EXTNAME") or "").strip().upper(),
        version=version if isinstance(version, int) else 1,
        shape=shape if kind in ("image", "compressed") else (),
        bitpix=int(str(bitpix)),
        header_start=offset,
        data_start=offset + header_bytes,
        data_bytes=size,
        cards=tuple(cards),
    )


def _read_header(stream: BinaryIO, index: int, offset: int, path: Path) -> tuple[list[bytes], int]:
    stream.seek(offset)
    cards: list[bytes] = []
    header_bytes = 0
    while header_bytes < _MAX_HEADER_BYTES:
        block = stream.read(BLOCK_BYTES)
        if len(block) < BLOCK_BYTES:
            raise FrameError(
                f"{path}: truncated: the header of HDU {index} has no END before the file ends; "
                "get a complete copy"
            )
        header_bytes += BLOCK_BYTES
        found = split_cards(block)
        cards += found
        if len(found) < BLOCK_BYTES // 80:
            return cards, header_bytes
    raise FrameError(f"{path}: no END in the first 64 MiB of HDU {index}: not a FITS file")


def _values(cards: list[bytes] | tuple[bytes, ...]) -> dict[str, object]:
    """Values of the cards that shape the HDU, the first of each keyword."""
    values: dict[str, object] = {}
    with ignored_warnings():
        for raw in cards:
            keyword = keyword_of(raw)
            if (keyword in _WANTED or _SHAPE_WORD.fullmatch(keyword)) and keyword not in values:
                try:
                    values[keyword] = fits.Card.fromstring(raw).value
                except fits.VerifyError:
                    values[keyword] = None
    return values


def _size(values: dict[str, object]) -> tuple[tuple[int, ...], int]:
    """Shape and bytes of the data: FITS standard 4.0, equations 1, 2 and 4."""
    shape = _axes(values, "")
    groups = values.get("GROUPS") is True and bool(shape) and shape[-1] == 0
    pixels = math.prod(shape[:-1] if groups else shape) if shape else 0
    bits = _whole(values, "BITPIX")
    if bits not in (8, 16, 32, 64, -32, -64):
        raise ValueError(f"BITPIX = {bits}")
    if "XTENSION" not in values and not groups:
        return shape, abs(bits) // 8 * pixels
    parameters = _whole(values, "PCOUNT", 0)
    return shape, abs(bits) // 8 * _whole(values, "GCOUNT", 1) * (parameters + pixels)


def _axes(values: dict[str, object], prefix: str) -> tuple[int, ...]:
    count = _whole(values, f"{prefix}NAXIS")
    return tuple(_whole(values, f"{prefix}NAXIS{axis}") for axis in range(count, 0, -1))


def _whole(values: dict[str, object], keyword: str, default: int | None = None) -> int:
    """Return a whole number that is not negative (BITPIX may be)."""
    value = values.get(keyword, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{keyword} = {'missing' if keyword not in values else value}")
    if keyword != "BITPIX" and not 0 <= value < 2**48:
        raise ValueError(f"{keyword} = {value}")
    return value


def _kind(values: dict[str, object]) -> HduKind:
    extension = str(values.get("XTENSION", "")).strip()
    if not extension:
        if values.get("SIMPLE") is not True:
            return "other"
        return "groups" if values.get("GROUPS") is True else "image"
    if extension in ("IMAGE", "IUEIMAGE"):
        return "image"
    if extension == "BINTABLE" and values.get("ZIMAGE") is True:
        return "compressed"
    return "table" if extension in _TABLES else "other"


def _judge_rest(stream: BinaryIO, offset: int, size: int, path: Path) -> list[str]:
    """Judge what follows the last HDU: fill bytes, the start of a cut header, or junk."""
    stream.seek(offset)
    rest = stream.read(COPY_BYTES)
    if b"XTENSION".startswith(rest[:8]) and rest.strip(b"\0 "):
        raise FrameError(
            f"{path}: truncated: an extension starts at byte {offset} and the file ends; "
            "get a complete copy"
        )
    if not rest.strip(b"\0 "):
        return []
    return [f"{size - offset} bytes after the last HDU are no HDU: left out"]


def sum_range(stream: BinaryIO, start: int, stop: int) -> int:
    """Ones' complement sum of a part of a file, read block by block."""
    running = RunningSum()
    stream.seek(start)
    while start < stop and (block := stream.read(min(COPY_BYTES, stop - start))):
        running.add(block)
        start += len(block)
    return running.value


def _text_in(raw: bytes | None) -> str:
    found = re.match(rb"[A-Z ]{8}= '([^']*)'", raw or b"")
    return found.group(1).decode("latin-1").strip() if found else ""
