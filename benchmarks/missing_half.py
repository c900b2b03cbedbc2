"""Half of all pixels missing of the paper's barbara: ours, biharmonic; the published fit on a crop.

    python -m benchmarks.missing_half

Ours and biharmonic fill the whole picture, so they can be held against the paper's figure (its mask
is another draw of the same share). The published recipe takes 11,000 steps on 512 x 512 pixels,
most of a day on a CPU. Here it gets a crop and fewer steps, at ten times the rate at most: that is
no measurement of the paper's figure. Ours was tuned on the mask of seed 1.
"""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from skimage.restoration import inpaint_biharmonic

from benchmarks.fields import extra_file
from benchmarks.machine import command_told, commit, describe_machine, versions
from dip_pipeline.restoration.fits.hiding import fill_by_hiding
from dip_pipeline.restoration.networks.published import PUBLISHED_FILLING, fit_published, psnr_db

BARBARA = "dip_paper/restoration_barbara.png"
PUBLISHED_DB = 32.22  # of the whole picture, Ulyanov et al. 2018, table 1
SHARE = 0.5
CROP_AT = (320, 384)  # the trousers
RESULTS = Path(__file__).resolve().parent / "results" / "picture-missing_half.json"

Plane = NDArray[np.float64]
Mask = NDArray[np.bool_]
Row = dict[str, object]


def rows(seed: int, *, side_px: int = 96, steps: int = 700) -> list[Row]:
    """Fill half of barbara, and of a crop of it; decibels against the whole truth, CPU seconds."""
    with Pillow.open(extra_file(BARBARA)) as picture:
        whole = np.asarray(picture.convert("L"), np.float64) / 255
    known = np.random.default_rng([seed, 0xBA]).random(whole.shape) >= SHARE
    told = _ours_and_smooth("barbara, whole", whole, known, seed)
    for row in told:
        row["published_db"] = PUBLISHED_DB
    if side_px == 0:
        return told
    window = tuple(slice(first, first + side_px) for first in CROP_AT)
    truth, shown = whole[window], known[window]
    name = f"barbara, crop of {side_px} px"
    return [
        *told,
        *_ours_and_smooth(name, truth, shown, seed),
        *_papers(name, truth, shown, seed, steps),
    ]


def _ours_and_smooth(field: str, truth: Plane, known: Mask, seed: int) -> list[Row]:
    about: Row = {"field": field, "seed": seed, "holes": "half"}
    started = time.process_time()
    smooth = inpaint_biharmonic(np.where(known, truth, 0.0), ~known)
    told = [_row(about, "biharmonic", smooth, truth, started)]
    started = time.process_time()
    ours = fill_by_hiding(np.where(known, truth, np.nan), seed=seed)
    told.append(_row(about, "ours, hiding", ours, truth, started))
    return told


def _papers(field: str, truth: Plane, known: Mask, seed: int, steps: int) -> list[Row]:
    rate = min(1e-2, PUBLISHED_FILLING.steps / steps * PUBLISHED_FILLING.learning_rate)
    recipe = replace(PUBLISHED_FILLING, steps=steps, learning_rate=rate)
    started = time.process_time()
    fit = fit_published(np.where(known, truth, np.nan)[None], recipe, seed=seed)
    about: Row = {"field": field, "seed": seed, "holes": "half"}
    return [
        _row(about, f"paper's network, {steps} steps, {name}", image[0], truth, started)
        for name, image in (("last output", fit.last), ("running average", fit.averaged))
    ]


def _row(about: Row, method: str, image: NDArray[np.floating], truth: Plane, started: float) -> Row:
    spent = round(time.process_time() - started, 2)
    found = psnr_db(image.clip(0, 1), truth)
    return {**about, "method": method, "psnr_db": found, "cpu_seconds": spent}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", default="1", show_default=True, help="Of the masks, by commas.")
@click.option("--side", type=int, default=96, show_default=True, help="Of the crop; 0: none.")
@click.option("--steps", type=click.IntRange(1), default=700, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def main(*, seeds: str, side: int, steps: int, threads: int) -> None:
    """Measure once, print, and put it beside earlier runs."""
    torch.set_num_threads(threads)
    started = datetime.now(UTC)
    found = []
    for seed in map(int, seeds.split(",")):
        found += rows(seed, side_px=side, steps=steps)
        print(*map(json.dumps, found), sep="\n", flush=True)
    runs = json.loads(RESULTS.read_text(encoding="utf-8"))["runs"] if RESULTS.exists() else []
    run = {
        "command": command_told("benchmarks.missing_half"),
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": describe_machine(),
        "versions": versions(),
        "rows": found,
    }
    RESULTS.write_text(json.dumps({"runs": [*runs, run]}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
