"""Runs that are disturbed on purpose, and must not mind.

    python -m benchmarks.chaos workers    a worker killed every 20 s, 64 tiles
    python -m benchmarks.chaos night      ten frames, two of them broken, a worker killed
    python -m benchmarks.chaos disks      a disk that fills up, at many sizes (as root)

Each compares with an undisturbed run, byte for byte; exit code 1 where anything differs.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np
import psutil
from astropy.io import fits

from benchmarks.kills import end_one, planes_of
from benchmarks.machine import commit, describe_machine, versions

RESULTS = Path(__file__).resolve().parent / "results"
NIGHTLY = Path(__file__).resolve().parents[1] / "workflows" / "nightly.toml"
QUIET = ("--threads-per-fit", "1", "--device", "cpu", "--gain", "2", "--read-noise", "4", "-q")
LOCAL = ("--executor", "local", "--workers", "2")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Disturb runs."""


@main.command()
@click.option("--every", default=20.0, show_default=True, help="Seconds between kills.")
@click.option("--steps", default=40, show_default=True)
@click.option("--tile", default=64, show_default=True, help="Pixels; there are 8 x 8 tiles.")
def workers(every: float, steps: int, tile: int) -> None:
    """Kill a worker again and again during a run of 64 tiles.

    Tiles must take much less than the time between kills: one that loses three workers is copied.
    """
    with _folder() as folder:
        side = 7 * (tile - tile // 8) + tile
        source = write_frame(folder / "in.fits", (side, side))
        words = [str(source), "--scope", "tile", "--steps", str(steps), *QUIET]
        words += ["--tile", str(tile), "--overlap", str(tile // 8)]
        _dip("denoise", *words, *LOCAL, "-o", str(folder / "undisturbed.fits"))
        started = time.monotonic()
        with _running("denoise", *words, *LOCAL, "-o", str(folder / "out.fits")) as child:
            kills = _kill_every(child, every)
        seconds = time.monotonic() - started
        same = planes_of(folder / "out.fits") == planes_of(folder / "undisturbed.fits")
        table = fits.getdata(folder / "out.fits", "DIP_TILE")
        lost = int((table["stop_reason"] == "WORKER_LOST").sum())
        good = child.returncode == 0 and same
        facts = {"exit_code": child.returncode, "tiles_lost": lost, "same": same}
        facts["seconds_a_tile"] = round(float(np.median(table["seconds"])), 2)
        _report("workers", good, tiles=len(table), kills=kills, seconds=round(seconds, 1), **facts)


@main.command()
@click.option("--steps", default=20, show_default=True)
def night(steps: int) -> None:
    """Restore a night of ten frames by the recipe, two of them broken, a worker killed."""
    with _folder() as folder:
        names = [f"f{number}.fits" for number in range(10)]
        for number, name in enumerate(names):
            write_frame(folder / name, (96, 112), seed=number, hour=number // 4)
        (folder / "f3.fits").write_bytes((folder / "f3.fits").read_bytes()[:20_000])
        (folder / "f7.fits").write_text("no image at all")
        words = [str(NIGHTLY), *(str(folder / name) for name in names), *QUIET]
        words += ["--steps", str(steps), "--tile", "48", "--overlap", "8", "--workers", "2"]
        _dip("run", *words, "-o", str(folder / "undisturbed"), check=False)
        with _running("run", *words, "-o", str(folder / "disturbed")) as child:
            killed = _kill_once_restoring(child, folder / "disturbed")
        summary = json.loads((folder / "disturbed" / "summary.json").read_text())
        same = [
            planes_of(folder / "disturbed" / f"{Path(name).stem}_dip.fits")
            == planes_of(folder / "undisturbed" / f"{Path(name).stem}_dip.fits")
            for name in names
            if name not in ("f3.fits", "f7.fits")
        ]
        failed = [Path(f["source"]).name for f in summary["frames"] if f["status"] == "failed"]
        true = summary["counts"] == {"restored": 8, "failed": 2} and failed == [
            "f3.fits",
            "f7.fits",
        ]
        good = child.returncode == summary["exit_code"] == 1 and true and all(same) and killed
        facts = {"exit_code": child.returncode, "counts": summary["counts"], "failed": failed}
        _report("night", good, same_products=sum(same), workers_killed=int(killed), **facts)


@main.command()
@click.option("--sizes", default=16, show_default=True, help="How many sizes of the disk.")
def disks(sizes: int) -> None:
    """Let the disk fill up at many moments; then there is room, and the same command goes on."""
    with _folder() as folder:
        source = write_frame(folder / "in.fits", (96, 112))
        words = [str(source), "--steps", "1", "--tile", "48", "--overlap", "8", *QUIET]
        _dip("denoise", *words, "-o", str(folder / "undisturbed.fits"))
        wanted = planes_of(folder / "undisturbed.fits")
        ends = [_on_small_disk(folder, words, wanted, size) for size in _sizes(sizes)]
        read_only = _on_read_only_disk(folder, words)
        good = all(end["good"] for end in ends) and bool(read_only["good"])
        _report("disks", good, refused=sum(end["refused"] for end in ends), read_only=read_only)


def _sizes(count: int) -> list[int]:
    """From one that holds nothing to one that holds all, bytes."""
    return [int(size) // 4096 * 4096 for size in np.geomspace(64_000, 6_000_000, count)]


def _on_small_disk(
    folder: Path, words: list[str], wanted: dict[str, bytes], size: int
) -> dict[str, bool]:
    disk = folder / "disk"
    disk.mkdir(exist_ok=True)
    target = disk / "out.fits"
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=True)
    try:
        # As if the estimate had been fooled: what is asked of the disk is found out by writing.
        first = _dip("denoise", *words, "-o", str(target), check=False, fooled=True)
        refused = first.returncode != 0
        said = first.stderr.strip().splitlines()
        honest = not refused or (len(said) == 1 and "bytes" in said[0] and not target.exists())
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        second = _dip("denoise", *words, "-o", str(target), check=False)
        whole = second.returncode == 0 and planes_of(target) == wanted
        print(f"{size}: refused {refused}, one line {honest}, goes on {whole}: {said[-1:]}")
        return {"refused": refused, "good": honest and whole}
    finally:
        subprocess.run(["umount", disk], check=True)


def _on_read_only_disk(folder: Path, words: list[str]) -> dict[str, object]:
    disk = folder / "disk"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=64m", "tmpfs", disk], check=True)
    try:
        ended = _dip("denoise", *words, "-o", str(disk / "out.fits"), check=False)
    finally:
        subprocess.run(["umount", disk], check=True)
    said = ended.stderr.strip().splitlines()
    return {"said": said, "good": ended.returncode == 1 and len(said) == 1}


def write_frame(path: Path, shape: tuple[int, int], *, seed: int = 3, hour: int = 0) -> Path:
    """Write noise with a few stars."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    sky = np.full(shape, 100.0)
    for _ in range(shape[0] * shape[1] // 1500):
        row, col = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        star = np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / 5)
        sky += rng.pareto(1.5) * 60 * star
    header = fits.Header({"DATE-OBS": f"2026-03-01T0{hour}:00:00", "FILTER": "r"})
    noisy = rng.normal(sky, np.sqrt(sky / 2 + 4)).astype(np.float32)
    fits.PrimaryHDU(noisy, header).writeto(path)
    return path


def _kill_every(child: subprocess.Popen[str], every: float) -> int:
    kills = 0
    while True:
        try:
            child.wait(timeout=every)
        except subprocess.TimeoutExpired:
            kills += end_one(psutil.Process(child.pid), "worker")
        else:
            return kills


def _kill_once_restoring(child: subprocess.Popen[str], out: Path) -> bool:
    """Kill a worker when the first tiles are there."""
    while child.poll() is None:
        if any(out.glob("*.dip/tiles/*/*.tile")):
            return end_one(psutil.Process(child.pid), "worker")
        time.sleep(0.05)
    return False


_FOOLED = (
    "import sys; from dip_pipeline.runs import frame_run; frame_run.check_disk = lambda *a: None; "
    "from dip_pipeline.cli.main import main; main(sys.argv[1:])"
)


def _command(*words: str, fooled: bool = False) -> list[str]:
    return [sys.executable, *(("-c", _FOOLED) if fooled else ("-m", "dip_pipeline")), *words]


def _dip(*words: str, check: bool = True, fooled: bool = False) -> subprocess.CompletedProcess[str]:
    command = _command(*words, fooled=fooled)
    return subprocess.run(command, check=check, capture_output=True, text=True)


@contextmanager
def _running(*words: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(_command(*words), stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        stream = child.stderr
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.extend(stream), daemon=True)
        reader.start()
        yield child
    print("".join(said[-5:]), end="")


@contextmanager
def _folder() -> Iterator[Path]:
    name = tempfile.mkdtemp(prefix="dip-chaos-")
    yield Path(name)
    shutil.rmtree(name, ignore_errors=True)


def _report(name: str, good: bool, **facts: object) -> None:  # noqa: FBT001
    content = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": describe_machine(),
        "versions": versions(),
        "good": good,
        **facts,
    }
    text = json.dumps(content, indent=1)
    print(text)
    (RESULTS / f"chaos-{name}.json").write_text(text + "\n")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
