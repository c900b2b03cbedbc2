"""Filled pixels: what they are compared with, and the unit of their error."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.delivering.delivery import Delivery
from dip_pipeline.restoration.delivering.hole_errors import HoleErrors
from dip_pipeline.restoration.delivering.inpainting import give_back, try_hidden, without_data
from dip_pipeline.restoration.views.regions import measure_sky, prepare
from dip_pipeline.task import Task
from tests.restoration.stars.test_shown_stars import STARS, drawn, frame, white


def starry():
    return frame(7.0 * (drawn(STARS) + 0.1 * white()), task=Task.INPAINT)


def test_hidden_pixels_of_a_star_are_predicted_with_its_light():
    """Of a sky without anything else next to nothing is missed."""
    asked = starry()
    hidden = np.zeros(asked.pixels.shape, bool)
    hidden[52:55, 45:51] = True  # of the brightest, 1000 high
    scale = measure_sky([asked])
    told = try_hidden(lambda region: 0 * region.observed, asked, scale, hidden)
    without = (asked.pixels[hidden] - scale.level) / scale.sigma
    assert told.miss.size == hidden.sum()
    assert np.median(told.miss) < 0.05 * np.median(without)


def test_the_error_of_a_filled_pixel_is_in_the_unit_of_the_frame():
    """Told in sigma, of the noise that it would have; no smaller than a restored one's."""
    asked = starry()
    asked.masked[30:33, 40:43] = True
    scale = replace(measure_sky([asked]), sigma=5.0)
    region = prepare(asked, scale)
    plane = torch.zeros_like(region.observed)
    delivery = Delivery(*[plane] * 4)
    delivery = replace(delivery, sigma=plane + 2.0)
    science = np.zeros(asked.pixels.shape, np.float32)
    bright = (1e9,)  # and as large for all that is fainter
    holes = HoleErrors((1.0, 2.0), (bright, bright), ((0.3,), (0.4,)))
    for restored, expected in ((0.1, (3.0, 4.0)), (3.5, (3.5, 4.0))):
        planes = science, np.full_like(science, restored)
        _, error, _ = give_back(asked, region, delivery, planes, holes)
        assert (error[30, 40], error[31, 41]) == pytest.approx(expected)
    dark = replace(asked, masked=np.ones(asked.pixels.shape, bool))
    assert without_data(dark, scale, holes).error == pytest.approx(0.4 * 5.0)
