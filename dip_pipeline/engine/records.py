"""What happened to the tiles, line by line: a file a process, appended only, a checksum a line."""

import json
import logging
import os
import socket
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dip_pipeline.engine.durable import output_error

logger = logging.getLogger(__name__)

_SUFFIX = ".jsonl"


@dataclass(frozen=True, slots=True)
class Records:
    """Lines in a folder; any process may append, each to a file of its own.

    They tell quickly how a run goes on. The tiles themselves are the truth: a line that is lost
    or damaged costs nothing but the line.
    """

    folder: Path

    def append(self, entry: Mapping[str, object]) -> None:
        """Add one line. Raises OutputError where it cannot be written."""
        text = json.dumps(dict(entry), default=str).encode()
        line = b"%08x %s\n" % (zlib.crc32(text), text)
        path = _file_of_this_process(self.folder, os.getpid())
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, line)  # one call: lines never mix
            finally:
                os.close(descriptor)
        except OSError as error:
            raise output_error(error, path, len(line)) from error

    def read(self) -> Iterator[dict[str, Any]]:
        """Give every whole line, file by file; a damaged one is told of and left out.

        A file that goes while it is read, with its run, has none.
        """
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            try:
                lines = path.read_bytes().split(b"\n")
            except FileNotFoundError:
                continue
            torn = lines.pop()  # empty, unless its writer died or still writes
            if torn:
                logger.info("%s: its last line is not whole; left out", path)
            for number, line in enumerate(lines, start=1):
                entry = _parsed(line)
                if entry is None:
                    logger.warning("%s: line %d is damaged; left out", path, number)
                else:
                    yield entry


def _parsed(line: bytes) -> dict[str, Any] | None:
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    entry = json.loads(text)
    return entry if isinstance(entry, dict) else None


@lru_cache(maxsize=64)
def _file_of_this_process(folder: Path, process_id: int) -> Path:
    name = f"{socket.gethostname()}-{process_id}-{uuid.uuid4().hex[:8]}"
    return folder / f"{name}{_SUFFIX}"
