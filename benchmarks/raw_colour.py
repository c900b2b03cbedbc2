"""Raw frames of a colour camera: filter by filter, as one image, and VST-BM3D of each filter.

Stars and galaxies of some colours in a red nebula, behind filters RGGB whose skies are of unlike
levels; what nobody told of the noise, and with gain and read noise told.

    python -m benchmarks.raw_colour --seeds 1,3 --picture docs/pictures/raw-colour.png
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from bm3d import bm3d
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.gallery import shrink
from benchmarks.machine import keep
from benchmarks.stabilising import Anscombe
from dip_pipeline.config import RunConfig
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.quality.pictures import DPI, INK, PAPER
from dip_pipeline.simulate import SceneKind, SceneOptions, draw_scene

Plane = NDArray[np.float64]

GAIN_E_PER_DN, READ_NOISE_E, PEDESTAL_DN = 0.8, 3.0, 100.0
_SKY_E = {"R": 180.0, "G": 420.0, "B": 260.0}
# What each filter passes of the light of stars, galaxies, and the nebula.
_PASSED = {"R": (0.5, 0.5, 1.0), "G": (1.0, 0.8, 0.15), "B": (0.6, 0.7, 0.05)}
_KINDS = (SceneKind.CROWDED, SceneKind.GALAXIES, SceneKind.NEBULA)
_FILTERS = (("R", "G"), ("G", "B"))
_ON_SOURCE = 1.0  # sigma
_WAYS: dict[str, dict[str, object]] = {
    "filter by filter": {},
    "filter by filter, noise told": {
        "noise.gain_e_per_dn": GAIN_E_PER_DN,
        "noise.read_noise_e": READ_NOISE_E,
    },
    "as one image": {"reading.bayer": "none"},
}


def draw(seed: int, side: int) -> tuple[Plane, Plane, Plane]:
    """Draw a raw frame, its truth, and the light of its sources in it, DN; (rows, cols) each."""
    lights = [
        draw_scene(SceneOptions(kind, (side, side), seed, saturated_star=False)).signal()
        for kind in _KINDS
    ]
    electrons, source = np.zeros((side, side)), np.zeros((side, side))
    for row, col in np.ndindex(2, 2):
        name, cell = _FILTERS[row][col], (slice(row, None, 2), slice(col, None, 2))
        for passed, light in zip(_PASSED[name], lights, strict=True):
            source[cell] += passed * light[cell] * GAIN_E_PER_DN
        electrons[cell] = source[cell] + _SKY_E[name]
    rng = np.random.default_rng([seed, 31])
    read_out = rng.poisson(electrons) + rng.normal(0, READ_NOISE_E, electrons.shape)
    observed = np.round(read_out / GAIN_E_PER_DN + PEDESTAL_DN)
    return observed, electrons / GAIN_E_PER_DN + PEDESTAL_DN, source / GAIN_E_PER_DN


def rows_of(seed: int, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Restore a frame in each way; one row a way."""
    observed, truth, source = draw(seed, asked.side)
    electrons = (truth - PEDESTAL_DN) * GAIN_E_PER_DN
    sigma = np.sqrt(electrons + READ_NOISE_E**2) / GAIN_E_PER_DN
    rows, shown = [], {"raw": observed}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "raw.fits"
        cards = fits.Header({"BAYERPAT": "RGGB", "PEDESTAL": PEDESTAL_DN})
        fits.PrimaryHDU(observed.astype(np.float32), cards).writeto(path)
        for number, (way, options) in enumerate(_WAYS.items()):
            target, started = Path(folder) / f"{number}.fits", time.monotonic()
            config = RunConfig().with_overrides(**{"fit.effort": asked.effort, **options})
            report = restore_frame(str(path), target, config)
            seconds = time.monotonic() - started
            with fits.open(target) as hdus:
                made, error = (hdus[name].data.astype(float) for name in (0, "DIP_ERR"))
            figures = _figures(made, truth, source, sigma)
            covered = float(np.mean(np.abs(made - truth) < error))
            told = {"covered": covered, "estimated": report.risk, "seconds": seconds}
            rows.append({"method": f"ours, {way}", "seed": seed, **figures, **told})
            shown[way] = made
    transform = Anscombe(GAIN_E_PER_DN, READ_NOISE_E, PEDESTAL_DN)
    theirs, started = np.zeros_like(observed), time.monotonic()
    for cell in ((slice(row, None, 2), slice(col, None, 2)) for row, col in np.ndindex(2, 2)):
        theirs[cell] = transform.inverse(bm3d(transform.forward(observed[cell]), 1.0))
    seconds = time.monotonic() - started
    figures = _figures(theirs, truth, source, sigma)
    rows.append({"method": "VST-BM3D of each filter", "seed": seed, **figures, "seconds": seconds})
    if asked.picture is not None:
        shown |= {"VST-BM3D of each filter": theirs, "truth": truth}
        names = ("raw", "filter by filter", "VST-BM3D of each filter", "as one image", "truth")
        _picture({name: shown[name] for name in names}).savefig(
            asked.picture, facecolor=PAPER, dpi=DPI
        )
        shrink(asked.picture)
    return rows


def _figures(made: Plane, truth: Plane, source: Plane, sigma: Plane) -> dict[str, float]:
    wrong, on = (made - truth) / sigma, source > _ON_SOURCE * sigma
    parts = {"all": wrong, "on_source": wrong[on], "off_source": wrong[~on]}
    return {name: float(np.sqrt(np.mean(part**2))) for name, part in parts.items()}


def _picture(shown: dict[str, Plane]) -> Figure:
    """Lay out frames in colour, a pixel for every 2 x 2 of them."""
    figure = Figure(figsize=(15, 3.3), facecolor=PAPER)
    grid = figure.add_gridspec(1, len(shown), left=0.005, right=0.995, top=0.92, bottom=0.01)
    for place, (name, frame) in enumerate(shown.items()):
        axes = figure.add_subplot(grid[0, place])
        green = (frame[::2, 1::2] + frame[1::2, ::2]) / 2
        colours = (frame[::2, ::2], green, frame[1::2, 1::2])
        levels = [np.arcsinh((one - np.median(one)) / 30) / 4.5 + 0.1 for one in colours]
        axes.imshow(np.clip(np.stack(levels, -1), 0, 1), origin="lower", interpolation="nearest")
        axes.set_title(name, color=INK, fontsize=12)
        axes.set_axis_off()
    return figure


def main() -> None:
    """Measure, print, and keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", default="1,3")
    parser.add_argument("--side", type=int, default=384, help="Pixels of a frame's side.")
    parser.add_argument("--effort", default="normal")
    parser.add_argument("--picture", type=Path, help="PNG of the first seed.")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/raw-colour.json"))
    asked = parser.parse_args()
    rows = []
    for seed in map(int, asked.seeds.split(",")):
        for row in rows_of(seed, asked):
            rows.append(row)
            print(row, flush=True)
        asked.picture = None
    keep(asked.out, "benchmarks.raw_colour", rows=rows, side_px=asked.side, effort=asked.effort)


if __name__ == "__main__":
    main()
