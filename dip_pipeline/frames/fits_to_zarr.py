"""FITS to Zarr without loss: the group gives back the same bytes, and is a frame besides."""

import hashlib
import logging
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from dip_pipeline.errors import FrameError, OutputError
from dip_pipeline.frames.fits_file import fits_file
from dip_pipeline.frames.fits_layout import HduSpan
from dip_pipeline.frames.fits_pixels import FitsPixels
from dip_pipeline.frames.fits_planes import plane_of
from dip_pipeline.frames.fits_reader import open_fits
from dip_pipeline.frames.frame import Frame, RawHdu
from dip_pipeline.frames.provenance import (
    PROVENANCE_NAME,
    TILES_NAME,
    read_fits_provenance,
    to_json,
)
from dip_pipeline.frames.reading import AS_THE_FILE_SAYS
from dip_pipeline.frames.zarr_choice import DERIVED, OTHER_SCIENCE, arrays_of, open_node
from dip_pipeline.frames.zarr_hdus import hdu_of, is_hdu, keep_hdu
from dip_pipeline.frames.zarr_meta import restore_group, tells_all
from dip_pipeline.frames.zarr_reader import (
    FITS_GROUP,
    FITS_ORDER,
    FITS_SHAPE,
    OWN_KEYWORDS,
    REST,
    cards_to_json,
)
from dip_pipeline.frames.zarr_writer import create_stack, derive_planes, facts_of_planes, keep_hdus

logger = logging.getLogger(__name__)


def fits_to_zarr(source: Path, part: Path) -> None:
    """Write every byte of a FITS file as a Zarr group, and verify that it gives them back.

    Raises FrameError where the file cannot be read, OutputError where the group differs.
    """
    frames = _as_frames(source)
    frame = frames[0] if frames else None
    hdus, rest = hdus_of_file(source, frame)
    group = zarr.create_group(part, zarr_format=3)
    if tells_all(hdus, source):
        restore_group(group, hdus, source)
        return
    names = keep_hdus(group, hdus)
    if rest is not None:
        keep_hdu(group, f"{FITS_GROUP}/{REST}", rest)
    attributes: dict[str, Any] = {}
    if frame is not None:
        attributes = {"unit": frame.unit, "cards": cards_to_json(frame.cards)}
        attributes |= facts_of_planes(frame)
        if others := _other_science(frames):
            attributes[OTHER_SCIENCE] = others
        planes = [one for one in frames if one.where == frame.where]
        _complete_science(group, planes, derived="science" not in names)
        derive_planes(group, planes, names)
        _complete_product(group, planes, names)
    product = read_fits_provenance(source)
    if product is not None:
        attributes[PROVENANCE_NAME] = to_json(product.document)
        attributes[TILES_NAME] = to_json(product.tiles)
        attributes[OWN_KEYWORDS] = list(product.keywords)
    group.attrs.put(attributes)
    if _digest_of_hdus([*hdus, *([rest] if rest else [])]) != _digest_of_hdus(kept_hdus(part)):
        raise OutputError(f"{part}: does not give back the bytes of {source}; nothing is kept")


def hdus_of_file(source: Path, frame: Frame | None) -> tuple[list[RawHdu], RawHdu | None]:
    """Every HDU of a FITS file with what it is to the frame; and what follows the last, if any."""
    order = None if frame is None else frame.source.science_header()
    roles = {} if frame is None else {hdu.order: hdu.role for hdu in frame.source.other_hdus()}
    if order is not None:
        roles[order[0]] = "science"
    with fits_file(source) as opened:
        hdus = [
            RawHdu(
                order=hdu.index,
                name=hdu.name,
                role=roles.get(hdu.index, "other"),
                header=b"".join(opened.blocks(hdu.header_start, hdu.data_start)),
                data_bytes=hdu.end - hdu.data_start,
                blocks=partial(_blocks, source, hdu.data_start, hdu.end),
            )
            for hdu in opened.layout.hdus
        ]
        end = opened.layout.hdus[-1].end
        size = opened.stream.seek(0, 2)
    if size <= end:
        return hdus, None
    blocks = partial(_blocks, source, end, size)
    rest = RawHdu(len(hdus), "", "other", b"", size - end, blocks)
    return hdus, rest


def kept_hdus(path: Path) -> list[RawHdu]:
    """Every HDU that a group keeps, in the order of the file; what followed the last comes last."""
    arrays = arrays_of(open_node(path))
    found = [hdu_of(path, name, item) for name, item in arrays.items() if is_hdu(item)]
    return sorted(found, key=lambda hdu: hdu.order)


def _as_frames(source: Path) -> tuple[Frame, ...]:
    try:
        return open_fits(source, None, AS_THE_FILE_SAYS)
    except FrameError as error:
        with fits_file(source):  # what is no FITS file at all is refused here
            logger.warning("%s; converted all the same", error)
        return ()


def _other_science(frames: Sequence[Frame]) -> list[str]:
    """Arrays that keep the science HDUs after the first."""
    headers = [frame.source.science_header() for frame in frames]
    orders = dict.fromkeys(header[0] for header in headers if header is not None)
    return [f"{FITS_GROUP}/{order:03d}" for order in list(orders)[1:]]


def _complete_product(group: zarr.Group, planes: Sequence[Frame], names: Collection[str]) -> None:
    """Make arrays of the planes of a product that the file holds compressed."""
    source = planes[0].source
    if not isinstance(source, FitsPixels):
        return
    path, state = source.path, source.state
    with fits_file(path, state) as opened:
        hdus = [h for h in opened.layout.hdus if h.kind == "compressed" and h.name not in names]
    for name, dtype in (("DIP_ERR", "float32"), ("DIP_FLAG", "uint8")):
        found = next((hdu for hdu in hdus if hdu.name == name), None)
        if found is None or found.shape[-2:] != planes[0].shape:
            continue

        def read(frame: Frame, rows: slice, found: HduSpan = found) -> NDArray[np.generic]:
            plane = plane_of(path, state, found, frame.plane_index)
            return plane.physical(rows, slice(0, frame.shape[1]))

        create_stack(group, name, planes, dtype, read).attrs[DERIVED] = True


def _complete_science(group: zarr.Group, planes: Sequence[Frame], *, derived: bool) -> None:
    """Let the science array tell its place; make one where the file holds it compressed."""
    behind = planes[0].source.science_header()
    if behind is None:
        return
    place: dict[str, Any] = {FITS_ORDER: behind[0], FITS_SHAPE: list(behind[1])}
    if derived:
        science = create_stack(
            group, "science", planes, "float32", lambda f, rows: f.read(rows, slice(None)).science
        )
        science.attrs.put(place)
    else:
        group["science"].attrs.update(place)


def _blocks(source: Path, start: int, stop: int) -> Iterator[bytes]:
    with fits_file(source) as opened:
        yield from opened.blocks(start, stop)


def _digest_of_hdus(hdus: list[RawHdu]) -> str:
    digest = hashlib.sha256()
    for hdu in hdus:
        digest.update(hdu.header)
        for block in hdu.blocks():
            digest.update(block)
    return digest.hexdigest()
