"""A product as a verifier sees it: restored images with error and flags, in either format."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.colour_mosaic import filter_planes
from dip_pipeline.frames.filter_pattern import MOSAIC_CARD
from dip_pipeline.frames.fits_cards import keyword_of, parse_cards, split_cards
from dip_pipeline.frames.fits_file import READ_ERRORS, fits_file, log_warnings
from dip_pipeline.frames.fits_layout import HduSpan
from dip_pipeline.frames.fits_planes import image_cards_of
from dip_pipeline.frames.frame import Card, PlaneArray
from dip_pipeline.frames.prov_json import facts_of, names_of
from dip_pipeline.frames.provenance import Provenance
from dip_pipeline.frames.zarr_choice import array_of, arrays_of, missing_chunks, open_node
from dip_pipeline.frames.zarr_hdus import ZARR_ERRORS, ZarrArray, hdu_of, is_hdu
from dip_pipeline.frames.zarr_reader import read_cards

RUN_WORD = "DIPRUN"
_PRODUCT_ARRAYS = ("science", "DIP_ERR", "DIP_FLAG")

RestoredPlane = tuple[PlaneArray, PlaneArray, PlaneArray]
"""Science, error and flags."""


@dataclass(frozen=True, slots=True)
class HduPlane:
    """One plane of an image HDU, read band by band; leading : its place on further axes."""

    path: Path
    index: int
    shape: tuple[int, int]
    leading: tuple[int, ...] = ()

    def __getitem__(self, region: tuple[slice, slice]) -> NDArray[np.generic]:
        """One band, as it is stored."""
        with fits_file(self.path) as opened, log_warnings(self.path):
            try:
                return opened.section(self.index, (*self.leading, *region))
            except READ_ERRORS as error:
                raise FrameError(
                    f"{self.path}: HDU {self.index} cannot be read: {error}"
                ) from error


@dataclass(frozen=True, slots=True)
class ZarrPlane:
    """One plane of an array of a group, read band by band; leading : its place on further axes."""

    path: Path
    name: str
    shape: tuple[int, int]
    leading: tuple[int, ...] = ()

    def __getitem__(self, region: tuple[slice, slice]) -> NDArray[np.generic]:
        """One band."""
        try:
            array = array_of(open_node(self.path), self.name)
            place: list[Any] = [*self.leading, *region]
            return np.asarray(array[tuple(place)])
        except ZARR_ERRORS as error:
            raise FrameError(f"{self.path}: array {self.name} cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Restoration:
    """One restored HDU of a product.

    where : of it, for people; index : its number in a FITS file; cards : of its header
    planes : (science, error, flags) of each of its planes; dtypes : of these three, as stored
    """

    where: str
    index: int
    cards: tuple[Card, ...]
    planes: tuple[RestoredPlane, ...]
    dtypes: tuple[str, str, str]

    @property
    def images(self) -> list[RestoredPlane]:
        """What was restored one by one: its planes, or the filters of a raw mosaic in each."""
        return [image for three in self.planes for image in filter_planes(three, self.filters)]

    @property
    def filters(self) -> str | None:
        """Filters of the raw mosaic that it is; None of none."""
        told = next((value for keyword, value, _ in self.cards if keyword == MOSAIC_CARD), None)
        return told if isinstance(told, str) else None


def run_of(account: Provenance) -> str:
    """Name of the run that made a product."""
    run = names_of(account.document, "Restoration")[0]
    return str(facts_of(account.document, run).get("run", ""))


def restorations_of(path: Path, run_id: str) -> list[Restoration]:
    """Restored images of a product, those whose header names the run.

    Raises FrameError where science, error and flags do not belong together.
    """
    if path.is_dir():
        return _of_group(path, run_id)
    with fits_file(path) as opened:
        hdus = opened.layout.hdus
        science = [hdu for hdu in hdus if _run_of(hdu) == run_id and hdu.has_pixels]
        errors = [hdu for hdu in hdus if hdu.name == "DIP_ERR"]
        flags = [hdu for hdu in hdus if hdu.name == "DIP_FLAG"]
        if not science or not len(science) == len(errors) == len(flags):
            raise FrameError(
                f"{path}: {len(science)} restored images, {len(errors)} DIP_ERR and {len(flags)} "
                "DIP_FLAG: they do not belong together"
            )
        found = []
        for three in zip(science, errors, flags, strict=True):
            shapes = [hdu.shape if len(hdu.shape) > 2 else hdu.plane_shape for hdu in three]
            pixels = {int(np.prod(shape)) for shape in shapes}
            if len(pixels) > 1 or len({shape[-2:] for shape in shapes}) > 1:
                raise FrameError(f"{path}: {three[0].where}, its error and flags differ in size")
            found.append(_of_hdus(path, three))
        return found


def lost_chunks(found: Sequence[Restoration]) -> str:
    """Say which chunks of the planes of a product are not on the disk; "" for none.

    Zarr reads their pixels as if they were stored so; of a file all is there that can be opened.
    Raises FrameError where they cannot be counted.
    """
    planes = (plane for image in found for three in image.planes for plane in three)
    names = dict.fromkeys((p.path, p.name) for p in planes if isinstance(p, ZarrPlane))
    lost = []
    for path, name in names:
        try:
            count = missing_chunks(array_of(open_node(path), name))
        except ZARR_ERRORS as error:
            raise FrameError(f"{path}: array {name} cannot be read: {error}") from error
        lost += [f"array {name}: {count} chunk{'' if count == 1 else 's'} missing"] if count else []
    return ", ".join(lost)


def _of_hdus(path: Path, three: tuple[HduSpan, ...]) -> Restoration:
    science = three[0]
    planes = [list(_planes(path, hdu)) for hdu in three]
    kinds = {8: "uint8", -32: "float32"}
    dtypes = [kinds.get(hdu.bitpix, f"BITPIX {hdu.bitpix}") for hdu in three]
    return Restoration(
        where=science.where,
        index=science.index,
        cards=parse_cards(image_cards_of(science)),
        planes=tuple((a, b, c) for a, b, c in zip(*planes, strict=True)),
        dtypes=(dtypes[0], dtypes[1], dtypes[2]),
    )


def _planes(path: Path, hdu: HduSpan) -> Iterator[HduPlane]:
    rows, cols = hdu.shape[-2:]
    for leading in np.ndindex(hdu.shape[:-2]):
        yield HduPlane(path, hdu.index, (rows, cols), leading)


def _of_group(path: Path, run_id: str) -> list[Restoration]:
    node = open_node(path)
    arrays = arrays_of(node)
    missing = [name for name in _PRODUCT_ARRAYS if name not in arrays]
    if missing:
        raise FrameError(f"{path}: no array {', '.join(missing)}: not a whole product")
    first = _of_arrays(path, arrays, _PRODUCT_ARRAYS, "array science", read_cards(node, path))
    return [first, *_of_kept_hdus(path, arrays, run_id)]


def _of_kept_hdus(path: Path, arrays: dict[str, ZarrArray], run_id: str) -> Iterator[Restoration]:
    """Restored images among the HDUs that a group keeps: all chips of a mosaic but the first."""
    kept = {name: item for name, item in arrays.items() if is_hdu(item) and len(item.shape) > 1}
    order = sorted(kept, key=lambda name: hdu_of(path, name, kept[name]).order)
    cards = {
        name: parse_cards(split_cards(hdu_of(path, name, kept[name]).header)) for name in order
    }
    science = [
        name for name in order if name not in _PRODUCT_ARRAYS and _run_in(cards[name]) == run_id
    ]
    errors, flags = (
        [name for name in order if _name_in(cards[name]) == own and name != own]
        for own in _PRODUCT_ARRAYS[1:]
    )
    if science and not len(science) == len(errors) == len(flags):
        raise FrameError(
            f"{path}: {len(science)} more restored images, {len(errors)} DIP_ERR and {len(flags)} "
            "DIP_FLAG: they do not belong together"
        )
    for three in zip(science, errors, flags, strict=False):
        yield _of_arrays(path, arrays, three, f"array {three[0]}", cards[three[0]])


def _of_arrays(
    path: Path,
    arrays: dict[str, ZarrArray],
    names: tuple[str, str, str],
    where: str,
    cards: tuple[Card, ...],
) -> Restoration:
    shapes = [tuple(arrays[name].shape) for name in names]
    if len({shape[-2:] for shape in shapes}) > 1 or len({int(np.prod(s)) for s in shapes}) > 1:
        raise FrameError(f"{path}: {', '.join(names)} differ in size: {shapes}")
    rows, cols = shapes[0][-2:]
    planes = [
        [ZarrPlane(path, name, (rows, cols), at) for at in np.ndindex(shape[:-2])]
        for name, shape in zip(names, shapes, strict=True)
    ]
    dtypes = [str(arrays[name].dtype) for name in names]
    return Restoration(
        where,
        -1,
        cards,
        tuple((a, b, c) for a, b, c in zip(*planes, strict=True)),
        (dtypes[0], dtypes[1], dtypes[2]),
    )


def _run_of(hdu: HduSpan) -> str:
    cards = [card for card in hdu.cards if keyword_of(card) == RUN_WORD]
    return str(parse_cards(cards)[0][1]) if cards else ""


def _run_in(cards: Iterable[Card]) -> str:
    return next((str(value) for keyword, value, _ in cards if keyword == RUN_WORD), "")


def _name_in(cards: Iterable[Card]) -> str:
    return next((str(value).strip() for keyword, value, _ in cards if keyword == "EXTNAME"), "")
