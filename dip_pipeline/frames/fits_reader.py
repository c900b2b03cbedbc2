"""FITS file to Frames: one for every plane of every science HDU, each with what belongs to it."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.fits_cards import parse_cards
from dip_pipeline.frames.fits_choice import choose_chips
from dip_pipeline.frames.fits_file import file_state, fits_file
from dip_pipeline.frames.fits_layout import HduSpan, Layout, checksum_notes, is_packed
from dip_pipeline.frames.fits_pixels import FitsPixels
from dip_pipeline.frames.fits_planes import FitsPlane, image_cards_of, plane_of
from dip_pipeline.frames.flag_rules import ANY_FLAG
from dip_pipeline.frames.frame import Frame, PlaneInfo, Role, header_mapping
from dip_pipeline.frames.layouts import Chip, FitsView, Place
from dip_pipeline.frames.layouts.chip import fits_shape
from dip_pipeline.frames.mask_file import MaskedPixels
from dip_pipeline.frames.noise_form import NoiseForm
from dip_pipeline.frames.pixels_over import ScaledErrors
from dip_pipeline.frames.reading import Reading
from dip_pipeline.frames.selectors import parse_selector

logger = logging.getLogger(__name__)

_DTYPES = {8: "uint8", 16: "int16", 32: "int32", 64: "int64", -32: "float32", -64: "float64"}
_NOISE_ROLES: dict[NoiseForm, Role] = {
    NoiseForm.SIGMA: "error",
    NoiseForm.VARIANCE: "variance",
    NoiseForm.INVERSE_VARIANCE: "weight",
    NoiseForm.WEIGHT: "weight",
}


def open_fits(path: Path, selector_text: str | None, reading: Reading) -> tuple[Frame, ...]:
    """Open a FITS file as Frames; reads headers and verifies check sums, no pixels yet.

    Raises FrameError for what is not a whole FITS file with an image of two axes or more.
    """
    with fits_file(path) as opened:
        layout = opened.layout
        _judge(path, [*layout.notes, *checksum_notes(opened.stream, layout)], strict=reading.strict)
        view = _view(path, layout, reading.bad_bits)
        selector = None if selector_text is None else parse_selector(selector_text)
        name, chips = choose_chips(view, selector, reading)
    roles = _roles(chips)
    facts = _File(path, layout, name, roles)
    return tuple(frame for chip in chips for frame in facts.frames(chip, reading.grow_px))


def scale_noise(frame: Frame, factor: float) -> Frame:
    """Multiply the sigma of every pixel; the noise plane of the file stays as it is."""
    if isinstance(frame.source, MaskedPixels):
        inner = scale_noise(replace(frame, source=frame.source.inner), factor)
        return replace(inner, source=replace(frame.source, inner=inner.source))
    if not isinstance(frame.source, FitsPixels):
        return replace(frame, source=ScaledErrors(frame.source, factor), relative_noise=False)
    source = replace(frame.source, noise_scale=frame.source.noise_scale * factor)
    return replace(frame, source=source, relative_noise=False)


def _judge(path: Path, notes: list[str], *, strict: bool) -> None:
    for note in notes:
        if strict:
            raise FrameError(f"{path}: {note}; refused by --strict")
        logger.warning("%s: %s", path, note)


def _view(path: Path, layout: Layout, bad_bits: str | None) -> FitsView:
    return FitsView(path, layout.hdus, (), bad_bits, partial(_sibling, bad_bits=bad_bits))


def _sibling(path: Path, bad_bits: str | None) -> FitsView | None:
    """Open another file that may belong to this one; None where there is none that can be read."""
    try:
        if not path.is_file():
            return None
    except OSError:  # a name that no file can have
        return None
    try:
        with fits_file(path) as opened:
            return _view(path, opened.layout, bad_bits)
    except FrameError as error:
        logger.warning("%s: not used: %s", path, error)
        return None


def _roles(chips: tuple[Chip, ...]) -> dict[int, Role]:
    """Role of each HDU of the file that has one."""
    roles: dict[int, Role] = {}
    for chip in chips:
        if chip.noise is not None:
            for place in chip.noise.places:
                if place.path is None:
                    roles[place.hdu.index] = _NOISE_ROLES[chip.noise.form]
        if chip.flags is not None:
            roles |= {place.hdu.index: "flags" for place in chip.flags.places if not place.path}
    return roles | {chip.science.index: "science" for chip in chips}


@dataclass(frozen=True, slots=True)
class _File:
    """What the frames of one file have in common."""

    path: Path
    layout: Layout
    layout_name: str
    roles: dict[int, Role]

    def frames(self, chip: Chip, grow_px: int) -> Iterator[Frame]:
        """One frame for each plane of a science HDU."""
        science = chip.science
        cards = parse_cards(image_cards_of(science))
        primary = parse_cards(self.layout.hdus[0].cards) if science.index else ()
        header = header_mapping(cards, primary)
        if primary and header_mapping(cards).get("INHERIT") is False:
            header = header_mapping(cards)
        axes = science.shape[:-2]
        rows, cols = science.shape[-2:]
        for leading in np.ndindex(axes):
            yield Frame(
                path=self.path,
                format="fits",
                shape=(rows, cols),
                unit=str(header.get("BUNIT") or "").strip(),
                cards=cards,
                planes=self._planes(),
                source=self._pixels(chip, leading),
                header=header,
                has_error_plane=chip.noise is not None,
                has_mask=chip.flags is not None,
                layout=self.layout_name,
                where=science.where,
                plane_index=leading if max(axes, default=1) > 1 else (),
                noise_words=_noise_words(chip),
                relative_noise=chip.noise is not None and chip.noise.form is NoiseForm.WEIGHT,
                flag_words="" if chip.flags is None else chip.flags.words,
                companions=_companions(chip),
                grow_px=grow_px,
            )

    def _pixels(self, chip: Chip, leading: tuple[int, ...]) -> FitsPixels:
        state = file_state(self.path)
        noise = () if chip.noise is None else chip.noise.places
        flags = () if chip.flags is None else chip.flags.places
        filled = _filled_of(self.layout, chip.science)
        return FitsPixels(
            path=self.path.absolute(),
            state=state,
            science=plane_of(self.path, state, chip.science, leading),
            noise=tuple(self._plane(place, leading) for place in noise),
            form=NoiseForm.SIGMA if chip.noise is None else chip.noise.form,
            flags=tuple(self._plane(place, leading) for place in flags),
            rule=ANY_FLAG if chip.flags is None else chip.flags.rule,
            filled=None if filled is None else self._plane(Place(filled), leading),
            roles=tuple(sorted(self.roles.items())),
        )

    def _plane(self, place: Place, leading: tuple[int, ...]) -> FitsPlane:
        path = place.path or self.path
        return plane_of(path, file_state(path), place.hdu, leading)

    def _planes(self) -> tuple[PlaneInfo, ...]:
        return tuple(_info(hdu, self.roles) for hdu in self.layout.hdus if hdu.data_bytes)


def _filled_of(layout: Layout, science: HduSpan) -> HduSpan | None:
    """Find the flags that an earlier restoration of this science HDU left."""
    alike = [hdu for hdu in layout.hdus if hdu.name == "DIP_FLAG" and fits_shape(hdu, science)]
    told = [str(header_mapping(parse_cards(hdu.cards)).get("DIPOF") or "") for hdu in alike]
    # The number of an HDU is that of its input: others may have gone, or come, before it.
    moved = f"HDU {science.index - int(is_packed(layout))}"
    named = f"({science.name},{science.version})" if science.name else ""
    exact = [hdu for hdu, of in zip(alike, told, strict=True) if of == science.where]
    other = [
        hdu
        for hdu, of in zip(alike, told, strict=True)
        if (of.endswith(named) if named else of == moved)
    ]
    untold = [
        hdu
        for hdu, of in zip(alike, told, strict=True)
        if not of and hdu.version == science.version
    ]
    return next(iter(exact or other or untold), None)


def _noise_words(chip: Chip) -> str:
    if chip.noise is None:
        return ""
    what = "weights" if chip.noise.form is NoiseForm.WEIGHT else "error plane"
    return f"{what} of the file ({chip.noise.words})"


def _info(hdu: HduSpan, roles: dict[int, Role]) -> PlaneInfo:
    return PlaneInfo(
        name=hdu.name or ("PRIMARY" if hdu.index == 0 else ""),
        role=roles.get(hdu.index, "other"),
        shape=hdu.shape,
        dtype=_DTYPES.get(hdu.bitpix, "") if hdu.shape else hdu.kind,
        where=hdu.where,
    )


def _companions(chip: Chip) -> tuple[Path, ...]:
    planes = [plane for plane in (chip.noise, chip.flags) if plane is not None]
    paths = [place.path for plane in planes for place in plane.places if place.path is not None]
    return tuple(dict.fromkeys(paths))
