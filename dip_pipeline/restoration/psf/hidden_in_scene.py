"""Stars that unknown pixels hide in part, as they are in a scene in which a PSF is undone."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.psf.shown_in_scene import TargetShape, height_in_scene, observed_stars
from dip_pipeline.restoration.stars.hidden_stars import HiddenStar, HiddenStars
from dip_pipeline.restoration.stars.star_grid import Places
from dip_pipeline.restoration.stars.star_shape import Image, Mask
from dip_pipeline.restoration.stars.star_sheet import MODEL_ERROR

_CLIPPED_PX = 2.5  # a star as near as this to a clipped pixel keeps the shape it is seen with
_FEW_PLACES = 4  # of a star that is known to be at about one
_NEXT_TO_NOTHING = 1e-9  # of a star's height


class HiddenScene(NamedTuple):
    """Hidden stars in a scene, sky sigma.

    light, error : (fine rows, fine cols); seen : (rows, cols), as the observation would show them
    """

    light: Image
    error: Image
    seen: Image


def hidden_in_scene(
    hidden: HiddenStars, saturated: Mask, optics: Optics
) -> tuple[HiddenStars, HiddenScene | None]:
    """Draw hidden stars on the grid of a scene, and take them for what it shows of them.

    saturated : (rows, cols); how much light is clipped there is not known. Where a star may be at
    many places it is their mean, and the error how far they are from it.
    None where there is no star to be drawn.
    """
    clipped_px = ndimage.distance_transform_edt(~saturated) if saturated.any() else None
    stars = [star for star in hidden.stars if not _is_clipped(star, clipped_px)]
    if not stars:
        return hidden, None
    left = hidden.light.copy()
    for star in stars:
        left[star.window] -= star.light
    sides = tuple(side * optics.factor for side in hidden.light.shape)
    light, variance, seen = np.zeros(sides), np.zeros(sides), np.zeros(hidden.light.shape)
    for sure in (True, False):
        alike = [star for star in stars if (len(star.chances) <= _FEW_PLACES) is sure]
        drawn = np.zeros(sides)
        places = [_draw(star, optics, drawn, variance) for star in alike]
        light += drawn
        # Of stars that may be at many places the mean is smooth, and its pixels say all of it.
        some = np.concatenate(places) if sure and places else None
        seen += observed_stars(some, drawn, optics)
    return hidden._replace(light=left + seen), HiddenScene(light, np.sqrt(variance), seen)


def _is_clipped(star: HiddenStar, clipped_px: Image | None) -> bool:
    """Whether the likeliest place of a star is at saturated pixels."""
    if clipped_px is None:
        return False
    place = star.places[np.argmax(star.chances), 1:]
    row, col = np.clip(np.rint(place).astype(int), 0, np.array(clipped_px.shape) - 1)
    return bool(clipped_px[row, col] <= _CLIPPED_PX)


def _draw(star: HiddenStar, optics: Optics, light: Image, variance: Image) -> Places:
    """Add a star's light, the mean of all that explains it, and its variance.

    Gives its places in the scene, each height times the chance of the place.
    """
    factor, target = optics.factor, TargetShape()
    heights = star.places[:, 0] * height_in_scene(star.shape, optics)
    places = (star.places[:, 1:] + 0.5) * factor - 0.5
    reach_px = target.radius_px(_NEXT_TO_NOTHING)
    firsts = np.maximum(np.floor(places.min(axis=0) - reach_px).astype(int), 0)
    lasts = np.minimum(np.ceil(places.max(axis=0) + reach_px).astype(int) + 1, light.shape)
    rows, cols = (
        np.arange(first, max(first, last)) for first, last in zip(firsts, lasts, strict=True)
    )
    down = rows[None, :, None] - places[:, 0, None, None]
    across = cols[None, None, :] - places[:, 1, None, None]
    values, *moved = (heights[:, None, None] * part for part in target.slopes(down, across))
    mean = np.tensordot(star.chances, values, 1)
    square = np.tensordot(star.chances, values**2, 1)
    best = int(np.argmax(star.chances))
    changes = np.stack([values[best], *(factor * part[best] for part in moved)])
    window = tuple(slice(at[0], at[0] + len(at)) if len(at) else slice(0, 0) for at in (rows, cols))
    light[window] += mean
    variance[window] += np.einsum("iab,ij,jab->ab", changes, star.covariance, changes)
    variance[window] += np.maximum(square - mean**2, 0.0)
    variance[window] += (MODEL_ERROR**2 + star.shape_error**2) * mean**2
    return np.column_stack([star.chances * heights, places])
