"""Bytes of restored frames: steps tied to the input's noise against astropy's default.

    python -m benchmarks.compression FRAME... --effort fast

Restores each frame, stores the restored science by both, and reads it back.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frame
from dip_pipeline.frames.compression import compressed
from dip_pipeline.frames.fits_cards import image_cards
from dip_pipeline.frames.hdu_plans import HduPlan, write_fits
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.preparing.planning import resolve_noise
from dip_pipeline.runs.quantising import storage_step

HEAD = """| frame | pixels | noise of the input | restored, astropy's default | restored, steps of \
0.25 sigma | ratio | largest error, sigma | added rms, sigma |
|---|---|---|---|---|---|---|---|"""


@dataclass(frozen=True, slots=True)
class Stored:
    """How one restored frame was stored; bytes of the compressed pixels and their table alone."""

    name: str
    shape: tuple[int, int]
    sigma: float
    unit: str
    default_bytes: int
    ours_bytes: int
    largest: float
    rms: float

    def row(self) -> str:
        """Give its line of the table."""
        pixels = self.shape[0] * self.shape[1]
        bits = [8 * size / pixels for size in (self.default_bytes, self.ours_bytes)]
        return (
            f"| {self.name} | {self.shape[0]} x {self.shape[1]} | {self.sigma:.4g} {self.unit} "
            f"| {self.default_bytes} bytes, {bits[0]:.2f} bits a pixel "
            f"| {self.ours_bytes} bytes, {bits[1]:.2f} bits a pixel "
            f"| {self.ours_bytes / self.default_bytes:.3f} | {self.largest:.4f} | {self.rms:.4f} |"
        )


def measure(source: Path, config: RunConfig, folder: Path) -> Stored:
    """Restore a frame, and store it both ways."""
    frame = open_frame(source)
    step = storage_step(Path("any.fits.fz"), frame, resolve_noise(frame, config), config)
    if step is None:
        raise SystemExit(f"{source}: its noise is not known")
    sigma = step / config.output.quantize_sigma
    target = folder / "restored.fits"
    restore_frame(str(source), target, config, overwrite=True)
    restored = open_frame(target).read(slice(None), slice(None)).science
    default, ours = folder / "default.fits", folder / "ours.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(restored)]).writeto(default, overwrite=True)
    content = restored.astype(">f4").tobytes()
    cards = image_cards(restored.shape, -32, primary=True)
    plan = HduPlan(cards, len(content), partial(iter, (content,)), compressible=True, step=step)
    with compressed([plan], folder) as plans:
        write_fits(ours, plans)
    with fits.open(ours) as hdus:
        apart = (hdus[1].data.astype(np.float64) - restored)[np.isfinite(restored)] / sigma
    sizes = [pixel_bytes(path) for path in (default, ours)]
    largest, rms = float(np.abs(apart).max()), float(np.sqrt((apart**2).mean()))
    unit = frame.unit or "DN"
    return Stored(source.name, frame.shape, sigma, unit, sizes[0], sizes[1], largest, rms)


def pixel_bytes(path: Path) -> int:
    """Bytes of the compressed image: table and heap."""
    header = fits.getheader(path, 1, disable_image_compression=True)
    return int(header["NAXIS1"] * header["NAXIS2"] + header["PCOUNT"])


def main() -> int:
    """Measure, and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frames", nargs="+", type=Path)
    parser.add_argument("--effort", default="fast")
    parser.add_argument("--sigma", type=float, help="noise, where a header is wrong about it")
    given = parser.parse_args()
    config = RunConfig().with_overrides(**{"fit.effort": given.effort, "noise.sigma": given.sigma})
    print(HEAD)
    fine = True
    with tempfile.TemporaryDirectory() as folder:
        for source in given.frames:
            stored = measure(source, config, Path(folder))
            print(stored.row(), flush=True)
            share = config.output.quantize_sigma
            fine &= stored.ours_bytes <= stored.default_bytes / 2
            fine &= stored.largest <= share / 2 * 1.001
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
