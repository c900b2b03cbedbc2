"""Exposures of real telescopes: five of DECam, one held out; registration of M13.

    python -m benchmarks.observed_exposures --decam d,e --m13

The held-out frame is predicted by the other four combined; every prediction is brought to its
seeing, flux scale and sky. The M13 frames carry a strong fixed pattern, on which a registration
must not lock.
"""

import json
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from astropy.io import fits
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks.fields import extra_file
from benchmarks.machine import commit, describe_machine, versions
from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frame
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.registration import Between, register, see

RESULTS = Path(__file__).resolve().parent / "results"
_DECAM = tuple(f"multi_exposure/DEC-OBS04{name}.mini.fits" for name in "abcde")
# Offsets of the scene by hand, and how: see tests/registration/test_registering.py.
_M13 = {
    "multi_exposure/M13_blue_0002.fits.gz": (1.06, -11.61),
    "multi_exposure/M13_blue_0004.fits.gz": (3.39, -34.61),
}
_BLURS_PX = tuple(round(0.15 * step, 2) for step in range(12))
_M13_REFERENCE = "multi_exposure/M13_blue_0001.fits"

Plane = NDArray[np.float64]
Row = dict[str, Any]


def decam_rows(
    held_out: Sequence[str], *, steps: int | None = None, device: str = "cpu"
) -> list[Row]:
    """Predict each held-out frame by the other four combined, by their mean, by one restored."""
    found = []
    for name in held_out:
        chosen = next(path for path in _DECAM if f"04{name}." in path)
        others = [path for path in _DECAM if path != chosen]
        aim = _science(extra_file(chosen))
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "combined.fits"
            options: dict[str, object] = {
                "fit.steps": steps,
                "workers.threads_per_fit": 1,
                "workers.device": device,
            }
            task = {
                "task.name": "combine",
                "task.exposures": tuple(str(extra_file(path)) for path in others[1:]),
            }
            first = str(extra_file(others[0]))
            restore_frame(first, target, RunConfig().with_overrides(**options, **task))
            single = Path(folder) / "single.fits"
            restore_frame(first, single, RunConfig().with_overrides(**options))
            results = {
                "combine four, ours": _science(target),
                "mean of four": np.mean([_science(extra_file(p)) for p in others], axis=0),
                "one frame, our denoise": _science(single),
            }
        for method, result in results.items():
            row = {"field": "decam", "held_out": name, "method": method}
            row |= _predicted(result, aim)
            click.echo(json.dumps(row))
            found.append(row)
    return found


def _science(path: Path) -> Plane:
    return open_frame(path).read(slice(None), slice(None)).science.astype(np.float64)


def _predicted(result: Plane, aim: Plane) -> Row:
    """Mean squared error on a frame, at its seeing, and as the prediction is; alike for all.

    The Gaussian is the best of several on the frame itself; and, so that no choice is made on its
    pixels, what lies between the stars of both, as registration measures it: a mixture of several.
    """
    rows = [
        {**_at_its_light(_blurred(result, blur_px), aim), "blurred_px": blur_px}
        for blur_px in _BLURS_PX
    ]
    best = min(rows, key=lambda row: float(row["mean_squared_error"]))
    seen = [see(name, *_known(plane)) for name, plane in (("result", result), ("aim", aim))]
    found = register(seen[0], seen[1])
    measured_px = float(np.sqrt(max(0.0, -found.wider_px2)))
    at_seeing = _at_its_light(_at_seeing(result, found.between), aim)
    return {
        **best,
        "measured_blur_px": round(measured_px, 3),
        "measured_mixture": [list(part) for part in found.between.mixture],
        "measured_blur_mean_squared_error": at_seeing["mean_squared_error"],
        "unblurred_mean_squared_error": rows[0]["mean_squared_error"],
    }


def _known(plane: Plane) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Pixels, and where they are not known."""
    known = np.isfinite(plane)
    return np.where(known, plane, 0.0).astype(np.float32), ~known


def _blurred(plane: Plane, sigma_px: float) -> Plane:
    """Blur a plane; pixels without a number stay without."""
    if sigma_px == 0:
        return plane
    known = np.isfinite(plane)
    light = gaussian_filter(np.where(known, plane, 0.0), sigma_px)
    share = gaussian_filter(known.astype(np.float64), sigma_px)
    return np.where(known, light / np.maximum(share, 1e-6), np.nan)


def _at_seeing(plane: Plane, between: Between) -> Plane:
    """Show a plane as one of wider stars would; a wider one stays as it is."""
    if between.is_wider or not between.mixture:
        return plane
    known = np.isfinite(plane)
    return between.through(np.where(known, plane, 0.0), known)


def _at_its_light(result: Plane, aim: Plane) -> Row:
    """Mean squared error on a frame, after its flux scale and sky by a robust regression."""
    good = np.isfinite(result) & np.isfinite(aim)
    x, y = result[good], aim[good]
    scale, level = 1.0, 0.0
    for _ in range(20):
        residual = y - scale * x - level
        sigma = 1.4826 * np.median(np.abs(residual - np.median(residual)))
        weight = 1 / np.maximum(1, np.abs(residual) / (3 * sigma))
        design = np.stack([x, np.ones_like(x)])
        scale, level = np.linalg.solve((design * weight) @ design.T, (design * weight) @ y)
    residual = y - scale * x - level
    return {
        "mean_squared_error": round(float(np.mean(residual**2)), 4),
        "median_absolute_error": round(float(np.median(np.abs(residual))), 4),
        "flux_scale": round(float(scale), 4),
    }


def m13_rows() -> list[Row]:
    """Register the M13 frames; offsets are those of the scene, as by hand."""
    reference = _seen(_M13_REFERENCE)
    found = []
    for name, by_hand in _M13.items():
        result = register(_seen(name), reference)
        offset = [-value for value in result.geometry.shift_px]
        row = {
            "field": "m13",
            "file": name,
            "offset_px": [round(value, 3) for value in offset],
            "by_hand_px": list(by_hand),
            "apart_px": round(float(np.abs(np.subtract(offset, by_hand)).max()), 3),
            "how": result.how,
        }
        click.echo(json.dumps(row))
        found.append(row)
    return found


def _seen(name: str) -> Any:  # noqa: ANN401
    return see(name, *_known(fits.getdata(extra_file(name)).astype(np.float64)))


def _letters(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    letters = tuple(filter(None, value.split(",")))
    known = "abcde"[: len(_DECAM)]
    if unknown := [letter for letter in letters if letter not in known or len(letter) > 1]:
        raise click.BadParameter(
            f"{unknown[0]!r} is none of the frames: need letters of {', '.join(known)}, as in d,e"
        )
    return letters


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--steps", type=int, help="Of every fit.  [default: as users get]")
@click.option(
    "--decam",
    default="",
    callback=_letters,
    help="Held-out frames, as in d,e, of a to e.  [default: none]",
)
@click.option("--m13", is_flag=True, help="Register the M13 frames.")
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), default=RESULTS / "tasks-combine-observed.json"
)
def main(steps: int | None, decam: tuple[str, ...], device: str, out: Path, *, m13: bool) -> None:
    """Measure the combination of observed exposures; figures are added to the results."""
    torch.set_num_threads(1)
    found = decam_rows(decam, steps=steps, device=device)
    found += m13_rows() if m13 else []
    kept = json.loads(out.read_text()) if out.exists() else {"runs": []}
    kept["runs"].append(
        {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": describe_machine(),
            "versions": versions(),
            "steps": steps,
            "device": device,
            "rows": found,
        }
    )
    out.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
