"""Fit networks to the same frames, each on blocks that others restore."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event, Lock
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.computing.side_by_side import side_by_side
from dip_pipeline.restoration.fits.fit_image import fit_image_network
from dip_pipeline.restoration.fits.fitted import Fitted
from dip_pipeline.restoration.fits.stacked import Half, fit_all, seed_of, stacks_pay
from dip_pipeline.restoration.fits.stopping import StepHook
from dip_pipeline.restoration.images.blocks import CrossFit
from dip_pipeline.restoration.problem import FitOptions, FitReport, StopReason
from dip_pipeline.restoration.views.crops import CropSource
from dip_pipeline.restoration.views.regions import Region


class NetworkFit(Protocol):
    """Fits one network on some crops, judged on others."""

    def __call__(
        self,
        fit_on: CropSource,
        judge_on: CropSource,
        options: FitOptions,
        *,
        seed: int,
        on_step: StepHook,
    ) -> Fitted:
        """Fit it."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """How a network is fitted.

    turned, fills_edges : see `CropSource`
    """

    fit: NetworkFit
    turned: bool = True
    fills_edges: bool = True


def fit_folds(
    regions: Sequence[Region],
    cross_fits: Sequence[CrossFit],
    options: FitOptions,
    *,
    seed: int,
    on_step: StepHook,
    fitting: Fitting | None = None,
) -> tuple[tuple[nn.Module, ...], FitReport]:
    """Fit all networks; returns them and how it went.

    cross_fits : for each region the blocks of its frame, of as many folds; fitting : that of
        images by default
    Raises RestorationError where there is no valid pixel among the blocks of a network.
    """
    folds = range(cross_fits[0].folds)
    together = _Together(on_step, len(folds))
    fitting = fitting or Fitting(fit_image_network)

    half = partial(half_of, regions, cross_fits, seed=seed, fitting=fitting)

    def fit_one(fold: int) -> Fitted:
        one, told = half(fold), partial(together.step, fold)
        return fitting.fit(one.fit_on, one.judge_on, options, seed=one.seed, on_step=told)

    if stacks_pay(regions[0].observed.device, options) and fitting.fit is fit_image_network:
        fits = fit_all([half(fold) for fold in folds], options, fit_one, on_step)
    else:
        fits = side_by_side([partial(fit_one, fold) for fold in folds], together.stopped)
    reasons = [fitted.stop_reason for fitted in fits]
    reason = StopReason.DIVERGED if StopReason.DIVERGED in reasons else reasons[0]
    report = FitReport(
        steps=max(fitted.steps for fitted in fits),
        stop_reason=reason,
        risks=tuple(fitted.risk for fitted in fits),
    )
    return tuple(fitted.network.eval() for fitted in fits), report


def half_of(
    regions: Sequence[Region],
    cross_fits: Sequence[CrossFit],
    fold: int,
    *,
    seed: int,
    fitting: Fitting | None = None,
) -> Half:
    """Find the crops that the network of a fold is fitted and judged on.

    Regions whose stars were taken off are fitted on with these left in, too: so the networks know
    what to do with a star that no model fits, and learn from more light.
    Raises RestorationError where there is no valid pixel among its blocks.
    """
    starry = [number for number, region in enumerate(regions) if region.shown_stars is not None]
    regions = [*regions, *(regions[number].with_shown_stars() for number in starry)]
    cross_fits = [*cross_fits, *(cross_fits[number] for number in starry)]
    shares = [
        cross_fit.share(fold, region.origin, region.shape)
        for cross_fit, region in zip(cross_fits, regions, strict=True)
    ]
    rng = np.random.default_rng(np.random.SeedSequence([seed, fold]))
    asked = fitting or Fitting(fit_image_network)
    fit_on, judge_on = (
        CropSource(
            regions,
            [(share == used).float() for share in shares],
            rng,
            turned=asked.turned,
            fills_edges=asked.fills_edges,
        )
        for used in (0, 1)
    )
    if fit_on.empty:
        raise RestorationError("no valid pixel in the blocks of one network: too few to fit on")
    return Half(seed_of([seed, fold, 1]), fit_on, judge_on)


class _Together:
    """Tells of the steps of several fits as of one long one, and ends all when told to."""

    def __init__(self, on_step: StepHook, fits: int) -> None:
        self.stopped = Event()
        self._on_step = on_step
        self._done = [0] * fits
        self._lock = Lock()

    def step(self, fit: int, step: int, steps: int, loss: Tensor) -> None:
        """Count one step of a fit. Raises RestorationError once another one has failed."""
        if self.stopped.is_set():
            raise RestorationError("the fit was stopped")
        with self._lock:
            self._done[fit] = step
            self._on_step(sum(self._done), len(self._done) * steps, loss)
