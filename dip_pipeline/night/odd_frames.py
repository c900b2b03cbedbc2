"""Which frames of a night are unlike the others: by how far a figure is from their median."""

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from dip_pipeline.night.fields import Pointing, fields_of
from dip_pipeline.night.figure_table import FIGURES, LEAST_FRAMES, NOISE_SETTINGS, Figure
from dip_pipeline.night.held_against import Numbers

_SPREADS = 5.0  # beyond which a figure is odd, where many frames tell how it scatters
_FEW = 15.0  # wider for few, by as much over their number: their own scatter says little
_MOST_TOLD = 3  # figures of one frame
_SHUTTER = 0.02  # by which exposure times of one kind differ, from one to the next


class FrameFigures(NamedTuple):
    """Figures of one frame; alike : what frames must have in common to be compared.

    values : by the names of `FIGURES`; None, or no finite number, where it was not measured
    law : where its noise law came from, in words
    exposure_s, pointing : None where nobody says; frames of another exposure or field are not
        compared with it
    settings : of its restoration, by their names; figures that they change are compared among
        frames of the same alone
    """

    source: str
    alike: Hashable
    values: Mapping[str, float | None]
    law: str = ""
    exposure_s: float | None = None
    pointing: Pointing | None = None
    settings: Mapping[str, str] = MappingProxyType({})

    def settled(self, beginnings: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """Give the settings whose names begin so."""
        return tuple(
            each for each in sorted(self.settings.items()) if each[0].startswith(beginnings)
        )


class Oddity(NamedTuple):
    """One figure of one frame that is unlike those of the others.

    figure : its name, "noise_law" of that; value, usual : of the frame, and the others' median
    strength : by how many spreads it is off; None of a noise law, which has none
    """

    figure: str
    value: float | str
    usual: float | str
    may_mean: str
    strength: float | None

    @property
    def words(self) -> str:
        """In words."""
        kind = FIGURES.get(self.figure)
        if kind is None:
            return f"noise law {self.value!r} (others {self.usual!r}): {self.may_mean}"
        value, usual = _told(float(self.value), kind), _told(float(self.usual), kind)
        return f"{kind.words} {value}{kind.unit} (median {usual}): {self.may_mean}"


class OddFrame(NamedTuple):
    """A frame that is unlike the others of its kind; others : how many these are."""

    source: str
    others: int
    oddities: tuple[Oddity, ...]

    def __str__(self) -> str:
        told = "; ".join(each.words for each in self.oddities[:_MOST_TOLD])
        return f"{self.source}: unlike {self.others} others of the same kind: {told}"

    def facts(self) -> dict[str, object]:
        """Give it as JSON holds it."""
        return {
            "source": self.source,
            "others": self.others,
            "oddities": [
                {**each._asdict(), "strength": each.strength and round(each.strength, 1)}
                for each in self.oddities
            ],
        }


def odd_frames(frames: Sequence[FrameFigures]) -> tuple[OddFrame, ...]:
    """Tell frames that are unlike the others of their kind, in the order of the frames.

    Each figure is held against median and median absolute deviation of the *other* frames, so that
    one alone cannot widen what it is judged by. The spread is no less than a floor.
    """
    found: dict[int, OddFrame] = {}
    for group in kinds(frames):
        if len(group) < LEAST_FRAMES:
            continue
        figures = _Figures(group)
        for frame in group:
            if oddities := tuple(_oddities(frame, figures)):
                found[id(frame)] = OddFrame(frame.source, len(group) - 1, oddities)
    return tuple(found[id(frame)] for frame in frames if id(frame) in found)


def kinds(frames: Sequence[FrameFigures]) -> list[list[FrameFigures]]:
    """Part frames into those of one kind, one exposure time, and one field."""
    groups: dict[Hashable, list[FrameFigures]] = {}
    for frame in frames:
        groups.setdefault(frame.alike, []).append(frame)
    return [
        field
        for group in groups.values()
        for exposure in _by_exposure(group)
        for field in _by_field(exposure)
    ]


def _by_exposure(frames: Sequence[FrameFigures]) -> list[list[FrameFigures]]:
    """Part frames where exposure times, in their order, make a step: shutters are no clocks."""
    groups: dict[float | None, list[FrameFigures]] = {}
    known = sorted({f.exposure_s for f in frames if f.exposure_s is not None})
    first: dict[float | None, float | None] = {None: None}
    for before, now in zip([None, *known], known, strict=False):
        is_step = before is None or now > before * (1 + _SHUTTER)
        first[now] = now if is_step else first[before]
    for frame in frames:
        groups.setdefault(first[frame.exposure_s], []).append(frame)
    return list(groups.values())


def _by_field(frames: Sequence[FrameFigures]) -> list[list[FrameFigures]]:
    fields = fields_of([frame.pointing for frame in frames])
    return [[frames[number] for number in field] for field in fields]


class _Figures:
    """All figures of the frames of a group, those that settings change by these."""

    def __init__(self, group: Sequence[FrameFigures]) -> None:
        self._numbers: dict[Hashable, Numbers] = {}
        self._laws: dict[Hashable, Counter[str]] = {}
        for frame in group:
            self.laws(frame)[frame.law] += 1
            for name, kind in FIGURES.items():
                number = _scaled(frame.values.get(name), kind)
                if number is not None:
                    self.numbers(name, frame).add(number)
                    self.of_all(name).add(number)

    def numbers(self, name: str, frame: FrameFigures) -> Numbers:
        """One figure of all frames that it can be compared with in this one, itself among them."""
        settled = frame.settled(FIGURES[name].settings)
        return self._numbers.setdefault((name, settled), Numbers())

    def of_all(self, name: str) -> Numbers:
        """One figure of all frames, whatever their settings."""
        return self._numbers.setdefault(name, Numbers())

    def laws(self, frame: FrameFigures) -> Counter[str]:
        """Count the sources of the noise laws of such frames."""
        return self._laws.setdefault(frame.settled(NOISE_SETTINGS), Counter())


def _oddities(frame: FrameFigures, figures: _Figures) -> list[Oddity]:
    found = [odd for name in FIGURES if (odd := _odd_figure(name, frame, figures)) is not None]
    return [*_odd_law(frame, figures), *sorted(found, key=lambda odd: -(odd.strength or 0.0))]


def _odd_law(frame: FrameFigures, figures: _Figures) -> Iterator[Oddity]:
    """Tell of a noise law from another source than that of all others."""
    laws = [law for law, count in (figures.laws(frame) - Counter([frame.law])).items() if count]
    if frame.law and len(laws) == 1 and frame.law not in laws and (usual := laws[0]):
        meaning = "cards differ, or the sky contradicts them in this frame"
        yield Oddity("noise_law", frame.law, usual, meaning, None)


def _odd_figure(name: str, frame: FrameFigures, figures: _Figures) -> Oddity | None:
    kind, given = FIGURES[name], frame.values.get(name)
    value, numbers = _scaled(given, kind), figures.numbers(name, frame)
    if given is None or value is None or numbers.others(value) < LEAST_FRAMES - 1:
        return None
    usual = numbers.median(value)
    spread = max(numbers.spread(usual, value), _floor(kind, frame, figures))
    spread = max(spread, kind.relative * abs(usual))
    strength = (value - usual) / spread if spread > 0 else 0.0
    meaning = kind.high if strength > 0 else kind.low
    if not meaning or abs(strength) < _SPREADS + _FEW / numbers.others(value):
        return None
    plain = math.exp(usual) if kind.ratio else usual
    return Oddity(name, given, plain, meaning, abs(strength))


def _floor(kind: Figure, frame: FrameFigures, figures: _Figures) -> float:
    if not kind.floor_in:
        return kind.floor
    own = FIGURES[kind.floor_in]
    numbers = figures.of_all(kind.floor_in)
    median = numbers.median(_scaled(frame.values.get(kind.floor_in), own))
    in_it = -math.inf if math.isnan(median) else median
    return kind.floor * (math.exp(in_it) if own.ratio else in_it)


def _scaled(number: float | None, kind: Figure) -> float | None:
    """Give the logarithm where ratios count; None where there is none."""
    if number is None or not math.isfinite(number):
        return None
    if not kind.ratio:
        return number
    return math.log(number) if number > 0 else None


def _told(number: float, kind: Figure) -> str:
    if "share" in kind.words:
        return f"{number:.2%}"
    return f"{number:.0f}" if 1000 <= abs(number) < 1e7 else f"{number:.3g}"
