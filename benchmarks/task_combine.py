"""Combination of exposures, side by side with drizzle and a mean stack; registration of M13.

    python -m benchmarks.tasks --tasks combine --seeds 1
    python -m benchmarks.task_combine --decam d,e --m13

Simulated: four dithered exposures, FWHM 1.8 px, cosmic rays in each, combined on pixels twice as
fine. The peers are told the true dithers and which pixels cosmic rays hit; ours finds both. The
better drizzle and the mean also go through our own denoiser, their error plane and correlation
measured on draws of the noise. Residuals are over the noise of one exposure. Observed: the DECam
five, leave one out, and the offsets of the M13 frames, which carry a strong fixed pattern.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from astropy.io import fits
from drizzle.resample import Drizzle
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, maximum_filter

from benchmarks.fields import extra_file
from benchmarks.machine import commit, describe_machine, versions
from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frame, read_provenance
from dip_pipeline.frames.prov_json import facts_of
from dip_pipeline.noise_kernel import NoiseKernel
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.registration import register, see
from dip_pipeline.restoration import fit_prior, restore
from dip_pipeline.restoration.problem import FitOptions, Problem
from dip_pipeline.restoration.smoothing import smooth
from dip_pipeline.sensor import NoiseKind, NoiseModel
from dip_pipeline.simulate import (
    DetectorOptions,
    MoffatPsf,
    SceneKind,
    SceneOptions,
    draw_scene,
    expose,
)

RESULTS = Path(__file__).resolve().parent / "results"
FACTOR = 2
_OVERSAMPLE = 8  # dithers are whole steps of it, so that the truth needs no interpolation
_MARGIN_PX = 4
_BORDER_PX = 8  # where not all exposures see the sky, nobody is judged
_SKY_DN = 200.0
_FWHM_PX = 1.8
_SOURCE_SIGMA = 3.0
_DRAWS = 8
_DENOISED = ("drizzle, pixfrac 0.6", "mean stack, spline")  # the better drizzle, and the mean
_REACH_PX = 8
_DECAM = tuple(f"multi_exposure/DEC-OBS04{name}.mini.fits" for name in "abcde")
# Offsets of the scene by hand, and how: see tests/registration/test_registering.py.
_M13 = {
    "multi_exposure/M13_blue_0002.fits.gz": (1.06, -11.61),
    "multi_exposure/M13_blue_0004.fits.gz": (3.39, -34.61),
}
_M13_REFERENCE = "multi_exposure/M13_blue_0001.fits"

Plane = NDArray[np.float64]
Row = dict[str, Any]
Stack = Callable[[Sequence[Plane]], Plane]


@dataclass(frozen=True, slots=True, eq=False)
class Dithers:
    """Exposures of one scene and its truth; a star at p of exposure k is at p + shifts_px[k].

    truth : (rows, cols) times FACTOR, DN a fine pixel; sigma : of one exposure, DN a coarse one
    hit : pixels with a cosmic ray, by exposure
    """

    kind: str
    seed: int
    frames: tuple[NDArray[np.float32], ...]
    shifts_px: tuple[tuple[float, float], ...]
    hit: tuple[NDArray[np.bool_], ...]
    truth: Plane
    sigma: tuple[Plane, ...]
    detector: DetectorOptions

    @property
    def sky(self) -> float:
        """Level without a source, DN a coarse pixel."""
        return _SKY_DN + self.detector.pedestal_dn


def draw_dithers(kind: str, seed: int, side_px: int, count: int = 4) -> Dithers:
    """Draw exposures at random dithers of up to a pixel each way; the first is not moved."""
    side = side_px + 2 * _MARGIN_PX
    options = SceneOptions(
        kind, shape=(side, side), seed=seed, saturated_star=False, psf=MoffatPsf(_FWHM_PX)
    )
    fine = draw_scene(options).signal(_OVERSAMPLE)
    rng = np.random.default_rng([seed, 0xD17])
    steps = rng.integers(-_OVERSAMPLE, _OVERSAMPLE + 1, (count, 2))
    steps[0] = 0
    detector = DetectorOptions(defects=False)
    levels = [
        _summed(fine, step, side_px, _OVERSAMPLE) + _SKY_DN + detector.pedestal_dn for step in steps
    ]
    frames, hits = [], []
    for number, level in enumerate(levels):
        own = np.random.default_rng([seed, number, 0xC05])
        observed, _ = expose(level, detector, own, fwhm_px=_FWHM_PX)
        struck, hit = _struck(observed.astype(np.float32), own)
        frames.append(struck)
        hits.append(hit)
    truth = _summed(fine, steps[0], side_px, _OVERSAMPLE // FACTOR)
    return Dithers(
        kind=kind,
        seed=seed,
        frames=tuple(frames),
        shifts_px=tuple((float(r) / _OVERSAMPLE, float(c) / _OVERSAMPLE) for r, c in steps),
        hit=tuple(hits),
        truth=truth + (_SKY_DN + detector.pedestal_dn) / FACTOR**2,
        sigma=tuple(detector.sigma_dn(level) for level in levels),
        detector=detector,
    )


def _summed(fine: Plane, step: NDArray[np.int64], side_px: int, pixels: int) -> Plane:
    first = _MARGIN_PX * _OVERSAMPLE + step
    length = side_px * _OVERSAMPLE
    cut = fine[first[0] : first[0] + length, first[1] : first[1] + length]
    count = length // pixels
    summed: Plane = cut.reshape(count, pixels, count, pixels).sum(axis=(1, 3))
    return summed


def _struck(
    frame: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Add cosmic rays: tracks of 1 to 6 pixels of 100 to 3000 DN, one in 400 pixels."""
    hit = np.zeros(frame.shape, bool)
    for _ in range(frame.size // 400):
        row, col = rng.uniform(2, np.array(frame.shape) - 2)
        angle, light = rng.uniform(0, np.pi), 10 ** rng.uniform(2, 3.5)
        for step in range(int(rng.integers(1, 7))):
            place = int(row + step * np.sin(angle)), int(col + step * np.cos(angle))
            if all(0 <= at < side for at, side in zip(place, frame.shape, strict=True)):
                frame[place] += 0 if hit[place] else light
                hit[place] = True
    return frame, hit


def rows(
    seed: int,
    *,
    side_px: int = 96,
    steps: int | None = None,
    fields: Sequence[str] = tuple(SceneKind),
) -> list[Row]:
    """Measure every method on simulated fields of a seed."""
    return [row for kind in fields for row in _field_rows(str(kind), seed, side_px, steps)]


def _field_rows(kind: str, seed: int, side_px: int, steps: int | None) -> list[Row]:
    drawn = draw_dithers(kind, seed, side_px)
    result, more = _ours(drawn, steps)
    found = [_row(drawn, "combine, ours", result, more)]
    for name, stack in _peers(drawn).items():
        plain = stack([frame.astype(np.float64) - drawn.sky for frame in drawn.frames])
        level = drawn.sky / FACTOR**2
        found.append(_row(drawn, name, plain + level, {}))
        if name not in _DENOISED:
            continue
        denoised = _denoised(drawn, stack, plain, steps) + level
        found.append(_row(drawn, f"{name}, our denoise", denoised, {}))
    best = min(row["on_sources"] for row in found[1:])
    found[0]["over_best"] = round(found[0]["on_sources"] / best, 3)
    return found


def _row(drawn: Dithers, method: str, result: Plane, more: Mapping[str, object]) -> Row:
    """Score a result: rms of (result - truth) over the noise of one exposure."""
    fine = np.repeat(np.repeat(drawn.sigma[0], FACTOR, 0), FACTOR, 1) / FACTOR**2
    error = (result - drawn.truth) / fine
    judged = np.zeros(error.shape, bool)
    edge = _BORDER_PX * FACTOR
    judged[edge:-edge, edge:-edge] = np.isfinite(error)[edge:-edge, edge:-edge]
    source = judged & (drawn.truth - drawn.sky / FACTOR**2 > _SOURCE_SIGMA * fine)
    struck = judged & ~source & _where_struck(drawn)
    row = {
        "field": drawn.kind,
        "seed": drawn.seed,
        "method": method,
        "on_sources": _rms(error[source]),
        "median_on_sources": round(float(np.median(np.abs(error[source]))), 4),
        "off_sources": _rms(error[judged & ~source]),
        "off_sources_where_struck": _rms(error[struck]),
        **more,
    }
    click.echo(json.dumps(row))
    return row


def _rms(values: Plane) -> float:
    return round(float(np.sqrt(np.mean(values**2))), 4)


def _where_struck(drawn: Dithers) -> NDArray[np.bool_]:
    """Fine pixels within a pixel of where a cosmic ray hit any exposure."""
    struck = np.zeros(drawn.truth.shape, bool)
    for hit, shift in zip(drawn.hit, drawn.shifts_px, strict=True):
        places = np.floor((np.argwhere(hit) + shift + 0.5) * FACTOR)
        for row, col in places.clip(0, np.array(struck.shape) - 1).astype(int).tolist():
            struck[row, col] = True
    grown: NDArray[np.bool_] = maximum_filter(struck, 3)
    return grown


def _ours(drawn: Dithers, steps: int | None) -> tuple[Plane, dict[str, object]]:
    """Combine as a user does: files in, a file out."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [_written(drawn, number, Path(folder)) for number in range(len(drawn.frames))]
        target = Path(folder) / "combined.fits"
        config = RunConfig().with_overrides(
            **{
                "task.name": "combine",
                "task.factor": FACTOR,
                "task.exposures": tuple(map(str, paths[1:])),
                "fit.steps": steps,
                "workers.threads_per_fit": 1,
            }
        )
        report = restore_frame(str(paths[0]), target, config)
        science = open_frame(target).read(slice(None), slice(None)).science
        account = read_provenance(target)
    assert account is not None
    shifts = [
        facts_of(account.document, f"exposure-{number}")["shift_px"]
        for number in range(1, len(drawn.frames))
    ]
    apart = np.abs(np.array(shifts) - np.array(drawn.shifts_px[1:]))
    more: dict[str, object] = {
        "registration_error_px": round(float(apart.max()), 4),
        "seconds": report.seconds,
    }
    return science.astype(np.float64), more


def _written(drawn: Dithers, number: int, folder: Path) -> Path:
    detector = drawn.detector
    header = fits.Header(
        {
            "BUNIT": "adu",
            "GAIN": detector.gain_e_per_dn,
            "RDNOISE": detector.read_noise_e,
            "PEDESTAL": detector.pedestal_dn,
            "SATURATE": detector.saturation_dn,
            "EXPTIME": 120.0,
            "FILTER": "r",
        }
    )
    path = folder / f"exposure_{number}.fits"
    fits.PrimaryHDU(drawn.frames[number], header).writeto(path)
    return path


def _peers(drawn: Dithers) -> dict[str, Stack]:
    """Linear stacks of planes without a sky, DN a fine pixel."""
    return {
        "drizzle, pixfrac 1": lambda planes: _drizzled(drawn, planes, 1.0),
        "drizzle, pixfrac 0.6": lambda planes: _drizzled(drawn, planes, 0.6),
        "mean stack, spline": lambda planes: _mean(drawn, planes),
    }


def _drizzled(drawn: Dithers, planes: Sequence[Plane], pixfrac: float) -> Plane:
    """Fruchter & Hook 2002, by the package drizzle; struck pixels weigh nothing."""
    side = planes[0].shape[0]
    drizzle = Drizzle(out_shape=drawn.truth.shape, kernel="square", fillval="0")
    row, col = np.mgrid[0:side, 0:side].astype(np.float64)
    for plane, hit, shift in zip(planes, drawn.hit, drawn.shifts_px, strict=True):
        places = [(at + by + 0.5) * FACTOR - 0.5 for at, by in zip((row, col), shift, strict=True)]
        drizzle.add_image(
            plane.astype(np.float32),
            exptime=1.0,
            pixmap=np.stack(places[::-1], axis=-1),
            weight_map=(~hit).astype(np.float32),
            pixfrac=pixfrac,
            scale=1.0,
            in_units="cps",
        )
    return np.asarray(drizzle.out_img, np.float64) / FACTOR**2


def _mean(drawn: Dithers, planes: Sequence[Plane]) -> Plane:
    """Read every exposure at the fine pixels by a cubic spline; mean of those not struck there."""
    row, col = np.mgrid[0 : drawn.truth.shape[0], 0 : drawn.truth.shape[1]]
    total: Plane = np.zeros(drawn.truth.shape)
    weight: Plane = np.full(drawn.truth.shape, 1e-9)
    for plane, hit, shift in zip(planes, drawn.hit, drawn.shifts_px, strict=True):
        places = [(at + 0.5) / FACTOR - 0.5 - by for at, by in zip((row, col), shift, strict=True)]
        filled = np.where(hit, _around(plane, hit), plane)
        good = map_coordinates((~hit).astype(float), places, order=1, mode="nearest") > 0.99
        value = map_coordinates(filled, places, order=3, mode="nearest")
        total, weight = total + good * value, weight + good
    return total / weight / FACTOR**2


def _around(plane: Plane, hit: NDArray[np.bool_]) -> Plane:
    """Mean of the pixels around that are not hit."""
    seen, known = (
        torch.from_numpy(np.ascontiguousarray(each, np.float64))[None, None]
        for each in (np.where(hit, 0, plane), ~hit)
    )
    mean: Plane = (smooth(seen, 1.0) / smooth(known, 1.0).clamp(min=1e-6))[0, 0].numpy()
    return mean


def _denoised(drawn: Dithers, stack: Stack, plain: Plane, steps: int | None) -> Plane:
    """Put a stack through our denoiser, told its error plane and correlation."""
    rng = np.random.default_rng([drawn.seed, 0xDA])
    draws = np.array(
        [stack([each * rng.standard_normal(each.shape) for each in drawn.sigma])]
        + [
            stack([each * rng.standard_normal(each.shape) for each in drawn.sigma])
            for _ in range(_DRAWS - 1)
        ]
    )
    error = np.sqrt(_smoothed((draws**2).mean(axis=0), 2.0))
    noise = NoiseModel(
        NoiseKind.GAUSSIAN, "draws", from_error_plane=True, correlation=_kernel(draws / error)
    )
    nothing = np.zeros(plain.shape, bool)
    problem = Problem(
        pixels=plain.astype(np.float32),
        error=error.astype(np.float32),
        masked=nothing,
        saturated=nothing,
        noise=noise,
        options=FitOptions(steps=steps, flux_scale_px=FitOptions().flux_scale_px * FACTOR),
        seed=drawn.seed,
    )
    prior = fit_prior([problem], plain.shape, seed=drawn.seed)
    return restore(problem, prior).science.astype(np.float64)


def _smoothed(plane: Plane, sigma_px: float) -> Plane:
    smoothed: Plane = smooth(torch.from_numpy(plane)[None, None], sigma_px)[0, 0].numpy()
    return smoothed


def _kernel(draws: Plane) -> NoiseKernel:
    """Correlation by lag of draws of unit variance."""
    size = [side + _REACH_PX for side in draws.shape[1:]]
    lags = np.arange(-_REACH_PX, _REACH_PX + 1)
    power = (np.abs(np.fft.rfft2(draws, size)) ** 2).mean(axis=0)
    pairs = np.abs(np.fft.rfft2(np.ones(draws.shape[1:]), size)) ** 2
    table = (np.fft.irfft2(power, size) / np.fft.irfft2(pairs, size).clip(1))[np.ix_(lags, lags)]
    return NoiseKernel.from_correlation(table / table[_REACH_PX, _REACH_PX], "draws")


def decam_rows(held_out: Sequence[str], *, steps: int | None = None) -> list[Row]:
    """Predict each held-out frame by the other four combined, by their mean, by one restored."""
    found = []
    for name in held_out:
        chosen = next(path for path in _DECAM if f"04{name}." in path)
        others = [path for path in _DECAM if path != chosen]
        aim = _science(extra_file(chosen))
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "combined.fits"
            options: dict[str, object] = {"fit.steps": steps, "workers.threads_per_fit": 1}
            task = {
                "task.name": "combine",
                "task.exposures": tuple(str(extra_file(path)) for path in others[1:]),
            }
            first = str(extra_file(others[0]))
            restore_frame(first, target, RunConfig().with_overrides(**options, **task))
            single = Path(folder) / "single.fits"
            restore_frame(first, single, RunConfig().with_overrides(**options))
            results = {
                "combine four, ours": _science(target),
                "mean of four": np.mean([_science(extra_file(p)) for p in others], axis=0),
                "one frame, our denoise": _science(single),
            }
        for method, result in results.items():
            row = {"field": "decam", "held_out": name, "method": method}
            row |= _predicted(result, aim)
            click.echo(json.dumps(row))
            found.append(row)
    return found


def _science(path: Path) -> Plane:
    return open_frame(path).read(slice(None), slice(None)).science.astype(np.float64)


def _predicted(result: Plane, aim: Plane) -> Row:
    """Mean squared error on a frame, after its flux scale and sky by a robust regression."""
    good = np.isfinite(result) & np.isfinite(aim)
    x, y = result[good], aim[good]
    scale, level = 1.0, 0.0
    for _ in range(20):
        residual = y - scale * x - level
        sigma = 1.4826 * np.median(np.abs(residual - np.median(residual)))
        weight = 1 / np.maximum(1, np.abs(residual) / (3 * sigma))
        design = np.stack([x, np.ones_like(x)])
        scale, level = np.linalg.solve((design * weight) @ design.T, (design * weight) @ y)
    residual = y - scale * x - level
    return {
        "mean_squared_error": round(float(np.mean(residual**2)), 4),
        "median_absolute_error": round(float(np.median(np.abs(residual))), 4),
        "flux_scale": round(float(scale), 4),
    }


def m13_rows() -> list[Row]:
    """Register the M13 frames; offsets are those of the scene, as by hand."""
    reference = _seen(_M13_REFERENCE)
    found = []
    for name, by_hand in _M13.items():
        result = register(_seen(name), reference)
        offset = [-value for value in result.geometry.shift_px]
        row = {
            "field": "m13",
            "file": name,
            "offset_px": [round(value, 3) for value in offset],
            "by_hand_px": list(by_hand),
            "apart_px": round(float(np.abs(np.subtract(offset, by_hand)).max()), 3),
            "how": result.how,
        }
        click.echo(json.dumps(row))
        found.append(row)
    return found


def _seen(name: str) -> Any:  # noqa: ANN401
    pixels = fits.getdata(extra_file(name)).astype(np.float32)
    return see(name, pixels, np.zeros(pixels.shape, bool))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--steps", type=int, help="Of every fit.  [default: as users get]")
@click.option("--decam", default="", help="Held-out frames, of a to e.  [default: none]")
@click.option("--m13", is_flag=True, help="Register the M13 frames.")
def main(steps: int | None, decam: str, *, m13: bool) -> None:
    """Measure the combination of observed exposures; figures are added to the results."""
    torch.set_num_threads(1)
    found = decam_rows(tuple(filter(None, decam.split(","))), steps=steps)
    found += m13_rows() if m13 else []
    path = RESULTS / "tasks-combine-observed.json"
    kept = json.loads(path.read_text()) if path.exists() else {"runs": []}
    kept["runs"].append(
        {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": describe_machine(),
            "versions": versions(),
            "steps": steps,
            "rows": found,
        }
    )
    path.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
