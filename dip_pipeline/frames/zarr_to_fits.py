"""Zarr to FITS without loss: HDUs that a group keeps as they were, its own arrays as images.

A group that a FITS file was converted to gives back the bytes of that file. What FITS has no words
for goes into ZARR_META, from which the way back makes the same group.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from dip_pipeline.errors import OutputError
from dip_pipeline.frames.fits_cards import format_card, image_cards, is_structural, parse_cards
from dip_pipeline.frames.fits_to_zarr import kept_hdus
from dip_pipeline.frames.frame import RawHdu
from dip_pipeline.frames.hdu_plans import HduPlan, copied, write_fits
from dip_pipeline.frames.provenance import document_hdu, tiles_hdu
from dip_pipeline.frames.zarr_choice import (
    DERIVED,
    ZarrNode,
    arrays_of,
    attributes_of,
    open_node,
)
from dip_pipeline.frames.zarr_hdus import ZarrArray, is_hdu, reading, regions_of
from dip_pipeline.frames.zarr_meta import meta_of, meta_table, plain_pixels
from dip_pipeline.frames.zarr_reader import FITS_ORDER, read_cards, read_zarr_provenance

_NAMES = {"error": "ERR", "flags": "DQ"}
_LONGEST_NAME = 68
_NOTHING = "no array"


def zarr_to_fits(source: Path, part: Path) -> None:
    """Write everything of a Zarr store as a FITS file; raises OutputError for what cannot be."""
    node = open_node(source)
    kept = kept_hdus(source) if isinstance(node, zarr.Group) else []
    hdus = [hdu for hdu in kept if hdu.header]
    own = _own_arrays(node, hdus)
    if hdus and not own and [hdu.order for hdu in hdus] == list(range(len(hdus))):
        plans = [_verbatim(hdu) for hdu in hdus]
        write_fits(part, plans)
        with part.open("ab") as stream:
            for hdu in kept[len(hdus) :]:  # what followed the last HDU
                stream.writelines(hdu.blocks())
        return
    write_fits(part, _plans(source, node, hdus, own))


def _own_arrays(node: ZarrNode, hdus: list[RawHdu]) -> dict[str, ZarrArray]:
    """Arrays that are no HDU of an earlier FITS file, nor made of one, or of a file beside it."""
    roles = {hdu.role for hdu in hdus}
    made = {"science"} & roles
    made |= {"error"} if roles & {"error", "variance"} else set()
    made |= {"flags"} & roles
    return {
        name: array
        for name, array in arrays_of(node).items()
        if not is_hdu(array) and name not in made and not (hdus and array.attrs.get(DERIVED))
    }


def _plans(
    source: Path, node: ZarrNode, hdus: list[RawHdu], own: dict[str, ZarrArray]
) -> list[HduPlan]:
    """Science in its place among the HDUs that were kept, then arrays, then the account."""
    science = next((name for name in ("science", "") if name in own), None)
    cards = [] if science is None else _science_cards(source, node)
    product = read_zarr_provenance(source)
    as_it_was = _verbatim if product is None else copied  # a product has a check sum everywhere
    named = [(_array_name(node, hdu), as_it_was(hdu)) for hdu in hdus]
    if science is not None:
        place = int(attributes_of(own[science]).get(FITS_ORDER, 0)) if hdus else 0
        plan = _image(source, science, own[science], cards, primary=place == 0)
        named.insert(place, (science, plan))
    elif not hdus:
        named.append((_NOTHING, HduPlan(image_cards((), 8, primary=True), 0, lambda: iter(()))))
    for name, array in own.items():
        if name != science:
            named.append((name, _image(source, name, array, _name_cards(name), primary=False)))
    places = {name: number for number, (name, _) in enumerate(named) if name != _NOTHING}
    meta = meta_of(node, places, [list(card) for card in parse_cards(cards)])
    tables = [meta_table(meta)]
    if product is not None:
        tables += [document_hdu(product), tiles_hdu(product)]
    plans = [plan for _, plan in named]
    return plans + [HduPlan(head, len(data), partial(iter, (data,))) for head, data in tables]


def _array_name(node: ZarrNode, hdu: RawHdu) -> str:
    """Path of the array that keeps an HDU."""
    return next(
        name
        for name, array in arrays_of(node).items()
        if is_hdu(array) and attributes_of(array)["fits_order"] == hdu.order
    )


def _verbatim(hdu: RawHdu) -> HduPlan:
    return HduPlan([], hdu.data_bytes, hdu.blocks, verbatim=hdu.header)


def _science_cards(source: Path, node: ZarrNode) -> list[bytes]:
    raw: list[bytes] = []
    for keyword, value, comment in read_cards(node, source):
        if not is_structural(keyword) and keyword != "EXTEND":
            raw += format_card(keyword, value, comment)
    unit = attributes_of(node).get("unit")
    if unit and not any(card.startswith(b"BUNIT   ") for card in raw):
        raw += format_card("BUNIT", str(unit), "unit of the pixels")
    return raw


def _name_cards(name: str) -> list[bytes]:
    if len(name) > _LONGEST_NAME:
        raise OutputError(f"array {name}: its name is too long for EXTNAME; rename it")
    return format_card("EXTNAME", _NAMES.get(name, name))


def _image(
    source: Path, name: str, array: ZarrArray, cards: list[bytes], *, primary: bool
) -> HduPlan:
    """One array as an image, its integers offset where FITS has no such type."""
    kind = plain_pixels(name, array)
    shape = tuple(array.shape) or (1,)
    bitpix = 8 * kind.itemsize * (-1 if kind.kind == "f" else 1)
    offset = {"u": 1 << (8 * kind.itemsize - 1), "i": 0, "f": 0}[kind.kind]
    offset = {"u1": 0, "i1": -128}.get(kind.str[1:], offset)
    head = image_cards(shape if array.size else (), bitpix, primary=primary)
    if primary:
        head += format_card("EXTEND", value=True, comment="extensions may follow")
    if offset:
        head += format_card("BZERO", offset, "offset of the stored integers")
        head += format_card("BSCALE", 1, "")
    blocks = partial(_blocks, source, name, kind, flipped=bool(offset))
    return HduPlan(head + cards, array.size * kind.itemsize, blocks)


def _blocks(source: Path, name: str, kind: np.dtype[Any], *, flipped: bool) -> Iterator[bytes]:
    array = arrays_of(open_node(source))[name]
    unsigned = np.dtype(f"u{kind.itemsize}")
    for region in regions_of(array.shape):
        with reading(source, f"array {name}"):
            values = np.asarray(array[region]).astype(kind)
        if flipped:  # adding half the range flips the top bit, and nothing else
            values = values.view(unsigned) ^ unsigned.type(1 << (8 * kind.itemsize - 1))
        yield values.astype(values.dtype.newbyteorder(">")).tobytes()
