"""`dip combine --each` on simulated dithers through which a source moves.

Every exposure is restored on its own pixels, by networks that all share and by its own, beside the
same alone (`dip denoise`) and beside the combination of all on the first one's pixels, warped to it
by a cubic spline. Cosmic rays are flagged, but in what is combined.

    python -m benchmarks.epochs --seeds 1
"""

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from astropy.io import fits
from scipy.ndimage import shift as shifted

from benchmarks.dithers import Dithers, Plane, draw_dithers, source_at, write_exposure
from benchmarks.machine import commit, describe_machine, versions
from dip_pipeline.batch.batch import Job, restore_frames
from dip_pipeline.batch.each_priors import shared_among_exposures
from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frame
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.simulate import SceneKind

RESULTS = Path(__file__).resolve().parent / "results" / "tasks-combine-each.json"
EXPOSURES = (1, 2)  # of the four, those that are restored
MOVING_SNR = 50.0
_BORDER_PX = 8
_SOURCE_SIGMA = 3.0
_NEAR_PX = 4.0

Row = dict[str, Any]


def epoch_rows(
    kind: str,
    seed: int,
    side_px: int,
    steps: int | None,
    exposures: Sequence[int] = EXPOSURES,
    blurs_px: Sequence[float] = (),
) -> list[Row]:
    """Restore four exposures in four ways; a row for each way, and of those that are asked for.

    blurs_px : seeing of each exposure, see `draw_dithers`
    """
    drawn = draw_dithers(kind, seed, side_px, moving_snr=MOVING_SNR, blurs_px=blurs_px)
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [write_exposure(drawn, number, folder) for number in range(len(drawn.frames))]
        joint, joint_s = _restored(paths[0], paths[1:], steps)
        flagged = [_flagged(path, drawn, number) for number, path in enumerate(paths)]
        together, together_s = _all_of(flagged, steps)
        for number in exposures:
            own = flagged[number]
            others = [path for path in flagged if path != own]
            # Pixel p of this exposure lies at p + shift of the first.
            warped = shifted(joint, [-by for by in drawn.shifts_px[number]], mode="nearest")
            results = {
                "alone": _restored(own, (), steps),
                "each": (together[number], together_s),
                "each, apart": _restored(own, others, steps, each=True),
                "combined, warped": (warped, joint_s),
            }
            scored = [
                {**_row(drawn, number, way, result), "seconds": round(seconds, 1)}
                for way, (result, seconds) in results.items()
            ]
            for row in scored[1:]:
                row["over_alone"] = round(row["off_path"] / scored[0]["off_path"], 3)
            found += scored
    for row in found:
        click.echo(json.dumps(row))
    return found


def _restored(
    own: Path, others: Sequence[Path], steps: int | None, *, each: bool = False
) -> tuple[Plane, float]:
    """Restore one file, with networks of its own; gives its pixels and the seconds it took."""
    values = {
        "task.name": "combine" if others else "denoise",
        "task.exposures": tuple(map(str, others)),
        "task.each": each,
    }
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "restored.fits"
        begun = time.perf_counter()
        restore_frame(str(own), target, _config(steps, values))
        return _science(target), time.perf_counter() - begun


def _all_of(paths: Sequence[Path], steps: int | None) -> tuple[list[Plane], float]:
    """Restore every exposure, by networks that all share; gives the seconds of one."""
    config = _config(steps, {"task.name": "combine", "task.each": True})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = [Job(str(path), folder / f"{rank}.fits") for rank, path in enumerate(paths)]
        begun = time.perf_counter()
        restore_frames(shared_among_exposures(jobs, config, folder, None), config)
        seconds = (time.perf_counter() - begun) / len(paths)
        return [_science(job.target) for job in jobs], seconds


def _config(steps: int | None, values: dict[str, Any]) -> RunConfig:
    always = {"fit.steps": steps, "workers.threads_per_fit": 1}
    return RunConfig().with_overrides(**values, **always)


def _science(path: Path) -> Plane:
    return open_frame(path).read(slice(None), slice(None)).science.astype(np.float64)


def _flagged(path: Path, drawn: Dithers, number: int) -> Path:
    """Write an exposure once more, with a plane that flags its own cosmic rays."""
    other = path.with_name(f"flagged_{number}.fits")
    with fits.open(path) as hdus:
        science = fits.ImageHDU(hdus[0].data, hdus[0].header, name="SCI")
    flags = fits.ImageHDU(drawn.hit[number].astype(np.uint8), name="DQ")
    fits.HDUList([fits.PrimaryHDU(), science, flags]).writeto(other)
    return other


def _row(drawn: Dithers, number: int, way: str, result: Plane) -> Row:
    """Score a result: errors over the noise of the exposure.

    off_path : rms away from the moving source; own_place : rms within 4 px of it
    ghost : largest height of a star's profile fitted where the source was in other exposures
    own_light : light found at its place, of what it has there
    """
    truth, sigma = drawn.levels[number], drawn.sigma[number]
    error = (result - truth) / sigma
    judged = np.zeros(error.shape, bool)
    judged[_BORDER_PX:-_BORDER_PX, _BORDER_PX:-_BORDER_PX] = True
    judged &= ~drawn.hit[number]
    places = [np.subtract(place, drawn.shifts_px[number]) for place in drawn.moving]
    rows, cols = np.indices(error.shape)
    near = [np.hypot(rows - row, cols - col) <= _NEAR_PX for row, col in places]
    off_path = judged & ~np.any(near, axis=0)
    source = off_path & (truth - drawn.sky > _SOURCE_SIGMA * sigma)
    heights = [_height(error, place, judged) for place in places]
    own = near[number] & judged
    light = source_at(truth.shape, places[number])
    wanted = float((light * (truth - drawn.sky))[own].sum())
    return {
        "field": drawn.kind,
        "seed": drawn.seed,
        "method": f"{way}, exposure {number}",
        "off_path": _rms(error[off_path]),
        "on_sources": _rms(error[source]),
        "off_sources": _rms(error[off_path & ~source]),
        "own_place": _rms(error[own]),
        "own_light": round(float((light * (result - drawn.sky))[own].sum()) / wanted, 4),
        "ghost": round(max(abs(h) for k, h in enumerate(heights) if k != number), 4),
    }


def _height(error: Plane, place: Plane, judged: Plane) -> float:
    profile = source_at(error.shape, place) * judged
    return float((error * profile).sum() / (profile**2).sum() * profile.max())


def _rms(values: Plane) -> float:
    return round(float(np.sqrt(np.mean(values**2))), 4)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", default="1", show_default=True, help="Of the fields.")
@click.option("--steps", type=click.IntRange(1), default=200, show_default=True)
@click.option("--side", type=click.IntRange(96), default=128, show_default=True)
@click.option("--blurs", help="Of each exposure's seeing, px: 0,1,0,1.  [default: alike]")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(*, seeds: str, steps: int, side: int, blurs: str | None, out: Path) -> None:
    """Measure the fields of some seeds and keep the rows as JSON."""
    blurs_px = [float(blur) for blur in (blurs or "").split(",") if blur]
    found = [
        row
        for seed in seeds.split(",")
        for kind in SceneKind
        for row in epoch_rows(str(kind), int(seed), side, steps, blurs_px=blurs_px)
    ]
    about = {"machine": describe_machine(), "versions": versions(), "commit": commit()}
    about |= {"side_px": side, "steps": steps, "blurs_px": blurs_px}
    out.write_text(json.dumps({**about, "rows": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
