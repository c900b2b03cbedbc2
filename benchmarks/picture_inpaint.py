"""Draw docs/pictures/inpaint.png: a simulated field, what hides it, and what is put there."""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from benchmarks.fields import FieldKind, Mask, draw_without_defects
from benchmarks.ours import with_dip
from benchmarks.restored import Settings

SIDE_PX = 160
TARGET = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "inpaint.png"


def cover(shape: tuple[int, int]) -> Mask:
    """Hide a trail 8 px wide, two columns and a word."""
    rows, cols = np.indices(shape)
    masked: Mask = np.abs(rows - 30 - 0.4 * cols) < 4.3
    masked[:, 50] = masked[40:, 121:123] = True
    sheet = Image.new("L", (shape[1], shape[0]))
    ImageDraw.Draw(sheet).text((70, 120), "Preview", fill=255, font=ImageFont.load_default(24))
    return masked | (np.asarray(sheet) > 127)


def main() -> None:
    """Restore and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=4)
    asked = parser.parse_args()
    field = draw_without_defects(FieldKind.NEBULA, asked.seed, side_px=SIDE_PX)
    masked = cover(field.observed.shape)
    hidden = np.where(masked, np.float32(0), field.observed)
    holed = replace(field, masked=masked, observed=hidden)
    settings = Settings(threads=1, steps=asked.steps)
    kept = with_dip(holed, settings, {"task.name": "inpaint"}).science
    shown = np.where(masked, np.nan, field.observed)
    sky, sigma = np.nanmedian(shown), np.median(field.truth.sigma)
    panels = {"observed, and what hides it": shown, "dip inpaint": kept, "truth": field.truth.level}
    figure = Figure(figsize=(7.2, 2.7), layout="constrained")
    for axes, (title, image) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        axes.set_facecolor("tab:red")
        stretched = np.arcsinh((image - sky) / (2 * sigma))
        axes.imshow(stretched, cmap="gray", vmin=-1, vmax=4)
        axes.set_title(title, fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(TARGET, dpi=100)
    print(TARGET, TARGET.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
