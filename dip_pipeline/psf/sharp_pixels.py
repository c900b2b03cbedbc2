"""Pixels that are sharper than the PSF of a frame allows: cosmic rays and hot pixels, masked."""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.config.task_optics import AskedOptics
from dip_pipeline.exposures.light import usable_pixels
from dip_pipeline.exposures.places import middle_of
from dip_pipeline.frames import Frame, Pixels, around
from dip_pipeline.preparing.cosmics import CosmicPixels, without_cosmics
from dip_pipeline.preparing.cutting import LEVEL_PX, sigma_around
from dip_pipeline.preparing.found_pixels import FoundPixels, Mask
from dip_pipeline.preparing.star_contrast import OVER_STARS, USUAL_CONTRAST, contrast_of_light
from dip_pipeline.psf.agreement import stars_over_psf
from dip_pipeline.restoration.images.spikes import are_alone, count_both_ways, spikes_of
from dip_pipeline.restoration.psf.psf_limit import MARGIN_PX, PsfLimit, TooSharp, seen_at_places
from dip_pipeline.sensor import NoiseKind, NoiseModel
from dip_pipeline.sensor.noise_sigma import sigma_plane

log = logging.getLogger(__name__)

_WORDS = "pixels sharper or darker than the PSF allows"
_HOT = "hot pixels, sharper than light"
_MOST_SHARE = 0.03  # of a frame's pixels: more are not cosmic rays, but the PSF is another
_NARROWER = 0.87  # times as wide as the PSF: stars that are narrower may be too sharp for it
_FAR_NARROWER = 0.62  # the same of a much narrower PSF, see `TooSharp`
# Of bright sharp pixels, the share from which on dark ones tell of texture, and so many: in frames
# of rays one in sixty is dark, in photographs as many as bright.
_MOST_DARK, _FEWEST_DARK = 0.3, 10
_LEAST_STAR_PX = 1.1  # FWHM; peaks that are narrower are cosmic rays as well as stars


@dataclass(frozen=True, slots=True)
class SharpPixels(FoundPixels):
    """Pixels of another source, those masked that no light makes through a PSF.

    sharpest : those alone that a much narrower PSF would not make either; None for no too sharp one
    dark : those, too, that are darker than any sky
    """

    noise: NoiseModel
    limit: PsfLimit
    sharpest: bool | None = False
    dark: bool = False

    @property
    def margin_px(self) -> int:
        """As far as light around a pixel counts."""
        return MARGIN_PX

    def detect(self, pixels: Pixels) -> Mask:
        """Find too sharp pixels of one region."""
        look = self.look(pixels)
        masked = look.dark if self.dark else np.zeros_like(look.dark)
        if self.sharpest is not None:
            masked = masked | (look.sharpest if self.sharpest else look.found)
        return masked

    def look(self, pixels: Pixels) -> TooSharp:
        """Tell too sharp pixels from stars."""
        known = usable_pixels(pixels, self.noise)
        light = np.where(known, pixels.science, np.float32(0))
        error = pixels.error if self.noise.from_error_plane else None
        sigma = sigma_plane(self.noise, light, error).astype(np.float64)
        known &= np.isfinite(sigma) & (sigma > 0)
        return self.limit.too_sharp(light.astype(np.float64), sigma, known)


@dataclass(frozen=True, slots=True)
class HotPixels(FoundPixels):
    """Pixels of another source, those masked that are far sharper than light."""

    noise: NoiseModel

    @property
    def margin_px(self) -> int:
        """As far as a pixel's level is told."""
        return LEVEL_PX

    def detect(self, pixels: Pixels) -> Mask:
        """Find hot pixels of one region."""
        return spikes_of(*_light_and_sigma(pixels, self.noise))


def without_rays(frame: Frame, noise: NoiseModel, asked: AskedOptics) -> Frame:
    """Mask the cosmic rays of a frame that is to have finer pixels, or whose PSF is undone.

    For where nobody asked to look for them: each would become points, and holes around them.
    Nothing that stars may look like is taken for one: those of the PSF, or where none is known
    those that agree with each other. Where these are too few, hot pixels are, if there are more of
    them than of what stars narrower than a pixel are like.
    """
    if noise.kind in (NoiseKind.NONE, NoiseKind.POISSON):
        return frame  # a picture; single photons are as sharp
    middle = middle_of(frame.shape)
    light, sigma = _light_and_sigma(frame.read(*middle), noise)
    bright, dark = count_both_ways(light, sigma)
    if dark > max(_FEWEST_DARK, _MOST_DARK * bright):
        return frame  # texture
    least, unknown = 0.0, math.inf
    if asked.psf is not None:
        views = seen_at_places(asked.psf.astype(np.float64), asked.factor)
        sharpest = max(contrast_of_light(view / view.max()) for view, _ in views)
        least, unknown = OVER_STARS * sharpest, USUAL_CONTRAST
    found = without_cosmics(
        frame, noise, [middle], least_contrast=least, unknown_contrast=unknown, sure=True
    )
    source = found.source
    assert isinstance(source, CosmicPixels)
    if not math.isinf(source.contrast):
        return _told(frame, found, source, "look like cosmic rays, sharper than its stars")
    if not are_alone(light, sigma):
        return frame
    hot = HotPixels(frame.source, frame.shape, noise)
    words = f"{frame.flag_words}; {_HOT}" if frame.flag_words else _HOT
    found = replace(frame, source=hot, flag_words=words)
    return _told(frame, found, hot, "look like hot pixels, sharper than light")


def _told(frame: Frame, found: Frame, source: FoundPixels, words: str) -> Frame:
    """Say how many pixels are masked; the frame as it was where none is."""
    number = sum(np.count_nonzero(source.found(*block)) for block in source.blocks())
    if number == 0:
        return frame
    log.warning("%s: %d pixels %s: taken as masked", frame.path, number, words)
    return found


def _light_and_sigma(
    pixels: Pixels, noise: NoiseModel
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Light, NaN where it is not known, and the noise at the level around each pixel."""
    known = usable_pixels(pixels, noise)
    light = np.where(known, pixels.science, np.float32(np.nan))
    if not known.any():
        return light, np.zeros_like(light)
    error = pixels.error if noise.from_error_plane else None
    return light, sigma_around(pixels.science, known, noise, error)


def without_too_sharp(frame: Frame, noise: NoiseModel, asked: AskedOptics) -> Frame:
    """Mask pixels of a frame that are sharper than its PSF allows, and say how many.

    Where stars would be among them, as the PSF is too wide, only those are masked that cannot be
    stars; none where that cannot be told.
    """
    if asked.psf is None:
        return frame
    limit = PsfLimit.of(asked.psf, asked.factor)
    source = SharpPixels(frame.source, frame.shape, noise, limit)
    count = _Count.of(_looks(source))
    most = _MOST_SHARE * frame.shape[0] * frame.shape[1]
    source = replace(source, dark=0 < count.dark <= most)
    if source.dark:
        log.warning(
            "%s: %d pixels are darker than all sky around, by more than the PSF allows (dead?): "
            "taken as masked",
            frame.path,
            count.dark,
        )
    sharpest = _masked_ones(frame, source, count, asked, most)
    if sharpest is None and not source.dark:
        return frame
    return replace(
        frame,
        source=replace(source, sharpest=sharpest),
        flag_words=f"{frame.flag_words}; {_WORDS}" if frame.flag_words else _WORDS,
    )


def _masked_ones(
    frame: Frame, source: SharpPixels, count: "_Count", asked: AskedOptics, most: float
) -> bool | None:
    """Say which of the too sharp pixels are masked, as `SharpPixels.sharpest`, and warn of them."""
    if count.found == 0:
        return None
    noise = source.noise
    masked = replace(frame, source=replace(source, sharpest=True))
    if count.found > most or _far_too_wide(frame, noise, asked):
        log.warning(
            "%s: %d pixels are sharper than the PSF (%s) allows, too many for cosmic rays: the PSF "
            "is too wide, or the noise is not what its law says; nothing is masked for that, give "
            "the PSF of this frame",
            frame.path,
            count.found,
            asked.words,
        )
        return None
    ratio, _ = stars_over_psf(masked, noise, asked)
    # Without stars to measure, those that a narrower PSF would allow must not be the most.
    right = ratio >= _NARROWER or (np.isnan(ratio) and 2 * count.allowed <= count.peaks)
    number = count.found if right else count.sharpest
    if number == 0:
        return None
    log.warning(
        "%s: %d pixels are sharper than the PSF allows (cosmic rays?): taken as masked",
        frame.path,
        number,
    )
    return not right


def _far_too_wide(frame: Frame, noise: NoiseModel, asked: AskedOptics) -> bool:
    """Whether stars are so narrow beside a PSF that they cannot be told from cosmic rays."""
    ratio, star_px = stars_over_psf(frame, noise, asked)
    return ratio < _FAR_NARROWER and star_px > _LEAST_STAR_PX


@dataclass(frozen=True, slots=True)
class _Count:
    """Too sharp pixels of a frame: all, those that a much narrower PSF would not allow either.

    peaks : of what shines, that are too sharp; allowed : of them, by a much narrower PSF
    dark : darker than all sky
    """

    found: int
    sharpest: int
    peaks: int
    allowed: int
    dark: int

    @classmethod
    def of(cls, looks: Iterable[TooSharp]) -> "_Count":
        counts = [
            [
                np.count_nonzero(plane)
                for plane in (
                    look.found,
                    look.sharpest,
                    look.found & look.peaks,
                    look.found & look.peaks & ~look.sharpest,
                    look.dark,
                )
            ]
            for look in looks
        ]
        return cls(*(int(total) for total in np.sum(counts, axis=0)))


def _looks(source: SharpPixels) -> Iterable[TooSharp]:
    """Look at all of a frame, block by block."""
    for rows, cols in source.blocks():
        wide, inner = around(rows, cols, source.shape, source.margin_px)
        yield source.look(source.inner.read(*wide)).cut(inner)
