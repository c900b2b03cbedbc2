"""Zarr group to Frame: arrays science, error, flags; attributes unit and cards."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from dip_pipeline.errors import FrameError
from dip_pipeline.flags import PixelFlag
from dip_pipeline.frames.fits_cards import format_card, is_structural, parse_cards, split_cards
from dip_pipeline.frames.fits_layout import COPY_BYTES
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
from dip_pipeline.frames.provenance import (
    PROVENANCE_NAME,
    TILES_NAME,
    Provenance,
    from_json,
    to_json,
)

logger = logging.getLogger(__name__)

FITS_GROUP = "fits"  # other HDUs of a FITS input, as bytes, so that nothing is lost
FITS_SHAPE = "fits_shape"
FITS_ORDER = "fits_order"
OWN_KEYWORDS = "DIP_CARDS"
_ROLES: dict[str, Role] = {"science": "science", "error": "error", "flags": "flags"}

ZarrArray = zarr.Array[Any]

# What zarr raises for damaged metadata, missing keys, and chunks that fail their check sum.
ZARR_ERRORS = (OSError, ValueError, TypeError, LookupError, RuntimeError, AttributeError)


@dataclass(frozen=True, slots=True)
class ZarrPixels:
    """Pixels of one Zarr group, by slices."""

    path: Path
    has_error: bool
    has_flags: bool
    has_filled: bool = False  # flags of an earlier restoration

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read one region of all planes: only the chunks it touches."""
        science = self._slice("science", rows, cols)
        error = self._slice("error", rows, cols) if self.has_error else None
        bad = np.zeros(science.shape, dtype=bool)
        if self.has_flags:
            bad |= self._slice("flags", rows, cols) != 0
        if self.has_filled:  # what was filled in once holds no information ever after
            bad |= (self._slice("DIP_FLAG", rows, cols).astype(np.uint8) & PixelFlag.FILLED) != 0
        return make_pixels(science, error, bad)

    def read_flags(self, rows: slice, cols: slice) -> NDArray[np.generic] | None:
        """Read the flags of one region as stored."""
        return self._slice("flags", rows, cols) if self.has_flags else None

    def science_header(self) -> tuple[int, tuple[int, ...], list[bytes]] | None:
        """Place, shape and cards of the science HDU, where the group came from FITS."""
        group = open_group(self.path)
        science = array_of(group, "science")
        attributes = attributes_of(science)
        if FITS_ORDER not in attributes:
            return None
        order = int(attributes[FITS_ORDER])
        shape = tuple(int(axis) for axis in attributes.get(FITS_SHAPE, science.shape))
        raw: list[bytes] = []
        for keyword, value, comment in read_cards(group, self.path):
            if not is_structural(keyword):
                raw += format_card(keyword, value, comment)
        return order, shape, raw

    def other_hdus(self) -> list[RawHdu]:
        """HDUs that came along from a FITS input, byte for byte."""
        group = open_group(self.path)
        if FITS_GROUP not in group:
            return []
        found = []
        for name in sorted(cast(zarr.Group, group[FITS_GROUP]).array_keys()):
            array = array_of(group, f"{FITS_GROUP}/{name}")
            attributes = attributes_of(array)
            header_bytes = int(attributes["header_bytes"])
            found.append(
                RawHdu(
                    order=int(attributes["order"]),
                    name=str(attributes["name"]),
                    role=attributes["role"],
                    header=np.asarray(array[:header_bytes]).tobytes(),
                    data_bytes=array.shape[0] - header_bytes,
                    blocks=partial(self._blocks, f"{FITS_GROUP}/{name}", header_bytes),
                )
            )
        return sorted(found, key=lambda hdu: hdu.order)

    def product_keywords(self) -> frozenset[str]:
        """Keywords of cards that an earlier restoration wrote."""
        stored = attributes_of(open_group(self.path)).get(OWN_KEYWORDS, [])
        return frozenset(str(keyword) for keyword in stored)

    def _blocks(self, name: str, start: int) -> Iterator[bytes]:
        array = array_of(open_group(self.path), name)
        for offset in range(start, array.shape[0], COPY_BYTES):
            yield np.asarray(array[offset : offset + COPY_BYTES]).tobytes()

    def _slice(self, name: str, rows: slice, cols: slice) -> NDArray[np.generic]:
        try:
            return np.asarray(array_of(open_group(self.path), name)[rows, cols])
        except ZARR_ERRORS as error:
            raise FrameError(
                f"{self.path}: array {name}, rows {rows.start} to {rows.stop}, cannot be read: "
                f"{error}"
            ) from error


def open_zarr(path: Path) -> Frame:
    """Open a Zarr group as a Frame; reads metadata only.

    Raises FrameError for what is not a format 3 group with a two-dimensional array `science`.
    """
    group = open_group(path)
    arrays = dict(group.arrays())
    if "science" not in arrays:
        found = ", ".join(sorted(arrays)) or "none"
        raise FrameError(f"{path}: no array `science` in this Zarr group (arrays: {found})")
    shape = _check_science(arrays["science"], path)
    for name in ("error", "flags"):
        if name in arrays and tuple(arrays[name].shape) != shape:
            logger.warning(
                "%s: %s has shape %s, science %s: not used", path, name, arrays[name].shape, shape
            )
            del arrays[name]
    cards = read_cards(group, path)
    filled = "DIP_FLAG" in arrays and tuple(arrays["DIP_FLAG"].shape) == shape
    source = ZarrPixels(path.absolute(), "error" in arrays, "flags" in arrays, filled)
    primary = next((hdu.header for hdu in source.other_hdus() if hdu.order == 0), b"")
    header = header_mapping(cards, parse_cards(split_cards(primary)))
    unit = group.attrs.get("unit") or header.get("BUNIT") or ""
    return Frame(
        path=path,
        format="zarr",
        shape=shape,
        unit=str(unit).strip(),
        cards=cards,
        planes=tuple(
            PlaneInfo(
                name,
                _ROLES.get(name, "other"),
                tuple(array.shape),
                str(array.dtype),
                f"array {name}",
            )
            for name, array in sorted(arrays.items())
        ),
        source=source,
        header=header,
        has_error_plane="error" in arrays,
        has_mask="flags" in arrays,
    )


def open_group(path: Path) -> zarr.Group:
    """Open a group for reading; raises FrameError where there is none of format 3."""
    if not (path / "zarr.json").is_file():
        old = (path / ".zgroup").exists()
        what = "a Zarr group of format 2" if old else "a folder without zarr.json"
        raise FrameError(f"{path}: {what}; needed: a Zarr group of format 3, or a FITS file")
    try:
        return zarr.open_group(path, mode="r", zarr_format=3)
    except ZARR_ERRORS as error:
        raise FrameError(f"{path}: the Zarr group cannot be read: {_one_line(error)}") from error


def array_of(group: zarr.Group, name: str) -> ZarrArray:
    """One array of a group; KeyError where it is not there."""
    return cast(ZarrArray, group[name])


def attributes_of(node: zarr.Group | ZarrArray) -> dict[str, Any]:
    """Attributes as JSON gave them: anything."""
    return dict(node.attrs)


def read_cards(group: zarr.Group, path: Path) -> tuple[Card, ...]:
    """Cards of the group; raises FrameError where they are not [keyword, value, comment]."""
    stored = attributes_of(group).get("cards", [])
    try:
        return tuple(
            (str(keyword), from_json(value), str(comment or ""))
            for keyword, value, comment in stored
        )
    except (TypeError, ValueError) as error:
        raise FrameError(
            f"{path}: attribute `cards` is broken; needed: a list of [keyword, value, comment]"
        ) from error


def read_zarr_provenance(path: Path) -> Provenance | None:
    """Read the provenance of a Zarr product; None where the group is not one."""
    try:
        group = open_group(path)
        cards = read_cards(group, path)
        attributes = attributes_of(group)
        document = from_json(attributes.get(PROVENANCE_NAME))
        tiles = from_json(attributes.get(TILES_NAME))
        keywords = [str(keyword) for keyword in attributes.get(OWN_KEYWORDS, [])]
    except (FrameError, *ZARR_ERRORS):
        return None
    if not isinstance(document, dict) or not isinstance(tiles, list):
        return None
    by_keyword = {card[0]: card for card in cards}
    history = [str(value) for keyword, value, _ in cards if keyword == "HISTORY"]
    own = tuple(by_keyword[keyword] for keyword in keywords if keyword in by_keyword)
    return Provenance(own, history[-1] if history else "", document, tiles)


def cards_to_json(cards: tuple[Card, ...]) -> list[list[object]]:
    """Cards as the attribute holds them."""
    return [[keyword, to_json(value), comment] for keyword, value, comment in cards]


def _check_science(array: ZarrArray, path: Path) -> tuple[int, int]:
    if len(array.shape) != 2:
        raise FrameError(
            f"{path}: science has {len(array.shape)} axes {array.shape}: dip restores "
            "two-dimensional images"
        )
    if array.dtype.kind not in "iuf":
        raise FrameError(f"{path}: science holds {array.dtype}: real numbers are needed")
    if 0 in array.shape:
        raise FrameError(f"{path}: science has size {array.shape}: no pixels to restore")
    missing = array.nchunks - array.nchunks_initialized
    if missing:
        logger.warning(
            "%s: %d of %d chunks of science are not there and read as %s",
            path,
            missing,
            array.nchunks,
            array.fill_value,
        )
    rows, cols = array.shape
    return int(rows), int(cols)


def _one_line(error: BaseException) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"its metadata is not JSON ({error})"
    return str(error).split("\n")[0] or type(error).__name__
