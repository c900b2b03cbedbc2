"""Forward operators: how a scene becomes an observation, each with its adjoint."""

from typing import Protocol

from torch import Tensor


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


class Masked:
    """An operator whose observation is known only where weight is not 0.

    weight : (rows, cols) or broadcastable, 1 where a pixel is known, 0 where it is masked.
    """

    def __init__(self, operator: Operator, weight: Tensor) -> None:
        self.operator = operator
        self.weight = weight

    def forward(self, scene: Tensor) -> Tensor:
        """Observe the scene and blank the masked pixels."""
        return self.weight * self.operator.forward(scene)

    def adjoint(self, observation: Tensor) -> Tensor:
        """Blank the masked pixels, then apply the operator's adjoint."""
        return self.operator.adjoint(self.weight * observation)
