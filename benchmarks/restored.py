"""What a method is given beside a field, and what it hands back."""

from dataclasses import dataclass

from benchmarks.fields import Plane


@dataclass(frozen=True, slots=True)
class Settings:
    """How methods are run.

    effort : of this package's own methods
    steps : of fits, ours and the published one; None for what the effort, or the paper, says
    threads : of this package and of BM3D; other peers have one
    device : where networks are fitted
    """

    effort: str = "normal"
    steps: int | None = None
    threads: int = 2
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class RiskEstimate:
    """What a restoration says of itself, without the truth.

    mean_square : of (restored - truth) / sigma over pixels that are not masked
    error : standard error of it
    """

    mean_square: float
    error: float


@dataclass(frozen=True, slots=True)
class TracePoint:
    """Residual noise of a fit along its way."""

    seconds: float
    residual: float


@dataclass(frozen=True, slots=True, eq=False)
class Restored:
    """A field as a method restored it; planes in the frame's unit.

    error : error plane, NaN where nothing is claimed
    trace : how a fit went, where it was watched
    """

    science: Plane
    seconds: float
    error: Plane | None = None
    risk: RiskEstimate | None = None
    trace: tuple[TracePoint, ...] = ()
