"""Maps of a beam: their noise may hang together further than it can be measured."""

import logging
import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.blind.correlation import AS_LIGHT, SkyNoise
from dip_pipeline.blind.sky import Window
from dip_pipeline.frames import Frame, beam_px

log = logging.getLogger(__name__)

# Noise that a Gaussian beam has smoothed correlates by 0.2 over the 4 px that are looked at where
# the beam is 3.7 px wide at half its height; a narrower one is averaged to.
_AVERAGED_TO_PX = 3.5


# Of second differences over 2 px to those over 1 px: 1 of white noise, 9.7 where a beam of 3.5 px
# has smoothed it, more of wider ones.
_SMOOTH = 5.0
_PER_BEAM = re.compile(r"(?<![a-z])(?:beam|bm)(?![a-z])")


def warn_of_wide_beam(name: str, frame: Frame, windows: Sequence[Window], sky: SkyNoise) -> None:
    """Warn where the sky of a map hangs together as the light of its beam does.

    In maps of interferometers noise has the beam's shape: what differs from pixel to pixel is
    thousands of times less than it. Where pixels have noise of their own, however wide the beam,
    nothing is told. A map whose unit is per beam has one, whether its header tells it or not.
    What is measured of a beam of 4 px depends on the draw: it ends too soon, if it ends at all.
    """
    beyond = sky.kernel.source == AS_LIGHT
    if (sky.kernel.is_white and not beyond) or not _is_smooth(windows):
        return
    history = [str(value) for keyword, value, _ in frame.cards if keyword == "HISTORY"]
    width = beam_px(frame.header, history)
    if width is None:
        if beyond:
            _warn_of_hidden_beam(name, frame)
    elif width > _AVERAGED_TO_PX:
        side = math.ceil(width / _AVERAGED_TO_PX)
        by_cards = beam_px(frame.header) is not None
        log.warning(
            "%s: its beam is %.1f px wide (%s), and its noise hangs together as far: "
            "further than is measured; average the map over %d x %d px first",
            name,
            width,
            "cards BMAJ, BMIN" if by_cards else "HISTORY: BMAJ, BMIN",
            side,
            side,
        )


def _warn_of_hidden_beam(name: str, frame: Frame) -> None:
    if _PER_BEAM.search(frame.unit.lower()):
        log.warning(
            "%s: BEAM NOT KNOWN: its unit is %s, but neither cards BMAJ and BMIN nor HISTORY tell "
            "the beam, and its sky hangs together as noise of a beam wider than %g px does: taken "
            "for white, its noise may be told thousands of times too low; average the map first, "
            "until its beam is narrower than that",
            name,
            frame.unit,
            _AVERAGED_TO_PX,
        )


def _is_smooth(windows: Sequence[Window]) -> bool:
    """Whether next to nothing differs from pixel to pixel of what does over twice as far."""
    near, far = (
        np.concatenate([_second_differences(window, step) for window in windows]) for step in (1, 2)
    )
    return bool(near.size and far.size) and float(np.median(far)) > _SMOOTH * float(np.median(near))


def _second_differences(window: Window, step: int) -> NDArray[np.float64]:
    """Sizes of second differences along both axes, over good pixels alone."""
    pixels = np.where(window.good, window.pixels, np.nan).astype(np.float64)
    for axis in (0, 1):
        if pixels.shape[axis] <= 2 * step:
            return np.empty(0)
        one, middle, other = (
            pixels.take(np.arange(start, pixels.shape[axis] + start - 2 * step), axis)
            for start in (0, step, 2 * step)
        )
        pixels = one - 2 * middle + other
    return np.abs(pixels[np.isfinite(pixels)])
