"""How the sky of an exposure differs from the reference's, over all that both see."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from dip_pipeline.blind.sky import Window as SkyWindow
from dip_pipeline.blind.sky import find_sky
from dip_pipeline.exposures.light import unusable
from dip_pipeline.frames import Frame, around
from dip_pipeline.preparing.cutting import Window, window_around
from dip_pipeline.registration import Between, Geometry, Surface, fit_surface, robust_level
from dip_pipeline.sensor import NoiseModel

log = logging.getLogger(__name__)

_BLOCKS = 24  # along an axis, at most
_LEAST_BLOCK_PX, _MOST_BLOCK_PX = 12, 48  # a side
_LEAST_KNOWN = 0.25  # of the pixels of a block
_MOST_READ_PX = 1024  # columns of blocks that are read at once
_MARGIN_PX = 8  # around them, for the level that sources stand out from
_RANGE = (0.05, 0.95)  # of what is left in blocks; of a normal distribution 3.3 sigma
_SIGMAS = 3.29
_LEAST_DARK = 8  # blocks of sky
_DIGITS = 5  # of skies, in units near the noise
_ALIKE = Between()


@dataclass(frozen=True, slots=True)
class FrameLight:
    """A frame and the noise law that tells its saturated pixels."""

    frame: Frame
    noise: NoiseModel

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Pixels of a window, and which of them are masked, blank or saturated."""
        pixels = self.frame.read(*window)
        bad = unusable(pixels, self.noise)
        # Where all of a window is blank there is nothing that it could be told from.
        seen = pixels.science[~bad]
        bad |= bool(seen.size) and bool(seen.min() == seen.max())
        return pixels.science, bad


@dataclass(frozen=True, slots=True)
class SkyDifference:
    """Sky of an exposure less the reference's in its light, in the frame's unit.

    offset : in the middle of what both see; NaN where nothing tells
    surface : what is to be added to it elsewhere
    lowest, highest : of the surface, where both see the sky
    noise : standard deviation of the difference of two pixels
    left : range of what blocks show beyond the surface and their noise
    """

    offset: float = float("nan")
    surface: Surface = field(default_factory=Surface)
    lowest: float = 0.0
    highest: float = 0.0
    noise: float = float("nan")
    left: float = 0.0

    @property
    def is_uneven(self) -> bool:
        """Whether it differs from place to place by more than a pixel's noise."""
        return self.highest - self.lowest > self.noise

    def words(self, unit: str) -> str:
        """Tell in a line how uneven it is; nothing where it is not."""
        if not self.is_uneven:
            return ""
        low, high = self.offset + self.lowest, self.offset + self.highest
        return f"; sky from {low:+.4g} to {high:+.4g} {unit or 'DN'} against the reference"

    def warn(self, own: Frame, reference: Frame) -> None:
        """Say where more than a pixel's noise is left of it."""
        if self.left > self.noise:
            log.warning(
                "%s: its sky and that of %s differ from place to place by %.3g %s, %.1f times the "
                "noise of a pixel, in a way that no smooth surface follows: patches may be left; "
                "flatten both, or leave it out",
                own.path,
                reference.path,
                self.left,
                own.unit or "DN",
                self.left / self.noise,
            )

    def facts(self) -> dict[str, object]:
        """Tell the account of the surface, if there is one."""
        if self.surface.is_level:
            return {}
        return {
            "level_offset_range": [self.offset + self.lowest, self.offset + self.highest],
            "level_offset_terms": list(self.surface.terms),
            "level_offset_middle_px": list(self.surface.middle_px),
            "level_offset_half_px": list(self.surface.half_px),
        }


def sky_difference(
    own: FrameLight,
    reference: FrameLight,
    geometry: Geometry,
    flux_scale: float,
    unit: float,
    between: Between = _ALIKE,
) -> SkyDifference:
    """Fit a smooth surface to what an exposure shows beyond the reference, block by block.

    unit : that pixels are taken in, see `unit_of`; between : what lies between the stars of both
    Medians of blocks of the exposure, the reference read at its pixels and times the flux scale.
    The sharper of the two is taken as the other sees it: wings of wider stars are no sky.
    Sources are left out, for where seeing or flux scale are not quite right they differ, but where
    there is hardly anything else. Only a part of a large frame is read, one strip after the other.
    """
    over = _overlap(own.frame.shape, reference.frame.shape, geometry)
    if over is None:
        return SkyDifference()
    found = [
        block
        for strip in _strips(over)
        for block in _of_strip(strip, own, reference, geometry, flux_scale, between)
    ]
    if not found:
        return SkyDifference()
    places, levels, scatters, counts, dark = (
        np.array(column) for column in zip(*found, strict=True)
    )
    noise = float(np.median(scatters)) / unit
    if not noise > 0:
        return SkyDifference()
    errors = 1.2533 * np.maximum(noise, scatters / unit) / np.sqrt(counts)  # of medians
    level, surface = fit_surface(places, levels / unit, errors, over)
    # Digits that another number of threads may change must not decide pixels.
    level, surface = round(level, _DIGITS), surface.rounded(_DIGITS)
    heights = surface.at(places[:, 0], places[:, 1])
    left = _range_left((levels / unit - level - heights)[dark], errors[dark])
    return SkyDifference(
        offset=unit * level,
        surface=surface.times(unit),
        lowest=unit * float(heights.min()),
        highest=unit * float(heights.max()),
        noise=unit * noise,
        left=unit * left,
    )


def _range_left(levels: NDArray[np.float64], errors: NDArray[np.float64]) -> float:
    """Range of levels of dark blocks beyond that of their errors; 0 of few."""
    if len(levels) < _LEAST_DARK:
        return 0.0
    low, high = np.quantile(levels, _RANGE).tolist()
    by_chance = _SIGMAS * float(np.median(errors))
    return float(np.sqrt(max(0.0, (high - low) ** 2 - by_chance**2)))


def _overlap(
    shape: tuple[int, int], reference: tuple[int, int], geometry: Geometry
) -> Window | None:
    """Rows and columns of an exposure that a reference may show; None where these are few."""
    corners = np.array([(r, c) for r in (0, reference[0] - 1) for c in (0, reference[1] - 1)])
    places = geometry.to_exposure(corners.astype(float))
    return window_around(places, shape, 0, _LEAST_BLOCK_PX)


def _strips(over: Window) -> Iterator[tuple[Sequence[slice], Sequence[slice]]]:
    """Rows and columns of blocks that are read at once."""
    rows, cols = (_blocks_along(span) for span in over)
    most_rows = _MOST_READ_PX // 2 if _dense(rows) else 0
    for some_rows in _grouped(rows, most_rows):
        for some_cols in _grouped(cols, _MOST_READ_PX):
            yield some_rows, some_cols


def _blocks_along(span: slice) -> list[slice]:
    """Blocks of one side, evenly spread."""
    length = span.stop - span.start
    count = min(max(1, length // _LEAST_BLOCK_PX), _BLOCKS)
    side = min(length // count, _MOST_BLOCK_PX)
    firsts = np.rint(span.start + (np.arange(count) + 0.5) * length / count - side / 2)
    return [slice(first, first + side) for first in firsts.astype(int).tolist()]


def _dense(blocks: Sequence[slice]) -> bool:
    """Whether there is little between blocks."""
    return len(blocks) > 1 and blocks[1].start - blocks[0].stop < _MOST_BLOCK_PX


def _grouped(blocks: Sequence[slice], most_px: int) -> Iterator[Sequence[slice]]:
    """Neighbours that span so many pixels at most, or one alone."""
    first = 0
    for last, block in enumerate(blocks):
        if block.stop - blocks[first].start > most_px and last > first:
            yield blocks[first:last]
            first = last
    yield blocks[first:]


Block = tuple[tuple[float, float], float, float, int, bool]
"""Its middle, level and scatter of its pixels, how many there are, and whether all are of sky."""


def _of_strip(
    strip: tuple[Sequence[slice], Sequence[slice]],
    own: FrameLight,
    reference: FrameLight,
    geometry: Geometry,
    flux_scale: float,
    between: Between,
) -> Iterator[Block]:
    """Blocks of a strip with pixels enough: of sky, else of all.

    Their levels are of what both see alike, their scatters of what each of them sees.
    """
    rows, cols = strip
    window = slice(rows[0].start, rows[-1].stop), slice(cols[0].start, cols[-1].stop)
    there = _light_at(window, reference, geometry, between)
    if there is None:
        return
    *planes, light_alike = there
    own_light, own_alike = _own_light(window, own, between)
    differing = [own_light - flux_scale * plane for plane in planes]
    alike = own_alike - flux_scale * light_alike
    for row in rows:
        for col in cols:
            inside = (
                slice(row.start - window[0].start, row.stop - window[0].start),
                slice(col.start - window[1].start, col.stop - window[1].start),
            )
            for plane, dark in zip(differing, (True, False), strict=True):
                known = np.isfinite(plane[inside])
                if (count := int(known.sum())) >= _LEAST_KNOWN * known.size:
                    middle = (row.start + row.stop - 1) / 2, (col.start + col.stop - 1) / 2
                    level, scatter = robust_level(alike[inside][known])
                    # Smoothed pixels scatter less than their mean is wrong.
                    scatter = max(scatter, robust_level(plane[inside][known])[1])
                    yield middle, level, scatter, count, dark
                    break


def _own_light(
    window: Window, own: FrameLight, between: Between
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Light of an exposure in a window: its own, and as the reference sees it if that is wider."""
    reach_px = 0 if between.is_wider else between.reach_px
    wide, inside = around(*window, own.frame.shape, reach_px)
    pixels, bad = own.read(wide)
    light = np.where(bad, np.nan, pixels.astype(np.float64))
    alike = between.through(light, ~bad) if reach_px else light
    return light[inside], alike[inside]


def _light_at(
    window: Window, reference: FrameLight, geometry: Geometry, between: Between
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
    """Light of the reference at the pixels of a window of an exposure: its sky, and all of it.

    The third is all of it as the exposure sees it, if that is wider. NaN where it has none. None
    where the reference shows nothing of the window. Between two pixels straight lines would make
    stars wider, too.
    """
    row, col = np.mgrid[window[0], window[1]]
    there = geometry.to_reference(np.column_stack([row.ravel(), col.ravel()]).astype(float))
    reach_px = between.reach_px if between.is_wider else 0
    margin_px = max(_MARGIN_PX, reach_px)
    spans = window_around(there, reference.frame.shape, margin_px, _MARGIN_PX)
    if spans is None:
        return None
    pixels, bad = reference.read(spans)
    seen = SkyWindow.of(pixels, ~bad)
    here = (there - np.array([spans[0].start, spans[1].start])).T
    sky, light = (
        map_coordinates(np.where(known, seen.pixels, np.nan), here, order=1, cval=np.nan)
        for known in (find_sky(seen).free, seen.good)
    )
    alike = between.through(seen.pixels, seen.good) if reach_px else seen.pixels
    filled = np.where(seen.good, alike, np.median(alike[seen.good]) if seen.good.any() else 0.0)
    alike = np.where(
        np.isfinite(light), map_coordinates(filled, here, order=3, mode="nearest"), np.nan
    )
    return sky.reshape(row.shape), light.reshape(row.shape), alike.reshape(row.shape)
