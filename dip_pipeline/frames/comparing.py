"""A product against its input: the same sky, and nothing changed but what is declared."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.colour_mosaic import whole_frames
from dip_pipeline.frames.finer_frame import (
    finer_frame,
    sky_of_finer_mas,
)
from dip_pipeline.frames.finer_header import FinerGrid
from dip_pipeline.frames.finer_product import (
    expected_cards,
    grid_of,
    grid_of_hdu,
    hdus_to_find,
)
from dip_pipeline.frames.fits_cards import (
    CHECKSUM_WORDS,
    format_card,
    is_structural,
    keyword_of,
    parse_cards,
    split_cards,
    upper_exponents,
    without,
)
from dip_pipeline.frames.fits_file import OpenFits, fits_file
from dip_pipeline.frames.fits_layout import HduSpan, is_packed
from dip_pipeline.frames.fits_pixels import PRODUCT_HDUS
from dip_pipeline.frames.fits_planes import image_cards_of
from dip_pipeline.frames.frame import Card, Frame, RawHdu, bands
from dip_pipeline.frames.kept_pixels import changed_pixels, changed_pixels_of_frame
from dip_pipeline.frames.opening import file_digest, open_frames
from dip_pipeline.frames.product import Restoration, restorations_of, run_of
from dip_pipeline.frames.prov_json import facts_of
from dip_pipeline.frames.provenance import Provenance, own_keywords
from dip_pipeline.frames.reading import Reading
from dip_pipeline.frames.selectors import split_selector
from dip_pipeline.frames.sky_agreement import sky_difference_mas
from dip_pipeline.frames.stale_cards import comment_on, moved_cards, rule_of
from dip_pipeline.frames.verifying import Check, judged
from dip_pipeline.frames.zarr_choice import attributes_of, open_node
from dip_pipeline.frames.zarr_meta import META_NAME
from dip_pipeline.frames.zarr_to_fits import zarr_to_fits

_BAND_ROWS = 256
_MOST_MAS = 1.0
_MOST_TOLD = 5


def check_against(
    product: Path, source: str, account: Provenance, found: Sequence[Restoration]
) -> list[Check]:
    """Compare a product with the input that it names.

    Raises FrameError where the input cannot be read.
    """
    path = split_selector(source)[0]
    told = str(facts_of(account.document, "input").get("sha256"))
    digest = file_digest(path)
    wrong = [] if digest == told else [f"{path} has sha256 {digest}, the account says {told}"]
    checks = [judged("input", wrong, f"{path} is the file that the account names")]
    if product.is_dir() and not path.is_dir() and sum(len(item.planes) for item in found) > 1:
        with tempfile.TemporaryDirectory(prefix="dip-verify-") as folder:
            through = Path(folder) / "product.fits"
            zarr_to_fits(product, through)
            again = restorations_of(through, run_of(account))
            with fits_file(path) as old, fits_file(through) as new:
                return [*checks, *_check_hdus(old, new, account, again)]
    if product.is_dir() or path.is_dir():
        return [*checks, *_check_frames(product, source, account, found)]
    with fits_file(path) as old, fits_file(product) as new:
        return [*checks, *_check_hdus(old, new, account, found)]


def _check_hdus(
    old: OpenFits, new: OpenFits, account: Provenance, found: Sequence[Restoration]
) -> Iterator[Check]:
    """Compare HDU by HDU: restored ones by their cards, sky and kept pixels, others by all."""
    before, wrong = hdus_to_find(old, account, found)
    ours = {*PRODUCT_HDUS, *({META_NAME} - {hdu.name for hdu in before})}
    after = [hdu for hdu in new.layout.hdus if hdu.name not in ours]
    if is_packed(new.layout) and not is_packed(old.layout):
        after = after[1:]  # the empty primary before a compressed image
    restored = {item.index: item for item in found}
    cards, sky, kept, others = [], [], [], 0
    if len(before) != len(after):
        wrong.append(f"{len(before)} HDUs in the input, {len(after)} in the product")
    step, own = _step_of(account), own_keywords([parse_cards(h.cards) for h in old.layout.hdus])
    for one, other in zip(before, after, strict=False):
        if other.index in restored and not _fits(one, restored[other.index], account):
            sides = " x ".join(map(str, one.shape)) or "no image"
            cards.append(f"{other.where}: restored from other pixels than {one.where} ({sides})")
        elif other.index in restored:
            grid = grid_of_hdu(account, old, one)
            both = expected_cards(old, one, grid), image_cards_of(other)
            cards += [f"{other.where}: {text}" for text in _changed_cards(both, own, account)]
            sky += _sky((old, one), (new, other), grid)
            kept += changed_pixels(old, one, restored[other.index], step=step, grid=grid)
        else:
            others += 1
            wrong += _changed_hdu((old, one), (new, other))
    yield judged("other HDUs", wrong, f"{others} of them, card by card and byte by byte")
    yield judged("declared changes", cards, "no card changed that is not declared")
    yield judged("sky coordinates", sky, f"within {_MOST_MAS:g} mas of the input's")
    yield judged("kept pixels", kept, "saturated ones are the input's own")


def _fits(old: HduSpan, found: Restoration, account: Provenance) -> bool:
    """Whether the planes of a restored HDU may have come from one of the input, by their shapes."""
    if len(old.shape) < 2:
        return False
    factor = grid_of(account, "").factor
    leading = int(np.prod(old.shape[:-2], dtype=int))
    science = found.planes[0][0].shape
    return len(found.planes) == leading and science == tuple(factor * n for n in old.shape[-2:])


def _changed_hdu(old: tuple[OpenFits, HduSpan], new: tuple[OpenFits, HduSpan]) -> list[str]:
    """Say what differs in an HDU that was not restored; check sums may be written anew."""
    cards = [[c for c in hdu.cards if keyword_of(c) not in CHECKSUM_WORDS] for _, hdu in (old, new)]
    where = new[1].where
    if cards[0] != cards[1]:
        return [f"{where}: its cards changed"]
    sums = [_digest(opened.blocks(hdu.data_start, hdu.end)) for opened, hdu in (old, new)]
    return [] if sums[0] == sums[1] else [f"{where}: its data changed"]


def _digest(blocks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def _changed_cards(
    both: tuple[list[bytes], list[bytes]], own: frozenset[str], account: Provenance
) -> list[str]:
    """Say which cards of a restored header changed without being declared."""
    ours = {*account.keywords, *own}
    before = parse_cards([upper_exponents(c) for c in _told(both[0], ours)])
    after = parse_cards(_told(both[1], ours))
    return _differences(before, after, account)


def _differences(before: Sequence[Card], after: Sequence[Card], account: Provenance) -> list[str]:
    """Compare cards in their order, declared changes left out."""
    moved = [card[0] for card in moved_cards(before)]
    expected = [card for card in before if rule_of(card[0]) is None]
    found = _without_ours(after, moved, account.history)
    wrong = []
    for one, other in zip(expected, found, strict=False):
        if one != other:
            wrong.append(f"card {other[0] or one[0]}: {one[1]!r} became {other[1]!r}")
            break
    if len(expected) != len(found):
        names = {c[0] for c in expected} ^ {c[0] for c in found}
        wrong.append(f"{len(expected)} cards became {len(found)} ({', '.join(sorted(names))})")
    recorded = facts_of(account.document, "product").get("moved_cards") or []
    missing = set(moved) - {str(item.get("keyword")) for item in recorded if isinstance(item, dict)}
    if missing:
        wrong.append(f"cards that are moved are not in the account: {', '.join(sorted(missing))}")
    return wrong[:_MOST_TOLD]


def _without_ours(cards: Sequence[Card], moved: Sequence[str], history: str) -> list[Card]:
    """Cards without the COMMENT and the HISTORY that a restoration adds at the end."""
    kept = list(cards)
    comments = [card[1] for card in parse_cards(comment_on(moved))]
    histories = [card[1] for card in parse_cards(format_card("HISTORY", history))]
    for keyword, pieces in (("HISTORY", histories), ("COMMENT", comments)):
        whole = ["".join(str(piece) for piece in pieces)]  # as a Zarr group holds it
        for added in (pieces, whole):
            tail = kept[len(kept) - len(added) :] if added else []
            if tail and [card[:2] for card in tail] == [(keyword, text) for text in added]:
                del kept[len(kept) - len(added) :]
                break
    return kept


def _told(raw: Sequence[bytes], ours: set[str]) -> list[bytes]:
    """Cards that say something of the image, without its form and without our own."""
    form = {k for c in raw if is_structural(k := keyword_of(c))} | {"EXTEND", "TFIELDS", "THEAP"}
    return without(raw, form | ours)


def _sky(
    old: tuple[OpenFits, HduSpan], new: tuple[OpenFits, HduSpan], grid: FinerGrid
) -> list[str]:
    shape = old[1].plane_shape
    if grid.factor > 1:
        cards = [parse_cards(image_cards_of(hdu)) for _, hdu in (old, new)]
        apart = sky_of_finer_mas(cards[0], cards[1], (shape[-2], shape[-1]), grid)
    else:
        apart = sky_difference_mas(
            (old[0].hdus[old[1].index].header, old[0].hdus),
            (new[0].hdus[new[1].index].header, new[0].hdus),
            shape,
        )
    return [] if apart < _MOST_MAS else [f"{new[1].where}: {apart:.3g} mas from the input's"]


def _check_frames(
    product: Path, source: str, account: Provenance, found: Sequence[Restoration]
) -> Iterator[Check]:
    """Compare where one of the two is a Zarr store: as frames, with all that comes along."""
    restored = found[0].images if found else []
    count = max(1, len(restored))
    # The card of the product tells of a mosaic whatever its input says.
    filters = found[0].filters if found else None
    reading = Reading(bayer=filters or "none")
    planes, products = (list(open_frames(path, reading))[:count] for path in (source, product))
    coarse, new = planes[0], products[0]
    grid = grid_of(account, coarse.unit)
    finer = [one if grid.factor == 1 else finer_frame(one, grid) for one in planes]
    old = finer[0]
    shapes = [[one.shape for one in frames] for frames in (finer, products)]
    if shapes[0] != shapes[1]:
        raise FrameError(
            f"{product}: {len(products)} x {new.shape} pixels, the input has {len(planes)} x "
            f"{coarse.shape}"
        )
    others = old.source.other_hdus()
    again = new.source.other_hdus()
    if grid.factor > 1:  # what is left out moves the others forward
        again = [replace(hdu, order=one.order) for one, hdu in zip(others, again, strict=False)]
    wrong = _changed_companions(others, again)
    wrong += [text for pair in zip(finer, products, strict=True) for text in _changed_planes(*pair)]
    yield judged("other HDUs", wrong, f"{len(others)} of them, and error and flags of the input")
    coarse, old, new = (whole_frames(frames)[0] for frames in (planes, finer, products))
    ours = {*account.keywords, *old.source.product_keywords()}
    cards = [
        tuple(c for c in f.cards if c[0] not in ours and not is_structural(c[0]))
        for f in (old, new)
    ]
    before = cards[0] if old.format == "fits" else _as_written(cards[0], new)
    # A FITS file says in a card what an attribute of its input said.
    drop = ("EXTEND", "BUNIT") if (old.format, new.format) == ("zarr", "fits") else ("EXTEND",)
    lists = [[c for c in some if c[0] not in drop] for some in (before, cards[1])]
    yield judged(
        "declared changes",
        _differences(lists[0], lists[1], account) + _changed_unit(coarse, new),
        "no card changed that is not declared",
    )
    apart = sky_of_finer_mas(coarse.cards, new.cards, coarse.shape, grid)
    sky = [] if apart < _MOST_MAS else [f"{apart:.3g} mas from the input's"]
    yield judged("sky coordinates", sky, f"within {_MOST_MAS:g} mas of the input's")
    step = _step_of(account)
    kept = [
        text
        for one, plane in zip(planes, restored, strict=False)
        for text in changed_pixels_of_frame(one, plane, step=step, grid=grid)
    ]
    yield judged("kept pixels", kept, "saturated ones are the input's own")


def _changed_unit(old: Frame, new: Frame) -> list[str]:
    """Say where the unit is not the input's; what a group says itself outranks its cards."""
    told = {"unit": new.unit}
    if new.format == "zarr" and (old.format == "fits" or _attribute_unit(old)):
        told["attribute unit"] = _attribute_unit(new)
    return [
        f"{name}: {old.unit!r} became {unit!r}" for name, unit in told.items() if unit != old.unit
    ]


def _attribute_unit(frame: Frame) -> str:
    return str(attributes_of(open_node(frame.path)).get("unit") or "").strip()


def _as_written(cards: tuple[Card, ...], new: Frame) -> tuple[Card, ...]:
    """Cards of a Zarr input as they come out of a FITS file: ASCII, NaN as text."""
    if new.format == "zarr":
        return cards
    return parse_cards([raw for card in cards for raw in format_card(*card)])


def _changed_companions(old: Sequence[RawHdu], new: Sequence[RawHdu]) -> list[str]:
    by_order = {hdu.order: hdu for hdu in new}
    wrong = []
    for hdu in old:
        other = by_order.get(hdu.order)
        if other is None:
            wrong.append(f"HDU {hdu.order} ({hdu.name}) is not there")
            continue
        cards = [
            [c for c in split_cards(h.header) if keyword_of(c) not in CHECKSUM_WORDS]
            for h in (hdu, other)
        ]
        if cards[0] != cards[1] or _digest(hdu.blocks()) != _digest(other.blocks()):
            wrong.append(f"HDU {hdu.order} ({hdu.name}) changed")
    return wrong


def _changed_planes(old: Frame, new: Frame) -> list[str]:
    """Say where error and flags of the input are not those of the product."""
    for rows in bands(old.shape, _BAND_ROWS):
        cols = slice(0, old.shape[1])
        errors = old.read(rows, cols).error, new.read(rows, cols).error
        flags = old.source.read_flags(rows, cols), new.source.read_flags(rows, cols)
        for name, (one, other) in (("error", errors), ("flags", flags)):
            if name == "error" and old.relative_noise and other is None:
                continue  # weights are nothing that a product calls an error
            if other is None and old.companions:
                continue  # planes that lie in files beside the input
            if one is not None and (other is None or not np.array_equal(one, other)):
                return [f"the input's {name} changed near row {rows.start}"]
    return []


def _step_of(account: Provenance) -> float:
    """Step in which science is stored; 0: exactly."""
    return float(facts_of(account.document, "product").get("quantisation_step") or 0)
