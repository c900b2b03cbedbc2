"""Small files laid out as observatories do, made by hand from their documents."""

from pathlib import Path

import numpy as np
from astropy.io import fits

SHAPE = (20, 24)
SIGMA = 2.0  # of every noise plane, whatever its form


def sky(shape=SHAPE, seed=1):
    return np.random.default_rng(seed).normal(100.0, SIGMA, shape).astype("f4")


def image(data, name=None, ver=1, **cards):
    hdu = fits.ImageHDU(data, name=name, ver=ver)
    hdu.header.update(cards)
    return hdu


def full(value, dtype="f4", shape=SHAPE):
    return np.full(shape, value, dtype)


def flags(dtype="i2", shape=SHAPE, **marks):
    """Zeros, but for marks: row, 0 holds the number."""
    plane = np.zeros(shape, dtype)
    for row, value in enumerate(marks.values()):
        plane[row, 0] = value
    return plane


def write(path: Path, hdus, **primary_cards) -> Path:
    first = hdus[0] if isinstance(hdus[0], fits.PrimaryHDU) else fits.PrimaryHDU()
    first.header.update(primary_cards)
    rest = hdus[1:] if first is hdus[0] else hdus
    fits.HDUList([first, *rest]).writeto(path)
    return path


def hubble(folder: Path) -> Path:
    hdus = []
    for chip in (1, 2):
        hdus += [
            image(sky(seed=chip), "SCI", chip, BUNIT="ELECTRONS"),
            image(full(SIGMA), "ERR", chip),
            image(flags(bad=4, warm=64, saturated=256, cr=8192), "DQ", chip),
        ]
    return write(folder / "jabc_flt.fits", hdus, TELESCOP="HST", INSTRUME="ACS")


def jwst(folder: Path) -> Path:
    dq = flags("u4", bad=1, saturated=2, jump=4, reference=2**31)
    asdf = fits.BinTableHDU.from_columns(
        [fits.Column("ASDF_METADATA", "8B", array=[list(b"#ASDF 1.")])], name="ASDF"
    )
    hdus = [
        image(sky(), "SCI", BUNIT="MJy/sr"),
        image(full(SIGMA), "ERR"),
        image(dq, "DQ"),
        image(full(3.0), "VAR_POISSON"),
        image(full(1.0), "VAR_RNOISE"),
        image(full(9.0), "VAR_FLAT"),
        asdf,
    ]
    return write(folder / "jw_cal.fits", hdus, TELESCOP="JWST", INSTRUME="NIRCAM")


def jwst_without_error(folder: Path) -> Path:
    with fits.open(jwst(folder)) as hdus:
        del hdus["ERR"]
        hdus.writeto(folder / "jw_rate.fits")
    return folder / "jw_rate.fits"


def lsst(folder: Path) -> Path:
    mask = image(flags("i4", bad=1, saturated=2, detected=32, cr=8))
    for name, bit in {"BAD": 0, "SAT": 1, "CR": 3, "DETECTED": 5}.items():
        mask.header[f"HIERARCH MP_{name}"] = bit
    return write(folder / "calexp.fits", [image(sky()), mask, image(full(SIGMA**2))])


def decam(folder: Path, version="V4.8.2") -> Path:
    marks = {"bad": 1, "saturated": 3, "bleed": 4, "difference": 7, "streak": 8}
    if version < "V3.5":
        marks = {"bad": 1, "saturated": 2, "cr": 16, "transient": 128, "bleed": 64}
    name = "c4d_160101_000000_{}_z_v1.fits"
    cards = {"INSTRUME": "DECam", "PLVER": version}
    planes = {"ooi": sky(), "ood": flags("i4", **marks), "oow": full(1 / SIGMA**2)}
    planes["oow"][5, 5] = 0.0
    for kind, data in planes.items():
        chips = [image(data, "S29"), image(data, "N4")]
        write(folder / name.format(kind), chips, **cards)
    return folder / name.format("ooi")


def decam_bits(folder: Path) -> Path:
    return decam(folder, "V3.2.0")


def ccd_data(folder: Path) -> Path:
    hdus = [
        fits.PrimaryHDU(sky()),
        image(full(True, "u1") * 0 + flags("u1", bad=1), "MASK"),
        image(full(1 / SIGMA**2), "UNCERT", UTYPE="InverseVariance"),
    ]
    return write(folder / "ccd.fits", hdus, BUNIT="adu")


def gemini(folder: Path) -> Path:
    hdus = [
        image(sky(), "SCI"),
        image(full(SIGMA**2), "VAR"),
        image(flags(bad=1, nonlinear=2, saturated=4, cr=8), "DQ"),
        image(sky(), "SKYFIT"),
    ]
    return write(folder / "gS_dip.fits", hdus, TELESCOP="Gemini-South")


def muse(folder: Path) -> Path:
    cube = np.stack([sky(seed=n) for n in range(3)])
    hdus = [
        image(cube, "DATA", BUNIT="10**(-20)*erg/s/cm**2/Angstrom"),
        image(full(SIGMA**2, shape=cube.shape), "STAT"),
        image(np.stack([flags("i4", missing=2**30)] * 3), "DQ"),
    ]
    return write(folder / "DATACUBE.fits", hdus, INSTRUME="MUSE")


def one_image(folder: Path, name: str | None = None) -> Path:
    """An image in an extension of any name, with its ERR and DQ; what writers of one chip do."""
    hdus = [image(sky(), name), image(full(SIGMA), "ERR"), image(flags(bad=1), "DQ")]
    return write(folder / "chip.fits", hdus)


def one_chip(folder: Path) -> Path:
    return one_image(folder, "N2")


def side_files(folder: Path) -> Path:
    write(folder / "m31_rms.fits", [fits.PrimaryHDU(full(SIGMA))])
    write(folder / "m31_mask.fits", [fits.PrimaryHDU(flags("u1", bad=1))])
    return write(folder / "m31_sci.fits", [fits.PrimaryHDU(sky())])


def mosaic(folder: Path) -> Path:
    hdus = [image(sky(seed=n), f"CCD{n}") for n in (1, 2, 3)]
    table = fits.BinTableHDU.from_columns([fits.Column("A", "J", array=[1])], name="PHOTOM")
    return write(folder / "mosaic.fits", [*hdus, table])


def ramp(folder: Path) -> Path:
    cube = np.stack([sky(seed=n) for n in range(4)]).reshape(2, 2, *SHAPE)
    hdus = [
        image(cube, "SCI"),
        image(flags("u4", bad=1), "PIXELDQ"),
        image(np.zeros(cube.shape, "u1"), "GROUPDQ"),
    ]
    hdus[2].data[1, 1, 7, 7] = 1
    return write(folder / "jw_ramp.fits", hdus, TELESCOP="JWST", INSTRUME="MIRI")
