"""HDUs as they go into a file: planned, then written block by block with their check sums."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dip_pipeline.errors import OutputError
from dip_pipeline.frames.fits_cards import (
    CARD_BYTES,
    CHECKSUM_WORDS,
    join_cards,
    keyword_of,
    split_cards,
)
from dip_pipeline.frames.fits_checksum import (
    ALL_ONES,
    BLANK_CHECKSUM,
    RunningSum,
    add_sums,
    encode_checksum,
    sum_of,
)
from dip_pipeline.frames.fits_layout import lacks_checksums, padded, scan_layout, sum_range
from dip_pipeline.frames.frame import RawHdu

Blocks = Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class HduPlan:
    """One HDU to write: exact header bytes, or cards that get check sums.

    data_bytes : without padding; blocks : starts the data, block by block
    compressible : an image of ours, to be compressed where that is asked for, in steps of `step`
    (unit of the pixels), exactly where that is None
    """

    cards: list[bytes]
    data_bytes: int
    blocks: Blocks
    verbatim: bytes | None = None
    compressible: bool = False
    step: float | None = None

    @property
    def total_bytes(self) -> int:
        """Size in the file."""
        header = self.verbatim or join_cards(_with_checksums(self.cards, BLANK_CHECKSUM, 0))
        return len(header) + padded(self.data_bytes)


def copied(hdu: RawHdu) -> HduPlan:
    """Plan an HDU byte by byte as it was; where check sums are missing, they are added."""
    cards = split_cards(hdu.header)
    verbatim = None if lacks_checksums(tuple(cards)) else hdu.header
    return HduPlan(cards, hdu.data_bytes, hdu.blocks, verbatim)


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
            if checked and sum_range(stream, start, stop) != ALL_ONES:
                raise OutputError(f"{path}: reads back otherwise than written; check the disk")


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
    ours = plan.verbatim is None
    if not ours and plan.cards and add_sums(sum_of(header), data.value) % ALL_ONES:
        # Sums that were wrong in the input would say for ever that the output is damaged.
        ours = len(join_cards(_with_checksums(plan.cards, BLANK_CHECKSUM, 0))) == len(header)
    if ours:
        blank = join_cards(_with_checksums(plan.cards, BLANK_CHECKSUM, data.value))
        checksum = encode_checksum(add_sums(sum_of(blank), data.value))
        stream.seek(start)
        stream.write(join_cards(_with_checksums(plan.cards, checksum, data.value)))
        stream.seek(stop)
    return start, stop, ours
