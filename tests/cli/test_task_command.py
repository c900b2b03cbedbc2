"""What is said of a frame at the end of a run."""

from pathlib import Path

import pytest

from dip_pipeline.cli.task_command import frame_lines, prior_hint
from dip_pipeline.config import RunConfig
from tests.cli.conftest import report

NAN = float("nan")


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"risk": 0.2, "risk_error": 0.01}, "estimated residual noise: 0.200 +- 0.010"),
        ({"combined": 5}, "0.200 +- 0.010 of the noise of 5 exposures combined"),
        ({"risk_error": NAN, "combined": 5}, "at most 0.200 of the noise of 5 exposures combined"),
        ({"risk": NAN, "risk_error": NAN}, "residual noise: could not be judged"),
        (
            {"risk": NAN, "risk_error": NAN, "below_zero": 3},
            "residual noise: not to be told, for the noise is not what its law says",
        ),
    ],
)
def test_the_residual_noise_is_told_or_why_it_is_not(facts, said):
    assert said in frame_lines("a.fits", report("a.fits", Path("a_dip.fits"), **facts))


def test_of_a_part_no_more_is_told_than_is_there():
    """A shard of two tiles was said to have done four, and its part of the flux to be the total."""
    told = {"status": "part done", "tiles": 4, "found_done": 1}
    some, every = (
        frame_lines("a.fits", report("a.fits", Path("a dip.fits"), missing_tiles=missing, **told))
        for missing in (2, 0)
    )
    assert "part done in 2.0 s, 2 of 4 tiles are there, 1 found done" in some
    assert "so far: estimated residual noise: 0.200" in some
    assert ("total flux" in some, "dip finish" in some) == (False, False)
    assert "part done in 2.0 s, 4 tiles, 1 found done" in every
    assert ("total flux" in every, "so far" in every) == (True, False)
    assert every.endswith("every tile is there: dip finish 'a dip.fits' writes it")


def test_who_restores_many_frames_is_told_of_a_prior_for_all():
    sources = [f"{name}.fits" for name in "abcdef"]
    hint = prior_hint(RunConfig(), sources)
    assert "6 frames" in hint
    assert "dip fit a.fits d.fits -o night.prior" in hint
    assert prior_hint(RunConfig(), sources[:3]) == ""
    for options in (
        {"fit.prior": "night.prior"},
        {"fit.scope": "tile"},
        {"fit.input": "code"},
        {"task.guides": ("deep.fits",)},
        {"task.name": "deconvolve"},
        {"task.name": "inpaint", "noise.law": "none"},
    ):
        assert prior_hint(RunConfig().with_overrides(**options), sources) == "", options
