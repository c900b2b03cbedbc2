"""Frame: one image file as the pipeline sees it, whatever its format; read region by region."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from dip_pipeline.errors import FrameError
from dip_pipeline.sensor.cards import section_of

Card = tuple[str, object, str]
"""Keyword, value (str, int, float, bool or None), comment."""

Role = Literal["science", "error", "variance", "weight", "flags", "other"]
Floats = NDArray[np.float32]

# Cards that a reduction leaves when it has taken the bias away: an overscan section named
# beside them is history, not data.
_BIAS_REMOVED = (
    "OVERSCAN", "OVERSCN", "BIASCOR", "ZEROCOR", "CCDPROC",
    # and these where it has cut the overscan off, so that the section lies in the light
    "SUBOSCAN", "SUBBIAS", "TRIM", "TRIMIM",
)  # fmt: skip
_ANY_SHAPE = (10**9, 10**9)  # of a frame, to tell a section beyond this one from text that is none


_LARGEST = float(np.finfo(np.float32).max)
_MOST_CONTRAST = 1e10  # of light over the usual numbers of a frame; more is a mark, or garbage


@dataclass(frozen=True, slots=True)
class Pixels:
    """One region of a frame, native byte order, axes (rows, cols).

    science : float32, NaN where the file holds no finite float32 number
    error : float32 standard deviation in the unit of science, inf where nothing is known;
        None where the file has no error plane
    masked : True where the flags say bad, science is NaN, or error is inf
    saturated : True where the flags say so; None where there are none that could
    bad : True where flags that tell saturated pixels call others bad; None without such flags
    """

    science: Floats
    error: Floats | None
    masked: NDArray[np.bool_]
    saturated: NDArray[np.bool_] | None = None
    bad: NDArray[np.bool_] | None = None

    def cut(self, region: tuple[slice, slice]) -> "Pixels":
        """Cut a part out of all planes."""
        return Pixels(
            np.ascontiguousarray(self.science[region]),
            None if self.error is None else np.ascontiguousarray(self.error[region]),
            np.ascontiguousarray(self.masked[region]),
            None if self.saturated is None else np.ascontiguousarray(self.saturated[region]),
            None if self.bad is None else np.ascontiguousarray(self.bad[region]),
        )

    def saturated_from(self, limit: float | None) -> NDArray[np.bool_]:
        """Tell saturated pixels by their value, from a limit in the frame's unit on, and by flags.

        Where flags tell saturated pixels from bad ones, a bad one is bad whatever it holds.
        """
        known = np.isfinite(self.science)
        by_value: NDArray[np.bool_] = known & (self.science >= (np.inf if limit is None else limit))
        if self.saturated is None or self.bad is None:
            return by_value
        saturated: NDArray[np.bool_] = (known & self.saturated) | (by_value & ~self.bad)
        return saturated


def around(
    rows: slice, cols: slice, shape: tuple[int, int], margin: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Widen a region by a margin inside the frame; also give the region as a part of the wider."""
    wide, inner = [], []
    for bound, length in zip((rows, cols), shape, strict=True):
        start = max(0, bound.start - margin)
        wide.append(slice(start, min(length, bound.stop + margin)))
        inner.append(slice(bound.start - start, bound.stop - start))
    return (wide[0], wide[1]), (inner[0], inner[1])


@dataclass(frozen=True, slots=True)
class PlaneInfo:
    """One plane of the file, for people: `where` says how to find it."""

    name: str
    role: Role
    shape: tuple[int, ...]
    dtype: str
    where: str


@dataclass(frozen=True, slots=True)
class RawHdu:
    """One HDU of the input that is not its science, as bytes.

    order : place in the file; role : what it means to the science HDU
    header : header bytes with END and padding; data_bytes : size of the data with padding
    blocks : starts reading the data, block by block
    """

    order: int
    name: str
    role: Role
    header: bytes
    data_bytes: int
    blocks: Callable[[], Iterator[bytes]]


class PixelSource(Protocol):
    """Where the pixels of a frame come from: plain values, opened anew (or cached) on read."""

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read one region; start and stop are given and lie inside the frame."""

    def read_flags(self, rows: slice, cols: slice) -> NDArray[np.generic] | None:
        """Read the flags of one region as integers; None where the file has none."""

    def science_header(self) -> tuple[int, tuple[int, ...], list[bytes]] | None:
        """Place, FITS shape and 80-byte cards of the science HDU; None: no FITS behind it."""

    def other_hdus(self) -> list[RawHdu]:
        """Return every other HDU of the FITS file behind the frame; [] where there is none."""

    def product_keywords(self) -> frozenset[str]:
        """Keywords of cards that an earlier restoration wrote into the science header."""


class PlaneArray(Protocol):
    """A plane that is read band by band: a numpy or a Zarr array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""

    def __getitem__(self, region: tuple[slice, slice], /) -> object:
        """One band."""


@dataclass(frozen=True, slots=True)
class RestoredPlanes:
    """What a restoration delivers: science and its error (float32), flags (uint8).

    step : in which science is stored where it is compressed, its unit; None: exactly
    """

    science: PlaneArray
    error: PlaneArray
    flags: PlaneArray
    step: float | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """One image: where it lies, what its header says, and its pixels on demand.

    cards : header of the science HDU in order, COMMENT and HISTORY included
    header : values by keyword; the science HDU outranks the primary
    layout : of the file, by name; where : its HDU, for people
    plane_index : which plane of its HDU it is, of several
    noise_words, flag_words : what its noise plane and its flags are, for people; "" without
    relative_noise : its sigma is known up to one factor alone, see `scale_noise`
    companions : other files that are read with it
    grow_px : by how many pixels its mask is grown
    """

    path: Path
    format: Literal["fits", "zarr"]
    shape: tuple[int, int]
    unit: str
    cards: tuple[Card, ...]
    planes: tuple[PlaneInfo, ...]
    source: PixelSource
    header: Mapping[str, object] = field(compare=False)
    has_error_plane: bool = False
    has_mask: bool = False
    layout: str = ""
    where: str = ""
    plane_index: tuple[int, ...] = ()
    noise_words: str = ""
    flag_words: str = ""
    relative_noise: bool = False
    companions: tuple[Path, ...] = ()
    grow_px: int = 0

    @property
    def label(self) -> str:
        """Which plane of the file this is, for people."""
        return f"{self.where}, plane {list(self.plane_index)}" if self.plane_index else self.where

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read one region, and only that region, from the file.

        rows, cols : as numpy takes them, step 1. Raises FrameError where the file cannot be
        read or is no longer the one that was opened.
        """
        bounds = [
            slice(start, max(start, stop))
            for start, stop, _ in (
                rows.indices(self.shape[0]),
                cols.indices(self.shape[1]),
            )
        ]
        if any(bound.start == bound.stop for bound in bounds):
            empty = np.empty([bound.stop - bound.start for bound in bounds], dtype=np.float32)
            return Pixels(empty, empty if self.has_error_plane else None, empty.astype(bool))
        if self.grow_px == 0:
            return self.source.read(bounds[0], bounds[1])
        return self._read_grown(bounds[0], bounds[1])

    def _read_grown(self, rows: slice, cols: slice) -> Pixels:
        """Read one region with its mask grown, by what lies around it, too."""
        wide, inner = around(rows, cols, self.shape, self.grow_px)
        pixels = self.source.read(*wide)
        grown = binary_dilation(pixels.masked, iterations=self.grow_px)
        return replace(pixels, masked=grown).cut(inner)

    def overscan_level(self, amplifier: str = "") -> float | None:
        """Median of the overscan section (BIASSEC) in the unit of the frame; None without one.

        amplifier : name of the one whose section (BIASSECA) is meant; "" for that of the frame
        A section outside the frame or inside its DATASEC or TRIMSEC, and one whose level was
        already subtracted, is none; nor is any where these lie outside the frame, which then was
        cut since.
        """
        if any(self.header.get(keyword) not in (None, False) for keyword in _BIAS_REMOVED):
            return None
        overscan = section_of(self.header.get(f"BIASSEC{amplifier}"), self.shape)
        if overscan is None:
            return None
        for keyword in ("TRIMSEC", f"DATASEC{amplifier}"):
            value = self.header.get(keyword)
            light = section_of(value, self.shape)
            if light is None and section_of(value, _ANY_SHAPE) is not None:
                return None
            if light is not None and all(map(_overlap, overscan, light)):
                return None
        science = self.read(*overscan).science
        finite = science[np.isfinite(science)]
        return float(np.median(finite)) if finite.size else None


@dataclass(frozen=True, slots=True)
class RestoredFrame:
    """One plane of a product: the frame of the input, and what was made of it.

    planes : None where it is left as it is; cards : what its header is to say of the restoration
    """

    frame: Frame
    planes: RestoredPlanes | None
    cards: tuple[Card, ...]


def make_pixels(
    science: NDArray[np.generic],
    error: NDArray[np.generic] | None,
    flags: NDArray[np.generic] | None,
    saturated: NDArray[np.bool_] | None = None,
    *,
    path: Path,
) -> Pixels:
    """Bring planes of a file to what the pipeline works with: native float32, one mask.

    error : standard deviation. A number too large for float32 counts as not finite.
    flags : bad where not zero
    Raises FrameError where science holds light that float32 cannot hold.
    """
    _check_range(science, path)
    pixels = _native_float32(science)
    pixels[~np.isfinite(pixels)] = np.nan
    masked = np.isnan(pixels)
    sigma = None
    if error is not None:
        sigma = _native_float32(error)
        with np.errstate(invalid="ignore"):
            unknown = ~(np.isfinite(sigma) & (sigma > 0))
        sigma[unknown] = np.inf
        masked |= unknown
    bad = None
    if flags is not None:
        masked |= flags != 0
        bad = None if saturated is None else np.asarray(flags != 0)
    return Pixels(pixels, sigma, masked, saturated, bad)


def header_mapping(*headers: tuple[Card, ...]) -> dict[str, object]:
    """Values by keyword: the first header outranks the next, the first card its repetitions."""
    values: dict[str, object] = {}
    for cards in headers:
        for keyword, value, _ in cards:
            if keyword not in ("", "COMMENT", "HISTORY", "CONTINUE", "END"):
                values.setdefault(keyword, value)
    return values


def bands(shape: tuple[int, int], rows_a_band: int) -> Iterator[slice]:
    """Cut a plane into bands of rows."""
    for start in range(0, shape[0], rows_a_band):
        yield slice(start, min(start + rows_a_band, shape[0]))


def _check_range(science: NDArray[np.generic], path: Path) -> None:
    """Raise FrameError for light beyond single precision; marks and garbage are no light."""
    if science.dtype.kind != "f" or science.dtype.itemsize <= 4:
        return
    size = np.abs(np.asarray(science, np.float64))
    size = size[np.isfinite(size)]
    if size.size and size.max() > _LARGEST and np.median(size) > _LARGEST / _MOST_CONTRAST:
        raise FrameError(
            f"{path}: its pixels reach {size.max():.2g}, beyond single precision "
            f"({_LARGEST:.2g}): divide the frame (and its errors) by a constant, or give it in "
            "another unit"
        )


def _native_float32(plane: NDArray[np.generic]) -> Floats:
    """Copy to float32; a number beyond its range becomes inf without a warning."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(plane, dtype=np.float32, order="C")


def _overlap(first: slice, second: slice) -> bool:
    return bool(first.start < second.stop and second.start < first.stop)
