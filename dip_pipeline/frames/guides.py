"""Guides: other images of the same sky, read window by window on the pixels of a frame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.finer_cards import is_lookup
from dip_pipeline.frames.frame import Card, Floats, Frame
from dip_pipeline.frames.opening import file_digest, open_frames
from dip_pipeline.frames.selectors import split_selector
from dip_pipeline.frames.sky_agreement import as_header
from dip_pipeline.quiet_warnings import ignored_warnings

if TYPE_CHECKING:
    from astropy.wcs import WCS

_MARGIN_PX = 6  # read around what a window covers: interpolation reaches out
_GRID = 33  # points a side where windows are compared
_FINER = 0.8  # a guide of smaller pixels than this, in pixels of the frame, is averaged over them
_KNOWN = 0.999  # share of known pixels that a guide's pixel is made of
Window = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Guide:
    """One guide of a frame; a plain picklable value, its pixels are read where they are wanted.

    planes : of its file, chips of a mosaic; the first that knows a pixel counts
    aligned : by world coordinates; else pixel by pixel
    """

    source: str
    frame: Frame
    planes: tuple[Frame, ...]
    aligned: bool

    @property
    def note(self) -> str | None:
        """What the user must hear."""
        if self.aligned and len(self.planes) > 1:
            return (
                f"guide {self.source}: {len(self.planes)} of its images reach the frame; "
                f"{self.planes[0].label} counts, and the others where it knows nothing"
            )
        if self.aligned:
            return None
        return (
            f"guide {self.source}: neither it nor the frame has world coordinates; "
            "taken pixel by pixel"
        )

    def read(self, rows: slice, cols: slice) -> Floats:
        """Read one window of the frame, (rows, cols), NaN where the guide knows nothing."""
        if not self.aligned:
            return _known_pixels(self.planes[0], (rows, cols))
        found = np.full((rows.stop - rows.start, cols.stop - cols.start), np.nan, np.float32)
        for plane in self.planes:
            if np.isnan(found).any():
                seen = _aligned(plane, self.frame, (rows, cols))
                found = found if seen is None else np.where(np.isnan(found), seen, found)
        return found


def open_guides(sources: Sequence[str], frames: Sequence[Frame]) -> list[tuple[Guide, ...]]:
    """Open guides, FILE or FILE[EXT] each, for every frame of a file: those that reach it.

    Raises FrameError where one cannot be read, or reaches none of the frames.
    """
    found: list[list[Guide]] = [[] for _ in frames]
    for source in sources:
        planes = open_frames(source)
        guides = [_guide_for(source, planes, frame) for frame in frames]
        if not any(guides):
            raise FrameError(
                f"{source}: a guide that does not overlap with {frames[0].path}; give an image of "
                "the same part of the sky"
            )
        for own, guide in zip(found, guides, strict=True):
            own += [] if guide is None else [guide]
    return [tuple(own) for own in found]


def guide_notes(guides: Mapping[str, Sequence[Guide]]) -> list[str]:
    """Say what the user must hear of the guides of some planes, by the planes' names."""
    notes = [guide.note for several in guides.values() for guide in several if guide.note]
    if any(guides.values()):
        notes += [f"{name}: no guide reaches it" for name, own in guides.items() if not own]
    return list(dict.fromkeys(notes))


def guide_digests(sources: Sequence[str]) -> dict[str, str]:
    """Sha256 of the files of guides, by number and EXT: their names do not count."""
    digests = {}
    for number, source in enumerate(sources, start=1):
        path, inside = split_selector(source)
        if not path.exists():
            raise FrameError(f"{path}: no such file; it was given as --guide")
        name = f"guide-{number}" if inside is None else f"guide-{number}[{inside}]"
        digests[name] = file_digest(path)
    return digests


def _guide_for(source: str, planes: Sequence[Frame], frame: Frame) -> Guide | None:
    """Take what a file shows of a frame; None where that is nothing."""
    ours = _coordinates_of(frame)
    theirs = [plane for plane in planes if _coordinates_of(plane) is not None]
    if ours is None and not theirs:
        if planes[0].shape != frame.shape:
            raise FrameError(
                f"{source}: a guide of {_size(planes[0])} for a frame of {_size(frame)}, and "
                "neither has world coordinates to align them by; give them a WCS, or equal shapes"
            )
        return Guide(source, frame, (planes[0],), aligned=False)
    if ours is None or not theirs:
        without, other = (frame.path, source) if ours is None else (source, frame.path)
        raise FrameError(
            f"{without}: has no world coordinates, {other} has; a guide is aligned by both: give "
            "it a WCS"
        )
    whole = (slice(0, frame.shape[0]), slice(0, frame.shape[1]))
    shared = [plane for plane in theirs if _footprint(plane, frame, whole) is not None]
    return Guide(source, frame, tuple(shared), aligned=True) if shared else None


def _size(frame: Frame) -> str:
    return f"{frame.shape[0]} x {frame.shape[1]} px"


def _aligned(plane: Frame, frame: Frame, window: Window) -> Floats | None:
    """One plane of a guide on a window of the frame; None where it does not reach there."""
    part = _footprint(plane, frame, window)
    if part is None:
        return None
    pixels = _known_pixels(plane, part)
    known = np.isfinite(pixels)
    if not known.any():
        return None
    from reproject import reproject_adaptive, reproject_interp  # takes its time to load

    ours, theirs = _wanted_coordinates(frame), _wanted_coordinates(plane)
    source, target = theirs.slice(part), ours.slice(window)
    shape = tuple(bound.stop - bound.start for bound in window)
    finer = _pixel_degrees(theirs) < _FINER * _pixel_degrees(ours)
    with ignored_warnings():  # of old keywords
        if finer:
            image, _ = reproject_adaptive(
                (pixels.astype(np.float64), source),
                target,
                shape_out=shape,
                bad_value_mode="ignore",
                boundary_mode="strict",
                conserve_flux=False,
                kernel="hann",  # no wider than a pixel: stars stay as sharp as they are
            )
            return np.asarray(image, np.float32)
        filled = np.where(known, pixels, np.median(pixels[known])).astype(np.float64)
        image, _ = reproject_interp((filled, source), target, shape_out=shape, order="bicubic")
        share, _ = reproject_interp((known.astype(float), source), target, shape_out=shape)
    with np.errstate(invalid="ignore"):
        return np.where(share > _KNOWN, image, np.nan).astype(np.float32)


def _footprint(plane: Frame, frame: Frame, window: Window) -> Window | None:
    """Part of a guide's plane under a window of the frame, with a margin; None where there is none.

    A grid over the window tells: coordinates are smooth.
    """
    from astropy.wcs.utils import pixel_to_pixel

    axes = [np.linspace(bound.start - 0.5, bound.stop - 0.5, _GRID) for bound in window]
    rows, cols = np.meshgrid(*axes, indexing="ij")
    ours, theirs = _wanted_coordinates(frame), _wanted_coordinates(plane)
    try:
        found_cols, found_rows = pixel_to_pixel(ours, theirs, cols.ravel(), rows.ravel())
    except ValueError:  # beyond the projection; astropy's WcsError is one
        return None
    part = []
    seen = np.isfinite(found_rows) & np.isfinite(found_cols)
    if not seen.any():
        return None
    for found, length in zip((found_rows, found_cols), plane.shape, strict=True):
        first, last = found[seen].min(), found[seen].max()
        if last < -0.5 or first > length - 0.5:
            return None
        start = max(0, int(np.floor(first)) - _MARGIN_PX)
        part.append(slice(start, min(length, int(np.ceil(last)) + 1 + _MARGIN_PX)))
    return part[0], part[1]


def _known_pixels(frame: Frame, window: Window) -> Floats:
    pixels = frame.read(*window)
    return np.where(pixels.masked, np.float32(np.nan), pixels.science)


def _pixel_degrees(wcs: "WCS") -> float:
    from astropy.wcs.utils import proj_plane_pixel_scales

    return float(np.sqrt(np.prod(proj_plane_pixel_scales(wcs))))


def _wanted_coordinates(frame: Frame) -> "WCS":
    wcs = _coordinates_of(frame)
    assert wcs is not None
    return wcs


def _coordinates_of(frame: Frame) -> "WCS | None":
    """Celestial coordinates of a frame; None without. Lookup tables of distortions are left out."""
    return _parsed(frame.cards)


@lru_cache(maxsize=64)
def _parsed(cards: tuple[Card, ...]) -> "WCS | None":
    from astropy.wcs import WCS, FITSFixedWarning  # slow to load, and few commands need it

    header = as_header([card for card in cards if not is_lookup(card[0], card[1])])
    with ignored_warnings(FITSFixedWarning, fits.verify.VerifyWarning):
        try:
            wcs = WCS(header).celestial
        except (ValueError, TypeError, LookupError, AttributeError):
            return None
    return wcs if wcs.has_celestial and wcs.naxis == 2 else None
