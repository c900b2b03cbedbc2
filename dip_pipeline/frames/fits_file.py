"""Opened FITS files of this process: unpacked once, scanned once, closed when others need room.

HDUs cannot be pickled and one handle must not be read by two threads at a time, so a frame
keeps a path, and every read goes through `fits_file`, which holds one lock for the process.
"""

import atexit
import bz2
import gzip
import logging
import lzma
import os
import shutil
import tempfile
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
from astropy.io import fits
from astropy.io.fits.hdu.compressed import _compression
from numpy.typing import NDArray

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.fits_layout import COPY_BYTES, Layout, scan_layout
from dip_pipeline.frames.tile_bands import TileBands
from dip_pipeline.quiet_warnings import caught_warnings

logger = logging.getLogger(__name__)

MAX_OPEN = 4
_MOST_WIDER = 16  # rows than what is read of them, for whole ones to be read

# What astropy raises on files that are broken in one way or another. The decoders of compressed
# images have a class of their own, which is named nowhere in public.
_DECODING: type[Exception] = getattr(_compression, "CfitsioException", ValueError)
READ_ERRORS = (OSError, ValueError, TypeError, LookupError, AttributeError, EOFError, zlib.error,
               ArithmeticError, fits.VerifyError, _DECODING)  # fmt: skip
_UNPACK_ERRORS = (EOFError, OSError, zlib.error, lzma.LZMAError, ValueError)

_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_AS_FITS = ": write its pixels as FITS, an image for each colour"
_OTHERS = {
    b"version https://git-lfs": "a git-lfs pointer: run git lfs pull",
    b"#ASDF": "an ASDF file: export its image to FITS or Zarr",
    b"\x89PNG": f"a PNG picture{_AS_FITS}",
    b"\xff\xd8\xff": f"a JPEG picture{_AS_FITS}",
    b"II*\0": f"a TIFF picture{_AS_FITS}",
    b"MM\0*": f"a TIFF picture{_AS_FITS}",
    b"\x89HDF": "an HDF5 file",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"\x1f\x9d": "a .Z file: unpack it first",
    b"<": "a web page or XML: the download went wrong",
}


class FileState(NamedTuple):
    """What tells one version of a file from another."""

    size: int
    mtime_ns: int


@dataclass(slots=True)
class OpenFits:
    """One opened file: unpacked bytes, layout, and astropy's view of it."""

    path: Path
    stream: BinaryIO
    layout: Layout
    hdus: fits.HDUList
    bands: TileBands = field(default_factory=TileBands)

    def blocks(self, start: int, stop: int) -> Iterator[bytes]:
        """Bytes of the unpacked file, block by block; a cut end is filled with zeros."""
        while start < stop:
            try:
                self.stream.seek(start)
                block = self.stream.read(min(COPY_BYTES, stop - start))
            except OSError as error:
                raise FrameError(f"{self.path}: cannot be read: {error.strerror}") from error
            if not block:
                block = bytes(stop - start)
            start += len(block)
            yield block

    def section(self, index: int, region: tuple[int | slice, ...]) -> NDArray[np.generic]:
        """Read stored numbers of one region of an image HDU, and little more than these."""
        hdu = self.hdus[index]
        if isinstance(hdu, fits.CompImageHDU):
            return self.bands.read(hdu, index, region)
        *leading, rows, cols = region
        width = int(hdu.shape[-1])
        if not isinstance(cols, slice) or cols.indices(width)[2] != 1:
            return np.asarray(hdu.section[region])
        first, last, _ = cols.indices(width)
        if width > _MOST_WIDER * (last - first):
            return np.asarray(hdu.section[region])
        # Of whole rows one piece is read, of parts of them a piece for each.
        lines = np.asarray(hdu.section[(*leading, rows, slice(0, width))])[..., first:last]
        return lines.astype(lines.dtype.newbyteorder("="), order="C")

    def close(self) -> None:
        """Give the handles back."""
        self.hdus.close()
        self.stream.close()


_lock = threading.RLock()
_opened: OrderedDict[tuple[int, str, FileState], OpenFits] = OrderedDict()


def file_state(path: Path) -> FileState:
    """Size and time of last change; raises FrameError where there is no such file."""
    try:
        facts = path.stat()
    except OSError as error:
        raise FrameError(f"{path}: cannot be read: {error.strerror}") from error
    return FileState(facts.st_size, facts.st_mtime_ns)


@contextmanager
def fits_file(path: Path, expected: FileState | None = None) -> Iterator[OpenFits]:
    """Lend the opened file to one reader at a time.

    expected : state of the file when its frame was made; FrameError where it differs.
    """
    with _lock:
        state = file_state(path)
        if expected is not None and state != expected:
            raise FrameError(f"{path}: changed while it was being read; run again when it is whole")
        key = (os.getpid(), str(path.absolute()), state)
        if key in _opened:
            _opened.move_to_end(key)
        else:
            _opened[key] = _open(path, state)
            while len(_opened) > MAX_OPEN:
                _opened.popitem(last=False)[1].close()
        yield _opened[key]


@contextmanager
def log_warnings(path: Path) -> Iterator[None]:
    """Turn what astropy warns of into log lines; the scan has judged the file more strictly."""
    with caught_warnings() as caught:
        yield
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        logger.info("%s: %s", path, " ".join(text.split())[:200])


def close_files() -> None:
    """Close every opened file of this process; the next read opens what it needs."""
    with _lock:
        while _opened:
            _opened.popitem()[1].close()


atexit.register(close_files)


def _open(path: Path, state: FileState) -> OpenFits:
    stream = _open_stream(path, state)
    try:
        return _scan(stream, path)
    except READ_ERRORS as error:
        stream.close()
        raise FrameError(f"{path}: cannot be read as FITS: {_one_line(error)}") from error
    except BaseException:
        stream.close()
        raise


def _scan(stream: BinaryIO, path: Path) -> OpenFits:
    size = os.fstat(stream.fileno()).st_size
    if not size:
        raise FrameError(f"{path}: empty file (0 bytes); get a complete copy")
    stream.seek(0)
    start = stream.read(80)
    if not start.startswith(b"SIMPLE  ="):
        raise FrameError(f"{path}: not a FITS file{_sniff(start)}")
    layout = scan_layout(stream, size, path)
    stream.seek(0)
    with log_warnings(path):
        # No memmap: a file cut while it is mapped would kill the process.
        hdus = fits.open(stream, mode="readonly", memmap=False, do_not_scale_image_data=True)
    return OpenFits(path, stream, layout, hdus)


def _open_stream(path: Path, state: FileState) -> BinaryIO:
    if path.is_dir():
        raise FrameError(f"{path}: a folder; give a FITS file or a Zarr group")
    with ExitStack() as unless_given:
        try:
            stream = unless_given.enter_context(path.open("rb"))
            start = stream.read(8)
        except OSError as error:
            raise FrameError(f"{path}: cannot be read: {error.strerror}") from error
        packing = next((name for magic, name in _PACKED.items() if start.startswith(magic)), None)
        stream.seek(0)
        if packing is None:
            unless_given.pop_all()
            return stream
        return _unpack(stream, path, packing, state)


def _unpack(stream: BinaryIO, path: Path, packing: str, state: FileState) -> BinaryIO:
    """Unpack into a temporary file without a name, reading to the very end.

    Reaching the end is the proof: a cut stream, or one whose check sum is wrong, raises.
    """
    handle, name = tempfile.mkstemp(prefix="dip-", suffix=".fits")
    try:
        with os.fdopen(handle, "wb") as target, _unpacker(stream, packing) as unpacked:
            shutil.copyfileobj(unpacked, target, COPY_BYTES)
        return Path(name).open("rb")
    except _UNPACK_ERRORS as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise FrameError(
                f"{path}: no room to unpack it in {tempfile.gettempdir()} ({error.strerror}); "
                "set TMPDIR to a larger folder"
            ) from error
        raise FrameError(
            f"{path}: truncated or damaged: the {packing} stream of {state.size} bytes does not "
            f"unpack ({_one_line(error)}); get a complete copy"
        ) from error
    finally:
        Path(name).unlink()


def _unpacker(stream: BinaryIO, packing: str) -> BinaryIO:
    if packing == "gzip":
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream, mode="rb"))
    if packing == "bzip2":
        return cast(BinaryIO, bz2.BZ2File(stream))
    return cast(BinaryIO, lzma.LZMAFile(stream))


def _sniff(start: bytes) -> str:
    for magic, what in _OTHERS.items():
        if start.lstrip().startswith(magic) or start.startswith(magic):
            return f" but {what}"
    of_many = "; a list of frames is for dip run (frames.list)" if start.isascii() else ""
    return f": it does not start with SIMPLE; give a FITS file or a Zarr group{of_many}"


def _one_line(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    return text or type(error).__name__
