"""The figures of pictures are what they are called."""

import numpy as np
import pytest

from benchmarks.picture_super_resolve import bicubic, luminance, psnr_y_db


def test_luminance_is_that_of_bt601():
    black, white = np.zeros((3, 2, 2)), np.ones((3, 2, 2))
    assert luminance(black) == pytest.approx(16)
    assert luminance(white) == pytest.approx(235, abs=0.01)


def test_decibels_leave_the_border_and_what_lies_beyond_the_peak_out():
    truth = np.full((3, 16, 16), 0.9)
    wrong = truth + 0.05
    wrong[:, :4] = wrong[:, :, -4:] = 0.0
    grey = 0.05 * (235 - 16)
    assert psnr_y_db(wrong, truth) == pytest.approx(20 * np.log10(255 / grey), abs=0.01)
    seven = np.full_like(truth, 7.0)
    assert psnr_y_db(seven, truth) == pytest.approx(psnr_y_db(np.ones_like(truth), truth))


def test_bicubic_keeps_a_flat_picture():
    assert bicubic(np.full((3, 8, 8), 0.3)) == pytest.approx(np.full((3, 32, 32), 0.3))
