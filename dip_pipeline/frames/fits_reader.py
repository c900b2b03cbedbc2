"""FITS file to Frame: which HDU is the science, which belong to it, and reading by slices."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.compressed_cards import image_cards_of_table
from dip_pipeline.frames.fits_cards import parse_cards
from dip_pipeline.frames.fits_choice import PRODUCT_HDUS, choose_science, roles_of
from dip_pipeline.frames.fits_file import (
    READ_ERRORS,
    FileState,
    OpenFits,
    file_state,
    fits_file,
    log_warnings,
)
from dip_pipeline.frames.fits_layout import HduSpan, Layout, checksum_notes
from dip_pipeline.frames.frame import (
    Card,
    Frame,
    Pixels,
    PlaneInfo,
    RawHdu,
    Role,
    header_mapping,
    make_pixels,
)
from dip_pipeline.frames.provenance import own_keywords
from dip_pipeline.frames.selectors import parse_selector

logger = logging.getLogger(__name__)

_DTYPES = {8: "uint8", 16: "int16", 32: "int32", 64: "int64", -32: "float32", -64: "float64"}


@dataclass(frozen=True, slots=True)
class FitsPlane:
    """One image HDU and how its stored numbers become physical ones."""

    index: int
    leading_axes: int
    scale: float = 1.0
    zero: float = 0.0
    blank: int | None = None


@dataclass(frozen=True, slots=True)
class FitsPixels:
    """Pixels of one science HDU with its error (or variance) and flags, by slices."""

    path: Path
    state: FileState
    science: FitsPlane
    error: FitsPlane | None
    variance: FitsPlane | None
    flags: FitsPlane | None

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read one region of all planes."""
        with fits_file(self.path, self.state) as opened:
            science = _physical(opened, self.science, rows, cols)
            error = None
            if self.error is not None:
                error = _physical(opened, self.error, rows, cols)
            elif self.variance is not None:
                variance = _physical(opened, self.variance, rows, cols)
                with np.errstate(invalid="ignore"):
                    error = np.sqrt(variance.astype(np.float64))
        return make_pixels(science, error, self.read_flags(rows, cols))

    def read_flags(self, rows: slice, cols: slice) -> NDArray[np.generic] | None:
        """Read the flags of one region as integers."""
        if self.flags is None:
            return None
        with fits_file(self.path, self.state) as opened:
            stored = _stored(opened, self.flags, rows, cols)
        return _scaled(stored, self.flags)

    def science_header(self) -> tuple[int, tuple[int, ...], list[bytes]]:
        """Place, shape and raw cards of the science HDU, a compressed one as plain image."""
        with fits_file(self.path, self.state) as opened:
            hdu = opened.layout.hdus[self.science.index]
            return hdu.index, hdu.shape, _image_cards(hdu)

    def other_hdus(self) -> list[RawHdu]:
        """Every other HDU byte for byte, without the planes of an earlier restoration."""
        with fits_file(self.path, self.state) as opened:
            roles = roles_of(opened.layout, opened.layout.hdus[self.science.index])
            return [
                RawHdu(
                    order=hdu.index,
                    name=hdu.name,
                    role=roles[hdu.index],
                    header=b"".join(opened.blocks(hdu.header_start, hdu.data_start)),
                    data_bytes=hdu.end - hdu.data_start,
                    blocks=partial(self._blocks, hdu.data_start, hdu.end),
                )
                for hdu in opened.layout.hdus
                if hdu.index != self.science.index and hdu.name not in PRODUCT_HDUS
            ]

    def product_keywords(self) -> frozenset[str]:
        """Keywords of cards that an earlier restoration wrote into the science header."""
        with fits_file(self.path, self.state) as opened:
            return own_keywords(
                [parse_cards(h.cards) for h in opened.layout.hdus if h.name == "DIP_PROV"]
            )

    def _blocks(self, start: int, stop: int) -> Iterator[bytes]:
        with fits_file(self.path, self.state) as opened:
            yield from opened.blocks(start, stop)


def open_fits(path: Path, selector_text: str | None) -> Frame:
    """Open a FITS file as a Frame; reads headers and verifies check sums, no pixels yet.

    Raises FrameError for what is not a whole FITS file with a two-dimensional image.
    """
    with fits_file(path) as opened:
        layout = opened.layout
        for note in (*layout.notes, *checksum_notes(opened.stream, layout)):
            logger.warning("%s: %s", path, note)
        selector = None if selector_text is None else parse_selector(selector_text)
        science = choose_science(layout, selector, path)
        roles = roles_of(layout, science)
        cards = parse_cards(_image_cards(science))
        primary = parse_cards(layout.hdus[0].cards) if science.index else ()
    return _make_frame(path, layout, science, roles, (cards, primary))


def _make_frame(
    path: Path,
    layout: Layout,
    science: HduSpan,
    roles: dict[int, Role],
    headers: tuple[tuple[Card, ...], tuple[Card, ...]],
) -> Frame:
    header = header_mapping(*headers)
    if header_mapping(headers[0]).get("INHERIT") is False:
        header = header_mapping(headers[0])
    by_role = {role: layout.hdus[index] for index, role in reversed(roles.items())}
    source = FitsPixels(
        path=path.absolute(),
        state=file_state(path),
        science=_plane(science, headers[0]),
        error=_companion(by_role.get("error")),
        variance=_companion(by_role.get("variance")),
        flags=_companion(by_role.get("flags")),
    )
    rows, cols = science.plane_shape
    return Frame(
        path=path,
        format="fits",
        shape=(rows, cols),
        unit=str(header.get("BUNIT") or "").strip(),
        cards=headers[0],
        planes=tuple(
            PlaneInfo(
                name=hdu.name or ("PRIMARY" if hdu.index == 0 else ""),
                role=roles[hdu.index],
                shape=hdu.shape,
                dtype=_DTYPES.get(hdu.bitpix, "") if hdu.shape else hdu.kind,
                where=hdu.where,
            )
            for hdu in layout.hdus
            if hdu.data_bytes
        ),
        source=source,
        header=header,
        has_error_plane=source.error is not None or source.variance is not None,
        has_mask=source.flags is not None,
    )


def _companion(hdu: HduSpan | None) -> FitsPlane | None:
    return None if hdu is None else _plane(hdu, parse_cards(hdu.cards))


def _plane(hdu: HduSpan, cards: tuple[Card, ...]) -> FitsPlane:
    values = header_mapping(cards)
    scale, zero, blank = values.get("BSCALE"), values.get("BZERO"), values.get("BLANK")
    return FitsPlane(
        index=hdu.index,
        leading_axes=len(hdu.shape) - 2,
        scale=float(scale) if isinstance(scale, int | float) else 1.0,
        zero=float(zero) if isinstance(zero, int | float) else 0.0,
        blank=blank if isinstance(blank, int) and hdu.bitpix > 0 else None,
    )


def _image_cards(hdu: HduSpan) -> list[bytes]:
    """Raw cards of an image; of a compressed one those of the image inside it."""
    return image_cards_of_table(hdu.cards) if hdu.kind == "compressed" else list(hdu.cards)


def _stored(opened: OpenFits, plane: FitsPlane, rows: slice, cols: slice) -> NDArray[np.generic]:
    """Read stored numbers of one region through astropy's section, never the whole plane."""
    try:
        with log_warnings(opened.path):
            return opened.section(plane.index, (*[0] * plane.leading_axes, rows, cols))
    except READ_ERRORS as error:
        raise FrameError(
            f"{opened.path}: pixels of HDU {plane.index}, rows {rows.start} to {rows.stop}, "
            f"cannot be read: {error}"
        ) from error


def _physical(opened: OpenFits, plane: FitsPlane, rows: slice, cols: slice) -> NDArray[np.generic]:
    """Physical values: BZERO + BSCALE * stored; NaN where stored is BLANK."""
    stored = _stored(opened, plane, rows, cols)
    values = _scaled(stored, plane)
    if plane.blank is not None:
        values = values.astype(np.float64)
        values[stored == plane.blank] = np.nan
    return values


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
