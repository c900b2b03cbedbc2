"""Restored planes to FITS, in bands: other HDUs as they came, the science replaced, ours added.

An HDU that carries CHECKSUM and DATASUM is copied byte for byte; one that lacks them keeps every
card and all data, and gets them.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dip_pipeline.errors import OutputError
from dip_pipeline.flags import FLAG_MEANINGS
from dip_pipeline.frames.fits_cards import (
    CARD_BYTES,
    CHECKSUM_WORDS,
    SCALING_WORDS,
    bitpix_card,
    fixed_card,
    format_card,
    image_cards,
    is_structural,
    join_cards,
    keyword_of,
    split_cards,
    upper_exponents,
    without,
)
from dip_pipeline.frames.fits_checksum import (
    ALL_ONES,
    BLANK_CHECKSUM,
    RunningSum,
    add_sums,
    encode_checksum,
    sum_of,
)
from dip_pipeline.frames.fits_layout import lacks_checksums, padded, scan_layout
from dip_pipeline.frames.frame import Frame, RawHdu, RestoredFrame, bands
from dip_pipeline.frames.provenance import (
    Provenance,
    document_hdu,
    provenance_cards,
    tiles_hdu,
)
from dip_pipeline.frames.restored_hdu import (
    BAND_BYTES,
    Blocks,
    RestoredHdu,
    band_rows,
    restored_hdus,
)

# FITS has no unsigned integers above 8 bits: they are stored less half their range.
_STORED = {
    "b": (8, 0), "u1": (8, 0), "i1": (8, -(2**7)), "i2": (16, 0), "u2": (16, 2**15),
    "i4": (32, 0), "u4": (32, 2**31), "i8": (64, 0), "u8": (64, 2**63),
    "f4": (-32, 0), "f8": (-64, 0),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class HduPlan:
    """One HDU to write: exact header bytes, or cards that get check sums.

    data_bytes : without padding; blocks : starts the data, block by block
    """

    cards: list[bytes]
    data_bytes: int
    blocks: Blocks
    verbatim: bytes | None = None

    @property
    def total_bytes(self) -> int:
        """Size in the file."""
        header = self.verbatim or join_cards(_with_checksums(self.cards, BLANK_CHECKSUM, 0))
        return len(header) + padded(self.data_bytes)


def plan_fits(restored: Sequence[RestoredFrame], provenance: Provenance) -> list[HduPlan]:
    """Say what the output will hold, HDU by HDU, before a byte is written.

    restored : planes of one input, those of one HDU in its order
    """
    frame = restored[0].frame
    others = frame.source.other_hdus()
    replaced = {hdu.order: hdu for hdu in restored_hdus(restored, others)}
    plans: list[HduPlan] = []
    for order in sorted({hdu.order for hdu in others} | set(replaced)):
        if order in replaced:
            plans.append(_science_plan(replaced[order], provenance))
        else:
            plans += [_copy(hdu) for hdu in others if hdu.order == order]
    if frame.format == "zarr":
        present = {hdu.role for hdu in others}
        plans += _input_planes(frame, replaced[min(replaced)].identity, present)
    for order in sorted(replaced):
        plans += _product_planes(replaced[order])
    for cards, data in (document_hdu(provenance), tiles_hdu(provenance)):
        plans.append(HduPlan(cards, len(data), partial(iter, (data,))))
    return plans


def write_fits(path: Path, plans: list[HduPlan]) -> None:
    """Write the planned HDUs and read them back to verify size and check sums."""
    with path.open("wb") as stream:
        spans = [_emit(stream, plan) for plan in plans]
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        layout = scan_layout(stream, size, path)
        if size != sum(plan.total_bytes for plan in plans) or len(layout.hdus) != len(plans):
            raise OutputError(f"{path}: {size} bytes on disk are not what was written; try again")
        for start, stop, checked in spans:
            if checked and _sum_file(stream, start, stop) != ALL_ONES:
                raise OutputError(f"{path}: reads back otherwise than written; check the disk")


def _science_plan(hdu: RestoredHdu, provenance: Provenance) -> HduPlan:
    own = replace(provenance, cards=hdu.cards)
    cards = _science_cards(hdu.frame, hdu.raw, hdu.shape, hdu.order, own)
    return HduPlan(cards, _size(hdu.shape, 4), hdu.blocks("science", ">f4"))


def _science_cards(
    frame: Frame, raw: list[bytes], shape: tuple[int, ...], order: int, provenance: Provenance
) -> list[bytes]:
    """Header of the restored science: the input's, card by card, with what must change."""
    primary = order == 0
    ours = frame.source.product_keywords() | set(provenance.keywords)
    cards = [upper_exponents(card) for card in without(raw, (*SCALING_WORDS, *ours))]
    if keyword_of(cards[0] if cards else b"") == ("SIMPLE" if primary else "XTENSION"):
        cards = [bitpix_card(-32) if keyword_of(c) == "BITPIX" else c for c in cards]
    else:
        cards = image_cards(shape, -32, primary=primary) + [
            card for card in cards if not is_structural(keyword_of(card))
        ]
        if not primary:
            cards = without(cards, ("EXTEND",))
    if primary:
        cards = _with_extend(cards)
    present = {keyword_of(card) for card in cards}
    if frame.unit and "BUNIT" not in present and frame.format == "zarr":
        cards += format_card("BUNIT", frame.unit, "unit of the pixels")
    return cards + provenance_cards(provenance)


def _with_extend(cards: list[bytes]) -> list[bytes]:
    """Primary header that allows the extensions which follow."""
    extend = fixed_card("EXTEND", "T", "extensions may follow")
    for place, card in enumerate(cards):
        if keyword_of(card) == "EXTEND":
            allowed = card[10:30].strip() == b"T"
            return cards if allowed else [*cards[:place], extend, *cards[place + 1 :]]
    last = max(i for i, card in enumerate(cards) if keyword_of(card).startswith("NAXIS"))
    return [*cards[: last + 1], extend, *cards[last + 1 :]]


def _copy(hdu: RawHdu) -> HduPlan:
    cards = split_cards(hdu.header)
    verbatim = None if lacks_checksums(tuple(cards)) else hdu.header
    return HduPlan(cards, hdu.data_bytes, hdu.blocks, verbatim)


def _input_planes(frame: Frame, identity: list[bytes], present: Collection[str]) -> list[HduPlan]:
    """ERR and DQ of a Zarr input; left out where the input brings them as HDUs."""
    plans = []
    if frame.has_error_plane and not {"error", "variance", "weight"} & set(present):

        def error_blocks() -> Iterator[bytes]:
            for rows in bands(frame.shape, band_rows(None, frame.shape, 8)):
                sigma = frame.read(rows, slice(None)).error
                yield np.asarray(sigma, dtype=">f4").tobytes()

        cards = image_cards(frame.shape, -32, primary=False) + _name("ERR", identity)
        cards += format_card("BUNIT", frame.unit, "unit of the pixels")
        plans.append(HduPlan(cards, _size(frame.shape, 4), error_blocks))
    if frame.has_mask and "flags" not in present:
        plans.append(_flags_plan(frame, identity))
    return plans


def _flags_plan(frame: Frame, identity: list[bytes]) -> HduPlan:
    first = frame.source.read_flags(slice(0, 1), slice(0, 1))
    kind = np.dtype(bool) if first is None else first.dtype
    bitpix, zero = _STORED["b" if kind.kind == "b" else kind.str[1:]]
    stored = np.dtype(f">{'f' if bitpix < 0 else 'u' if bitpix == 8 else 'i'}{abs(bitpix) // 8}")

    def blocks() -> Iterator[bytes]:
        for rows in bands(frame.shape, band_rows(None, frame.shape, 8)):
            flags = frame.source.read_flags(rows, slice(0, frame.shape[1]))
            values = np.asarray(flags)
            if zero:  # flipping the top bit takes half the range away, exactly
                top = values.dtype.type(1 << (8 * values.dtype.itemsize - 2)) * 2
                values = (values ^ top).view(stored.newbyteorder("="))
            yield values.astype(stored).tobytes()

    cards = image_cards(frame.shape, bitpix, primary=False) + _name("DQ", identity)
    if zero:
        cards += format_card("BZERO", zero, "offset of the stored integers")
        cards += format_card("BSCALE", 1, "")
    return HduPlan(cards, _size(frame.shape, stored.itemsize), blocks)


def _product_planes(hdu: RestoredHdu) -> list[HduPlan]:
    """DIP_ERR and DIP_FLAG of one HDU: of its shape, degenerate axes left out."""
    shape = hdu.shape if len(hdu.planes) > 1 else hdu.frame.shape
    error = image_cards(shape, -32, primary=False) + _name("DIP_ERR", hdu.identity)
    error += format_card("BUNIT", hdu.frame.unit, "unit of the pixels")
    error += format_card("COMMENT", "Standard deviation of the restored pixels.")
    flags = image_cards(shape, 8, primary=False) + _name("DIP_FLAG", hdu.identity)
    flags += format_card("COMMENT", "Bits of the restored pixels; 0: restored as usual.")
    for flag, meaning in FLAG_MEANINGS.items():
        flags += format_card("COMMENT", f"{int(flag)}: {meaning}")
    return [
        HduPlan(error, _size(shape, 4), hdu.blocks("error", ">f4")),
        HduPlan(flags, _size(shape, 1), hdu.blocks("flags", "u1")),
    ]


def _name(name: str, identity: list[bytes]) -> list[bytes]:
    return format_card("EXTNAME", name) + identity


def _size(shape: tuple[int, ...], itemsize: int) -> int:
    return int(np.prod(shape, dtype=np.int64)) * itemsize


def _with_checksums(cards: list[bytes], checksum: str, datasum: int) -> list[bytes]:
    """Cards with CHECKSUM and DATASUM set, where they stood or at the end."""
    values = {
        "CHECKSUM": f"CHECKSUM= '{checksum}'   / HDU checksum",
        "DATASUM": f"DATASUM = '{datasum:<10d}'         / data unit checksum",
    }
    new = {keyword: text.ljust(CARD_BYTES).encode() for keyword, text in values.items()}
    placed = [new.pop(keyword_of(card), card) for card in cards if _is_first(card, new)]
    return placed + list(new.values())


def _is_first(card: bytes, still_to_place: dict[str, bytes]) -> bool:
    """Whether a card stays: all but repetitions of CHECKSUM and DATASUM."""
    keyword = keyword_of(card)
    return keyword not in CHECKSUM_WORDS or keyword in still_to_place


def _emit(stream: BinaryIO, plan: HduPlan) -> tuple[int, int, bool]:
    """Write one HDU; return where it lies and whether it carries check sums of ours."""
    start = stream.tell()
    header = plan.verbatim or join_cards(_with_checksums(plan.cards, BLANK_CHECKSUM, 0))
    stream.write(header)
    data, written = RunningSum(), 0
    for block in plan.blocks():
        stream.write(block)
        data.add(block)
        written += len(block)
    if written != plan.data_bytes:
        raise OutputError(f"a plane has {written} bytes; {plan.data_bytes} were planned")
    stream.write(bytes(padded(written) - written))
    stop = stream.tell()
    if plan.verbatim is None:
        blank = join_cards(_with_checksums(plan.cards, BLANK_CHECKSUM, data.value))
        checksum = encode_checksum(add_sums(sum_of(blank), data.value))
        stream.seek(start)
        stream.write(join_cards(_with_checksums(plan.cards, checksum, data.value)))
        stream.seek(stop)
    return start, stop, plan.verbatim is None


def _sum_file(stream: BinaryIO, start: int, stop: int) -> int:
    running = RunningSum()
    stream.seek(start)
    while start < stop and (block := stream.read(min(BAND_BYTES, stop - start))):
        running.add(block)
        start += len(block)
    return running.value
