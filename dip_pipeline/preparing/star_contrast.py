"""How sharp stars are by the measure of L.A.Cosmic, so that they are not taken for cosmic rays.

It calls a pixel a ray whose Laplacian is so many times its fine structure, `objlim`: of a star of
2.5 px (FWHM) it is 0.6 times, of one of 1.5 px twice, of one of 0.9 px eight times. Which stars a
frame has is only believed where much of what is bright and alone agrees on it: rays are sharp, each
in its own way.
"""

import logging
import math
from collections.abc import Sequence

import numpy as np
from astroscrappy import utils
from numpy.typing import NDArray

from dip_pipeline.frames import Frame
from dip_pipeline.restoration.psf.psf_on_stars import stars_of_one_shape
from dip_pipeline.restoration.stars.star_shape import (
    AS_GAUSSIANS,
    FittedStar,
    StarShape,
    fit_bright_stars,
    stars_of_each,
)
from dip_pipeline.sensor import NoiseKind, NoiseModel
from dip_pipeline.sensor.noise_sigma import sigma_plane

log = logging.getLogger(__name__)

USUAL_CONTRAST = 5.0
_LEAST_CONTRAST = 0.7
_NARROWER = 0.75  # times as wide as most stars of a field are some of them
OVER_STARS = 1.7  # noise, and holes beside them, make some sharper than they are
# Of what is bright and alone, that agrees: with rays among it, and without most of these.
_FEWEST_SHARP, _FEWEST, _LEAST_SHARE = 12, 4, 0.4
_LARGEST_ELLIPTICITY = 0.5  # pieces of a spectrum agree, too
_CELL_PX, _PLACES = 31, 5  # of stars that are drawn, each in another place of its pixel
_HEIGHT, _COUNTS = 1000.0, 0.02  # of the height: fainter pixels of a star are left out
_LEAST_STRUCTURE = 0.01  # as L.A.Cosmic has it


def contrast_over_stars(
    frame: Frame,
    calm: Frame,
    noise: NoiseModel,
    places: Sequence[tuple[slice, slice]],
    *,
    unknown: float = USUAL_CONTRAST,
) -> float:
    """Give the contrast from which on pixels of a frame are rays, not its stars.

    calm : the same, masked where the usual contrast finds rays, as it may very sharp stars
    places : rows and columns of the windows whose stars are looked at
    unknown : what it is where too few stars tell, and at most where a few do; infinite: nothing
        is a ray then, nor where stars are as sharp
    """
    if noise.kind is NoiseKind.NONE or not places:
        return unknown
    sharp = _shape_of_stars(frame, noise, places, _FEWEST_SHARP)
    if sharp is not None and (over := OVER_STARS * contrast_of(sharp)) > USUAL_CONTRAST:
        if math.isinf(unknown):
            return unknown
        log.warning(
            "%s: its stars are %.2f px wide (FWHM), nearly as sharp as cosmic rays: only what is "
            "sharper still is taken for these (objlim %.1f), and tracks may stay",
            frame.path,
            sharp.fwhm_px,
            over,
        )
        return over
    fewest = _FEWEST_SHARP if math.isinf(unknown) else _FEWEST
    shape = sharp or _shape_of_stars(calm, noise, places, fewest)
    if shape is None:
        return unknown
    over = OVER_STARS * contrast_of(shape.widened(_NARROWER))
    return min(max(over, _LEAST_CONTRAST), unknown)


def _shape_of_stars(
    frame: Frame, noise: NoiseModel, places: Sequence[tuple[slice, slice]], fewest: int
) -> StarShape | None:
    """Find the shape on which enough of what is bright and alone agrees; None where too little."""
    most = stars_of_each(len(places))
    fitted = [star for place in places for star in _stars_of(frame, noise, place, most)]
    found = stars_of_one_shape(fitted)
    if found is None or len(found[1]) < max(fewest, _LEAST_SHARE * len(fitted)):
        return None
    return found[0] if found[0].ellipticity < _LARGEST_ELLIPTICITY else None


def _stars_of(
    frame: Frame, noise: NoiseModel, place: tuple[slice, slice], most: int
) -> list[FittedStar]:
    """Fit the bright lonely stars of a window."""
    pixels = frame.read(*place)
    known = ~pixels.masked & np.isfinite(pixels.science)
    if pixels.saturated is not None:
        known &= ~pixels.saturated
    if noise.sensor.saturation_dn is not None:
        known &= pixels.science < noise.sensor.saturation_dn.value
    light = np.where(known, pixels.science, np.float32(0))
    sigma = sigma_plane(noise, light, pixels.error if noise.from_error_plane else None)
    known &= np.isfinite(sigma) & (sigma > 0)
    if not known.any():
        return []
    level, unit = (float(np.median(plane[known])) for plane in (pixels.science, sigma))
    above = (np.where(known, light, level).astype(np.float64) - level) / unit
    doubt = np.where(known, sigma, unit).astype(np.float64) / unit
    return fit_bright_stars(above, doubt, known, most=most, most_beta=AS_GAUSSIANS)


def contrast_of(shape: StarShape) -> float:
    """Give the largest contrast of a bright star's pixels, wherever in a pixel it lies."""
    offsets = np.arange(_CELL_PX) - _CELL_PX // 2
    shifts = np.linspace(-0.5, 0.5, _PLACES)
    lines = (offsets[None, :] - shifts[:, None]).ravel()
    return contrast_of_light(shape.at(lines[:, None], lines[None, :]))


def contrast_of_light(stars: NDArray[np.float64]) -> float:
    """Give the same of stars without a sky as pixels show them, the brightest one's height 1."""
    light: NDArray[np.float32] = (_HEIGHT * stars).astype(np.float32)
    sharp = utils.rebin(np.maximum(utils.laplaceconvolve(utils.subsample(light)), 0.0)) / 2
    sharp = sharp - utils.medfilt5(sharp)
    structure = utils.medfilt3(light)
    structure = np.maximum(structure - utils.medfilt7(structure), _LEAST_STRUCTURE)
    return float((sharp / structure)[light > _COUNTS * _HEIGHT].max())
