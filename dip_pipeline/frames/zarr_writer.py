"""Restored planes to a Zarr group, chunk row by chunk row; all else of the input comes along."""

import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from dip_pipeline.errors import OutputError
from dip_pipeline.flags import FLAG_MEANINGS
from dip_pipeline.frames.finer_frame import arrays_left_out, coarse_of
from dip_pipeline.frames.fits_cards import is_structural
from dip_pipeline.frames.fits_pixels import FitsPixels
from dip_pipeline.frames.flag_rules import ANY_FLAG, rule_to_json
from dip_pipeline.frames.frame import Card, Frame, PlaneArray, RawHdu, RestoredFrame, bands
from dip_pipeline.frames.provenance import (
    PROVENANCE_NAME,
    TILES_NAME,
    Provenance,
    plain_cards,
    to_json,
)
from dip_pipeline.frames.restored_hdu import delivered, in_order, stack_shape
from dip_pipeline.frames.stale_cards import kept_cards
from dip_pipeline.frames.zarr_choice import (
    DERIVED,
    FLAG_RULE,
    RELATIVE_ERROR,
    array_of,
    arrays_of,
    attributes_of,
    open_node,
)
from dip_pipeline.frames.zarr_hdus import (
    CHUNK_PX,
    HEADER,
    ZarrArray,
    create_array,
    image_form,
    keep_hdu,
)
from dip_pipeline.frames.zarr_reader import (
    FITS_GROUP,
    FITS_ORDER,
    FITS_SHAPE,
    OWN_KEYWORDS,
    ZarrPixels,
    cards_to_json,
)

MAX_BAND_BYTES = 256 * 1024 * 1024  # a row of chunks is held in memory while it is written
_REPLACED = ("science", "DIP_ERR", "DIP_FLAG")
_PLANES = {"science": "science", "error": "error", "flags": "flags"}
_OF_STORED = ("scale_factor", "add_offset", "_FillValue", HEADER)


def write_zarr(part: Path, restored: Sequence[RestoredFrame], provenance: Provenance) -> None:
    """Write the group and verify that every chunk of the new arrays is there.

    restored : one plane, or those of a stack
    """
    items = in_order(restored)
    frame = items[0].frame
    group = zarr.create_group(part, zarr_format=3)
    attributes: dict[str, Any] = {"unit": frame.unit}
    science_attributes: dict[str, Any] = {}
    chunks: tuple[int, ...] = tuple(min(CHUNK_PX, axis) for axis in frame.shape)
    behind = coarse_of(frame.source)
    if isinstance(behind, ZarrPixels):
        source = open_node(frame.path)
        name = behind.names.science
        science = array_of(source, name)
        attributes = attributes_of(source) if name else {}
        science_attributes = _true_attributes(attributes_of(science))
        own = tuple(science.shards or science.chunks)[-2:]
        chunks = own if own[0] * frame.shape[1] * 4 <= MAX_BAND_BYTES else chunks
        _copy_members(frame, part, group, {name, *arrays_left_out(frame)})
        science_attributes |= _place_attributes(frame, science_attributes)
    else:
        science_attributes = _take_fits_along(group, frame)
        attributes |= facts_of_planes(frame)
    attributes["cards"] = cards_to_json(_cards(frame, provenance))
    attributes[PROVENANCE_NAME] = to_json(provenance.document)
    attributes[TILES_NAME] = to_json(provenance.tiles)
    attributes[OWN_KEYWORDS] = list(provenance.keywords)
    group.attrs.put(attributes)
    _write_planes(group, items, chunks, science_attributes)


def _true_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes of the input's science that are true of restored pixels: not its scaling."""
    return {name: value for name, value in attributes.items() if name not in _OF_STORED}


def check_place(frame: Frame) -> None:
    """Refuse a group whose product would take the place of another image than it was made of."""
    source = coarse_of(frame.source)
    if not isinstance(source, ZarrPixels) or source.names.science in ("", "science"):
        return
    if "science" in arrays_of(open_node(source.path)):
        raise OutputError(
            f"{source.path}[{source.names.science}]: its group has another image, `science`, which "
            "the restored one would take the place of; write to a name that ends in .fits"
        )


def needed_bytes(restored: Sequence[RestoredFrame]) -> int:
    """Room that the output needs at most, roughly: three planes of each, and what comes along."""
    frame = restored[0].frame
    along = sum(len(hdu.header) + hdu.data_bytes for hdu in frame.source.other_hdus())
    return along + len(restored) * frame.shape[0] * frame.shape[1] * 16


def _cards(frame: Frame, provenance: Provenance) -> tuple[Card, ...]:
    gone = frame.source.product_keywords() | set(provenance.keywords)
    kept = tuple(
        card
        for card in frame.cards
        if card[0] not in gone and not (frame.format == "fits" and is_structural(card[0]))
    )
    return kept_cards(kept) + plain_cards(provenance)


def _write_planes(
    group: zarr.Group,
    items: Sequence[RestoredFrame],
    chunks: tuple[int, ...],
    science_attributes: dict[str, Any],
) -> None:
    """Write science, error and flags: of one plane, or as stacks of several."""
    frame, shape = items[0].frame, stack_shape(items)
    chunks = (*(1 for _ in frame.plane_index), *chunks)
    names = _names_of_axes(frame, len(shape)) if frame.plane_index else "by shape"
    meanings = {str(int(flag)): text for flag, text in FLAG_MEANINGS.items()}
    delivers: Sequence[tuple[str, str, str, dict[str, Any]]] = (
        ("science", "science", "float32", science_attributes),
        ("DIP_ERR", "error", "float32", {"unit": frame.unit}),
        ("DIP_FLAG", "flags", "uint8", {"bits": meanings}),
    )
    for name, kind, dtype, attributes in delivers:
        array = create_array(group, name, shape, dtype, chunks=chunks, axes=names)
        array.attrs.put(attributes)
        for item in items:
            _write_plane(array, item.frame.plane_index, delivered(item, kind))
        if array.nchunks_initialized != array.nchunks:
            raise OutputError(
                f"{name}: {array.nchunks_initialized} of {array.nchunks} chunks on disk; try again"
            )


def _names_of_axes(frame: Frame, axes: int) -> Sequence[str | None] | None:
    """Names that the input gives to the axes of a stack; None where it gives none."""
    source = coarse_of(frame.source)
    if not isinstance(source, ZarrPixels):
        return None
    science = array_of(open_node(source.path), source.names.science)
    names: Sequence[str | None] = getattr(science.metadata, "dimension_names", None) or ()
    return names if len(names) == axes else None


def _write_plane(array: ZarrArray, place: tuple[int, ...], plane: PlaneArray) -> None:
    rows, cols = plane.shape
    for band in bands((rows, cols), array.chunks[-2]):
        region: tuple[Any, ...] = (*place, band, slice(0, cols))
        written = np.asarray(plane[band, slice(0, cols)]).astype(array.dtype)
        array[region] = written
        if np.asarray(array[region]).tobytes() != written.tobytes():
            raise OutputError(f"{array.name}: reads back otherwise than written; check the disk")


def _place_attributes(frame: Frame, attributes: dict[str, Any]) -> dict[str, Any]:
    """Shape that a FITS file of the group would have, where it came from one."""
    behind = frame.source.science_header()
    return {FITS_SHAPE: list(behind[1])} if behind and FITS_SHAPE in attributes else {}


def _copy_members(frame: Frame, part: Path, group: zarr.Group, replaced: set[str]) -> None:
    """Copy every other array and group of the input: as files, or anew where it is of format 2."""
    source = open_node(frame.path)
    if isinstance(source, zarr.Array):
        return
    if source.metadata.zarr_format == 2:
        for name, member in source.members(max_depth=None):
            if name not in (*_REPLACED, *replaced):
                copy_node(member, group, name)
        return
    for item in sorted(frame.path.iterdir()):
        if item.name in (*_REPLACED, "zarr.json", *replaced):
            continue
        if item.is_dir():
            shutil.copytree(item, part / item.name, ignore=_litter(frame.path, replaced))
        else:
            shutil.copy2(item, part / item.name)


def _litter(root: Path, replaced: set[str]) -> Callable[[str, list[str]], set[str]]:
    """Say what is not copied: parts of writers that were killed, and arrays that are left out."""

    def ignored(folder: str, names: list[str]) -> set[str]:
        inside = Path(folder).relative_to(root)
        left = {name for name in names if (inside / name).as_posix() in replaced}
        return left | {name for name in names if name.endswith(".partial")}

    return ignored


def copy_node(member: Any, group: zarr.Group, name: str) -> None:  # noqa: ANN401  (array or group)
    """Copy an array or a group of any format into a group of format 3, attributes and all."""
    if isinstance(member, zarr.Group):
        group.require_group(name).attrs.put(dict(member.attrs))
        return
    kind = getattr(member.dtype, "kind", "")
    if kind not in "biufc" or not kind:
        raise OutputError(
            f"array {name} holds {member.dtype}, which Zarr format 3 has no standard for; take "
            "it out of the input"
        )
    chunks = tuple(member.chunks) or None
    array = create_array(group, name, tuple(member.shape), str(member.dtype), chunks=chunks or ())
    array.attrs.put(dict(member.attrs))
    if not member.shape:
        array[...] = member[...]
        return
    for start in range(0, member.shape[0], max(1, chunks[0] if chunks else 1)):
        rows = slice(start, start + (chunks[0] if chunks else 1))
        array[rows] = member[rows]


def _take_fits_along(group: zarr.Group, frame: Frame) -> dict[str, Any]:
    """Keep error, flags and every other HDU of a FITS input; return attributes of science."""
    others = frame.source.other_hdus()
    kept = keep_hdus(group, others)
    derive_planes(group, [frame], kept)
    behind = frame.source.science_header()
    if behind is None:
        return {}
    return {FITS_ORDER: behind[0], FITS_SHAPE: list(behind[1])}


def facts_of_planes(frame: Frame) -> dict[str, Any]:
    """Attributes that say of a FITS frame's `error` and `flags` what no header says in a group."""
    facts: dict[str, Any] = {RELATIVE_ERROR: True} if frame.relative_noise else {}
    source = coarse_of(frame.source)
    if frame.has_mask and isinstance(source, FitsPixels) and source.rule != ANY_FLAG:
        facts[FLAG_RULE] = rule_to_json(source.rule)
    return facts


def derive_planes(group: zarr.Group, frames: Sequence[Frame], kept: Collection[str]) -> None:
    """Write `error` (one sigma) and `flags` where the input holds them in another form, or file.

    frames : the planes of one HDU
    """
    frame = frames[0]
    whole = slice(0, frame.shape[1])
    if frame.has_error_plane and "error" not in kept:
        error = create_stack(
            group, "error", frames, "float32", lambda one, rows: one.read(rows, whole).error
        )
        error.attrs.put({"unit": frame.unit, DERIVED: True})
    if frame.has_mask and "flags" not in kept:
        first = np.asarray(frame.source.read_flags(slice(0, 1), slice(0, 1)))
        flags = create_stack(
            *(group, "flags", frames, first.dtype.name),
            lambda one, rows: one.source.read_flags(rows, whole),
        )
        flags.attrs[DERIVED] = True


def create_stack(
    group: zarr.Group,
    name: str,
    frames: Sequence[Frame],
    dtype: str,
    read: Callable[[Frame, slice], NDArray[np.generic] | None],
) -> ZarrArray:
    """Write what is read of each plane, band by band: as one plane, or as a stack of all."""
    items = in_order([RestoredFrame(frame, None, ()) for frame in frames])
    array = create_array(group, name, stack_shape(items), dtype)
    for item in items:
        for rows in bands(item.frame.shape, array.chunks[-2]):
            region: tuple[Any, ...] = (*item.frame.plane_index, rows, slice(None))
            array[region] = np.asarray(read(item.frame, rows))
    return array


def keep_hdus(group: zarr.Group, hdus: Sequence[RawHdu]) -> set[str]:
    """Keep HDUs as arrays; those that are pixels of the frame get their name. Returns the names."""
    names: set[str] = set()
    for hdu in hdus:
        name = _PLANES.get(hdu.role, hdu.name if hdu.name in ("DIP_ERR", "DIP_FLAG") else "")
        if not name or name in names or image_form(hdu.header) is None:
            name = f"{FITS_GROUP}/{hdu.order:03d}"
        keep_hdu(group, name, hdu)
        names.add(name)
    return names
