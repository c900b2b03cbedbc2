"""A mask that lies in a file of its own: pixels to fill, whatever the frame says of them."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.errors import EmptyFrameError, FrameError
from dip_pipeline.frames.colour_mosaic import as_image_of, images_beside, whole_frames
from dip_pipeline.frames.fits_file import file_state, fits_file
from dip_pipeline.frames.fits_planes import FitsPlane, plane_of
from dip_pipeline.frames.frame import Frame, Pixels, bands
from dip_pipeline.frames.pixels_over import PixelsOver
from dip_pipeline.frames.selectors import Selector, parse_selector, split_selector
from dip_pipeline.frames.zarr_choice import arrays_of, attributes_of, open_node
from dip_pipeline.frames.zarr_hdus import ZARR_ERRORS, physical

log = logging.getLogger(__name__)

_MOST_FILLED = 0.5  # of a frame, without a word
_BAND_PX = 4 * 1024 * 1024
_ARRAYS = ("mask", "flags")  # of a Zarr group, in this order, where none is named
_NUMBERS = "iufb"


@dataclass(frozen=True, slots=True)
class MaskPlane:
    """One plane of a mask file: (rows, cols), bad where its number is not 0; NaN is bad.

    inside : the plane of a FITS file; or the array of a Zarr store by name, and the place of the
        plane on its leading axes
    """

    path: Path
    where: str
    shape: tuple[int, int]
    inside: FitsPlane | tuple[str, tuple[int, ...]]

    def bad(self, rows: slice, cols: slice) -> NDArray[np.bool_]:
        """Read one region."""
        if isinstance(self.inside, FitsPlane):
            shown: NDArray[np.bool_] = self.inside.physical(rows, cols) != 0
            return shown
        name, leading = self.inside
        try:
            array = arrays_of(open_node(self.path))[name]
            place: list[Any] = [*leading, rows, cols]
            stored = np.asarray(array[tuple(place)])
            bad: NDArray[np.bool_] = physical(stored, attributes_of(array)) != 0
        except ZARR_ERRORS as error:
            raise FrameError(f"{self.path}: {self.where} cannot be read: {error}") from error
        return bad


@dataclass(frozen=True, slots=True)
class MaskedPixels(PixelsOver):
    """Pixels of another source less those that a mask hides.

    What is hidden reads NaN, so that it is no saturated pixel either: it was asked for.
    """

    mask: MaskPlane

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read one region."""
        pixels = self.inner.read(rows, cols)
        bad = self.mask.bad(rows, cols)
        science = np.where(bad, np.float32(np.nan), pixels.science)
        return replace(pixels, science=science, masked=pixels.masked | bad)


def with_mask(frames: Sequence[Frame], text: str | None) -> tuple[Frame, ...]:
    """Hide from the planes of one file what a mask file hides; None hides nothing.

    text : FILE or FILE[EXT]. As many planes as there are frames are taken one by one, in the order
    of the files; one plane is taken for all. Raises FrameError where that does not fit.
    """
    if text is None:
        return tuple(frames)
    whole = whole_frames(frames)
    masks = _chosen(open_mask(text), whole, text)
    hidden = {
        id(frame): _hidden(frame, mask, text) for frame, mask in zip(whole, masks, strict=True)
    }
    return tuple(
        as_image_of(hidden[id(one)], frame) for frame in frames for one in whole_frames([frame])
    )


def open_mask(text: str) -> tuple[MaskPlane, ...]:
    """Open every plane of a mask file; raises FrameError where it holds none."""
    path, inside = split_selector(text)
    if not path.exists():
        raise FrameError(f"{path}: no such file; give a mask, a FITS file or a Zarr store")
    selector = None if not inside or path.is_dir() else parse_selector(inside)
    planes = tuple(_zarr_planes(path, inside) if path.is_dir() else _fits_planes(path, selector))
    if not planes:
        what = f"[{inside}] is" if inside else "it holds"
        raise FrameError(f"{path}: {what} no image of two axes or more; give a mask, FILE[EXT]")
    return planes


def check_holes(frame: Frame, text: str | None, *, may_be_none: bool = False) -> None:
    """Raise EmptyFrameError where a frame has no pixel to fill, or none to fill from.

    text : the mask that hides them, for people; may_be_none : holes may yet be found
    Of a mosaic of filters one with a hole is enough: its other images are known as they are.
    Warns where they are most of the frame.
    """
    bad, pixels = _count_bad(frame), frame.shape[0] * frame.shape[1]
    some_bad = bad > 0 or may_be_none or any(map(_count_bad, images_beside(frame)))
    some_known = bad < pixels
    if some_bad and some_known:
        if bad > _MOST_FILLED * pixels:
            log.warning(
                "%s: %.0f%% of the pixels are to be filled from the rest%s",
                frame.path,
                100 * bad / pixels,
                ""
                if text is None
                else "; is the mask the other way round? What is not 0 is filled",
            )
        return
    mask = "" if text is None else f"--mask {text} and "
    if some_bad:
        raise EmptyFrameError(
            f"{frame.path}: {mask}its own flags hide every pixel: nothing is left to fill from"
        )
    raise EmptyFrameError(
        f"{frame.path}: nothing to fill: {mask}its own flags hide no pixel, and none is NaN; give "
        "--mask FILE, or --dq and --bad-bits, or take `dip denoise`"
    )


def _count_bad(frame: Frame) -> int:
    regions = bands(frame.shape, max(1, _BAND_PX // frame.shape[1]))
    return sum(int(np.count_nonzero(frame.read(rows, slice(None)).masked)) for rows in regions)


def _chosen(
    masks: tuple[MaskPlane, ...], frames: Sequence[Frame], text: str
) -> tuple[MaskPlane, ...]:
    """Give each frame its mask."""
    if len(masks) == len(frames):
        return masks
    if len(masks) == 1:
        return masks * len(frames)
    fitting = [mask for mask in masks if mask.shape == frames[0].shape]
    if len(frames) == 1 and len(fitting) == 1:
        return (fitting[0],)
    held = ", ".join(f"{mask.where} {mask.shape}" for mask in masks[:8])
    raise FrameError(
        f"--mask {text}: {len(masks)} planes for {len(frames)} of {frames[0].path}; need one, or "
        f"as many: name it with FILE[EXT]; the file holds {held}"
    )


def _hidden(frame: Frame, mask: MaskPlane, text: str) -> Frame:
    if mask.shape != frame.shape:
        raise FrameError(
            f"--mask {text}: {mask.where} has shape {mask.shape}, {frame.label or 'the image'} of "
            f"{frame.path} has {frame.shape}: need the same"
        )
    words = f"mask file {mask.path.name}, {mask.where}"
    return replace(
        frame,
        source=MaskedPixels(frame.source, mask),
        has_mask=True,
        flag_words=f"{frame.flag_words}; {words}" if frame.flag_words else words,
    )


def _fits_planes(path: Path, selector: Selector | None) -> Iterator[MaskPlane]:
    with fits_file(path) as opened:
        hdus = opened.layout.hdus
    for hdu in hdus:
        asked = selector is None or selector.means(hdu)
        if not asked or not hdu.has_pixels or len(hdu.shape) < 2:
            continue
        shape = (hdu.shape[-2], hdu.shape[-1])
        axes = hdu.shape[:-2]
        for leading in np.ndindex(axes):
            where = f"{hdu.where}, plane {list(leading)}" if max(axes, default=1) > 1 else hdu.where
            plane = plane_of(path, file_state(path), hdu, leading)
            yield MaskPlane(path.absolute(), where, shape, plane)


def _zarr_planes(path: Path, name: str | None) -> Iterator[MaskPlane]:
    arrays = {
        key: array
        for key, array in arrays_of(open_node(path)).items()
        if len(array.shape) >= 2 and getattr(array.dtype, "kind", "") in _NUMBERS
    }
    if name is None:
        name = next((key for key in (*_ARRAYS, *arrays) if key in arrays), "")
        if name not in _ARRAYS and len(arrays) > 1:
            raise FrameError(
                f"{path}: no array mask or flags, and several others: {', '.join(arrays)}; name "
                "one, FILE[ARRAY]"
            )
    if name not in arrays:
        return
    array = arrays[name]
    shape = (int(array.shape[-2]), int(array.shape[-1]))
    for leading in np.ndindex(tuple(array.shape[:-2])):
        where = f"array {name}" + (f", plane {list(leading)}" if leading else "")
        yield MaskPlane(path.absolute(), where, shape, (name, leading))
