"""Save a restored frame as FITS or Zarr, whole or not at all."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from dip_pipeline.errors import OutputError
from dip_pipeline.frames.colour_mosaic import filters_together
from dip_pipeline.frames.compression import compressed, refuse_reserved
from dip_pipeline.frames.finer_frame import coarse_of
from dip_pipeline.frames.fits_to_zarr import fits_to_zarr
from dip_pipeline.frames.fits_writer import plan_fits
from dip_pipeline.frames.frame import Frame, RestoredFrame, RestoredPlanes
from dip_pipeline.frames.hdu_plans import HduPlan, write_fits
from dip_pipeline.frames.provenance import Provenance
from dip_pipeline.frames.publishing import Destination, prepare, publishing, write_gzip
from dip_pipeline.frames.zarr_choice import DERIVED, arrays_of, is_zarr, open_node
from dip_pipeline.frames.zarr_hdus import is_hdu
from dip_pipeline.frames.zarr_reader import ZarrPixels
from dip_pipeline.frames.zarr_writer import check_place, needed_bytes, write_zarr

FITS_SUFFIXES = (".fits", ".fit", ".fts")
ZARR_SUFFIXES = (".zarr",)
OutputKind = Literal["fits", "tiles", "gzip", "zarr"]


def output_kind(target: str | Path) -> OutputKind | None:
    """Tell what a name asks for: plain FITS, tile-compressed, gzipped, Zarr; None: no frame.

    >>> [output_kind(name) for name in ("a.fits", "a.FIT.fz", "a.fits.gz", "a.zarr/", "a.gz")]
    ['fits', 'tiles', 'gzip', 'zarr', None]
    """
    *_, inner, suffix = "", "", *(part.lower() for part in Path(target).suffixes)
    if suffix in ZARR_SUFFIXES:
        return "zarr"
    if suffix in FITS_SUFFIXES:
        return "fits"
    if suffix == ".fz":
        return "tiles"
    if suffix == ".gz" and inner in FITS_SUFFIXES:
        return "gzip"
    return None


def save_frame(
    target: Path,
    frame: Frame,
    planes: RestoredPlanes,
    *,
    provenance: Provenance,
    overwrite: bool = False,
) -> None:
    """Write one restored plane, as `save_frames` does."""
    restored = [RestoredFrame(frame, planes, provenance.cards)]
    save_frames(target, restored, provenance=provenance, overwrite=overwrite)


def save_frames(
    target: Path,
    restored: Sequence[RestoredFrame],
    *,
    provenance: Provenance,
    overwrite: bool = False,
) -> None:
    """Write everything of the input, the restored planes in place of its own, and ours.

    restored : planes of one input, (rows, cols) each, read band by band. The format follows the
    suffix of the target. Raises OutputError where it cannot or must not be written; an existing
    file stays as it was.
    """
    kind = output_kind(target)
    restored = filters_together(restored)
    frame = restored[0].frame
    destination = check_target(target, frame, overwrite=overwrite)
    for item in restored:
        _check_shapes(target, item)
    if kind == "zarr" and (len(restored) == 1 or frame.format == "zarr"):
        if all(item.planes is None for item in restored):
            raise OutputError(f"{target}: nothing was restored")
        with publishing(destination, needed_bytes(restored)) as part:
            write_zarr(part, restored, provenance)
        return
    plans = plan_fits(restored, provenance)
    if kind == "zarr":
        _save_by_way_of_fits(destination, plans)
        return
    with publishing(destination, sum(plan.total_bytes for plan in plans)) as part:
        if kind == "gzip":
            write_gzip(part, partial(write_fits, plans=plans), target)
        elif kind == "tiles":
            with compressed(plans, part.parent) as packed:
                write_fits(part, packed)
        else:
            write_fits(part, plans)


def _save_by_way_of_fits(destination: Destination, plans: list[HduPlan]) -> None:
    """Write a product of several planes as FITS, and that as a Zarr group, which loses nothing."""
    size = sum(plan.total_bytes for plan in plans)
    with publishing(destination, 3 * size) as part:
        between = part.with_name(f"{part.name}.fits")
        try:
            write_fits(between, plans)
            fits_to_zarr(between, part)
        finally:
            between.unlink(missing_ok=True)


def _check_shapes(target: Path, item: RestoredFrame) -> None:
    if item.planes is None:
        return
    for name in ("science", "error", "flags"):
        shape = tuple(getattr(item.planes, name).shape)
        if shape != item.frame.shape:
            raise OutputError(f"{target}: {name} has shape {shape}, the frame {item.frame.shape}")


def check_target(target: Path, frame: Frame, *, overwrite: bool = False) -> Destination:
    """Refuse, before any work is done, a target that `save_frames` would refuse.

    Raises OutputError for a suffix that names no format, the input itself, an existing file without
    `overwrite`, and a folder that cannot be written to.
    """
    kind = output_kind(target)
    if kind is None:
        raise OutputError(
            f"{target}: the suffix names no format; use one of "
            f"{', '.join(FITS_SUFFIXES + ZARR_SUFFIXES)}, .fits.fz, .fits.gz"
        )
    hint = " (in a workflow: frames.overwrite = true)"
    destination = prepare(target, frame.path, overwrite=overwrite, hint=hint)
    check_kind(destination, wants_folder=kind == "zarr")
    if kind == "tiles":
        behind = frame.source.science_header()
        refuse_reserved([] if behind is None else behind[2])
    if kind == "zarr":
        check_place(frame)
    return destination


def check_unchanged(frame: Frame) -> None:
    """Raise FrameError where a Zarr store was written to since it was opened.

    Of a FITS file every read sees to that.
    """
    source = coarse_of(frame.source)
    if isinstance(source, ZarrPixels):
        source.check_unchanged()


def left_behind(target: Path, frame: Frame) -> tuple[str, ...]:
    """Arrays of a Zarr input that a product in FITS does not hold."""
    source = coarse_of(frame.source)
    if output_kind(target) == "zarr" or not isinstance(source, ZarrPixels):
        return ()
    names = source.names
    held = {names.science, names.error, names.flags, "DIP_ERR", "DIP_FLAG", *source.hdus_by_array()}
    arrays = arrays_of(open_node(source.path))
    # What a FITS file was converted to along with its own HDUs is made of these.
    return tuple(
        name
        for name, array in sorted(arrays.items())
        if name not in held and not is_hdu(array) and not array.attrs.get(DERIVED)
    )


def check_kind(destination: Destination, *, wants_folder: bool) -> None:
    """Refuse to replace a file by a folder, or a folder that is no Zarr group by anything."""
    path = destination.path
    if not path.exists():
        return
    if wants_folder and not is_zarr(path):
        raise OutputError(f"{destination.target}: exists and is no Zarr group; left alone")
    if not wants_folder and not path.is_file():
        raise OutputError(f"{destination.target}: exists and is no file; left alone")
