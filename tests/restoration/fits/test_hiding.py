"""Scattered pixels of a picture are filled from the rest of it, without a noise law."""

import numpy as np
import pytest
import torch

from dip_pipeline.errors import DivergedError, RestorationError
from dip_pipeline.flags import PixelFlag
from dip_pipeline.restoration import hiding_restore
from dip_pipeline.restoration.fits import hiding
from dip_pipeline.restoration.fits.hiding import HidingOptions, fill_by_hiding
from dip_pipeline.restoration.hiding_restore import restore_by_hiding
from dip_pipeline.restoration.images.smoothing import fill_unknown
from dip_pipeline.restoration.networks.published import psnr_db
from dip_pipeline.restoration.problem import FitOptions, StopReason
from dip_pipeline.task import Task

QUICK = HidingOptions(steps=3, crops=1, crop_px=32, widths=(4, 8, 8))


def stripes(side=96):
    """Fine oblique stripes, that come again everywhere: what no smooth filling can know."""
    rows, cols = np.mgrid[:side, :side]
    return (100 + 50 * np.sin(1.7 * cols + 0.9 * rows)).astype(np.float32)


def half_hidden(picture, seed=1):
    known = np.random.default_rng(seed).random(picture.shape) >= 0.5
    return np.where(known, picture, np.nan).astype(np.float32), known


def test_known_pixels_come_back_as_they_are_and_none_is_left_unknown():
    holed, known = half_hidden(stripes())
    filled = fill_by_hiding(holed, QUICK, seed=1)
    np.testing.assert_array_equal(filled[known], holed[known])
    assert np.isfinite(filled).all()


def test_a_texture_that_comes_again_is_learned():
    truth = stripes()
    holed, known = half_hidden(truth)
    options = HidingOptions(steps=80, crops=2, crop_px=48, widths=(16, 32, 48))
    filled = fill_by_hiding(holed, options, seed=1)
    planes = [torch.from_numpy(plane)[None, None] for plane in (np.nan_to_num(holed), known)]
    smooth = fill_unknown(planes[0], planes[1].float())[0, 0].numpy()
    gain_db = psnr_db(filled[~known], truth[~known]) - psnr_db(smooth[~known], truth[~known])
    assert gain_db > 6


def test_one_seed_gives_one_picture():
    holed, _ = half_hidden(stripes(48))
    once, again, other = (fill_by_hiding(holed, QUICK, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)


def test_what_is_hidden_does_not_change_what_is_put_there():
    holed, known = half_hidden(stripes(48))
    inf = np.where(known, holed, np.inf).astype(np.float32)
    np.testing.assert_array_equal(
        fill_by_hiding(holed, QUICK, seed=1), fill_by_hiding(inf, QUICK, seed=1)
    )


def test_the_unit_of_the_picture_does_not_matter():
    holed, _ = half_hidden(stripes(48))
    filled = fill_by_hiding(holed, QUICK, seed=1)
    scaled = fill_by_hiding(4096 * holed, QUICK, seed=1)
    np.testing.assert_allclose(scaled, 4096 * filled, rtol=1e-3)


@pytest.mark.parametrize("shape", [(33, 47), (64, 40)])
def test_sides_need_not_suit_the_network(shape):
    picture, _ = half_hidden(stripes(64)[: shape[0], : shape[1]])
    assert fill_by_hiding(picture, QUICK, seed=1).shape == shape


def test_a_picture_without_holes_comes_back():
    picture = stripes(48)
    np.testing.assert_array_equal(fill_by_hiding(picture, QUICK, seed=1), picture)


@pytest.mark.parametrize(
    ("picture", "told"),
    [
        (np.full((48, 48), np.nan), "0 of them known"),
        (np.full((4, 48), np.nan), "need sides of"),
        (np.zeros((3, 48, 48)), "need"),
    ],
)
def test_nothing_to_learn_from_is_refused(picture, told):
    with pytest.raises(RestorationError, match=told):
        fill_by_hiding(picture, QUICK, seed=1)


def test_a_fit_that_diverges_says_so_and_may_be_tried_with_another_seed(problem, law, monkeypatch):
    monkeypatch.setattr(hiding, "_averaged", lambda *given: given[1] * float("nan"))
    holed, known = half_hidden(stripes(48))
    with pytest.raises(DivergedError, match="another seed"):
        fill_by_hiding(holed, QUICK, seed=1)
    asked = problem(
        holed,
        law.none,
        masked=~known,
        options=FitOptions(task=Task.INPAINT, keep_known=True, by_hiding=True, steps=3),
    )
    restored = restore_by_hiding(asked)
    assert restored.outcome.stop_reason is StopReason.DIVERGED
    assert restored.outcome.failed
    np.testing.assert_array_equal(restored.science[known], holed[known])


@pytest.mark.parametrize("unit", [1e-25, 1e20, 1e30])
def test_no_unit_is_too_large_or_small(unit):
    holed, _ = half_hidden(stripes(48))
    filled = fill_by_hiding(holed, QUICK, seed=1)
    scaled = fill_by_hiding((holed.astype(float) * unit).astype(np.float32), QUICK, seed=1)
    np.testing.assert_allclose(scaled / np.float32(unit), filled, rtol=1e-3)


def test_where_only_saturated_pixels_are_left_alone_nothing_is_fitted(problem, law, monkeypatch):
    monkeypatch.setattr(hiding_restore, "fill_by_hiding", None)  # cannot be called
    full = np.zeros((12, 48), bool)
    full[3, 4] = True
    options = FitOptions(task=Task.INPAINT, keep_known=True, by_hiding=True, steps=3)
    asked = problem(stripes(48)[:12], law.none, saturated=full, options=options)
    restored = restore_by_hiding(asked)
    assert (restored.outcome.steps, restored.outcome.failed) == (0, False)
    np.testing.assert_array_equal(restored.science, asked.pixels)
    np.testing.assert_array_equal(restored.flags == PixelFlag.SATURATED, full)
