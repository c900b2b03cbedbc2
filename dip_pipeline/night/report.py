"""What is told of a night: each product with its figures and its picture, the odd ones marked."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dip_pipeline.errors import DipError
from dip_pipeline.night.figure_table import LEAST_FRAMES
from dip_pipeline.night.figures import NightFrame, night_frame
from dip_pipeline.night.grouping import hours_of
from dip_pipeline.night.odd_frames import OddFrame, kinds, odd_frames
from dip_pipeline.night.settings import other_settings
from dip_pipeline.night.unmade import Word

log = logging.getLogger(__name__)

MOST_PICTURES = 200  # of which a page has 40 MB: nobody looks at a thousand one by one


@dataclass(frozen=True, slots=True)
class ReportedFrame:
    """One product of the page.

    told : None where it cannot be read, and `problem` says why
    picture : a JPEG; empty where none was drawn, and `no_picture` says why
    """

    product: Path
    told: NightFrame | None
    problem: str = ""
    picture: bytes = b""
    no_picture: str = ""


@dataclass(frozen=True, slots=True)
class NightReport:
    """What a page tells: products in the order in which their exposures began.

    others : of each product's kind, by its name
    settings : by which a product differs from most of its kind, by its name; of those alone
    word : what runs left word of: of frames without a product, too
    drawable : how many frames there are to draw, where not all of them are drawn; else 0
    """

    frames: tuple[ReportedFrame, ...]
    odd: tuple[OddFrame, ...]
    others: Mapping[str, int]
    word: Word
    settings: Mapping[str, str]
    drawable: int = 0

    @property
    def alone(self) -> tuple[ReportedFrame, ...]:
        """Products with too few of their kind: they are compared with none."""
        return tuple(f for f in self.frames if f.told and not self.is_compared(f.told))

    def is_compared(self, told: NightFrame) -> bool:
        """Whether a product has enough others of its kind."""
        return self.others[told.figures.source] >= LEAST_FRAMES - 1

    @property
    def unread(self) -> tuple[ReportedFrame, ...]:
        """Products that cannot be read."""
        return tuple(frame for frame in self.frames if frame.told is None)

    @property
    def drawn(self) -> int:
        """How many products have a picture."""
        return sum(bool(frame.picture) for frame in self.frames)

    @property
    def failed(self) -> tuple[ReportedFrame, ...]:
        """Products of which a tile is the input's."""
        return tuple(frame for frame in self.frames if frame.told and frame.told.failed_tiles)


def gather(
    products: Sequence[Path], *, pictures: int | None = MOST_PICTURES, word: Word | None = None
) -> NightReport:
    """Read all products, draw them, and see which are unlike the others.

    pictures : how many are drawn at most, the odd ones first; None for all, 0 for none
    word : what runs left of frames without a product
    """
    frames = [_reported(product) for product in products]
    frames.sort(key=_when)
    figures = [frame.told.figures for frame in frames if frame.told]
    others = {frame.source: len(kind) - 1 for kind in kinds(figures) for frame in kind}
    odd = odd_frames(figures)
    drawable = [number for number, frame in enumerate(frames) if frame.told]
    first = {frame.source for frame in odd}
    chosen = _chosen(
        drawable, [_comes_first(frames[number], first) for number in drawable], pictures
    )
    for number in chosen:
        frames[number] = _with_picture(frames[number])
    return NightReport(
        tuple(frames),
        odd,
        others,
        word or Word(),
        other_settings(figures),
        drawable=len(drawable) if 0 < len(chosen) < len(drawable) else 0,
    )


def _comes_first(frame: ReportedFrame, odd: Collection[str]) -> bool:
    told = frame.told
    return told is not None and (told.figures.source in odd or told.failed_tiles > 0)


def _chosen(numbers: Sequence[int], comes_first: Sequence[bool], most: int | None) -> list[int]:
    """Choose which frames to draw: those that come first, and of the others evenly."""
    if most is None or most >= len(numbers):
        return list(numbers)
    first = [number for number, is_first in zip(numbers, comes_first, strict=True) if is_first]
    others = [number for number, is_first in zip(numbers, comes_first, strict=True) if not is_first]
    chosen = _evenly(first, most)
    return sorted([*chosen, *_evenly(others, most - len(chosen))])


def _evenly(numbers: Sequence[int], most: int) -> list[int]:
    if most >= len(numbers):
        return list(numbers)
    return [numbers[at * len(numbers) // most] for at in range(most)]


def _when(frame: ReportedFrame) -> tuple[bool, bool, float, str]:
    """Sort by when exposures began; then those that do not say it, then those that say nothing."""
    begun = frame.told.begun if frame.told else ""
    hours = hours_of({"DATE-OBS": begun})
    return frame.told is None, hours is None, hours or 0.0, begun


def _reported(product: Path) -> ReportedFrame:
    try:
        return ReportedFrame(product, night_frame(str(product), product))
    except (DipError, OSError) as error:
        return ReportedFrame(product, None, problem=str(error))


def _with_picture(frame: ReportedFrame) -> ReportedFrame:
    from dip_pipeline.picturing import first_picture  # not loaded without pictures

    try:
        return replace(frame, picture=first_picture(frame.product))
    except (DipError, OSError) as error:
        return replace(frame, no_picture=str(error))
    except Exception as error:  # noqa: BLE001  (no picture, no memory for one: no reason for no page)
        log.warning("%s: no picture of it: %r", frame.product, error)
        return replace(frame, no_picture=repr(error))
