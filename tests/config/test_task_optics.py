"""Laws of options and tasks: none is taken without a word where it would change nothing."""

import numpy as np
import pytest
from astropy.io import fits

from dip_pipeline.config import RunConfig
from dip_pipeline.config.task_optics import AskedOptics, check_task
from dip_pipeline.errors import ConfigError

UNUSED = [
    ("denoise", {"task.factor": 3}, "--factor 3"),
    ("inpaint", {"task.factor": 2}, "--factor 2"),
    ("denoise", {"task.psf": "no.fits"}, "--psf no.fits"),
    ("inpaint", {"task.fwhm_px": 2.0}, "--fwhm 2.0"),
    ("combine", {"task.psf": "no.fits", "task.exposures": ("b.fits",)}, "--psf no.fits"),
    ("denoise", {"task.denoise_known": True}, "--denoise-known"),
    ("super-resolve", {"task.denoise_known": True}, "--denoise-known"),
]


@pytest.mark.parametrize(("task", "options", "name"), UNUSED)
def test_an_option_that_a_task_does_not_use_is_refused(task, options, name):
    config = RunConfig().with_overrides(**{"task.name": task, **options})
    with pytest.raises(ConfigError, match=f"{name}: {task} does not use it; leave it out, or"):
        check_task(config)


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("denoise", {"task.factor": 1}),
        ("inpaint", {"task.denoise_known": True}),
        ("super-resolve", {"task.factor": 3, "task.fwhm_px": 2.0}),
        ("deconvolve", {"task.psf": "star.fits"}),
        ("combine", {"task.factor": 2, "task.exposures": ("b.fits",)}),
    ],
)
def test_what_a_task_uses_is_taken(task, options):
    check_task(RunConfig().with_overrides(**{"task.name": task, **options}))


def test_one_name_where_a_list_is_needed_is_told(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[task]\nguides = 'r.fits'\n")
    with pytest.raises(ConfigError, match=r"task.guides .* = 'r.fits': need a list of names"):
        RunConfig.from_toml(path)


def asked_for(task, factor, fwhm_px):
    options = {"task.name": task, "task.factor": factor, "task.fwhm_px": fwhm_px}
    return AskedOptics.of(RunConfig().with_overrides(**options))


@pytest.mark.parametrize(
    ("task", "factor", "fwhm_px", "remedy"),
    [
        ("deconvolve", 1, 1.6, "dip super-resolve --factor 2 has"),
        ("deconvolve", 1, 1.3, "dip super-resolve --factor 2 has"),
        ("deconvolve", 1, 0.7, "dip super-resolve --factor 3 has"),
        ("super-resolve", 2, 0.8, "dip super-resolve --factor 3 has"),
        ("deconvolve", 1, 0.1, "super-resolve without a PSF"),
    ],
)
def test_a_psf_sharper_than_the_stars_of_the_result_is_refused(task, factor, fwhm_px, remedy):
    """Stars of the result are wider: no scene looks like the observation, and fits diverged."""
    with pytest.raises(ConfigError, match=r"its brightest pixel holds .* px of the result") as told:
        asked_for(task, factor, fwhm_px)
    assert remedy in str(told.value)
    if "--factor" in remedy:
        asked_for("super-resolve", int(remedy.split("--factor ")[1][0]), fwhm_px)


def psf_of_axes(path, shorter_px, longer_px, angle=0.6):
    """A PSF file of an elliptical Gaussian of two widths (FWHM)."""
    rows, cols = np.indices((25, 25)) - 12.0
    down, across = (
        rows * np.cos(angle) + cols * np.sin(angle),
        cols * np.cos(angle) - rows * np.sin(angle),
    )
    light = np.exp(-4 * np.log(2) * ((down / shorter_px) ** 2 + (across / longer_px) ** 2))
    fits.writeto(path, (light / light.sum()).astype("f4"))
    return str(path)


@pytest.mark.parametrize(
    ("axes_px", "axis"),
    [((1.3, 3.5), r"1\.\d\d px"), ((1.6, 3.5), r"1\.\d\d px"), ((1.2, 1.2), "")],
)
def test_a_psf_as_sharp_as_that_along_one_axis_is_refused(tmp_path, axes_px, axis):
    path = psf_of_axes(tmp_path / "psf.fits", *axes_px)
    config = RunConfig().with_overrides(**{"task.name": "deconvolve", "task.psf": path})
    said = (
        f", {axis} along its shorter axis; deconvolve" if axis else "px of the result; deconvolve"
    )
    with pytest.raises(ConfigError, match=said):
        AskedOptics.of(config)


@pytest.mark.parametrize("axes_px", [(2.1, 3.5), (2.0, 2.3)])
def test_a_psf_that_is_wide_enough_along_both_axes_is_taken(tmp_path, axes_px):
    path = psf_of_axes(tmp_path / "psf.fits", *axes_px)
    config = RunConfig().with_overrides(**{"task.name": "deconvolve", "task.psf": path})
    assert AskedOptics.of(config).psf is not None


def test_where_pixels_are_made_finer_a_psf_on_those_of_the_input_is_thought_of(tmp_path):
    path = psf_of_axes(tmp_path / "psf.fits", 1.5, 1.5)
    config = RunConfig().with_overrides(
        **{"task.name": "super-resolve", "task.factor": 2, "task.psf": path}
    )
    with pytest.raises(ConfigError, match="pixels of the input, dip psf --factor 2 gives one"):
        AskedOptics.of(config)


@pytest.mark.parametrize(
    ("task", "factor", "fwhm_px"), [("deconvolve", 1, 2.0), ("super-resolve", 2, 1.0)]
)
def test_a_psf_as_wide_as_the_stars_of_the_result_is_taken(task, factor, fwhm_px):
    assert asked_for(task, factor, fwhm_px).psf is not None
