"""The story of a PSF: read a frame, know its noise, measure its stars, write their shape."""

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dip_pipeline import __version__
from dip_pipeline.account.restored_input import inferred_by
from dip_pipeline.config import RunConfig
from dip_pipeline.config.task_optics import FACTORS, factor_to_undo
from dip_pipeline.errors import ConfigError, EmptyFrameError, FrameError, OutputError
from dip_pipeline.frames import (
    FITS_SUFFIXES,
    Card,
    Frame,
    open_frames,
    pixel_side_arcsec,
    write_psf,
    write_psfs,
)
from dip_pipeline.frames.publishing import prepare
from dip_pipeline.frames.workshops import clear_workshops
from dip_pipeline.noise.in_words import name_of
from dip_pipeline.preparing.planning import settle_frame
from dip_pipeline.psf.agreement import bright_stars, star_field, uneven_stars
from dip_pipeline.psf.places import PsfPart, PsfPlaces
from dip_pipeline.restoration.computing.callers_settings import settings_kept
from dip_pipeline.restoration.psf.own_psf import OwnPsf, measure_psf
from dip_pipeline.restoration.stars.star_shape import FEWEST_STARS
from dip_pipeline.sensor import NoiseModel

log = logging.getLogger(__name__)

MOST_FACTOR = 4
_MOST_STARS = 120
_FEW_STARS = 8
_LARGE_DOUBT = 0.03
_BY_PARTS = "--grid 3 measures that of each of 3 x 3 parts, --at X,Y that of one place"
_UNDERSAMPLED_PX = 1.4  # FWHM, below which a star in one place of a pixel is no other's image


@dataclass(frozen=True, slots=True)
class PartPsf:
    """The PSF of a part of a frame."""

    part: PsfPart
    psf: OwnPsf


@dataclass(frozen=True, slots=True)
class PsfSummary:
    """What was measured, and written.

    parts : that have a PSF; empty : names of those in which too few stars agree
    scale_arcsec : side of a pixel of the frame; None: not told
    of_all : whether all of the frame was looked at
    of_planes : which of several planes was looked at, in words; "" where there is one
    another : how the next one is named, which can only be said of HDUs; "" where it cannot be
    """

    target: Path
    parts: tuple[PartPsf, ...]
    empty: tuple[str, ...]
    factor: int
    scale_arcsec: float | None
    of_all: bool
    of_planes: str = ""
    another: str = ""


@settings_kept()
def measure_frame_psf(
    source: str,
    target: Path,
    config: RunConfig,
    *,
    places: PsfPlaces | None = None,
    overwrite: bool = False,
) -> PsfSummary:
    """Measure the PSF on the stars of a frame and write it for `--psf`.

    places : where; None: in the middle of the frame. Parts of a grid are extensions of one file.
    Raises a DipError for whatever a user can cause: FrameError where too few stars agree.
    """
    factor = config.task.factor or 1
    if factor > MOST_FACTOR:
        raise ConfigError(
            f"--factor {factor}: a PSF is measured on 1 to {MOST_FACTOR} pixels for one of the "
            "frame, along each axis"
        )
    if not target.name.lower().endswith(FITS_SUFFIXES[0]):
        raise OutputError(f"{target}: a PSF is a FITS image; give a name that ends in .fits")
    planes = open_frames(source, config.frame_reading())
    frame = planes[0]
    clear_workshops(target)
    destination = prepare(target, frame.path, overwrite=overwrite)
    if task := inferred_by(frame):
        raise FrameError(
            f"{frame.path}: a result of dip ({task}): its stars are restored, not seen; give the "
            "frame that it was made of"
        )
    asked = (places or PsfPlaces()).parts(frame.shape)
    another = _another(planes)
    try:
        frame, noise = settle_frame(frame, config)
        parts, empty = _measured(frame, noise, asked, factor)
    except FrameError as error:
        if not another:
            raise
        which = f"of {len(planes)} images {frame.label} was looked at; {another} names the next"
        raise type(error)(f"{error} ({which})") from error
    scale_arcsec = pixel_side_arcsec(frame.header)
    of_all = asked[0].window == tuple(slice(0, side) for side in frame.shape)
    of_planes = f"the first of {len(planes)} planes, {frame.label}" if len(planes) > 1 else ""
    summary = PsfSummary(target, parts, empty, factor, scale_arcsec, of_all, of_planes, another)
    _warn(frame, summary)
    first = _cards_of_frame(source, frame.label, summary)
    if asked[0].name:
        psfs = {one.part.name: (one.psf.kernel, _cards(one, summary)) for one in parts}
        write_psfs(destination, psfs, first)
    else:
        write_psf(destination, parts[0].psf.kernel, [*first, *_cards(parts[0], summary)])
    return summary


def _another(planes: Sequence[Frame]) -> str:
    """Name the next image of a file as a command line does; "" where planes lie in one HDU."""
    found = (re.match(r"HDU (\d+)", plane.where) for plane in planes)
    numbers = list(dict.fromkeys(number[1] for number in found if number))
    return f"{planes[0].path}[{numbers[1]}]" if len(numbers) > 1 else ""


def _measured(
    frame: Frame, noise: NoiseModel, asked: Sequence[PsfPart], factor: int
) -> tuple[tuple[PartPsf, ...], tuple[str, ...]]:
    """Measure the PSF of each part; and name those in which too few stars agree.

    Raises EmptyFrameError where nothing is known anywhere, FrameError where no part has stars.
    """
    looks = [(part, _look(frame, noise, part, factor)) for part in asked]
    seen = [(part, look) for part, look in looks if look is not None]
    if not seen:
        raise EmptyFrameError(f"{frame.path}: no pixel is usable; nothing to measure stars on")
    found = [PartPsf(part, look.psf) for part, look in seen if look.psf is not None]
    if not found:
        shown = sum(look.fitted for _, look in seen)
        raise FrameError(f"{frame.path}: {_too_few(shown)}")
    with_psf = {one.part.name for one in found}
    return tuple(found), tuple(part.name for part in asked if part.name not in with_psf)


def _too_few(shown: int) -> str:
    """Say why so many objects that look like stars tell no PSF, and what to do."""
    found = (
        f"of its bright and lonely objects {shown} look like stars (FWHM 0.6 to 9 px), and too few "
        "agree on a shape"
        if shown
        else "nothing that is lonely and of 15 sigma and more, smoothed over 1 px, looks like a "
        "star (FWHM 0.6 to 9 px)"
    )
    agreeing = " that agree" if shown else ""
    bright = "" if shown else ", bright and not saturated"
    return (
        f"{found}; {FEWEST_STARS} unsaturated ones{agreeing} are needed: measure a frame of the "
        f"same night with more of them{bright}, or give --fwhm to the command that undoes it"
    )


class _Look(NamedTuple):
    """Stars of a part that were fitted, and the PSF on which enough of them agree."""

    fitted: int
    psf: OwnPsf | None


def _look(frame: Frame, noise: NoiseModel, part: PsfPart, factor: int) -> _Look | None:
    """Measure the PSF of a part; None where no pixel of it is known."""
    field = star_field(frame, noise, part.window)
    if field is None:
        return None
    fitted = bright_stars(field, most=_MOST_STARS)
    if words := uneven_stars(fitted, part.window):
        log.warning(
            "%s: %s; what is written is that of their mean (%s)",
            _named(frame, part),
            words,
            "a finer --grid has less of that" if part.name else _BY_PARTS,
        )
    return _Look(len(fitted), measure_psf(field, fitted, factor=factor))


def _named(frame: Frame, part: PsfPart) -> str:
    return f"{name_of(frame)}, {part.name}" if part.name else name_of(frame)


def _warn(frame: Frame, summary: PsfSummary) -> None:
    if summary.empty:
        log.warning(
            "%s: in %d of %d parts too few stars agree on a shape; they have no PSF: %s",
            name_of(frame),
            len(summary.empty),
            len(summary.empty) + len(summary.parts),
            ", ".join(summary.empty),
        )
    for one in summary.parts:
        _warn_of(_named(frame, one.part), one.psf, summary.factor)


def _warn_of(name: str, psf: OwnPsf, factor: int) -> None:
    if psf.stars < _FEW_STARS:
        log.warning("%s: %d stars alone tell its PSF; how well is not known", name, psf.stars)
    _warn_of_width(name, psf, factor)
    if psf.doubt > _LARGE_DOUBT:  # False where it is NaN
        log.warning(
            "%s: %.1f %% of the light of its PSF is not known to lie where it says, by halves of "
            "its stars and by drawing them elsewhere: they are faint or crowded, or their shape "
            "changes over the field",
            name,
            100 * psf.doubt,
        )


def _warn_of_width(name: str, psf: OwnPsf, factor: int) -> None:
    """Warn of a PSF that no task undoes on its pixels, and say which are fine enough."""
    fwhm_px = psf.shape.fwhm_px
    sharp = factor > 1 and factor_to_undo(psf.kernel, factor) != factor
    if not sharp and not (factor == 1 and fwhm_px < _UNDERSAMPLED_PX):
        return
    finer = next((f for f in FACTORS if factor_to_undo(_drawn(psf, f), f) == f), MOST_FACTOR)
    why = (
        f"on pixels {factor} times finer, too, that is too narrow to be undone"
        if sharp
        else "on its own pixels each looks otherwise, by where it lies in one"
    )
    log.warning(
        "%s: its stars are %.2f px wide (FWHM): %s; measure on finer pixels (--factor %d), for dip "
        "super-resolve --factor %d",
        name,
        fwhm_px,
        why,
        finer,
        finer,
    )


def _drawn(psf: OwnPsf, factor: int) -> NDArray[np.float64]:
    """Draw the profile under a PSF on pixels of which factor^2 make one of the frame; sum 1."""
    stamp = psf.shape.widened(factor).stamp(len(psf.kernel) // 2 * factor)
    drawn: NDArray[np.float64] = stamp / stamp.sum()
    return drawn


def _cards_of_frame(source: str, plane: str, summary: PsfSummary) -> list[Card]:
    of_several: list[Card] = [("PSFPLANE", plane, "its plane")] if summary.of_planes else []
    return [
        ("DIPVER", __version__, "version of dip-pipeline"),
        ("PSFFRAME", Path(source).name, "frame that it was measured on"),
        *of_several,
        ("PSFFACT", summary.factor, "pixels for one of the frame along an axis"),
    ]


def _cards(one: PartPsf, summary: PsfSummary) -> list[Card]:
    psf = one.psf
    cards: list[Card] = [
        ("PSFSECT", one.part.section, "pixels of the frame that it was measured on"),
        ("PSFSTARS", psf.stars, "stars that it was measured on"),
        ("PSFFWHM", round(psf.shape.fwhm_px, 4), "[pix] width of stars, pixels of the frame"),
        ("PSFELL", round(psf.shape.ellipticity, 4), "1 - shorter axis / longer axis"),
    ]
    if math.isfinite(psf.doubt):
        cards.append(("PSFDOUBT", round(psf.doubt, 5), "share of light that may be elsewhere"))
    if summary.scale_arcsec is not None:
        scale = summary.scale_arcsec / summary.factor
        cards.append(("PIXELSCL", float(f"{scale:.8g}"), "[arcsec] side of a pixel"))
    return cards
