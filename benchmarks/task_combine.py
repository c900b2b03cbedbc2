"""Combination of exposures, side by side with drizzle and a mean stack, on simulated dithers.

    python -m benchmarks.tasks --tasks combine --seeds 1

Simulated: four dithered exposures, FWHM 1.8 px, cosmic rays in each, combined on pixels twice as
fine. The peers are told the true dithers and which pixels cosmic rays hit; ours finds both. The
better drizzle and the mean also go through our own denoiser, their error plane and correlation
measured on draws of the noise. Residuals are over the noise of one exposure. `--each` has rows of
its own, see `benchmarks.epochs`.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from benchmarks.dithers import FACTOR, Dithers, Plane, draw_dithers, write_exposure
from benchmarks.epochs import epoch_rows
from benchmarks.stacks import denoised, peers
from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frame, read_provenance
from dip_pipeline.frames.prov_json import facts_of
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.simulate import (
    SceneKind,
)

_BORDER_PX = 8  # where not all exposures see the sky, nobody is judged
_SOURCE_SIGMA = 3.0
_DENOISED = ("drizzle, pixfrac 0.6", "mean stack, spline")  # the better drizzle, and the mean
KNOWN_FIELDS: tuple[str, ...] = tuple(SceneKind)

Row = dict[str, Any]


def rows(
    seed: int,
    *,
    side_px: int = 96,
    steps: int | None = None,
    fields: Sequence[str] = KNOWN_FIELDS,
) -> list[Row]:
    """Measure every method on simulated fields of a seed."""
    found = []
    for kind in map(str, fields):
        found += _field_rows(kind, seed, side_px, steps)
        found += epoch_rows(kind, seed, side_px, steps)
    return found


def _field_rows(kind: str, seed: int, side_px: int, steps: int | None) -> list[Row]:
    drawn = draw_dithers(kind, seed, side_px)
    result, more = _ours(drawn, steps)
    found = [_row(drawn, "combine, ours", result, more)]
    for name, stack in peers(drawn).items():
        plain = stack([frame.astype(np.float64) - drawn.sky for frame in drawn.frames])
        level = drawn.sky / FACTOR**2
        found.append(_row(drawn, name, plain + level, {}))
        if name not in _DENOISED:
            continue
        again = denoised(drawn, stack, plain, steps) + level
        found.append(_row(drawn, f"{name}, our denoise", again, {}))
    best = min(row["on_sources"] for row in found[1:])
    found[0]["over_best"] = round(found[0]["on_sources"] / best, 3)
    return found


def _row(drawn: Dithers, method: str, result: Plane, more: Mapping[str, object]) -> Row:
    """Score a result: rms of (result - truth) over the noise of one exposure."""
    fine = np.repeat(np.repeat(drawn.sigma[0], FACTOR, 0), FACTOR, 1) / FACTOR**2
    error = (result - drawn.truth) / fine
    judged = np.zeros(error.shape, bool)
    edge = _BORDER_PX * FACTOR
    judged[edge:-edge, edge:-edge] = np.isfinite(error)[edge:-edge, edge:-edge]
    source = judged & (drawn.truth - drawn.sky / FACTOR**2 > _SOURCE_SIGMA * fine)
    struck = judged & ~source & _where_struck(drawn)
    row = {
        "field": drawn.kind,
        "seed": drawn.seed,
        "method": method,
        "on_sources": _rms(error[source]),
        "median_on_sources": round(float(np.median(np.abs(error[source]))), 4),
        "off_sources": _rms(error[judged & ~source]),
        "off_sources_where_struck": _rms(error[struck]),
        **more,
    }
    click.echo(json.dumps(row))
    return row


def _rms(values: Plane) -> float:
    return round(float(np.sqrt(np.mean(values**2))), 4)


def _where_struck(drawn: Dithers) -> NDArray[np.bool_]:
    """Fine pixels within a pixel of where a cosmic ray hit any exposure."""
    struck = np.zeros(drawn.truth.shape, bool)
    for hit, shift in zip(drawn.hit, drawn.shifts_px, strict=True):
        places = np.floor((np.argwhere(hit) + shift + 0.5) * FACTOR)
        for row, col in places.clip(0, np.array(struck.shape) - 1).astype(int).tolist():
            struck[row, col] = True
    grown: NDArray[np.bool_] = maximum_filter(struck, 3)
    return grown


def _ours(drawn: Dithers, steps: int | None) -> tuple[Plane, dict[str, object]]:
    """Combine as a user does: files in, a file out."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [write_exposure(drawn, number, Path(folder)) for number in range(len(drawn.frames))]
        target = Path(folder) / "combined.fits"
        config = RunConfig().with_overrides(
            **{
                "task.name": "combine",
                "task.factor": FACTOR,
                "task.exposures": tuple(map(str, paths[1:])),
                "fit.steps": steps,
                "workers.threads_per_fit": 1,
            }
        )
        report = restore_frame(str(paths[0]), target, config)
        science = open_frame(target).read(slice(None), slice(None)).science
        account = read_provenance(target)
    assert account is not None
    shifts = [
        facts_of(account.document, f"exposure-{number}")["shift_px"]
        for number in range(1, len(drawn.frames))
    ]
    apart = np.abs(np.array(shifts) - np.array(drawn.shifts_px[1:]))
    more: dict[str, object] = {
        "registration_error_px": round(float(apart.max()), 4),
        "seconds": report.seconds,
    }
    return science.astype(np.float64), more
