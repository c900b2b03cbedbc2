"""Laws of what a command loads: torch is large, and comes where there is something to compute."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from astropy.io import fits

from dip_pipeline.cli.main import COMMANDS, run
from tests.cli.conftest import cut_small_frame, log_kept

FAST = ("--steps", "1", "--gain", "1.9")
NIGHT = "[prior]\nshared = 'night'\n[fit]\nsteps = 1\n[noise]\ngain_e_per_dn = 1.9\n"
WORKFLOW = ("run", "night.toml", "small.fits", "other.fits", "-o", "night/")

# Each with its exit code, run where all that it could make is made already.
LIGHT = [
    (0, ("--version",)),
    (0, ("--help",)),
    (0, ("denoise", "--help")),
    (0, ("verify", "out.fits", "--against", "small.fits")),
    (0, ("provenance", "out.fits")),
    (0, ("status", "out.fits")),
    (0, ("clean", "out.fits")),
    (0, ("finish", "out.fits")),
    (0, ("convert", "small.fits", "-o", "small.zarr")),
    (0, ("report", "out.fits", "-o", "night.html", "--no-pictures")),
    (0, ("report", "night/", "-o", "folder.html", "--no-pictures")),
    (0, (*WORKFLOW, "--dry-run")),
    (0, ("show", "small.fits", "--gain", "1.9")),
    (0, ("show", "small.fits")),
    (0, ("show", "small.fits", "--prior", "night.prior")),
    (0, ("show", "small.fits", "--task", "super-resolve", "--factor", "2", "--fwhm", "2.5")),
    (0, ("noise", "small.fits", "-o", "noise.fits", "--gain", "1.9")),
    (1, ("psf", "small.fits", "-o", "psf.fits", "--gain", "1.9")),  # has too few stars for one
    (0, ("picture", "out.fits", "-o", "pictures/")),
    (0, ("report", "out.fits", "-o", "drawn.html")),
    (0, ("denoise", "small.fits", "-o", "out.fits", *FAST)),
    (0, ("denoise", "small.fits", "-o", "out.fits", *FAST, "--executor", "local")),
    (0, ("denoise", "small.fits", "-o", "applied.fits", *FAST, "--prior", "night.prior")),
    (0, ("fit", "small.fits", "other.fits", "-o", "night.prior", *FAST)),
    (0, WORKFLOW),
    (1, ("denoise", "small.fits", "-o", "out.fits", *FAST, "--seed", "7")),  # another's product
    (1, ("denoise", "missing.fits", "-o", "new.fits", *FAST)),
]
# Run in one process, and told of the first that breaks the law.
_PROGRAM = """
import json, sys
from dip_pipeline.cli.main import run
for wanted, words in json.loads(sys.argv[1]):
    code = run(words)
    heavy = sorted({'torch', 'dask', 'distributed'} & {*sys.modules})
    assert (int(code), heavy) == (wanted, []), (words, int(code), heavy)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Give a folder in which all is made that the commands could make."""
    folder = tmp_path_factory.mktemp("made")
    frames = [cut_small_frame(folder / name) for name in ("small.fits", "other.fits")]
    _turn(frames[1])
    (folder / "night.toml").write_text(NIGHT)
    with pytest.MonkeyPatch.context() as patched, log_kept():
        patched.chdir(folder)
        for words in (
            ("denoise", "small.fits", "-o", "out.fits", *FAST),
            ("fit", "small.fits", "other.fits", "-o", "night.prior", *FAST),
            ("denoise", "small.fits", "-o", "applied.fits", *FAST, "--prior", "night.prior"),
            WORKFLOW,
        ):
            assert run(words) == 0
    return folder


def _turn(path: Path) -> None:
    """Make another frame of a copy."""
    with fits.open(path, mode="update") as hdus:
        hdus["SCI"].data = hdus["SCI"].data[::-1, ::-1].copy()


def test_commands_that_restore_nothing_load_neither_torch_nor_dask(made):
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps(LIGHT)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=made,
    )
    assert done.returncode == 0, done.stderr


def test_each_command_is_here_or_restores():
    restoring = {"denoise", "inpaint", "super-resolve", "deconvolve", "combine", "fit", "run"}
    assert {words[0] for _, words in LIGHT} >= set(COMMANDS) - restoring
