"""Zarr store to Frames: arrays science, error, flags; attributes unit and cards."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.errors import FrameError
from dip_pipeline.flags import PixelFlag
from dip_pipeline.frames.fits_cards import format_card, is_structural, parse_cards, split_cards
from dip_pipeline.frames.fits_pixels import PRODUCT_HDUS
from dip_pipeline.frames.frame import (
    Card,
    Frame,
    Pixels,
    PlaneInfo,
    RawHdu,
    Role,
    header_mapping,
    make_pixels,
)
from dip_pipeline.frames.noise_form import NoiseForm, sigma_of
from dip_pipeline.frames.provenance import (
    PROVENANCE_NAME,
    TILES_NAME,
    Provenance,
    cards_by_keyword,
    from_json,
    to_json,
)
from dip_pipeline.frames.reading import AS_THE_FILE_SAYS, Reading
from dip_pipeline.frames.zarr_choice import (
    OTHER_SCIENCE,
    RELATIVE_ERROR,
    ZarrNames,
    ZarrNode,
    array_of,
    arrays_of,
    attributes_of,
    choose_arrays,
    files_of,
    missing_chunks,
    open_node,
    place_in,
    plane_shape,
    planes_come_last,
)
from dip_pipeline.frames.zarr_hdus import (
    HEADER,
    ZARR_ERRORS,
    ZarrArray,
    hdu_of,
    is_hdu,
    physical,
    reading,
)

logger = logging.getLogger(__name__)

FITS_GROUP = "fits"  # other HDUs of a FITS input, so that nothing is lost
FITS_SHAPE = "fits_shape"
FITS_ORDER = "fits_order"
OWN_KEYWORDS = "DIP_CARDS"
REST = "rest"  # role of what follows the last HDU of a FITS file

StoreState = tuple[int, int, int]
"""Number of the files of a store, their bytes, and when the last one was written, in ns."""


def state_of(path: Path) -> StoreState:
    """Tell whether a store is as it was, without reading it."""
    found = [file.stat() for file in path.rglob("*") if file.is_file()]
    newest = max((one.st_mtime_ns for one in found), default=0)
    return len(found), sum(one.st_size for one in found), newest


@dataclass(frozen=True, slots=True)
class ZarrPixels:
    """Pixels of one image of a Zarr store, by slices.

    has_filled : it has flags of an earlier restoration; state : of the store when it was opened
    leading : of a stack of images, the place of this one
    """

    path: Path
    names: ZarrNames
    has_filled: bool
    state: StoreState
    leading: tuple[int, ...] = ()

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read one region of all planes: only the chunks it touches."""
        names = self.names
        science = self._slice(names.science, rows, cols)
        error = None if names.error is None else self._slice(names.error, rows, cols)
        if error is not None and names.form is not NoiseForm.SIGMA:
            error = sigma_of(error, names.form)
        bad = np.zeros(science.shape, dtype=bool)
        saturated = None
        flags = self.read_flags(rows, cols)
        if flags is not None:
            bad, full = names.rule.split(flags)
            saturated = full if names.rule.tells_saturated else None
        if self.has_filled:  # what was filled in once holds no information ever after
            bad |= (self._slice("DIP_FLAG", rows, cols).astype(np.uint8) & PixelFlag.FILLED) != 0
        return make_pixels(science, error, bad, saturated, path=self.path)

    def read_flags(self, rows: slice, cols: slice) -> NDArray[np.generic] | None:
        """Read the flags of one region as stored."""
        return None if self.names.flags is None else self._slice(self.names.flags, rows, cols)

    def science_header(self) -> tuple[int, tuple[int, ...], list[bytes]] | None:
        """Place, shape and cards of the science HDU, where the group came from FITS."""
        with reading(self.path, "header of science"):
            node = open_node(self.path)
            science = array_of(node, self.names.science)
            attributes = attributes_of(science)
            if FITS_ORDER not in attributes:
                return None
            order = int(attributes[FITS_ORDER])
            shape = tuple(int(axis) for axis in attributes.get(FITS_SHAPE, science.shape))
            if HEADER in attributes:
                return order, shape, [str(card).encode("latin-1") for card in attributes[HEADER]]
        raw: list[bytes] = []
        for keyword, value, comment in read_cards(node, self.path):
            if not is_structural(keyword):
                raw += format_card(keyword, value, comment)
        return order, shape, raw

    def other_hdus(self) -> list[RawHdu]:
        """HDUs that came along from a FITS input, byte for byte, without an earlier product's."""
        return sorted(self.hdus_by_array().values(), key=lambda hdu: hdu.order)

    def hdus_by_array(self) -> dict[str, RawHdu]:
        """HDUs that came along from a FITS input, by the array that keeps them."""
        found = {
            name: hdu_of(self.path, name, array)
            for name, array in arrays_of(open_node(self.path)).items()
            if is_hdu(array) and name != self.names.science
        }
        return {
            name: hdu
            for name, hdu in found.items()
            if hdu.role not in ("science", REST) and hdu.name not in PRODUCT_HDUS
        }

    def check_unchanged(self) -> None:
        """Raise FrameError where the store was written to since it was opened."""
        if state_of(self.path) != self.state:
            raise FrameError(
                f"{self.path}: changed while it was being read; run again when it is complete"
            )

    def product_keywords(self) -> frozenset[str]:
        """Keywords of cards that an earlier restoration wrote."""
        stored = attributes_of(open_node(self.path)).get(OWN_KEYWORDS, [])
        return frozenset(str(keyword) for keyword in stored)

    def _slice(self, name: str, rows: slice, cols: slice) -> NDArray[np.generic]:
        try:
            array = array_of(open_node(self.path), name)
            place: list[Any] = [*place_in(array, self.leading), rows, cols]
            stored = np.asarray(array[tuple(place)])
            return physical(stored, attributes_of(array))
        except ZARR_ERRORS as error:
            raise FrameError(
                f"{self.path}: array {name}, rows {rows.start} to {rows.stop}, cannot be read: "
                f"{error}"
            ) from error


def open_zarr(
    path: Path, selector: str | None = None, reading: Reading = AS_THE_FILE_SAYS
) -> tuple[Frame, ...]:
    """Open a Zarr group, or an array, as Frames, one for each image; reads metadata only.

    selector : path of the array to restore; it outranks that of `reading`
    Raises FrameError for what holds no image, or several without one named `science`, and for
    arrays that are asked for and not there.
    """
    node = open_node(path)
    try:
        names = choose_arrays(node, selector, path, reading)
        arrays = arrays_of(node)
    except ZARR_ERRORS as error:
        raise FrameError(f"{path}: the Zarr store cannot be read: {_one_line(error)}") from error
    science = arrays[names.science]
    shape = _check_science(science, path)
    cards = read_cards(node, path)
    filled = "DIP_FLAG" in arrays and plane_shape(arrays["DIP_FLAG"]) == plane_shape(science)
    source = ZarrPixels(path.absolute(), names, filled, state_of(path))
    primary = next((hdu.header for hdu in source.other_hdus() if hdu.order == 0), b"")
    alone = header_mapping(cards)
    inherits = alone.get("INHERIT") is not False
    header = header_mapping(cards, parse_cards(split_cards(primary))) if inherits else alone
    stored = attributes_of(node)
    _tell_of_others(stored, names, path)
    relative = names.error == "error" and bool(stored.get(RELATIVE_ERROR))
    units = (stored.get("unit"), header.get("BUNIT"))
    units += tuple(attributes_of(science).get(name) for name in ("unit", "units"))
    first = Frame(
        path=path,
        format="zarr",
        shape=(shape[-2], shape[-1]),
        unit=str(next((unit for unit in units if unit), "")).strip(),
        cards=cards,
        planes=tuple(
            PlaneInfo(
                name.rpartition("/")[2] or path.stem,
                _role(name, names),
                tuple(array.shape),
                str(array.dtype),
                f"array {name}" if name else "the array itself",
            )
            for name, array in sorted(arrays.items())
            if "/" not in name or name == names.science
        ),
        source=source,
        header=header,
        has_error_plane=names.error is not None,
        has_mask=names.flags is not None,
        noise_words=""
        if names.error is None
        else f"error plane of the store (array {names.error}, {names.form})",
        relative_noise=names.form is NoiseForm.WEIGHT or relative,
        flag_words="" if names.flags is None else f"{names.rule.words}; in array {names.flags}",
    )
    if len(shape) == 2:
        return (first,)
    where = f"array {names.science}" if names.science else "the array itself"
    return tuple(
        replace(first, where=where, plane_index=at, source=replace(source, leading=at))
        for at in np.ndindex(shape[:-2])
    )


def _tell_of_others(attributes: dict[str, Any], names: ZarrNames, path: Path) -> None:
    """Warn of further chips of the mosaic that a group was converted from."""
    others = attributes.get(OTHER_SCIENCE)
    if names.science == "science" and isinstance(others, list) and others:
        logger.warning(
            "%s: of a mosaic of %d images this is the first alone; select another one, as in "
            "%s[%s], or restore the FITS file, where all are",
            path,
            len(others) + 1,
            path.name,
            others[0],
        )


def _role(name: str, names: ZarrNames) -> Role:
    if name == names.science:
        return "science"
    if name == names.error:
        return "error"
    return "flags" if name == names.flags else "other"


def read_cards(node: ZarrNode, path: Path) -> tuple[Card, ...]:
    """Cards of the group; raises FrameError where they are not [keyword, value, comment]."""
    stored = attributes_of(node).get("cards", [])
    try:
        return tuple(
            (str(keyword), from_json(value), str(comment or ""))
            for keyword, value, comment in stored
        )
    except (TypeError, ValueError) as error:
        raise FrameError(
            f"{path}: attribute `cards` is broken; needed: a list of [keyword, value, comment]"
        ) from error


def read_zarr_provenance(path: Path) -> Provenance | None:
    """Read the provenance of a Zarr product; None where the group is not one."""
    try:
        node = open_node(path)
        cards = read_cards(node, path)
        attributes: dict[str, Any] = attributes_of(node)
        document = from_json(attributes.get(PROVENANCE_NAME))
        tiles = from_json(attributes.get(TILES_NAME))
        keywords = [str(keyword) for keyword in attributes.get(OWN_KEYWORDS, [])]
    except (FrameError, *ZARR_ERRORS):
        return None
    if not isinstance(document, dict) or not isinstance(tiles, list):
        return None
    by_keyword = {card[0]: card for card in cards}
    history = [str(value) for keyword, value, _ in cards if keyword == "HISTORY"]
    own = cards_by_keyword(by_keyword, keywords)
    return Provenance(own, history[-1] if history else "", document, tiles)


def cards_to_json(cards: tuple[Card, ...]) -> list[list[object]]:
    """Cards as the attribute holds them."""
    return [[keyword, to_json(value), comment] for keyword, value, comment in cards]


def _check_science(array: ZarrArray, path: Path) -> tuple[int, ...]:
    shape = plane_shape(array)
    if len(shape) < 2 or planes_come_last(array):
        raise FrameError(
            f"{path}: science has {len(array.shape)} axes {array.shape}: need (rows, cols), or of "
            "a stack of images (planes, rows, cols)"
        )
    if getattr(array.dtype, "kind", "") not in ("i", "u", "f"):
        raise FrameError(f"{path}: science holds {array.dtype}: real numbers are needed")
    if 0 in array.shape:
        raise FrameError(f"{path}: science has size {array.shape}: no pixels to restore")
    missing = missing_chunks(array)
    if missing:
        logger.warning(
            "%s: %d of %d chunks of science are not there and read as %s",
            path,
            missing,
            files_of(array),
            array.fill_value,
        )
    return tuple(int(side) for side in shape)


def _one_line(error: BaseException) -> str:
    return str(error).split("\n")[0] or type(error).__name__
