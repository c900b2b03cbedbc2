"""Rules that say when a fit has gone far enough, and why."""

import math
from typing import Protocol

from torch import Tensor

from dip_pipeline.restoration.problem import StopReason


class StepHook(Protocol):
    """Is told of each step of a fit; for progress displays."""

    def __call__(self, step: int, steps: int, loss: Tensor) -> None:
        """Take note. The loss is a tensor: reading its number may cost a wait."""


def ignore_step(step: int, steps: int, loss: Tensor) -> None:
    """Take no note of a step."""


def halved(on_step: StepHook) -> tuple[StepHook, StepHook]:
    """Tell of two fits, one after the other, as of one that is twice as long."""

    def first(step: int, steps: int, loss: Tensor) -> None:
        on_step(step, 2 * steps, loss)

    def second(step: int, steps: int, loss: Tensor) -> None:
        on_step(steps + step, 2 * steps, loss)

    return first, second


class StoppingRule(Protocol):
    """Looks at a measure of the fit now and then; remembers which look was best.

    reason : why it stops a fit that has not diverged
    """

    reason: StopReason

    def update(self, step: int, measure: float) -> StopReason | None:
        """Take one look; return why to stop, or None to go on."""

    @property
    def best_step(self) -> int | None:
        """Step of the best look so far; None before any."""


class JudgedRisk:
    """Keep the weights of the lowest judged risk; stop when it has not fallen for a while.

    patience : looks without a new minimum before the fit is stopped
    tolerance : a later look wins if its risk is not higher by more than this share: the estimate
        scatters, and a fit whose steps shrink to nothing is best at its end
    """

    reason = StopReason.JUDGED_RISK

    def __init__(self, patience: int, tolerance: float = 0.0) -> None:
        self.patience = patience
        self.tolerance = tolerance
        self._best_risk = math.inf
        self._best_step: int | None = None
        self._looks_since = 0

    def update(self, step: int, measure: float) -> StopReason | None:
        """Stop after `patience` looks without a new minimum, or when the risk is no number."""
        if not math.isfinite(measure):
            return StopReason.DIVERGED
        excess = measure - self._best_risk
        if excess < 0 or excess < self.tolerance * abs(self._best_risk):
            self._best_risk = min(measure, self._best_risk)
            self._best_step, self._looks_since = step, 0
            return None
        self._looks_since += 1
        return self.reason if self._looks_since >= self.patience else None

    @property
    def best_step(self) -> int | None:
        """Step of the lowest risk so far."""
        return self._best_step


class VarianceValley:
    """Keep the weights of the calmest look; stop when no calmer one has come for a while.

    For noise that nobody knows. While a network learns the image its output changes much, then
    hardly, and more again once it follows the noise: the variance of the last outputs has a
    valley where it is best; Wang et al. 2021, Early Stopping for Deep Image Prior.

    patience_steps : steps without a new minimum before the fit is stopped; a second valley, where
        the optimiser comes to rest, is not waited for
    """

    reason = StopReason.RUNNING_VARIANCE

    def __init__(self, patience_steps: int) -> None:
        self.patience_steps = patience_steps
        self._least = math.inf
        self._best_step: int | None = None

    def update(self, step: int, measure: float) -> StopReason | None:
        """Take the variance at a step; one that is infinite does not count."""
        if math.isnan(measure):
            return StopReason.DIVERGED
        if measure < self._least:
            self._least, self._best_step = measure, step
        if self._best_step is None or step - self._best_step < self.patience_steps:
            return None
        return self.reason

    @property
    def best_step(self) -> int | None:
        """Step of the least variance so far; None before one counted."""
        return self._best_step


class MovingVariance:
    """Variance of each pixel over the last outputs, its mean over pixels; older ones fade.

    ES-EMV of Wang et al. 2021, there with a = 0.1 a step: for each output x, of n pixels,

        d = x - m,  m <- m + a d,  v <- (1 - a) (v + a |d|^2 / n)

    share : a
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._left = math.ceil(2 / share)  # until the start, where nothing moves, is forgotten
        self._mean: Tensor | None = None
        self._variance = 0.0

    def update(self, output: Tensor) -> float:
        """Take one output more; infinite for the first ones."""
        new = output.detach()
        if self._mean is None:
            self._mean = new.clone()
        change = new - self._mean
        self._mean += self.share * change
        spread = float((change**2).mean())
        self._variance = (1 - self.share) * (self._variance + self.share * spread)
        self._left -= 1
        return self._variance if self._left < 0 or math.isnan(spread) else math.inf


def structure_left(residual: Tensor, trusted: Tensor) -> float:
    """Correlation of neighbouring residuals: 0 where nothing but white noise is left.

    residual, trusted : (1, 1, rows, cols). Beyond 4 sigma residuals are cut: area counts, not the
    core of one star. An image that is not learned yet leaves its shapes in the residual; one that
    is followed too far leaves neighbours that differ more than chance would have it.
    """
    values = residual[trusted > 0]
    if values.numel() == 0:
        return 0.0
    limit = 4 * 1.4826 * float(values.abs().median())
    cut = residual.clamp(-limit, limit)
    cut = (cut - cut[trusted > 0].mean()) * trusted
    down, across = cut[..., 1:, :] * cut[..., :-1, :], cut[..., 1:] * cut[..., :-1]
    pairs = (trusted[..., 1:, :] * trusted[..., :-1, :]).sum() + (
        trusted[..., 1:] * trusted[..., :-1]
    ).sum()
    variance = (cut**2).sum() / trusted.sum()
    return float((down.sum() + across.sum()) / pairs.clamp(min=1) / variance.clamp(min=1e-12))
