"""Every recipe under workflows/ does what it says, as far as one machine can, on sample frames."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.cli.main import run
from tests.cli.conftest import ROOT, dip, log_as_it_was
from tests.engine.test_remote import cluster

__all__ = ["cluster", "dip", "log_as_it_was"]  # fixtures: a scheduler with two workers, the log

TINY = ("--steps", "1", "--tile", "32", "--overlap", "4", "--threads-per-fit", "1")


@pytest.fixture
def night(tmp_path, monkeypatch):
    """Two cuts of a sample frame, as taken in one night, and a broken one."""
    monkeypatch.chdir(tmp_path)
    with fits.open(ROOT / "sample_data" / "crowded.fits") as hdus:
        for number in range(2):
            cut = hdus["SCI"].data[200:240, 40 + 40 * number : 80 + 40 * number]
            frame = fits.PrimaryHDU(cut.astype(np.float32))
            for keyword in ("GAIN", "RDNOISE", "SATURATE", "BUNIT"):
                frame.header[keyword] = hdus["SCI"].header[keyword]
            frame.header["FILTER"] = "r"
            frame.header["DATE-OBS"] = f"2026-03-01T0{number}:00:00"
            frame.writeto(tmp_path / f"m13_{number}.fits")
    (tmp_path / "m13_2.fits").write_bytes((tmp_path / "m13_0.fits").read_bytes()[:3000])
    return tmp_path


def recipe(name):
    return str(ROOT / "workflows" / f"{name}.toml")


def summary():
    return json.loads(Path("restored/summary.json").read_text())


def test_nightly(night):
    """A prior for the night, two good products, and a broken frame that stops nothing."""
    code = run(["run", recipe("nightly"), "m13_*.fits", *TINY, "--workers", "2", "-q"])
    found = summary()
    assert code == found["exit_code"] == 1
    assert found["counts"] == {"restored": 2, "failed": 1}
    assert "m13_2.fits" in found["frames"][2]["error"]
    priors = {frame["prior"] for frame in found["frames"][:2]}
    assert len(priors) == 1
    (prior,) = priors
    with fits.open("restored/m13_0_dip.fits") as hdus:
        assert "DIPPRIOR" in hdus[0].header
        assert np.isfinite(hdus[0].data).all()
    before = Path(prior).stat().st_mtime_ns
    assert run(["run", recipe("nightly"), "m13_*.fits", *TINY, "--workers", "2", "-q"]) == 1
    assert summary()["counts"] == {"already done": 2, "failed": 1}
    assert Path(prior).stat().st_mtime_ns == before  # nothing is done again


def test_a_plan_takes_packed_frames_too_and_tells_of_broken_ones(dip, night):
    (night / "night").mkdir()
    for number in (0, 2):
        (night / f"m13_{number}.fits").rename(night / "night" / f"m13_{number}.fits")
    packed = gzip.compress((night / "m13_1.fits").read_bytes())
    (night / "night" / "m13_1.fits.gz").write_bytes(packed)
    code, out, err = dip("run", recipe("nightly"), "--dry-run")
    assert code == 0
    assert "night/m13_1.fits.gz -> restored/m13_1_dip.fits" in out
    assert "2 frames" in out
    assert err.startswith("dip: warning: night/m13_2.fits: cannot be restored: ")
    assert err.count("\n") == 1


def test_archive(night):
    """The frames of a list; one that is added later is all that is done then."""
    words = ["run", recipe("archive"), *TINY, "--workers", "1", "--effort", "fast", "-q"]
    (night / "frames.txt").write_text("m13_0.fits\n")
    assert run(words) == 0
    (night / "frames.txt").write_text("m13_0.fits\n# later\nm13_1.fits\n")
    plan = subprocess.run(
        [sys.executable, "-m", "dip_pipeline", *words, "--dry-run"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "m13_1.fits -> restored/m13_1_dip.fits" in plan
    assert "2 frames" in plan


def test_cluster(night, cluster):
    """On workers of a scheduler that was started by somebody else."""
    words = ["--scheduler-file", str(cluster), *TINY, "-q"]
    assert run(["run", recipe("cluster"), "m13_0.fits", *words]) == 0
    with fits.open("restored/m13_0_dip.fits") as hdus:
        processes = set(hdus["DIP_TILE"].data["pid"])
        on_cluster = hdus[0].data.tobytes()
    assert os.getpid() not in processes
    assert run(["denoise", "m13_0.fits", "-o", "inline.fits", *TINY, "-q"]) == 0
    with fits.open("inline.fits") as hdus:
        assert hdus[0].data.tobytes() == on_cluster
    assert sorted(p.name for p in (night / "restored").iterdir()) == [
        "m13_0_dip.fits",
        "summary.json",
    ]


def test_slurm(capsys):
    """The job script, without a cluster."""
    assert run(["run", recipe("slurm"), "--script"]) == 0
    script = capsys.readouterr().out
    for line in ("#SBATCH -t 01:00:00", "#SBATCH --gres=gpu:1", "#SBATCH --cpus-per-task=4"):
        assert line in script
    assert "dask" in script.strip().splitlines()[-1]
    assert run(["run", recipe("nightly"), "--script"]) == 2


def test_an_interrupted_night_says_so_and_goes_on(night):
    """SIGTERM in the middle, as a batch system sends it."""
    words = [sys.executable, "-m", "dip_pipeline", "run", recipe("nightly"), "m13_[01].fits"]
    with subprocess.Popen(
        [*words, *TINY, "--workers", "1", "-q"], stderr=subprocess.PIPE, text=True
    ) as child:
        deadline = time.monotonic() + 60
        while not (night / "restored" / "priors").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert said.splitlines()[-1] == "dip: interrupted; the same command resumes"
    assert summary()["exit_code"] == 130
