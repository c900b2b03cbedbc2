"""What tells one exposure from another: its file, and the pixels in its middle."""

import hashlib

import numpy as np

from dip_pipeline.frames.frame import Frame
from dip_pipeline.frames.opening import file_digest, read_provenance
from dip_pipeline.frames.prov_json import facts_of

_CENTRE_PX = 256
_PROBE_PX = 8


def centre_digest(frame: Frame) -> str:
    """Tell a frame by the pixels in its middle, whatever file they are in."""
    rows, cols = (
        slice(max(0, (length - _CENTRE_PX) // 2), (length + _CENTRE_PX + 1) // 2)
        for length in frame.shape
    )
    science = frame.read(rows, cols).science
    return hashlib.sha256(science.astype("<f4").tobytes()).hexdigest()


def identities(frame: Frame) -> list[tuple[str, str]]:
    """Tell an exposure by its file's content and its place in there, and by its pixels.

    The pixels of one that is packed, or was converted, are the same; those of a blank one say
    nothing. A result of an earlier run is what it was made of, too.
    """
    told = [(file_digest(frame.path), frame.label)]
    if (account := read_provenance(frame.path)) is not None:
        told.append((str(facts_of(account.document, "input").get("sha256")), frame.label))
    middle = tuple(slice(side // 2, side // 2 + _PROBE_PX) for side in frame.shape)
    values = frame.read(*middle).science
    blank = np.unique(values[np.isfinite(values)]).size < 2
    return told if blank else [*told, ("pixels", centre_digest(frame))]
