"""Laws of pixels that a product is to have as its input has them."""

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.flags import PixelFlag
from dip_pipeline.frames import FinerGrid, open_frame
from dip_pipeline.frames.kept_pixels import changed_pixels_of_frame


def changed(folder, *, by=0.0, flag=PixelFlag.SATURATED, step=0.0, factor=1):
    observed = np.full((20, 24), 100.0, np.float32)
    observed[3, 4] = 6000.0
    fits.writeto(folder / "in.fits", observed, overwrite=True)
    science = observed.repeat(factor, 0).repeat(factor, 1) / factor**2
    place = (3 * factor, 4 * factor)
    science[place] += by
    science[0, 0] += 1.0  # restored: nobody looks at it
    flags = np.zeros(science.shape, np.uint8)
    flags[place] = flag
    planes, grid = (science, science, flags), FinerGrid(factor, per_pixel=True)
    return changed_pixels_of_frame(open_frame(folder / "in.fits"), planes, step=step, grid=grid)


def test_saturated_pixels_that_changed_are_told(tmp_path):
    assert changed(tmp_path) == []
    assert changed(tmp_path, by=0.01) == ["HDU 0: saturated pixels changed near row 0"]
    assert changed(tmp_path, by=0.01, factor=2) == ["HDU 0: saturated pixels changed near row 0"]


@pytest.mark.parametrize(("by", "told"), [(0.49, False), (-0.49, False), (0.52, True), (2.0, True)])
def test_storing_may_move_them_by_half_a_step(tmp_path, by, told):
    step = 0.25
    assert bool(changed(tmp_path, by=by * step, step=step)) is told


@pytest.mark.parametrize(
    ("more", "factor", "told"),
    [
        (PixelFlag.FILLED, 1, False),
        (PixelFlag.FILLED, 2, False),
        (PixelFlag.TILE_FAILED, 1, True),  # a tile that failed has its own pixels
        (PixelFlag.TILE_FAILED, 2, False),
    ],
)
def test_those_that_were_filled_or_interpolated_are_not_looked_at(tmp_path, more, factor, told):
    flag = PixelFlag.SATURATED | more
    assert bool(changed(tmp_path, by=5.0, flag=flag, factor=factor)) is told
