"""Maps of a beam: their noise may hang together further than it can be measured."""

import logging
import math

from dip_pipeline.blind.correlation import AS_LIGHT, SkyNoise
from dip_pipeline.frames import Frame, beam_px

log = logging.getLogger(__name__)

# Noise that a Gaussian beam has smoothed correlates by 0.2 over the 4 px that are looked at where
# the beam is 3.7 px wide at half its height; a narrower one is averaged to.
_AVERAGED_TO_PX = 3.5


def warn_of_wide_beam(name: str, frame: Frame, sky: SkyNoise) -> None:
    """Warn where the sky hangs together as the light of a beam that the header names does.

    In maps of interferometers noise has the beam's shape: what differs from pixel to pixel is
    thousands of times less than it. Where pixels have noise of their own the sky tells it, however
    wide the beam.
    """
    width = beam_px(frame.header)
    if sky.kernel.source != AS_LIGHT or width is None or width <= _AVERAGED_TO_PX:
        return
    side = math.ceil(width / _AVERAGED_TO_PX)
    log.warning(
        "%s: its beam is %.1f px wide (cards BMAJ, BMIN), and its noise hangs together as far: "
        "further than is measured; average the map over %d x %d px first",
        name,
        width,
        side,
        side,
    )
