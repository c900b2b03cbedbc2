"""Whether a run fits: the memory of its processes, and the disk that its output goes to."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dip_pipeline.engine import (
    ExecutorKind,
    WorkerOptions,
    address_space_left_bytes,
    usable_memory_bytes,
)
from dip_pipeline.errors import DiskFullError, OutputError, RunError
from dip_pipeline.frames import Frame
from dip_pipeline.tiling import Tile

_PLANES_BYTES = 9  # of a pixel: science and error in float32, flags in a byte
_TILE_HEAD_BYTES = 4096  # head, and what the disk rounds up
_PRIOR_BYTES = 4 << 20
_BUFFERS_BYTES = 256 << 20  # of linear algebra, and stacks of threads, never touched
_DRIVER_BYTES = 400 << 20  # of a driver whose workers do the work


@dataclass(frozen=True, slots=True)
class Room:
    """What a run needs.

    memory_bytes : of each of so many processes
    tiles_bytes, blending_bytes : of the scratch folder, until the product is there
    product_bytes : of the output
    """

    memory_bytes: int
    processes: int
    tiles_bytes: int
    blending_bytes: int
    product_bytes: int

    @property
    def disk_bytes(self) -> int:
        """At the end, when all of it is there."""
        return self.tiles_bytes + self.blending_bytes + self.product_bytes

    @property
    def all_memory_bytes(self) -> int:
        """Of all processes together."""
        driver = _DRIVER_BYTES if self.processes > 1 else 0
        return self.processes * self.memory_bytes + driver


def room_for(
    frame: Frame,
    tiles: Sequence[Tile],
    *,
    memory_bytes: int,
    processes: int = 1,
    factor: int = 1,
) -> Room:
    """Estimate what the restoration of a frame needs on the disk.

    factor : pixels of the result for one of the frame, along each axis
    """
    pixels = frame.shape[0] * frame.shape[1] * factor**2
    tile_pixels = sum(tile.shape[0] * tile.shape[1] for tile in tiles) * factor**2
    return Room(
        memory_bytes=memory_bytes,
        processes=processes,
        tiles_bytes=tile_pixels * _PLANES_BYTES + len(tiles) * _TILE_HEAD_BYTES + _PRIOR_BYTES,
        blending_bytes=pixels * _PLANES_BYTES,
        product_bytes=pixels * _PLANES_BYTES + _size(frame.path),
    )


def check_memory(room: Room, source: str, options: WorkerOptions) -> None:
    """Raise RunError where the machine does not have the memory; workers elsewhere are not ours.

    Nor does it begin where a limit of the address space leaves too little: linear algebra waits for
    ever then for what it cannot get.
    """
    if options.executor is ExecutorKind.DASK:
        return
    left, more = address_space_left_bytes(), room.memory_bytes + _BUFFERS_BYTES
    if left is not None and left < more:
        raise RunError(
            f"{source}: needs about {more} bytes of address space, the limit of this process "
            f"(ulimit -v) leaves {left}; raise it by {more - left}, or take a smaller --tile"
        )
    there = usable_memory_bytes()
    if there is None or room.all_memory_bytes <= there:
        return
    raise RunError(
        f"{source}: needs about {room.all_memory_bytes} bytes of memory ({room.processes} x "
        f"{room.memory_bytes}), this machine has {there}; use fewer --workers or a smaller --tile"
    )


def check_disk(room: Room, target: Path, scratch: Path) -> None:
    """Raise OutputError where the disk has less room than a run still needs.

    scratch : folder of the run; what it holds already is needed no more
    """
    folder = target.absolute().parent
    free = shutil.disk_usage(folder).free
    if room.disk_bytes <= free:
        return
    missing = room.disk_bytes - _size(scratch)
    if missing > free:
        raise OutputError(
            f"{target}: needs {missing} more bytes in {folder} (tiles {room.tiles_bytes}, blending "
            f"{room.blending_bytes}, the output {room.product_bytes}), {free} are free; free some, "
            "or give an output on another disk"
        )


@contextmanager
def disk_watched(room: Room, scratch: Path) -> Iterator[None]:
    """Where the disk fills up all the same, say how much the whole run still needs."""
    try:
        yield
    except DiskFullError as error:
        missing = max(0, room.disk_bytes - _size(scratch))
        raise DiskFullError(f"{error} (all of the run: {missing} more bytes)") from error


@contextmanager
def scratch_watched(scratch: Path) -> Iterator[None]:
    """Where the folder of a run goes while it is at work, say so: nothing else is wrong."""
    try:
        yield
    except (OSError, OutputError) as error:
        if scratch.is_dir():
            raise
        raise OutputError(
            f"{scratch}: vanished while its frame was being restored (deleted, or its disk taken "
            "away), with all that was finished; run the same command again, it begins anew"
        ) from error


def _size(path: Path) -> int:
    """Bytes on the disk of a file, or of all in a folder."""
    files = [path]
    if path.is_dir():
        files = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
    total = 0
    for file in files:
        try:
            total += file.stat().st_blocks * 512
        except OSError:  # gone meanwhile, or never there
            continue
    return total
