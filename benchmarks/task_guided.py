"""`dip denoise --guide` against the same frame without a guide, on files, as a user calls it.

Fields: a simulated narrow band guided by a broad one ten times deeper, with a nebula and stars that
the guide does not show; SDSS g under four times its noise, guided by r; the flash / no-flash pair
of the paper against the joint bilateral filter. The residual is the rms of (result - truth) over
the frame's noise; what an observed truth has of it is allowed for. Then the whole is done once
more with sources in the guide that the frame does not have: what they leave is the difference, in
sigma of a pixel of the frame: the largest of any pixel within 6 px (where on empty sky the two
fits differ, too), and the height of the profile of a star fitted at the place.

    python -m benchmarks.task_guided --seeds 1,3
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

from benchmarks.flash import flash_rows
from benchmarks.guided_fields import (
    Image,
    Lone,
    Pair,
    drawn,
    lone_sources,
    narrow_band,
    point,
    sdss,
)
from benchmarks.machine import commit, describe_machine, versions
from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frame
from dip_pipeline.pipeline import restore_frame

RESULTS = Path(__file__).resolve().parent / "results"
KNOWN_FIELDS = ("narrow", "sdss", "flash")
Row = dict[str, object]
_DRAWN = {"narrow": narrow_band, "sdss": sdss}
_WHOLE = slice(None)
_REACH_PX = 6


def rows(
    seed: int,
    *,
    fields: Sequence[str] = KNOWN_FIELDS,
    side_px: int = 256,
    steps: int | None = 300,
    picture: Path | None = None,
) -> list[Row]:
    """Measure every field of a seed; one dict a method. picture : of the flash pair, to draw."""
    found: list[Row] = []
    for field in fields:
        if field == "flash":
            found += flash_rows(seed, side_px=side_px, steps=steps, picture=picture)
        else:
            found += _pair_rows(_DRAWN[field](seed, side_px), steps)
    return found


def _pair_rows(pair: Pair, steps: int | None) -> list[Row]:
    about = {"field": pair.field, "seed": pair.seed, "side_px": pair.observed.shape[0]}
    about["steps"] = steps
    lone = lone_sources(pair)
    deceived = pair.guide + drawn(pair.guide.shape, lone, pair.guide_sigma)
    found: list[Row] = []
    results: dict[str, Image] = {}
    for name, guide in (("unguided", None), ("guided", pair.guide), ("deceived", deceived)):
        started = time.monotonic()
        results[name] = restored(pair, guide, steps=steps)
        row: Row = {**about, "method": name, **figures(pair, results[name])}
        found.append(row | {"seconds": round(time.monotonic() - started, 1)})
    found[1]["ratio"] = _ratio(pair, results)
    found[2] |= left_by(pair, lone, results["deceived"] - results["guided"])
    return found


def restored(pair: Pair, guide: Image | None, *, steps: int | None) -> Image:
    """Restore the frame of a pair through files."""
    options: dict[str, object] = {
        "noise.sigma": pair.sigma,
        "fit.steps": steps,
        "fit.seed": pair.seed,
        "workers.threads_per_fit": 1,
    }
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "frame.fits", Path(folder) / "restored.fits"
        fits.writeto(source, pair.observed.astype(np.float32), pair.header)
        if guide is not None:
            other = Path(folder) / "guide.fits"
            fits.writeto(other, guide.astype(np.float32), pair.header)
            options["task.guides"] = (str(other),)
        restore_frame(str(source), target, RunConfig().with_overrides(**options))
        return open_frame(target).read(_WHOLE, _WHOLE).science.astype(np.float64)


def figures(pair: Pair, result: Image) -> Row:
    """Residuals, and how much of the light of stars that the guide does not show is there."""
    squares = pair.squared_errors(result)
    on = pair.on_sources
    row: Row = {
        "residual": _root_mean(squares),
        "residual_on_sources": _root_mean(squares[on]),
        "residual_off_sources": _root_mean(squares[~on]),
    }
    if pair.only_frame:
        wrong = (result - pair.truth) / pair.sigma
        kept = [
            1 + _height(wrong, one) / _height(drawn(wrong.shape, [one], 1.0), one)
            for one in pair.only_frame
        ]
        row["only_frame_kept_median"] = round(float(np.median(kept)), 3)
        row["only_frame_kept_least"] = round(min(kept), 3)
    return row


def left_by(pair: Pair, lone: Sequence[Lone], difference: Image) -> Row:
    """Say what sources of the guide alone leave in the result, in sigma of the frame's pixels."""
    difference = difference / pair.sigma
    row: Row = {}
    for where, on_light in (("sky", False), ("light", True)):
        for snr in dict.fromkeys(one.snr for one in lone):
            members = [one for one in lone if one.snr == snr and one.on_light is on_light]
            peaks = [_peak(difference, one) for one in members]
            heights = [abs(_height(difference, one)) for one in members]
            if members:
                row[f"left_on_{where}_snr_{snr:g}_pixel"] = round(max(peaks), 3)
                row[f"left_on_{where}_snr_{snr:g}_profile"] = round(max(heights), 3)
    return row


def _ratio(pair: Pair, results: dict[str, Image]) -> float:
    guided, unguided = (
        _root_mean(pair.squared_errors(results[name])) for name in ("guided", "unguided")
    )
    return round(guided / unguided, 4)


def _root_mean(squares: Image) -> float:
    return round(float(np.sqrt(max(float(np.mean(squares)), 0.0))), 4)


def _height(image: Image, one: Lone) -> float:
    """Height of the profile of a star, fitted at a place by least squares."""
    profile = point(image.shape, one)
    return float((image * profile).sum() / (profile**2).sum() * profile.max())


def _peak(image: Image, one: Lone) -> float:
    rows, cols = (
        slice(max(0, round(place) - _REACH_PX), round(place) + _REACH_PX + 1)
        for place in (one.row, one.col)
    )
    return float(np.abs(image[rows, cols]).max())


def main() -> None:
    """Measure some seeds and keep the rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1,3")
    parser.add_argument("--fields", default=",".join(KNOWN_FIELDS))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=RESULTS / "tasks-guided.json")
    parser.add_argument("--picture", type=Path, help="of the flash pair, .png")
    asked = parser.parse_args()
    fields = asked.fields.split(",")
    if not set(fields) <= set(KNOWN_FIELDS):
        parser.error(f"--fields {asked.fields}: need some of {', '.join(KNOWN_FIELDS)}")
    found = []
    for seed in asked.seeds.split(","):
        picture = asked.picture
        for row in rows(int(seed), fields=fields, steps=asked.steps, picture=picture):
            print(row, flush=True)
            found.append(row)
    text = {"machine": describe_machine(), "versions": versions(), "commit": commit()}
    asked.out.write_text(json.dumps({**text, "rows": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
