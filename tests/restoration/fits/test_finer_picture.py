"""A finer picture agrees with the coarse one that it was drawn from."""

import numpy as np
import pytest
import torch
from PIL import Image

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.fits.finer_picture import FinerOptions, draw_finer
from dip_pipeline.restoration.forward.decimation import Decimation
from dip_pipeline.restoration.forward.optics import DecimationKind
from dip_pipeline.restoration.networks.published import psnr_db

NARROW = (8, 16, 16, 16, 16)
LANCZOS = Decimation(DecimationKind.LANCZOS, 4)


def coarser(picture):
    return LANCZOS.forward(torch.from_numpy(picture).double()[:, None])[:, 0].numpy()


def bars(side=48):
    """Oblique black and white bars with sharp sides, one channel, between 0 and 1."""
    rows, cols = np.mgrid[:side, :side]
    return (np.sin((cols + 0.4 * rows) * 2 * np.pi / 20) > 0).astype(float)[None]


def test_the_finer_picture_looks_like_the_coarse_one_through_the_low_pass():
    coarse = np.clip(coarser(bars()), 0, 1)
    finer = draw_finer(coarse, 4, FinerOptions(steps=150, widths=NARROW), seed=1)
    assert finer.shape == (1, 48, 48)
    assert psnr_db(np.clip(coarser(finer), 0, 1), coarse) > 20


def test_bars_come_out_sharper_than_by_bicubic_interpolation():
    truth = bars()
    coarse = np.clip(coarser(truth), 0, 1)
    finer = draw_finer(coarse, 4, FinerOptions(steps=150, widths=NARROW), seed=1)
    plane = Image.fromarray(coarse[0].astype(np.float32))
    bicubic = np.asarray(plane.resize((48, 48), Image.Resampling.BICUBIC))
    assert psnr_db(finer[0], truth[0]) > psnr_db(np.clip(bicubic, 0, 1), truth[0]) + 1.0


def test_one_seed_gives_one_picture():
    coarse = np.clip(coarser(bars()), 0, 1)
    options = FinerOptions(steps=2, widths=NARROW)
    once, again, other = (draw_finer(coarse, 4, options, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)


@pytest.mark.parametrize("shape", [(3, 17, 21), (1, 16, 16)])
def test_sides_need_not_suit_the_network(shape):
    coarse = np.random.default_rng(1).random(shape)
    finer = draw_finer(coarse, 3, FinerOptions(steps=2, widths=NARROW), seed=1)
    assert finer.shape == (shape[0], 3 * shape[1], 3 * shape[2])


def test_unknown_pixels_say_nothing_and_are_drawn():
    truth = bars()
    coarse = np.clip(coarser(truth), 0, 1)
    coarse[0, 4, 5] = np.nan
    options = FinerOptions(steps=150, widths=NARROW)
    finer = draw_finer(coarse, 4, options, seed=1)
    assert np.isfinite(finer).all()
    hidden = (0, slice(16, 20), slice(20, 24))
    assert np.abs(finer - truth)[hidden].mean() < 0.45


@pytest.mark.parametrize(
    ("picture", "told"),
    [
        (np.zeros((16, 16)), "channels"),
        (np.zeros((1, 4, 16)), "8 px or more"),
        (np.full((1, 16, 16), 2.0), "between 0 and 1"),
        (np.full((1, 16, 16), np.nan), "between 0 and 1"),
        (np.full((1, 16, 16), np.inf), "between 0 and 1"),
    ],
)
def test_another_shape_or_range_is_refused(picture, told):
    with pytest.raises(RestorationError, match=told):
        draw_finer(picture, 4, FinerOptions(steps=1, widths=NARROW), seed=1)
