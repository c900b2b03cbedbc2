"""A short run of the fuzz: damaged files end in a named error or in the right pixels."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from benchmarks.fuzz import FILES, damaged, run_all, run_case

FINE = {"read", "refused"}


@pytest.fixture
def small(tmp_path):
    """Files of the kinds that telescopes write, made here."""
    rng = np.random.default_rng(2)
    pixels = rng.normal(100, 5, (40, 50))
    image = fits.ImageHDU(pixels.astype("i2"), name="SCI")
    image.header["BLANK"] = 99
    hdus = [fits.PrimaryHDU(), image, fits.ImageHDU(np.ones((40, 50), "f4"), name="ERR")]
    fits.HDUList(hdus).writeto(tmp_path / "plain.fits", checksum=True)
    for kind in ("RICE_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1"):
        packed = fits.CompImageHDU(pixels.astype("i2"), compression_type=kind, name="SCI")
        fits.HDUList([fits.PrimaryHDU(), packed]).writeto(tmp_path / f"{kind}.fits")
    floats = fits.CompImageHDU(pixels.astype("f4"), name="SCI")
    fits.HDUList([fits.PrimaryHDU(), floats]).writeto(tmp_path / "floats.fits")
    return sorted(tmp_path.glob("*.fits"))


def test_files_made_here_survive_damage(small, tmp_path):
    endings = {}
    with np.errstate(all="ignore"):
        for number in range(120):
            path = small[number % len(small)]
            rng = np.random.default_rng([7, number])
            broken = tmp_path / f"broken{number}"
            broken.write_bytes(damaged(path.read_bytes(), rng))
            ending, detail = run_case(broken, path, tmp_path)
            assert ending in FINE, (number, path.name, detail)
            endings[ending] = endings.get(ending, 0) + 1
    assert min(endings.values()) > 20


def test_real_files_survive_damage():
    folder = os.environ.get("DIP_EXTRA_DATA")
    if not folder:
        pytest.skip("DIP_EXTRA_DATA names no folder")
    found = list(run_all(Path(folder), 60, seed=5))
    assert len(found) == 60
    assert len({case.name for case in found}) == len(FILES)
    bad = [case for case in found if case.ending not in FINE]
    assert not bad
