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


class StoppingRule(Protocol):
    """Looks at the judged risk now and then; remembers which look was best."""

    def update(self, step: int, risk: float) -> StopReason | None:
        """Take one look; return why to stop, or None to go on."""

    @property
    def best_step(self) -> int | None:
        """Step of the best look so far; None before any."""


class FixedSteps:
    """Go on to the end; the last weights count. For fits that nothing can judge."""

    def __init__(self) -> None:
        self._last: int | None = None

    def update(self, step: int, risk: float) -> StopReason | None:
        """Stop only where the loss is no longer a number."""
        self._last = step
        return None if math.isfinite(risk) else StopReason.DIVERGED

    @property
    def best_step(self) -> int | None:
        """The last step looked at."""
        return self._last


class JudgedRisk:
    """Keep the weights of the lowest judged risk; stop when it has not fallen for a while.

    patience : looks without a new minimum before the fit is stopped
    tolerance : a later look wins if its risk is not higher by more than this share: the estimate
        scatters, and a fit whose steps shrink to nothing is best at its end
    """

    def __init__(self, patience: int, tolerance: float = 0.0) -> None:
        self.patience = patience
        self.tolerance = tolerance
        self._best_risk = math.inf
        self._best_step: int | None = None
        self._looks_since = 0

    def update(self, step: int, risk: float) -> StopReason | None:
        """Stop after `patience` looks without a new minimum, or when the risk is no number."""
        if not math.isfinite(risk):
            return StopReason.DIVERGED
        if risk < self._best_risk or risk - self._best_risk < self.tolerance * abs(self._best_risk):
            self._best_risk = min(risk, self._best_risk)
            self._best_step, self._looks_since = step, 0
            return None
        self._looks_since += 1
        return StopReason.JUDGED_RISK if self._looks_since >= self.patience else None

    @property
    def best_step(self) -> int | None:
        """Step of the lowest risk so far."""
        return self._best_step
