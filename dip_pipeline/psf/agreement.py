"""A PSF beside the stars of the frame that it is said to be of."""

import logging
import math
from collections.abc import Sequence

import numpy as np

from dip_pipeline.config.task_optics import AskedOptics
from dip_pipeline.errors import ExposureError
from dip_pipeline.exposures.light import see_window, unit_of, usable_pixels
from dip_pipeline.exposures.places import middle_of
from dip_pipeline.frames import Frame
from dip_pipeline.preparing.cutting import Window
from dip_pipeline.registration import psf_fwhm_px, star_fwhm_px
from dip_pipeline.restoration.psf.field_ellipticities import ellipticities_over_field
from dip_pipeline.restoration.psf.field_widths import widths_over_field
from dip_pipeline.restoration.psf.own_psf import StarField
from dip_pipeline.restoration.psf.psf_on_stars import (
    PsfOnStars,
    doubt_of_wings,
    hold_against_stars,
)
from dip_pipeline.restoration.stars.star_shape import AS_GAUSSIANS, FittedStar, fit_bright_stars
from dip_pipeline.sensor import NoiseModel
from dip_pipeline.sensor.noise_sigma import sigma_plane

log = logging.getLogger(__name__)

_NARROWER = 0.87  # by half-light radii
_NARROWER_OF_FEW = 0.7  # the same of few or faint stars, where they may be a fifth too small
_OTHER_WIDTH = 0.07  # of ln(FWHM), by which fits differ; of right PSFs they do by 0.01
_OTHER_ELLIPTICITY = 0.1  # as of an axis ratio of 0.9; of right PSFs it is 0.01
_OTHER_SHAPE = 0.1  # of a star's light; of right PSFs up to 0.023 where fields are crowded
_OTHER_WINGS = 0.06  # the same by profiles; of right PSFs up to 0.02, of few stars 0.07
# A Gaussian is asked for by its width: real stars have wings.
_OTHER_THAN_GAUSSIAN = 0.25
_FEW = 3  # objects as narrow as the PSF: its stars, the others being galaxies or blends
_FEW_SHARE = 0.1  # of all objects
_MOST_STARS = 30  # that are fitted
_MANY_STARS = 8  # without a width to hold against the PSF's
_OVER_FIELD = 1.1  # ratio of the widths of stars over the field
_APART_OVER_FIELD = 0.15  # of their ellipticities: as much from the mean as 0.93 of an axis ratio


def warn_of_psf(frame: Frame, noise: NoiseModel, asked: AskedOptics) -> None:
    """Warn where the stars of a frame are narrower or wider than the PSF, or of another shape.

    And where they are not of one width. Where a frame shows too few stars, nothing can be said.
    """
    if asked.psf is None:
        return
    stars = _bright_stars(frame, noise)
    if words := uneven_stars(stars, middle_of(frame.shape)):
        log.warning(
            "%s: %s, and %s is undone everywhere; where stars are narrower holes are dug, where "
            "they are wider light is left around them; cut the frame into parts, and give each the "
            "PSF of its stars (%s --grid 3 measures that of each part, --at X,Y of one place)",
            frame.path,
            words,
            asked.words,
            asked.measuring,
        )
    found = hold_against_stars(asked.psf, asked.factor, stars)
    if found is None or not math.isfinite(found.psf_px):
        ratio, words = _by_half_light(frame, noise, asked)
        least = _NARROWER_OF_FEW if found is None else _NARROWER
        if ratio < least:  # False where it is NaN
            log.warning("%s: %s: %s; %s", frame.path, words, _MORE_BLUR, _remedy(asked))
            return
    if found is not None and (words := _in_words(found, asked, stars)):
        log.warning("%s: %s; %s", frame.path, words, _remedy(asked))


def beside_stars(frame: Frame, noise: NoiseModel, asked: AskedOptics) -> PsfOnStars | None:
    """Hold a PSF against the stars of the middle of a frame; None where too few tell."""
    if asked.psf is None:
        return None
    return hold_against_stars(asked.psf, asked.factor, _bright_stars(frame, noise))


def _bright_stars(frame: Frame, noise: NoiseModel) -> list[FittedStar]:
    """Fit bright lonely stars of the middle of a frame, each with a shape of its own."""
    field = star_field(frame, noise, middle_of(frame.shape))
    return [] if field is None else bright_stars(field, most=_MOST_STARS)


def bright_stars(field: StarField, *, most: int) -> list[FittedStar]:
    """Fit the brightest lonely stars of a field, Gaussian ones, too."""
    return fit_bright_stars(
        field.light, field.sigma, field.trusted, most=most, most_beta=AS_GAUSSIANS
    )


def star_field(frame: Frame, noise: NoiseModel, window: Window) -> StarField | None:
    """Read a window of a frame in units of its noise, its level at zero; None: nothing known.

    To numbers of 1e-20 no profile could be fitted.
    """
    pixels = frame.read(*window)
    known = usable_pixels(pixels, noise)
    if not known.any():
        return None
    level = float(np.median(pixels.science[known]))
    light = np.where(known, pixels.science, np.float32(level))
    sigma = sigma_plane(noise, light, pixels.error if noise.from_error_plane else None)
    known &= np.isfinite(sigma) & (sigma > 0)
    if not known.any():
        return None
    doubt = np.where(known, sigma, float(np.median(sigma[known]))).astype(np.float64)
    unit = float(np.median(doubt))
    return StarField((light.astype(np.float64) - level) / unit, doubt / unit, known)


def stars_over_psf(frame: Frame, noise: NoiseModel, asked: AskedOptics) -> tuple[float, float]:
    """How many times as wide as a PSF the stars of a frame are; and their FWHM, px.

    NaN where that is not known.
    """
    found = beside_stars(frame, noise, asked)
    if found is None:
        return math.nan, math.nan
    if math.isfinite(found.psf_px):
        return found.star_px / found.psf_px, found.star_px
    return _by_half_light(frame, noise, asked)[0], found.star_px


_MORE_BLUR = "undoing more blur than there is changes fluxes and digs holes"
_LESS_BLUR = "light that is left around stars is restored as if it were the sky's"


def _remedy(asked: AskedOptics) -> str:
    return (
        "DIP_ERR and DIPRISK take the PSF as right; give the PSF of these stars "
        f"({asked.measuring} measures it; --fwhm counts pixels of the input, a file has those of "
        "the result)"
    )


def uneven_stars(stars: Sequence[FittedStar], window: Window) -> str:
    """Say where stars differ most in width or ellipticity, counted from 1; "" where they do not.

    stars : of a window of a frame
    """
    words = [_uneven_widths(stars, window), _uneven_ellipticities(stars, window)]
    told = " and ".join(some for some in words if some)
    return f"its stars are {told}: no one PSF is that of the whole field" if told else ""


def _uneven_widths(stars: Sequence[FittedStar], window: Window) -> str:
    found = widths_over_field(stars)
    if found is None or found.widest_px <= _OVER_FIELD * found.narrowest_px:
        return ""
    ends = [
        f"{width_px:.2f} px wide (FWHM) near {_in_frame(place, window)}"
        for width_px, place in (
            (found.narrowest_px, found.narrowest_at),
            (found.widest_px, found.widest_at),
        )
    ]
    return f"{ends[0]}, {ends[1]} ({found.stars} stars)"


def _uneven_ellipticities(stars: Sequence[FittedStar], window: Window) -> str:
    found = ellipticities_over_field(stars)
    if found is None or found.apart <= _APART_OVER_FIELD:
        return ""
    one, other = (_in_frame(place, window) for place in found.places)
    return (
        f"elongated otherwise near {one} than near {other} (ellipticities differ by "
        f"{found.apart:.2f}; {found.stars} stars)"
    )


def _in_frame(place: tuple[int, int], window: Window) -> str:
    row, col = (at + span.start + 1 for at, span in zip(place, window, strict=True))
    return f"x, y = {col}, {row}"


def _in_words(found: PsfOnStars, asked: AskedOptics, stars: Sequence[FittedStar]) -> str:
    """Say how a PSF differs from the stars; "" where it does not, or nothing can be said."""
    apart = math.log(found.star_px / found.psf_px)
    difference = _of_width(found, apart, asked)
    if not abs(apart) > _OTHER_WIDTH:  # True where it is NaN
        difference = _of_shape(found, asked, stars)
    if not difference:
        return ""
    own = f"{found.psf_px:.2f} px" if math.isfinite(found.psf_px) else "no star's width"
    elsewhere = float(np.fmax(found.misplaced, found.wings))
    return (
        f"its stars are {found.star_px:.2f} px wide (FWHM), the PSF ({asked.words}) {own}, "
        f"{difference}; {elsewhere:.0%} of a star's light lies elsewhere"
    )


def _of_width(found: PsfOnStars, apart: float, asked: AskedOptics) -> str:
    """Say by how much a PSF is too wide or too narrow; "" where it is not, or not known to be.

    apart : logarithm of the stars' width over its own
    """
    by = f"{abs(math.expm1(-apart)):.0%}" if math.isfinite(apart) else ""
    if apart < -_OTHER_WIDTH:  # False where it is NaN
        return f"{by} too wide: {_MORE_BLUR}"
    # Beside galaxies and blends, some objects that are as narrow as the PSF are its stars.
    if apart > _OTHER_WIDTH and found.as_narrow < max(_FEW, _FEW_SHARE * found.fitted):
        # As dip psf, without its --factor, and many others write it.
        file = not asked.is_gaussian and asked.factor > 1
        as_input = file and abs(apart - math.log(asked.factor)) <= _OTHER_WIDTH
        why = " as it is on the pixels of the input, it seems" if as_input else ""
        return f"{by} too narrow{why}: {_LESS_BLUR}"
    return ""


def _of_shape(found: PsfOnStars, asked: AskedOptics, stars: Sequence[FittedStar]) -> str:
    """Say that a PSF is of another shape; "" where it is not, or not known to be."""
    if found.elongation > _OTHER_ELLIPTICITY:  # False where it is NaN
        return f"but elongated otherwise (ellipticities differ by {found.elongation:.2f})"
    # Without a width of the PSF's own, objects of one width must be many to be stars.
    known = math.isfinite(found.psf_px) or found.stars >= max(_MANY_STARS, found.fitted // 2)
    most = _OTHER_THAN_GAUSSIAN if asked.is_gaussian else _OTHER_SHAPE
    another = known and (
        found.misplaced > most + 3 * found.doubt
        or (not asked.is_gaussian and _of_other_wings(found, stars))
    )
    return "but of another shape" if another else ""


def _of_other_wings(found: PsfOnStars, stars: Sequence[FittedStar]) -> bool:
    """Whether wings differ by more than stars as few and as faint do by chance."""
    if not found.wings > _OTHER_WINGS:  # True where it is NaN
        return False
    return found.wings > _OTHER_WINGS + doubt_of_wings(stars)


def _by_half_light(frame: Frame, noise: NoiseModel, asked: AskedOptics) -> tuple[float, str]:
    """Give the width of stars over that of a PSF by the radii that hold half their light.

    NaN where too few stars are found; with both widths in words.
    """
    window = middle_of(frame.shape)
    try:
        seen = see_window(frame, window, noise, unit_of(frame, window))
    except ExposureError:
        return math.nan, ""
    assert asked.psf is not None
    stars_px = star_fwhm_px(seen)
    psf_px = psf_fwhm_px(asked.psf, asked.factor, seen)
    words = f"its stars are {stars_px:.2f} px wide (FWHM), the PSF ({asked.words}) {psf_px:.2f} px"
    return stars_px / psf_px, words
