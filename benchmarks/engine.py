"""What the engine costs: how little is lost beside the restoration itself.

    python -m benchmarks.engine speedup      2 workers against 1, 32 tiles
    python -m benchmarks.engine overhead     whole pipeline against restoration alone
    python -m benchmarks.engine scheduler    100,000 trivial tiles
    python -m benchmarks.engine prior        a prior applied to 16,384 x 16,384 and 4,096 x 4,096
    python -m benchmarks.engine packets      fits of a GPU in packets against one at a time
    python -m benchmarks.engine frames       whole frames on a GPU, from file to file

Figures are kept as JSON under benchmarks/results/. Times mean something on a quiet machine only.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click
import numpy as np
import psutil
import torch

from benchmarks.chaos import write_frame
from benchmarks.large import apply_to, fit_small_prior, write_large
from benchmarks.machine import commit, describe_machine, versions
from dip_pipeline import pipeline
from dip_pipeline.config import RunConfig
from dip_pipeline.engine import ExecutorKind, WorkerOptions, map_items
from dip_pipeline.restoration.priors.packets import fit_priors
from dip_pipeline.restoration.priors.prior_fit import fit_prior
from dip_pipeline.restoration.problem import FitOptions, Problem, Scope
from dip_pipeline.restoration.restore import restore
from dip_pipeline.runs import ways
from dip_pipeline.sensor import NoiseKind, NoiseModel, Sourced

RESULTS = Path(__file__).resolve().parent / "results"
NOISE = {"noise.gain_e_per_dn": 2.0, "noise.read_noise_e": 4.0, "noise.correlation": "white"}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure the engine."""


@main.command()
@click.option("--steps", default=200, show_default=True)
@click.option("--tile", default=128, show_default=True, help="Pixels; there are 4 x 8 tiles.")
@click.option("--repeats", default=1, show_default=True, help="The best of each counts.")
def speedup(steps: int, tile: int, repeats: int) -> None:
    """Time 32 tiles with a network each, one thread a worker, by one and by two workers."""
    overlap = tile // 8
    shape = (3 * (tile - overlap) + tile, 7 * (tile - overlap) + tile)
    seconds: dict[int, float] = {}
    with tempfile.TemporaryDirectory(prefix="dip-engine-") as name:
        source = write_frame(Path(name) / "in.fits", shape)
        for turn in range(repeats):
            for workers in (1, 2):
                place = {"workers.executor": "local", "workers.workers": workers}
                config = _config(steps, tile, overlap, **place)
                target = Path(name) / f"{workers}-{turn}.fits"
                started = time.monotonic()
                report = pipeline.restore_frame(str(source), target, config)
                taken = time.monotonic() - started
                assert report.tiles == 32, report
                seconds[workers] = min(taken, seconds.get(workers, taken))
    ratio = seconds[1] / seconds[2]
    _report("speedup", ratio >= 1.8, seconds=seconds, ratio=round(ratio, 3), must_reach=1.8)


@main.command()
@click.option("--steps", type=int, default=None, help="Of a fit.  [default: the usual]")
@click.option("--scope", type=click.Choice(["frame", "tile"]), default="frame", show_default=True)
@click.option("--tile", default=512, show_default=True, help="Pixels.")
@click.option("--side", default=1024, show_default=True, help="Of the frame, pixels.")
def overhead(steps: int | None, scope: str, tile: int, side: int) -> None:
    """Time a whole run, and what of it was restoration: fits and tiles, nothing else."""
    spent: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="dip-engine-") as name:
        source = write_frame(Path(name) / "in.fits", (side, side))
        config = _config(steps, tile, 32, **{"fit.scope": scope})
        with _timed(ways, "restore", spent), _timed(ways, "fit_prior", spent):
            started = time.monotonic()
            report = pipeline.restore_frame(str(source), Path(name) / "out.fits", config)
            seconds = time.monotonic() - started
    ratio = seconds / sum(spent.values())
    facts = {"tiles": report.tiles, "seconds": round(seconds, 2), "restoration": spent}
    _report("overhead", ratio <= 1.05, ratio=round(ratio, 4), must_reach=1.05, **facts)


@main.command()
@click.option("--tiles", default=100_000, show_default=True)
def scheduler(tiles: int) -> None:
    """Run trivial items on two workers; the driver's memory is looked at ten times on the way."""
    options = WorkerOptions(ExecutorKind.LOCAL, workers=2)
    process = psutil.Process()
    memory: list[float] = []
    started = 0.0
    for done, _ in enumerate(map_items(_trivial, range(tiles), options), start=1):
        if done == 1:
            started = time.monotonic()
        if done % max(1, tiles // 10) == 0:
            memory.append(round(process.memory_info().rss / 1e6, 1))
    each = (time.monotonic() - started) / tiles * 1e3
    grown = memory[-1] - memory[len(memory) // 2]
    good = each < 2 and max(memory) < 500 and grown < 20
    facts = {"tiles": tiles, "driver_mb": memory, "grown_in_second_half_mb": round(grown, 1)}
    _report("scheduler", good, ms_a_tile=round(each, 3), must_reach="2 ms, 500 MB, flat", **facts)


@main.command()
@click.option("--sides", default="4096,16384", show_default=True, help="Of the frames, pixels.")
@click.option("--tile", default=256, show_default=True, help="Pixels.")
@click.option(
    "--share",
    default=1,
    show_default=True,
    help="Restore one tile in so many; the others are copied through, and all are blended.",
)
@click.option("--folder", default="/tmp", show_default=True, help="For the frames: 6 GB.")
def prior(sides: str, tile: int, share: int, folder: str) -> None:
    """Apply a prior to large frames: memory at its peak, time a tile."""
    found: dict[int, Mapping[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="dip-large-", dir=folder) as name:
        fitted = fit_small_prior(Path(name))
        for side in map(int, sides.split(",")):
            found[side] = apply_to(Path(name), fitted, side=side, tile=tile, share=share)
            print(side, dict(found[side]), flush=True)
    peak = max(facts["peak_mb"] for facts in found.values())
    paces = [facts["seconds_a_tile"] for facts in found.values()]
    ratio = paces[-1] / paces[0]
    good = peak < 1500 and abs(ratio - 1) < 0.1
    must = "1500 MB, within 10 %"
    _report("prior", good, frames=found, peak_mb=peak, ratio=round(ratio, 3), must_reach=must)


@main.command()
@click.option("--device", default="cuda", show_default=True)
@click.option("--packet", "sizes", default="4,8,16,32", show_default=True)
@click.option("--side", default=256, show_default=True, help="Of a tile, pixels.")
@click.option("--steps", type=int, default=None, help="Of a fit.  [default: the usual]")
def packets(device: str, sizes: str, side: int, steps: int | None) -> None:
    """Fit and restore tiles with a network each: alone, and in packets of some sizes."""
    options = FitOptions(scope=Scope.TILE, steps=steps)
    problems = [_problem(number, side, options, device) for number in range(64)]
    _restored(problems[:1])  # warms up
    alone = _seconds(lambda: [restore(problem) for problem in problems[:4]], device) / 4
    rates = {}
    for size in map(int, sizes.split(",")):
        rates[size] = _seconds(partial(_restored, problems[:size]), device) / size
    best = alone / min(rates.values())
    facts = {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "alone_s": round(alone, 3),
        "in_packets_s": {size: round(value, 3) for size, value in rates.items()},
    }
    _report("packets", best >= 4, times_faster=round(best, 2), must_reach=4, **facts)


@main.command()
@click.option("--device", default="cuda", show_default=True)
@click.option("--sides", default="512,1024,2048,4096", show_default=True, help="Pixels.")
@click.option("--repeats", default=3, show_default=True, help="The median counts.")
@click.option("--steps", type=int, default=None, help="Of a fit.  [default: the usual]")
def frames(device: str, sides: str, repeats: int, steps: int | None) -> None:
    """Restore frames of stars, nothing of them masked, each with a prior of its own."""
    config = RunConfig().with_overrides(
        **{"workers.device": device, "fit.steps": steps, "noise.correlation": "white"}
    )
    seconds: dict[int, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="dip-engine-") as name:
        folder = Path(name)
        warm = write_large(folder / "warm.fits", 512)
        quick = config.with_overrides(**{"fit.steps": 2})
        pipeline.restore_frame(str(warm), folder / "warm_dip.fits", quick)
        for side in map(int, sides.split(",")):
            source = write_large(folder / f"{side}.fits", side)
            seconds[side] = []
            for turn in range(repeats):
                started = time.monotonic()
                pipeline.restore_frame(str(source), folder / f"{side}_{turn}.fits", config)
                seconds[side].append(round(time.monotonic() - started, 1))
            print(side, seconds[side], flush=True)
    medians = {side: float(np.median(each)) for side, each in seconds.items()}
    named = torch.cuda.get_device_name() if device.startswith("cuda") else device
    _report("frames", good=True, device=named, seconds=seconds, median_s=medians)


def _restored(problems: list[Problem]) -> None:
    if len(problems) == 1:
        restore(problems[0], fit_prior(problems, problems[0].pixels.shape, seed=problems[0].seed))
        return
    for problem, fitted in zip(problems, fit_priors(problems), strict=True):
        if isinstance(fitted, Exception):
            raise fitted
        restore(problem, fitted)


def _seconds(run: Callable[[], object], device: str) -> float:
    started = time.monotonic()
    run()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.monotonic() - started


def _problem(number: int, side: int, options: FitOptions, device: str) -> Problem:
    rng = np.random.default_rng(number)
    rows, cols = np.mgrid[:side, :side]
    sky = np.full((side, side), 100.0)
    for _ in range(side**2 // 1500):
        row, col = rng.uniform(0, side, 2)
        sky += rng.pareto(1.5) * 60 * np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / 5)
    nothing = np.zeros((side, side), bool)
    noise = NoiseModel(NoiseKind.GAUSSIAN, "benchmark", sigma=Sourced(7.0, "DN", "benchmark"))
    pixels = rng.normal(sky, 7).astype(np.float32)
    return Problem(pixels, nothing, nothing, noise, options, number, device=device)


def _config(steps: int | None, tile: int, overlap: int, **more: object) -> RunConfig:
    return RunConfig().with_overrides(
        **{
            "fit.scope": "tile",
            "fit.steps": steps,
            "tiles.size_px": tile,
            "tiles.overlap_px": overlap,
            "workers.threads_per_fit": 1,
            "workers.device": "cpu",
            **NOISE,
            **more,
        }
    )


class _timed:  # noqa: N801  (used as a context)
    """Adds up the seconds that a function takes."""

    def __init__(self, module: object, name: str, spent: dict[str, float]) -> None:
        self._module, self._name, self._spent = module, name, spent
        self._real = getattr(module, name)

    def __enter__(self) -> None:
        def run(*arguments: object, **options: object) -> object:
            started = time.monotonic()
            try:
                return self._real(*arguments, **options)
            finally:
                taken = time.monotonic() - started
                self._spent[self._name] = self._spent.get(self._name, 0.0) + taken

        setattr(self._module, self._name, run)

    def __exit__(self, *_: object) -> None:
        setattr(self._module, self._name, self._real)


def _trivial(number: int) -> int:
    return number


def _report(name: str, good: bool, **facts: object) -> None:  # noqa: FBT001
    content = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": describe_machine(),
        "versions": versions(),
        "command": sys.argv[1:],
        "reached": good,
        **facts,
    }
    text = json.dumps(content, indent=1)
    print(text)
    (RESULTS / f"engine-{name}.json").write_text(text + "\n")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
