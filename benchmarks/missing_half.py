"""Half of all pixels missing: the paper's network on a crop of its own picture, and biharmonic.

The published recipe takes 11,000 steps on 512 x 512 pixels, hours on a CPU. Here a crop and fewer
steps, at ten times the rate: this is no measurement of the paper's figure.
"""

import argparse
import json
import time
from dataclasses import replace

import numpy as np
import torch
from PIL import Image as Pillow
from skimage.restoration import inpaint_biharmonic

from benchmarks.fields import centre, extra_file
from dip_pipeline.restoration.published import PUBLISHED_FILLING, fit_published, psnr_db

BARBARA = "dip_paper/restoration_barbara.png"
PUBLISHED_DB = 32.22  # of the whole picture, Ulyanov et al. 2018, table 1
SHARE = 0.5

Row = dict[str, object]


def rows(seed: int, *, side_px: int = 96, steps: int = 700, threads: int = 1) -> list[Row]:
    """Fill half of a crop from the middle of barbara; decibels against the whole truth."""
    torch.set_num_threads(threads)
    with Pillow.open(extra_file(BARBARA)) as picture:
        whole = np.asarray(picture.convert("L"), np.float64) / 255
    truth = np.asarray(centre(whole, side_px), np.float64)[None]
    known = np.random.default_rng([seed, 0xBA]).random(truth.shape) >= SHARE
    about: Row = {"field": f"barbara, crop of {side_px} px", "seed": seed, "holes": "half"}
    started = time.monotonic()
    smooth = inpaint_biharmonic(np.where(known, truth, 0.0)[0], ~known[0])[None]
    told = [{**about, "method": "biharmonic", "psnr_db": psnr_db(smooth, truth)}]
    told[0]["seconds"] = round(time.monotonic() - started, 1)
    slower = PUBLISHED_FILLING.steps / steps
    recipe = replace(
        PUBLISHED_FILLING,
        steps=steps,
        learning_rate=min(1e-2, slower * PUBLISHED_FILLING.learning_rate),
    )
    fit = fit_published(
        np.where(known, truth, np.nan),
        recipe,
        seed=seed,
        judge=lambda image: psnr_db(image, truth),
    )
    for name, image in (("last output", fit.last), ("running average", fit.averaged)):
        method = f"paper's network, {steps} steps, {name}"
        told.append({**about, "method": method, "psnr_db": psnr_db(image, truth)})
        told[-1] |= {"seconds": round(fit.seconds, 1), "published_db": PUBLISHED_DB}
    told[-1]["looks"] = [[look.step, look.last, look.averaged] for look in fit.looks]
    return told


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--steps", type=int, default=700)
    asked = parser.parse_args()
    for row in rows(asked.seed, side_px=asked.side, steps=asked.steps):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
