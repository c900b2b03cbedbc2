"""A PSF that is not that of the frame's stars is warned of; the right one never is."""

import logging
import re

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.config.task_optics import AskedOptics
from dip_pipeline.frames import open_frame
from dip_pipeline.preparing.planning import settle_frame
from dip_pipeline.psf.agreement import beside_stars, warn_of_psf
from dip_pipeline.simulate import DetectorOptions, MoffatPsf, SceneOptions, draw_scene, observe


def told(tmp_path, caplog, *, stars_px, psf_px, task="deconvolve", kind="crowded", seed=2):
    options = SceneOptions(
        kind, shape=(160, 160), seed=seed, psf=MoffatPsf(stars_px), saturated_star=False
    )
    frame = observe(draw_scene(options), DetectorOptions(defects=False))
    header = fits.Header([fits.Card(*card) for card in frame.header_cards()])
    path = tmp_path / "frame.fits"
    fits.writeto(path, frame.observed_dn.astype(np.float32), header)
    config = RunConfig().with_overrides(**{"task.name": task, "task.fwhm_px": psf_px})
    settled, noise = settle_frame(open_frame(path), config)
    with caplog.at_level(logging.WARNING):
        warn_of_psf(settled, noise, AskedOptics.of(config))
    return [line for line in caplog.messages if "its stars are" in line]


@pytest.mark.parametrize("task", ["deconvolve", "super-resolve"])
def test_a_psf_wider_than_the_stars_is_told_with_both_widths(tmp_path, caplog, task):
    (line,) = told(tmp_path, caplog, stars_px=1.8, psf_px=3.6, task=task)
    assert "FWHM" in line
    assert "Gaussian, FWHM 3.6 px" in line
    assert "give the PSF of these stars" in line


@pytest.mark.parametrize("kind", ["crowded", "galaxies", "nebula"])
@pytest.mark.parametrize("width_px", [2.0, 3.0])
def test_the_right_psf_is_not(tmp_path, caplog, kind, width_px):
    assert told(tmp_path, caplog, stars_px=width_px, psf_px=width_px, kind=kind) == []


@pytest.mark.parametrize(("psf_px", "kind"), [(3.45, "15% too wide"), (2.4, "20% too narrow")])
def test_which_way_a_width_is_wrong_is_told_with_the_light_that_it_misplaces(
    tmp_path, caplog, psf_px, kind
):
    (line,) = told(tmp_path, caplog, stars_px=3.0, psf_px=psf_px)
    assert re.search(kind.replace(kind[:2], r"\d\d"), line)
    assert re.search(r"\d+% of a star's light lies elsewhere", line)
    assert "DIP_ERR and DIPRISK take the PSF as right" in line


def told_of(frame_path, psf, psf_path, caplog, task="deconvolve"):
    fits.writeto(psf_path, psf.astype(np.float32))
    config = RunConfig().with_overrides(**{"task.name": task, "task.psf": str(psf_path)})
    settled, noise = settle_frame(open_frame(frame_path), config)
    with caplog.at_level(logging.WARNING):
        warn_of_psf(settled, noise, AskedOptics.of(config))
    return [line for line in caplog.messages if "its stars are" in line]


def star(rows, cols, *, fwhm_px, axis_ratio=1.0):
    """A Gaussian, not integrated over its pixel."""
    sigma = fwhm_px / 2.3548
    return np.exp(-0.5 * ((rows / axis_ratio) ** 2 + (cols * axis_ratio) ** 2) / sigma**2)


def arms(rows, cols):
    """Four spikes, 6 px long."""
    return ((np.abs(rows) < 0.5) | (np.abs(cols) < 0.5)) & (np.hypot(rows, cols) < 6.5)


@pytest.mark.parametrize(
    ("psf", "words"),
    [
        (lambda r, c: star(r, c, fwhm_px=3.0), None),
        (lambda r, c: star(r, c, fwhm_px=3.0, axis_ratio=1.15), "elongated otherwise"),
        (lambda r, c: star(r, c, fwhm_px=3.0) + 0.15 * arms(r, c), "of another shape"),
    ],
)
def test_another_shape_of_the_same_width_is_told(tmp_path, caplog, psf, words):
    offsets = np.arange(-10.0, 11.0)
    round_stars(tmp_path / "frame.fits")
    kernel = psf(offsets[:, None], offsets[None, :])
    lines = told_of(tmp_path / "frame.fits", kernel / kernel.sum(), tmp_path / "psf.fits", caplog)
    if words is None:
        assert lines == []
    else:
        assert words in lines[0]


@pytest.mark.parametrize(("wide_px", "of_input"), [(3.0, True), (6.0, None), (4.4, False)])
def test_a_psf_on_the_pixels_of_the_input_is_told_as_that(tmp_path, caplog, wide_px, of_input):
    """As `dip psf` measures it without --factor: it would be said to measure it, for ever."""
    offsets = np.arange(-20.0, 21.0)
    round_stars(tmp_path / "frame.fits")
    kernel = star(offsets[:, None], offsets[None, :], fwhm_px=wide_px)
    lines = told_of(
        tmp_path / "frame.fits",
        kernel / kernel.sum(),
        tmp_path / "psf.fits",
        caplog,
        task="super-resolve",
    )
    assert len(lines) == (of_input is not None)
    if lines:
        assert "(dip psf --factor 2 measures it;" in lines[0]
        assert ("too narrow as it is on the pixels of the input" in lines[0]) is of_input


def round_stars(path):
    """Draw 36 Gaussians of FWHM 3 px."""
    rng = np.random.default_rng(3)
    light = np.full((120, 120), 200.0)
    rows, cols = np.mgrid[:120, :120].astype(float)
    for row in range(15, 110, 18):
        for col in range(15, 110, 18):
            place = np.array([row, col]) + rng.uniform(-0.5, 0.5, 2)
            light += 5000 * star(rows - place[0], cols - place[1], fwhm_px=3.0)
    header = fits.Header({"GAIN": 1.0, "RDNOISE": 3.0, "BUNIT": "adu"})
    observed = rng.poisson(light) + rng.normal(0, 3, light.shape)
    fits.writeto(path, observed.astype(np.float32), header)


def test_a_psf_that_no_star_can_be_drawn_with_has_no_width(tmp_path):
    """Of one row, it shows nothing between pixels: that ended a run as a bug."""
    round_stars(tmp_path / "frame.fits")
    row = np.full((1, 21), 1 / 21)
    asked = AskedOptics(2, row.astype(np.float32), "a row")
    settled, noise = settle_frame(open_frame(tmp_path / "frame.fits"), RunConfig())
    found = beside_stars(settled, noise, asked)
    assert found.stars >= 4
    assert np.isnan(found.psf_px)


def test_galaxies_of_one_width_are_no_stars(tmp_path, caplog):
    """Beside them the PSF would be too narrow, though it is that of the frame."""
    rows, cols = np.mgrid[:160, :160].astype(float)
    light, rng = np.full(rows.shape, 200.0), np.random.default_rng(5)
    for row in range(20, 150, 24):
        for col in range(20, 150, 24):
            angle = rng.uniform(0, np.pi)
            along = (rows - row) * np.cos(angle) + (cols - col) * np.sin(angle)
            across = (cols - col) * np.cos(angle) - (rows - row) * np.sin(angle)
            light += 3000 * star(along, across, fwhm_px=4.2, axis_ratio=1.2)
    header = fits.Header({"GAIN": 1.0, "RDNOISE": 3.0, "BUNIT": "adu"})
    observed = rng.poisson(light) + rng.normal(0, 3, light.shape)
    fits.writeto(tmp_path / "frame.fits", observed.astype(np.float32), header)
    offsets = np.arange(-8.0, 9.0)
    kernel = star(offsets[:, None], offsets[None, :], fwhm_px=3.0)
    psf = kernel / kernel.sum()
    assert told_of(tmp_path / "frame.fits", psf, tmp_path / "psf.fits", caplog) == []


def field_of_stars(path, profile):
    """Lonely bright stars, each drawn by a function of its offsets and its place (0 to 1)."""
    light, rng = np.full((160, 160), 200.0), np.random.default_rng(3)
    rows, cols = np.mgrid[:160, :160].astype(float)
    for row in range(15, 150, 26):
        for col in range(15, 150, 26):
            place = np.array([row, col]) + rng.uniform(-0.5, 0.5, 2)
            light += 5000 * profile(rows - place[0], cols - place[1], place / 160)
    header = fits.Header({"GAIN": 1.0, "RDNOISE": 3.0, "BUNIT": "adu"})
    observed = rng.poisson(light) + rng.normal(0, 3, light.shape)
    fits.writeto(path, observed.astype(np.float32), header)


@pytest.mark.parametrize("wider", [0.0, 0.2])
def test_stars_that_are_wider_at_one_side_are_told_with_both_widths(tmp_path, caplog, wider):
    field_of_stars(
        tmp_path / "frame.fits",
        lambda rows, cols, at: star(rows, cols, fwhm_px=3.0 * (1 + wider * (at[1] - 0.5))),
    )
    kernel = star(np.arange(-10.0, 11.0)[:, None], np.arange(-10.0, 11.0)[None], fwhm_px=3.0)
    told_of(tmp_path / "frame.fits", kernel / kernel.sum(), tmp_path / "psf.fits", caplog)
    lines = [line for line in caplog.messages if "no one PSF is that of the whole field" in line]
    assert len(lines) == (1 if wider else 0)
    if wider:
        found = re.findall(r"(\d\.\d\d) px wide \(FWHM\) near x, y = (\d+),", lines[0])
        (narrow, left), (wide, right) = ((float(px), int(col)) for px, col in found)
        assert wide / narrow == pytest.approx(1.18, abs=0.03)
        assert left < 40
        assert right > 120


@pytest.mark.parametrize("turned", [0.0, 0.3])
def test_stars_that_are_elongated_otherwise_at_one_side_are_told(tmp_path, caplog, turned):
    """And where: the width of all of them is the same."""
    field_of_stars(
        tmp_path / "frame.fits",
        lambda rows, cols, at: star(rows, cols, fwhm_px=3.0, axis_ratio=1 + turned * (at[1] - 0.5)),
    )
    offsets = np.arange(-10.0, 11.0)
    psf = star(offsets[:, None], offsets[None, :], fwhm_px=3.0)
    told_of(tmp_path / "frame.fits", psf / psf.sum(), tmp_path / "psf.fits", caplog)
    lines = [line for line in caplog.messages if "no one PSF is that of the whole field" in line]
    assert len(lines) == (1 if turned else 0)
    if turned:
        ends = sorted(int(col) for col in re.findall(r"near x, y = (\d+), \d+", lines[0]))
        assert ends[0] < 40
        assert ends[-1] > 120
        assert "px wide (FWHM) near" not in lines[0]
        assert "--grid 3" in lines[0]


def test_wings_that_a_psf_file_lacks_are_told(tmp_path, caplog):
    """A Gaussian for stars of the same width with wings: a sixth of their light is none of it."""

    def moffat(rows, cols, beta=2.5):
        alpha = 3.5 / (2 * np.sqrt(2 ** (1 / beta) - 1))
        return (1 + (rows**2 + cols**2) / alpha**2) ** -beta

    field_of_stars(tmp_path / "frame.fits", lambda rows, cols, _: moffat(rows, cols))
    offsets = np.arange(-14.0, 15.0)
    psfs = {
        "right": moffat(offsets[:, None], offsets[None, :]),
        "gauss": star(offsets[:, None], offsets[None, :], fwhm_px=3.5),
    }
    lines = {
        name: told_of(
            tmp_path / "frame.fits", psf / psf.sum(), tmp_path / f"{name}_kernel.fits", caplog
        )
        for name, psf in psfs.items()
    }
    assert lines["right"] == []
    assert "of another shape" in lines["gauss"][0]
    share = int(re.search(r"(\d+)% of a star's light", lines["gauss"][0]).group(1))
    assert 12 <= share <= 25


def six_faint_stars(path, *, seed, beta=3.5):
    """Moffat profiles of 15 to 40 sigma, 4.9 px wide; give the true PSF."""
    alpha = 4.9 / (2 * np.sqrt(2 ** (1 / beta) - 1))

    def moffat(rows, cols):
        return (1 + (rows**2 + cols**2) / alpha**2) ** -beta

    rng, light = np.random.default_rng(seed), np.full((160, 160), 100.0)
    rows, cols = np.mgrid[:160, :160].astype(float)
    for place in [(30, 30), (30, 120), (120, 40), (125, 125), (80, 80), (75, 20)]:
        at = np.array(place) + rng.uniform(-3, 3, 2)
        light += 10 * rng.choice([15, 20, 25, 30, 40]) * moffat(rows - at[0], cols - at[1])
    observed = light + rng.normal(0, 10, light.shape)
    fits.writeto(path, observed.astype(np.float32), fits.Header({"BUNIT": "adu"}))
    offsets = np.arange(-20.0, 21.0)
    psf = moffat(offsets[:, None], offsets[None, :])
    return psf / psf.sum()


@pytest.mark.parametrize("seed", [4, 20])
def test_wings_of_few_faint_stars_are_not_told_as_another_psfs(tmp_path, caplog, seed):
    """Their profiles have 6 % of the light elsewhere than the true PSF, by noise alone.

    Of 24 such frames three were told to have another PSF than their own; of the third more is.
    """
    psf = six_faint_stars(tmp_path / "frame.fits", seed=seed)
    assert told_of(tmp_path / "frame.fits", psf, tmp_path / "psf.fits", caplog) == []
