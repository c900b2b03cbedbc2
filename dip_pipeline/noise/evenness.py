"""Warnings of noise that is not as even as its law says: of what no law of a frame can hold."""

import logging
from collections.abc import Sequence

import numpy as np

from dip_pipeline.blind.at_once import of_each
from dip_pipeline.blind.evenness import Look, alternation, noise_of_lines, scatter_of_lattice
from dip_pipeline.blind.sky import Window
from dip_pipeline.noise.agreement import sigmas_of
from dip_pipeline.sensor import NoiseModel

log = logging.getLogger(__name__)

# Right laws measure 1.15 at most over blocks and 1.07 over the lattice, of frames with stars,
# galaxies, nebulae, a globular cluster, the Moon; lines 0.13, real frames 0.31.
_FEWEST_BLOCKS = 9
_MOST_OF_BLOCKS = 1.2  # behind a vignette of 0.3 that was flat-fielded: 1.28 to 1.32
_MOST_OF_LATTICE = 1.3
_MOST_OF_LINES = 0.4
_MOST_ALTERNATING = 0.5


def warn_of_uneven_noise(
    name: str, noise: NoiseModel, windows: Sequence[Window], threads: int = 1
) -> None:
    """Say where noise differs over the frame, in a pattern of pixels, or is that of whole lines.

    name : of the frame, for people; threads : at most, for as many windows at once
    """
    if (alternating := alternation(windows)) > _MOST_ALTERNATING:
        log.warning(
            "%s: its pixels alternate by %.2g times their noise, as those of a raw colour camera: "
            "one network and one law cannot hold them; give --bayer with its filters, as RGGB, and "
            "each colour is restored by itself",
            *(name, alternating),
        )
        return
    looks = of_each(lambda window: Look.at(window, sigmas_of(noise, window)), windows, threads)
    blocks, lattice = np.concatenate([look.blocks for look in looks]), scatter_of_lattice(looks)
    if len(blocks) >= _FEWEST_BLOCKS:
        low, high = np.quantile(blocks / np.median(blocks), (0.1, 0.9))
        if high > _MOST_OF_BLOCKS * low:
            log.warning(
                "%s: its noise differs over the frame otherwise than its law says, %.2f to %.2f "
                "times the usual from part to part: errors and risk hold in the mean alone; give a "
                "noise plane (--err)",
                *(name, low, high),
            )
    if lattice.max() > _MOST_OF_LATTICE * lattice.min():  # False where it is not known
        log.warning(
            "%s: every other pixel has %.1f times the noise of those between, as in a colour image "
            "that was interpolated (debayered): pixels between are no observations, and are taken "
            "for such; restore the raw pixels of each colour, or bin the frame 2 x 2",
            *(name, lattice.max() / lattice.min()),
        )
    for lines, level in zip(("rows", "columns"), noise_of_lines(looks), strict=True):
        if level > _MOST_OF_LINES:
            log.warning(
                "%s: whole %s differ by %.2f times the noise of a pixel, which no network tells "
                "from light: subtract their overscan, or their medians, first",
                *(name, lines, level),
            )
