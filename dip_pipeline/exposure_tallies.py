"""How far each of several exposures agrees with the others, in a tile and over all of a frame."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass

log = logging.getLogger(__name__)

# Cosmic rays hit sources no more often than the sky, and elongated or shifted stars differ.
_LIT_LEFT_OUT = 0.05  # of the pixels that show sources, beyond thrice the share of all pixels
_LEFT_OUT = 0.1  # of all pixels: more than any cosmic rays
# Of the light; between exposures alike it is 0.01, 0.3 px or an axis ratio of 1.4 apart 0.12.
_UNLIKE = 0.1
_LEAST_LIT = 60  # pixels that tell


@dataclass(frozen=True, slots=True)
class Tally:
    """How the pixels of one exposure agree with what all of them show together.

    number : 0 of the first, then in the order of the further ones
    pixels, left_out : that carry information, and how many of these the others contradict
    lit, lit_left_out : the same of pixels where all together show a source
    light, unlike : light that the combination has in the lit ones that are used, and by how much
        these differ from it beyond their noise, summed without sign; units of the noise
    """

    number: int
    pixels: int
    left_out: int
    lit: int
    lit_left_out: int
    light: float
    unlike: float

    @property
    def share(self) -> float:
        """Share of its pixels that the others contradict."""
        return self.left_out / max(1, self.pixels)

    @property
    def lit_share(self) -> float:
        """The same of its pixels that show sources."""
        return self.lit_left_out / max(1, self.lit)

    @property
    def unlike_share(self) -> float:
        """By what share of their light its sources differ from the combination."""
        return self.unlike / self.light if self.light > 0 else 0.0

    @property
    def words(self) -> str:
        """Tell it in a line."""
        words = f"left out {100 * self.share:.2g} % of its pixels"
        if self.lit < _LEAST_LIT:
            return words
        return (
            f"{words}, {100 * self.lit_share:.2g} % of those that show sources; these differ from "
            f"the combination by {100 * self.unlike_share:.2g} % of their light"
        )

    @property
    def doubt(self) -> str:
        """Say what is implausible of it; "" where nothing is."""
        told = self.lit >= _LEAST_LIT
        if told and self.lit_share > max(_LIT_LEFT_OUT, 3 * self.share):
            return (
                f"the others contradict {100 * self.lit_share:.0f} % of its pixels that show "
                f"sources, and {100 * self.share:.2g} % of all"
            )
        if self.share > _LEFT_OUT:
            return f"the others contradict {100 * self.share:.0f} % of its pixels"
        if told and self.unlike_share > _UNLIKE:
            return (
                "its sources differ from what all exposures show together by "
                f"{100 * self.unlike_share:.0f} % of their light"
            )
        return ""

    def plus(self, other: "Tally") -> "Tally":
        """Add what another tile tells of the same exposure."""
        pairs = zip(astuple(self)[1:], astuple(other)[1:], strict=True)
        return Tally(self.number, *(own + more for own, more in pairs))

    def facts(self, name: str) -> dict[str, object]:
        """Tell the account."""
        return {
            "file": name,
            "left_out_share": round(self.share, 6),
            "left_out_share_on_sources": round(self.lit_share, 6),
            "sources_unlike_share": round(self.unlike_share, 6),
        }


def agreements(tiles: Sequence[Mapping[str, object]]) -> list[Tally]:
    """Add up what the tiles of a frame tell of each exposure, in the order of their numbers."""
    sums: dict[int, Tally] = {}
    for tile in tiles:
        for row in _rows_of(tile):
            before = sums.get(row.number)
            sums[row.number] = row if before is None else before.plus(row)
    return [tally for _, tally in sorted(sums.items())]


def warn_of_exposures(names: Sequence[str], found: Sequence[Tally]) -> None:
    """Warn of exposures that agree with the others less than cosmic rays explain.

    names : of the files, the first one's first
    Where one is off the others seem to be, too: of several the worst is named.
    """
    doubtful = [each for each in found if each.doubt]
    if doubtful:
        worst = max(doubtful, key=lambda each: (each.lit_share + each.unlike_share, each.share))
        log.warning(
            "%s: %s: it lies elsewhere, its stars are of another shape (trailed, out of focus), or "
            "much of it moved or changed; look at it, and leave it out (where exposures differ the "
            "error plane is wider)",
            names[worst.number],
            worst.doubt,
        )
    elif len(found) == 2 and all(each.left_out > max(each.lit, _LEAST_LIT) for each in found):
        log.warning(
            "%s and %s contradict each other in more pixels than show sources in both: cosmic "
            "rays, or they do not lie on each other, and what they show is gone; look at the "
            "result beside them",
            *(names[each.number] for each in found),
        )


def _rows_of(tile: Mapping[str, object]) -> Iterator[Tally]:
    """Rows of a tile, as it was restored or as a table holds it."""
    told = tile.get("exposures")
    rows = json.loads(told) if isinstance(told, str) and told else told
    if isinstance(rows, Sequence) and not isinstance(rows, str):
        yield from (Tally(**row) for row in rows)
