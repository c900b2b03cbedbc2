"""What a product of finer pixels is to have of its input."""

from collections.abc import Sequence

from dip_pipeline.frames.finer_frame import GWCS_NAME, left_out_name
from dip_pipeline.frames.finer_header import FinerGrid, finer_raw_cards
from dip_pipeline.frames.fits_cards import parse_cards
from dip_pipeline.frames.fits_file import OpenFits
from dip_pipeline.frames.fits_layout import HduSpan
from dip_pipeline.frames.fits_pixels import PRODUCT_HDUS
from dip_pipeline.frames.fits_planes import image_cards_of
from dip_pipeline.frames.frame import Card, header_mapping
from dip_pipeline.frames.pixel_flux import PixelFlux, pixel_flux
from dip_pipeline.frames.product import Restoration
from dip_pipeline.frames.prov_json import facts_of
from dip_pipeline.frames.provenance import Provenance


def grid_of(account: Provenance, unit: object) -> FinerGrid:
    """Grid of a product in the pixels of its input, whose unit decides what these hold."""
    factor = facts_of(account.document, "optics").get("factor", 1)
    if factor == 1:
        return FinerGrid(1, per_pixel=True)
    return FinerGrid(int(factor), pixel_flux(str(unit or "").strip()) is PixelFlux.PER_PIXEL)


def hdus_to_find(
    old: OpenFits, account: Provenance, found: Sequence[Restoration]
) -> tuple[list[HduSpan], list[str]]:
    """HDUs of the input that the product must have, and what was left out without a reason."""
    told = facts_of(account.document, "product").get("left_out") or []
    before = [hdu for hdu in old.layout.hdus if hdu.name not in PRODUCT_HDUS]
    gone = [hdu for hdu in before if left_out_name(hdu.index, hdu.name) in told]
    factor = grid_of(account, "").factor
    sides = {tuple(n // factor for n in item.planes[0][0].shape) for item in found}
    wrong = [
        f"{hdu.where}: left out, and it is no map of the input's pixels"
        for hdu in gone
        if hdu.name != GWCS_NAME and (factor == 1 or hdu.shape[-2:] not in sides)
    ]
    return [hdu for hdu in before if hdu not in gone], wrong


def grid_of_hdu(account: Provenance, opened: OpenFits, hdu: HduSpan) -> FinerGrid:
    """Grid of a restored HDU, by the unit of the input's."""
    unit = header_mapping(parse_cards(hdu.cards), _primary_of(opened, hdu)).get("BUNIT")
    return grid_of(account, unit)


def _primary_of(opened: OpenFits, hdu: HduSpan) -> tuple[Card, ...]:
    return parse_cards(opened.layout.hdus[0].cards) if hdu.index else ()


def expected_cards(old: OpenFits, hdu: HduSpan, grid: FinerGrid) -> list[bytes]:
    """Cards of the input as they are to stand in the product."""
    cards = image_cards_of(hdu)
    return cards if grid.factor == 1 else finer_raw_cards(cards, grid, _primary_of(old, hdu))
