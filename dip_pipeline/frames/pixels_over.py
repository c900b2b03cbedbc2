"""Sources of pixels laid over another one: they change what is read, and forward the rest."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.frames.frame import Pixels, PixelSource, RawHdu, around

MOST_IN_ALL = 30.0  # times the usual error: a pixel of more has to show something
_CLEAR_SNR = 5.0  # by which it must differ from the sky then
MOST_BESIDE = 3.5  # times the error of the pixels around
_RING_PX = 3  # how far away these are: beyond double columns
_RING = (-_RING_PX, 0, _RING_PX)
_AXES = (((-1, 0), (1, 0)), ((0, -1), (0, 1)))  # the pixels beside one, by rows and by columns
_AS_NOISY = 0.7  # of the error of a line, that those along it have at least
_LIT = 1.2  # times the usual error beside a pixel: light may fall there
_LIT_SNR = 3.0  # by which a pixel must differ then


@dataclass(frozen=True, slots=True)
class PixelsOver:
    """Base of a source that has another one's file: a subclass says how it reads."""

    inner: PixelSource

    def read_flags(self, rows: slice, cols: slice) -> NDArray[np.generic] | None:
        """Read the flags of the file."""
        return self.inner.read_flags(rows, cols)

    def science_header(self) -> tuple[int, tuple[int, ...], list[bytes]] | None:
        """Header of the file's science."""
        return self.inner.science_header()

    def other_hdus(self) -> list[RawHdu]:
        """Return every other HDU of the file."""
        return self.inner.other_hdus()

    def product_keywords(self) -> frozenset[str]:
        """Keywords of cards that an earlier restoration wrote."""
        return self.inner.product_keywords()


@dataclass(frozen=True, slots=True)
class ScaledErrors(PixelsOver):
    """Pixels of another source, their errors times a factor."""

    factor: float

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read one region."""
        pixels = self.inner.read(rows, cols)
        if pixels.error is None:
            return pixels
        return replace(pixels, error=pixels.error * np.float32(self.factor))


@dataclass(frozen=True, slots=True)
class WithoutMarks(PixelsOver):
    """Pixels of another source; those that no light can reach hold no number, and are masked.

    level : of the frame; most : by which light may differ from it
    """

    level: float
    most: float

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read one region."""
        pixels = self.inner.read(rows, cols)
        marks = self.found(pixels)
        if not marks.any():
            return pixels
        science = np.where(marks, np.float32(np.nan), pixels.science)
        return replace(pixels, science=science, masked=pixels.masked | marks)

    def found(self, pixels: Pixels) -> NDArray[np.bool_]:
        """Which pixels hold such a number."""
        with np.errstate(invalid="ignore"):
            found: NDArray[np.bool_] = np.abs(pixels.science - self.level) > self.most
        return found


@dataclass(frozen=True, slots=True)
class WithoutHopeless(PixelsOver):
    """Pixels of another source; those that tell nothing beside the others are masked.

    Those of an error that is large in all the frame, and those of one that is large beside the
    pixels around: from these more is known of such a pixel than it shows itself.

    usual : error of the frame; level : of its sky; shape : (rows, cols) of the frame
    """

    usual: float
    level: float
    shape: tuple[int, int]

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read one region."""
        wide, inner = around(rows, cols, self.shape, _RING_PX)
        seen = self.inner.read(*wide)
        if seen.error is None:
            return seen.cut(inner)
        hopeless = self._in_all_the_frame(seen.science, seen.error)
        masked = seen.masked | hopeless
        known = seen.error[~masked]
        if known.size and known.max() > MOST_BESIDE * known.min():
            hopeless |= _stand_out(seen.science, seen.error, masked)
        if hopeless.any():
            error = np.where(hopeless, np.float32(np.inf), seen.error)
            seen = replace(seen, error=error, masked=seen.masked | hopeless)
        return seen.cut(inner)

    def _in_all_the_frame(
        self, science: NDArray[np.float32], error: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        with np.errstate(invalid="ignore"):
            shown = np.abs(science - self.level) >= _CLEAR_SNR * error
            large = np.isfinite(error) & (error > MOST_IN_ALL * self.usual)
        found: NDArray[np.bool_] = large & ~shown
        return found


def _stand_out(
    science: NDArray[np.float32], error: NDArray[np.float32], masked: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which pixels have much larger errors than those around, and do not differ from them clearly.

    Points and lines. Light has larger errors, too, but spreads: that of the sharpest star makes the
    errors of the pixels beside it a third of its own at least.
    """
    known, doubt = (np.where(masked, np.float32(np.nan), plane) for plane in (science, error))
    ring = [(down, across) for down in _RING for across in _RING if down or across]
    light, usual = _median(_moved(known, ring)), _median(_moved(doubt, ring))
    near = [_moved(doubt, places) for places in _AXES]
    far = [_moved(doubt, [(_RING_PX * down, _RING_PX * across) for down, across in places])
           for places in _AXES]  # fmt: skip
    with np.errstate(invalid="ignore"):
        large = np.isfinite(error) & (error > MOST_BESIDE * usual)
        point = np.any([error > MOST_BESIDE * np.fmax(*two) for two in near], axis=0)
        along = [
            _AS_NOISY * error < np.fmin(np.fmin(*a), np.fmin(*b))
            for a, b in zip(near, far, strict=True)
        ]
        across = [error > MOST_BESIDE * np.fmax(*two) for two in far]
        line = (along[0] & across[1]) | (along[1] & across[0])
        snr = np.abs(science - light) / error
        lit = np.fmax(np.fmax(*near[0]), np.fmax(*near[1])) > _LIT * usual
        shown = (snr >= _CLEAR_SNR) | ((snr >= _LIT_SNR) & lit)
    found: NDArray[np.bool_] = large & (point | line) & ~shown
    return found


def _median(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median of planes, the lower one of two; NaN where half of them are unknown."""
    ordered = np.sort(planes, axis=0)  # NaN last
    count = np.isfinite(ordered).sum(axis=0)
    middle = np.maximum(count - 1, 0) // 2
    median = np.take_along_axis(ordered, middle[None], axis=0)[0]
    return np.where(2 * count >= len(planes), median, np.float32(np.nan))


def _moved(plane: NDArray[np.float32], places: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """Lay a plane over itself, moved to each place; NaN beyond its edges."""
    rows, cols = plane.shape
    padded = np.pad(plane, _RING_PX, constant_values=np.nan)
    return np.stack(
        [padded[_RING_PX + down :, _RING_PX + across :][:rows, :cols] for down, across in places]
    )
