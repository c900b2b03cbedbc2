"""Which frames of a night are unlike the others: by how far a figure is from their median."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

LEAST_FRAMES = 5  # alike, for one of them to be told unlike
_SPREADS = 5.0  # beyond which a figure is odd, where many frames tell how it scatters
_FEW = 15.0  # wider for few, by as much over their number: their own scatter says little
_MOST_TOLD = 3  # figures of one frame
_SHUTTER = 0.02  # by which exposure times of one kind differ, from one to the next


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a frame, and what it may mean where it is odd.

    floor : least spread that is believed, of the logarithm where `ratio`, else in its own unit,
        or in the others' median of the figure `floor_in`; relative : the same, of the median
    high, low : what it may mean; "" where that side tells nothing
    """

    words: str
    floor: float
    high: str
    low: str = ""
    ratio: bool = True
    unit: str = ""
    floor_in: str = ""
    relative: float = 0.0


FIGURES: dict[str, Figure] = {
    "sky": Figure(
        "sky level",
        0.3,
        "twilight, moon, clouds, or a bias that is still in",
        "another exposure, a closed shutter, or a sky that was taken away",
        ratio=False,
        floor_in="noise",
        relative=0.08,
    ),
    "star_light": Figure(
        "light of its stars",
        0.08,
        "clearer than the others (clouds in those), or another field, exposure or gain",
        "clouds, dew, low in the sky, a dome in the way, or another field",
    ),
    "star_fwhm_px": Figure(
        "width of its stars (FWHM)", 0.05, "seeing, focus, wind, or trailed stars", unit=" px"
    ),
    "star_axis_ratio": Figure(
        "axis ratio of its stars", 0.03, "trailed: tracking, wind or tilt", unit=""
    ),
    "gain_e_per_dn": Figure(
        "gain of its noise law", 0.06, *("another camera setting, or a wrong card",) * 2, unit=" e"
    ),
    "noise": Figure("noise of its sky", 0.06, *("another gain, read noise or sky",) * 2),
    "residual_noise": Figure(
        "residual noise",
        0.12,
        "noise law, options, sampling or sky are others than in the rest: look at its picture",
    ),
    "chi_square": Figure(
        "chi-square of what was taken away",
        0.05,
        *("its noise is not what its law says: gain, read noise, or structure in it",) * 2,
    ),
    "flux_change_in_noise": Figure(
        "change of flux a pixel, in its noise",
        0.02,
        *("light was moved: look at its picture",) * 2,
        ratio=False,
    ),
    "masked_share": Figure(
        "share of filled pixels", 0.004, "another mask, cosmic rays, a trail", ratio=False
    ),
    "doubtful_share": Figure(
        "share of pixels of low confidence", 0.01, "large holes, or a saturated star", ratio=False
    ),
    "seconds": Figure("time", 0.25, "the machine was busy, or the frame is another one", unit=" s"),
}


class Pointing(NamedTuple):
    """Where a frame looks; reach_deg : how far off another one still shows that field."""

    longitude_deg: float
    latitude_deg: float
    reach_deg: float

    def is_near(self, other: "Pointing") -> bool:
        """Whether both show one field; the haversine, Sinnott 1984, Sky & Telescope 68, 158."""
        (lon1, lat1), (lon2, lat2) = (map(math.radians, each[:2]) for each in (self, other))
        half = math.sin((lat2 - lat1) / 2) ** 2
        half += math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
        apart_deg = 2 * math.degrees(math.asin(math.sqrt(min(half, 1.0))))
        return apart_deg <= max(self.reach_deg, other.reach_deg)


class FrameFigures(NamedTuple):
    """Figures of one frame; alike : what frames must have in common to be compared.

    values : by the names of `FIGURES`; None, or no finite number, where it was not measured
    law : where its noise law came from, in words
    exposure_s, pointing : None where nobody says; frames of another exposure or field are not
        compared with it
    """

    source: str
    alike: Hashable
    values: Mapping[str, float | None]
    law: str = ""
    exposure_s: float | None = None
    pointing: Pointing | None = None


class Oddity(NamedTuple):
    """One figure of one frame that is unlike those of the others.

    figure : its name, "noise_law" of that; value, usual : of the frame, and the others' median
    strength : by how many spreads it is off
    """

    figure: str
    value: float | str
    usual: float | str
    may_mean: str
    strength: float

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
                {**each._asdict(), "strength": round(each.strength, 1)} for each in self.oddities
            ],
        }


def odd_frames(frames: Sequence[FrameFigures]) -> tuple[OddFrame, ...]:
    """Tell frames that are unlike the others of their kind, in the order of the frames.

    Each figure is held against median and median absolute deviation of the *other* frames, so that
    one alone cannot widen what it is judged by. The spread is no less than a floor.
    """
    found = {
        id(frame): OddFrame(frame.source, len(group) - 1, oddities)
        for group in kinds(frames)
        if len(group) >= LEAST_FRAMES
        for frame in group
        if (oddities := tuple(_oddities(frame, group)))
    }
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
    """Part frames into chains of neighbours on the sky.

    Those that do not say where they look, whose stars no plate was solved by, say, belong to the
    field if there is one only, else together.
    """
    lost = [frame for frame in frames if frame.pointing is None]
    waiting = [frame for frame in frames if frame.pointing is not None]
    fields: list[list[FrameFigures]] = []
    while waiting:
        field = [waiting.pop(0)]
        for member in field:  # grows while its neighbours are found
            field += [frame for frame in waiting if _are_near(member, frame)]
            waiting = [frame for frame in waiting if not _are_near(member, frame)]
        fields.append(field)
    if len(fields) == 1:
        return [list(frames)]
    return [*fields, lost] if lost else fields


def _are_near(one: FrameFigures, other: FrameFigures) -> bool:
    return one.pointing is None or other.pointing is None or one.pointing.is_near(other.pointing)


def _oddities(frame: FrameFigures, group: Sequence[FrameFigures]) -> list[Oddity]:
    others = [other for other in group if other is not frame]
    found = [odd for name in FIGURES if (odd := _odd_figure(name, frame, others)) is not None]
    return [*_odd_law(frame, others), *sorted(found, key=lambda odd: -odd.strength)]


def _odd_law(frame: FrameFigures, others: Sequence[FrameFigures]) -> Iterator[Oddity]:
    """Tell of a noise law from another source than that of all others."""
    laws = {other.law for other in others}
    if frame.law and len(laws) == 1 and frame.law not in laws and (usual := laws.pop()):
        meaning = "cards differ, or the sky contradicts them in this frame"
        yield Oddity("noise_law", frame.law, usual, meaning, math.inf)


def _odd_figure(name: str, frame: FrameFigures, others: Sequence[FrameFigures]) -> Oddity | None:
    kind, given = FIGURES[name], frame.values.get(name)
    value, known = _scaled(given, kind), _known(name, others)
    if given is None or value is None or len(known) < LEAST_FRAMES - 1:
        return None
    usual = median(known)
    spread = max(1.4826 * median(abs(number - usual) for number in known), _floor(kind, others))
    spread = max(spread, kind.relative * abs(usual))
    strength = (value - usual) / spread if spread > 0 else 0.0
    meaning = kind.high if strength > 0 else kind.low
    if not meaning or abs(strength) < _SPREADS + _FEW / len(known):
        return None
    plain = math.exp(usual) if kind.ratio else usual
    return Oddity(name, given, plain, meaning, abs(strength))


def _known(name: str, frames: Sequence[FrameFigures]) -> list[float]:
    """One figure of those frames that have it, as it is compared."""
    scaled = (_scaled(frame.values.get(name), FIGURES[name]) for frame in frames)
    return [number for number in scaled if number is not None]


def _floor(kind: Figure, others: Sequence[FrameFigures]) -> float:
    if not kind.floor_in:
        return kind.floor
    known = _known(kind.floor_in, others)
    in_it = median(known) if known else -math.inf
    return kind.floor * (math.exp(in_it) if FIGURES[kind.floor_in].ratio else in_it)


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
