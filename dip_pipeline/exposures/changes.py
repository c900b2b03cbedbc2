"""Which sources differ between exposures beyond noise, and which exposure stands out: in words."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.registration import Change, Compared

log = logging.getLogger(__name__)

_SAME_PX = 2.5  # apart, at most, two exposures show one source
_NOTHING = 0.2  # of its light elsewhere: a source is not there
_NAMED = 5
_ONE_LINE = 0.8  # of the mean direction's length
_DRAWN_OUT = 0.045  # see `Compared`; by chance 0.01
_UNLIKE = 0.1  # see `Compared`
_MOST_TOLD = 50  # in an account


@dataclass(frozen=True, slots=True)
class SourceChange:
    """A source, by its place on the first exposure, and the exposure that stands out by it.

    brighter_by : of what half of the others show; infinite where that is next to nothing
    sigma : of the change; alone : whether no other shows it
    """

    row: float
    col: float
    name: str
    brighter_by: float
    sigma: float
    alone: bool = False

    @property
    def words(self) -> str:
        """Tell it."""
        place = f"at row {self.row:.1f}, column {self.col:.1f}"
        if self.alone:
            what = "only"
        elif not np.isfinite(self.brighter_by):
            what = "by far brightest"
        elif self.brighter_by <= _NOTHING - 1:
            what = "not"
        else:
            more = "brighter" if self.brighter_by > 0 else "fainter"
            what = f"{100 * abs(self.brighter_by):.0f} % {more}"
        return f"{place} {what} in {self.name} ({self.sigma:.0f} sigma)"


def source_changes(names: Sequence[str], changes: Sequence[Sequence[Change]]) -> list[SourceChange]:
    """Tell of every source which exposure stands out by it; the most significant first.

    names : of the exposures, the first one's first; changes : of all others against the first
    """
    found = [(number, each) for number, some in enumerate(changes, start=1) for each in some]
    found.sort(key=lambda pair: (-abs(pair[1].sigma), pair[0]))
    sources: list[list[tuple[int, Change]]] = []
    for number, each in found:
        for source in sources:
            known = source[0][1]
            if np.hypot(known.row - each.row, known.col - each.col) < _SAME_PX:
                source.append((number, each))
                break
        else:
            sources.append([(number, each)])
    return [_standing_out(names, source) for source in sources]


def _standing_out(names: Sequence[str], source: Sequence[tuple[int, Change]]) -> SourceChange:
    """Name the exposure that shows one source most unlike all others, the strongest change first.

    An exposure of which no change is told shows what the first one does.
    """
    strongest = source[0][1]
    lights = np.full(len(names), strongest.light)
    for other, each in reversed(source):  # of two of one exposure the stronger one
        lights[other] = each.light + each.more
    number = _most_unlike(lights, source[0][0])
    own, others = float(lights[number]), np.delete(lights, number)
    usual, most = float(np.median(others)), float(others.max())
    by = float("inf") if usual < _NOTHING * own else own / usual - 1
    alone = most < _NOTHING * own
    return SourceChange(
        strongest.row, strongest.col, names[number], by, abs(strongest.sigma), alone=alone
    )


def _most_unlike(lights: NDArray[np.float64], changed: int) -> int:
    """Which light lies farthest from the middle of all; of two that do, the one that changed.

    Of two exposures one that shows nothing does not stand out beside one that does.
    """
    if len(lights) == 2:
        return 0 if lights[1] < _NOTHING * lights[0] else changed
    apart = np.abs(lights - np.median(lights))
    return changed if apart[changed] >= apart.max() else int(np.argmax(apart))


def changes_in_words(found: Sequence[SourceChange]) -> str:
    """Tell the most significant in a line; "" of none."""
    if not found:
        return ""
    told = [each.words for each in found[:_NAMED]]
    left = len(found) - len(told)
    told += [f"and {left} more (dip provenance)"] if left else []
    return f"sources differ between exposures beyond noise: {'; '.join(told)}"


def change_facts(changes: Sequence[Change], unit: float) -> dict[str, object]:
    """Tell the account what an exposure shows otherwise than the first; nothing where it does not.

    unit : that light is told in, in the frame's
    """
    told = [
        {
            "row": round(each.row, 2),
            "col": round(each.col, 2),
            "light_in_first": float(f"{unit * each.light:.4g}"),
            "more_here": float(f"{unit * each.more:.4g}"),
            "sigma": round(each.sigma, 1),
        }
        for each in changes[:_MOST_TOLD]
    ]
    return {"sources_unlike_first": told} if told else {}


def warn_of_trails(names: Sequence[str], found: Sequence[Compared]) -> None:
    """Say whose stars are drawn out: before time is spent on what had better be left out.

    names : of the exposures, the first one's first; found : of all others against the first. Where
    the stars of all others are drawn out against the first one's, along one line, these are, across
    it; of two exposures nothing tells which.
    """
    long = [number for number, each in enumerate(found, start=1) if each.drawn_out > _DRAWN_OUT]
    if not long:
        return
    angles = np.radians([2 * found[number - 1].angle_deg for number in long])
    along = np.exp(1j * angles).mean()
    if len(long) == len(found) > 1 and abs(along) > _ONE_LINE:
        least = min(each.drawn_out for each in found)
        _warn_of_trail(names[0], least, float(np.degrees(np.angle(along)) / 2 + 90) % 180, "")
        return
    either = f", or those of {names[0]} across that" if len(found) == 1 else ""
    for number in long:
        each = found[number - 1]
        _warn_of_trail(names[number], each.drawn_out, each.angle_deg, either)


def unlike_sources(names: Sequence[str], found: Sequence[Compared]) -> dict[int, str]:
    """Tell whose sources are each brighter or fainter by another factor, by number, in words.

    names : of the exposures, the first one's first; found : of all others against the first. Where
    all others that tell differ from the first, it is that one; of two nothing tells which.
    """
    told = [number for number, each in enumerate(found, start=1) if each.unlike > 0]
    unlike = [number for number in told if found[number - 1].unlike > _UNLIKE]
    if len(unlike) == len(told) > 1:
        middle = float(np.median([found[number - 1].unlike for number in told]))
        return {0: _unlike_words(names[0], middle, "the others")}
    against = names[0] if len(found) == 1 else "the others"
    return {each: _unlike_words(names[each], found[each - 1].unlike, against) for each in unlike}


def _unlike_words(name: str, unlike: float, against: str) -> str:
    return (
        f"{name}: the light of its sources is unlike that in {against}, each by another factor "
        f"(they scatter by {100 * unlike:.0f} %; of one filter by 5 % at most): another filter "
        "than its header says, clouds over a part of it, or much that varies; look at it, and "
        "leave it out"
    )


def _warn_of_trail(name: str, drawn_out: float, angle_deg: float, either: str) -> None:
    log.warning(
        "%s: its stars are drawn out at %.0f degrees (0 along a row of the first exposure, 90 "
        "along a column), light around them varying by %.0f %%%s: trailed, or out of focus; leave "
        "it out where shapes of sources matter",
        *(name, angle_deg, 100 * drawn_out, either),
    )
