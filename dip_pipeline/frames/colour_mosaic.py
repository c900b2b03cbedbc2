"""Raw frames of colour cameras: a mosaic of 2 x 2 filters, and each of its pixels sees one colour.

Neighbours differ by their filters, so that nothing smooth goes through all pixels: the four that
repeat are four images, half as large along each axis, which are restored one by one and put back
where they were. Nothing is interpolated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.frames.filter_cards import cards_of_filter, header_of_filter
from dip_pipeline.frames.filter_pattern import FILTER_CARDS, PATTERN, PLACES, pattern_of
from dip_pipeline.frames.frame import Frame, Pixels, PlaneArray, RestoredFrame, RestoredPlanes
from dip_pipeline.frames.pixels_over import PixelsOver
from dip_pipeline.frames.restored_hdu import delivered

_ONLY_IMAGE = "the image"  # of a Zarr group, which no name is needed for


@dataclass(frozen=True, slots=True)
class FilterPixels(PixelsOver):
    """Pixels of a mosaic that lie behind one of its four filters.

    mosaic : the frame that they are of; pattern : its filters, row by row; place : of this one
    """

    mosaic: Frame
    pattern: str
    place: tuple[int, int]

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read one region; its bounds count pixels of this filter."""
        return self.inner.read(*self._around(rows, cols)).cut((slice(None, None, 2),) * 2)

    def read_flags(self, rows: slice, cols: slice) -> NDArray[np.generic] | None:
        """Read the flags of one region."""
        flags = self.inner.read_flags(*self._around(rows, cols))
        return None if flags is None else np.ascontiguousarray(flags[::2, ::2])

    def _around(self, rows: slice, cols: slice) -> tuple[slice, slice]:
        return _in_mosaic(rows, self.place[0]), _in_mosaic(cols, self.place[1])


@dataclass(frozen=True, slots=True)
class FilterPlane:
    """One of the four images in a plane that holds a mosaic."""

    whole: PlaneArray
    place: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, cols = self.whole.shape
        return _shape_of((rows, cols), self.place)

    def __getitem__(self, region: tuple[slice, slice]) -> NDArray[np.generic]:
        """One band."""
        bounds = [
            _in_mosaic(slice(*part.indices(side)[:2]), at)
            for part, side, at in zip(region, self.shape, self.place, strict=True)
        ]
        return np.asarray(self.whole[bounds[0], bounds[1]])[::2, ::2]


@dataclass(frozen=True, slots=True)
class WholePlane:
    """Four images as the plane of the mosaic that they are of."""

    images: Mapping[tuple[int, int], PlaneArray]
    shape: tuple[int, int]

    def __getitem__(self, region: tuple[slice, slice]) -> NDArray[np.generic]:
        """One band."""
        (top, bottom), (left, right) = (
            part.indices(side)[:2] for part, side in zip(region, self.shape, strict=True)
        )
        first, last = top // 2, -(-bottom // 2)
        made: NDArray[np.generic] | None = None
        for (row, col), image in self.images.items():
            rows, cols = image.shape
            part = np.asarray(image[slice(first, min(last, rows)), slice(0, cols)])
            if made is None:
                made = np.zeros((2 * (last - first), self.shape[1]), part.dtype)
            made[row : row + 2 * len(part) : 2, col::2] = part
        assert made is not None  # there are four
        return made[top - 2 * first : bottom - 2 * first, left:right]


def filters_apart(frames: Sequence[Frame], asked: str | None = None) -> tuple[Frame, ...]:
    """Give the four images of every mosaic among the planes of a file, and other planes as is.

    asked : the filters of all, or "none"; None for what the cards say, which is believed unless
        the pixels say otherwise: binned frames and colours that were interpolated keep the card
    """
    found: list[Frame] = []
    for frame in frames:
        pattern = pattern_of(frame) if asked is None else asked
        is_mosaic = PATTERN.fullmatch(pattern) is not None and min(frame.shape) > 1
        found += _images_of(frame, pattern) if is_mosaic else [frame]
    return tuple(found)


def mosaic_of(frame: Frame) -> tuple[Frame, str] | None:
    """Give the mosaic that a frame is an image of, and its filters; None where it is of none."""
    source: object = frame.source
    while isinstance(source, PixelsOver):
        if isinstance(source, FilterPixels):
            return source.mosaic, source.pattern
        source = source.inner
    return None


def as_image_of(whole: Frame, image: Frame) -> Frame:
    """Give a changed mosaic as one of its images, that of `image`; what is of none, as it is."""
    mosaic = mosaic_of(image)
    if mosaic is None:
        return whole
    images = _images_of(whole, mosaic[1])
    return next(one for one in images if one.plane_index == image.plane_index)


def images_beside(frame: Frame) -> list[Frame]:
    """Give the images behind the other filters of the mosaic that a frame is of; none of none."""
    mosaic = mosaic_of(frame)
    if mosaic is None:
        return []
    return [one for one in _images_of(*mosaic) if one.plane_index != frame.plane_index]


def whole_frames(frames: Sequence[Frame]) -> list[Frame]:
    """Give every plane of the file, a mosaic as the one that it is."""
    found: list[Frame] = []
    for frame in frames:
        mosaic = mosaic_of(frame)
        whole = frame if mosaic is None else mosaic[0]
        if not any(whole is one for one in found):
            found.append(whole)
    return found


def filters_together(restored: Sequence[RestoredFrame]) -> list[RestoredFrame]:
    """Put what was made of the images of each mosaic back where they were.

    An image that was left as it is leaves its pixels as they are, of unknown error.
    """
    found: list[RestoredFrame] = []
    for whole in whole_frames([item.frame for item in restored]):
        own = [item for item in restored if (mosaic_of(item.frame) or (item.frame,))[0] is whole]
        found.append(own[0] if own[0].frame is whole else _together(whole, own))
    return found


def filter_planes(
    planes: tuple[PlaneArray, PlaneArray, PlaneArray], pattern: object
) -> list[tuple[PlaneArray, PlaneArray, PlaneArray]]:
    """Give the images that were restored in one plane of a product, by its card.

    planes : science, error, flags; they are one image where the card names no filters
    """
    if not (isinstance(pattern, str) and PATTERN.fullmatch(pattern)):
        return [planes]
    return [
        (FilterPlane(science, place), FilterPlane(error, place), FilterPlane(flags, place))
        for science, error, flags in (planes,)
        for place in PLACES
    ]


def _images_of(frame: Frame, pattern: str) -> list[Frame]:
    return [
        replace(
            frame,
            shape=_shape_of(frame.shape, place),
            source=FilterPixels(frame.source, frame, pattern, place),
            cards=cards_of_filter(frame.cards, place, FILTER_CARDS),
            header=header_of_filter(frame.header, place, FILTER_CARDS),
            where=frame.where or _ONLY_IMAGE,
            plane_index=(*frame.plane_index, *place),
        )
        for place in PLACES
    ]


def _together(whole: Frame, items: Sequence[RestoredFrame]) -> RestoredFrame:
    by_place = {(i.frame.plane_index[-2], i.frame.plane_index[-1]): i for i in items}
    known = [item for item in items if item.planes is not None]
    if not known:
        return RestoredFrame(whole, None, ())
    joined = {
        name: WholePlane(
            {place: delivered(item, name) for place, item in by_place.items()}, whole.shape
        )
        for name in ("science", "error", "flags")
    }
    steps = [item.planes.step for item in known if item.planes is not None]
    sure = [step for step in steps if step is not None]
    step = min(sure) if len(sure) == len(items) else None
    return RestoredFrame(whole, RestoredPlanes(**joined, step=step), known[0].cards)


def _shape_of(whole: tuple[int, int], place: tuple[int, int]) -> tuple[int, int]:
    return (whole[0] - place[0] + 1) // 2, (whole[1] - place[1] + 1) // 2


def _in_mosaic(part: slice, place: int) -> slice:
    """Bounds in the mosaic of pixels of one filter, from the first to the last of them."""
    start = 2 * part.start + place
    return slice(start, max(start, 2 * part.stop + place - 1))
