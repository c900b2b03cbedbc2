"""Areas of one and the same number, where nothing was observed: masked, as NaN would be.

Mosaics hold zeros between their chips and beyond their edges. Taken for light they are a sky
without noise that ends at once, as no network draws it: pixels beside them come out wrong, and no
risk can be told.

Other areas are even, too: a dark sky that was cut off at zero, the clipped core of a star, a sky of
whole numbers that agree by chance. Beside a dark sky light falls to that number step by step, of a
clipped core all around is darker, and numbers that agree by chance are found elsewhere, too.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_opening, maximum_filter, minimum_filter

from dip_pipeline.frames import Frame, Pixels, PixelsOver, around

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Place = tuple[slice, slice]

_WORDS = "areas of one and the same number"
_SIDE_PX = 5  # of a square of equal pixels, at least
_SQUARE = np.ones((_SIDE_PX, _SIDE_PX), dtype=bool)
_BESIDE = np.ones((3, 3), dtype=bool)
_CORNERS_PX = 4  # how far pixels of that number beside a square belong to it: slanted edges
_MARGIN_PX = _SIDE_PX + _CORNERS_PX
_SHARE = 0.2  # of all pixels in squares, at least, that hold the number: pixels drawn larger do not
_FEWEST_BESIDE = 20
_ELSEWHERE = 0.2  # of the other pixels, at most, that hold it, too: by chance squares need 0.5
_BOTH_SIDES = 0.2  # of the pixels beside, at least, that are below it, and above
_MANY_STEPS = 3.0  # of whole numbers, by which these differ from it
_ABOVE_SIGMA, _NEARER = 4.0, 0.05  # how far above it pixels beside are; share of those that are not
_SIGMA_OF_MAD = 1.4826


@dataclass(frozen=True, slots=True)
class WithoutBlanks(PixelsOver):
    """Pixels of another source; areas of some numbers are masked.

    values : these numbers; shape : (rows, cols) of the frame
    """

    values: tuple[float, ...]
    shape: tuple[int, int]

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read one region."""
        wide, inner = around(rows, cols, self.shape, _MARGIN_PX)
        seen = self.inner.read(*wide)
        found = np.any([_areas(seen, value) for value in self.values], axis=0)
        return replace(seen, masked=seen.masked | found).cut(inner)


def without_blanks(frame: Frame, places: Sequence[Place]) -> Frame:
    """Mask the areas of a frame where every pixel holds one number that is no light.

    places : rows and columns of the windows to look at
    """
    parts = [frame.read(*place) for place in places]
    values = tuple(value for value in _candidates(parts) if _is_blank(parts, value))
    if not values:
        return frame
    source = WithoutBlanks(frame.source, values, frame.shape)
    seen = sum(part.masked.size for part in parts)
    number = sum(np.count_nonzero(_areas(part, value)) for part in parts for value in values)
    log.warning(
        "%s: %.2g %% of its pixels lie in areas where every pixel is %s, as between the chips of a "
        "mosaic: nothing was observed there; taken as masked",
        *(frame.path, 100 * number / seen, " or ".join(f"{value:g}" for value in values)),
    )
    words = f"{frame.flag_words}; {_WORDS}" if frame.flag_words else _WORDS
    return replace(frame, source=source, flag_words=words)


def _areas(pixels: Pixels, value: float) -> Mask:
    same = (pixels.science == np.float32(value)) & ~pixels.masked
    squares = binary_opening(same, _SQUARE)
    found: Mask = (
        binary_dilation(squares, _BESIDE, _CORNERS_PX, mask=same) if squares.any() else squares
    )
    return found


def _candidates(parts: Sequence[Pixels]) -> list[float]:
    """Numbers that fill squares, most of all that do."""
    found = []
    for part in parts:
        filled = np.where(part.masked, np.float32(0), part.science)
        even = maximum_filter(filled, _SIDE_PX) == minimum_filter(filled, _SIDE_PX)
        found.append(filled[even & ~part.masked])
    values, counts = np.unique(np.concatenate(found), return_counts=True)
    return [float(value) for value in values[counts >= _SHARE * counts.sum()]]


def _is_blank(parts: Sequence[Pixels], value: float) -> bool:
    """Whether areas of one number are none of light, by the pixels beside them."""
    off, step, elsewhere = (np.concatenate(each) for each in zip(
        *(_beside(part, value) for part in parts), strict=True
    ))  # fmt: skip
    if off.size < _FEWEST_BESIDE or elsewhere.mean() > _ELSEWHERE or not step.any():
        return False
    if min(np.mean(off < 0), np.mean(off > 0)) > _BOTH_SIDES:
        return bool(np.median(np.abs(off)) > _MANY_STEPS * step[step > 0].min())
    sigma = _SIGMA_OF_MAD * float(np.median(step)) / 2**0.5
    return bool(np.quantile(off, _NEARER) > _ABOVE_SIGMA * sigma > 0)


def _beside(pixels: Pixels, value: float) -> tuple[Floats, Floats, Mask]:
    """Look at what is not in the areas of a number.

    Gives how far above it pixels beside them are, by how much pixels beside each other differ, and
    which hold the number themselves.
    """
    area = _areas(pixels, value)
    known = ~pixels.masked & ~area
    off = np.where(known, pixels.science - np.float32(value), np.float32(0))
    step = np.abs(np.diff(off, axis=1))[known[:, 1:] & known[:, :-1]]
    return off[binary_dilation(area, _BESIDE) & known], step, off[known] == 0
