"""The image of a point source: FILE or FILE[EXT], checked and made ready to convolve with."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.camera import pixel_side_arcsec
from dip_pipeline.frames.fits_cards import format_card, image_cards, parse_cards
from dip_pipeline.frames.fits_file import file_state, fits_file
from dip_pipeline.frames.fits_layout import HduSpan, Layout
from dip_pipeline.frames.fits_planes import image_cards_of, plane_of
from dip_pipeline.frames.frame import Card, header_mapping
from dip_pipeline.frames.hdu_plans import HduPlan, write_fits
from dip_pipeline.frames.pixel_flux import pixel_flux
from dip_pipeline.frames.publishing import Destination, publishing
from dip_pipeline.frames.selectors import parse_selector, split_selector

log = logging.getLogger(__name__)

SUM_TOLERANCE = 0.01
_MOST_SIDE_PX = 4097
_CENTRE_TOLERANCE_PX = 0.05
_CORE_SHARE = 0.02  # of the highest pixel: what tells where the light is, without noise and wings
_MOST_NEGATIVE = 0.25  # of the highest pixel
_MOST_BELOW = 0.02  # of the light, where it is smoothed over so many pixels a side:
_NEGATIVE_OVER_PX = 5
# Of the light, in one row or column: more is of a line, less of a star (0.47 of the narrowest whose
# PSF can be undone).
_OF_A_LINE, _OF_A_STAR = 0.9, 0.5


@dataclass(frozen=True, slots=True, eq=False)
class PsfFile:
    """A PSF as it was read.

    kernel : (rows, cols), odd sides, sum 1, float64
    where : its HDU, for people
    scale_arcsec : side of a pixel by its header (PIXELSCL, world coordinates, or cards such as
        PIXSCALE); None: not told
    """

    path: Path
    where: str
    kernel: NDArray[np.float64]
    scale_arcsec: float | None = None


def read_psf(source: str) -> PsfFile:
    """Read a point spread function; raises FrameError for one that cannot be used.

    That is one without two axes, with an even side, with numbers that are not finite, of
    magnitudes, with all light in one row or column, or whose sum is not 1 within 1 %: a part of its
    light may be missing, or its sky still in it.
    """
    path, selector = split_selector(source)
    if not path.is_file():
        raise FrameError(f"{path}: no such file; --psf needs a FITS image")
    with fits_file(path) as opened:
        hdu = _chosen(opened.layout, selector, path)
    where = f"{path}, {hdu.where}"
    rows, cols = hdu.plane_shape if len(hdu.plane_shape) == 2 else (0, 0)
    if not rows:
        raise FrameError(f"{where}: {len(hdu.plane_shape)} axes; a PSF needs two")
    if not (rows % 2 and cols % 2):
        raise FrameError(
            f"{where}: a PSF of {rows} x {cols} px; odd sides are needed, so that a pixel is its "
            "middle: resample it, or cut it about the pixel that the source is on"
        )
    if max(rows, cols) > _MOST_SIDE_PX:
        raise FrameError(f"{where}: a PSF of {rows} x {cols} px is too large; cut it")
    header = header_mapping(parse_cards(image_cards_of(hdu)))
    try:
        pixel_flux(str(header.get("BUNIT", "")))
    except FrameError as error:
        raise FrameError(f"{where}: {error}") from error
    plane = plane_of(path, file_state(path), hdu)
    kernel = np.asarray(plane.physical(slice(0, rows), slice(0, cols)), dtype=np.float64)
    return PsfFile(path, hdu.where, normalised(kernel, where), _scale_of(header))


def write_psf(destination: Destination, kernel: NDArray[np.float64], cards: Sequence[Card]) -> None:
    """Write a PSF as `read_psf` reads it, whole or not at all; raises OutputError.

    kernel : (rows, cols); cards : what its header says beside the size
    """
    _write(destination, [_plan(kernel, cards, primary=True)])


def write_psfs(
    destination: Destination,
    psfs: Mapping[str, tuple[NDArray[np.float64], Sequence[Card]]],
    cards: Sequence[Card],
) -> None:
    """Write several PSFs, each in an extension of its name: `read_psf` takes FILE[NAME].

    psfs : kernels (rows, cols) and cards of each; cards : of the primary header
    """
    own = [raw for card in cards for raw in format_card(*card)]
    first = HduPlan([*image_cards((), 8, primary=True), *own], 0, lambda: iter([]))
    plans = [
        _plan(kernel, [("EXTNAME", name, "part of the frame"), *of_part], primary=False)
        for name, (kernel, of_part) in psfs.items()
    ]
    _write(destination, [first, *plans])


def _plan(kernel: NDArray[np.float64], cards: Sequence[Card], *, primary: bool) -> HduPlan:
    own = [raw for card in cards for raw in format_card(*card)]
    data = kernel.astype(">f4").tobytes()
    return HduPlan(
        [*image_cards(kernel.shape, -32, primary=primary), *own], len(data), lambda: iter([data])
    )


def _write(destination: Destination, plans: list[HduPlan]) -> None:
    with publishing(destination, sum(plan.total_bytes for plan in plans)) as part:
        write_fits(part, plans)


def normalised(kernel: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    """Divide a kernel by its sum, which must be 1 nearly; raises FrameError where it cannot be."""
    odd = int((~np.isfinite(kernel)).sum())
    if odd:
        raise FrameError(f"{where}: {odd} pixels of the PSF are not finite; fill them")
    total = float(kernel.sum())
    if not abs(total - 1) <= SUM_TOLERANCE:
        first = "" if 0 < total < 1 else "take away what sky is left in it and "
        raise FrameError(
            f"{where}: the PSF sums to {total:.6g}; 1 is needed, within {SUM_TOLERANCE:.0%}: "
            f"{first}divide it by its sum"
        )
    if kernel.min() < -_MOST_NEGATIVE * kernel.max():
        raise FrameError(
            f"{where}: the PSF's lowest pixel is {kernel.min():.3g}, its highest "
            f"{kernel.max():.3g}; light is positive, and noise below {_MOST_NEGATIVE:g} of the "
            "peak: make it anew"
        )
    _check_line(kernel, where)
    _tell_negative(kernel / total, where)
    _tell_shift(kernel / total, where)
    return kernel / total


def _scale_of(header: Mapping[str, object]) -> float | None:
    """Side of a pixel in arcseconds; PIXELSCL is what STPSF and WebbPSF write."""
    told = header.get("PIXELSCL")
    if isinstance(told, int | float) and math.isfinite(told) and told > 0:
        return float(told)
    return pixel_side_arcsec(header)


def _chosen(layout: Layout, selector: str | None, path: Path) -> HduSpan:
    """Take the HDU that was named, else the only image."""
    images = [hdu for hdu in layout.hdus if hdu.has_pixels]
    if selector is not None:
        asked = parse_selector(selector)
        images = [hdu for hdu in images if asked.means(hdu)]
    if not images:
        raise FrameError(f"{path}: no image{f' [{selector}]' if selector else ''} for a PSF")
    if len(images) > 1:  # STPSF writes one on the detector's pixels, and one on finer ones
        held = ", ".join(f"[{hdu.index}] {hdu.name} {_sides(hdu)}".strip() for hdu in images[:8])
        raise FrameError(
            f"{path}: {len(images)} images; name the one that has the pixels of the result, "
            f"FILE[EXT]: {held}"
        )
    return images[0]


def _sides(hdu: HduSpan) -> str:
    return " x ".join(map(str, hdu.shape))


def _check_line(kernel: NDArray[np.float64], where: str) -> None:
    """Raise FrameError for light along a line: across it, there is no width to undo."""
    most = [float(kernel.sum(axis=axis).max() / kernel.sum()) for axis in (1, 0)]
    if max(most) > _OF_A_LINE and min(most) < _OF_A_STAR:
        line = "row" if most[0] > most[1] else "column"
        raise FrameError(
            f"{where}: {max(most):.0%} of the light of the PSF is in one {line}; a PSF is the "
            "image of a star, which has a width in rows and in columns: give that (dip psf "
            "measures it on stars of the frame), not a cut through it"
        )


def _tell_negative(kernel: NDArray[np.float64], where: str) -> None:
    """Warn of regions below zero; noise that goes both ways is averaged away."""
    smoothed = ndimage.uniform_filter(kernel, _NEGATIVE_OVER_PX, mode="constant")
    below = float(-np.minimum(smoothed, 0.0).sum())
    if below > _MOST_BELOW:
        log.warning(
            "%s: regions of the PSF are below zero, by %.1f%% of its light in all, and the rest is "
            "at least as much too bright: fluxes will be too low by as much or more; light is "
            "nowhere negative: take less sky away from it, or cut its wings, and divide it by its "
            "sum",
            where,
            100 * below,
        )


def _tell_shift(kernel: NDArray[np.float64], where: str) -> None:
    """Warn of a PSF whose light is not on its middle pixel: it moves the scene."""
    core = np.where(kernel > _CORE_SHARE * kernel.max(), kernel, 0.0)
    away = [
        float((core.sum(axis=1 - axis) * (np.arange(side) - side // 2)).sum() / core.sum())
        for axis, side in enumerate(core.shape)
    ]
    if math.hypot(*away) > _CENTRE_TOLERANCE_PX:
        log.warning(
            "%s: the light of the PSF is centred %+.2f rows and %+.2f columns from its middle "
            "pixel: the scene will be moved by as much the other way; centre it there, unless "
            "that is meant",
            where,
            *away,
        )
