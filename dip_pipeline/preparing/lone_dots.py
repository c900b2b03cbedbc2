"""Lone dark pixels, far more than noise makes and than bright ones: masked, as no light is dark.

Some readouts scatter far below their level and less far above it, each time elsewhere, so that no
dark frame or mask takes that away. To a fit that believes in Gaussian noise such pixels are signal,
and stay in its result as pepper.

What noise scatters is measured by the frame itself, before any law is known: the median absolute
difference of pixels from those around them, by level. In emission nothing is dark, narrower than
any PSF, and alone; where noise is only larger than thought, or the frame a difference of two, as
many pixels are as bright. Where dark ones tell of such a readout, lone bright ones go, too, unless
they may be stars: of these there are some twice as bright as most.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dip_pipeline.frames import Frame, Pixels
from dip_pipeline.preparing.found_pixels import FoundPixels, Mask

log = logging.getLogger(__name__)

Image = NDArray[np.float32]
Place = tuple[slice, slice]

_WORDS = "lone pixels that scatter further than noise does"
_LIMITS_SIGMA = (3.0, 3.5, 4.0, 4.5, 5.0)  # below those around; the lowest that is believed counts
_LOWEST_SIGMA = 2.5  # from there on, where there are too many for noise, too
_TIMES_NOISE = 3.0  # as many as noise makes, or as there are bright ones
_FEWEST = 30
_ENOUGH_PIXELS = 1_000_000
# Of a pixel's own depth, or height, at most, that may lie around it: of a hole wider than 2.1 px,
# and of a star wider than 1.7 px, more does.
_LONE_DARK, _LONE_BRIGHT = 0.4, 0.25
_STARS_SHARE = 0.03  # of lone bright pixels, from which on twice as bright that they may be stars
_PAIRS = ((0, 1), (1, 0), (1, 1), (1, -1))  # to one of the two beside a pixel; other: opposite
# Of the four, from whose mean a pixel differs by ... ; too many are those that differ from all:
# along a dark column, or a narrow line of a spectrum, one pair is as dark.
_LEAST_PAIRS, _TELLING_PAIRS = 3, 4
_PAIR_SHARE = 0.5  # ... so much of what it differs by from all around: on a flank fewer do
# Of a dark pixel's depth, at least, that it lies below the second and third darkest of the eight
# beside it, too: noise leaves 0.55 and more, the notches of a bright track none.
_BELOW_DARK = 0.35
_WIDE_PX, _MARGIN_PX = 2, 4
_LEVELS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.995)  # quantiles from which on scatter is measured
_FEWEST_OF_LEVEL = 500
_SIGMA_OF_MAD = 1.4826


@dataclass(frozen=True, slots=True)
class Scatter:
    """How far pixels lie from those around them, standard deviation by level; of errors, if known.

    levels : rising, unit of the frame; sigmas : unit of the frame, or of its error plane
    """

    levels: tuple[float, ...]
    sigmas: tuple[float, ...]

    @classmethod
    def of(cls, looks: Sequence["_Look"]) -> Self | None:
        """Measure it; None where pixels do not scatter."""
        level = np.concatenate([look.around[look.known] for look in looks])
        off = np.concatenate([look.off[look.known] for look in looks])
        if level.size < _FEWEST_OF_LEVEL:
            return None
        edges = [*np.quantile(level, _LEVELS), np.inf]
        found = []
        for low, high in pairwise(edges):
            there = (level >= low) & (level < high)
            if np.count_nonzero(there) >= _FEWEST_OF_LEVEL:
                sigma = _SIGMA_OF_MAD * float(np.median(np.abs(off[there])))
                found.append((float(np.median(level[there])), sigma))
        if not found or min(sigma for _, sigma in found) <= 0:
            return None
        return cls(*(tuple(values) for values in zip(*found, strict=True)))

    def at(self, level: Image) -> Image:
        """Give the standard deviation of pixels at their levels."""
        return np.interp(level, self.levels, self.sigmas).astype(np.float32)


@dataclass(frozen=True, slots=True)
class LoneDots(FoundPixels):
    """Pixels of another source, lone ones masked.

    dark_sigma, bright_sigma : how far below and above those around they lie; infinite: none do
    """

    scatter: Scatter
    dark_sigma: float
    bright_sigma: float

    @property
    def margin_px(self) -> int:
        """As far as pixels around one are looked at."""
        return _MARGIN_PX

    def detect(self, pixels: Pixels) -> Mask:
        """Find lone pixels of one region."""
        look = _Look.of(pixels)
        dark = look.lone(self.scatter, -self.dark_sigma, _LONE_DARK)
        return dark | look.lone(self.scatter, self.bright_sigma, _LONE_BRIGHT)


def without_lone_dots(frame: Frame, places: Sequence[Place]) -> Frame:
    """Mask lone pixels of a frame that has far more dark ones than noise makes.

    places : rows and columns of the windows to look at
    """
    seen = _Seen.of([_Look.of(frame.read(*place)) for place in _some_of(places)])
    if seen is None or (dark_sigma := seen.dark_limit()) is None:
        return frame
    bright_sigma = seen.bright_limit()
    source = LoneDots(frame.source, frame.shape, seen.scatter, dark_sigma, bright_sigma)
    number = sum(np.count_nonzero(source.found(*block)) for block in source.blocks())
    log.warning(
        "%s: its pixels scatter far below those around them, more often than noise does and than "
        "above: %d lone ones (%.2g %%), %g standard deviations and more below%s, are taken as "
        "masked, for no light is so",
        *(frame.path, number, 100 * number / (frame.shape[0] * frame.shape[1]), dark_sigma),
        "" if np.isinf(bright_sigma) else f", or {bright_sigma:g} above",
    )
    words = f"{frame.flag_words}; {_WORDS}" if frame.flag_words else _WORDS
    return replace(frame, source=source, flag_words=words)


def _some_of(places: Sequence[Place]) -> Sequence[Place]:
    """As many windows, evenly spread, as hold enough pixels to count."""
    pixels = sum((rows.stop - rows.start) * (cols.stop - cols.start) for rows, cols in places)
    return places[:: max(1, pixels // _ENOUGH_PIXELS)]


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What some windows of a frame show of its lone pixels."""

    looks: Sequence["_Look"]
    scatter: Scatter

    @classmethod
    def of(cls, looks: Sequence["_Look"]) -> Self | None:
        """Look at windows; None where pixels do not scatter."""
        scatter = Scatter.of(looks)
        return None if scatter is None else cls(looks, scatter)

    def dark_limit(self) -> float | None:
        """Find the lowest limit below which pixels are too many for noise; None where none is.

        That they are, is believed from where there are fewer as far above, too.
        """
        for limit_sigma in _LIMITS_SIGMA:
            above = self._count(limit_sigma, _LONE_DARK)
            dark = self._count(-limit_sigma, _LONE_DARK)
            if self._too_many(dark, limit_sigma) and dark >= _TIMES_NOISE * above:
                lower = self._count(-_LOWEST_SIGMA, _LONE_DARK)
                return _LOWEST_SIGMA if self._too_many(lower, _LOWEST_SIGMA) else limit_sigma
        return None

    def bright_limit(self) -> float:
        """Do the same above, for pixels that are no stars; infinite where none is."""
        for limit_sigma in _LIMITS_SIGMA:
            bright = self._count(limit_sigma, _LONE_BRIGHT)
            if self._too_many(bright, limit_sigma):
                twice = self._count(2 * limit_sigma, _LONE_BRIGHT)
                return limit_sigma if twice < _STARS_SHARE * bright else math.inf
        return math.inf

    def _too_many(self, number: int, limit_sigma: float) -> bool:
        return number >= max(_FEWEST, _TIMES_NOISE * self._by_noise(limit_sigma))

    def _by_noise(self, limit_sigma: float) -> float:
        """How many Gaussian noise makes."""
        judged = sum(np.count_nonzero(look.known) for look in self.looks)
        return judged * 0.5 * math.erfc(limit_sigma / 2**0.5)

    def _count(self, limit_sigma: float, lone: float) -> int:
        return sum(
            int(np.count_nonzero(look.lone(self.scatter, limit_sigma, lone, _TELLING_PAIRS)))
            for look in self.looks
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """Pixels beside those around them, (rows, cols).

    known : pixels that are known, as are all around them
    light, around : a pixel, and the median of the eight beside it, unit of the frame
    off, rise : a pixel above that, that above the median of the eight two pixels away; in units of
        the errors around, if there is an error plane
    """

    known: Mask
    light: Image
    around: Image
    off: Image
    rise: Image

    @classmethod
    def of(cls, pixels: Pixels) -> Self:
        known = ~pixels.masked & np.isfinite(pixels.science)
        if pixels.saturated is not None:
            known &= ~pixels.saturated
        unit = np.ones((), np.float32)
        if pixels.error is not None:
            good = np.isfinite(pixels.error) & (pixels.error > 0)
            known &= good
            # Not a pixel's own: of dark pixels writers may make small errors.
            usual = np.median(pixels.error[good]) if good.any() else np.float32(1)
            unit = _median_of_eight(np.where(good, pixels.error, usual), 1)
        level = np.median(pixels.science[known]) if known.any() else np.float32(0)
        light = np.where(known, pixels.science, level).astype(np.float32)
        around = _median_of_eight(light, 1)
        return cls(
            ndimage.minimum_filter(known, 2 * _WIDE_PX + 1),
            light,
            around,
            (light - around) / unit,
            (around - _median_of_eight(light, _WIDE_PX)) / unit,
        )

    def lone(
        self, scatter: Scatter, limit_sigma: float, lone: float, pairs: int = _LEAST_PAIRS
    ) -> Mask:
        """Find lone pixels so far above those around them, or below (a negative limit).

        lone : share of their height that may lie around them; pairs : that they differ from
        """
        sign, limit_sigma = math.copysign(1.0, limit_sigma), abs(limit_sigma)
        found: Mask = self.known & (sign * self.off > limit_sigma * min(scatter.sigmas))
        at = np.nonzero(found)
        sigma = scatter.at(self.around[at])
        off = sign * self.off[at] / sigma
        high = _PAIR_SHARE * sign * (self.light - self.around)[at]
        beside = sum(sign * above > high for above in self._above_pairs(*at))
        alone = sign * self.rise[at] < lone * sign * self.off[at]
        found[at] = (off > limit_sigma) & (beside >= pairs) & alone
        return found if sign > 0 else self._in_no_notch(found)

    def _in_no_notch(self, dark: Mask) -> Mask:
        """Leave out what is dark beside a ray alone: as dark as most that is not the ray's."""
        at = np.nonzero(dark)
        eight = np.stack([one for pair in self._pairs_beside(*at) for one in pair])
        eight.sort(axis=0)
        light, around = self.light[at], self.around[at]
        dark[at] = (eight[1] + eight[2]) / 2 - light > _BELOW_DARK * (around - light)
        return dark

    def _above_pairs(self, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> Iterator[Image]:
        """How far some pixels lie above the mean of each two beside them."""
        for one, other in self._pairs_beside(rows, cols):
            yield self.light[rows, cols] - (one + other) / np.float32(2)

    def _pairs_beside(
        self, rows: NDArray[np.intp], cols: NDArray[np.intp]
    ) -> Iterator[tuple[Image, Image]]:
        wide = np.pad(self.light, 1, mode="edge")
        for down, right in _PAIRS:
            one = wide[rows + 1 + down, cols + 1 + right]
            yield one, wide[rows + 1 - down, cols + 1 - right]


def _median_of_eight(light: Image, step_px: int) -> Image:
    """Median of the eight pixels so many rows and columns from each one; edges are repeated."""
    rows, cols = light.shape
    wide = np.pad(light, step_px, mode="edge")
    starts = [(down, right) for down in (0, 1, 2) for right in (0, 1, 2) if (down, right) != (1, 1)]
    eight = np.stack(
        [
            wide[down * step_px : down * step_px + rows, right * step_px : right * step_px + cols]
            for down, right in starts
        ]
    )
    eight.sort(axis=0)
    median: Image = (eight[3] + eight[4]) / np.float32(2)
    return median
