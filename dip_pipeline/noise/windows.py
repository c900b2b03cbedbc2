"""Windows of a frame that its noise is looked for in."""

from collections.abc import Sequence

import numpy as np

from dip_pipeline.blind.sky import Window
from dip_pipeline.frames import Frame, images_beside
from dip_pipeline.frames.noise_form import NO_INFORMATION
from dip_pipeline.sensor import Sensor

Place = tuple[slice, slice]


def window_of(frame: Frame, place: Place, sensor: Sensor, *, by_error: bool) -> Window:
    """Read a window; by_error : with its noise plane. What is saturated tells no noise."""
    pixels = frame.read(*place)
    good = ~pixels.masked
    if pixels.saturated is not None:
        good &= ~pixels.saturated
    if sensor.saturation_dn is not None:
        good &= ~(pixels.science >= sensor.saturation_dn.value)
    return Window.of(pixels.science, good, pixels.error if by_error else None)


def windows_behind_other_filters(
    frame: Frame, places: Sequence[Place], sensor: Sensor
) -> list[list[Window]]:
    """Look at some of the places behind each other filter of a raw mosaic; none of other frames.

    At as many as make half of the places in all.
    """
    others = images_beside(frame)
    return [
        [
            window_of(other, _inside(place, other.shape), sensor, by_error=False)
            for place in places[number :: 2 * len(others)] or places[:1]
        ]
        for number, other in enumerate(others)
    ]


def _inside(place: Place, shape: tuple[int, int]) -> Place:
    rows, cols = (slice(p.start, min(p.stop, side)) for p, side in zip(place, shape, strict=True))
    return rows, cols


def why_unusable(frame: Frame, places: Sequence[Place], sensor: Sensor) -> str:
    """Say what became of the pixels where none can be used, and what to do about each."""
    counts = np.zeros(4, int)
    for place in places:
        pixels = frame.read(*place)
        finite = np.isfinite(pixels.science)
        known = finite if pixels.error is None else finite & np.isfinite(pixels.error)
        unflagged = known & ~pixels.masked
        groups = (~finite, finite & ~known, known & pixels.masked, unflagged)
        counts += [int(np.count_nonzero(group)) for group in groups]
    limit = sensor.saturation_dn
    reasons = (
        "are not finite, or beyond single precision",
        f"have no positive noise below {NO_INFORMATION:g} in "
        f"{frame.noise_words or 'the error plane'} (--err none does without it, --err NAME takes "
        "another)",
        "are masked or flagged bad (--dq none does without flags, --bad-bits takes others)",
        f"are saturated{'' if limit is None else f', at or above {limit}'} (--saturation)",
    )
    told = [
        f"{share:.0%} {reason}"
        for share, reason in zip(counts / max(counts.sum(), 1), reasons, strict=True)
        if share > 0
    ]
    return f"no pixel can be used: {'; '.join(told)}"
