"""How work goes on, for whoever listens: the command line, or nobody."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)


class Progress(Protocol):
    """Is told how a frame goes on."""

    def frame_started(self, source: str, tiles: int, found_done: int) -> None:
        """Tell how many tiles there are, and how many an earlier run has done."""

    def fit_started(self, target: str, frames: int) -> None:
        """Tell that a prior of several frames is fitted."""

    def fit_step(self, step: int, steps: int, risk: float) -> None:
        """Tell of the fit of a prior; risk is the loss."""

    def tile_done(self, record: Mapping[str, object]) -> None:
        """Tell of a finished tile."""

    def note(self, message: str) -> None:
        """Tell something the user must hear."""


class _Silent:
    """Nobody listens."""

    def frame_started(self, source: str, tiles: int, found_done: int) -> None:
        pass

    def fit_started(self, target: str, frames: int) -> None:
        pass

    def fit_step(self, step: int, steps: int, risk: float) -> None:
        pass

    def tile_done(self, record: Mapping[str, object]) -> None:
        pass

    def note(self, message: str) -> None:
        log.info("%s", message)


SILENT: Progress = _Silent()


class Told:
    """A listener together with the source it is told of."""

    def __init__(self, progress: Progress, source: str) -> None:
        self.progress = progress
        self.source = source

    def on_step(self, step: int, steps: int, loss: "Tensor") -> None:
        """Pass every hundredth step on; reading the loss may wait for a GPU."""
        if step % max(1, steps // 100) == 0:
            self.progress.fit_step(step, steps, float(loss.detach()))
