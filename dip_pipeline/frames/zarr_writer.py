"""Restored planes to a Zarr group, chunk row by chunk row; all else of the input comes along."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from dip_pipeline.errors import OutputError
from dip_pipeline.flags import FLAG_MEANINGS
from dip_pipeline.frames.fits_cards import is_structural
from dip_pipeline.frames.frame import Card, Frame, PlaneArray, RawHdu, RestoredPlanes, bands
from dip_pipeline.frames.provenance import (
    PROVENANCE_NAME,
    TILES_NAME,
    Provenance,
    plain_cards,
    to_json,
)
from dip_pipeline.frames.zarr_reader import (
    FITS_GROUP,
    FITS_ORDER,
    FITS_SHAPE,
    OWN_KEYWORDS,
    ZarrArray,
    array_of,
    attributes_of,
    cards_to_json,
    open_group,
)

CHUNK_PX = 256
MAX_BAND_BYTES = 256 * 1024 * 1024  # a row of chunks is held in memory while it is written
RAW_CHUNK_BYTES = 4 * 1024 * 1024
_REPLACED = ("science", "DIP_ERR", "DIP_FLAG")


def write_zarr(part: Path, frame: Frame, planes: RestoredPlanes, provenance: Provenance) -> None:
    """Write the group and verify that every chunk of the new arrays is there."""
    group = zarr.create_group(part, zarr_format=3)
    attributes: dict[str, Any] = {"unit": frame.unit}
    science_attributes: dict[str, Any] = {}
    chunks = tuple(min(CHUNK_PX, axis) for axis in frame.shape)
    if frame.format == "zarr":
        source = open_group(frame.path)
        science = array_of(source, "science")
        attributes = attributes_of(source)
        science_attributes = attributes_of(science)
        own = tuple(science.shards or science.chunks)
        chunks = own if own[0] * frame.shape[1] * 4 <= MAX_BAND_BYTES else chunks
        _copy_members(frame.path, part)
    else:
        science_attributes = _take_fits_along(group, frame)
    attributes["cards"] = cards_to_json(_cards(frame, provenance))
    attributes[PROVENANCE_NAME] = to_json(provenance.document)
    attributes[TILES_NAME] = to_json(provenance.tiles)
    attributes[OWN_KEYWORDS] = list(provenance.keywords)
    group.attrs.put(attributes)
    meanings = {str(int(flag)): meaning for flag, meaning in FLAG_MEANINGS.items()}
    _write_plane(group, "science", planes.science, chunks, science_attributes)
    _write_plane(group, "DIP_ERR", planes.error, chunks, {"unit": frame.unit})
    _write_plane(group, "DIP_FLAG", planes.flags, chunks, {"bits": meanings}, dtype="uint8")


def needed_bytes(frame: Frame) -> int:
    """Room that the output needs at most, roughly: three planes, and what comes along."""
    along = sum(len(hdu.header) + hdu.data_bytes for hdu in frame.source.other_hdus())
    return along + frame.shape[0] * frame.shape[1] * 16


def _cards(frame: Frame, provenance: Provenance) -> tuple[Card, ...]:
    gone = frame.source.product_keywords() | set(provenance.keywords)
    kept = tuple(
        card
        for card in frame.cards
        if card[0] not in gone and not (frame.format == "fits" and is_structural(card[0]))
    )
    return kept + plain_cards(provenance)


def _write_plane(
    group: zarr.Group,
    name: str,
    plane: PlaneArray,
    chunks: tuple[int, ...],
    attributes: dict[str, Any],
    *,
    dtype: str = "float32",
) -> None:
    rows, cols = plane.shape
    array = _create(group, name, (rows, cols), chunks, dtype)
    array.attrs.put(attributes)
    for band in bands((rows, cols), chunks[0]):
        written = np.asarray(plane[band, slice(0, cols)]).astype(dtype)
        array[band, :] = written
        if np.asarray(array[band, :]).tobytes() != written.tobytes():
            raise OutputError(f"{name}: reads back otherwise than written; check the disk")
    if array.nchunks_initialized != array.nchunks:
        raise OutputError(
            f"{name}: {array.nchunks_initialized} of {array.nchunks} chunks on disk; try again"
        )


def _create(
    group: zarr.Group, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str
) -> ZarrArray:
    return group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        fill_value=float("nan") if dtype == "float32" else 0,
        # Without its check sum, zstd reads most flipped bits back silently wrong.
        compressors=[ZstdCodec(level=3, checksum=True)],
        dimension_names=("y", "x") if len(shape) == 2 else None,
        # A chunk of nothing but fill values would not be written: absent, it looks lost.
        config={"write_empty_chunks": True},
    )


def _copy_members(source: Path, part: Path) -> None:
    """Copy every other array and group of the input as files."""
    for member in sorted(source.iterdir()):
        if member.name in (*_REPLACED, "zarr.json"):
            continue
        if member.is_dir():
            litter = shutil.ignore_patterns("*.partial")  # of writers that were killed
            shutil.copytree(member, part / member.name, ignore=litter)
        else:
            shutil.copy2(member, part / member.name)


def _take_fits_along(group: zarr.Group, frame: Frame) -> dict[str, Any]:
    """Keep error, flags and every other HDU of a FITS input; return attributes of science."""
    chunks = tuple(min(CHUNK_PX, axis) for axis in frame.shape)
    if frame.has_error_plane:
        error = _create(group, "error", frame.shape, chunks, "float32")
        error.attrs["unit"] = frame.unit
        for band in bands(frame.shape, chunks[0]):
            error[band, :] = np.asarray(frame.read(band, slice(None)).error)
    if frame.has_mask:
        whole = slice(0, frame.shape[1])
        first = np.asarray(frame.source.read_flags(slice(0, 1), slice(0, 1)))
        flags = _create(group, "flags", frame.shape, chunks, first.dtype.name)
        for band in bands(frame.shape, chunks[0]):
            flags[band, :] = np.asarray(frame.source.read_flags(band, whole))
    for number, hdu in enumerate(frame.source.other_hdus()):
        _keep_raw(group, f"{FITS_GROUP}/{number:03d}", hdu)
    behind = frame.source.science_header()
    if behind is None:
        return {}
    return {FITS_ORDER: behind[0], FITS_SHAPE: list(behind[1])}


def _keep_raw(group: zarr.Group, name: str, hdu: RawHdu) -> None:
    size = len(hdu.header) + hdu.data_bytes
    array = _create(group, name, (size,), (min(size, RAW_CHUNK_BYTES),), "uint8")
    array.attrs.put(
        {
            "name": hdu.name,
            "order": hdu.order,
            "role": hdu.role,
            "header_bytes": len(hdu.header),
        }
    )
    for start, content in _rechunk(hdu):
        array[start : start + len(content)] = np.frombuffer(content, dtype=np.uint8)


def _rechunk(hdu: RawHdu) -> Iterator[tuple[int, bytes]]:
    """Bytes of an HDU in whole chunks, each with its offset."""
    start, waiting = 0, hdu.header
    for block in hdu.blocks():
        waiting += block
        while len(waiting) >= RAW_CHUNK_BYTES:
            yield start, waiting[:RAW_CHUNK_BYTES]
            start, waiting = start + RAW_CHUNK_BYTES, waiting[RAW_CHUNK_BYTES:]
    if waiting:
        yield start, waiting
