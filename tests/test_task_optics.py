"""Laws of options and tasks: none is taken without a word where it would change nothing."""

import pytest

from dip_pipeline.config import RunConfig
from dip_pipeline.errors import ConfigError
from dip_pipeline.task_optics import check_task

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
