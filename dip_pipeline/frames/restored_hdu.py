"""The HDUs of a product that are restored: the planes of each, in the order of the input."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dip_pipeline.flags import PixelFlag
from dip_pipeline.frames.fits_cards import format_card, is_structural, parse_cards
from dip_pipeline.frames.frame import (
    Frame,
    PlaneArray,
    RawHdu,
    RestoredFrame,
    bands,
)
from dip_pipeline.frames.hdu_plans import Blocks

BAND_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RestoredHdu:
    """One science HDU of a product.

    order : place in the file; shape : of all its planes, slowest axis first
    raw : cards of the input; identity : cards that tell its product planes from those of others
    """

    order: int
    shape: tuple[int, ...]
    raw: list[bytes]
    planes: tuple[RestoredFrame, ...]
    identity: list[bytes]

    @property
    def frame(self) -> Frame:
        """Frame of its first plane."""
        return self.planes[0].frame

    @property
    def cards(self) -> tuple[tuple[str, object, str], ...]:
        """Cards that tell of its restoration."""
        return next(plane.cards for plane in self.planes if plane.planes is not None)

    @property
    def step(self) -> float | None:
        """Step to store its science in: the finest of its planes; None: exactly."""
        steps = [None if item.planes is None else item.planes.step for item in self.planes]
        known = [step for step in steps if step is not None]
        return min(known) if len(known) == len(steps) else None

    def blocks(self, name: str, dtype: str) -> Blocks:
        """Start the data of all planes of one sort: science, error or flags."""

        def start() -> Iterator[bytes]:
            for item in self.planes:
                yield from plane_blocks(delivered(item, name), dtype)()

        return start


def restored_hdus(restored: Sequence[RestoredFrame], others: Sequence[RawHdu]) -> list[RestoredHdu]:
    """Put the planes of each HDU together, leaving out HDUs that are left as they are."""
    groups: dict[str, list[RestoredFrame]] = {}
    for item in restored:
        groups.setdefault(item.frame.where, []).append(item)
    groups = {
        where: items
        for where, items in groups.items()
        if any(item.planes is not None for item in items)
    }
    has_primary = any(hdu.order == 0 for hdu in others) or len(groups) > 1
    found = []
    for where, items in groups.items():
        frame = items[0].frame
        behind = frame.source.science_header()
        ordered = in_order(items)
        order, shape, raw = behind or (0, stack_shape(ordered), _plain_cards(frame))
        version = next((v for k, v, _ in parse_cards(raw) if k == "EXTVER"), 1)
        identity = format_card("EXTVER", version if isinstance(version, int) else 1)
        found.append(
            (where, RestoredHdu(order if has_primary else 0, shape, raw, ordered, identity))
        )
    return _told_apart(found)


def _told_apart(found: list[tuple[str, RestoredHdu]]) -> list[RestoredHdu]:
    """Of several HDUs, number the product planes through where versions do not tell them apart."""
    if len(found) == 1:
        return [found[0][1]]
    hdus = sorted(found, key=lambda item: item[1].order)
    unique = len({tuple(hdu.identity) for _, hdu in hdus}) == len(hdus)
    told = []
    for number, (where, hdu) in enumerate(hdus, start=1):
        identity = hdu.identity if unique else format_card("EXTVER", number)
        identity = [*identity, *format_card("DIPOF", where, "HDU that this belongs to")]
        told.append(RestoredHdu(hdu.order, hdu.shape, hdu.raw, hdu.planes, identity))
    return told


def plane_blocks(plane: PlaneArray, dtype: str) -> Blocks:
    """Start the data of one plane, band by band."""

    def blocks() -> Iterator[bytes]:
        rows, cols = plane.shape
        height = band_rows(plane, (rows, cols), np.dtype(dtype).itemsize)
        for band in bands((rows, cols), height):
            yield np.asarray(plane[band, slice(0, cols)]).astype(dtype).tobytes()

    return blocks


def band_rows(plane: PlaneArray | None, shape: tuple[int, int], itemsize: int) -> int:
    """Rows to read at once: a row of chunks where there are chunks, else some megabytes."""
    chunks = getattr(plane, "chunks", None)
    return int(chunks[0]) if chunks else max(1, BAND_BYTES // (shape[1] * itemsize))


def in_order(items: Sequence[RestoredFrame]) -> tuple[RestoredFrame, ...]:
    """Put the planes of a stack in its order."""
    return tuple(sorted(items, key=lambda item: item.frame.plane_index))


def stack_shape(items: Sequence[RestoredFrame]) -> tuple[int, ...]:
    """Shape that holds the planes of a stack, in its order: that of the only one, or more axes."""
    last = items[-1].frame
    return (*(place + 1 for place in last.plane_index), *last.shape)


def delivered(item: RestoredFrame, name: str) -> PlaneArray:
    """Give what a product holds of a plane: its science, error or flags."""
    if item.planes is None:
        return _LeftPlane(item.frame, name)
    plane: PlaneArray = getattr(item.planes, name)
    return plane


@dataclass(frozen=True)
class _LeftPlane:
    """A plane that was left as it is: the input's pixels, no error, one flag."""

    frame: Frame
    name: str

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.frame.shape

    def __getitem__(self, region: tuple[slice, slice]) -> object:
        """One band."""
        science = self.frame.read(*region).science
        if self.name == "science":
            return science
        return np.full_like(science, np.nan if self.name == "error" else self._flag)

    @cached_property
    def _flag(self) -> PixelFlag:
        return _flag_of_left(self.frame)


def _flag_of_left(frame: Frame) -> PixelFlag:
    """Flag of a plane that was left as it is: without a valid pixel it is no failure."""
    parts = bands(frame.shape, band_rows(None, frame.shape, 8))
    empty = all(frame.read(rows, slice(None)).masked.all() for rows in parts)
    return PixelFlag.LOW_CONFIDENCE if empty else PixelFlag.TILE_FAILED


def _plain_cards(frame: Frame) -> list[bytes]:
    return [
        raw
        for keyword, value, comment in frame.cards
        if not is_structural(keyword)
        for raw in format_card(keyword, value, comment)
    ]
