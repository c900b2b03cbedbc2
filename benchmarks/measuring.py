"""The loop: draw a field, restore it by each method, measure; and more stars where they are few."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from benchmarks.colour import ColourFigures, draw_picture, restore_picture
from benchmarks.fields import SIMULATED, Field, FieldKind, draw
from benchmarks.figures import FLUX_BINS, Figures, judge, star_offsets
from benchmarks.methods import METHODS
from benchmarks.restored import Settings, TracePoint
from dip_pipeline.quality import FluxBias, FluxOffsets, bin_offsets, join_offsets

LARGE_SIDE_PX = 4096
RACE_SIDE_PX = 256
_LARGE_METHODS = ("dip", "bm3d")
_RACE_METHODS = ("dip-watched", "paper")
_WARMING_STEPS, _WARMING_SIDE_PX = 3, 128
_RACE_FIELD = FieldKind.GALAXIES
_RICHEST = FieldKind.CROWDED  # where more stars are drawn from
FLUX_METHOD = "dip"  # closure at its default


class Part(StrEnum):
    """What a result was measured for."""

    FIELDS = "fields"  # the comparison itself
    STARS = "stars"  # more stars for the flux bias
    LARGE = "large"  # wall time of a field of 4096 x 4096 pixels
    RACE = "race"  # the code input and the paper's network, watched on their way


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    efforts : of our own methods, each measured
    stars : least number in each bin of the flux bias; extra_fields : drawn for them at most
    large, race : whether these parts are measured too
    """

    fields: tuple[FieldKind, ...]
    methods: tuple[str, ...]
    settings: Settings
    seeds: tuple[int, ...] = (1, 3, 5)
    efforts: tuple[str, ...] = ("normal",)
    side_px: int = 512
    stars: int = 300
    extra_fields: int = 4
    large: bool = False
    race: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One field restored by one method, measured.

    effort : of our own methods; None for peers
    figures or colour : by the kind of field
    """

    part: Part
    field: FieldKind
    seed: int
    side_px: int
    method: str
    effort: str | None
    seconds: float
    figures: Figures | None = None
    colour: ColourFigures | None = None
    trace: tuple[TracePoint, ...] = ()
    offsets: FluxOffsets | None = None

    def __str__(self) -> str:
        figure = ""
        if self.figures is not None:
            figure = f"residual noise {self.figures.residual:.4f}, "
        if self.colour is not None:
            figure = f"{self.colour.psnr_db:.2f} dB, "
        effort = "" if self.effort is None else f" ({self.effort})"
        where = f"{self.field} {self.seed}, {self.side_px} px"
        return f"{where}: {self.method}{effort}: {figure}{self.seconds:.1f} s"


def measure(plan: Plan, told: Callable[[Result], None]) -> list[Result]:
    """Measure everything that is planned; told hears of each result as it comes."""
    results: list[Result] = []
    for measured in (_fields(plan), _stars(plan, results), _large(plan), _race(plan)):
        for result in measured:
            results.append(result)
            told(result)
    return results


def pooled_flux(
    results: Sequence[Result], effort: str | None, method: str = FLUX_METHOD
) -> tuple[FluxBias, ...]:
    """Flux bias of the stars of all simulated fields together; no bin where there are none."""
    offsets = [
        result.offsets
        for result in results
        if (result.method, result.effort) == (method, effort)
        and result.part in (Part.FIELDS, Part.STARS)
        and result.field in SIMULATED
        and result.offsets is not None
    ]
    return bin_offsets(join_offsets(offsets), FLUX_BINS) if offsets else ()


def _fields(plan: Plan) -> Iterator[Result]:
    for kind in plan.fields:
        methods = [name for name in plan.methods if kind in METHODS[name].on]
        for seed in plan.seeds:
            if kind is FieldKind.F16:
                yield from _colour(methods, plan, seed)
            else:
                drawn = draw(kind, seed, side_px=plan.side_px)
                yield from _restored(drawn, methods, plan, Part.FIELDS)


def _stars(plan: Plan, results: Sequence[Result]) -> Iterator[Result]:
    """Draw further fields until each bin of the flux bias has stars enough."""
    if FLUX_METHOD not in plan.methods or not set(plan.fields) & set(SIMULATED):
        return
    for effort in plan.efforts:
        alone = replace(plan, efforts=(effort,))
        for number in range(1, plan.extra_fields + 1):
            if min(bias.stars for bias in pooled_flux(results, effort)) >= plan.stars:
                break
            seed = max(plan.seeds) + 2 * number  # odd seeds stay odd
            drawn = draw(_RICHEST, seed, side_px=plan.side_px)
            yield from _restored(drawn, [FLUX_METHOD], alone, Part.STARS)


def _large(plan: Plan) -> Iterator[Result]:
    if plan.large:
        drawn = draw(_RICHEST, plan.seeds[0], side_px=LARGE_SIDE_PX)
        yield from _restored(drawn, _LARGE_METHODS, plan, Part.LARGE)


def _race(plan: Plan) -> Iterator[Result]:
    """Watch the code input; against the paper's network where that was asked for."""
    rivals = [name for name in _RACE_METHODS if name != "paper" or name in plan.methods]
    if plan.race and plan.settings.device != "cpu":
        # The first fit of a process loads a GPU's libraries: seconds that are nobody's.
        short = replace(plan, settings=replace(plan.settings, steps=_WARMING_STEPS))
        small = draw(_RACE_FIELD, plan.seeds[0], side_px=_WARMING_SIDE_PX)
        list(_restored(small, rivals, short, Part.RACE))
    for seed in plan.seeds if plan.race else ():
        drawn = draw(_RACE_FIELD, seed, side_px=min(RACE_SIDE_PX, plan.side_px))
        yield from _restored(drawn, rivals, plan, Part.RACE)


def _restored(drawn: Field, methods: Sequence[str], plan: Plan, part: Part) -> Iterator[Result]:
    for method, settings, effort in _runs(methods, plan):
        restored = METHODS[method].run(drawn, settings)
        yield Result(
            part=part,
            field=drawn.kind,
            seed=drawn.seed,
            side_px=drawn.observed.shape[0],
            method=method,
            effort=effort,
            seconds=restored.seconds,
            figures=judge(drawn, restored),
            trace=restored.trace,
            offsets=star_offsets(drawn, restored.science),
        )


def _colour(methods: Sequence[str], plan: Plan, seed: int) -> Iterator[Result]:
    picture = draw_picture(seed, side_px=plan.side_px)
    for method, settings, effort in _runs(methods, plan):
        figures = restore_picture(picture, method, settings)
        yield Result(
            part=Part.FIELDS,
            field=FieldKind.F16,
            seed=seed,
            side_px=plan.side_px,
            method=method,
            effort=effort,
            seconds=figures.seconds,
            colour=figures,
        )


def _runs(methods: Sequence[str], plan: Plan) -> Iterator[tuple[str, Settings, str | None]]:
    """Give each method its settings: ours once at each effort."""
    for name in methods:
        for effort in plan.efforts if METHODS[name].ours else (None,):
            settings = plan.settings if effort is None else replace(plan.settings, effort=effort)
            yield name, settings, effort
