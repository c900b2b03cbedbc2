"""Planes of a cube lend each other what one alone cannot tell of its noise."""

import numpy as np
import pytest
from astropy.io import fits
from scipy.ndimage import gaussian_filter

from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frames
from dip_pipeline.noise_planes import write_noise_planes
from dip_pipeline.pipeline import describe_frame
from dip_pipeline.preparing.planning import kernels_of_stacks, settle_frame

SIGMA = 2.0
SIDE = 160
FULL_OF_LIGHT = 2


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Six planes of smoothed noise; light fills the third."""
    rng = np.random.default_rng(5)
    cube = rng.normal(size=(6, SIDE, SIDE))
    cube = gaussian_filter(cube, (0.0, 0.6, 0.6))
    cube *= SIGMA / cube.std()
    light = gaussian_filter(rng.normal(size=(SIDE, SIDE)), 5.0)
    cube[FULL_OF_LIGHT] += 40 * SIGMA * light / light.std()
    path = tmp_path_factory.mktemp("cube") / "cube.fits"
    fits.PrimaryHDU(cube.astype("f4")).writeto(path)
    return str(path)


def settled(source, **options):
    config = RunConfig().with_overrides(**options)
    frames = open_frames(source)
    kernels = kernels_of_stacks(frames, config)
    return [settle_frame(f, config, kernels.get(n))[1] for n, f in enumerate(frames)]


def test_a_plane_without_a_sky_takes_the_correlation_of_the_others(source):
    alone = settle_frame(open_frames(source)[FULL_OF_LIGHT], RunConfig())[1]
    assert alone.correlation.is_white
    assert alone.sigma.value < 0.75 * SIGMA
    laws = settled(source)
    told = laws[FULL_OF_LIGHT]
    assert told.correlation.source == "measured on the sky of other planes"
    assert {law.correlation.source for law in laws if law is not told} == {"measured on the sky"}
    assert told.sigma.value == pytest.approx(SIGMA, rel=0.08)
    assert np.mean(told.correlation.neighbours) == pytest.approx(0.5, abs=0.06)


def test_a_correlation_that_was_given_outranks_that_of_other_planes(source):
    given = settled(source, **{"noise.correlation": "white"})
    assert all(law.correlation.is_white for law in given)


def test_few_planes_and_chips_have_laws_of_their_own(source, tmp_path):
    with fits.open(source) as hdus:
        three = hdus[0].data[1:4]
        chips = [fits.ImageHDU(plane) for plane in hdus[0].data]
    fits.PrimaryHDU(three).writeto(tmp_path / "three.fits")
    fits.HDUList([fits.PrimaryHDU(), *chips]).writeto(tmp_path / "chips.fits")
    for name in ("three.fits", "chips.fits"):
        assert kernels_of_stacks(open_frames(str(tmp_path / name)), RunConfig()) == {}


def test_what_is_told_and_written_of_the_noise_is_what_a_run_takes(source, tmp_path):
    laws = settled(source)
    summary = write_noise_planes(source, tmp_path / "sigmas.fits", RunConfig())
    medians = [sigma for _, _, sigma, _ in summary.planes]
    assert medians == pytest.approx([law.sigma.value for law in laws])
    first = tmp_path / "first.fits"
    with fits.open(source) as hdus:
        fits.PrimaryHDU(np.roll(hdus[0].data, -FULL_OF_LIGHT, axis=0)).writeto(first)
    assert "sky of other planes" in describe_frame(str(first), RunConfig()).noise
