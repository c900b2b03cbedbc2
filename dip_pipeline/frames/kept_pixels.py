"""Pixels that a product is to have as its input has them: saturated ones, left alone."""

import numpy as np

from dip_pipeline.flags import PixelFlag
from dip_pipeline.frames.finer_header import FinerGrid
from dip_pipeline.frames.fits_file import OpenFits
from dip_pipeline.frames.fits_layout import HduSpan
from dip_pipeline.frames.frame import Frame, bands
from dip_pipeline.frames.product import HduPlane, Restoration, RestoredPlane
from dip_pipeline.frames.zarr_hdus import Numbers

_BAND_ROWS = 256
_ROUNDING_ULP = 4  # tiles that share a pixel are averaged


def changed_pixels(
    old: OpenFits, hdu: HduSpan, item: Restoration, *, step: float, grid: FinerGrid
) -> list[str]:
    """Say where pixels that the flags call the input's own are not.

    step : in which science is stored; grid : of the product, in the input's pixels
    """
    shape = hdu.shape[-2], hdu.shape[-1]
    header = old.hdus[hdu.index].header
    scale, zero = float(header.get("BSCALE", 1)), float(header.get("BZERO", 0))
    for number, (science, _, flags) in enumerate(item.planes):
        leading = tuple(int(i) for i in np.unravel_index(number, hdu.shape[:-2] or (1,)))
        plane = HduPlane(old.path, hdu.index, shape, leading if hdu.shape[:-2] else ())
        for rows in bands(shape, _BAND_ROWS):
            observed = np.asarray(plane[rows, slice(0, shape[1])]).astype(np.float64) * scale + zero
            region = _on_grid(rows, shape[1], grid)
            given = np.asarray(science[region]), np.asarray(flags[region])
            if _changed(*given, observed, step=step, grid=grid):
                return [f"{item.where}: saturated pixels changed near row {rows.start}"]
    return []


def changed_pixels_of_frame(
    old: Frame, found: RestoredPlane, *, step: float, grid: FinerGrid
) -> list[str]:
    """Do as `changed_pixels` with one plane, of a frame of any format."""
    science, _, flags = found
    for rows in bands(old.shape, _BAND_ROWS):
        observed = old.read(rows, slice(0, old.shape[1])).science
        region = _on_grid(rows, old.shape[1], grid)
        given = np.asarray(science[region]), np.asarray(flags[region])
        if _changed(*given, observed, step=step, grid=grid):
            return [f"{old.label}: saturated pixels changed near row {rows.start}".lstrip(": ")]
    return []


def _on_grid(rows: slice, cols: int, grid: FinerGrid) -> tuple[slice, slice]:
    factor = grid.factor
    return slice(rows.start * factor, rows.stop * factor), slice(0, cols * factor)


def _spread(observed: Numbers, grid: FinerGrid) -> Numbers:
    """Light of the input's pixels, spread evenly over the finer ones."""
    if grid.factor == 1:
        return observed
    fine = observed.repeat(grid.factor, axis=0).repeat(grid.factor, axis=1)
    return fine.astype(np.float64) * grid.share


def _changed(
    science: Numbers, flags: Numbers, observed: Numbers, *, step: float, grid: FinerGrid
) -> bool:
    """Whether pixels that were to be left alone, and not filled, differ by more than storing.

    Finer pixels of a tile that failed are interpolated, saturated ones, too.
    """
    looked_at = PixelFlag.SATURATED | PixelFlag.FILLED
    looked_at |= PixelFlag.TILE_FAILED if grid.factor > 1 else PixelFlag(0)
    alone = (flags.astype(np.uint8) & np.uint8(looked_at)) == PixelFlag.SATURATED
    given = _spread(observed, grid)[alone].astype(np.float64)
    change = np.abs(science[alone].astype(np.float64) - given)
    rounding = _ROUNDING_ULP * np.spacing(np.abs(given).astype(np.float32))
    return bool(np.any(change > step / 2 * (1 + 1e-5) + rounding))
