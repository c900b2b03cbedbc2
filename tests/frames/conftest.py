import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.frames import Frame, Provenance, RestoredPlanes
from dip_pipeline.frames.fits_file import close_files

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_file_stays_open() -> Iterator[None]:
    yield
    close_files()


@pytest.fixture(scope="session")
def extra_data() -> Path:
    folder = os.environ.get("DIP_EXTRA_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("DIP_EXTRA_DATA names no folder")
    return Path(folder)


@pytest.fixture
def provenance() -> Provenance:
    return Provenance(
        cards=(
            ("DIPVER", "0.1.0", "version of dip-pipeline"),
            ("DIPSTEPS", 400, "steps of the fit"),
            ("DIPRISK", 0.14, "estimated rms error / sigma"),
            ("DIPFLUX", False, "flux closure"),
            ("DIPSEED", None, "seed"),
            ("DIPIN", "0123456789abcdef" * 4, "sha256 of the input"),
        ),
        history="dip denoise in.fits -o out.fits",
        document={
            "config": {"tiles": {"size_px": 256}, "note": "µm \N{GREEK SMALL LETTER SIGMA}"},
            "list": [1, None],
        },
        tiles=[
            {"tile": 0, "steps": 12, "risk": 0.5, "stop": "noise level", "ok": True, "chi2": None},
            {"tile": 1, "steps": 400, "risk": 0.25, "stop": "step limit", "ok": False, "chi2": 1.5},
        ],
    )


@pytest.fixture
def restored() -> Callable[[Frame], RestoredPlanes]:
    """Planes that can be told from the input's: ramps."""

    def make(frame: Frame) -> RestoredPlanes:
        ramp = np.arange(frame.shape[0] * frame.shape[1], dtype=np.float32).reshape(frame.shape)
        ramp[0, 0] = np.nan
        return RestoredPlanes(
            ramp, ramp + 0.5, (np.arange(ramp.size) % 16).astype("u1").reshape(ramp.shape)
        )

    return make


@pytest.fixture
def layered(tmp_path: Path) -> Path:
    """SCI, ERR and DQ beside a table and a second chip, with every kind of card."""
    rng = np.random.default_rng(5)
    primary = fits.PrimaryHDU()
    primary.header["TELESCOP"] = "none"
    primary.header["GAIN"] = 2.5
    primary.header["EXPTIME"] = 10.0
    science = fits.ImageHDU(rng.normal(100, 5, (40, 30)).astype("f4"), name="SCI", ver=1)
    header = science.header
    header["BUNIT"] = "adu"
    header["EXPTIME"] = (30.0, "outranks the primary")
    header["CRPIX1"] = (15.5, "pixel")
    header["HIERARCH ESO DET OUT1 CONAD"] = (1.9, "electrons per DN")
    header["LONGTEXT"] = "a text that goes on and on " * 5
    header["EMPTY"] = None
    header["COMMENT"] = "first comment"
    header["HISTORY"] = "made here"
    header["COMMENT"] = "second comment"
    header["OBSERVER"] = "nobody"
    header.append(("REPEATED", 1), end=True)
    header.append(("REPEATED", 2), end=True)
    error = fits.ImageHDU(np.full((40, 30), 5, "f4"), name="ERR", ver=1)
    error.data[3, 4] = 0
    flags = fits.ImageHDU(np.zeros((40, 30), "i2"), name="DQ", ver=1)
    flags.data[5, 6] = 16
    table = fits.BinTableHDU.from_columns(
        [fits.Column("A", "J", array=np.arange(3))], name="CATALOG"
    )
    other = fits.ImageHDU(np.ones((40, 30), "f4"), name="SCI", ver=2)
    path = tmp_path / "layered.fits"
    fits.HDUList([primary, science, error, flags, table, other]).writeto(path)
    return path
