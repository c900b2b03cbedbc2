"""An input that is itself a result: its pixels are inferred, and their errors hang together."""

import logging
from collections.abc import Sequence

from dip_pipeline.errors import FrameError
from dip_pipeline.frames import Frame, read_provenance
from dip_pipeline.frames.prov_json import facts_of
from dip_pipeline.task import Task

log = logging.getLogger(__name__)


def inferred_by(frame: Frame) -> str:
    """Name the task that inferred the pixels of a frame; "" where they were observed.

    Known pixels stay as they were observed when holes are filled, unless that was asked for.
    """
    cards = {keyword: value for keyword, value, _ in frame.cards}
    if "DIPRUN" not in cards:
        return ""
    task = str(cards.get("DIPTASK") or "")
    if task != Task.INPAINT:
        return task
    account = read_provenance(frame.path)
    settings = {} if account is None else facts_of(account.document, "configuration")
    return task if settings.get("task.denoise_known") is True else ""


def check_observed(frame: Frame, *, strict: bool) -> None:
    """Warn of a frame whose pixels are inferred; where nothing may be guessed, FrameError."""
    for told in inferred_notes(frame):
        if strict:
            raise FrameError(f"{frame.path}: {told}; give the frame that it was made of")
        log.warning("%s: %s; better give the frame that it was made of", frame.path, told)


def check_whole(frames: Sequence[Frame]) -> None:
    """Refuse some images of a result of several: error and flags of the others would be lost.

    Raises FrameError.
    """
    restored = sum(plane.name == "DIP_FLAG" for plane in frames[0].planes)
    if restored > len({frame.where for frame in frames}):
        raise FrameError(
            f"{frames[0].path}: a result of dip that holds {restored} restored images: the error "
            "planes and flags of those that are left out would be lost; restore all of it, or the "
            "frame that it was made of"
        )


def inferred_notes(frame: Frame) -> tuple[str, ...]:
    """Say what is wrong with a frame whose pixels are inferred; nothing of others."""
    task = inferred_by(frame)
    if not task:
        return ()
    return (
        f"a result of dip ({task}): what is left of its noise hangs together, and no law of noise "
        "tells it, so error plane and estimated risk come out too small",
    )
