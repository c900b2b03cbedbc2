"""The paper's zebra on pixels four times finer: the published recipe, ours from a code, bicubic.

    python -m benchmarks.picture_super_resolve

On a CPU a crop, so that the published recipe ends: that is no measurement of the whole picture. It
is not the crop on which ours was tuned, (64, 112, 128, 192). On a GPU the whole picture (`--device
cuda --crop 0 0 384 576`).
The coarse picture is made as in the published notebook: Pillow's Lanczos of three lobes, 8 bits;
both fits take it for two lobes, as published. Decibels are of luminance (ITU-R BT.601, peak 255),
without a border of 4 pixels, as is usual in the field.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image as Pillow

from benchmarks.fields import extra_file
from benchmarks.machine import command_told, commit, describe_machine, versions
from dip_pipeline.restoration.fits.finer_picture import FinerOptions, draw_finer
from dip_pipeline.restoration.networks.published import PUBLISHED_FINER, fit_published

ZEBRA = "dip_paper/sr_zebra_GT.png"
FACTOR = 4
RESULTS = Path(__file__).resolve().parent / "results" / "picture-super_resolve.json"
TARGET = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "super_resolve.png"
_BORDER_PX = 4
_BT601 = np.array([65.481, 128.553, 24.966])

Colours = NDArray[np.floating]
Row = dict[str, object]
Made = TypeVar("Made")


def luminance(picture: Colours) -> Colours:
    """Y of (3, rows, cols) between 0 and 1, in grey levels of 8 bits."""
    whole: Colours = 16 + np.tensordot(_BT601, picture.clip(0, 1), axes=1)
    return whole


def psnr_y_db(picture: Colours, truth: Colours) -> float:
    """Peak signal-to-noise ratio of luminance within the border, decibels."""
    difference = luminance(picture) - luminance(truth)
    inside = difference[_BORDER_PX:-_BORDER_PX, _BORDER_PX:-_BORDER_PX]
    return float(20 * np.log10(255) - 10 * np.log10(np.mean(inside**2)))


def zebra(top: int, left: int, rows: int, cols: int) -> tuple[Colours, Colours]:
    """Crop of the zebra, (3, rows, cols) between 0 and 1, and its coarse picture."""
    with Pillow.open(extra_file(ZEBRA)) as picture:
        cut = picture.convert("RGB").crop((left, top, left + cols, top + rows))
    small = cut.resize((cols // FACTOR, rows // FACTOR), Pillow.Resampling.LANCZOS)
    truth, coarse = (np.asarray(one, np.float64).transpose(2, 0, 1) / 255 for one in (cut, small))
    return truth, coarse


def bicubic(coarse: Colours) -> Colours:
    """Interpolate each colour."""
    size = (coarse.shape[2] * FACTOR, coarse.shape[1] * FACTOR)
    planes = [Pillow.fromarray(plane.astype(np.float32)) for plane in coarse]
    finer = [np.asarray(plane.resize(size, Pillow.Resampling.BICUBIC)) for plane in planes]
    return np.stack(finer).astype(np.float64)


def rows_of(
    truth: Colours,
    coarse: Colours,
    *,
    seeds: int,
    steps: int,
    our_steps: Sequence[int],
    device: str = "cpu",
) -> tuple[list[Row], dict[str, Colours]]:
    """Measure each method; seconds of the clock, and of the process's CPU.

    steps : of the published recipe; our_steps : ours, each in turn
    Returns rows, and pictures to look at.
    """
    size = f"{truth.shape[1]} x {truth.shape[2]}"
    about: Row = {"field": f"zebra, {size} px, x{FACTOR}", "device": device}
    if device != "cpu":  # the first fit of a process loads a GPU's libraries: nobody's seconds
        draw_finer(coarse, FACTOR, FinerOptions(steps=3), seed=0, device=device)
        fit_published(coarse, replace(PUBLISHED_FINER, steps=3), seed=0, device=device)
    smooth, spent = _timed(lambda: bicubic(coarse))
    found: list[Row] = [_row(about, "bicubic", smooth, truth, spent)]
    pictures: dict[str, Colours] = {"bicubic": smooth}
    for count, seed in product(our_steps, range(1, seeds + 1)):
        options = FinerOptions(steps=count)
        ours = partial(draw_finer, coarse, FACTOR, options, seed=seed, device=device)
        picture, spent = _timed(ours)
        method = f"ours, code input, {count} steps"
        found.append({**_row(about, method, picture, truth, spent), "seed": seed})
        pictures.setdefault("ours", picture)
    recipe = replace(PUBLISHED_FINER, steps=steps)
    fit, spent = _timed(lambda: fit_published(coarse, recipe, seed=1, device=device))
    for name, picture in (
        ("last output, as published", fit.last),
        ("running average", fit.averaged),
    ):
        method = f"paper's network, {steps} steps, {name}"
        found.append({**_row(about, method, picture, truth, spent), "seed": 1})
    pictures["paper's network"] = fit.averaged
    return found, pictures


def _row(
    about: Row, method: str, picture: Colours, truth: Colours, spent: Mapping[str, float]
) -> Row:
    return {**about, "method": method, "psnr_y_db": psnr_y_db(picture, truth), **spent}


def _timed(work: Callable[[], Made]) -> tuple[Made, dict[str, float]]:
    started, spent = time.monotonic(), time.process_time()
    made = work()
    seconds = round(time.monotonic() - started, 2)
    return made, {"seconds": seconds, "cpu_seconds": round(time.process_time() - spent, 2)}


def draw(truth: Colours, coarse: Colours, pictures: dict[str, Colours], found: list[Row]) -> None:
    """Draw the pictures side by side into the documentation."""
    scores = {"bicubic": found[0], "ours": found[1], "paper's network": found[-1]}
    panels: dict[str, Colours] = {"coarse": coarse}
    for name, picture in pictures.items():
        panels[f"{name}, {scores[name]['psnr_y_db']:.2f} dB"] = picture
    panels["truth"] = truth
    figure = Figure(figsize=(9.5, 2.2), layout="constrained")
    for axes, (title, image) in zip(figure.subplots(1, 5), panels.items(), strict=True):
        axes.imshow(image.transpose(1, 2, 0).clip(0, 1), interpolation="nearest")
        axes.set_title(title, fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(TARGET, dpi=100)
    print(TARGET, TARGET.stat().st_size, "bytes")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--crop", nargs=4, type=int, default=(160, 304, 128, 192), show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Of ours.")
@click.option("--steps", type=click.IntRange(1), default=PUBLISHED_FINER.steps, show_default=True)
@click.option(
    "--our-steps",
    type=click.IntRange(1),
    multiple=True,
    default=(FinerOptions().steps, 1000),
    show_default=True,
    help="Again for each.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, help="JSON file.")
@click.option("--quick", is_flag=True, help="Two steps each, no files: does it still run?")
def main(**options: Any) -> None:  # noqa: ANN401  (each of its own kind)
    """Measure on a crop: TOP LEFT ROWS COLS, sides multiples of 32."""
    torch.set_num_threads(options["threads"])
    started = datetime.now(UTC)
    truth, coarse = zebra(*options["crop"])
    quick, device = options["quick"], options["device"]
    steps = 2 if quick else options["steps"]
    our_steps = (2,) if quick else options["our_steps"]
    found, pictures = rows_of(
        truth, coarse, seeds=options["seeds"], steps=steps, our_steps=our_steps, device=device
    )
    for row in found:
        print(json.dumps(row), flush=True)
    if quick:
        return
    if device == "cpu":
        draw(truth, coarse, pictures, found)
    content = {
        "command": command_told("benchmarks.picture_super_resolve"),
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": describe_machine(),
        "versions": versions(),
        "crop": list(options["crop"]),
        "rows": found,
    }
    options["out"].write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
