"""What FITS has no words for of a Zarr group: attributes, chunks, types; one table ZARR_META.

With it a group that became a FITS file becomes the same group again.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from astropy.io import fits

from dip_pipeline.errors import FrameError, OutputError
from dip_pipeline.frames.fits_cards import (
    CHECKSUM_WORDS,
    SCALING_WORDS,
    is_structural,
    parse_cards,
    split_cards,
)
from dip_pipeline.frames.frame import Card, RawHdu
from dip_pipeline.frames.provenance import document_of, document_table, to_json
from dip_pipeline.frames.zarr_choice import ZarrNode, arrays_of
from dip_pipeline.frames.zarr_hdus import (
    ZarrArray,
    create_array,
    is_hdu,
    keep_hdu,
    read_form,
    read_hdu,
    reading,
)

META_NAME = "ZARR_META"
SCIENCE_CARDS = "science_cards"


def meta_of(node: ZarrNode, places: Mapping[str, int], cards: Sequence[object]) -> dict[str, Any]:
    """Describe a group: its attributes, those of its groups, and every array.

    places : number of the HDU that holds an array, by its path; cards : of the science as written
    """
    groups = {}
    if isinstance(node, zarr.Group):
        members = node.members(max_depth=None)
        groups = {name: _as_text(dict(m.attrs)) for name, m in members if isinstance(m, zarr.Group)}
    return {
        "attributes": _as_text(dict(node.attrs) if isinstance(node, zarr.Group) else {}),
        "groups": groups,
        "arrays": {
            name: {**_describe(array), "hdu": places[name]}
            for name, array in arrays_of(node).items()
            if name in places
        },
        SCIENCE_CARDS: to_json(cards),
    }


def meta_table(meta: Mapping[str, Any]) -> tuple[list[bytes], bytes]:
    """Header cards and data of ZARR_META."""
    return document_table(
        META_NAME, dict(meta), "DOCUMENT is JSON: the Zarr group this was made of."
    )


def restore_group(group: zarr.Group, hdus: Sequence[RawHdu], source: Path) -> None:
    """Make the group again that a FITS file was made of.

    Raises FrameError where its description is damaged, or does not fit the HDUs.
    """
    with reading(source, f"its {META_NAME}"):
        _restore(group, hdus, _read_meta(hdus, source), source)


def tells_all(hdus: Sequence[RawHdu], source: Path) -> bool:
    """Whether a file holds ZARR_META and nothing that this does not tell of, in the same form.

    A frame that was restored since, or a file that an HDU was added to, is another one.
    Raises FrameError where the description is damaged.
    """
    if all(hdu.name != META_NAME for hdu in hdus):
        return False
    with reading(source, f"its {META_NAME}"):
        meta = _read_meta(hdus, source)
        told = {int(facts["hdu"]): facts for facts in meta["arrays"].values()}
        others = [hdu for hdu in hdus if hdu.order not in told and hdu.name != META_NAME]
        if any(hdu.order > 0 or hdu.data_bytes for hdu in others):
            return False
        plain = {place: facts for place, facts in told.items() if not facts["kept"]}
        return all(_has_form(hdus[place], facts) for place, facts in plain.items())


def _has_form(hdu: RawHdu, facts: Mapping[str, Any]) -> bool:
    """Whether an image HDU holds numbers of the type and the shape that an array had."""
    numbers, kind = read_form(hdu), np.dtype(facts["dtype"])
    kind = np.dtype({"b1": "u1", "f2": "f4"}.get(kind.str[1:], kind.str[1:]))
    shape = tuple(facts["shape"]) or (1,)
    alike = (numbers[1].kind == "f") == (kind.kind == "f")
    return alike and numbers[1].itemsize == kind.itemsize and numbers[0] in (shape, ())


def _restore(
    group: zarr.Group, hdus: Sequence[RawHdu], meta: Mapping[str, Any], source: Path
) -> None:
    attributes = dict(meta["attributes"])
    for name, inner in meta["groups"].items():
        group.require_group(name).attrs.put(inner)
    for name, facts in meta["arrays"].items():
        if facts["kept"]:
            keep_hdu(group, name, replace(hdus[int(facts["hdu"])], **facts["kept"]))
            continue
        try:
            pixels = read_hdu(hdus[int(facts["hdu"])])
            values = pixels.astype(facts["dtype"]).reshape(facts["shape"])
        except (LookupError, TypeError, ValueError) as error:
            raise FrameError(
                f"{source}: its {META_NAME} says otherwise than its HDUs of {name}"
            ) from error
        array = create_array(
            group,
            name or "science",
            values.shape,
            facts["dtype"],
            chunks=tuple(facts["chunks"]),
            axes=facts["axes"],
        )
        array[...] = values
        array.attrs.put(facts["attributes"])
    science = next((f for n, f in meta["arrays"].items() if n in ("science", "")), None)
    if science is not None and not science["kept"]:
        cards = cards_of_science(hdus[int(science["hdu"])])
        if to_json(cards) != meta[SCIENCE_CARDS]:  # somebody has edited the header since
            attributes["cards"] = to_json(cards)
    group.attrs.put(attributes)


def cards_of_science(hdu: RawHdu) -> list[Card]:
    """Cards that say something of the science beyond its form."""
    cards = parse_cards(split_cards(hdu.header))
    form = ("EXTEND", *SCALING_WORDS, *CHECKSUM_WORDS)
    return [card for card in cards if not is_structural(card[0]) and card[0] not in form]


def _describe(array: ZarrArray) -> dict[str, Any]:
    names = getattr(array.metadata, "dimension_names", None)
    attributes = dict(array.attrs)
    kept = {key: attributes[f"fits_{key}"] for key in ("order", "name", "role") if is_hdu(array)}
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "chunks": list(array.chunks),
        "attributes": _as_text({} if is_hdu(array) else dict(array.attrs)),
        "axes": None if names is None else list(names),
        "kept": kept,
    }


def _read_meta(hdus: Sequence[RawHdu], source: Path) -> dict[str, Any]:
    hdu = next(hdu for hdu in hdus if hdu.name == META_NAME)
    content = hdu.header + b"".join(hdu.blocks())
    try:
        primary = fits.PrimaryHDU()
        stream = io.BytesIO()
        primary.writeto(stream)
        with fits.open(io.BytesIO(stream.getvalue() + content)) as opened:
            meta: Any = document_of(opened[1].data)
        parts = [_of_text(meta["attributes"]), dict(meta["groups"]), dict(meta["arrays"])]
        parts[1] = {name: _of_text(inner) for name, inner in parts[1].items()}
        parts[2] = {
            name: {**facts, "attributes": _of_text(facts["attributes"])}
            for name, facts in parts[2].items()
        }
        parts.append(dict(enumerate(meta[SCIENCE_CARDS])))
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise FrameError(f"{source}: its {META_NAME} is damaged: {error}") from error
    return dict(
        zip(
            ("attributes", "groups", "arrays", SCIENCE_CARDS),
            (*parts[:3], meta[SCIENCE_CARDS]),
            strict=True,
        )
    )


def _as_text(attributes: Mapping[str, Any]) -> str:
    """Attributes as JSON of its own, in which NaN is what Zarr writes for it."""
    return json.dumps(attributes)


def _of_text(stored: object) -> dict[str, Any]:
    """Read what `_as_text` wrote; older files hold the attributes themselves."""
    found: dict[str, Any] = json.loads(stored) if isinstance(stored, str) else dict(stored)  # type: ignore[call-overload]
    return found


def plain_pixels(name: str, array: ZarrArray) -> np.dtype[Any]:
    """Type in which FITS holds an array exactly; raises OutputError where there is none."""
    kind = array.dtype
    known = {"b1": "u1", "f2": "f4"}
    code = f"{getattr(kind, 'kind', '')}{getattr(kind, 'itemsize', '')}"
    code = known.get(code, code)
    if code not in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"):
        raise OutputError(f"array {name} holds {kind}, which FITS has no image of; take it out")
    return np.dtype(code)
