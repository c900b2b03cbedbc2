"""Stars that a frame and a twin of it show: fitted in their mean, and taken off both."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dip_pipeline.restoration.delivering.asking import blended
from dip_pipeline.restoration.forward.optics import Twin
from dip_pipeline.restoration.views.regions import measure_sky, prepare
from dip_pipeline.task import Task
from tests.restoration.stars.test_shown_stars import STARS, Nothing, drawn, frame, plane, white

TWIN_SIGMA = 0.5
SHARE = 1 / (1 + TWIN_SIGMA**2)  # of the twin in the mean


def beside(stars, twins_stars, hole=None):
    """A region with a twin beside it, and its problem; unit noise, sky at zero."""
    light = drawn(twins_stars) + TWIN_SIGMA * white(9)
    twin = Twin(light.astype("f4"), np.full(light.shape, TWIN_SIGMA, "f4"))
    asked = replace(frame(drawn(stars) + white(), task=Task.COMBINE, views=1), twin=twin)
    if hole is not None:
        asked.masked[hole] = True
    scale = replace(measure_sky([asked]), level=0.0, sigma=1.0)
    return prepare(asked, scale), asked


def test_stars_are_taken_off_both_and_are_put_back_as_they_were():
    region, asked = beside(STARS, STARS)
    light = plane(region.shown_stars.light).float()
    assert len(region.shown_stars.places) == len(STARS)
    bright = light > 10
    for left in (region.observed, region.guides[:, :1] / TWIN_SIGMA):
        assert float(left[bright].std()) < 3
    assert torch.allclose(region.observed + light, plane(asked.pixels), atol=1e-3)
    whole = region.with_shown_stars()
    assert torch.allclose(whole.guides[:, :1], plane(asked.twin.pixels), atol=1e-3)
    assert torch.allclose(region.guides[:, :1] + light, whole.guides[:, :1], atol=1e-3)


def test_a_star_is_known_as_well_as_both_show_it():
    """Fitted in the frame alone its height was off by the noise of the frame."""
    off = {}
    for name, twins_stars in (("both", STARS), ("frame", [])):
        region, _ = beside(STARS, twins_stars)
        places = region.shown_stars.places
        off[name] = [
            places[np.hypot(places[:, 1] - row, places[:, 2] - col).argmin(), 0] - height
            for row, col, height in STARS
        ]
    assert np.std(off["both"]) < 0.7 * np.std(off["frame"])


def test_what_moves_is_a_star_of_the_frame_alone():
    mover = (40.2, 20.3, 200.0)
    there, _ = beside([*STARS, mover], STARS)
    assert len(there.shown_stars.places) == len(STARS) + 1
    gone, _ = beside(STARS, [*STARS, mover])
    assert len(gone.shown_stars.places) == len(STARS)
    at = np.abs(gone.shown_stars.places[:, 1:] - mover[:2]).max(axis=1)
    assert at.min() > 3


@pytest.mark.parametrize("star", [0, 2])
def test_a_restoration_follows_its_pixels_by_their_share_of_the_mean(star):
    """The risk is judged by it: it must be right where stars were taken off, too."""
    region, asked = beside(STARS, STARS)
    more = 0.2 / STARS[star][2] * plane(drawn([STARS[star]])).float()
    share = torch.ones_like(region.observed)
    plain, moved = (
        blended([Nothing()], [share], observed, region, asked.options).image
        for observed in (region.observed, region.observed + more)
    )
    core = more > 0.2 * more.max()
    followed = float(((moved - plain)[core] / more[core]).median())
    assert followed == pytest.approx(1 - SHARE, abs=0.02)


@pytest.mark.parametrize("star", [0, 2])
def test_the_light_of_a_star_moves_with_the_frame_by_its_share(star):
    region, _ = beside(STARS, STARS)
    more = 0.2 / STARS[star][2] * plane(drawn([STARS[star]])).float()
    moved = region.shown_stars.change(region.observed + more)
    moved -= region.shown_stars.change(region.observed)
    core = more > 0.2 * more.max()
    assert float((moved[core] / more[core]).median()) == pytest.approx(1 - SHARE, abs=0.02)


def test_beside_a_hole_in_a_star_the_twin_counts_as_elsewhere():
    """A star at a hole is taken off the frame as one that is hidden: off the twin, too."""
    hole = (slice(69, 73), slice(22, 24))
    region, _ = beside(STARS, STARS, hole)
    share, _ = region.shown_stars.beside
    assert share[hole] == pytest.approx(1.0)
    assert region.hidden.light.max() > 5
    assert share[69:73, 19:22] == pytest.approx(SHARE)
    assert share[69:73, 24:27] == pytest.approx(SHARE)
