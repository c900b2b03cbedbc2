import logging
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline import pipeline
from dip_pipeline.cli.main import run
from dip_pipeline.pipeline import RunReport

ROOT = Path(__file__).resolve().parents[2]


def report(source: str, target: Path, **facts) -> RunReport:
    """Report of a frame that went well, but for what the facts say."""
    values = {
        "status": "restored",
        "tiles": 4,
        "found_done": 0,
        "failed_tiles": 0,
        "risk": 0.2,
        "risk_error": 0.01,
        "noise": "gaussian",
        "flux_change": 1.0,
        "seconds": 2.0,
    }
    return RunReport(source=source, target=target, **(values | facts))


@pytest.fixture(autouse=True)
def log_as_it_was():
    """The command takes the log for itself; later tests listen to it again."""
    with log_kept():
        yield


@contextmanager
def log_kept():
    """Put the log back as it is now, whatever a command does to it."""
    logger = logging.getLogger("dip_pipeline")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


@pytest.fixture
def dip(capsys) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process; gives exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = run([str(argument) for argument in arguments])
        heard = capsys.readouterr()
        return int(code), heard.out, heard.err

    return call


@pytest.fixture
def restored_jobs(monkeypatch) -> list[tuple[str, Path]]:
    """Stand in for the restoration; gives the list of what it was asked for.

    A source with a word of doom in its name ends so.
    """
    asked: list[tuple[str, Path]] = []

    def fake(source, target, config, *, overwrite, progress, command_line, place):
        asked.append((source, target))
        for word, error in ENDINGS.items():
            if word in source:
                raise error
        if progress is not None:
            progress.frame_started(source, 2, 0)
            progress.note(f"{source}: noise gaussian")
            progress.fit_step(10, 10, 0.1)
            for tile in range(2):
                progress.tile_done({"tile": tile, "risk": 0.04, "failed": False})
        return report(source, target, failed_tiles=1 if "halfway" in source else 0)

    monkeypatch.setattr(pipeline, "restore_frame", fake)
    return asked


ENDINGS: dict[str, BaseException] = {}


@pytest.fixture(autouse=True)
def no_endings() -> None:
    ENDINGS.clear()


@pytest.fixture
def small_frame(tmp_path) -> Path:
    """A frame of 64 x 64 pixels with a few stars, cut from the crowded sample."""
    return cut_small_frame(tmp_path / "small.fits")


def cut_small_frame(path: Path) -> Path:
    cut = (slice(200, 264), slice(40, 104))
    with fits.open(ROOT / "sample_data" / "crowded.fits") as hdus:
        science = fits.ImageHDU(hdus["SCI"].data[cut].astype(np.float32), name="SCI")
        for keyword in ("GAIN", "RDNOISE", "SATURATE", "BUNIT"):
            science.header[keyword] = hdus["SCI"].header[keyword]
        flags = fits.ImageHDU(hdus["DQ"].data[cut].astype(np.uint8), name="DQ")
    fits.HDUList([fits.PrimaryHDU(), science, flags]).writeto(path)
    return path
