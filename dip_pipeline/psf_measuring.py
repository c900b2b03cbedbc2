"""The story of a PSF: read a frame, know its noise, measure its stars, write their shape."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path

from dip_pipeline import __version__
from dip_pipeline.config import RunConfig
from dip_pipeline.errors import ConfigError, EmptyFrameError, FrameError, OutputError
from dip_pipeline.frames import FITS_SUFFIXES, Card, Frame, camera_of, open_frame, write_psf
from dip_pipeline.frames.publishing import prepare
from dip_pipeline.frames.workshops import clear_workshops
from dip_pipeline.planning import settle_frame
from dip_pipeline.psf_agreement import bright_stars, star_field, uneven_widths
from dip_pipeline.restoration.computing import settings_kept
from dip_pipeline.restoration.own_psf import OwnPsf, measure_psf
from dip_pipeline.restoration.star_shape import FEWEST_STARS
from dip_pipeline.restored_input import inferred_by

log = logging.getLogger(__name__)

MOST_FACTOR = 4
_MOST_STARS = 120
_FEW_STARS = 8
_LARGE_DOUBT = 0.03
_UNDERSAMPLED_PX = 1.4  # FWHM, below which a star in one place of a pixel is no other's image


@dataclass(frozen=True, slots=True)
class PsfSummary:
    """What was measured, and written.

    scale_arcsec : side of a pixel of the frame; None: not told
    """

    target: Path
    psf: OwnPsf
    factor: int
    scale_arcsec: float | None


@settings_kept()
def measure_frame_psf(
    source: str, target: Path, config: RunConfig, *, overwrite: bool = False
) -> PsfSummary:
    """Measure the PSF on the stars of a frame and write it for `--psf`.

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
    frame = open_frame(source, config.frame_reading())
    clear_workshops(target)
    destination = prepare(target, frame.path, overwrite=overwrite)
    if task := inferred_by(frame):
        raise FrameError(
            f"{frame.path}: a result of dip ({task}): its stars are restored, not seen; give the "
            "frame that it was made of"
        )
    found = _measured(frame, config, factor)
    scale_arcsec = camera_of(frame.header).pixel_scale_arcsec
    summary = PsfSummary(target, found, factor, scale_arcsec)
    _warn(frame, summary)
    write_psf(destination, found.kernel, _cards(source, summary))
    return summary


def _measured(frame: Frame, config: RunConfig, factor: int) -> OwnPsf:
    frame, noise = settle_frame(frame, config)
    field = star_field(frame, noise)
    if field is None:
        raise EmptyFrameError(f"{frame.path}: no pixel is usable; nothing to measure stars on")
    fitted = bright_stars(field, most=_MOST_STARS)
    if words := uneven_widths(fitted, frame):
        log.warning("%s: %s; what is written is that of their mean", frame.path, words)
    found = measure_psf(field, fitted, factor=factor)
    if found is None:
        raise FrameError(
            f"{frame.path}: of its bright and lonely objects {len(fitted)} look like stars (FWHM "
            f"0.6 to 9 px), and too few agree on a shape; {FEWEST_STARS} unsaturated ones are "
            "needed: measure a frame of the same night with more of them, or give --fwhm"
        )
    return found


def _warn(frame: Frame, summary: PsfSummary) -> None:
    psf = summary.psf
    if psf.stars < _FEW_STARS:
        log.warning("%s: %d stars alone tell its PSF; how well is not known", frame.path, psf.stars)
    if psf.shape.fwhm_px < _UNDERSAMPLED_PX and summary.factor == 1:
        log.warning(
            "%s: its stars are %.2f px wide (FWHM): on its own pixels each looks otherwise, by "
            "where it lies in one; measure on finer pixels (--factor 2), for dip super-resolve",
            frame.path,
            psf.shape.fwhm_px,
        )
    if psf.doubt > _LARGE_DOUBT:  # False where it is NaN
        log.warning(
            "%s: two halves of its stars differ: %.1f %% of the light of its PSF is not known to "
            "lie where it says: stars are faint, or their shape changes over the field",
            frame.path,
            100 * psf.doubt,
        )


def _cards(source: str, summary: PsfSummary) -> list[Card]:
    psf = summary.psf
    cards: list[Card] = [
        ("DIPVER", __version__, "version of dip-pipeline"),
        ("PSFFRAME", Path(source).name, "frame that it was measured on"),
        ("PSFSTARS", psf.stars, "stars that it was measured on"),
        ("PSFFACT", summary.factor, "pixels for one of the frame along an axis"),
        ("PSFFWHM", round(psf.shape.fwhm_px, 4), "[pix] width of stars, pixels of the frame"),
        ("PSFELL", round(psf.shape.ellipticity, 4), "1 - shorter axis / longer axis"),
    ]
    if math.isfinite(psf.doubt):
        cards.append(("PSFDOUBT", round(psf.doubt, 5), "share of light that may be elsewhere"))
    if summary.scale_arcsec is not None:
        scale = summary.scale_arcsec / summary.factor
        cards.append(("PIXELSCL", float(f"{scale:.8g}"), "[arcsec] side of a pixel"))
    return cards
