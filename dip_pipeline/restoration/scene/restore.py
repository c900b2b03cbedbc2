"""Restore the scene of one problem: fit if there is no prior, apply, judge, flag."""

import logging
from dataclasses import replace

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from dip_pipeline.errors import RestorationError
from dip_pipeline.flags import PixelFlag
from dip_pipeline.restoration.computing.settings import settle_computing
from dip_pipeline.restoration.delivering.inpainting import SURE_REACH_PX
from dip_pipeline.restoration.delivering.uncertainty import light_of, mean_risk
from dip_pipeline.restoration.forward.interpolation import refine
from dip_pipeline.restoration.forward.optics import Optics, fine_window, in_blocks
from dip_pipeline.restoration.images.smoothing import fill_unknown
from dip_pipeline.restoration.problem import Outcome, Problem, Restored, StopReason
from dip_pipeline.restoration.restore import REACH_PX
from dip_pipeline.restoration.scene.blunt_points import Sighting, error_of_blunt_points
from dip_pipeline.restoration.scene.delivery import SceneDelivery
from dip_pipeline.restoration.scene.pits import beside_pits
from dip_pipeline.restoration.scene.prior import ScenePrior, fit_scene_prior
from dip_pipeline.restoration.scene.saturated_light import SaturatedLight
from dip_pipeline.restoration.views.regions import Region, prepare

log = logging.getLogger(__name__)

_BESIDE_SIGMA = 0.476  # a normal error is above -1 or below +1 of these in 68.3 %


def restore_scene(problem: Problem, prior: ScenePrior | None = None) -> Restored:
    """Restore the scene of a problem with the frame's prior, or with one fitted to it alone.

    Planes come back with the inner rows and columns times the factor, in the frame's unit: with
    `summed` optics the pixels of a scene share the flux of the coarse one. A fit that fails gives
    the input back, interpolated and flagged TILE_FAILED; the outcome says why.
    """
    settle_computing(problem.threads)
    optics = problem.optics or Optics()
    diverged = StopReason.DIVERGED if optics.psf is None else StopReason.SCENE_DIVERGED
    if not problem.valid.any():
        return scene_unchanged(problem, StopReason.NO_DATA)
    if prior is None:
        try:
            prior = fit_scene_prior([problem], problem.pixels.shape, seed=problem.seed)
        except RestorationError as cause:
            log.warning("tile at %s: %s", problem.origin, cause)
            return scene_unchanged(problem, StopReason.NOT_FITTED)
    if prior.report.stop_reason is StopReason.DIVERGED:
        return scene_unchanged(problem, diverged)
    prior = prior.on(problem.device)
    region = prepare(problem, prior.scale)
    delivery = prior.deliver(region, optics, problem.options, seed=problem.seed)
    if not bool(torch.isfinite(delivery.scene).all()):
        return scene_unchanged(problem, diverged)
    shown = delivery.scene + stars_of_scene(region, optics.factor)
    science = _numbers(shown) * region.scale.sigma + region.scale.level
    relative = torch.ones_like(delivery.predictor)
    if prior.errors is not None:
        relative = prior.errors.look_up(delivery.predictor, delivery.light)
    error = _numbers(relative * delivery.fine_sigma) * region.scale.sigma
    error = _with_points(error, problem, region, delivery)
    error = _with_stars(error, problem, region, delivery.apart)
    doubted = beside_pits(science, error, problem)
    error = _where_claimed(error, problem, region, doubted)
    outcome = _outcome(problem, prior, region, delivery)
    if doubted is not None:
        outcome = replace(outcome, doubted_pixels=_count(doubted, problem))
    return _cut(problem, science, error, outcome)


def _with_stars(error: np.ndarray, problem: Problem, region: Region, apart: Tensor) -> np.ndarray:
    """Add the error of the stars that were fitted: of their heights and places in the noise.

    apart : see `SceneAnswer`; in sky sigma. The scene lies between the stars as they are fitted and
        as the networks see them. A rehearsal takes it for the truth, and cannot know.
    """
    shown = region.shown_stars
    star = region.scale.star
    if shown is None or shown.scene is None or star is None:
        return error
    # A star's height is a sum over its pixels: of noise that hangs together more is left in it.
    widening = problem.noise.correlation.passed(star.stamp()) ** 0.5
    of_fit = np.sqrt(shown.variance_in_scene(widening))
    beside = np.abs(_numbers(apart)) + _BESIDE_SIGMA * of_fit
    added: np.ndarray = np.maximum(error, np.maximum(of_fit, beside) * region.scale.sigma)
    return added


def _with_points(
    error: np.ndarray, problem: Problem, region: Region, delivery: SceneDelivery
) -> np.ndarray:
    """Add by how much faint light may be narrower than it came out; see `blunt_points`."""
    star = region.scale.star
    widening = 1.0 if star is None else problem.noise.correlation.passed(star.stamp()) ** 0.5
    sighting = Sighting(
        light=_numbers(region.observed),
        sigma=_numbers(delivery.sigma),
        known=_numbers(region.trusted) > 0,
        widening=float(widening),
    )
    optics = problem.optics or Optics()
    blunt = error_of_blunt_points(_numbers(delivery.scene), sighting, optics)
    widened: np.ndarray = np.hypot(error, blunt * region.scale.sigma)
    return widened


def _count(doubted: np.ndarray, problem: Problem) -> int:
    """Count the observation's pixels that have a doubted one of the scene in them."""
    factor = (problem.optics or Optics()).factor
    rows, cols = problem.pixels.shape
    blocks = doubted.reshape(rows, factor, cols, factor).any(axis=(1, 3))
    return int(np.count_nonzero((blocks & problem.valid)[problem.inner]))


def _where_claimed(
    error: np.ndarray, problem: Problem, region: Region, doubted: np.ndarray | None
) -> np.ndarray:
    """Give the error, NaN where none is claimed: near clipped, beside hidden light and pits.

    doubted : see `beside_pits`
    """
    if doubted is not None:
        error = np.where(doubted, np.nan, error)
    near = SaturatedLight.around(problem, region.scale.level)
    if near is not None:
        error = np.where(near.too_much, np.nan, np.hypot(error, near.light))
    if problem.optics is not None and problem.optics.psf is not None:
        hidden, blurred = region.hidden_scene, region.hidden.light
        if hidden is not None:
            blurred = blurred - hidden.seen
            error = np.hypot(error, hidden.error * region.scale.sigma)
        # What else unknown pixels hide in part keeps the shape that it is seen with.
        blurred = in_blocks(blurred, problem.optics.factor) * region.scale.sigma
        error = np.where(blurred > error, np.nan, error)
    # Of the fine pixels of one all or none: or a comb is flagged where it is about as much.
    factor = (problem.optics or Optics()).factor
    rows, cols = problem.pixels.shape
    unclaimed = np.isnan(error).reshape(rows, factor, cols, factor).any(axis=(1, 3))
    return np.where(in_blocks(unclaimed, factor), np.nan, error)


def stars_of_scene(region: Region, factor: int) -> Tensor:
    """Light of the stars that were taken off a region, in its scene."""
    shown, hidden = region.shown_stars, region.hidden_scene
    pairs = [] if hidden is None else [(hidden.seen, hidden.light)]
    if shown is not None and shown.scene is not None:
        pairs.append((shown.light, shown.scene[0]))
    left, light = region.stars, torch.zeros(())
    for pair in pairs:
        seen, drawn = (torch.from_numpy(plane)[None, None].to(region.stars) for plane in pair)
        left, light = left - seen, light.to(drawn) + drawn
    return refine(left, factor) + light.to(left)


def scene_unchanged(problem: Problem, reason: StopReason) -> Restored:
    """Give the input back on the scene's grid, flux kept, flagged, its error unknown.

    A tile without a valid pixel (the corner of a mosaic) is no failure: there was nothing to do.
    """
    empty = reason is StopReason.NO_DATA
    factor = (problem.optics or Optics()).factor
    flags = np.full(problem.pixels.shape, PixelFlag.LOW_CONFIDENCE, dtype=np.uint8)
    if not empty:
        flags[:] = PixelFlag.TILE_FAILED
    flags[problem.saturated] |= np.uint8(PixelFlag.SATURATED)
    science = np.where(
        in_blocks(np.isfinite(problem.pixels), factor), _interpolated(problem), np.nan
    )
    window = fine_window(problem.inner, problem.pixels.shape, factor)
    outcome = Outcome(steps=0, stop_reason=reason, failed=not empty)
    return Restored(
        science=_in_unit(science, problem)[window],
        error=np.full_like(science, np.nan, dtype=np.float32)[window],
        flags=np.ascontiguousarray(in_blocks(flags, factor)[window]),
        outcome=outcome,
    )


def _outcome(
    problem: Problem, prior: ScenePrior, region: Region, delivery: SceneDelivery
) -> Outcome:
    """Judge the scene by the observation: all that it can be judged by."""
    inner = torch.zeros_like(region.trusted)
    inner[(..., *problem.inner)] = region.trusted[(..., *problem.inner)]
    squares = delivery.squared_error
    if prior.errors is not None:
        light = light_of(delivery.seen, torch.zeros_like(delivery.seen), delivery.sigma)
        squares = prior.errors.complete(squares, light)
    risk, risk_error, count = mean_risk(squares, inner)
    residual = (region.observed - delivery.seen) / region.noise.judging_sigma(delivery.seen)
    change = (delivery.seen - region.observed) * region.scale.sigma
    return Outcome(
        steps=prior.report.steps,
        stop_reason=prior.report.stop_reason,
        risk=risk,
        risk_error=risk_error * problem.noise.correlation.widening,
        chi_square=float((residual[inner > 0] ** 2).mean()) if count else float("nan"),
        judged_pixels=count,
        flux_change=float(change[inner > 0].double().sum()),
    )


def _cut(problem: Problem, science: np.ndarray, error: np.ndarray, outcome: Outcome) -> Restored:
    """Leave saturated pixels alone, give up far from all that tell of others, cut.

    science, error : brightness on the scene's grid; error NaN where none is claimed
    """
    factor = (problem.optics or Optics()).factor
    known = ~problem.masked & np.isfinite(problem.pixels)
    flags = np.zeros(known.shape, dtype=np.uint8)
    distance = distance_transform_edt(~problem.valid)
    flags[~known & (distance <= REACH_PX)] |= np.uint8(PixelFlag.FILLED)
    flags[distance > SURE_REACH_PX] |= np.uint8(PixelFlag.LOW_CONFIDENCE)
    alone = problem.saturated & np.isfinite(problem.pixels)
    flags[alone] = PixelFlag.SATURATED
    science = np.where(in_blocks(distance > REACH_PX, factor), np.nan, science)
    if alone.any():
        science = np.where(in_blocks(alone, factor), in_blocks(problem.pixels, factor), science)
    unsure = in_blocks(problem.valid, factor) & np.isnan(error)
    # Nothing is claimed of a clipped value, nor of a filled one: no data say how wrong it is.
    error = np.where(in_blocks(problem.valid, factor), error, np.nan)
    fine_flags = in_blocks(flags, factor)
    fine_flags[unsure] |= np.uint8(PixelFlag.LOW_CONFIDENCE)
    window = fine_window(problem.inner, known.shape, factor)
    return Restored(
        science=_in_unit(science, problem)[window],
        error=_in_unit(error, problem)[window],
        flags=np.ascontiguousarray(fine_flags[window]),
        outcome=outcome,
    )


def _in_unit(brightness: np.ndarray, problem: Problem) -> np.ndarray:
    """Brightness, in which a fine pixel counts as much as a coarse one, in the frame's unit."""
    optics = problem.optics or Optics()
    share = optics.factor**2 if optics.summed else 1
    values: np.ndarray = np.ascontiguousarray(brightness / share, dtype=np.float32)
    return values


def _interpolated(problem: Problem) -> np.ndarray:
    """Interpolate the pixels as they are; unknown ones are filled for their neighbours' sake."""
    finite = np.isfinite(problem.pixels)
    pixels, known = (
        torch.from_numpy(plane.astype(np.float64))[None, None]
        for plane in (np.where(finite, problem.pixels, 0), finite)
    )
    return _numbers(refine(fill_unknown(pixels, known), (problem.optics or Optics()).factor))


def _numbers(planes: Tensor) -> np.ndarray:
    values: np.ndarray = planes[0, 0].double().cpu().numpy()
    return values
