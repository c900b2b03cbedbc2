"""Which exposures guide which, where each is restored at its own epoch."""

import os
from collections.abc import Sequence

from dip_pipeline.config import RunConfig

_LEAST_SHARING = 4  # exposures, unasked: as planes of a cube
_MOST_FITTED = 12  # of them: each is registered to all others once more for it


def with_others(
    config: RunConfig, sources: Sequence[str], rank: int, guiding: Sequence[str] | None = None
) -> RunConfig:
    """Let all other frames guide one, where each is to be restored at its own epoch.

    guiding : those of the sources that can be read (default: all)
    """
    if not config.task.each:
        return config
    able = set(sources if guiding is None else guiding)
    others = [one for number, one in enumerate(sources) if number != rank and one in able]
    return config.with_overrides(
        **{"task.exposures": (*others, *further_exposures(sources, config))}
    )


def further_exposures(sources: Sequence[str], config: RunConfig) -> list[str]:
    """Exposures that the configuration names and that are not to be restored themselves."""
    restored = {os.path.realpath(source) for source in sources}
    return [name for name in config.task.exposures if os.path.realpath(name) not in restored]


def sharing_words(fitted: int, count: int) -> str:
    """Say that so many exposures share networks."""
    on = "them" if fitted == count else f"{fitted} of them"
    return f"{count} exposures share networks, fitted on {on} (--planes apart: each has its own)"


def fitted_exposures(config: RunConfig, count: int) -> int:
    """Tell on how many of so many exposures the networks are fitted that all share.

    0 where each has networks of its own.
    """
    least = 2 if config.fit.planes == "together" else _LEAST_SHARING
    return min(count, _MOST_FITTED) if config.may_share_exposures and count >= least else 0
