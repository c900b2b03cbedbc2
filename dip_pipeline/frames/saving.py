"""Save a restored frame as FITS or Zarr, whole or not at all."""

from collections.abc import Sequence
from pathlib import Path

from dip_pipeline.errors import OutputError
from dip_pipeline.frames.fits_writer import plan_fits, write_fits
from dip_pipeline.frames.frame import Frame, RestoredFrame, RestoredPlanes
from dip_pipeline.frames.provenance import Provenance
from dip_pipeline.frames.publishing import Destination, prepare, publishing
from dip_pipeline.frames.zarr_writer import needed_bytes, write_zarr

FITS_SUFFIXES = (".fits", ".fit", ".fts")
ZARR_SUFFIXES = (".zarr",)


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
    frame = restored[0].frame
    destination = check_target(target, frame, overwrite=overwrite, planes=len(restored))
    for item in restored:
        for name in ("science", "error", "flags"):
            shape = item.frame.shape
            if item.planes is not None:
                shape = tuple(getattr(item.planes, name).shape)
            if shape != item.frame.shape:
                raise OutputError(
                    f"{target}: {name} has shape {shape}, the frame {item.frame.shape}"
                )
    if target.suffix.lower() in ZARR_SUFFIXES:
        if restored[0].planes is None:
            raise OutputError(f"{target}: nothing was restored")
        with publishing(destination, needed_bytes(frame)) as part:
            write_zarr(part, frame, restored[0].planes, provenance)
    else:
        plans = plan_fits(restored, provenance)
        with publishing(destination, sum(plan.total_bytes for plan in plans)) as part:
            write_fits(part, plans)


def check_target(
    target: Path, frame: Frame, *, overwrite: bool = False, planes: int = 1
) -> Destination:
    """Refuse, before any work is done, a target that `save_frames` would refuse.

    planes : how many are to be written. Raises OutputError for a suffix that names no format, a
    Zarr group for several planes, the input itself, an existing file without `overwrite`, and a
    folder that cannot be written to.
    """
    suffix = target.suffix.lower()
    if suffix not in FITS_SUFFIXES + ZARR_SUFFIXES:
        raise OutputError(
            f"{target}: the suffix names no format; use one of "
            f"{', '.join(FITS_SUFFIXES + ZARR_SUFFIXES)}"
        )
    if planes > 1 and suffix in ZARR_SUFFIXES:
        raise OutputError(
            f"{target}: a Zarr group holds one plane, the input has {planes}; write a .fits file, "
            "or select one plane with FILE[n]"
        )
    destination = prepare(target, frame.path, overwrite=overwrite)
    _check_kind(destination, wants_folder=suffix in ZARR_SUFFIXES)
    return destination


def _check_kind(destination: Destination, *, wants_folder: bool) -> None:
    """Refuse to replace a file by a folder, or a folder that is no Zarr group by anything."""
    path = destination.path
    if not path.exists():
        return
    if wants_folder and not (path / "zarr.json").is_file():
        raise OutputError(f"{destination.target}: exists and is no Zarr group; left alone")
    if not wants_folder and not path.is_file():
        raise OutputError(f"{destination.target}: exists and is no file; left alone")
