"""Blunt points: faint light that the scene shows wider than it has to be.

Networks leave a star that hardly stands out of the noise as wide as they are unsure of it. A
rehearsal takes what they say for the truth, and finds it again. But where one point through the
PSF explains what is observed, a point it may be: the scene errs by as much as it is unlike one.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from scipy import ndimage

from dip_pipeline.restoration.forward.gaussian_psf import FWHM_OF_SIGMA
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.forward.scene_optics import scene_optics
from dip_pipeline.restoration.forward.target_star import TARGET_SIGMA_PX

Image = NDArray[np.float64]

_SURE = 5.0  # of the noise of a point's flux: fainter ones are not told from noise
_STAMP_FWHM, _REACH_FWHM = 1.2, 0.8  # half sides, of what is fitted and of what may be wrong
_EXPLAINED = 2.0  # standard deviations of the mean square, that a point may leave above noise
_APART_PX = 7  # pixels of the observation: of peaks closer together the highest counts


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is seen of a region without its fitted stars; (rows, cols), in units of sky sigma.

    light : observed; sigma : its noise; known : True where it is
    widening : how much more sums over a star scatter than of white noise
    """

    light: Image
    sigma: Image
    known: NDArray[np.bool_]
    widening: float = 1.0


def error_of_blunt_points(scene: Image, sighting: Sighting, optics: Optics) -> Image:
    """Give how much a scene is unlike the points that would explain what is seen, sky sigma.

    scene : (fine rows, fine cols), its fitted stars taken off
    Together with how badly the heights and places of such points are known; 0 elsewhere.
    """
    error = np.zeros_like(scene)
    if optics.psf is None:
        return error
    fwhm_px = 2 * (np.count_nonzero(optics.psf > optics.psf.max() / 2) / np.pi) ** 0.5
    fwhm_px /= optics.factor
    reach = max(2, int(np.ceil(_STAMP_FWHM * fwhm_px)))
    rows, cols = sighting.light.shape
    if min(rows, cols) < 2 * reach + 1 or not sighting.known.any():
        return error
    flux, flux_sigma = _fluxes(sighting, _point(optics, reach, (0.0, 0.0))[0])
    peaks = (flux > _SURE * flux_sigma) & (flux == ndimage.maximum_filter(flux, _APART_PX))
    for row, col in np.argwhere(peaks[reach:-reach, reach:-reach]) + reach:
        window = (slice(row - reach, row + reach + 1), slice(col - reach, col + reach + 1))
        if not sighting.known[window].all():
            continue
        place = _between(flux, row, col)
        seen, drawn = _point(optics, reach, place)
        height, sky, explained = _fitted(sighting, window, seen)
        if not explained:
            continue
        factor = optics.factor
        fine = tuple(slice(part.start * factor, part.stop * factor) for part in window)
        share = flux_sigma[row, col] / flux[row, col]
        apart_px = _distance(optics, reach, place)
        place_px = factor * fwhm_px / FWHM_OF_SIGMA * 2**0.5 * share
        unknown = np.hypot(share, apart_px / TARGET_SIGMA_PX**2 * place_px) * height * drawn
        unlike = np.hypot(scene[fine] - sky - height * drawn, unknown)
        unlike[apart_px > _REACH_FWHM * fwhm_px * factor] = 0.0
        error[fine] = np.maximum(error[fine], unlike)
    return error


def _fluxes(sighting: Sighting, stamp: Image) -> tuple[Image, Image]:
    """Flux of a point at each pixel, above an even sky, and its noise."""
    shape = stamp - stamp.mean()
    power = float((shape**2).sum())
    light = np.where(sighting.known, sighting.light, np.median(sighting.light[sighting.known]))
    planes = torch.from_numpy(np.ascontiguousarray(light))[None, None]
    kernel = torch.from_numpy(shape)[None, None]
    flux: Image = nnf.conv2d(planes, kernel, padding=stamp.shape[0] // 2)[0, 0].numpy() / power
    return flux, sighting.sigma * sighting.widening / power**0.5


def _between(flux: Image, row: int, col: int) -> tuple[float, float]:
    """Where between pixels the flux is highest, from a peak of it: of a parabola each axis."""
    lines = flux[row - 1 : row + 2, col], flux[row, col - 1 : col + 2]
    down, across = (
        float(0.5 * (low - high) / min(low - 2 * top + high, -1e-12)) for low, top, high in lines
    )
    return float(np.clip(down, -0.5, 0.5)), float(np.clip(across, -0.5, 0.5))


def _distance(optics: Optics, reach: int, place: tuple[float, float]) -> Image:
    """How far fine pixels of a stamp are from a place off its middle, fine pixels."""
    factor = optics.factor
    steps = np.arange((2 * reach + 1) * factor)
    down, across = (steps - ((reach + at + 0.5) * factor - 0.5) for at in place)
    apart: Image = np.hypot(down[:, None], across[None, :])
    return apart


def _point(optics: Optics, reach: int, place: tuple[float, float]) -> tuple[Image, Image]:
    """Draw a point of flux 1, pixels of the observation: as it is seen, and in the scene.

    By the scene's own operator: `observed_stars` is nearer by 1.4 % of the peak at most where a PSF
    may be undone, which is no matter for faint points, and takes five times as long for each.
    """
    apart_px = _distance(optics, reach, place)
    drawn: Image = np.exp(-0.5 * (apart_px / TARGET_SIGMA_PX) ** 2)
    drawn *= optics.factor**2 / (2 * np.pi * TARGET_SIGMA_PX**2)
    # Room for all that the PSF brings, whatever happens at borders.
    assert optics.psf is not None
    room = max(optics.psf.shape) // 2 // optics.factor + 1
    wide = torch.from_numpy(np.pad(drawn, room * optics.factor)).float()[None, None]
    seen = scene_optics(optics).observe(wide)[0, 0, room:-room, room:-room].double().numpy()
    return seen, drawn


def _fitted(
    sighting: Sighting, window: tuple[slice, slice], seen: Image
) -> tuple[float, float, bool]:
    """Fit a point on an even sky to a window: flux, sky, and whether they explain what is seen."""
    light, sigma = sighting.light[window], sighting.sigma[window]
    shape = seen - seen.mean()
    flux = float((shape * light).sum() / (shape**2).sum())
    sky = float((light - flux * seen).mean())
    left = float((((light - sky - flux * seen) / sigma) ** 2).mean())
    return flux, sky, flux > 0 and left < 1 + _EXPLAINED * (2 / light.size) ** 0.5
