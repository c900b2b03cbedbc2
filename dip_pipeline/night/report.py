"""What is told of a night: each product with its figures and its picture, the odd ones marked."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dip_pipeline.errors import DipError
from dip_pipeline.night.figure_table import LEAST_FRAMES
from dip_pipeline.night.figures import NightFrame, night_frame
from dip_pipeline.night.grouping import hours_of
from dip_pipeline.night.odd_frames import OddFrame, kinds, odd_frames
from dip_pipeline.night.settings import other_settings
from dip_pipeline.night.unmade import Word

log = logging.getLogger(__name__)


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
    """

    frames: tuple[ReportedFrame, ...]
    odd: tuple[OddFrame, ...]
    others: Mapping[str, int]
    word: Word
    settings: Mapping[str, str]

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
    def failed(self) -> tuple[ReportedFrame, ...]:
        """Products of which a tile is the input's."""
        return tuple(frame for frame in self.frames if frame.told and frame.told.failed_tiles)


def gather(
    products: Sequence[Path], *, pictures: bool = True, word: Word | None = None
) -> NightReport:
    """Read all products, draw them, and see which are unlike the others.

    word : what runs left of frames without a product
    """
    frames = [_reported(product, pictures=pictures) for product in products]
    frames.sort(key=_when)
    figures = [frame.told.figures for frame in frames if frame.told]
    others = {frame.source: len(kind) - 1 for kind in kinds(figures) for frame in kind}
    return NightReport(
        tuple(frames), odd_frames(figures), others, word or Word(), other_settings(figures)
    )


def _when(frame: ReportedFrame) -> tuple[bool, bool, float, str]:
    """Sort by when exposures began; then those that do not say it, then those that say nothing."""
    begun = frame.told.begun if frame.told else ""
    hours = hours_of({"DATE-OBS": begun})
    return frame.told is None, hours is None, hours or 0.0, begun


def _reported(product: Path, *, pictures: bool) -> ReportedFrame:
    try:
        told = night_frame(str(product), product)
    except (DipError, OSError) as error:
        return ReportedFrame(product, None, problem=str(error))
    if not pictures:
        return ReportedFrame(product, told)
    from dip_pipeline.picturing import first_picture  # not loaded without pictures

    try:
        return ReportedFrame(product, told, picture=first_picture(product))
    except (DipError, OSError) as error:
        return ReportedFrame(product, told, no_picture=str(error))
    except Exception as error:  # noqa: BLE001  (no picture, no memory for one: no reason for no page)
        log.warning("%s: no picture of it: %r", product, error)
        return ReportedFrame(product, told, no_picture=repr(error))
