"""Results of one effort beside those of the peers, and means and ratios of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.fields import FieldKind
from benchmarks.figures import Figures
from benchmarks.measuring import Part, Result

Values = tuple[float, ...]
Figure = Callable[[Figures], float]


def residual(figures: Figures) -> float:
    """Residual noise over all unsaturated pixels."""
    return figures.residual


@dataclass(frozen=True, slots=True)
class Measurements:
    """Results of one effort, with the peers beside them."""

    results: Sequence[Result]
    effort: str

    def of(self, method: str, *kinds: FieldKind, part: Part = Part.FIELDS) -> list[Result]:
        """Results of one method on some kinds of fields; all kinds where none is named."""
        return [
            result
            for result in self.results
            if result.method == method
            and result.effort in (None, self.effort)
            and result.part is part
            and (not kinds or result.field in kinds)
        ]

    def mean(self, method: str, kind: FieldKind, figure: Figure = residual) -> float | None:
        """Mean over seeds of a figure; None where it was not measured."""
        figures = self._by_seed(method, kind, figure)
        return fmean(figures.values()) if figures else None

    def ratios(
        self, method: str, rival: str, kinds: Sequence[FieldKind], figure: Figure = residual
    ) -> Values:
        """Figure of a method over that of its rival, seed by seed; mean for each kind of field."""
        means = []
        for kind in kinds:
            own, other = (self._by_seed(name, kind, figure) for name in (method, rival))
            shares = [own[seed] / other[seed] for seed in own.keys() & other.keys()]
            means += [fmean(shares)] if shares else []
        return tuple(means)

    def _by_seed(self, method: str, kind: FieldKind, figure: Figure) -> dict[int, float]:
        found = self.of(method, kind)
        return {each.seed: figure(each.figures) for each in found if each.figures is not None}

    def time_ratio(
        self, method: str, rival: str, *kinds: FieldKind, part: Part = Part.FIELDS
    ) -> Values:
        """Mean wall time of a method over that of its rival; nothing where one is missing."""
        own, other = (
            [result.seconds for result in self.of(name, *kinds, part=part)]
            for name in (method, rival)
        )
        return (fmean(own) / fmean(other),) if own and other else ()
