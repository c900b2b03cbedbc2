"""Pixels of one science plane of a FITS file, with its noise and flags, wherever these lie."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.flags import PixelFlag
from dip_pipeline.frames.fits_cards import parse_cards
from dip_pipeline.frames.fits_file import FileState, fits_file
from dip_pipeline.frames.fits_planes import FitsPlane, image_cards_of
from dip_pipeline.frames.flag_rules import ANY_FLAG, FlagRule
from dip_pipeline.frames.frame import Pixels, RawHdu, Role, make_pixels
from dip_pipeline.frames.noise_form import NoiseForm, sigma_of
from dip_pipeline.frames.provenance import own_keywords

PRODUCT_HDUS = ("DIP_ERR", "DIP_FLAG", "DIP_PROV", "DIP_TILE")


@dataclass(frozen=True, slots=True)
class FitsPixels:
    """Where to find the planes of one science plane.

    noise : planes in the form that `form` says; of several, the variances add
    noise_scale : what turns a relative sigma into one in the unit of the science
    flags : planes of one rule; filled : flags of an earlier restoration
    roles : of the HDUs of the file, by place, where they have one
    """

    path: Path
    state: FileState
    science: FitsPlane
    noise: tuple[FitsPlane, ...] = ()
    form: NoiseForm = NoiseForm.SIGMA
    noise_scale: float = 1.0
    flags: tuple[FitsPlane, ...] = ()
    rule: FlagRule = ANY_FLAG
    filled: FitsPlane | None = None
    roles: tuple[tuple[int, Role], ...] = ()

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read one region of all planes."""
        science = self.science.physical(rows, cols)
        bad = np.zeros(science.shape, dtype=bool)
        saturated = None
        for plane in self.flags:
            marked, full = self.rule.split(plane.numbers(rows, cols))
            bad |= marked
            if self.rule.tells_saturated:
                saturated = full if saturated is None else saturated | full
        if self.filled is not None:  # what was filled in once holds no information ever after
            bad |= (self.filled.numbers(rows, cols).astype(np.uint8) & PixelFlag.FILLED) != 0
        return make_pixels(science, self._sigma(rows, cols), bad, saturated, path=self.path)

    def _sigma(self, rows: slice, cols: slice) -> NDArray[np.float64] | None:
        if not self.noise:
            return None
        sigmas = [sigma_of(plane.physical(rows, cols), self.form) for plane in self.noise]
        total = sigmas[0]
        if len(sigmas) > 1:
            total = np.sqrt(np.sum(np.square(sigmas), axis=0))
        return total * self.noise_scale

    def read_flags(self, rows: slice, cols: slice) -> NDArray[np.generic] | None:
        """Read the flags of one region as integers; of several planes, their bits together."""
        if not self.flags:
            return None
        planes = [plane.numbers(rows, cols) for plane in self.flags]
        together = planes[0]
        for plane in planes[1:]:
            together = np.bitwise_or(together, plane)
        return together

    def science_header(self) -> tuple[int, tuple[int, ...], list[bytes]]:
        """Place, shape and raw cards of the science HDU, a compressed one as plain image."""
        with fits_file(self.path, self.state) as opened:
            hdu = opened.layout.hdus[self.science.index]
            return hdu.index, hdu.shape, image_cards_of(hdu)

    def other_hdus(self) -> list[RawHdu]:
        """Every other HDU byte for byte, without the planes of an earlier restoration."""
        # Another chip is nothing to this one.
        roles = {i: role for i, role in self.roles if role != "science"}
        with fits_file(self.path, self.state) as opened:
            return [
                RawHdu(
                    order=hdu.index,
                    name=hdu.name,
                    role=roles.get(hdu.index, "other"),
                    header=b"".join(opened.blocks(hdu.header_start, hdu.data_start)),
                    data_bytes=hdu.end - hdu.data_start,
                    blocks=partial(self._blocks, hdu.data_start, hdu.end),
                )
                for hdu in opened.layout.hdus
                if hdu.index != self.science.index and hdu.name not in PRODUCT_HDUS
            ]

    def product_keywords(self) -> frozenset[str]:
        """Keywords of cards that an earlier restoration wrote into the science header."""
        with fits_file(self.path, self.state) as opened:
            return own_keywords(
                [parse_cards(h.cards) for h in opened.layout.hdus if h.name == "DIP_PROV"]
            )

    def _blocks(self, start: int, stop: int) -> Iterator[bytes]:
        with fits_file(self.path, self.state) as opened:
            yield from opened.blocks(start, stop)
