"""A file of noise planes: the standard deviation of each pixel of a frame, where it lies on sky."""

import math
from collections.abc import Iterator, Sequence

from dip_pipeline.frames.colour_mosaic import filters_together
from dip_pipeline.frames.fits_cards import format_card, image_cards
from dip_pipeline.frames.frame import Card, RestoredFrame
from dip_pipeline.frames.hdu_plans import HduPlan, write_fits
from dip_pipeline.frames.publishing import Destination, publishing
from dip_pipeline.frames.restored_hdu import RestoredHdu, restored_hdus
from dip_pipeline.frames.world_cards import world_cards

NOISE_NAME = "NOISE"


def write_noise(
    destination: Destination, planes: Sequence[RestoredFrame], cards: Sequence[Card]
) -> None:
    """Write the errors of planes, an HDU for each of the input's; whole or not at all.

    planes : of one input, each with its cards, those of no known noise NaN; cards : of the file
    One image is the primary HDU; several are extensions NOISE, as many as the input has. Raises
    OutputError where the disk does not take it.
    """
    planes = filters_together(planes)
    hdus = sorted(
        restored_hdus(planes, planes[0].frame.source.other_hdus()), key=lambda hdu: hdu.order
    )
    plans = [_plan(hdu, cards, primary=len(hdus) == 1) for hdu in hdus]
    if len(hdus) > 1:
        plans.insert(0, HduPlan([*image_cards((), 8, primary=True), *_raw(cards)], 0, _nothing))
    with publishing(destination, sum(plan.total_bytes for plan in plans)) as part:
        write_fits(part, plans)


def _plan(hdu: RestoredHdu, cards: Sequence[Card], *, primary: bool) -> HduPlan:
    shape = hdu.shape if len(hdu.planes) > 1 else hdu.frame.shape
    own = [] if primary else [*format_card("EXTNAME", NOISE_NAME), *hdu.identity]
    own += format_card("BUNIT", hdu.frame.unit, "unit of the pixels") if hdu.frame.unit else []
    own += world_cards(hdu.raw, with_tables=False) if len(shape) == len(hdu.shape) else []
    own += _raw(_agreed(hdu))
    own += _raw(cards) if primary else []
    own += format_card("COMMENT", "Standard deviation of the noise of each pixel of the frame.")
    return HduPlan(
        [*image_cards(shape, -32, primary=primary), *own],
        4 * math.prod(shape),
        hdu.blocks("error", ">f4"),
    )


def _agreed(hdu: RestoredHdu) -> list[Card]:
    """Cards that are true of every plane of an HDU."""
    known = [item.cards for item in hdu.planes if item.planes is not None]
    return [card for card in known[0] if all(card in cards for cards in known)]


def _raw(cards: Sequence[Card]) -> list[bytes]:
    return [raw for card in cards for raw in format_card(*card)]


def _nothing() -> Iterator[bytes]:
    return iter(())
