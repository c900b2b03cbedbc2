"""Our own method, called as a user calls it: a file in, a file out."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.io import fits

from benchmarks.fields import Field, Plane
from benchmarks.restored import Restored, RiskEstimate, Settings
from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frame, read_provenance
from dip_pipeline.pipeline import restore_frame
from dip_pipeline.restoration.problem import Effort, FitOptions

_WHOLE = slice(None)


def with_dip(
    field: Field, settings: Settings, options: Mapping[str, object] | None = None
) -> Restored:
    """Restore a field through `restore_frame`; options are those of the run, by dotted name."""
    config = run_config(field, settings, options or {})
    with tempfile.TemporaryDirectory() as folder:
        source = write_field(field, Path(folder) / "field.fits")
        target = Path(folder) / "restored.fits"
        started = time.monotonic()
        restore_frame(str(source), target, config)
        seconds = time.monotonic() - started
        return Restored(
            science=open_frame(target).read(_WHOLE, _WHOLE).science,
            seconds=seconds,
            error=fits.getdata(target, "DIP_ERR").astype(np.float32),
            risk=_risk(target, field.observed.size),
        )


def with_dip_tenfold(field: Field, settings: Settings) -> Restored:
    """Restore a field at ten times the steps: by then a dishonest estimate would have sunk."""
    usual = FitOptions(effort=Effort(settings.effort), steps=settings.steps).step_limit
    return with_dip(field, replace(settings, steps=10 * usual))


def run_config(field: Field, settings: Settings, options: Mapping[str, object]) -> RunConfig:
    """Lay what a user would say of a field over the defaults."""
    return RunConfig().with_overrides(
        **{
            "fit.effort": settings.effort,
            "fit.steps": settings.steps,
            "fit.seed": field.seed,
            "workers.threads_per_fit": settings.threads,
            "workers.device": settings.device,
            **options,
            **field.told,
        }
    )


def write_field(field: Field, path: Path) -> Path:
    """Write an empty primary, SCI and DQ."""
    header = fits.Header([fits.Card(*card) for card in field.cards])
    quality = (field.masked | field.saturated).astype(np.uint8)
    hdus = [
        fits.PrimaryHDU(),
        fits.ImageHDU(field.observed, header, name="SCI"),
        fits.ImageHDU(quality, name="DQ"),
    ]
    fits.HDUList(hdus).writeto(path)
    return path


def _risk(product: Path, frame_pixels: int) -> RiskEstimate | None:
    """Pool what the tiles say of themselves: the mean square, signed where it is noise."""
    provenance = read_provenance(product)
    tiles = [] if provenance is None else provenance.tiles
    risk, error, count = (_numbers(tiles, name) for name in ("risk", "risk_error", "judged_pixels"))
    total = float(count.sum())
    if total == 0 or not np.isfinite(risk[count > 0]).all():
        return None
    overlap = max(1.0, total / frame_pixels)  # pixels in several tiles were judged several times
    spread = np.sqrt(overlap * np.nansum((count * error) ** 2)) / total
    return RiskEstimate(float(np.nansum(count * risk) / total), float(spread))


def _numbers(tiles: Sequence[Mapping[str, object]], name: str) -> Plane:
    values = [tile[name] for tile in tiles]
    return np.array([np.nan if value is None else value for value in values], np.float64)
