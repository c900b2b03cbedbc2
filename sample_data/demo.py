"""Restore both sample frames and compare them with their truth: `make demo`.

Writes the restored frames and pictures of them into demo_output/, and prints what a user would
want to know before trusting them. `python sample_data/demo.py [--out DIR] [--steps N]`
"""

import argparse
import math
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from astropy.io import fits
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from dip_pipeline.cli.progress import watching
from dip_pipeline.config import RunConfig
from dip_pipeline.errors import ExitCode
from dip_pipeline.frames import open_frame
from dip_pipeline.pipeline import RunReport, restore_frame
from dip_pipeline.quality import (
    Coverage,
    Evidence,
    FluxBias,
    Truth,
    assess,
    residual_noise,
    write_pictures,
)
from dip_pipeline.simulate import DataQuality

HERE = Path(__file__).resolve().parent
WHOLE = slice(None)


@dataclass(frozen=True, slots=True)
class Sample:
    """One frame of sample_data, its truth, and the name of its product."""

    title: str
    source: Path
    truth: Path
    product: str


SAMPLES = (
    Sample(
        "crowded star field",
        HERE / "crowded.fits",
        HERE / "crowded_truth.fits",
        "crowded_dip.fits",
    ),
    Sample(
        "galaxies and nebulosity",
        HERE / "galaxies.zarr",
        HERE / "galaxies_truth.fits",
        "galaxies_dip.zarr",
    ),
)


def main() -> int:
    """Restore, judge and draw each sample; returns the exit code."""
    parser = argparse.ArgumentParser(description="Restore the sample frames, judge the results.")
    parser.add_argument("--out", type=Path, default=HERE.parent / "demo_output")
    parser.add_argument("--steps", type=int, default=None, help="steps of a fit at most")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    config = RunConfig().with_overrides(**{"fit.steps": options.steps})
    started = time.monotonic()
    reports = [run(sample, options.out, config, console) for sample in SAMPLES]
    console.print(f"{len(reports)} frames in {time.monotonic() - started:.0f} s")
    return ExitCode.OK if all(report.ok for report in reports) else ExitCode.FRAMES_FAILED


def run(sample: Sample, out: Path, config: RunConfig, console: Console) -> RunReport:
    """Restore one sample as `dip denoise` does, and print and draw how it went."""
    out.mkdir(parents=True, exist_ok=True)
    target = out / sample.product
    remove(target)  # of an earlier demo: it is restored anew, however much the same
    with watching(0) as progress:
        report = restore_frame(
            str(sample.source),
            target,
            config,
            progress=progress,
            command_line=("sample_data/demo.py",),
        )
    evidence = collect(sample, target)
    console.print(table(sample, evidence, report))
    unit = open_frame(sample.source).unit
    pictures = write_pictures(out / target.stem, evidence, title=sample.title, unit=unit)
    names = ", ".join(picture.name for picture in pictures)
    console.print(f"{target}\n{out / target.stem}: {names}\n", soft_wrap=True)
    return report


def remove(product: Path) -> None:
    """Delete a product, where there is one."""
    if product.is_dir():
        shutil.rmtree(product)
    else:
        product.unlink(missing_ok=True)


def collect(sample: Sample, product: Path) -> Evidence:
    """Read the input, the truth and the product of one sample.

    What counts as saturated or masked is what the sample says, not what the product says.
    """
    frame = open_frame(sample.source)
    pixels = frame.read(WHOLE, WHOLE)
    quality = frame.source.read_flags(*(slice(0, length) for length in frame.shape))
    if quality is None:
        raise SystemExit(f"{sample.source}: has no flags; run sample_data/make.py")
    saturated = (np.asarray(quality, np.int64) & DataQuality.SATURATED) != 0
    truth = read_truth(sample.truth)
    return Evidence(
        observed=pixels.science,
        restored=open_frame(product).read(WHOLE, WHOLE).science,
        sigma=truth.sigma,
        error=read_error(product),
        masked=pixels.masked & ~saturated,
        saturated=saturated,
        truth=truth,
    )


def read_truth(path: Path) -> Truth:
    """Read what is true of a sample."""
    with fits.open(path) as hdus:
        level = hdus["TRUTH"].data.astype(np.float64)
        rows = hdus["STARS"].data
        stars = np.zeros(len(rows), [(name, "f8") for name in ("row", "col", "flux_dn")])
        for name in ("row", "col", "flux_dn"):
            stars[name] = rows[name]
        return Truth(
            level=level,
            signal=level - hdus["TRUTH"].header["SIMSKY"],
            sigma=hdus["SIGMA"].data.astype(np.float64),
            stars=stars,
        )


def read_error(product: Path) -> NDArray[np.floating]:
    """Read the error plane of a product."""
    if product.is_dir():
        return np.asarray(zarr.open_group(product, mode="r")["DIP_ERR"][:])
    return fits.getdata(product, "DIP_ERR").astype(np.float32)


def table(sample: Sample, evidence: Evidence, report: RunReport) -> Table:
    """Put the figures of one frame against the truth."""
    truth, figures = evidence.truth, assess(evidence).truth
    assert truth is not None and figures is not None  # noqa: PT018  (collect gave them)
    unflagged = residual_noise(
        evidence.restored, truth.level, truth.sigma, saturated=~evidence.usable
    )
    rows = Table(title=f"{sample.source.name}: {sample.title}", title_justify="left")
    rows.add_column("against the truth")
    rows.add_column("figure", justify="right")
    rows.add_row("residual noise / input's, unsaturated pixels", f"{figures.fraction:.3f}")
    rows.add_row(
        f"  without the {figures.restored.flagged_share:.1%} that were masked",
        f"{unflagged.rms / figures.input_rms:.3f}",
        end_section=True,
    )
    rows.add_row("rms of (restored - truth) / sigma, unmasked: estimated", _estimate(report))
    rows.add_row("  true", f"{unflagged.rms:.3f}", end_section=True)
    for bias in figures.flux:
        label = f"change of a star's flux, median at S/N {bias.snr_low:g}-{bias.snr_high:g}"
        rows.add_row(label, _bias(bias), end_section=bias is figures.flux[-1])
    for place, coverage in (
        ("", figures.covered),
        (" on source", figures.on_source),
        (" off source", figures.off_source),
    ):
        if coverage is not None:
            rows.add_row(f"within the error plane{place} (0.683 is right)", _coverage(coverage))
    rows.add_section()
    rows.add_row("tiles failed", f"{report.failed_tiles} of {report.tiles}")
    rows.add_row("seconds", f"{report.seconds:.0f}")
    return rows


def _estimate(report: RunReport) -> str:
    if math.isnan(report.risk_error):
        return f"at most {report.risk:.3f}"
    return f"{report.risk:.3f} +- {report.risk_error:.3f}"


def _bias(bias: FluxBias) -> str:
    if not bias.stars:
        return "no stars"
    error = "" if math.isnan(bias.error) else f" +- {bias.error:.1%}"
    return f"{bias.median:+.1%}{error} ({bias.stars} stars)"


def _coverage(coverage: Coverage) -> str:
    low, high = coverage.range
    return f"{coverage.overall:.3f} (tenths {low:.2f} to {high:.2f})"


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(ExitCode.INTERRUPTED) from None
