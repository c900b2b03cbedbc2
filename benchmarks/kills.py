"""Kill -9 at random moments, then the same command: nothing may be lost, nothing be done again.

    python -m benchmarks.kills --kills 200

restores a tiny frame again and again: in one process and in two worker processes, a network for
the frame and one for every tile. Each time the driver or one of its workers is killed at a random
moment; a killed driver's command is run again. Science, error and flags must equal those of an
undisturbed run, byte for byte, and no tile that was finished may have been fitted again.
"""

import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np
import psutil
from astropy.io import fits

from benchmarks.machine import commit, describe_machine, versions
from dip_pipeline.engine import TileStore
from dip_pipeline.errors import RunError

RESULTS = Path(__file__).resolve().parent / "results"
SHAPE = (56, 64)
OPTIONS = (
    *("--steps", "2", "--tile", "32", "--overlap", "4", "--threads-per-fit", "1"),
    *("--device", "cpu", "--gain", "2", "--read-noise", "4", "-q"),
)
EXECUTORS = {"inline": ("--executor", "inline"), "local": ("--executor", "local", "--workers", "2")}
CASES = [
    (executor, scope, victim)
    for scope in ("frame", "tile")
    for executor, victim in (("inline", "driver"), ("local", "driver"), ("local", "worker"))
]
_LONGEST_S = 300


@dataclass(frozen=True)
class Kill:
    """What became of one kill.

    after_s : when it came, of undisturbed_s; missed : whether the command had ended by then
    found_done : tiles that were finished when the driver had died
    fitted_twice : finished tiles that were fitted again; must be 0
    restarted : items that were begun anew in another worker
    said : what the killed command had to say
    """

    executor: str
    scope: str
    victim: str
    after_s: float
    missed: bool
    found_done: int
    fitted_twice: int
    restarted: int
    same_planes: bool
    exit_code: int
    litter: tuple[str, ...]
    said: str

    @property
    def good(self) -> bool:
        """Whether it did no harm."""
        in_flight = 2 if self.executor == "local" else 1
        harmless = self.same_planes and self.exit_code == 0 and not self.litter
        return harmless and self.fitted_twice == 0 and self.restarted <= in_flight


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kills", default=200, show_default=True, help="How many.")
@click.option("--seed", default=1, show_default=True, help="Of the moments.")
@click.option("--minutes", default=24 * 60.0, help="No further kill after so many minutes.")
@click.option("--save/--no-save", default=True, help="Keep the figures under results/.")
def main(kills: int, seed: int, minutes: float, *, save: bool) -> None:
    """Kill runs at random moments; exit code 1 where one did harm."""
    rng = np.random.default_rng(seed)
    deadline = time.monotonic() + 60 * minutes
    done: list[Kill] = []
    with tempfile.TemporaryDirectory(prefix="dip-kills-") as name:
        folder = Path(name)
        frame = _write_frame(folder / "in.fits")
        undisturbed = {case[:2]: _undisturbed(frame, *case[:2]) for case in CASES}
        for case in itertools.cycle(CASES):
            came = sum(not kill.missed for kill in done)
            if came >= kills or time.monotonic() > deadline:
                break
            planes, seconds = undisturbed[case[:2]]
            kill = _kill(frame, case, rng.uniform(0, seconds), planes)
            done.append(kill)
            print(f"{came + 1}: {'good' if kill.good else 'BAD'} {kill}", flush=True)
    summary = _summary(done, {"-".join(case): s for case, (_, s) in undisturbed.items()})
    print(json.dumps(summary, indent=1))
    if save:
        path = RESULTS / "kills.json"
        path.write_text(json.dumps({**summary, "each": [asdict(k) for k in done]}, indent=1) + "\n")
    sys.exit(0 if all(kill.good for kill in done) else 1)


def _summary(done: list[Kill], seconds: dict[str, float]) -> dict[str, object]:
    came = [kill for kill in done if not kill.missed]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": describe_machine(),
        "versions": versions(),
        "undisturbed_s": {name: round(value, 2) for name, value in seconds.items()},
        "kills": len(came),
        "good": sum(kill.good for kill in came),
        "came_after_the_end": len(done) - len(came),
        "of": dict(Counter(f"{k.executor} {k.victim}" for k in came)),
        "tiles_found_done": sum(kill.found_done for kill in done),
        "finished_tiles_fitted_again": sum(kill.fitted_twice for kill in done),
        "items_begun_again_in_another_worker": sum(kill.restarted for kill in done),
    }


def _write_frame(path: Path) -> Path:
    science = np.random.default_rng(3).normal(100, 7, SHAPE).astype(np.float32)
    fits.PrimaryHDU(science).writeto(path)
    return path


def _undisturbed(frame: Path, executor: str, scope: str) -> tuple[dict[str, bytes], float]:
    with tempfile.TemporaryDirectory(dir=frame.parent) as folder:
        target = Path(folder) / "out.fits"
        started = time.monotonic()
        subprocess.run(_command(frame, target, executor, scope), check=True)
        return planes_of(target), time.monotonic() - started


def _kill(
    frame: Path, case: tuple[str, str, str], after_s: float, planes: dict[str, bytes]
) -> Kill:
    executor, scope, victim = case
    with tempfile.TemporaryDirectory(dir=frame.parent) as folder:
        target = Path(folder) / "out.fits"
        command = _command(frame, target, executor, scope)
        # Not to a pipe: workers that outlive their driver would hold it.
        said = Path(folder) / "said"
        with said.open("w") as stderr, subprocess.Popen(command, stderr=stderr) as child:
            time.sleep(after_s)
            missed = child.poll() is not None or not end_one(psutil.Process(child.pid), victim)
            code = child.wait(timeout=_LONGEST_S)
        finished: dict[int, int] = {}
        if victim == "driver" and not missed:
            finished = _finished(target)
            code = subprocess.run(command, check=False, timeout=_LONGEST_S).returncode
        fitted_by = _fitted_by(target)
        return Kill(
            *case,
            after_s=round(after_s, 3),
            missed=missed,
            found_done=len(finished),
            fitted_twice=sum(fitted_by.get(tile) != pid for tile, pid in finished.items()),
            restarted=said.read_text().count("its process died before"),
            same_planes=target.exists() and planes_of(target) == planes,
            exit_code=code,
            litter=tuple(sorted({p.name for p in Path(folder).iterdir()} - {"out.fits", "said"})),
            said=said.read_text()[-500:],
        )


def _command(frame: Path, target: Path, executor: str, scope: str) -> list[str]:
    words = ["-m", "dip_pipeline", "denoise", str(frame), "-o", str(target), "--scope", scope]
    return [sys.executable, *words, *EXECUTORS[executor], *OPTIONS]


def end_one(driver: psutil.Process, victim: str) -> bool:
    """Kill; False where there is nobody to kill yet, or any more."""
    with suppress(psutil.Error):
        processes = [driver] if victim == "driver" else list(_workers(driver))
        if processes:
            processes[int(time.monotonic() * 1e6) % len(processes)].kill()
            return True
    return False


def _workers(driver: psutil.Process) -> Iterator[psutil.Process]:
    for child in driver.children():
        with suppress(psutil.Error):
            if "spawn_main" in " ".join(child.cmdline()):
                yield child


def _finished(target: Path) -> dict[int, int]:
    """Process that fitted each tile which is whole, from the scratch of a killed run."""
    scratch = target.with_name(f"{target.name}.dip")
    found: dict[int, int] = {}
    for folder in scratch.glob("tiles/*"):
        for path in folder.glob("*.tile"):
            with suppress(RunError):
                _, record = TileStore(folder).load(int(path.stem))
                found[int(path.stem)] = int(record["pid"])
    return found


def _fitted_by(target: Path) -> dict[int, int]:
    if not target.exists():
        return {}
    table = fits.getdata(target, "DIP_TILE")
    return {int(row["tile"]): int(row["pid"]) for row in table}


def planes_of(path: Path) -> dict[str, bytes]:
    """Bytes of what a product delivers."""
    with fits.open(path) as hdus:
        return {str(name): hdus[name].data.tobytes() for name in (0, "DIP_ERR", "DIP_FLAG")}


if __name__ == "__main__":
    main()
