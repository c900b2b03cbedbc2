"""Open whatever the user names: a FITS file (or one HDU of it), or a Zarr group."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.colour_mosaic import filters_apart
from dip_pipeline.frames.fits_file import file_state
from dip_pipeline.frames.fits_layout import COPY_BYTES
from dip_pipeline.frames.fits_reader import open_fits
from dip_pipeline.frames.frame import Frame
from dip_pipeline.frames.prov_json import names_of
from dip_pipeline.frames.provenance import Provenance, read_fits_provenance
from dip_pipeline.frames.reading import AS_THE_FILE_SAYS, Reading
from dip_pipeline.frames.selectors import split_selector
from dip_pipeline.frames.zarr_reader import open_zarr, read_zarr_provenance, state_of


def open_frame(source: str | Path, reading: Reading = AS_THE_FILE_SAYS) -> Frame:
    """Open the first of the planes that `open_frames` opens."""
    return open_frames(source, reading)[0]


def open_frames(source: str | Path, reading: Reading = AS_THE_FILE_SAYS) -> tuple[Frame, ...]:
    """Open every science plane of "a.fits", "a.fits[SCI,1]", "a.fits[1]" or "a.zarr".

    One frame a chip, a plane of a cube or stack, a read of a ramp, a filter of a raw mosaic; no
    pixels are read yet, but the middle of what its cards call such a mosaic. Raises FrameError for
    what cannot be read, or holds no image.
    """
    path, selector = split_selector(source)
    if "://" in str(source) and not path.exists():
        raise FrameError(f"{source}: is an address, not a file; download it, and give the file")
    if selector is not None and ":" in selector:
        raise FrameError(
            f"{source}: sections of pixels are not read; give a whole image, FILE or FILE[EXT]"
        )
    try:
        is_folder = path.is_dir()
        if not is_folder and not path.exists():
            raise FrameError(f"{path}: no such file; give a FITS file or a Zarr group")
        if not is_folder and not path.is_file():
            raise FrameError(f"{path}: not a regular file; give a FITS file or a Zarr group")
    except OSError as error:
        raise FrameError(f"{path}: cannot be read: {error.strerror}") from error
    if not is_folder:
        return filters_apart(open_fits(path, selector, reading), reading.bayer)
    frames = tuple(
        replace(frame, layout="Zarr group", grow_px=reading.grow_px)
        for frame in open_zarr(path, selector, reading)
    )
    return filters_apart(frames, reading.bayer)


def read_provenance(path: Path) -> Provenance | None:
    """Read how a finished product was made; None where it is not one of ours."""
    if path.is_dir():
        return read_zarr_provenance(path)
    return read_fits_provenance(path) if path.is_file() else None


def read_account(product: Path) -> Provenance:
    """Read how a product was made; FrameError where the file does not say."""
    if not product.exists():
        raise FrameError(f"{product}: no such file; give a product of dip")
    found = read_provenance(product)
    if found is None or not names_of(found.document, "Restoration"):
        raise FrameError(f"{product}: holds no provenance: not a product of dip, or a damaged one")
    return found


def file_digest(path: Path) -> str:
    """Return the sha256 of a file; of a folder, that of its sorted relative names and contents."""
    digest = hashlib.sha256()
    try:
        if not path.is_dir():
            _feed(digest, path)
            return digest.hexdigest()
        files = sorted(
            (file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file()
        )
        for name, file in files:
            digest.update(os.fsencode(f"{name}\0{file.stat().st_size}\0"))
            _feed(digest, file)
    except OSError as error:
        raise FrameError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def path_state(path: Path) -> object:
    """Tell one version of a file, or a Zarr store, from another; None where there is none."""
    try:
        return state_of(path) if path.is_dir() else file_state(path)
    except (FrameError, OSError):
        return None


def named_digest(role: str, source: str | None) -> dict[str, str]:
    """Sha256 of a file that an option names, FILE or FILE[EXT], by role and EXT; {} for none."""
    if source is None:
        return {}
    path, inside = split_selector(source)
    if not path.exists():
        given = f"; it was given as --{role}" if role.isalpha() else ""  # exposures have no option
        raise FrameError(f"{path}: no such file{given}")
    return {role if inside is None else f"{role}[{inside}]": file_digest(path)}


def _feed(digest: "hashlib._Hash", path: Path) -> None:
    with path.open("rb") as stream:
        while block := stream.read(COPY_BYTES):
            digest.update(block)
