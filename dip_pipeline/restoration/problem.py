"""What goes into a restoration and what comes out: plain picklable values, no torch."""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from dip_pipeline.errors import RestorationError
from dip_pipeline.exposure_tallies import Tally
from dip_pipeline.restoration.forward.optics import Exposure, Mask, Optics, Plane, Twin
from dip_pipeline.sensor import NoiseKind, NoiseModel
from dip_pipeline.stop_reason import StopReason as StopReason  # a noun of this room, too
from dip_pipeline.task import Task

# Fewer pixels than this on a side leave no room for a network and its judge.
SMALLEST_SIDE_PX = 16


class InputKind(StrEnum):
    """What the network is fed with."""

    IMAGE = "image"  # the recorrupted observation itself
    CODE = "code"  # a fixed random code: Ulyanov's deep image prior


class Scope(StrEnum):
    """What one network is fitted to."""

    FRAME = "frame"
    TILE = "tile"


class NetworkKind(StrEnum):
    """The networks to choose from; AUTO takes the one that suits the input."""

    AUTO = "auto"
    UNET = "unet"
    HOURGLASS = "hourglass"


class Effort(StrEnum):
    """How much time a restoration may take."""

    FAST = "fast"
    NORMAL = "normal"
    BEST = "best"


@dataclass(frozen=True, slots=True)
class Spending:
    """What an effort buys: steps of each network, views averaged when it is applied."""

    steps: int
    views: int


# A code's image is drawn, not answered: there is one view of it.
SPENDING: dict[InputKind, dict[Effort, Spending]] = {
    InputKind.IMAGE: {
        Effort.FAST: Spending(steps=300, views=4),
        Effort.NORMAL: Spending(steps=800, views=4),
        Effort.BEST: Spending(steps=2400, views=8),
    },
    InputKind.CODE: {
        Effort.FAST: Spending(steps=500, views=1),
        Effort.NORMAL: Spending(steps=1500, views=1),
        Effort.BEST: Spending(steps=4000, views=1),
    },
}
VIEW_COUNTS = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How networks are fitted and applied.

    effort : decides steps and views where they are None
    steps : optimiser steps of each network
    views : views of a region averaged when a network is applied: 1, 2 or 4 quarter turns, or 8,
        the turns of the region and of its mirror image
    flux_scale_px : standard deviation of the closure's Gaussian; 0 leaves closure out
    task : what is asked for
    keep_known : known pixels are given back as they are, holes alone are filled
    by_hiding : holes are filled by a network that learns by hiding more, which needs no noise law
    """

    input: InputKind = InputKind.IMAGE
    scope: Scope = Scope.FRAME
    network: NetworkKind = NetworkKind.AUTO
    effort: Effort = Effort.NORMAL
    steps: int | None = None
    views: int | None = None
    flux_scale_px: float = 2.0
    task: Task = Task.DENOISE
    keep_known: bool = False
    by_hiding: bool = False

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise RestorationError(f"steps={self.steps}: need at least one optimiser step")
        if self.views is not None and self.views not in VIEW_COUNTS:
            raise RestorationError(f"views={self.views}: need one of {VIEW_COUNTS}")
        if not 0 <= self.flux_scale_px <= 64:
            raise RestorationError(f"flux_scale_px={self.flux_scale_px}: need 0 (off) to 64 px")

    @property
    def network_kind(self) -> NetworkKind:
        """The network in force: what was asked, or what suits the input."""
        if self.network is not NetworkKind.AUTO:
            return self.network
        return NetworkKind.UNET if self.input is InputKind.IMAGE else NetworkKind.HOURGLASS

    @property
    def step_limit(self) -> int:
        """Steps of each network: what was asked, or what the effort buys."""
        return self.steps or SPENDING[self.input][self.effort].steps

    @property
    def view_count(self) -> int:
        """Views averaged: what was asked, or what the effort buys."""
        return self.views or SPENDING[self.input][self.effort].views


@dataclass(frozen=True, slots=True)
class Problem:
    """One region of a frame to restore.

    pixels : (rows, cols), the frame's unit; NaN where not finite in the file
    error : (rows, cols) sigma, same unit, or None; ignored where masked
    masked : (rows, cols), pixels that hold no information
    saturated : (rows, cols), pixels to leave alone
    kept : (rows, cols), pixels of those that are masked to give back as they were observed: light
        is not so sharp, and all around is restored without them; None where there are none
    origin : (row, col) of the region's first pixel in the frame
    inner : rows and columns of the region that are wanted back; the rest is context
    optics : between the scene that is asked for and the pixels; None: the scene is what they show
    guides : (rows, cols) each, other images of the same sky on the same pixels, NaN where unknown
    twin : what other exposures show of the same light; None without
    exposures : further exposures of the same scene
    """

    pixels: Plane
    masked: Mask
    saturated: Mask
    noise: NoiseModel
    options: FitOptions
    seed: int
    origin: tuple[int, int] = (0, 0)
    inner: tuple[slice, slice] = (slice(None), slice(None))
    error: Plane | None = None
    device: str = "cpu"
    threads: int = 1
    optics: Optics | None = None
    guides: tuple[Plane, ...] = ()
    twin: Twin | None = None
    exposures: tuple[Exposure, ...] = ()
    kept: Mask | None = None

    def __post_init__(self) -> None:
        shapes = {self.pixels.shape, self.masked.shape, self.saturated.shape}
        shapes |= {self.error.shape} if self.error is not None else set()
        shapes |= {self.kept.shape} if self.kept is not None else set()
        shapes |= {guide.shape for guide in self.guides}
        shapes |= {self.twin.pixels.shape, self.twin.error.shape} if self.twin else set()
        if self.guides and self.twin is not None:
            raise RestorationError("guides and a twin: need one or the other")
        if len(shapes) != 1:
            raise RestorationError(f"planes of unequal shapes {sorted(shapes)}: need one shape")
        lawless = self.noise.kind is NoiseKind.NONE and not self.options.by_hiding
        if self.options.input is InputKind.IMAGE and lawless:
            raise RestorationError(
                "--input image needs a noise law to draw noise from; got --noise none: "
                "give a noise law, or use --input code"
            )

    @property
    def valid(self) -> Mask:
        """Pixels that carry information."""
        return ~self.masked & np.isfinite(self.pixels) & ~self.saturated

    @property
    def keeps_spikes(self) -> bool:
        """Whether what is far sharper than light is given back as it was observed.

        That is so on the frame's own pixels, alone or with others beside it.
        """
        each = self.options.task is Task.COMBINE and self.optics is None
        return each or self.options.task is Task.DENOISE


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the restoration of a tile went: one row of the tile table.

    risk : estimated mean of ((delivered - truth) / sigma)^2 over unmasked, unsaturated pixels
    risk_error : its standard error
    chi_square : mean of ((observed - delivered) / sigma)^2 over the same pixels
    judged_pixels : how many pixels these are
    flux_change : sum of (delivered - observed) over them, in the frame's unit
    exposures : how each of several exposures agrees with the others; () of one
    doubted_pixels : beside pits of the scene, where no light looks like the frame through the PSF
    kept_pixels : sharper than light, given back as they were observed
    All are over the observation's pixels; of a finer scene `delivered` is what it gives these:
    the sum of its pixels in each where they share a flux, else their mean.
    """

    steps: int
    stop_reason: StopReason
    risk: float = float("nan")
    risk_error: float = float("nan")
    chi_square: float = float("nan")
    judged_pixels: int = 0
    flux_change: float = 0.0
    failed: bool = False
    exposures: tuple[Tally, ...] = ()
    doubted_pixels: int = 0
    kept_pixels: int = 0


@dataclass(frozen=True, slots=True)
class Restored:
    """A restored region, cut to the inner part of its problem.

    science, error : (rows, cols), the frame's unit; flags : (rows, cols), uint8 of PixelFlag
    All of factor times the size, where the problem's optics have a factor.
    """

    science: Plane
    error: Plane
    flags: NDArray[np.uint8]
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class FitReport:
    """How the fit of a prior went: steps and judged risk of each of its networks."""

    steps: int
    stop_reason: StopReason
    risks: tuple[float, ...] = ()
    notes: tuple[str, ...] = field(default=())


def cut_inner(problem: Problem, plane: Plane) -> Plane:
    """Cut a plane of the problem's shape to the part that is wanted back."""
    return np.ascontiguousarray(plane[problem.inner])
