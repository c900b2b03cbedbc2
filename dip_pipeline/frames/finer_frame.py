"""A frame as a product of finer pixels holds it: the same file, its header on the finer grid.

What lies on the input's own pixels (its noise plane, its flags, weights) cannot stand beside the
finer image as if it belonged to it, and is left out; so is a description of the sky that no rule
for cards reaches (a gwcs in an ASDF extension).
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.finer_cards import is_lookup
from dip_pipeline.frames.finer_header import (
    FinerGrid,
    finer_cards,
    finer_raw_cards,
    lookup_keywords,
)
from dip_pipeline.frames.fits_cards import parse_cards, split_cards
from dip_pipeline.frames.fits_pixels import PRODUCT_HDUS, FitsPixels
from dip_pipeline.frames.frame import (
    Card,
    Frame,
    Pixels,
    PixelSource,
    RawHdu,
    header_mapping,
)
from dip_pipeline.frames.layouts.names import sort_by_name
from dip_pipeline.frames.pixels_over import PixelsOver
from dip_pipeline.frames.sky_agreement import sky_difference_mas
from dip_pipeline.frames.zarr_choice import arrays_of, open_node
from dip_pipeline.frames.zarr_hdus import is_hdu
from dip_pipeline.frames.zarr_reader import ZarrPixels

Value = TypeVar("Value", bound=np.generic)

MOST_MAS = 1.0  # that the sky of a finer image may lie apart from its input's
GWCS_NAME = "ASDF"
PixelGrid = tuple[tuple[object, ...], object]
"""Sides (rows, columns) and EXTVER of an HDU."""
# Maps of the input's pixels beside those that a layout takes for noise or flags.
_MAPS = ("AREA", "COVERAGE", "EXP", "EXPMAP", "SAMP", "TIME")


@dataclass(frozen=True, slots=True)
class FinerPixels:
    """Pixels of a coarse source, each cut into factor x factor equal ones; shape : of the coarse.

    Its error and its flags are left out: they are of the coarse pixels. What they hide is masked.
    """

    coarse: PixelSource
    grid: FinerGrid
    shape: tuple[int, int]

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read one region; its bounds count finer pixels."""
        factor = self.grid.factor
        bounds = [slice(part.start // factor, -(-part.stop // factor)) for part in (rows, cols)]
        coarse = self.coarse.read(bounds[0], bounds[1])
        first_row, first_col = (bound.start * factor for bound in bounds)
        region = (
            slice(rows.start - first_row, rows.stop - first_row),
            slice(cols.start - first_col, cols.stop - first_col),
        )
        science = _repeat(coarse.science * np.float32(self.grid.share), factor)
        return Pixels(science[region], None, _repeat(coarse.masked, factor)[region])

    def read_flags(self, rows: slice, cols: slice) -> NDArray[np.generic] | None:  # noqa: ARG002
        """Give none: flags of the input are of its own pixels."""
        return None

    def science_header(self) -> tuple[int, tuple[int, ...], list[bytes]] | None:
        """Place, finer shape and finer cards of the science HDU; None: no FITS behind it."""
        behind = self.coarse.science_header()
        if behind is None:
            return None
        order, shape, raw = behind
        finer = (*shape[:-2], *(side * self.grid.factor for side in shape[-2:]))
        return order, finer, finer_raw_cards(raw, self.grid, _primary_of(self.coarse, order))

    def other_hdus(self) -> list[RawHdu]:
        """Every other HDU but those that are left out."""
        gone = {hdu.order for hdu in self.left_out()}
        return [hdu for hdu in self.coarse.other_hdus() if hdu.order not in gone]

    def left_out(self) -> list[RawHdu]:
        """HDUs that lie on the input's pixels, or say where these are on the sky."""
        science = _science_grids(self.coarse)
        return [
            hdu
            for hdu in self.coarse.other_hdus()
            if hdu.role not in ("other", "science") or lies_on_pixels(hdu.name, hdu.header, science)
        ]

    def product_keywords(self) -> frozenset[str]:
        """Keywords of cards that an earlier restoration wrote into the science header."""
        return self.coarse.product_keywords()


def finer_frame(frame: Frame, grid: FinerGrid) -> Frame:
    """View a frame as its finer product holds it; reads no pixels.

    Raises FrameError where its header would put the finer pixels elsewhere on the sky.
    """
    rows, cols = frame.shape
    source = FinerPixels(frame.source, grid, frame.shape)
    behind = frame.source.science_header()
    order = 0 if behind is None else behind[0]
    primary = _primary_of(frame.source, order)
    cards = finer_cards(frame.cards, grid, primary)
    finer = replace(
        frame,
        shape=(rows * grid.factor, cols * grid.factor),
        cards=cards,
        header=header_mapping(cards, primary),
        source=source,
        has_error_plane=False,
        has_mask=False,
        noise_words="",
        flag_words="",
        relative_noise=False,
        grow_px=0,
    )
    apart = sky_of_finer_mas(frame.cards, finer.cards, frame.shape, grid)
    if not apart < MOST_MAS:
        raise FrameError(
            f"{frame.path}{f' {frame.label}' if frame.label else ''}: with factor {grid.factor} "
            f"its header would put pixels {apart:.3g} mas away from where they are, over "
            f"{MOST_MAS:g}: its world coordinates have a form that is not known here; convert "
            "them to TAN, SIP, or TPV with a CD matrix"
        )
    return finer


def finer_plane(first: Frame, frame: Frame) -> Frame:
    """View another plane of an HDU whose first plane is viewed so already."""
    if not isinstance(first.source, FinerPixels):
        return frame
    source = replace(first.source, coarse=frame.source)
    return replace(first, source=source, plane_index=frame.plane_index)


def sky_of_finer_mas(
    coarse: tuple[Card, ...], finer: tuple[Card, ...], shape: tuple[int, int], grid: FinerGrid
) -> float:
    """How far apart coarse and finer cards put the same places, lookup distortions left out."""
    plain = [
        tuple(card for card in cards if not is_lookup(card[0], card[1]))
        for cards in (coarse, finer)
    ]
    return sky_difference_mas((plain[0], None), (plain[1], None), shape, factor=grid.factor)


def finer_notes(frame: Frame) -> tuple[str, ...]:
    """Say what a finer product does not have of its input; frame : as `finer_frame` gave it."""
    source = frame.source
    if not isinstance(source, FinerPixels):
        return ()
    notes = []
    gone = left_out_names(frame)
    if gone:
        notes.append(f"left out, for they lie on the input's pixels: {', '.join(gone)}")
    behind = source.coarse.science_header()
    lookups = lookup_keywords(frame.cards if behind is None else parse_cards(behind[2]))
    if lookups:
        notes.append(
            f"distortions in lookup tables are left out of its world coordinates "
            f"({', '.join(lookups[:4])}{', ...' if len(lookups) > 4 else ''})"
        )
    if any(hdu.name == GWCS_NAME for hdu in source.left_out()):
        notes.append("its gwcs (extension ASDF) is left out: the cards of the header hold")
    return tuple(notes)


def coarse_of(source: PixelSource) -> PixelSource:
    """Source of the input's own pixels, without what is laid over them."""
    if isinstance(source, FinerPixels):
        return coarse_of(source.coarse)
    return coarse_of(source.inner) if isinstance(source, PixelsOver) else source


def left_out_names(frame: Frame) -> tuple[str, ...]:
    """Name the HDUs and arrays that a finer product leaves out, for people."""
    if not isinstance(frame.source, FinerPixels):
        return ()
    if isinstance(coarse_of(frame.source), ZarrPixels):
        return tuple(f"array {name}" for name in arrays_left_out(frame))
    return tuple(left_out_name(hdu.order, hdu.name) for hdu in frame.source.left_out())


def left_out_name(order: int, name: str) -> str:
    """Name an HDU that is left out, for people and for the record."""
    return f"HDU {order} ({name})"


def arrays_left_out(frame: Frame) -> tuple[str, ...]:
    """Arrays of a Zarr group that a finer product leaves out."""
    source = frame.source
    coarse = coarse_of(source)
    if not (isinstance(source, FinerPixels) and isinstance(coarse, ZarrPixels)):
        return ()
    gone = {hdu.order for hdu in source.left_out()}
    own = [name for name in (coarse.names.error, coarse.names.flags) if name]
    kept = [name for name, hdu in coarse.hdus_by_array().items() if hdu.order in gone]
    return tuple(dict.fromkeys([*own, *kept, *_plain_maps(coarse, source.shape)]))


def _plain_maps(source: ZarrPixels, shape: tuple[int, int]) -> list[str]:
    """Arrays that are no HDUs and maps of the pixels, in the group of the science or below."""
    group = source.names.science.rpartition("/")[0]
    return [
        name
        for name, array in arrays_of(open_node(source.path)).items()
        if name.startswith(f"{group}/" if group else "")
        and name not in (source.names.science, *PRODUCT_HDUS)
        and tuple(array.shape[-2:]) == shape
        and _is_map(name.rpartition("/")[2].upper())
        and not is_hdu(array)
    ]


def lies_on_pixels(name: str, header: bytes, science: frozenset[PixelGrid]) -> bool:
    """Whether an HDU, by its name and form, is a map of the pixels of a science HDU."""
    if name == GWCS_NAME:
        return True
    return _is_map(name) and _pixel_grid(header) in science


def _is_map(name: str) -> bool:
    return sort_by_name(name) not in ("", "science") or name in _MAPS


def _pixel_grid(header: bytes) -> PixelGrid:
    values = header_mapping(parse_cards(split_cards(header)))
    sides = tuple(values.get(f"ZNAXIS{axis}", values.get(f"NAXIS{axis}")) for axis in (2, 1))
    return sides, values.get("EXTVER", 1)


def _science_grids(source: PixelSource) -> frozenset[PixelGrid]:
    """Sides and EXTVER of the science HDUs that are restored together."""
    behind = source.science_header()
    if behind is None:
        return frozenset()
    _, shape, raw = behind
    found: set[PixelGrid] = {(shape[-2:], header_mapping(parse_cards(raw)).get("EXTVER", 1))}
    source = coarse_of(source)
    if isinstance(source, FitsPixels):
        places = {order for order, role in source.roles if role == "science"}
        found |= {_pixel_grid(hdu.header) for hdu in source.other_hdus() if hdu.order in places}
    return frozenset(found)


def _primary_of(source: PixelSource, order: int) -> tuple[Card, ...]:
    """Cards of the primary header, where the science is not there itself."""
    if order == 0:
        return ()
    primary = next((hdu.header for hdu in source.other_hdus() if hdu.order == 0), b"")
    return parse_cards(split_cards(primary))


def _repeat(plane: NDArray[Value], factor: int) -> NDArray[Value]:
    return np.repeat(np.repeat(plane, factor, axis=0), factor, axis=1)
