"""Fit two networks to the same frames, each on the blocks that the other one restores."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event, Lock
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.crops import CropSource
from dip_pipeline.restoration.fit_image import fit_image_network
from dip_pipeline.restoration.fitted import Fitted
from dip_pipeline.restoration.problem import FitOptions, FitReport, StopReason
from dip_pipeline.restoration.regions import CrossFit, Region
from dip_pipeline.restoration.side_by_side import side_by_side
from dip_pipeline.restoration.stopping import StepHook


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
    """How a half is fitted; turned : whether its crops are turned, each for itself."""

    fit: NetworkFit
    turned: bool = True


def fit_halves(
    regions: Sequence[Region],
    cross_fits: Sequence[CrossFit],
    options: FitOptions,
    *,
    seed: int,
    on_step: StepHook,
    fitting: Fitting | None = None,
) -> tuple[tuple[nn.Module, ...], FitReport]:
    """Fit both networks; returns them and how it went.

    cross_fits : for each region the blocks of its frame; fitting : that of images by default
    Raises RestorationError where one half of the blocks holds no valid pixel.
    """
    both = _BothHalves(on_step)
    fitting = fitting or Fitting(fit_image_network)

    def fit_half(half: int) -> Fitted:
        shares = [
            cross_fit.share(half, region.origin, region.shape)
            for cross_fit, region in zip(cross_fits, regions, strict=True)
        ]
        rng = np.random.default_rng(np.random.SeedSequence([seed, half]))
        fit_on, judge_on = (
            CropSource(
                regions, [(share == used).float() for share in shares], rng, turned=fitting.turned
            )
            for used in (0, 1)
        )
        if fit_on.empty:
            raise RestorationError("no valid pixel in one half of the blocks: too few to fit on")
        fit_seed = int(np.random.SeedSequence([seed, half, 1]).generate_state(1)[0])
        return fitting.fit(
            fit_on, judge_on, options, seed=fit_seed, on_step=partial(both.step, half)
        )

    fits = side_by_side([partial(fit_half, half) for half in (0, 1)], both.stopped)
    reasons = [fitted.stop_reason for fitted in fits]
    reason = StopReason.DIVERGED if StopReason.DIVERGED in reasons else reasons[0]
    report = FitReport(
        steps=max(fitted.steps for fitted in fits),
        stop_reason=reason,
        risks=tuple(fitted.risk for fitted in fits),
    )
    return tuple(fitted.network.eval() for fitted in fits), report


class _BothHalves:
    """Tells of the steps of two fits as of one twice as long, and ends both when told to."""

    def __init__(self, on_step: StepHook) -> None:
        self.stopped = Event()
        self._on_step = on_step
        self._done = [0, 0]
        self._lock = Lock()

    def step(self, half: int, step: int, steps: int, loss: Tensor) -> None:
        """Count one step of a half. Raises RestorationError once the other one has failed."""
        if self.stopped.is_set():
            raise RestorationError("the fit was stopped")
        with self._lock:
            self._done[half] = step
            self._on_step(sum(self._done), 2 * steps, loss)
