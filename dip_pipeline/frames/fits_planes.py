"""One image HDU of a FITS file: stored numbers to physical ones, region by region."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.compressed_cards import image_cards_of_table
from dip_pipeline.frames.fits_cards import parse_cards
from dip_pipeline.frames.fits_file import (
    READ_ERRORS,
    FileState,
    fits_file,
    log_warnings,
)
from dip_pipeline.frames.fits_layout import HduSpan
from dip_pipeline.frames.frame import header_mapping


@dataclass(frozen=True, slots=True)
class FitsPlane:
    """A two-dimensional plane of an image HDU, and how its stored numbers become physical.

    leading : index in the axes before the last two
    """

    path: Path
    state: FileState
    index: int
    leading: tuple[int, ...] = ()
    scale: float = 1.0
    zero: float = 0.0
    blank: int | None = None

    def stored(self, rows: slice, cols: slice) -> NDArray[np.generic]:
        """Read stored numbers of one region, never the whole plane."""
        with fits_file(self.path, self.state) as opened:
            try:
                with log_warnings(opened.path):
                    return opened.section(self.index, (*self.leading, rows, cols))
            except READ_ERRORS as error:
                raise FrameError(
                    f"{opened.path}: pixels of HDU {self.index}, rows {rows.start} to "
                    f"{rows.stop}, cannot be read: {' '.join(str(error).split())}"
                ) from error

    def numbers(self, rows: slice, cols: slice) -> NDArray[np.generic]:
        """Read numbers of one region, integers as integers."""
        return _scaled(self.stored(rows, cols), self)

    def physical(self, rows: slice, cols: slice) -> NDArray[np.generic]:
        """Physical values: BZERO + BSCALE * stored; NaN where stored is BLANK."""
        stored = self.stored(rows, cols)
        values = _scaled(stored, self)
        if self.blank is not None:
            values = values.astype(np.float64)
            values[stored == self.blank] = np.nan
        return values


def plane_of(
    path: Path, state: FileState, hdu: HduSpan, leading: tuple[int, ...] = ()
) -> FitsPlane:
    """Describe one plane of an HDU; leading axes that are not named are of length 1."""
    values = header_mapping(parse_cards(hdu.cards))
    scale, zero, blank = values.get("BSCALE"), values.get("BZERO"), values.get("BLANK")
    axes = max(0, len(hdu.shape) - 2)
    place = (0,) * (axes - len(leading)) + leading[len(leading) - axes :] if axes else ()
    # One plane for all of a cube: its axis has a length of 1.
    place = tuple(min(at, side - 1) for at, side in zip(place, hdu.shape, strict=False))
    return FitsPlane(
        path=path.absolute(),
        state=state,
        index=hdu.index,
        leading=place,
        scale=float(scale) if isinstance(scale, int | float) else 1.0,
        zero=float(zero) if isinstance(zero, int | float) else 0.0,
        blank=blank if isinstance(blank, int) and hdu.bitpix > 0 else None,
    )


def image_cards_of(hdu: HduSpan) -> list[bytes]:
    """Raw cards of an image; of a compressed one those of the image inside it."""
    return image_cards_of_table(hdu.cards) if hdu.kind == "compressed" else list(hdu.cards)


def _scaled(stored: NDArray[np.generic], plane: FitsPlane) -> NDArray[np.generic]:
    """Scale in float64, or exactly where integers are only shifted."""
    if stored.dtype.kind in "iu" and plane.scale == 1.0 and plane.zero.is_integer():
        return _unsigned(stored, int(plane.zero))
    if plane.scale == 1.0 and plane.zero == 0.0:
        return stored
    values: NDArray[np.float64] = stored.astype(np.float64) * plane.scale + plane.zero
    return values


def _unsigned(stored: NDArray[np.generic], zero: int) -> NDArray[np.generic]:
    """Undo the offset by which FITS holds unsigned (or signed 8-bit) integers, exactly."""
    native = stored.astype(stored.dtype.newbyteorder("="))
    kinds = {(2, 2**15): np.uint16, (4, 2**31): np.uint32, (8, 2**63): np.uint64}
    unsigned = kinds.get((native.dtype.itemsize, zero))
    if unsigned is not None:
        # Adding half the range flips the top bit, and nothing else.
        flipped: NDArray[np.generic] = native.view(unsigned) ^ unsigned(zero)
        return flipped
    return native if zero == 0 else native.astype(np.int64) + zero
