"""Which arrays of a Zarr store are the image, its error and its flags; formats 2 and 3."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import zarr

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.zarr_hdus import ZARR_ERRORS, ZarrArray, reading

logger = logging.getLogger(__name__)

_MARKS = ("zarr.json", ".zgroup", ".zarray")  # of formats 3 and 2
_MOST_ARRAYS = 1000  # looked at in a foreign store

ZarrNode = zarr.Group | ZarrArray


@dataclass(frozen=True, slots=True)
class ZarrNames:
    """Arrays of a store by what they are; "" is a store that is itself one array."""

    science: str
    error: str | None = None
    flags: str | None = None


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store."""
    return any((path / mark).is_file() for mark in _MARKS)


def open_node(path: Path) -> ZarrNode:
    """Open a group or an array for reading; raises FrameError where there is none."""
    if not is_zarr(path):
        raise FrameError(
            f"{path}: a folder without zarr.json (or .zgroup, .zarray); needed: a Zarr group or "
            "array, or a FITS file"
        )
    try:
        return zarr.open(path, mode="r")
    except ZARR_ERRORS as error:
        raise FrameError(f"{path}: the Zarr store cannot be read: {_one_line(error)}") from error


def array_of(node: ZarrNode, name: str) -> ZarrArray:
    """One array of a store; KeyError where it is not there."""
    return cast(ZarrArray, node if name == "" else cast(zarr.Group, node)[name])


def arrays_of(node: ZarrNode) -> dict[str, ZarrArray]:
    """Every array of a store by its path."""
    if isinstance(node, zarr.Array):
        return {"": node}
    with reading(str(node.store_path).removeprefix("file://"), "its members"):
        members = node.members(max_depth=None)[:_MOST_ARRAYS]
    return {name: item for name, item in members if isinstance(item, zarr.Array)}


def choose_arrays(node: ZarrNode, selector: str | None, path: Path) -> ZarrNames:
    """Pick the image: the selected array, else `science`, else the only one that can be it."""
    arrays = arrays_of(node)
    if selector is not None:
        if selector not in arrays:
            raise FrameError(f"{path}: no array [{selector}]; it holds {_names(arrays)}")
        name = selector
    else:
        name = "science" if "science" in arrays else _only_image(arrays, path)
    return _with_companions(arrays, path) if name == "science" else ZarrNames(name)


def _only_image(arrays: dict[str, ZarrArray], path: Path) -> str:
    """Name the only array that can be an image."""
    images = [name for name, array in arrays.items() if _is_image(name, array)]
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
    """Arrays `science`, and `error` and `flags` where they are of its shape."""
    shape = plane_shape(arrays["science"])
    companions: dict[str, str | None] = {}
    for other in ("error", "flags"):
        array = arrays.get(other)
        if array is not None and plane_shape(array) != shape:
            logger.warning(
                "%s: %s has shape %s, science %s: not used", path, other, array.shape, shape
            )
        companions[other] = None if array is None or plane_shape(array) != shape else other
    return ZarrNames("science", companions["error"], companions["flags"])


def plane_shape(array: ZarrArray) -> tuple[int, ...]:
    """Shape without leading axes of length 1 beyond two."""
    shape = tuple(array.shape)
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape


def attributes_of(node: ZarrNode) -> dict[str, Any]:
    """Attributes as JSON gave them: anything."""
    return dict(node.attrs)


def _is_image(name: str, array: ZarrArray) -> bool:
    ours = name.startswith(("fits/", "DIP_")) or name in ("error", "flags")
    shape = plane_shape(array)
    numbers = getattr(array.dtype, "kind", "") in ("i", "u", "f")
    return not ours and numbers and len(shape) == 2 and 0 not in shape


def _names(arrays: dict[str, ZarrArray]) -> str:
    return ", ".join(sorted(name for name in arrays if name)[:12]) or "none"


def _one_line(error: BaseException) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"its metadata is not JSON ({error})"
    return str(error).split("\n")[0] or type(error).__name__
