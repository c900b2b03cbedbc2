"""Restored planes to FITS, in bands: other HDUs as they came, the science replaced, ours added.

An HDU that carries CHECKSUM and DATASUM is copied byte for byte; one that lacks them, or whose sums
are wrong, keeps every other card and all data, and gets them.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np

from dip_pipeline.flags import FLAG_MEANINGS
from dip_pipeline.frames.fits_cards import (
    bitpix_card,
    fixed_card,
    format_card,
    image_cards,
    is_structural,
    keyword_of,
    upper_exponents,
    without,
)
from dip_pipeline.frames.frame import Frame, RestoredFrame, bands
from dip_pipeline.frames.hdu_plans import HduPlan, copied
from dip_pipeline.frames.provenance import (
    Provenance,
    document_hdu,
    provenance_cards,
    tiles_hdu,
)
from dip_pipeline.frames.restored_hdu import RestoredHdu, band_rows, restored_hdus
from dip_pipeline.frames.stale_cards import split_stale
from dip_pipeline.frames.world_cards import world_cards

ERROR_FINER = 16  # times: an error is a fraction of the input's noise, and is stored as finely

# FITS has no unsigned integers above 8 bits: they are stored less half their range.
_STORED = {
    "b": (8, 0), "u1": (8, 0), "i1": (8, -(2**7)), "i2": (16, 0), "u2": (16, 2**15),
    "i4": (32, 0), "u4": (32, 2**31), "i8": (64, 0), "u8": (64, 2**63),
    "f4": (-32, 0), "f8": (-64, 0),
}  # fmt: skip


def plan_fits(restored: Sequence[RestoredFrame], provenance: Provenance) -> list[HduPlan]:
    """Say what the output will hold, HDU by HDU, before a byte is written.

    restored : planes of one input, those of one HDU in its order
    """
    frame = restored[0].frame
    others = frame.source.other_hdus()
    replaced = {hdu.order: hdu for hdu in restored_hdus(restored, others)}
    plans: list[HduPlan] = []
    for order in sorted({hdu.order for hdu in others} | set(replaced)):
        if order in replaced:
            plans.append(_science_plan(replaced[order], provenance))
        else:
            plans += [copied(hdu) for hdu in others if hdu.order == order]
    if frame.format == "zarr":
        present = {hdu.role for hdu in others}
        plans += _input_planes(replaced[min(replaced)], present)
    for order in sorted(replaced):
        plans += _product_planes(replaced[order])
    for cards, data in (document_hdu(provenance), tiles_hdu(provenance)):
        plans.append(HduPlan(cards, len(data), partial(iter, (data,))))
    return plans


def _science_plan(hdu: RestoredHdu, provenance: Provenance) -> HduPlan:
    own = replace(provenance, cards=hdu.cards)
    cards = _science_cards(hdu.frame, hdu.raw, hdu.shape, hdu.order, own)
    blocks = hdu.blocks("science", ">f4")
    return HduPlan(cards, _size(hdu.shape, 4), blocks, compressible=True, step=hdu.step)


def _science_cards(
    frame: Frame, raw: list[bytes], shape: tuple[int, ...], order: int, provenance: Provenance
) -> list[bytes]:
    """Header of the restored science: the input's, card by card, with what must change."""
    primary = order == 0
    ours = frame.source.product_keywords() | set(provenance.keywords)
    true, comment = split_stale(raw)
    cards = [upper_exponents(card) for card in without(true, ours)]
    if keyword_of(cards[0] if cards else b"") == ("SIMPLE" if primary else "XTENSION"):
        cards = [bitpix_card(-32) if keyword_of(c) == "BITPIX" else c for c in cards]
    else:
        cards = image_cards(shape, -32, primary=primary) + [
            card for card in cards if not is_structural(keyword_of(card))
        ]
        if not primary:
            cards = without(cards, ("EXTEND",))
    if primary:
        cards = _with_extend(cards)
    present = {keyword_of(card) for card in cards}
    if frame.unit and "BUNIT" not in present and frame.format == "zarr":
        cards += format_card("BUNIT", frame.unit, "unit of the pixels")
    return cards + comment + provenance_cards(provenance)


def _with_extend(cards: list[bytes]) -> list[bytes]:
    """Primary header that allows the extensions which follow."""
    extend = fixed_card("EXTEND", "T", "extensions may follow")
    for place, card in enumerate(cards):
        if keyword_of(card) == "EXTEND":
            allowed = card[10:30].strip() == b"T"
            return cards if allowed else [*cards[:place], extend, *cards[place + 1 :]]
    last = max(i for i, card in enumerate(cards) if keyword_of(card).startswith("NAXIS"))
    return [*cards[: last + 1], extend, *cards[last + 1 :]]


def _unit_card(frame: Frame) -> list[bytes]:
    """BUNIT, where the frame has a unit: without one nobody says what its errors are in, either."""
    return format_card("BUNIT", frame.unit, "unit of the pixels") if frame.unit else []


def _input_planes(hdu: RestoredHdu, present: Collection[str]) -> list[HduPlan]:
    """ERR and DQ of a Zarr input; left out where the input brings them as HDUs."""
    plans = []
    frame, frames = hdu.frame, [item.frame for item in hdu.planes]
    shape = _plane_or_stack(hdu)
    told = frame.has_error_plane and not frame.relative_noise  # ERR is no place for weights
    if told and not {"error", "variance", "weight"} & set(present):

        def error_blocks() -> Iterator[bytes]:
            for one, rows in product(frames, _bands(frame)):
                sigma = one.read(rows, slice(None)).error
                yield np.asarray(sigma, dtype=">f4").tobytes()

        cards = image_cards(shape, -32, primary=False) + _name("ERR", hdu.identity)
        cards += _unit_card(frame)
        plans.append(HduPlan(cards, _size(shape, 4), error_blocks, compressible=True))
    if frame.has_mask and "flags" not in present:
        plans.append(_flags_plan(hdu))
    return plans


def _plane_or_stack(hdu: RestoredHdu) -> tuple[int, ...]:
    """Shape of what lies on the pixels of an HDU, degenerate axes left out."""
    return hdu.shape if len(hdu.planes) > 1 else hdu.frame.shape


def _bands(frame: Frame) -> list[slice]:
    return list(bands(frame.shape, band_rows(None, frame.shape, 8)))


def _flags_plan(hdu: RestoredHdu) -> HduPlan:
    frame, shape = hdu.frame, _plane_or_stack(hdu)
    first = frame.source.read_flags(slice(0, 1), slice(0, 1))
    kind = np.dtype(bool) if first is None else first.dtype
    bitpix, zero = _STORED[{"b1": "b", "f2": "f4"}.get(kind.str[1:], kind.str[1:])]
    stored = np.dtype(f">{'f' if bitpix < 0 else 'u' if bitpix == 8 else 'i'}{abs(bitpix) // 8}")

    def blocks() -> Iterator[bytes]:
        for item, rows in product(hdu.planes, _bands(frame)):
            flags = item.frame.source.read_flags(rows, slice(0, frame.shape[1]))
            values = np.asarray(flags)
            if zero:  # flipping the top bit takes half the range away, exactly
                top = values.dtype.type(1 << (8 * values.dtype.itemsize - 2)) * 2
                values = (values ^ top).view(stored.newbyteorder("="))
            yield values.astype(stored).tobytes()

    cards = image_cards(shape, bitpix, primary=False) + _name("DQ", hdu.identity)
    if zero:
        cards += format_card("BZERO", zero, "offset of the stored integers")
        cards += format_card("BSCALE", 1, "")
    return HduPlan(cards, _size(shape, stored.itemsize), blocks, compressible=True)


def _product_planes(hdu: RestoredHdu) -> list[HduPlan]:
    """DIP_ERR and DIP_FLAG of one HDU: of its shape, degenerate axes left out.

    Where the axes are those of the science, they say themselves where they lie on the sky.
    """
    shape = _plane_or_stack(hdu)
    world = world_cards(hdu.raw) if len(shape) == len(hdu.shape) else []
    error = image_cards(shape, -32, primary=False) + _name("DIP_ERR", hdu.identity)
    error += _unit_card(hdu.frame)
    error += world
    error += format_card("COMMENT", "Half-width that should hold the truth in 68 % of the pixels.")
    flags = image_cards(shape, 8, primary=False) + _name("DIP_FLAG", hdu.identity)
    flags += world
    flags += format_card("COMMENT", "Bits of the restored pixels; 0: restored as usual.")
    for flag, meaning in FLAG_MEANINGS.items():
        flags += format_card("COMMENT", f"{int(flag)}: {meaning}")
    step = None if hdu.step is None else hdu.step / ERROR_FINER
    blocks = hdu.blocks("error", ">f4"), hdu.blocks("flags", "u1")
    return [
        HduPlan(error, _size(shape, 4), blocks[0], compressible=True, step=step),
        HduPlan(flags, _size(shape, 1), blocks[1], compressible=True),
    ]


def _name(name: str, identity: list[bytes]) -> list[bytes]:
    return format_card("EXTNAME", name) + identity


def _size(shape: tuple[int, ...], itemsize: int) -> int:
    return int(np.prod(shape, dtype=np.int64)) * itemsize
