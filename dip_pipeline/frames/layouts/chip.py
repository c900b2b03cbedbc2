"""What a layout finds: science planes, each with the planes that belong to it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dip_pipeline.frames.fits_cards import parse_cards
from dip_pipeline.frames.fits_layout import HduSpan
from dip_pipeline.frames.flag_rules import FlagRule
from dip_pipeline.frames.frame import header_mapping
from dip_pipeline.frames.noise_form import NoiseForm


@dataclass(frozen=True, slots=True)
class Place:
    """Where a plane lies: HDU of the science's own file, or of another."""

    hdu: HduSpan
    path: Path | None = None

    @property
    def where(self) -> str:
        """How a person finds it."""
        return self.hdu.where if self.path is None else f"{self.path.name}, {self.hdu.where}"


@dataclass(frozen=True, slots=True)
class NoisePlane:
    """Planes that give the noise; of several, the variances add."""

    form: NoiseForm
    places: tuple[Place, ...]

    @property
    def words(self) -> str:
        """Say it for people."""
        return f"{self.form} in {' + '.join(place.where for place in self.places)}"


@dataclass(frozen=True, slots=True)
class FlagPlane:
    """Planes of flags; of several, a pixel is bad where any says so."""

    rule: FlagRule
    places: tuple[Place, ...]

    @property
    def words(self) -> str:
        """Say it for people."""
        return f"{self.rule.words}; in {' + '.join(place.where for place in self.places)}"


@dataclass(frozen=True, slots=True)
class Chip:
    """One science HDU and what belongs to it."""

    science: HduSpan
    noise: NoisePlane | None = None
    flags: FlagPlane | None = None


@dataclass(frozen=True, slots=True)
class FitsView:
    """A FITS file as a layout sees it: HDUs and headers, no pixels.

    science : HDUs that the user has chosen; empty for the layout to choose
    bad_bits : what the user says of flags
    siblings : opens a file beside this one as another view; None where there is none
    """

    path: Path
    hdus: tuple[HduSpan, ...]
    science: tuple[HduSpan, ...] = ()
    bad_bits: str | None = None
    siblings: Callable[[Path], "FitsView | None"] = field(default=lambda _: None, compare=False)

    def header(self, hdu: HduSpan) -> Mapping[str, object]:
        """Values by keyword; the HDU outranks the primary."""
        primary = () if hdu.index == 0 else parse_cards(self.hdus[0].cards)
        return header_mapping(parse_cards(hdu.cards), primary)

    @property
    def primary(self) -> Mapping[str, object]:
        """Values of the primary header."""
        return header_mapping(parse_cards(self.hdus[0].cards))

    def text(self, keyword: str) -> str:
        """Text of a card of the primary header in capitals; "" without."""
        return str(self.primary.get(keyword) or "").strip().upper()

    def images(self, *names: str) -> list[HduSpan]:
        """Images with pixels, of any of these names; of all names where none is given."""
        return [hdu for hdu in self.hdus if hdu.has_pixels and (not names or hdu.name in names)]

    def chosen(self, names: Iterable[str]) -> list[HduSpan]:
        """Science HDUs: those that the user chose, else those of the first of these names."""
        if self.science:
            return list(self.science)
        return next((found for name in names if (found := self.images(name))), [])

    def beside(self, science: HduSpan, *names: str) -> Place | None:
        """HDU of one of these names with the shape and the version of the science."""
        for name in names:
            for hdu in self.images(name):
                its_own = hdu.version == science.version and fits_shape(hdu, science)
                if its_own and hdu.index != science.index:
                    return Place(hdu)
        return None

    def sibling(self, name: str) -> "FitsView | None":
        """Open the file of this name in the same folder."""
        path = self.path.with_name(name)
        return None if path == self.path else self.siblings(path)


class FitsLayout(Protocol):
    """One way of laying out a file."""

    name: str

    def chips(self, view: FitsView) -> tuple[Chip, ...]:
        """Science planes in the order of the file; none where the file is not of this layout."""


def fits_shape(hdu: HduSpan, science: HduSpan) -> bool:
    """Whether a plane belongs to the science by its shape: as large, or one for all its planes."""
    return hdu.plane_shape == science.plane_shape or (
        len(science.plane_shape) > 2 and hdu.plane_shape == science.plane_shape[-2:]
    )


def plane_in(other: FitsView | None, science: HduSpan, *, alone: bool = False) -> Place | None:
    """Find the plane of another file that belongs to a science HDU.

    Of chips that of their name, or without names that at their place; of an image that is alone in
    its file any of its shape.
    """
    if other is None:
        return None
    alike = [hdu for hdu in other.images() if fits_shape(hdu, science)]
    same = [h for h in alike if h.name == science.name and h.version == science.version]
    at_its_place = [h for h in alike if h.index == science.index and not (h.name and science.name)]
    found = same or (alike if alone else at_its_place)
    return Place(found[0], other.path) if found else None


def noise_plane(form: NoiseForm, *places: Place | None) -> NoisePlane | None:
    """Make a noise plane of what is there."""
    there = tuple(place for place in places if place is not None)
    return NoisePlane(form, there) if there else None


def flag_plane(rule: FlagRule, *places: Place | None) -> FlagPlane | None:
    """Make a flag plane of what is there."""
    there = tuple(place for place in places if place is not None)
    return FlagPlane(rule, there) if there else None
