"""What inpainting gives back: known pixels, filled ones, and the error of both."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from dip_pipeline.flags import PixelFlag
from dip_pipeline.restoration.delivering.delivery import Delivery
from dip_pipeline.restoration.delivering.hole_errors import (
    Hidden,
    HoleErrors,
    brightness_of,
    distance_px,
)
from dip_pipeline.restoration.forward.optics import Mask, Plane
from dip_pipeline.restoration.images.refilling import fill_again
from dip_pipeline.restoration.images.smoothing import fill_unknown
from dip_pipeline.restoration.problem import Outcome, Problem, Restored, StopReason, cut_inner
from dip_pipeline.restoration.views.regions import Region, prepare
from dip_pipeline.restoration.views.sky_scale import SkyScale
from dip_pipeline.sensor import NoiseKind

SURE_REACH_PX = 4.0  # filled pixels farther than this from any known one are low confidence
_FILLED = np.uint8(PixelFlag.FILLED)
_UNSURE = np.uint8(PixelFlag.LOW_CONFIDENCE)


def unknown_of(problem: Problem) -> Mask:
    """Pixels to fill: masked, or not finite."""
    unknown: Mask = problem.masked | ~np.isfinite(problem.pixels)
    return unknown


def filled_again(image: Tensor, region: Region) -> Tensor:
    """Fill the holes of a restored region, see `refilling`."""
    away_px = distance_px(region.known[0, 0].cpu().numpy() > 0).astype(np.float32)
    away = torch.from_numpy(away_px)[None, None].to(image.device)
    return fill_again(image, region.known, region.stars, away)


def try_hidden(
    restore: Callable[[Region], Tensor], problem: Problem, scale: SkyScale, hidden: Mask
) -> Hidden:
    """Hide known pixels of a problem, fill them, compare them with what was observed."""
    again = replace(problem, masked=problem.masked | hidden)
    region = prepare(again, scale)
    light = restore(region)
    sigma = _plane(region.noise.sigma(light))
    predicted = _plane(light + region.stars)
    observed = (problem.pixels[hidden].astype(np.float64) - scale.level) / scale.sigma
    return Hidden(
        distance_px=distance_px(again.valid)[hidden],
        brightness=brightness_of(predicted / sigma)[hidden],
        miss=np.abs(observed - predicted[hidden]) / sigma[hidden],
    )


def give_back(
    problem: Problem,
    region: Region,
    delivery: Delivery,
    planes: tuple[Plane, np.ndarray],
    holes: HoleErrors | None,
) -> tuple[Plane, Plane, np.ndarray]:
    """Science, error and flags of an inpainted region, (rows, cols) each.

    planes : science and its error as `restore` made them. Every hole is filled, however wide. Known
    pixels stay as they are where the options say so, their error being the noise of the input.
    """
    science, error = planes
    unknown = unknown_of(problem)
    alone = problem.saturated & ~unknown
    away_px = distance_px(problem.valid)
    sigma_dn = _plane(delivery.sigma) * region.scale.sigma
    flags = np.where(unknown, _FILLED, np.uint8(0))
    flags[unknown & (away_px > SURE_REACH_PX)] |= _UNSURE
    flags[alone] = PixelFlag.SATURATED
    if problem.options.keep_known:
        science = np.where(unknown, science, problem.pixels)
        error = np.where(unknown, error, _noise_of_input(problem, sigma_dn))
    error[alone] = np.nan
    if holes is None:
        error[unknown] = np.nan
    else:
        light = _plane((delivery.delivered + region.stars) / delivery.sigma)
        relative = holes.look_up(away_px[unknown], brightness_of(light)[unknown])
        # No pixel is filled better than a known one is restored.
        error[unknown] = np.maximum(relative * sigma_dn[unknown], error[unknown])
    return np.where(alone, problem.pixels, science), error.astype(np.float32), flags


def without_data(problem: Problem, scale: SkyScale, holes: HoleErrors | None) -> Restored:
    """Fill a region of which nothing is known, with the frame's sky."""
    shape = problem.pixels.shape
    sky = np.full(shape, scale.level, dtype=np.float32)
    error = np.full(shape, np.nan, dtype=np.float32)
    if holes is not None:
        far = holes.look_up(np.array([np.inf]), np.array([0.0]))[0]
        error[:] = far * scale.sigma
    flags = np.full(shape, _FILLED | _UNSURE)
    alone = problem.saturated & ~unknown_of(problem)
    flags[alone] = PixelFlag.SATURATED
    error[alone] = np.nan
    return Restored(
        cut_inner(problem, np.where(alone, problem.pixels, sky)),
        cut_inner(problem, error),
        np.ascontiguousarray(flags[problem.inner]),
        Outcome(steps=0, stop_reason=StopReason.NO_DATA),
    )


def filled_simply(problem: Problem, restored: Restored) -> Restored:
    """Fill the holes of a tile whose fit failed with a mean of what is around them."""
    unknown, valid = unknown_of(problem), problem.valid
    if not unknown.any() or not valid.any():
        return restored
    seen = np.where(valid, problem.pixels, 0.0).astype(np.float64)
    shown = torch.from_numpy(valid)[None, None].double()
    fallback = float(np.median(problem.pixels[valid]))
    filled = _plane(fill_unknown(torch.from_numpy(seen)[None, None], shown, fallback))
    science = np.where(unknown, filled, problem.pixels).astype(np.float32)
    more = np.where(unknown, _FILLED | _UNSURE, np.uint8(0))[problem.inner]
    return replace(restored, science=cut_inner(problem, science), flags=restored.flags | more)


def kept_outcome(outcome: Outcome) -> Outcome:
    """Say of known pixels that stay as they are that they have all their noise still."""
    if not np.isfinite(outcome.risk):
        return replace(outcome, chi_square=0.0, flux_change=0.0)
    return replace(outcome, risk=1.0, risk_error=0.0, chi_square=0.0, flux_change=0.0)


def _noise_of_input(problem: Problem, sigma_dn: np.ndarray) -> np.ndarray:
    """Sigma of the observation: its own error plane, or the noise law at the restored level."""
    if problem.noise.kind is NoiseKind.NONE:
        return np.full(sigma_dn.shape, np.nan)
    return (
        problem.error if problem.noise.from_error_plane and problem.error is not None else sigma_dn
    )


def _plane(values: Tensor) -> np.ndarray:
    plane: np.ndarray = values[0, 0].double().cpu().numpy()
    return plane
