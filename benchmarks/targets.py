"""The figures that count, each next to what it must reach and what it goes for."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

from benchmarks.fields import SIMULATED, FieldKind
from benchmarks.measurements import Measurements, Values
from benchmarks.measuring import LARGE_SIDE_PX, RACE_SIDE_PX, Part, pooled_flux

Range = tuple[float, float]

INFINITY = float("inf")
JWST, CORRELATED = (FieldKind.JWST,), (FieldKind.CORRELATED,)
RACERS = ("dip-watched", "paper")


@dataclass(frozen=True, slots=True)
class Target:
    """One row: a figure, the range it must lie in, the range it goes for, how it is measured.

    Where a figure is several values, all of them must lie in the range.
    """

    figure: str
    must: Range
    goal: Range
    measure: Callable[[Measurements], Values]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and what was measured; nothing where the fields or methods were left out."""

    target: Target
    values: Values

    @property
    def word(self) -> str:
        """Goal, reached, missed, or not measured."""
        if not self.values:
            return "not measured"
        for word, (low, high) in (("goal", self.target.goal), ("reached", self.target.must)):
            if all(low <= value <= high for value in self.values):
                return word
        return "missed"


def verdicts(measurements: Measurements) -> list[Verdict]:
    """Hold the results against every target."""
    return [Verdict(target, target.measure(measurements)) for target in TARGETS]


def _mean(values: Values) -> Values:
    """Mean, where every simulated field was measured."""
    return (fmean(values),) if len(values) == len(SIMULATED) else ()


def _worst(values: Values) -> Values:
    return (max(values),) if len(values) == len(SIMULATED) else ()


def _flux(m: Measurements, index: int) -> Values:
    bins = pooled_flux(m.results, m.effort)
    return (bins[index].median,) if bins and bins[index].stars else ()


def _tenths(m: Measurements) -> Values:
    """Coverage of every tenth, over all, on source and off, means over seeds."""
    found: list[float] = []
    for kind in SIMULATED:
        covered = [
            r.figures.covered
            for r in m.of("dip", kind)
            if r.figures is not None and r.figures.covered is not None
        ]
        for name in ("tenths", "on_source", "off_source"):
            columns = zip(*(getattr(each, name) for each in covered), strict=True)
            found += [fmean(shares) for shares in columns]
    return tuple(found)


def _overall(m: Measurements) -> Values:
    """Coverage over all pixels of each field, mean over seeds."""
    means = (
        m.mean("dip", kind, lambda f: float("nan") if f.covered is None else f.covered.overall)
        for kind in SIMULATED
    )
    return tuple(mean for mean in means if mean is not None)


def _risk(m: Measurements, method: str) -> Values:
    """Largest distance of an estimated mean square from the true one, of what is allowed."""
    checks = [r.figures.risk for r in m.of(method) if r.figures is not None]
    return tuple(sorted(check.share for check in checks if check is not None)[-1:])


def _peaks(m: Measurements) -> Values:
    counts = [r.figures.new_peaks for r in m.of("dip", FieldKind.NOISE) if r.figures is not None]
    return tuple(float(count) for count in counts if count is not None)


def _decibels(m: Measurements) -> Values:
    ours, paper = (
        [r.colour.psnr_db for r in m.of(name, FieldKind.F16) if r.colour is not None]
        for name in ("dip-open", "paper")
    )
    return (fmean(ours) - fmean(paper),) if ours and paper else ()


def _stop(m: Measurements) -> Values:
    """Residual noise where the code input stops over the least along its way, mean of seeds."""
    traces = [r.trace for r in m.of("dip-watched", part=Part.RACE)]
    ratios = [trace[-1].residual / min(point.residual for point in trace) for trace in traces]
    return (fmean(ratios),) if ratios else ()


def _race(m: Measurements) -> Values:
    """Time to the least residual noise of the paper's network, ours over its own."""
    own, paper = ({r.seed: r.trace for r in m.of(name, part=Part.RACE)} for name in RACERS)
    ratios = []
    for seed in own.keys() & paper.keys():
        least = min(paper[seed], key=lambda point: point.residual)
        times = [point.seconds for point in own[seed] if point.residual <= least.residual]
        ratios.append(min(times, default=INFINITY) / least.seconds)
    return (fmean(ratios),) if ratios else ()


TARGETS: tuple[Target, ...] = (
    Target(
        "residual noise / VST-BM3D's, closure off: mean of three fields",
        (0, 0.70),
        (0, 0.58),
        lambda m: _mean(m.ratios("dip-open", "bm3d", SIMULATED)),
    ),
    Target(
        "residual noise / VST-BM3D's, closure off: worst of three fields",
        (0, 0.88),
        (0, 0.75),
        lambda m: _worst(m.ratios("dip-open", "bm3d", SIMULATED)),
    ),
    Target(
        "residual noise / BM3D's, closure off: JWST stamp",
        (0, 0.95),
        (0, 0.85),
        lambda m: m.ratios("dip-open", "bm3d", JWST),
    ),
    Target(
        "residual noise / BM3D's, closure off: JWST stamp, on source",
        (0, 0.92),
        (0, 0.80),
        lambda m: m.ratios("dip-open", "bm3d", JWST, lambda f: f.on_source),
    ),
    Target(
        "residual noise / BM3D's told its spectrum, closure off: correlated",
        (0, 1.0),
        (0, 0.8),
        lambda m: m.ratios("dip-open", "bm3d", CORRELATED),
    ),
    Target(
        "residual noise / VST-BM3D's, closure on: mean of three fields",
        (0, 0.88),
        (0, 0.78),
        lambda m: _mean(m.ratios("dip", "bm3d", SIMULATED)),
    ),
    Target(
        "flux bias at S/N 5-10, closure on",
        (-0.05, 0.05),
        (-0.03, 0.03),
        lambda m: _flux(m, 0),
    ),
    Target(
        "flux bias at S/N 10-30, closure on",
        (-0.025, 0.025),
        (-0.01, 0.01),
        lambda m: _flux(m, 1),
    ),
    Target("coverage of the error plane, each field", (0.65, 0.72), (0.67, 0.70), _overall),
    Target(
        "coverage of every tenth: all, on source, off source",
        (0.60, 0.76),
        (0.63, 0.73),
        _tenths,
    ),
    Target(
        "|estimated - true| mean square / allowed: worst field",
        (0, 1),
        (0, 1),
        lambda m: _risk(m, "dip"),
    ),
    Target(
        "|estimated - true| mean square / allowed: ten times the steps",
        (0, 1),
        (0, 1),
        lambda m: _risk(m, "dip-long"),
    ),
    Target(
        "residual noise, closure off, tile scope / frame scope",
        (0, 1.25),
        (0, 1.1),
        lambda m: _mean(m.ratios("dip-tile", "dip-open", SIMULATED)),
    ),
    Target("peaks in pure noise that its input does not have", (0, 0), (0, 0), _peaks),
    Target(
        "wall time / BM3D's, simulated fields",
        (0, 15),
        (0, 8),
        lambda m: m.time_ratio("dip", "bm3d", *SIMULATED),
    ),
    Target(
        f"wall time / BM3D's, {LARGE_SIDE_PX} px",
        (0, 0.6),
        (0, 0.3),
        lambda m: m.time_ratio("dip", "bm3d", part=Part.LARGE),
    ),
    Target(
        f"code input, {RACE_SIDE_PX} px: residual noise at its stop / least on its way",
        (0, 1.05),
        (0, 1.02),
        _stop,
    ),
    Target(
        "code input: time to the least of the paper's network / its time",
        (0, 0.1),
        (0, 0.03),
        _race,
    ),
    Target(
        "F16 in colour: ours, closure off, above the paper's recipe, dB",
        (1, INFINITY),
        (1, INFINITY),
        _decibels,
    ),
)
