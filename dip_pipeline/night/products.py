"""Which files of a night are products: whole ones, and what is left of torn ones."""

import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from dip_pipeline.errors import DipError, FrameError
from dip_pipeline.frames import is_zarr, read_provenance
from dip_pipeline.night.unmade import word_of

_ENDINGS = (".fits", ".fit", ".fts", ".fits.gz", ".fits.fz", ".zarr")
_HEAD_BYTES = 1 << 18  # of a file, where the first image of a product has its header
_OWN_CARD = b"DIPRUN  = '"
_OWN_ARRAYS = ("DIP_ERR", "DIP_FLAG")
_OWN_NAME = re.compile(r"_dip\.\w+(\.[gf]z)?$")  # that a folder's products have by default


def products_in(names: Sequence[Path]) -> list[Path]:
    """Give the products of folders, and what else is named as it is; each once, links resolved.

    Of a folder, torn products too: who reads them can say so. Raises FrameError for a folder
    without one where no run left word of a frame, and for what is not there.
    """
    found: dict[str, Path] = {}
    for name in names:
        if not name.exists():
            raise FrameError(f"{name}: no such file or folder; give products of dip")
        inside = _products_of(name) if _is_folder(name) else [name]
        for path in inside:
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def is_whole(product: Path) -> bool:
    """Whether the account of a product can be read, which stands at its end."""
    try:
        return read_provenance(product) is not None
    except (DipError, OSError):
        return False


def is_torn(product: Path) -> bool:
    """Whether what is there was a product, whose account cannot be read any more."""
    return os.path.lexists(product) and _was_product(product) and not is_whole(product)


def folders_in(names: Sequence[Path]) -> list[Path]:
    """Folders that are named, and those of named products; each once."""
    found: dict[str, Path] = {}
    for name in names:
        folder = name if _is_folder(name) else name.parent
        found.setdefault(os.path.realpath(folder), folder)
    return list(found.values())


def _is_folder(name: Path) -> bool:
    return name.is_dir() and name.suffix.lower() != ".zarr"


def _products_of(folder: Path) -> list[Path]:
    inside = sorted(path for path in folder.iterdir() if path.name.lower().endswith(_ENDINGS))
    # A link comes after what is a file: the name of the product itself is the one to tell.
    inside.sort(key=lambda path: path.is_symlink())
    # First what takes one look: an account is read again by whoever tells of it.
    products = [path for path in inside if _was_product(path) or is_whole(path)]
    if not products and not word_of([folder]).unmade:
        raise FrameError(f"{folder}: holds no product of dip; give the folder of the products")
    return products


def _was_product(path: Path) -> bool:
    """Whether what is there was a product, whose account is lost.

    By planes that products alone have, or by how a file begins, for the account stands at the end;
    by its name where nothing is left in it, or it cannot be looked at.
    """
    named = _OWN_NAME.search(path.name) is not None
    if path.is_dir():
        own = any((path / name).is_dir() for name in _OWN_ARRAYS)
        return own or (named and path.suffix.lower() == ".zarr" and not is_zarr(path))
    if not path.is_file():  # nobody waits for what a pipe has to say
        return named and not path.exists()
    try:
        with path.open("rb") as stream:
            head = _head(stream)
    except OSError:
        return named
    return _OWN_CARD in head or (named and not head)


def _head(stream: IO[bytes]) -> bytes:
    """First bytes of a file, unpacked as far as they go."""
    head = stream.read(_HEAD_BYTES)
    if not head.startswith(b"\x1f\x8b"):
        return head
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, _HEAD_BYTES)
    except zlib.error:
        return b""
