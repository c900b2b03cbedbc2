"""HDUs of a FITS file as Zarr arrays: pixels as numbers, headers card by card, no byte lost.

An image of two or more axes becomes an array of its numbers (unsigned where FITS offsets them);
scaling is told by the names of the CF conventions, which other readers apply. Everything else is
kept as bytes. Attributes fits_* hold what it takes to write the same HDU again.
"""

import atexit
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.fits_cards import join_cards, parse_cards, split_cards
from dip_pipeline.frames.fits_layout import COPY_BYTES, padded
from dip_pipeline.frames.frame import RawHdu, header_mapping
from dip_pipeline.frames.zarr_thread import end_zarr_thread

atexit.register(end_zarr_thread)  # called before zarr's own, which was registered before it

CHUNK_PX = 256
RAW_CHUNK_BYTES = 4 * 1024 * 1024
HEADER = "fits_header"  # cards up to END, as text of 80 characters each
_ODD_HEADER = "fits_header_bytes"  # the whole header, where it is not those cards, END and blanks
_ODD_PADDING = "fits_padding"  # fill bytes after the data, where they are not zeros
_KEPT = ("fits_order", "fits_name", "fits_role")
_STORED = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}

# What zarr raises for damaged metadata, missing keys, and chunks that fail their check sum.
ZARR_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    RuntimeError,
    AttributeError,
    ArithmeticError,
)

ZarrArray = zarr.Array[Any]
Numbers = NDArray[np.generic]


@contextmanager
def reading(path: str | Path, what: str) -> Iterator[None]:
    """Turn what zarr raises on a damaged store into a FrameError in one line."""
    try:
        yield
    except ZARR_ERRORS as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise FrameError(f"{path}: {what} cannot be read: {text}") from error


def create_array(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    *,
    chunks: tuple[int, ...] = (),
    axes: Sequence[str | None] | Literal["by shape"] | None = "by shape",
) -> ZarrArray:
    """Create an array whose chunks carry a check sum, and are all written."""
    usual = (*[1] * (len(shape) - 2), CHUNK_PX, CHUNK_PX) if len(shape) > 1 else (RAW_CHUNK_BYTES,)
    chunks = chunks or tuple(min(c, max(1, side)) for c, side in zip(usual, shape, strict=False))
    names = (("y", "x") if len(shape) == 2 else None) if axes == "by shape" else axes
    return group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        fill_value=float("nan") if np.dtype(dtype).kind == "f" else 0,
        # Without its check sum, zstd reads most flipped bits back silently wrong.
        compressors=[ZstdCodec(level=3, checksum=True)],
        dimension_names=names,
        # A chunk of nothing but fill values would not be written: absent, it looks lost.
        config={"write_empty_chunks": True},
    )


def image_form(header: bytes) -> tuple[tuple[int, ...], np.dtype[Any], bool] | None:
    """Shape, type in memory, and whether the top bit is flipped; None for what stays bytes."""
    values = header_mapping(parse_cards(split_cards(header)))
    extension = str(values.get("XTENSION", "")).strip()
    axes = values.get("NAXIS")
    if extension not in ("", "IMAGE") or values.get("GROUPS") is True or not isinstance(axes, int):
        return None
    shape = tuple(int(str(values[f"NAXIS{axis}"])) for axis in range(axes, 0, -1))
    if len(shape) < 2 or 0 in shape or values.get("PCOUNT") not in (None, 0):
        return None
    kind = np.dtype(_STORED[int(str(values["BITPIX"]))])
    half = 1 << (8 * kind.itemsize - 1)
    plain = values.get("BSCALE") in (None, 1) and "BLANK" not in values
    if plain and kind.kind == "i" and values.get("BZERO") == half:
        return shape, np.dtype(f"u{kind.itemsize}"), True
    return shape, kind, False


def keep_hdu(group: zarr.Group, name: str, hdu: RawHdu) -> ZarrArray:
    """Write an HDU as an array of that name."""
    form = image_form(hdu.header)
    if form is None:
        array = create_array(group, name, (hdu.data_bytes,), "u1")
        for start, content in _rechunk(hdu, RAW_CHUNK_BYTES):
            array[start : start + len(content)] = np.frombuffer(content, np.uint8)
        padding = b""
    else:
        array = create_array(group, name, form[0], form[1].name)
        padding = _write_image(array, hdu, flipped=form[2])
    array.attrs.put(_attributes(hdu, padding))
    return array


def read_form(hdu: RawHdu) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape of an image HDU, and the type of its stored numbers."""
    values = header_mapping(parse_cards(split_cards(hdu.header)))
    axes = int(str(values["NAXIS"]))
    shape = tuple(int(str(values[f"NAXIS{axis}"])) for axis in range(axes, 0, -1))
    return shape, np.dtype(_STORED[int(str(values["BITPIX"]))])


def read_hdu(hdu: RawHdu) -> Numbers:
    """Numbers of a whole image HDU as they are meant, where FITS only offsets them; else stored."""
    values = header_mapping(parse_cards(split_cards(hdu.header)))
    shape, kind = read_form(hdu)
    if not shape:
        return np.zeros(0, kind)
    content = b"".join(hdu.blocks())
    stored = np.frombuffer(content, kind.newbyteorder(">"), int(np.prod(shape))).reshape(shape)
    native = stored.astype(kind)
    offset = values.get("BZERO")
    if isinstance(offset, int) and offset:
        other = np.dtype(f"{'i' if kind.kind == 'u' else 'u'}{kind.itemsize}")
        bits = native.view(f"u{kind.itemsize}")
        flipped: Numbers = (bits ^ _top_bit(bits.dtype)).view(other)
        return flipped
    return native


def is_hdu(array: ZarrArray) -> bool:
    """Whether an array is an HDU that was kept."""
    return HEADER in array.attrs


def hdu_of(path: Path, name: str, array: ZarrArray) -> RawHdu:
    """HDU that was kept in an array of the group at `path`; its bytes are read when asked for."""
    with reading(path, f"array {name}"):
        attributes = dict(array.attrs)
        cards = [str(card).encode("latin-1") for card in cast(list[str], attributes[HEADER])]
        odd = attributes.get(_ODD_HEADER)
        header = join_cards(cards) if odd is None else str(odd).encode("latin-1")
        size, form = array.nbytes, image_form(header)
        if form is not None and form[:2] != (array.shape, array.dtype):
            raise ValueError(f"header and numbers disagree: {form[:2]}")
        role = attributes["fits_role"]
        if not isinstance(role, str):
            raise TypeError(f"its role is {role}")
        return RawHdu(
            order=int(cast(int, attributes["fits_order"])),
            name=str(attributes["fits_name"]),
            role=cast(Any, role),
            header=header,
            data_bytes=size if form is None else padded(size),
            blocks=partial(_blocks, path, name),
        )


def _attributes(hdu: RawHdu, padding: bytes) -> dict[str, Any]:
    cards = split_cards(hdu.header)
    attributes: dict[str, Any] = dict(zip(_KEPT, (hdu.order, hdu.name, hdu.role), strict=True))
    attributes[HEADER] = [card.decode("latin-1") for card in cards]
    if join_cards(cards) != hdu.header:
        attributes[_ODD_HEADER] = hdu.header.decode("latin-1")
    if padding.strip(b"\0"):
        attributes[_ODD_PADDING] = padding.decode("latin-1")
    form = image_form(hdu.header)
    if form is not None and not form[2]:
        attributes |= _scaling(hdu.header)
    return attributes


def _scaling(header: bytes) -> dict[str, Any]:
    """Scaling of the numbers, by the names that other readers know."""
    values = header_mapping(parse_cards(split_cards(header)))
    scale, zero, blank = values.get("BSCALE"), values.get("BZERO"), values.get("BLANK")
    scaling: dict[str, Any] = {}
    if isinstance(scale, int | float) and scale != 1:
        scaling["scale_factor"] = float(scale)
    if isinstance(zero, int | float) and zero != 0:
        scaling["add_offset"] = float(zero)
    if isinstance(blank, int) and int(str(values["BITPIX"])) > 0:
        scaling["_FillValue"] = blank
    return scaling


def physical(stored: Numbers, attributes: dict[str, Any]) -> Numbers:
    """Numbers that stored ones stand for: scale, offset, and NaN where nothing was measured."""
    scale, offset = attributes.get("scale_factor", 1.0), attributes.get("add_offset", 0.0)
    blank = attributes.get("_FillValue")
    no_scale = scale == 1 and offset == 0
    known = isinstance(scale, int | float) and isinstance(offset, int | float)
    marked = isinstance(blank, int | float) and not isinstance(blank, bool)
    if not known or (no_scale and not marked):
        return stored
    if no_scale and stored.dtype.kind == "f":
        return np.where(stored == blank, stored.dtype.type("nan"), stored)
    values: NDArray[np.float64] = stored.astype(np.float64) * scale + offset
    if marked:
        values[stored == blank] = np.nan
    return values


def regions_of(shape: tuple[int, ...]) -> Iterator[Any]:
    """Bands of whole rows, plane by plane, in the order of the bytes."""
    if len(shape) < 2:
        length = shape[0] if shape else 0
        yield from (slice(i, min(i + COPY_BYTES, length)) for i in range(0, length, COPY_BYTES))
        if not shape:
            yield ...
        return
    if 0 in shape:
        return
    rows, cols = shape[-2:]
    height = max(1, min(rows, COPY_BYTES // (8 * cols) // CHUNK_PX * CHUNK_PX or CHUNK_PX))
    for plane in np.ndindex(shape[:-2]):
        for start in range(0, rows, height):
            yield (*plane, slice(start, min(start + height, rows)), slice(0, cols))


def _write_image(array: ZarrArray, hdu: RawHdu, *, flipped: bool) -> bytes:
    """Write the numbers of an image; returns the fill bytes that follow them."""
    kind = np.dtype(array.dtype)
    waiting, blocks = b"", hdu.blocks()
    for region in regions_of(array.shape):
        shape = (region[-2].stop - region[-2].start, region[-1].stop)
        wanted = shape[0] * shape[1] * kind.itemsize
        parts, size = [waiting], len(waiting)
        while size < wanted:
            parts.append(next(blocks))
            size += len(parts[-1])
        content = b"".join(parts)
        waiting = content[wanted:]
        stored = np.frombuffer(content[:wanted], kind.newbyteorder(">")).reshape(shape)
        values = stored.astype(kind)
        array[region] = values ^ _top_bit(kind) if flipped else values
    return waiting + b"".join(blocks)


def _blocks(path: Path, name: str) -> Iterator[bytes]:
    with reading(path, f"array {name}"):
        yield from _blocks_of(path, name)


def _blocks_of(path: Path, name: str) -> Iterator[bytes]:
    array = cast(ZarrArray, zarr.open_group(path, mode="r")[name])
    attributes = dict(array.attrs)
    cards = [str(card).encode("latin-1") for card in cast(list[str], attributes[HEADER])]
    form = image_form(join_cards(cards))
    if form is None:
        for start in range(0, array.shape[0], COPY_BYTES):
            yield np.asarray(array[start : start + COPY_BYTES]).tobytes()
        return
    kind = np.dtype(array.dtype)
    for region in regions_of(array.shape):
        values = np.asarray(array[region])
        if form[2]:
            values = values ^ _top_bit(kind)
        yield values.astype(kind.newbyteorder(">")).tobytes()
    fill = padded(array.nbytes) - array.nbytes
    yield str(attributes.get(_ODD_PADDING, "\0" * fill)).encode("latin-1")


def _top_bit(kind: np.dtype[Any]) -> np.generic:
    """Half the range of an unsigned type: adding it flips the top bit, and nothing else."""
    return cast(np.generic, kind.type(1 << (8 * kind.itemsize - 1)))


def _rechunk(hdu: RawHdu, size: int) -> Iterator[tuple[int, bytes]]:
    """Bytes of the data in whole chunks, each with its offset."""
    start, waiting = 0, b""
    for block in hdu.blocks():
        waiting += block
        while len(waiting) >= size:
            yield start, waiting[:size]
            start, waiting = start + size, waiting[size:]
    if waiting:
        yield start, waiting
