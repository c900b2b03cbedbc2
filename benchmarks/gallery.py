"""Pictures of restorations side by side: what a table cannot tell.

    python -m benchmarks.gallery --fields crowded,galaxies,nebula --seed 2

draws a square of each field as observed, by VST-BM3D, by us and as it is, and below what either
leaves of the truth, (restored - truth) / sigma: stars, rings and edges left there are errors that a
mean square hides.
"""

from pathlib import Path

import click
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.fields import Field, FieldKind, Plane, draw
from benchmarks.methods import METHODS
from benchmarks.restored import Settings
from dip_pipeline.quality.pictures import DPI, INK, PAPER, RESIDUAL_MAP, SKY_MAP

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
_SIDE_PX = 200
_STRETCH_SIGMA = 3.0  # linear up to here, logarithmic above
_RESIDUAL_SIGMA = 1.5
_COLOURS = 256  # of a palette: half of the bytes


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--fields", default="crowded,galaxies,nebula", show_default=True)
@click.option("--seed", default=2, show_default=True)
@click.option("--steps", type=click.IntRange(1), help="Over the effort's.")
@click.option("--threads", default=2, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=PICTURES, show_default=False)
def main(fields: str, seed: int, steps: int | None, threads: int, out: Path) -> None:
    """Draw one picture a field."""
    settings = Settings(steps=steps, threads=threads)
    for kind in fields.split(","):
        field = draw(FieldKind(kind), seed, side_px=512)
        ours, theirs = (METHODS[name].run(field, settings) for name in ("dip-open", "bm3d"))
        path = out / f"gallery_{kind}.png"
        _draw(field, theirs.science, ours.science).savefig(path, facecolor=PAPER, dpi=DPI)
        shrink(path)
        click.echo(str(path))


def _draw(field: Field, theirs: Plane, ours: Plane) -> Figure:
    """Lay out the square that holds most light: images above, residuals below."""
    rows, cols = _square(field)
    truth, sigma = field.truth.level[rows, cols], field.truth.sigma[rows, cols]
    sky, scale = float(np.median(field.truth.level)), float(np.median(field.truth.sigma))
    figure = Figure(figsize=(13, 6.9), facecolor=PAPER)
    shown = {
        "observed": field.observed,
        "VST-BM3D": theirs,
        "dip-pipeline": ours,
        "truth": field.truth.level,
    }
    grid = figure.add_gridspec(2, 4, left=0.005, right=0.995, top=0.95, bottom=0.01, wspace=0.02)
    for place, (name, image) in enumerate(shown.items()):
        axes = figure.add_subplot(grid[0, place])
        light = np.arcsinh((image[rows, cols] - sky) / scale / _STRETCH_SIGMA)
        axes.imshow(light, cmap=SKY_MAP, vmin=-0.5, vmax=3.5, origin="lower")
        axes.set_title(name, color=INK, fontsize=12)
        axes.set_axis_off()
    for place, image in ((1, theirs), (2, ours)):
        axes = figure.add_subplot(grid[1, place])
        left = (image[rows, cols] - truth) / sigma
        left[field.saturated[rows, cols]] = np.nan
        residual = axes.imshow(
            left, cmap=RESIDUAL_MAP, vmin=-_RESIDUAL_SIGMA, vmax=_RESIDUAL_SIGMA, origin="lower"
        )
        axes.set_title(
            f"(restored - truth) / sigma, rms {np.sqrt(np.nanmean(left**2)):.2f}",
            color=INK,
            fontsize=11,
        )
        axes.set_axis_off()
    bar = figure.colorbar(
        residual, cax=figure.add_axes((0.03, 0.24, 0.19, 0.02)), orientation="horizontal"
    )
    bar.set_label("sigma of the noise; grey: saturated", color=INK, fontsize=10)
    bar.ax.tick_params(colors=INK, labelsize=10)
    bar.outline.set_visible(False)
    return figure


def _square(field: Field) -> tuple[slice, slice]:
    """Find the square with most light that is no single star's, on a coarse grid."""
    light = np.log1p(np.clip(field.truth.signal / field.truth.sigma, 0, None))
    side = min(_SIDE_PX, *light.shape)
    corners = [
        (row, col)
        for row in range(0, light.shape[0] - side + 1, 52)
        for col in range(0, light.shape[1] - side + 1, 52)
    ]
    row, col = max(corners, key=lambda at: light[at[0] : at[0] + side, at[1] : at[1] + side].sum())
    return slice(row, row + side), slice(col, col + side)


def shrink(path: Path) -> None:
    """Write a picture anew with a palette of few colours."""
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(_COLOURS, Image.Quantize.MAXCOVERAGE)
    small.save(path, optimize=True)


if __name__ == "__main__":
    main()
