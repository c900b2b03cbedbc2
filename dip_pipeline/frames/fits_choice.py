"""Which HDUs of a FITS file are the science: those that are asked for, else the layout's."""

import re
from dataclasses import replace
from pathlib import Path

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.fits_layout import HduSpan
from dip_pipeline.frames.fits_pixels import PRODUCT_HDUS
from dip_pipeline.frames.flag_rules import rule_for
from dip_pipeline.frames.layouts import Chip, FitsView, FlagPlane, NoisePlane, Place, detect
from dip_pipeline.frames.layouts.chip import fits_shape
from dip_pipeline.frames.layouts.names import FLAG_NAMES, NOISE_NAMES
from dip_pipeline.frames.layouts.refusals import refusal
from dip_pipeline.frames.noise_form import FORMS_ASKED, NoiseForm, form_of
from dip_pipeline.frames.reading import Reading
from dip_pipeline.frames.selectors import Selector, parse_selector, split_selector


def choose_chips(
    view: FitsView, selector: Selector | None, reading: Reading
) -> tuple[str, tuple[Chip, ...]]:
    """Name the layout of a file, and its science HDUs with what belongs to each.

    Raises FrameError where there is no image, or none that was asked for.
    """
    chosen: tuple[HduSpan, ...] = ()
    if selector is not None:
        chosen = (_select(view, selector),)
    elif reading.science is not None:
        asked = parse_selector(reading.science)
        chosen = (_select(view, asked),)
        if asked.name is not None and asked.version is None:
            chosen = tuple(view.images(asked.name)) or chosen
    if not chosen:
        _refuse(view)
    view = replace(view, science=chosen)
    layout, chips = detect(view)
    if not chips:
        raise FrameError(f"{view.path}: not an image to restore: {_what_it_holds(view)}")
    chips = tuple(_with_overrides(view, chip, reading) for chip in chips)
    for chip in chips:
        _check(chip.science, view.path)
    return layout, chips


def _refuse(view: FitsView) -> None:
    ours = tuple(hdu for hdu in view.hdus if hdu.name not in PRODUCT_HDUS)
    words = refusal(replace(view, hdus=ours)) if ours else None
    if words is not None:
        raise FrameError(f"{view.path}: not an image to restore: {words}")


def _select(view: FitsView, selector: Selector) -> HduSpan:
    for hdu in view.hdus:
        if selector.means(hdu):
            if hdu.name in (*FLAG_NAMES, *PRODUCT_HDUS):
                raise FrameError(
                    f"{view.path}: {hdu.where} is a mask or a product plane, "
                    "not an image to restore"
                )
            _check(hdu, view.path)
            return hdu
    raise FrameError(
        f"{view.path}: no HDU [{selector.text}]; it holds "
        f"{', '.join(h.where for h in view.hdus[:12])}"
    )


def _check(hdu: HduSpan, path: Path) -> None:
    """Refuse what is no image of at least two axes with pixels."""
    if hdu.kind not in ("image", "compressed"):
        raise FrameError(f"{path}: {hdu.where} is a {hdu.kind}, not an image to restore")
    if not hdu.has_pixels:
        size = f"size {hdu.shape}" if hdu.shape else "no pixels"
        raise FrameError(f"{path}: {hdu.where} has {size}: not an image to restore")
    if len(hdu.plane_shape) < 2:
        raise FrameError(
            f"{path}: {hdu.where} has one axis of {hdu.shape[-1]} pixels, not an image to restore: "
            "dip restores images and the planes of cubes"
        )


def _what_it_holds(view: FitsView) -> str:
    kinds = {hdu.kind for hdu in view.hdus if hdu.data_bytes}
    first = view.hdus[0]
    if first.kind == "groups":
        return "random groups (visibilities, not pixels)"
    empty = [hdu for hdu in view.hdus if hdu.kind == "image" and 0 in hdu.shape]
    if empty:
        return f"{empty[0].where} has size {empty[0].shape}"
    tables = [hdu.where for hdu in view.hdus if hdu.kind == "table"]
    if tables:
        return f"only tables: {', '.join(tables[:4])}"
    return "only headers" if not kinds else f"only data of kind {', '.join(sorted(kinds))}"


def _with_overrides(view: FitsView, chip: Chip, reading: Reading) -> Chip:
    """Lay --err and --dq over what the layout found."""
    if reading.error is not None:
        noise = None
        if reading.error.lower() != "none":
            word, colon, rest = reading.error.partition(":")
            form = FORMS_ASKED.get(word.lower()) if colon else None
            if form is None and re.fullmatch("[A-Za-z]+", word) and _names_a_file(rest):
                raise FrameError(
                    f"--err {reading.error}: {word} is no form of a noise plane; need one of "
                    f"{', '.join(FORMS_ASKED)}"
                )
            text = rest if form is not None else reading.error
            place, header_of = _place(view, chip, text, "--err")
            noise = NoisePlane(form or _form_at(view, chip, place, header_of), (place,))
        chip = replace(chip, noise=noise)
    if reading.flags is not None:
        flags = None
        if reading.flags.lower() != "none":
            place, _ = _place(view, chip, reading.flags, "--dq")
            rule = rule_for("", reading.bad_bits) if chip.flags is None else chip.flags.rule
            flags = FlagPlane(rule, (place,))
        chip = replace(chip, flags=flags)
    return chip


def _form_at(view: FitsView, chip: Chip, place: Place, where: FitsView) -> NoiseForm:
    """Tell the form of a plane that is asked for by its cards, its name, and that of its file."""
    header = where.header(place.hdu)
    units = [str(cards.get("BUNIT") or "") for cards in (header, view.header(chip.science))]
    file_name = "" if place.path is None else place.path.name
    return form_of(place.hdu.name, header, *units, file_name=file_name)


def _names_a_file(text: str) -> bool:
    """Whether a name looks like a file's, and not like a plane's."""
    return bool(Path(split_selector(text)[0]).suffix) or "/" in text


def _place(view: FitsView, chip: Chip, text: str, option: str) -> tuple[Place, FitsView]:
    """Find the plane that an option names: an HDU of the file, or of another file."""
    path, inside = split_selector(text)
    other = None
    if path.is_file():
        other, text = view.siblings(path.absolute()), inside or ""
    where = view if other is None else other
    found = [hdu for hdu in where.images() if fits_shape(hdu, chip.science)]
    if text:
        asked = parse_selector(text)
        found = [
            hdu
            for hdu in found
            if hdu.index == asked.index
            or (hdu.name == asked.name and hdu.version == (asked.version or chip.science.version))
        ]
    same = [
        hdu for hdu in found if (hdu.name, hdu.version) == (chip.science.name, chip.science.version)
    ]
    if not found and other is None and _names_a_file(text):
        raise FrameError(f"{option} {text}: no such file, and no plane of {view.path.name}")
    if not found or (other is None and not text):
        held = ", ".join(f"{hdu.where} {hdu.shape}" for hdu in where.images()[:8]) or "no image"
        raise FrameError(
            f"{view.path}: {option} {text or path}: no such plane of the shape "
            f"{chip.science.plane_shape} of {chip.science.where}; {where.path.name} holds {held}"
        )
    words = NOISE_NAMES if option == "--err" else FLAG_NAMES
    plane = _only(same or found, chip.science, words)
    if plane is None:
        held = ", ".join(hdu.where for hdu in found[:8])
        raise FrameError(
            f"{view.path}: {option} {path}: which of its planes is that of {chip.science.where}? "
            f"It holds {held}; name one as FILE[EXT]"
        )
    return Place(plane, None if other is None else other.path), where


def _only(found: list[HduSpan], science: HduSpan, words: tuple[str, ...]) -> HduSpan | None:
    """Of several planes take that of such a name, of the science's version, or at its place."""
    named = [hdu for hdu in found if hdu.name in words] or found
    of_version = [hdu for hdu in named if hdu.version == science.version]
    at_its_place = [hdu for hdu in named if hdu.index == science.index]
    alone = (some[0] for some in (named, of_version, at_its_place) if len(some) == 1)
    return next(alone, None)
