"""Convert between FITS and Zarr without loss, whole or not at all."""

from functools import partial
from pathlib import Path

from dip_pipeline.errors import FrameError, OutputError
from dip_pipeline.frames.fits_to_zarr import fits_to_zarr
from dip_pipeline.frames.publishing import prepare, publishing, write_gzip
from dip_pipeline.frames.saving import check_kind, output_kind
from dip_pipeline.frames.workshops import clear_workshops
from dip_pipeline.frames.zarr_to_fits import zarr_to_fits


def convert(source: Path, target: Path, *, overwrite: bool = False) -> None:
    """Write a FITS file as a Zarr group, or a Zarr store as a FITS file.

    Raises FrameError where the source cannot be read, OutputError where the target cannot, or must
    not, be written; an existing file stays as it was.
    """
    if not source.exists():
        raise FrameError(f"{source}: no such file; give a FITS file or a Zarr store")
    kind = output_kind(target)
    to_zarr = kind == "zarr"
    if kind not in ("zarr", "fits", "gzip") or to_zarr == source.is_dir():
        from_, into, wanted = "a FITS file", "a Zarr group", ".zarr"
        if source.is_dir():
            from_, into, wanted = "a Zarr store", "a FITS file", ".fits or .fits.gz"
        raise OutputError(
            f"{target}: {source} is {from_} and becomes {into}; give a name that ends in {wanted}"
        )
    clear_workshops(target)
    destination = prepare(target, source, overwrite=overwrite)
    check_kind(destination, wants_folder=to_zarr)
    size = sum(f.stat().st_size for f in source.rglob("*")) if source.is_dir() else 0
    with publishing(destination, size or source.stat().st_size) as part:
        if to_zarr:
            fits_to_zarr(source, part)
        elif kind == "gzip":
            write_gzip(part, partial(zarr_to_fits, source), target)
        else:
            zarr_to_fits(source, part)
