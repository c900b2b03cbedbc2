"""A cube of one sky: planes that share networks, planes with their own, and BM3D plane by plane.

A disc that rotates, with knots, and stars whose light is the same in every plane; noise of sigma 1,
white, or with a part that a channel shares with the next.

    python -m benchmarks.cube --planes 24 --apart 3 --seeds 1,3
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
from dip_pipeline.config import RunConfig
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.quality.pictures import DPI, INK, PAPER, RESIDUAL_MAP, SKY_MAP

Cube = NDArray[np.float64]

_LINE_PX = 1.5  # width of the line, channels, standard deviation
_ROTATION = 9.0  # channels from the middle, far out
_STAR_PX = 1.3
_ON_SOURCE = 1.0  # sigma


def truth_of(seed: int, planes: int, side: int) -> Cube:
    """Draw the light of every plane, in sigma of the noise."""
    rng = np.random.default_rng([seed, 23])
    rows, cols = np.mgrid[:side, :side].astype(float)
    middle = side * rng.uniform(0.45, 0.55, 2)
    turn, flat = rng.uniform(0, np.pi), 0.55
    along = (cols - middle[1]) * np.cos(turn) + (rows - middle[0]) * np.sin(turn)
    across = ((rows - middle[0]) * np.cos(turn) - (cols - middle[1]) * np.sin(turn)) / flat
    radius = np.hypot(along, across) + 1e-3
    light = 6 * np.exp(-radius / (0.17 * side))
    for _ in range(60):
        far, at = rng.exponential(0.16 * side), rng.uniform(0, 2 * np.pi)
        a, b = far * np.cos(at), far * np.sin(at) * flat
        row = middle[0] + a * np.sin(turn) + b * np.cos(turn)
        col = middle[1] + a * np.cos(turn) - b * np.sin(turn)
        light += rng.exponential(4) * _spot(rows - row, cols - col, rng.uniform(1.2, 2.5))
    stars = np.zeros((side, side))
    for _ in range(round(25 * (side / 128) ** 2)):
        row, col = rng.uniform(0, side, 2)
        stars += 0.5 * 10 ** rng.uniform(0.3, 2.0) * _spot(rows - row, cols - col, _STAR_PX)
    shift = np.tanh(radius / (0.08 * side)) * along / radius * _ROTATION
    channels = np.arange(planes) - (planes - 1) / 2
    lines = np.exp(-0.5 * ((channels[:, None, None] - shift) / _LINE_PX) ** 2)
    return np.asarray(0.8 * light * lines + stars)


def noise_of(seed: int, shape: tuple[int, ...], shared: float) -> Cube:
    """Draw noise of sigma 1; shared : weight of the next channel's, 0 is white."""
    white = np.random.default_rng([seed, 29]).normal(size=(shape[0] + 1, *shape[1:]))
    return np.asarray((white[:-1] + shared * white[1:]) / np.hypot(1, shared))


def rows_of(seed: int, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Restore the cube in each way; one row a way."""
    truth = truth_of(seed, asked.planes, asked.side)
    observed = truth + noise_of(seed, truth.shape, asked.shared)
    some = np.linspace(0, asked.planes - 1, asked.apart + 2).round().astype(int)[1:-1]
    rows = []
    shown = {"observed": observed[some[0]]}
    with tempfile.TemporaryDirectory() as folder:
        for planes, chosen in (("together", np.arange(asked.planes)), ("apart", some)):
            source, target = Path(folder) / f"{planes}.fits", Path(folder) / f"{planes}_dip.fits"
            fits.PrimaryHDU(observed[chosen].astype(np.float32)).writeto(source)
            options = {
                "fit.planes": planes,
                "fit.effort": asked.effort,
                "fit.flux_scale_px": asked.flux_scale,
                "noise.sigma": 1.0,
            }
            started = time.monotonic()
            report = restore_frame(source, target, RunConfig().with_overrides(**options))
            seconds = time.monotonic() - started
            with fits.open(target) as hdus:
                made, error = hdus[0].data.astype(float), hdus["DIP_ERR"].data.astype(float)
            told = {"estimated": report.risk, "estimated_error": report.risk_error}
            same = np.isin(chosen, some)
            shown[f"planes {planes}"] = made[same][0]
            figures = _figures(made[same], truth[chosen[same]], error[same])
            over_all = float(np.sqrt(np.mean((made - truth[chosen]) ** 2)))
            told |= {"true": over_all, "seconds_a_plane": seconds / len(chosen)}
            rows.append({"method": f"ours, {planes}", "seed": seed, **figures, **told})
    started = time.monotonic()
    made = np.stack([bm3d(plane, 1.0) for plane in observed[some]])
    a_plane = {"seconds_a_plane": (time.monotonic() - started) / len(some)}
    rows.append({"method": "BM3D", "seed": seed, **_figures(made, truth[some]), **a_plane})
    if asked.picture is not None:
        shown |= {"BM3D": made[0], "truth": truth[some[0]]}
        _draw(shown).savefig(asked.picture, facecolor=PAPER, dpi=DPI)
        shrink(asked.picture)
    return rows


def _draw(shown: dict[str, Cube]) -> Figure:
    """Lay out a plane: images above, what they leave of the truth below."""
    figure = Figure(figsize=(13, 5.6), facecolor=PAPER)
    grid = figure.add_gridspec(2, len(shown), left=0.005, right=0.995, top=0.95, bottom=0.01)
    for place, (name, image) in enumerate(shown.items()):
        axes = figure.add_subplot(grid[0, place])
        axes.imshow(np.arcsinh(image), cmap=SKY_MAP, vmin=-1.0, vmax=3.5, origin="lower")
        axes.set_title(name, color=INK, fontsize=12)
        axes.set_axis_off()
        if name in ("observed", "truth"):
            continue
        axes, left = figure.add_subplot(grid[1, place]), image - shown["truth"]
        axes.imshow(left, cmap=RESIDUAL_MAP, vmin=-1.0, vmax=1.0, origin="lower")
        axes.set_title(f"rms of the error {left.std():.2f} sigma", color=INK, fontsize=11)
        axes.set_axis_off()
    return figure


def _figures(made: Cube, truth: Cube, error: Cube | None = None) -> dict[str, float]:
    """Residual noise on the planes that all ways restored, and how often errors hold the truth."""
    wrong, on = made - truth, truth > _ON_SOURCE
    figures = {
        "all": float(np.sqrt(np.mean(wrong**2))),
        "on_source": float(np.sqrt(np.mean(wrong[on] ** 2))),
        "off_source": float(np.sqrt(np.mean(wrong[~on] ** 2))),
    }
    if error is not None:
        figures["covered"] = float(np.mean(np.abs(wrong) < error))
        figures["covered_on_source"] = float(np.mean(np.abs(wrong) < error, where=on))
    return figures


def _spot(rows: Cube, cols: Cube, sigma_px: float) -> Cube:
    return np.asarray(np.exp(-(rows**2 + cols**2) / (2 * sigma_px**2)))


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--planes", type=int, default=24)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--apart", type=int, default=3, help="planes that are restored alone, too")
    parser.add_argument("--shared", type=float, default=0.0, help="noise of the next channel")
    parser.add_argument("--effort", default="normal")
    parser.add_argument("--flux-scale", type=float, default=2.0, help="0: closure off")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--picture", type=Path, help="PNG of one plane, of the last seed")
    parser.add_argument("--out", type=Path, default=Path("cube.json"))
    asked = parser.parse_args()
    rows = []
    for seed in map(int, asked.seeds.split(",")):
        for row in rows_of(seed, asked):
            rows.append(row)
            print(
                {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True
            )
    keep(asked.out, "benchmarks.cube", rows=rows)


if __name__ == "__main__":
    main()
