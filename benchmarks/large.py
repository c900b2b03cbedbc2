"""Large frames, written by bands, and a prior applied to them in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path

import numpy as np
from astropy.io import fits

from benchmarks.memory import peak_bytes
from dip_pipeline.config import RunConfig
from dip_pipeline.fitting import fit_frames
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.restoration.priors.prior import Prior
from dip_pipeline.restoration.problem import Problem, Restored, StopReason
from dip_pipeline.restoration.restore import restore, unchanged
from dip_pipeline.runs import ways

_ROWS = 256
_CARDS = {"GAIN": 2.0, "RDNOISE": 4.0, "BUNIT": "DN", "FILTER": "r"}


def write_large(path: Path, side: int) -> Path:
    """Write a square frame of noise and stars, band by band: memory holds one."""
    header = fits.Header({"SIMPLE": True, "BITPIX": -32, "NAXIS": 2})
    header["NAXIS1"] = header["NAXIS2"] = side
    header.update(_CARDS)
    stream = fits.StreamingHDU(path, header)
    rng = np.random.default_rng(side)
    kernel = np.exp(-(np.arange(-6, 7) ** 2) / 5)
    for first in range(0, side, _ROWS):
        rows = min(_ROWS, side - first)
        sky = np.full((rows, side), 100.0, np.float32)
        for _ in range(rows * side // 2000):
            row, col = rng.integers(6, rows - 6), rng.integers(6, side - 6)
            star = np.outer(kernel, kernel) * rng.pareto(1.5) * 60
            sky[row - 6 : row + 7, col - 6 : col + 7] += star.astype(np.float32)
        noise = rng.standard_normal((rows, side), np.float32) * np.sqrt(sky / 2 + 4)
        stream.write((sky + noise).astype(">f4"))
    stream.close()
    return path


def fit_small_prior(folder: Path, steps: int = 60) -> Path:
    """Fit a prior on a small frame of the same sky: how well is no matter here."""
    source = write_large(folder / "small.fits", 512)
    target = folder / "large.prior"
    config = RunConfig().with_overrides(**{"fit.steps": steps, "noise.correlation": "white"})
    fit_frames([str(source)], target, config)
    return target


def apply_to(folder: Path, prior: Path, *, side: int, tile: int, share: int) -> Mapping[str, float]:
    """Restore a frame of that side in a process of its own; gives its peak memory and pace."""
    source = write_large(folder / f"{side}.fits", side)
    words = [str(source), str(folder / f"{side}_dip.fits"), str(prior), str(tile), str(share)]
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.large", *words], check=True, capture_output=True
    )
    for path in folder.glob(f"{side}*"):
        path.unlink()
    found: Mapping[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return found


def main(source: str, target: str, prior: str, tile: str, share: str) -> None:
    """Apply a prior; tell of memory and time."""
    seen = count()

    def restore_some(problem: Problem, given: Prior | None) -> Restored:
        if next(seen) % int(share):
            return unchanged(problem, StopReason.NO_DATA)
        return restore(problem, given)

    setattr(ways, "restore", restore_some)  # noqa: B010  (it is another's)
    config = RunConfig().with_overrides(
        **{
            "fit.prior": prior,
            "tiles.size_px": int(tile),
            "workers.threads_per_fit": 1,
            "workers.device": "cpu",
            "noise.correlation": "white",
        }
    )
    report = restore_frame(source, Path(target), config)
    table = fits.getdata(target, "DIP_TILE")
    restored = table[table["stop_reason"] != "NO_DATA"]
    facts = {
        "tiles": report.tiles,
        "tiles_restored": len(restored),
        "seconds": round(report.seconds, 1),
        "seconds_a_tile": round(float(np.median(restored["seconds"])), 4),
        "mean_seconds_a_tile": round(float(np.mean(restored["seconds"])), 4),
        "peak_mb": round(peak_bytes() / 1e6),
    }
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
