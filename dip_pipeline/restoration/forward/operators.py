"""Forward operators: how a scene becomes an observation, each with its adjoint.

Planes are (batch, 1, rows, cols), of any floating type, on any device.
"""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from dip_pipeline.errors import RestorationError


class Operator(Protocol):
    """A linear map from the scene's pixels to the observation's."""

    def forward(self, scene: Tensor) -> Tensor:
        """Observe the scene."""

    def adjoint(self, observation: Tensor) -> Tensor:
        """Apply the transpose: <forward(x), y> = <x, adjoint(y)>."""


class Identity:
    """Denoising: the scene is seen as it is."""

    def forward(self, scene: Tensor) -> Tensor:
        """Return the scene."""
        return scene

    def adjoint(self, observation: Tensor) -> Tensor:
        """Return the observation."""
        return observation


class Composed:
    """Operators one after the other: the first sees the scene, the last makes the observation."""

    def __init__(self, operators: Sequence[Operator]) -> None:
        if not operators:
            raise RestorationError("composed operator: needs at least one operator")
        self.operators = tuple(operators)

    def forward(self, scene: Tensor) -> Tensor:
        """Apply each to what the one before it made."""
        for operator in self.operators:
            scene = operator.forward(scene)
        return scene

    def adjoint(self, observation: Tensor) -> Tensor:
        """Apply the adjoints, last first."""
        for operator in reversed(self.operators):
            observation = operator.adjoint(observation)
        return observation
