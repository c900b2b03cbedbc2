"""Which arrays of a Zarr store are the image, its error and its flags; formats 2 and 3."""

import json
import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import zarr

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.flag_rules import ANY_FLAG, FlagRule, rule_for, rule_from_json
from dip_pipeline.frames.noise_form import FORMS_ASKED, NoiseForm, form_of
from dip_pipeline.frames.reading import Reading
from dip_pipeline.frames.zarr_hdus import ZARR_ERRORS, ZarrArray, reading

logger = logging.getLogger(__name__)

_MARKS = ("zarr.json", ".zgroup", ".zarray")  # of formats 3 and 2
FLAG_RULE = "flag_rule"  # attribute of the group: what the numbers of `flags` mean
RELATIVE_ERROR = "relative_error"  # attribute: `error` is known up to one factor alone
DERIVED = "derived"  # attribute of an array that was made of other planes, for convenience
OTHER_SCIENCE = "other_science"  # attribute: arrays that are further chips of a mosaic
_MOST_ARRAYS = 1000  # looked at in a foreign store
# Names of dimensions.
_OF_A_PLANE = frozenset(("y", "x", "row", "rows", "col", "cols", "column", "columns"))
_MOST_COLOURS = 4  # of a last axis that counts no columns

ZarrNode = zarr.Group | ZarrArray


@dataclass(frozen=True, slots=True)
class ZarrNames:
    """Arrays of a store by what they are; "" is a store that is itself one array.

    form : of the numbers of `error`; rule : what those of `flags` mean
    """

    science: str
    error: str | None = None
    flags: str | None = None
    form: NoiseForm = NoiseForm.SIGMA
    rule: FlagRule = ANY_FLAG


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store."""
    return any((path / mark).is_file() for mark in _MARKS)


def open_node(path: Path) -> ZarrNode:
    """Open a group or an array for reading; raises FrameError where there is none."""
    if not is_zarr(path):
        raise FrameError(
            f"{path}: a folder without zarr.json (or .zgroup, .zarray); needed: a Zarr group or "
            "array, or a FITS file (of a folder of frames: FOLDER/*.fits, or dip run)"
        )
    try:
        return zarr.open(path, mode="r")
    except ZARR_ERRORS as error:
        raise FrameError(f"{path}: the Zarr store cannot be read: {_one_line(error)}") from error


def array_of(node: ZarrNode, name: str) -> ZarrArray:
    """One array of a store; KeyError where it is not there."""
    return cast(ZarrArray, node if name == "" else cast(zarr.Group, node)[name])


def arrays_of(node: ZarrNode) -> dict[str, ZarrArray]:
    """Every array of a store by its path; FrameError where the metadata of one are damaged."""
    path = str(node.store_path).removeprefix("file://")
    if isinstance(node, zarr.Array):
        arrays = {"": node}
    else:
        with reading(path, "its members"):
            members = node.members(max_depth=None)[:_MOST_ARRAYS]
        arrays = {name: item for name, item in members if isinstance(item, zarr.Array)}
    for name, array in arrays.items():  # zarr takes what is no object, and chunks without a pixel
        if not isinstance(array.metadata.attributes, dict):
            raise FrameError(f"{path}: the attributes of array {name} are no JSON object")
        if not all(type(side) is int and side > 0 for side in array.chunks):
            raise FrameError(f"{path}: array {name} has chunks of {array.chunks}")
    return arrays


def choose_arrays(node: ZarrNode, selector: str | None, path: Path, reading: Reading) -> ZarrNames:
    """Pick the image: the selected array, else `science`, else the only one that can be it.

    What is asked for of noise and flags is taken from the store's own arrays, or refused.
    """
    arrays = arrays_of(node)
    asked = selector if selector is not None else reading.science
    if asked is not None:
        if asked not in arrays:
            raise FrameError(f"{path}: no array [{asked}]; it holds {_names(arrays)}")
        name = asked
    else:
        name = "science" if "science" in arrays else _only_image(arrays, path)
    names = _with_companions(arrays, path) if name == "science" else ZarrNames(name)
    names = replace(names, rule=_rule_of(node, names, path, reading.bad_bits))
    if reading.error is not None:
        error, form = _noise_asked(arrays, name, path, reading.error)
        names = replace(names, error=error, form=form)
    if reading.flags is not None:
        flags = _beside(arrays, name, path, "--dq", reading.flags)
        rule = names.rule if flags == names.flags else rule_for("", reading.bad_bits)
        names = replace(names, flags=flags, rule=rule)
    return names


def _rule_of(node: ZarrNode, names: ZarrNames, path: Path, bad_bits: str | None) -> FlagRule:
    """Give what flags mean: as the FITS file said that they come from, else any is bad."""
    stored = attributes_of(node).get(FLAG_RULE) if names.flags is not None else None
    if stored is None:
        return rule_for("", bad_bits)
    try:
        return rule_from_json(stored, bad_bits)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise FrameError(
            f"{path}: attribute {FLAG_RULE} is broken ({error}); take it out, or convert the FITS "
            "file again"
        ) from error


def _noise_asked(
    arrays: dict[str, ZarrArray], science: str, path: Path, text: str
) -> tuple[str | None, NoiseForm]:
    """Find the array that --err names, "none", NAME or FORM:NAME, and the form of its numbers."""
    word, _, rest = text.partition(":")
    form = FORMS_ASKED.get(word.lower()) if rest else None
    found = _beside(arrays, science, path, "--err", text if form is None else rest)
    if found is None or form is not None:
        return found, form or NoiseForm.SIGMA
    unit, of_science = (
        str(attributes_of(arrays[name]).get("unit") or "") for name in (found, science)
    )
    return found, form_of(found.rpartition("/")[2], {}, unit, of_science)


def _beside(
    arrays: dict[str, ZarrArray], science: str, path: Path, option: str, text: str
) -> str | None:
    """Name the array of the science's size that an option names; None for "none"."""
    if text.lower() == "none":
        return None
    shape = plane_shape(arrays[science])
    alike = {
        name: a for name, a in arrays.items() if name != science and _lies_on(a, arrays[science])
    }
    if text not in alike:
        raise FrameError(
            f"{path}: {option} {text}: no such array of the shape {shape} of {science}; of a Zarr "
            f"store one of its own is taken, or none; it holds {_names(alike)}"
        )
    return text


def _only_image(arrays: dict[str, ZarrArray], path: Path) -> str:
    """Name the only array that can be an image; where there is none, a stack of images."""
    numbers = [name for name, array in arrays.items() if _may_be_science(name, array)]
    images = [name for name in numbers if len(plane_shape(arrays[name])) == 2] or numbers
    if not images:
        raise FrameError(
            f"{path}: no array `science`, and no other image to restore (arrays: {_names(arrays)})"
        )
    if len(images) > 1:
        raise FrameError(
            f"{path}: no array `science`, and more than one that could be it: "
            f"{', '.join(images[:12])}; select one with {path.name}[{images[0]}]"
        )
    if images[0]:
        logger.info("%s: taking the array %s", path, images[0])
    return images[0]


def _with_companions(arrays: dict[str, ZarrArray], path: Path) -> ZarrNames:
    """Arrays `science`, and `error` and `flags` where they are of its shape, or of one plane."""
    science = arrays["science"]
    companions: dict[str, str | None] = {}
    for other in ("error", "flags"):
        array = arrays.get(other)
        if array is not None and not _lies_on(array, science):
            logger.warning(
                *("%s: %s has shape %s, science %s: not used", path, other, array.shape),
                plane_shape(science),
            )
            array = None
        companions[other] = None if array is None else other
    return ZarrNames("science", companions["error"], companions["flags"])


def missing_chunks(array: ZarrArray) -> int:
    """Count the chunks, or where these are packed the shards, that are not on the disk."""
    packed = 1  # chunks a shard, of which zarr counts all where one is there
    if array.shards is not None:
        packed = math.prod(s // c for s, c in zip(array.shards, array.chunks, strict=True))
    return files_of(array) - array.nchunks_initialized // packed


def files_of(array: ZarrArray) -> int:
    """Count the chunks of an array, or its shards where it has any."""
    cut = array.shards or array.chunks
    return math.prod(-(-side // part) for side, part in zip(array.shape, cut, strict=True))


def plane_shape(array: ZarrArray) -> tuple[int, ...]:
    """Shape without leading axes of length 1 beyond two."""
    shape = tuple(array.shape)
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape


def planes_come_last(array: ZarrArray) -> bool:
    """Whether a stack has its planes, or colours, behind the rows and columns of an image."""
    shape = plane_shape(array)
    told = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if isinstance(told, list | tuple) and len(told) == len(array.shape):
        return any(str(name).lower() in _OF_A_PLANE for name in told[:-2])
    return len(shape) > 2 and shape[-1] <= _MOST_COLOURS < min(shape[-3:-1])


def place_in(array: ZarrArray, leading: tuple[int, ...]) -> tuple[int, ...]:
    """Place of a plane in an array: its first axes; one plane may serve all of a stack."""
    axes = len(array.shape) - 2
    place = ((0,) * axes + leading)[-axes:] if axes else ()
    return tuple(min(at, side - 1) for at, side in zip(place, array.shape, strict=False))


def attributes_of(node: ZarrNode) -> dict[str, Any]:
    """Attributes as JSON gave them: anything."""
    return dict(node.attrs)


def _lies_on(array: ZarrArray, science: ZarrArray) -> bool:
    """Whether an array has a plane for each of the science, or one for all."""
    shape = plane_shape(science)
    return plane_shape(array) in (shape, shape[-2:])


def _may_be_science(name: str, array: ZarrArray) -> bool:
    ours = name.startswith(("fits/", "DIP_")) or name in ("error", "flags")
    shape = plane_shape(array)
    numbers = getattr(array.dtype, "kind", "") in ("i", "u", "f")
    return not ours and numbers and len(shape) >= 2 and 0 not in shape


def _names(arrays: dict[str, ZarrArray]) -> str:
    return ", ".join(sorted(name for name in arrays if name)[:12]) or "none"


def _one_line(error: BaseException) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"its metadata is not JSON ({error})"
    return str(error).split("\n")[0] or type(error).__name__
