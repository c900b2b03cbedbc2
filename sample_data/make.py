"""Make the sample frames and their truth: `python sample_data/make.py [--out DIR]`.

Everything is drawn from the seeds below; the pixels come out the same every time.
"""

import argparse
from pathlib import Path

import numpy as np
import zarr
from astropy.io import fits

from dip_pipeline.simulate import (
    DataQuality,
    DetectorOptions,
    SceneKind,
    SceneOptions,
    Simulation,
    simulate,
)

HERE = Path(__file__).resolve().parent
WHEN = "from make.py"  # comment of CHECKSUM cards, in place of a date: files stay identical
CROWDED = (
    SceneOptions(SceneKind.CROWDED, shape=(512, 512), seed=7),
    DetectorOptions(),
)
GALAXIES = (
    SceneOptions(SceneKind.GALAXIES, shape=(400, 480), seed=11, sky_dn=150.0),
    DetectorOptions(gain_e_per_dn=1.4, read_noise_e=5.0, quantised=False),
)


def main() -> None:
    """Parse the command line and write all files."""
    parser = argparse.ArgumentParser(description="Make the sample frames and their truth.")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write into")
    folder = parser.parse_args().out
    for path in make(folder):
        print(path)


def make(folder: Path) -> list[Path]:
    """Write both frames and both truths into `folder`; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    crowded, galaxies = simulate(*CROWDED), simulate(*GALAXIES)
    return [
        write_fits(folder / "crowded.fits", crowded),
        write_truth(folder / "crowded_truth.fits", crowded),
        write_zarr(folder / "galaxies.zarr", galaxies),
        write_truth(folder / "galaxies_truth.fits", galaxies),
    ]


def write_fits(path: Path, frame: Simulation) -> Path:
    """Write an empty primary, SCI as unsigned 16-bit integers, and DQ."""
    science = fits.ImageHDU(frame.observed_dn.astype(np.uint16), _header(frame), name="SCI", ver=1)
    flags = fits.ImageHDU(frame.flags, _flag_header(), name="DQ", ver=1)
    return _write(path, [_primary(frame), science, flags])


def write_truth(path: Path, frame: Simulation) -> Path:
    """Write an empty primary, TRUTH and SIGMA in the unit of the frame, and a table of stars."""
    truth = fits.ImageHDU(frame.truth_dn, _header(frame), name="TRUTH", ver=1)
    sigma = fits.ImageHDU(frame.sigma_true_dn, name="SIGMA", ver=1)
    sigma.header["BUNIT"] = ("adu", "standard deviation of a pixel's noise")
    columns = [
        fits.Column(name, "D", unit=unit, array=frame.stars[name])
        for name, unit in (("row", "pix"), ("col", "pix"), ("flux_dn", "adu"))
    ]
    stars = fits.BinTableHDU.from_columns(columns, name="STARS", ver=1)
    stars.header["COMMENT"] = "row and col count from 0 at the centre of the first pixel"
    return _write(path, [_primary(frame), truth, sigma, stars])


def write_zarr(path: Path, frame: Simulation) -> Path:
    """Write a Zarr v3 group: arrays science and flags, attributes unit and cards."""
    cards = [list(card) for card in frame.header_cards()]
    group = zarr.create_group(
        path, overwrite=True, zarr_format=3, attributes={"unit": "adu", "cards": cards}
    )
    for name, pixels in (("science", frame.observed_dn), ("flags", frame.flags)):
        array = group.create_array(
            name,
            shape=pixels.shape,
            dtype=pixels.dtype,
            chunks=(256, 256),
            dimension_names=("rows", "cols"),
        )
        array[:] = pixels
    group["flags"].attrs["bits"] = {bit.name: int(bit) for bit in DataQuality}
    return path


def _primary(frame: Simulation) -> fits.PrimaryHDU:
    primary = fits.PrimaryHDU()
    for keyword, value, comment in frame.header_cards():
        if keyword in {"OBJECT", "TELESCOP", "INSTRUME", "DATE-OBS"}:
            primary.header[keyword] = (value, comment)
    primary.header["SIMULATD"] = (True, "drawn by a computer, not observed")
    return primary


def _header(frame: Simulation) -> fits.Header:
    return fits.Header([fits.Card(*card) for card in frame.header_cards()])


def _flag_header() -> fits.Header:
    header = fits.Header()
    for bit in DataQuality:
        meaning = bit.name.replace("_", " ").lower()
        header["COMMENT"] = f"bit {int(bit)}: {meaning}"
    return header


def _write(path: Path, hdus: list[fits.hdu.base.ExtensionHDU | fits.PrimaryHDU]) -> Path:
    for hdu in hdus:
        hdu.add_checksum(when=WHEN)
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


if __name__ == "__main__":
    main()
