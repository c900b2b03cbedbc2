"""`dip inpaint` against what an astronomer fills holes with; figures against the noiseless truth.

Peers fill the noisy frame, and our denoised one: its holes masked, its known pixels restored.
Every error is |filled - truth| over the true noise of the pixel, over filled pixels alone.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import partial
from itertools import pairwise

import numpy as np
from astropy.convolution import Gaussian2DKernel, interpolate_replace_nans
from maskfill import maskfill
from numpy.typing import NDArray
from scipy import ndimage
from skimage.restoration import inpaint_biharmonic

from benchmarks import missing_half
from benchmarks.fields import SIMULATED, Field, FieldKind, Mask, Plane, draw_without_defects
from benchmarks.machine import usual_device
from benchmarks.ours import with_dip
from benchmarks.restored import Restored, Settings
from dip_pipeline.quality import coverage

NOISY, DENOISED = "the noisy frame", "our denoised frame"
ISOLATED_SHARE = 0.02
COLUMNS = 3
TRAIL_PX, HOLE_PX = 8, 40
KERNEL_SIGMAS_PX = (1.0, 2.0, 4.0, 8.0)
KNOWN_FIELDS: tuple[str, ...] = (*SIMULATED, "barbara")
_SOURCE_SIGMA = 3.0
_DISTANCES_PX = (1, 2, 4, 8, 16, 64)

Values = NDArray[np.float64]
Fill = Callable[[Plane, Mask], Values]
Row = dict[str, object]


class Holes(StrEnum):
    """What is missing."""

    SMALL = "small"  # 2 % isolated pixels, and bad columns
    LARGE = "large"  # a trail 8 px wide and a square of 40 px


def draw_holed(kind: FieldKind, seed: int, holes: Holes, *, side_px: int) -> Field:
    """Draw a field whose holes are the ones asked for, and no others; they read zero."""
    field = draw_without_defects(kind, seed, side_px=side_px)
    rng = np.random.default_rng([seed, 0x1A9])
    masked = _DRAWN[holes](field.observed.shape, rng) & ~field.saturated
    return replace(field, masked=masked, observed=np.where(masked, np.float32(0), field.observed))


def rows(
    seed: int,
    *,
    side_px: int = 256,
    steps: int | None = None,
    fields: Sequence[str] = tuple(SIMULATED),
) -> list[Row]:
    """Measure ours and every peer on every field and sort of hole; "barbara" is a field, too.

    Our row tells its figure as a ratio to that of the best peer: rms of small holes, median of
    large ones.
    """
    found: list[Row] = []
    for kind in fields:
        if kind == "barbara":
            found += missing_half.rows(seed)
            continue
        for holes in Holes:
            field = draw_holed(FieldKind(kind), seed, holes, side_px=side_px)
            about: Row = {"field": f"{kind}, {holes} holes", "seed": seed, "side_px": side_px}
            measured = _measured(field, Settings(threads=1, steps=steps, device=usual_device()))
            measured[0] |= _ratios(measured, "rms" if holes is Holes.SMALL else "median")
            found += [{**about, **row} for row in measured]
    return found


def _measured(field: Field, settings: Settings) -> list[Row]:
    """Give our row first, then those of the peers on both frames."""
    ours = with_dip(field, settings, {"task.name": "inpaint", "task.denoise_known": True})
    found: list[Row] = [{"method": "ours", **_figures(field, ours)}]
    for frame, pixels in ((NOISY, field.observed), (DENOISED, ours.science)):
        for name, fill in PEERS.items():
            started = time.monotonic()
            filled = fill(pixels, field.masked).astype(np.float32)
            peer = Restored(filled, time.monotonic() - started)
            found.append({"method": f"{name}, {frame}", **_figures(field, peer)})
    return found


def _ratios(measured: Sequence[Row], figure: str) -> Row:
    """Compare our figure with the least of the peers on each frame."""
    told: Row = {}
    for frame, name in ((NOISY, "noisy"), (DENOISED, "denoised")):
        peers = [row for row in measured[1:] if str(row["method"]).endswith(frame)]
        best = min(peers, key=lambda row: float(str(row[figure])))
        told[f"best_{name}"] = best["method"]
        told[f"to_best_{name}"] = float(str(measured[0][figure])) / float(str(best[figure]))
    return told


def _figures(field: Field, restored: Restored) -> Row:
    """Errors over the filled pixels: of all, on sources and off, and by distance."""
    truth = field.truth
    error = (restored.science - truth.level) / truth.sigma
    away_px = ndimage.distance_transform_edt(field.masked)
    on = truth.signal > _SOURCE_SIGMA * truth.sigma
    row: Row = {
        "rms": _rms(error[field.masked]),
        "median": _median(error[field.masked]),
        "residual_on": _rms(error[field.masked & on]),
        "residual_off": _rms(error[field.masked & ~on]),
        "seconds": round(restored.seconds, 2),
    }
    if restored.error is not None:
        for low, high in pairwise(_DISTANCES_PX):
            ring = field.masked & (away_px >= low) & (away_px < high)
            if ring.any():
                covered = coverage(restored.science, truth.level, restored.error, where=ring)
                row[f"covered_{low}_{high}"] = round(covered.overall, 3)
                row[f"median_{low}_{high}"] = _median(error[ring])
        whole = coverage(restored.science, truth.level, restored.error, where=field.masked)
        row["covered"] = round(whole.overall, 3)
        row["unclaimed"] = float((~np.isfinite(restored.error[field.masked])).mean())
    return row


def _rms(error: Values) -> float:
    return float(np.sqrt(np.mean(error**2))) if error.size else float("nan")


def _median(error: Values) -> float:
    return float(np.median(np.abs(error))) if error.size else float("nan")


def _small_holes(shape: tuple[int, int], rng: np.random.Generator) -> Mask:
    masked: Mask = rng.random(shape) < ISOLATED_SHARE
    masked[:, rng.choice(shape[1], COLUMNS, replace=False)] = True
    return masked


def _large_holes(shape: tuple[int, int], rng: np.random.Generator) -> Mask:
    """Put trail and hole where they do not touch: the trail in the upper half, rising slowly."""
    rows, cols = np.indices(shape)
    slope = rng.uniform(0.05, 0.25)
    middle = shape[0] * rng.uniform(0.15, 0.25) + slope * cols
    masked: Mask = np.abs(rows - middle) * np.cos(np.arctan(slope)) <= TRAIL_PX / 2
    side_px = min(HOLE_PX, shape[0] // 4)
    top = int(rng.integers(int(0.6 * shape[0]), shape[0] - side_px - 8))
    left = int(rng.integers(8, shape[1] - side_px - 8))
    masked[top : top + side_px, left : left + side_px] = True
    return masked


_DRAWN = {Holes.SMALL: _small_holes, Holes.LARGE: _large_holes}


def _astropy(pixels: Plane, masked: Mask, *, sigma_px: float) -> Values:
    """Fill by normalised convolution, again and again until nothing is left to fill."""
    filled: Values = np.where(masked, np.nan, pixels).astype(np.float64)
    kernel = Gaussian2DKernel(sigma_px)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of holes that are left, round after round
        while np.isnan(filled).any():
            filled = interpolate_replace_nans(filled, kernel, boundary="extend")
    return filled


def _biharmonic(pixels: Plane, masked: Mask) -> Values:
    low, high = float(pixels[~masked].min()), float(pixels[~masked].max())
    scaled = (pixels.astype(np.float64) - low) / (high - low)  # it clips to the known range
    filled: Values = inpaint_biharmonic(np.where(masked, 0.0, scaled), masked)
    return low + (high - low) * filled


def _maskfill(pixels: Plane, masked: Mask, *, operator: str) -> Values:
    filled, _ = maskfill(pixels.astype(np.float64), masked.astype(np.int16), operator=operator)
    return np.asarray(filled)


PEERS: dict[str, Fill] = {
    **{f"astropy-{sigma:g}": partial(_astropy, sigma_px=sigma) for sigma in KERNEL_SIGMAS_PX},
    "biharmonic": _biharmonic,
    "maskfill-median": partial(_maskfill, operator="median"),
    "maskfill-mean": partial(_maskfill, operator="mean"),
}
