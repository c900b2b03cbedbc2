"""Which colour filters the pixels of a frame lie behind: what cards say, and whether pixels may.

The card BAYERPAT (MaxIm DL: COLORTYP) tells the filters of a 2 x 2 pattern, row by row; XBAYROFF
and YBAYROFF (older: BAYOFFX, BAYOFFY) at which of its columns and rows the pixels begin. Whether
rows go up or down (ROWORDER) is not asked: programs disagree whether the pattern does.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.frames.frame import Frame

MOSAIC_CARD = "DIPCFA"
PATTERN = re.compile("[RGBCMYWE]{4}")
PLACES = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Of a filter in the pattern: row, column."""

_PATTERN_CARDS = ("BAYERPAT", "COLORTYP")
_OFFSET_CARDS = (("YBAYROFF", "BAYOFFY"), ("XBAYROFF", "BAYOFFX"))
FILTER_CARDS = (MOSAIC_CARD, *_PATTERN_CARDS, *_OFFSET_CARDS[0], *_OFFSET_CARDS[1])
"""All that tell of the pattern, which no image behind one filter has."""

_LOOK_PX = 512  # side of the middle that is looked at
_BLOCK_PX = 16  # of one image: wide beside stars, whose cores fall on filters by chance
_LEAST_PX = 64  # of a side; of less the card alone tells
_LEVEL_SIGMA = 6.0  # between the levels of two filters, in standard errors of these
_ALIKE = 0.1  # relative difference of what light does to two filters


def filters_named(frame: Frame) -> str:
    """Read filters from the cards of a frame, in the order of its pixels; "" for none."""
    told = str(frame.header.get(MOSAIC_CARD) or "")
    if PATTERN.fullmatch(told):
        return told  # as its pixels have them
    texts = (str(frame.header.get(card) or "").strip().upper() for card in _PATTERN_CARDS)
    pattern = next((text for text in texts if PATTERN.fullmatch(text)), "")
    down, right = (_offset_of(frame, names) for names in _OFFSET_CARDS)
    if pattern:
        return "".join(pattern[2 * ((r + down) % 2) + (c + right) % 2] for r, c in PLACES)
    return ""


def _offset_of(frame: Frame, names: Sequence[str]) -> int:
    """Give the row, or column, of the pattern that pixels begin with; 0 where no card tells."""
    for name in names:
        try:
            value = float(str(frame.header.get(name)))
        except ValueError:
            continue
        if value.is_integer():
            return int(value)
    return 0


def pattern_of(frame: Frame) -> str:
    """Read filters from the cards, unless pixels contradict; "" for none."""
    pattern = filters_named(frame)
    sure = frame.header.get(MOSAIC_CARD) is not None
    return pattern if pattern and (sure or _may_alternate(frame)) else ""


def _may_alternate(frame: Frame) -> bool:
    """Whether the pixels of a frame may be behind unlike filters.

    False only where four images are told apart by nothing: neither their levels, nor what light
    does to them.
    """
    if min(frame.shape) < _LEAST_PX:
        return True
    starts = [max(0, (side - _LOOK_PX) // 2) // 2 * 2 for side in frame.shape]
    region = [
        slice(start, start + min(_LOOK_PX, side) // 2 * 2)
        for start, side in zip(starts, frame.shape, strict=True)
    ]
    seen = frame.read(*region)
    science = np.where(seen.masked, np.nan, seen.science.astype(np.float64))
    images = np.stack([science[row::2, col::2] for row, col in PLACES])
    if not np.isfinite(images).any(axis=(1, 2)).all():
        return True
    return _levels_differ(images) or _light_differs(images)


def _levels_differ(images: NDArray[np.float64]) -> bool:
    """Whether the medians of images (4, rows, cols) are not those of one."""
    levels = np.nanmedian(images, axis=(1, 2))
    scatter = np.nanmedian(np.abs(images - levels[:, None, None]), axis=(1, 2)) * 1.4826
    errors = 1.2533 * scatter / np.sqrt(np.isfinite(images).sum(axis=(1, 2)))
    sure = _LEVEL_SIGMA * float(np.hypot(errors.max(), errors.max()))
    return bool(np.ptp(levels) > max(sure, 1e-6 * float(np.abs(levels).max())))


def _light_differs(images: NDArray[np.float64]) -> bool:
    """Whether what is bright is unlike in images (4, rows, cols): by the slopes over blocks."""
    rows, cols = (side // _BLOCK_PX * _BLOCK_PX for side in images.shape[1:])
    cut = images[:, :rows, :cols].reshape(4, rows // _BLOCK_PX, _BLOCK_PX, -1, _BLOCK_PX)
    known = np.isfinite(cut).all(axis=(0, 2, 4))
    blocks = cut.mean(axis=(2, 4))[:, known]
    if blocks.shape[1] < 2:
        return False
    light = blocks - np.median(blocks, axis=1, keepdims=True)
    usual = light.mean(axis=0)
    power = float(usual @ usual)
    slopes = light @ usual / power if power > 0 else np.ones(4)
    left = light - slopes[:, None] * usual
    errors = np.sqrt((left**2).sum(axis=1) / (blocks.shape[1] - 1) / max(power, 1e-300))
    return bool(np.ptp(slopes) > max(_ALIKE, _LEVEL_SIGMA * float(errors.max())))
