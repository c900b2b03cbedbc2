"""The committed sample files are what their script makes, and what they say they are."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import zarr
from astropy.io import fits

SAMPLES = Path(__file__).parents[2] / "sample_data"


@pytest.fixture(scope="module")
def remade(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    runpy.run_path(str(SAMPLES / "make.py"))["make"](folder)
    return folder


@pytest.mark.parametrize("name", ["crowded.fits", "crowded_truth.fits", "galaxies_truth.fits"])
def test_remade_fits_files_hold_the_same_pixels(remade, name):
    with fits.open(SAMPLES / name, checksum=True) as kept, fits.open(remade / name) as new:
        assert [hdu.name for hdu in kept] == [hdu.name for hdu in new]
        for old_hdu, new_hdu in zip(kept[1:], new[1:], strict=True):
            if isinstance(old_hdu, fits.BinTableHDU):
                continue
            if old_hdu.data.dtype.kind == "f":  # the last bit may differ between processors
                np.testing.assert_allclose(new_hdu.data, old_hdu.data, rtol=1e-6)
            else:
                np.testing.assert_array_equal(new_hdu.data, old_hdu.data)


def test_the_remade_zarr_group_holds_the_same_pixels(remade):
    kept, new = (
        zarr.open_group(folder / "galaxies.zarr", mode="r") for folder in (SAMPLES, remade)
    )
    np.testing.assert_allclose(new["science"][:], kept["science"][:], rtol=1e-6)
    np.testing.assert_array_equal(new["flags"][:], kept["flags"][:])
    assert dict(new.attrs) == dict(kept.attrs)


def test_the_committed_files_stay_small():
    size = sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file())
    assert size < 6_000_000


@pytest.mark.parametrize("stem", ["crowded", "galaxies"])
def test_the_frames_scatter_about_their_truth_by_their_sigma(stem):
    if stem == "crowded":
        with fits.open(SAMPLES / "crowded.fits") as file:
            observed, flags = file["SCI"].data.astype(float), file["DQ"].data.copy()
    else:
        group = zarr.open_group(SAMPLES / "galaxies.zarr", mode="r")
        observed, flags = group["science"][:], group["flags"][:]
    with fits.open(SAMPLES / f"{stem}_truth.fits") as file:
        ratio = (observed - file["TRUTH"].data) / file["SIGMA"].data
    assert np.std(ratio[flags == 0]) == pytest.approx(1.0, abs=0.01)
