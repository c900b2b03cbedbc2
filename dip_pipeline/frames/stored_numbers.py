"""Does a product hold its pixels as they are? What makes readers take other numbers or units."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dip_pipeline.frames.fits_cards import SCALING_WORDS, parse_cards, split_cards
from dip_pipeline.frames.fits_file import fits_file
from dip_pipeline.frames.fits_planes import image_cards_of
from dip_pipeline.frames.frame import Card, PlaneArray
from dip_pipeline.frames.product import HduPlane, Restoration, ZarrPlane
from dip_pipeline.frames.zarr_choice import array_of, attributes_of, open_node
from dip_pipeline.frames.zarr_hdus import HEADER, hdu_of
from dip_pipeline.frames.zarr_reader import FITS_SHAPE

# What readers work with to give other numbers than are stored, and where it leaves them alone.
_AS_STORED = {"BSCALE": 1, "BZERO": 0, "scale_factor": 1, "add_offset": 0}
_SCALING = (*SCALING_WORDS, "scale_factor", "add_offset", "_FillValue")


def scaled(item: Restoration) -> Iterator[str]:
    """Say what makes readers scale or blank planes, which a product holds as they are."""
    told = [(item.where, (*item.cards, *_attributes_of(item.planes[0][0])))]
    told += [_header_of(plane) for plane in item.planes[0][1:]]
    for where, facts in told:
        for name, value, _ in facts:
            if name in _SCALING and value != _AS_STORED.get(name):
                yield f"{where}: {name} = {value} makes other numbers of its pixels"


def _header_of(plane: PlaneArray) -> tuple[str, tuple[Card, ...]]:
    """Where an error or flag plane lies, and its cards and attributes."""
    if isinstance(plane, HduPlane):
        with fits_file(plane.path) as opened:
            hdu = opened.layout.hdus[plane.index]
        return hdu.where, parse_cards(image_cards_of(hdu))
    facts = _attributes_of(plane)
    if isinstance(plane, ZarrPlane) and any(name == HEADER for name, _, _ in facts):
        array = array_of(open_node(plane.path), plane.name)
        facts += parse_cards(split_cards(hdu_of(plane.path, plane.name, array).header))
    return f"array {getattr(plane, 'name', '')}", facts


def _attributes_of(plane: PlaneArray) -> tuple[Card, ...]:
    """Attributes of an array, as cards; of a FITS file none."""
    if not isinstance(plane, ZarrPlane):
        return ()
    attributes = attributes_of(array_of(open_node(plane.path), plane.name))
    return tuple((name, value, "") for name, value in attributes.items())


def contradicted_unit(product: Path, cards: Sequence[Card]) -> list[str]:
    """Say where a group that came from a FITS file tells two units, or none beside its cards."""
    node = open_node(product)
    if FITS_SHAPE not in attributes_of(array_of(node, "science")):
        return []
    told = {"attribute unit": attributes_of(node).get("unit")}
    told |= {f"card {keyword}": value for keyword, value, _ in cards if keyword == "BUNIT"}
    error = attributes_of(array_of(node, "DIP_ERR"))
    told |= {"unit of DIP_ERR": error["unit"]} if "unit" in error else {}
    units = {name: str(value or "").strip() for name, value in told.items()}
    if len(set(units.values())) == 1:
        return []
    return [", ".join(f"{name} is {unit!r}" for name, unit in units.items())]
