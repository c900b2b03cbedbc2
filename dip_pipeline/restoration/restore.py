"""Restore one problem: fit if there is no prior, apply, judge, flag."""

import logging

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from dip_pipeline.errors import RestorationError
from dip_pipeline.flags import PixelFlag
from dip_pipeline.restoration.computing.settings import settle_computing
from dip_pipeline.restoration.delivering.delivery import Delivery
from dip_pipeline.restoration.delivering.inpainting import (
    SURE_REACH_PX,
    filled_simply,
    give_back,
    kept_outcome,
    without_data,
)
from dip_pipeline.restoration.delivering.uncertainty import light_of, mean_risk
from dip_pipeline.restoration.forward.optics import Plane
from dip_pipeline.restoration.priors.prior import Prior
from dip_pipeline.restoration.priors.prior_fit import fit_prior
from dip_pipeline.restoration.problem import (
    Outcome,
    Problem,
    Restored,
    StopReason,
    cut_inner,
)
from dip_pipeline.restoration.views.regions import Region, prepare
from dip_pipeline.task import Task

log = logging.getLogger(__name__)

REACH_PX = 16.0  # beyond this there is nothing to fill from: the pixel stays unknown
_DOUBT = 0.2  # of the light of a star whose shape is not known


def restore(problem: Problem, prior: Prior | None = None) -> Restored:
    """Restore a problem with the frame's prior, or with one fitted to the problem itself.

    A fit that fails gives the input back, flagged TILE_FAILED; the outcome says why.
    """
    settle_computing(problem.threads)
    inpainted = problem.options.task is Task.INPAINT
    if not problem.valid.any():
        if inpainted and prior is not None:
            return without_data(problem, prior.scale, prior.holes)
        return unchanged(problem, StopReason.NO_DATA)
    if prior is None:
        try:
            prior = fit_prior([problem], problem.pixels.shape, seed=problem.seed)
        except RestorationError as cause:
            log.warning("tile at %s: %s", problem.origin, cause)
            return unchanged(problem, StopReason.NOT_FITTED)
    if prior.report.stop_reason is StopReason.DIVERGED:
        return unchanged(problem, StopReason.DIVERGED)
    prior = prior.on(problem.device)
    region = prepare(problem, prior.scale)
    delivery = prior.deliver(region, problem.options, seed=problem.seed)
    if not bool(torch.isfinite(delivery.delivered).all()):
        return unchanged(problem, StopReason.DIVERGED)
    science = _in_frame_unit(delivery.delivered, region)
    relative, squares = _errors_of(prior, delivery, region)
    error = (relative * delivery.sigma)[0, 0].double().cpu().numpy() * region.scale.sigma
    if inpainted:
        planes = give_back(problem, region, delivery, (science, error), prior.holes)
    else:
        science, flags = _flagged(problem, science)
        planes = science, _error_plane(problem, error), flags
    planes = planes[0], _with_hidden(planes[1], planes[0], region), planes[2]
    planes = _with_kept(problem, planes, region)
    inner = torch.zeros_like(region.trusted)
    inner[(..., *problem.inner)] = region.trusted[(..., *problem.inner)]
    risk, risk_error, count = mean_risk(squares, inner)
    risk_error *= problem.noise.correlation.widening
    sigma = region.noise.judging_sigma(delivery.delivered)
    residual = (region.observed - delivery.delivered) / sigma
    change = (delivery.delivered - region.observed) * region.scale.sigma
    outcome = Outcome(
        steps=prior.report.steps,
        stop_reason=prior.report.stop_reason,
        risk=risk if prior.errors is not None else float("nan"),
        risk_error=risk_error if prior.errors is not None else float("nan"),
        chi_square=float((residual[inner > 0] ** 2).mean()) if count else float("nan"),
        judged_pixels=count,
        flux_change=float(change[inner > 0].double().sum()),
        kept_pixels=0 if problem.kept is None else int(problem.kept[problem.inner].sum()),
    )
    return Restored(
        science=cut_inner(problem, planes[0]),
        error=cut_inner(problem, planes[1]),
        flags=np.ascontiguousarray(planes[2][problem.inner]),
        outcome=kept_outcome(outcome) if problem.options.keep_known else outcome,
    )


def _errors_of(prior: Prior, delivery: Delivery, region: Region) -> tuple[Tensor, Tensor]:
    """Error of each pixel, and what is known of its square alone; in sigma, planes as delivered."""
    if prior.errors is None:
        return torch.full_like(delivery.predictor, float("nan")), delivery.squared_error
    light = light_of(delivery.delivered, region.stars, delivery.sigma)
    relative = prior.errors.look_up(delivery.predictor, light)
    return relative, prior.errors.complete(delivery.squared_error, light)


def _with_hidden(error: Plane, science: Plane, region: Region) -> Plane:
    """Add the error of hidden light.

    Of a star in doubt it is what the filled pixels lack of it, and a share of it all: its shape is
    not known.
    """
    scale, hidden = region.scale, region.hidden
    light = (science.astype(np.float64) - scale.level) / scale.sigma
    lacking = np.where(hidden.doubted > 0, np.maximum(hidden.doubted - light, 0.0), 0.0)
    lacking = np.hypot(lacking, _DOUBT * hidden.doubted)
    with_hidden: Plane = np.hypot(error, scale.sigma * np.hypot(hidden.error, lacking))
    return with_hidden.astype(np.float32)


def _with_kept(
    problem: Problem, planes: tuple[Plane, Plane, NDArray[np.uint8]], region: Region
) -> tuple[Plane, Plane, NDArray[np.uint8]]:
    """Give pixels back that are kept, with the noise they have."""
    kept, own = problem.kept, problem.error
    if kept is None:
        return planes
    science, error, flags = planes
    if own is None:
        light = (problem.pixels.astype(np.float64) - region.scale.level) / region.scale.sigma
        level = torch.from_numpy(light)[None, None].to(region.observed.device)
        sigma = region.noise.sigma(level)[0, 0].double().cpu().numpy() * region.scale.sigma
        own = sigma.astype(np.float32)
    return (
        np.where(kept, problem.pixels, science),
        np.where(kept, own, error),
        np.where(kept, np.uint8(0), flags),
    )


def unchanged(problem: Problem, reason: StopReason) -> Restored:
    """Give the input back, flagged, its error unknown.

    A tile without a valid pixel (the corner of a mosaic) is no failure: there was nothing to do.
    """
    empty = reason is StopReason.NO_DATA
    flag = PixelFlag.LOW_CONFIDENCE if empty else PixelFlag.TILE_FAILED
    flags = np.full(problem.pixels.shape, flag, dtype=np.uint8)
    flags[problem.saturated] |= np.uint8(PixelFlag.SATURATED)
    restored = Restored(
        science=cut_inner(problem, problem.pixels),
        error=cut_inner(problem, np.full(problem.pixels.shape, np.nan, dtype=np.float32)),
        flags=np.ascontiguousarray(flags[problem.inner]),
        outcome=Outcome(steps=0, stop_reason=reason, failed=not empty),
    )
    return filled_simply(problem, restored) if problem.options.task is Task.INPAINT else restored


def _in_frame_unit(delivered: Tensor, region: Region) -> np.ndarray:
    values = (delivered + region.stars)[0, 0].double().cpu().numpy()
    science: np.ndarray = (values * region.scale.sigma + region.scale.level).astype(np.float32)
    return science


def _flagged(problem: Problem, science: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave saturated pixels alone, give up far from all that tell of others, say so."""
    known = ~problem.masked & np.isfinite(problem.pixels)
    flags = np.zeros(science.shape, dtype=np.uint8)
    told = problem.valid
    if problem.twin is not None:  # other exposures tell of what this one does not
        told = told | np.isfinite(problem.twin.pixels)
    distance = distance_transform_edt(~told)
    filled = ~known & (distance <= REACH_PX)
    flags[filled] |= np.uint8(PixelFlag.FILLED)
    flags[distance > SURE_REACH_PX] |= np.uint8(PixelFlag.LOW_CONFIDENCE)
    alone = problem.saturated & np.isfinite(problem.pixels)
    flags[alone] = PixelFlag.SATURATED
    science = np.where(distance > REACH_PX, np.float32(np.nan), science)
    return np.where(alone, problem.pixels, science), flags


def _error_plane(problem: Problem, error: np.ndarray) -> np.ndarray:
    plane = error.astype(np.float32)
    # Nothing is claimed of a clipped value, nor of a filled one: no data say how wrong it is.
    plane[~problem.valid] = np.nan
    return plane
