"""The law of faults: whatever happens to a run, the same command ends with the undisturbed planes.

A model is drawn by Hypothesis: run, be killed at a point, find the disk full, have a file of any
kind damaged, change what must not matter, run again.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dip_pipeline.config import RunConfig
from dip_pipeline.engine import faults
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.runs import prior_work
from tests.stand_in import QUICK, planes

KILLED = -9
FULL_POINTS = ("before publish", "before link", "during blend")
KINDS = ("tile", "tile", "tile", "prior", "record", "run", "progress", "lock")
DAMAGES = ("bit", "bit", "torn", "empty", "gone")


class World:
    """A frame, how it is restored undisturbed, and a server that runs commands."""

    def __init__(self, folder: Path, scope: str) -> None:
        self.folder = folder
        self.options = {**QUICK, "fit.scope": scope, "tiles.size_px": 40, "fit.steps": 1}
        self.source = folder / "in.fits"
        science = np.random.default_rng(3).normal(100, 3, (64, 88)).astype(np.float32)
        fits.PrimaryHDU(science, fits.Header({"GAIN": 2.0, "RDNOISE": 4.0})).writeto(self.source)
        self.prior = folder / "prior"
        self.said = (folder / "said").open("w")
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.fault_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
            cwd=Path(__file__).resolve().parents[1],
        )
        self.planes: dict[object, bytes] = {}

    def begin(self) -> None:
        """Restore undisturbed."""
        if self.options["fit.scope"] == "frame":
            self._fit_prior()
        code = self.run(self.source, self.folder / "undisturbed.fits")
        assert code == 0, (self.folder / "said").read_text()
        self.planes = planes(self.folder / "undisturbed.fits")

    def run(self, source: Path, target: Path, fault: str = "", **options: object) -> int:
        """Restore in another process; gives its exit code, -9 where it was killed."""
        request = {"source": str(source), "target": str(target), "prior": str(self.prior)}
        request |= {"options": {**self.options, **options}, "fault": fault}
        print(json.dumps(request), file=self.server.stdin, flush=True)
        return json.loads(self.server.stdout.readline())

    def close(self) -> None:
        self.server.stdin.close()
        self.server.wait(timeout=30)
        self.server.stdout.close()
        self.said.close()

    def _fit_prior(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            real = prior_work.fit_frame_prior

            def kept(*arguments):
                content = real(*arguments)
                self.prior.write_bytes(content)
                return content

            patch.setattr(prior_work, "fit_frame_prior", kept)
            config = RunConfig().with_overrides(**self.options)
            restore_frame(str(self.source), self.folder / "first.fits", config)


def machine(world: World) -> type[RuleBasedStateMachine]:  # noqa: C901  (a class)
    """Give the model of a run in that world."""

    class Disturbed(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.folder = Path(tempfile.mkdtemp(dir=world.folder))
            self.source, self.target = self.folder / "in.fits", self.folder / "out.fits"
            shutil.copy(world.source, self.source)
            self.told: dict[str, object] = {}

        def teardown(self) -> None:
            assert self.go_on() == 0
            assert planes(self.target) == world.planes
            assert sorted(p.name for p in self.folder.iterdir()) == ["in.fits", "out.fits"]
            shutil.rmtree(self.folder)

        def go_on(self, fault: str = "") -> int:
            if self.target.exists():
                self.target.unlink()
            return world.run(self.source, self.target, fault, **self.told)

        @property
        def scratch(self) -> Path:
            return self.folder / "out.fits.dip"

        @initialize(number=st.integers(2, 6))
        def begun(self, number: int) -> None:
            assert self.go_on(f"after publish:{number}:kill") == KILLED

        @rule(point=st.sampled_from(faults.POINTS), number=st.integers(1, 7))
        def killed(self, point: str, number: int) -> None:
            assert self.go_on(f"{point}:{number}:kill") in (0, KILLED)
            if self.target.exists():
                assert planes(self.target) == world.planes

        @rule(point=st.sampled_from(FULL_POINTS), number=st.integers(1, 7))
        def full(self, point: str, number: int) -> None:
            if self.go_on(f"{point}:{number}:full") == 0:
                assert planes(self.target) == world.planes
            else:
                assert not self.target.exists()

        @precondition(lambda self: self.scratch.exists())
        @rule(
            kind=st.sampled_from(KINDS),
            which=st.integers(0, 100),
            place=st.floats(0, 0.999),
            damage=st.sampled_from(DAMAGES),
        )
        def damaged(self, kind: str, which: int, place: float, damage: str) -> None:
            patterns = {
                "tile": "tiles/*/*.tile",
                "record": "records/*/*.jsonl",
                "prior": "*.keyed",
                "run": "run.json",
                "progress": "progress.json",
                "lock": "lock*",
            }
            files = sorted(self.scratch.glob(patterns[kind]))
            if not files or (kind == "run" and damage == "gone"):  # whose folder is it then?
                return
            spoil(files[which % len(files)], place, damage)

        @rule(
            card=st.sampled_from([("OBSERVER", "Caroline"), ("OBSERVER", "William"), ("X", 1)]),
        )
        def header_edited(self, card: tuple[str, object]) -> None:
            with fits.open(self.source, mode="update") as hdus:
                hdus[0].header[card[0]] = card[1]

        @rule(told=st.sampled_from([{}, {"noise.gain_e_per_dn": 2.0}]))
        def said_again(self, told: dict[str, object]) -> None:
            """What the header says, said by an option."""
            self.told = told

    return Disturbed


def spoil(path: Path, place: float, damage: str) -> None:
    """Damage a file as disks do."""
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "empty" or not content:
        path.write_bytes(b"")
    elif damage == "torn":
        path.write_bytes(content[: int(place * len(content))])
    else:
        content[int(place * len(content))] ^= 1 << (int(place * 1000) % 8)
        path.write_bytes(content)


@pytest.fixture(params=["tile", "frame"])
def world(request, tmp_path):
    world = World(tmp_path, request.param)
    try:
        world.begin()
        yield world
    finally:
        world.close()


def disturb(world: World, examples: int, steps: int, *, derandomize: bool) -> None:
    run_state_machine_as_test(
        machine(world),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=derandomize,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_whatever_happens_the_same_command_ends_with_the_undisturbed_planes(world):
    disturb(world, 12, 8, derandomize=True)


@pytest.mark.slow
def test_whatever_happens_for_long(world):
    disturb(world, int(os.environ.get("DIP_EXAMPLES", "300")), 15, derandomize=False)
