"""Is a product whole, and is it what its own account says? Checks of the file alone."""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dip_pipeline.errors import FrameError
from dip_pipeline.flags import PixelFlag
from dip_pipeline.frames.digests import digest_plane
from dip_pipeline.frames.fits_cards import format_card, parse_cards
from dip_pipeline.frames.fits_file import fits_file
from dip_pipeline.frames.fits_layout import checksum_notes, lacks_checksums
from dip_pipeline.frames.frame import bands
from dip_pipeline.frames.opening import read_account
from dip_pipeline.frames.product import (
    Restoration,
    RestoredPlane,
    restorations_of,
    run_of,
)
from dip_pipeline.frames.prov_json import damage_of, facts_of, names_of, problems_of
from dip_pipeline.frames.provenance import TILES_NAME, Provenance, digest_tiles
from dip_pipeline.frames.stored_numbers import contradicted_unit, scaled
from dip_pipeline.frames.zarr_choice import arrays_of, missing_chunks, open_node
from dip_pipeline.frames.zarr_hdus import ZARR_ERRORS, ZarrArray

_KNOWN_BITS = sum(int(flag) for flag in PixelFlag)
_BAND_ROWS = 256
# Numbers of the account have six decimals, those of cards all that they had.
_ROUNDED = 1e-6
_MOST_CARDS = 999  # of one kind, for their numbers have three digits


class Check(NamedTuple):
    """One thing that was looked at; passed: None where it could not be judged."""

    name: str
    passed: bool | None
    detail: str


def check_file(product: Path) -> tuple[list[Check], Provenance | None, list[Restoration]]:
    """Check sums, structure, values, account and digests of a product.

    Raises FrameError where the file cannot be read at all.
    """
    sums = _zarr_sums(product) if product.is_dir() else _fits_sums(product)
    try:
        account = read_account(product)
    except FrameError as error:
        return [sums, Check("account", passed=False, detail=str(error))], None, []
    if damage := damage_of(account.document):
        return [sums, judged("account", damage[:5], "")], None, []
    checks = [sums]
    try:
        found = restorations_of(product, run_of(account))
        checks.append(_structure(found, product))
        checks.append(_values(found))
        checks.append(_pixels(found, account))
    except FrameError as error:
        found = []
        checks.append(Check("structure", passed=False, detail=str(error)))
    checks.append(_account(account, found))
    return checks, account, found


def wrong_sums(product: Path) -> str:
    """Say which check sums of a product are wrong; "" where all are right.

    Raises FrameError where the file cannot be read at all.
    """
    sums = _zarr_sums(product) if product.is_dir() else _fits_sums(product)
    return "" if sums.passed else sums.detail


def _fits_sums(product: Path) -> Check:
    with fits_file(product) as opened:
        wrong = [note.split("; ")[0] for note in checksum_notes(opened.stream, opened.layout)]
        wrong += [note for note in opened.layout.notes if "after the last HDU" in note]
        lacking = [h.where for h in opened.layout.hdus if lacks_checksums(h.cards)]
        count = len(opened.layout.hdus)
    wrong += [f"{where}: no check sum" for where in lacking]
    return judged("check sums", wrong, f"CHECKSUM and DATASUM of {count} HDUs")


def _zarr_sums(product: Path) -> Check:
    """Read every chunk: its codec checks it; a chunk that is not there is told, too."""
    wrong = []
    arrays = arrays_of(open_node(product))
    for name, array in arrays.items():
        try:
            for part in _parts(array):
                array[part]
        except ZARR_ERRORS as error:
            wrong.append(f"array {name}: {' '.join(str(error).split())[:120]}")
        else:
            if name in ("science", "DIP_ERR", "DIP_FLAG"):
                missing = missing_chunks(array)
                wrong += [f"array {name}: {missing} chunks are missing"] if missing else []
    return judged("check sums", wrong, f"every chunk of {len(arrays)} arrays")


def _parts(array: ZarrArray) -> Iterator[slice]:
    step = max(1, array.chunks[0]) if array.shape else 1
    for start in range(0, array.shape[0] if array.shape else 0, step):
        yield slice(start, start + step)


def _structure(found: list[Restoration], product: Path) -> Check:
    wrong = [
        f"{item.where}: science, error, flags are {', '.join(item.dtypes)}"
        for item in found
        if item.dtypes != ("float32", "float32", "uint8")
    ]
    wrong += [text for item in found for text in scaled(item)]
    if product.is_dir():
        wrong += contradicted_unit(product, found[0].cards)
    planes = sum(len(item.images) for item in found)
    return judged("structure", wrong, f"{planes} restored, each with its error and its flags")


def _values(found: list[Restoration]) -> Check:
    wrong = []
    for item in found:
        for science, error, flags in item.planes:
            for rows in bands((error.shape[0], error.shape[1]), _BAND_ROWS):
                region = (rows, slice(0, error.shape[1]))
                if np.any(np.isinf(np.asarray(science[region]))):
                    wrong.append(f"{item.where}: infinite science near row {rows.start}")
                if np.any(np.asarray(error[region]) < 0):
                    wrong.append(f"{item.where}: a negative error near row {rows.start}")
                if np.any(np.asarray(flags[region]).astype(np.uint8) & ~np.uint8(_KNOWN_BITS)):
                    wrong.append(f"{item.where}: an unknown flag near row {rows.start}")
    return judged("values", wrong[:5], "no infinite science, no negative error, no unknown flag")


def _pixels(found: list[Restoration], account: Provenance) -> Check:
    """Compare the digests of the planes with those of the account, and the ends of the planes."""
    told = _records(account)
    if steps := [facts["quantisation_step"] for facts in told if facts.get("quantisation_step")]:
        return Check(
            "pixels", None, f"stored in steps of {steps[0]:.6g}: the check sums vouch for them"
        )
    recorded = [facts for facts in told if "sha256_science" in facts]
    wrong = []
    for facts in recorded:
        kinds = (("science", "f4"), ("error", "f4"), ("flags", "u1"))
        if not any(_is_that(plane, facts, kinds) for plane in _named(facts, account, found)):
            wrong.append(f"no plane has the sha256 of {facts.get('plane', 'the restored pixels')}")
    if not recorded:
        wrong.append("the account holds no sha256 of the pixels")
    return judged("pixels", wrong, f"sha256 of {len(recorded)} x science, error, flags")


def _records(account: Provenance) -> list[dict[str, Any]]:
    """Give what the account says of each restored plane, or of the product where it is one."""
    names = names_of(account.document, "RestoredPlane")
    return [facts_of(account.document, name) for name in names or ["product"]]


def _hdus_of(account: Provenance) -> list[str]:
    """Names of the restored HDUs of the input, in its order."""
    wheres = {_place_of(facts.get("plane"))[0] for facts in _records(account)}
    return sorted(wheres, key=_numbers)


def _named(
    facts: Mapping[str, Any], account: Provenance, found: Sequence[Restoration]
) -> list[RestoredPlane]:
    """Planes that a record may be of: the one that it names; all, where it names none of these.

    Planes that were left as they are have their places, too.
    """
    hdus = _hdus_of(account)
    if len(hdus) != len(found):
        return [image for item in found for image in item.images]
    where, place = _place_of(facts.get("plane"))
    planes = found[hdus.index(where)].images
    left = facts_of(account.document, "product").get("left_as_they_are", [])
    names = [one.get("plane") for one in _records(account)]
    names += [name for item in left if isinstance(item, list) for name in item[:1]]
    places = sorted(at for hdu, at in map(_place_of, names) if hdu == where)
    return [planes[places.index(place)]] if len(places) == len(planes) else list(planes)


def _place_of(name: object) -> tuple[str, list[int]]:
    """HDU of a plane, and which of its planes it is, by its name: `HDU 1, plane [0, 2]`."""
    where, _, place = str(name or "").partition(", plane ")
    return where, _numbers(place)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _is_that(
    plane: RestoredPlane,
    facts: Mapping[str, Any],
    kinds: tuple[tuple[str, str], ...],
) -> bool:
    return all(
        digest_plane(one, kind) == facts.get(f"sha256_{name}")
        for one, (name, kind) in zip(plane, kinds, strict=True)
    )


def _account(account: Provenance, found: list[Restoration]) -> Check:
    """Check the account as PROV-JSON, and the cards against it."""
    wrong = problems_of(account.document)[:5]
    run = facts_of(account.document, names_of(account.document, "Restoration")[0])
    config = facts_of(account.document, "configuration")
    expected = {
        "DIPRUN": run.get("run"),
        "DIPIN": facts_of(account.document, "input").get("sha256"),
        "DIPCFG": config.get("sha256"),
        "DIPVER": run.get("version"),
        **_scene_cards(account, config),
        "DIPPRIOR": run.get("key", {}).get("prior") or None,
    }
    wrong += [text for item in found for text in contradicted(item, expected)]
    for item, facts in _told_of(found, account):
        cards = {**_cards_of(facts, account.keywords), **_left_out(facts, item)}
        wrong += contradicted(item, cards)
    if len(found) == 1:
        steps = [told for row in account.tiles if isinstance(told := row.get("steps"), int)]
        alone = {"DIPDEV": run.get("device"), "DIPSTEPS": max(steps, default=0)}
        if scope := facts_of(account.document, "prior").get("scope"):  # not in every older account
            alone["DIPSCOPE"] = scope
        wrong += contradicted(found[0], alone)
    told = facts_of(account.document, "product").get("sha256_tiles")
    if told is not None and digest_tiles(account.tiles) != told:
        wrong.append(f"{TILES_NAME} has not the sha256 that the account says")
    return judged("account", wrong, "PROV-JSON, and the cards agree with it")


def _scene_cards(account: Provenance, config: Mapping[str, Any]) -> dict[str, object]:
    """Cards of the way from the scene to the pixels, of further exposures, and of guides."""
    optics = facts_of(account.document, "optics")
    others = len(names_of(account.document, "Exposure"))
    each = config.get("task.each") is True
    guides = config.get("task.guides")
    guiding = others if each else len(guides) if isinstance(guides, list) else 0
    cards = {
        "DIPFACT": optics.get("factor"),
        "DIPPSF": optics.get("psf"),
        "DIPNEXP": 1 + others if others and not each else None,
        "DIPNGUID": guiding or None,
    }
    names = {
        card: facts_of(account.document, f"exposure-{number}").get("file")
        for number in range(1, others + 1)
        if (card := f"DIPEX{number + 1:03d}") in account.keywords
    }
    # Older products do not count their guides.
    told = {k: v for k, v in cards.items() if k != "DIPNGUID" or each or k in account.keywords}
    return {**told, **names}


def _told_of(
    found: list[Restoration], account: Provenance
) -> list[tuple[Restoration, dict[str, Any]]]:
    """Restored HDUs, each with what the account says of it; those without such a record left out.

    Several planes of one of several HDUs are told of one by one, its cards of them together.
    """
    if len(found) == 1:
        document = account.document
        return [(found[0], {**facts_of(document, "noise"), **facts_of(document, "product")})]
    told = _records(account)
    hdus = [_place_of(facts.get("plane"))[0] for facts in told]
    order = _hdus_of(account)
    if len(order) != len(found):
        return []
    return [
        (found[order.index(where)], facts)
        for where, facts in zip(hdus, told, strict=True)
        if hdus.count(where) == 1
    ]


def _cards_of(facts: Mapping[str, Any], keywords: Collection[str]) -> dict[str, object]:
    """Cards of a restored HDU, as far as its record in the account tells them.

    keywords : of the product's own cards: older ones do not have all
    """
    numbers = facts.get("numbers", {})
    values = {k: item.get("value") for k, item in numbers.items() if isinstance(item, dict)}
    later = {"DIPNET": "network", "DIPSTOP": "stop_reason"}  # not in every older account
    neighbours = facts.get("correlation", {}).get("neighbours")
    return {
        **{keyword: facts[fact] for keyword, fact in later.items() if fact in facts},
        **({"DIPNCOR": round(sum(neighbours) / 2, 4)} if neighbours else {}),
        **({"DIPNSRC": facts.get("rung")} if "DIPNSRC" in keywords else {}),
        "DIPNOISE": facts.get("law"),
        "DIPSIGMA": values.get("sigma"),
        "DIPGAIN": values.get("gain"),
        "DIPRDN": values.get("read_noise"),
        "DIPPED": values.get("pedestal"),
        **({"DIPSKY": values.get("subtracted_sky")} if "DIPSKY" in keywords else {}),
        "DIPNTILE": facts.get("tiles"),
        "DIPNFAIL": facts.get("failed_tiles"),
        "DIPRISK": facts.get("risk_rms"),
        "DIPRISKE": facts.get("risk_standard_error"),
        "DIPQSTEP": facts.get("quantisation_step"),
    }


def _left_out(facts: Mapping[str, Any], item: Restoration) -> dict[str, object]:
    """Cards of what was left out of each exposure, in their order; older products have none."""
    shares = [told.get("left_out_share") for told in facts.get("exposures") or []]
    cards = [keyword for keyword, _, _ in item.cards if keyword.startswith("DIPLO")]
    if not cards:
        return {}
    gone = [name for n in range(1, _MOST_CARDS + 1) if (name := f"DIPLO{n:03d}") not in cards]
    cards += gone[: max(0, min(len(shares), _MOST_CARDS) - len(cards))]
    return dict(zip(sorted(cards), chain(shares, repeat(None)), strict=False))


def contradicted(item: Restoration, expected: Mapping[str, object]) -> list[str]:
    """Say which cards of a restored HDU are not those that the account makes expect."""
    cards = {keyword: value for keyword, value, _ in item.cards}
    return [
        f"{item.where}: card {keyword} = {cards.get(keyword)}, the account says {value}"
        for keyword, value in expected.items()
        if not _agree(cards.get(keyword), value)
    ]


def _agree(card: object, told: object) -> bool:
    if isinstance(card, int | float) and isinstance(told, int | float):
        return math.isclose(card, told, rel_tol=_ROUNDED, abs_tol=_ROUNDED)
    if isinstance(card, str) and isinstance(told, str) and card != told:
        return card == parse_cards(format_card("TEXT", told))[0][1]  # a FITS header holds ASCII
    return card == told


def judged(name: str, wrong: list[str], fine: str) -> Check:
    """Give the outcome of a check: what is wrong, or else what is fine."""
    return Check(name, not wrong, "; ".join(wrong) if wrong else fine)
