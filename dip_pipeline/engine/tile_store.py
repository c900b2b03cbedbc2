"""The finished tiles of a run: one sealed file a tile, published once, data and record together."""

import json
import logging
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.engine.durable import (
    output_error,
    publish_copy,
    publish_sealed,
    read_published,
)
from dip_pipeline.engine.faults import reach
from dip_pipeline.engine.records import Records
from dip_pipeline.errors import RunError

logger = logging.getLogger(__name__)

Record = dict[str, Any]

_SUFFIX = ".tile"
_LENGTH = struct.Struct("<I")  # bytes of the JSON head
_DAMAGED = "damaged"  # damaged files are moved here


@dataclass(frozen=True, slots=True)
class TileStore:
    """Tiles in a folder; any process may publish into it.

    A file: the length of the head, the head (JSON: index, key, planes, record), then the planes,
    little-endian, one after the other; sealed with a digest of all of it.

    records : where a line is left for every tile that is published; None for nowhere
    """

    folder: Path
    records: Records | None = None

    def publish(
        self,
        index: int,
        planes: Mapping[str, NDArray[Any]],
        record: Mapping[str, Any],
        *,
        key: str = "",
    ) -> bool:
        """Store a tile for good; False where it is there already, and then nothing changes.

        record : what JSON can hold, NaN and numpy numbers included
        key : digest of all that decides the tile's pixels
        Raises OutputError where the disk is full or the folder cannot be written.
        """
        plain = {name: _little_endian(plane) for name, plane in planes.items()}
        head = {
            "index": index,
            "key": key,
            "planes": [[name, p.dtype.str, list(p.shape)] for name, p in plain.items()],
            "record": dict(record),
        }
        text = json.dumps(head, default=_plain_number).encode()
        parts = [_LENGTH.pack(len(text)), text, *(plane.tobytes() for plane in plain.values())]
        if not publish_sealed(self._path(index), parts):
            return False
        reach("after publish")
        self._note(index, failed=bool(record.get("failed")))
        return True

    def load(self, index: int) -> tuple[dict[str, NDArray[Any]], Record]:
        """Planes (read-only) and record of a tile; RunError where it is missing or damaged."""
        content, head, start = self._open(index)
        planes: dict[str, NDArray[Any]] = {}
        for name, code, shape in head["planes"]:
            dtype, size = np.dtype(code), int(np.prod(shape))
            planes[name] = np.frombuffer(content, dtype, size, start).reshape(shape)
            start += size * dtype.itemsize
        return planes, head["record"]

    def record_of(self, index: int) -> Record | None:
        """Give the record of a tile; None where it is missing, or was damaged and is moved."""
        if not self._path(index).exists():
            return None
        try:
            record: Record = self._open(index)[1]["record"]
        except RunError as error:
            logger.warning("%s; made anew", error)
            self.drop(index)
            return None
        return record

    def keys(self) -> dict[int, str]:
        """Give the keys of all tiles that are there and whole, by index.

        Every file is read and its digest compared; a damaged one is moved aside, so that its
        tile is done anew.
        """
        keys = {}
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            if not path.stem.isdecimal():
                continue
            try:
                keys[int(path.stem)] = str(self._open(int(path.stem))[1]["key"])
            except RunError as error:
                logger.warning("%s; moved to %s", error, self._move_aside(path))
        return keys

    def adopt(self, index: int, other: "TileStore") -> None:
        """Take over a tile of another store, whose key says that it is this one's too."""
        if publish_copy(self._path(index), other._path(index)):
            record = self.record_of(index)
            self._note(index, failed=record is not None and bool(record.get("failed")))

    def drop(self, index: int) -> None:
        """Move a damaged tile aside, so that it is made anew."""
        if self._path(index).exists():
            self._move_aside(self._path(index))

    def forget(self, index: int) -> None:
        """Delete a tile that is to be made again; OutputError where it cannot be."""
        try:
            self._path(index).unlink(missing_ok=True)
        except OSError as error:
            raise output_error(error, self._path(index)) from error

    def _open(self, index: int) -> tuple[bytes, dict[str, Any], int]:
        """Content of a whole tile, its head, and where its planes begin."""
        try:
            content = read_published(self._path(index))
        except RunError as error:
            raise RunError(f"tile {index}: {error}") from error
        start = _LENGTH.size + _LENGTH.unpack_from(content)[0]
        head = json.loads(content[_LENGTH.size : start])
        if head["index"] != index:
            raise RunError(f"tile {index}: {self._path(index)} holds tile {head['index']}")
        return content, head, start

    def _note(self, index: int, *, failed: bool) -> None:
        if self.records is not None:
            self.records.append({"tile": index, "failed": failed, "time": round(time.time(), 3)})
            reach("after record")

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}{_SUFFIX}"

    def _move_aside(self, path: Path) -> Path:
        target = self.folder / _DAMAGED / path.name
        try:
            target.parent.mkdir(exist_ok=True)
            path.replace(target)
        except OSError as error:
            raise output_error(error, target) from error
        return target


def _little_endian(plane: NDArray[Any]) -> NDArray[Any]:
    if plane.dtype.kind not in "fiub":
        raise ValueError(f"planes hold numbers, not {plane.dtype}")
    return plane.astype(plane.dtype.newbyteorder("<"), copy=False)


def _plain_number(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a record holds what JSON can hold, not {type(value).__name__}")
