"""How the fit of a network ended."""

from dataclasses import dataclass

from torch import nn

from dip_pipeline.restoration.problem import StopReason


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted network, how long it took, why it ended, and its judged risk (NaN: no judge)."""

    network: nn.Module
    steps: int
    stop_reason: StopReason
    risk: float
