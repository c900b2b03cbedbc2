"""Stars that an observation shows well, as they are in its scene."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.forward.scene_optics import scene_optics
from dip_pipeline.restoration.forward.target_star import TARGET_FWHM_PX, TARGET_SIGMA_PX
from dip_pipeline.restoration.psf.psf_shape import PsfShape
from dip_pipeline.restoration.stars.shown_stars import REACH_PX, ShownStars
from dip_pipeline.restoration.stars.star_grid import Places, Shape, StarGrid
from dip_pipeline.restoration.stars.star_shape import Image, StarShape


@dataclass(frozen=True, slots=True)
class TargetShape:
    """What a scene's star looks like where a PSF is undone: a Gaussian, at pixels' middles."""

    sigma_px: float = TARGET_SIGMA_PX

    def at(self, rows_px: Image, cols_px: Image) -> Image:
        """Brightness at offsets from the star; they broadcast."""
        values: Image = np.exp(-0.5 * (rows_px**2 + cols_px**2) / self.sigma_px**2)
        return values

    def slopes(self, rows_px: Image, cols_px: Image) -> tuple[Image, Image, Image]:
        """Give `at`, and how it changes as the star moves down its rows and along its columns."""
        light = self.at(rows_px, cols_px)
        return light, light * rows_px / self.sigma_px**2, light * cols_px / self.sigma_px**2

    def radius_px(self, share: float) -> float:
        """Radius within which it is above a share of its height."""
        return self.sigma_px * float(np.sqrt(-2 * np.log(min(max(share, 1e-12), 1.0))))


def in_scene(shown: ShownStars, shape: StarShape, optics: Optics) -> ShownStars:
    """Draw stars on the grid of a scene, and take them for what the scene shows of them.

    shape : the stars', on the observation
    """
    factor = optics.factor
    rows, cols = shown.light.shape
    finer: Shape = shape.widened(factor)
    # Without a PSF they stay as they are seen.
    height, doubts, unseen = 1.0, np.zeros_like(shown.doubts), shown.unseen
    if optics.psf is not None:
        height, finer = height_in_scene(shape, optics), TargetShape()
        doubts, unseen = (
            _sharpened(share, shape, factor) for share in (shown.doubts, shown.unseen)
        )
    places = shown.places.copy()
    places[:, 0] *= height
    places[:, 1:] = (places[:, 1:] + 0.5) * factor - 0.5
    grid = StarGrid((rows * factor, cols * factor), finer)
    drawn = grid.drawn(places)
    changes = grid.changes(places, REACH_PX * factor)
    # Of a star's change by one pixel of the observation, in those of the scene.
    scales = np.tile([1.0, factor, factor], len(places))
    changes = changes.multiply(scales[None, :]).tocsr()
    light = observed_stars(places, drawn, optics)
    return replace(shown, light=light, doubts=doubts, unseen=unseen, scene=(drawn, changes))


def _sharpened(doubts: Image, shape: StarShape, factor: int) -> Image:
    """Give the share of stars' light that is in doubt in a scene where they are narrower.

    Two stars s apart, or one wider than others by as much, differ from one star of a width w by
    (s / w)^2 of its light: the narrower it is, the more. At most all of it is in doubt.
    """
    times = max(1.0, shape.fwhm_px * factor / TARGET_FWHM_PX) ** 2
    sharpened: Image = np.minimum(times * doubts, 1.0)
    return sharpened


def height_in_scene(shape: StarShape, optics: Optics) -> float:
    """Height of a star in a scene where a PSF is undone, whose height is 1 in the observation.

    As much light as the PSF holds, factor^2 times the observation's for its finer pixels.
    """
    assert optics.psf is not None
    light = float(shape.stamp(min(optics.psf.shape) // 2 // optics.factor).sum())
    return light * optics.factor**2 / (2 * np.pi * TARGET_SIGMA_PX**2)


def observed_stars(places: Places | None, drawn: Image, optics: Optics) -> Image:
    """Give what the observation shows of stars that are drawn in a scene, (rows, cols).

    places : (stars, 3), height, row and col in the scene, None where they are not known
    drawn : all of them
    A star of the scene is hardly sampled, and one seen through a narrow PSF is not: no kernel
    takes the one to the other wherever they lie in a pixel. So the PSF itself shows them.
    """
    shape = None if optics.psf is None or places is None else PsfShape.of(optics.psf)
    if shape is None or places is None:
        return _observed(drawn, optics)
    fluxes = places[:, 0] * 2 * np.pi * TARGET_SIGMA_PX**2
    light = shape.drawn(drawn.shape, np.column_stack([fluxes, places[:, 1:]]))
    return _observed(light, replace(optics, psf=None))


def _observed(scene: Image, optics: Optics) -> Image:
    seen: Image = scene_optics(optics).observe(torch.from_numpy(scene)[None, None])[0, 0].numpy()
    return seen
