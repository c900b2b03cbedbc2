"""Which files of a night are products: whole ones, and what is left of torn ones."""

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from dip_pipeline.errors import DipError, FrameError
from dip_pipeline.frames import read_provenance
from dip_pipeline.night.unmade import word_of

_ENDINGS = (".fits", ".fit", ".fts", ".fits.gz", ".fits.fz", ".zarr")
_HEAD_BYTES = 1 << 18  # of a file, where the first image of a product has its header
_OWN_CARD = b"DIPRUN  = '"


def products_in(names: Sequence[Path]) -> list[Path]:
    """Give the products of folders, and what else is named as it is; each once, links resolved.

    Of a folder, torn products too: who reads them can say so. Raises FrameError for a folder
    without one where no run left word of a frame, and for what is not there.
    """
    found: dict[str, Path] = {}
    for name in names:
        if not name.exists():
            raise FrameError(f"{name}: no such file or folder; give products of dip")
        inside = [name] if not name.is_dir() or name.suffix == ".zarr" else _products_of(name)
        for path in inside:
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def folders_in(names: Sequence[Path]) -> list[Path]:
    """Folders that are named, and those of named products; each once."""
    found: dict[str, Path] = {}
    for name in names:
        is_folder = name.is_dir() and name.suffix != ".zarr"
        folder = name if is_folder else name.parent
        found.setdefault(os.path.realpath(folder), folder)
    return list(found.values())


def _products_of(folder: Path) -> list[Path]:
    inside = sorted(path for path in folder.iterdir() if path.name.lower().endswith(_ENDINGS))
    # A link comes after what is a file: the name of the product itself is the one to tell.
    inside.sort(key=lambda path: path.is_symlink())
    products = [path for path in inside if _is_product(path) or _was_product(path)]
    if not products and not word_of([folder]).unmade:
        raise FrameError(f"{folder}: holds no product of dip; give the folder of the products")
    return products


def _is_product(path: Path) -> bool:
    try:
        return read_provenance(path) is not None
    except (DipError, OSError):
        return False


def _was_product(path: Path) -> bool:
    """Whether a file begins as a product does, whose account is lost: it stands at the end."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            return _OWN_CARD in _head(stream)
    except OSError:
        return False


def _head(stream: IO[bytes]) -> bytes:
    """First bytes of a file, unpacked as far as they go."""
    head = stream.read(_HEAD_BYTES)
    if not head.startswith(b"\x1f\x8b"):
        return head
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, _HEAD_BYTES)
    except zlib.error:
        return b""
