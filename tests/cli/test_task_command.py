"""What is said of a frame at the end of a run."""

from pathlib import Path

import pytest

from dip_pipeline.cli.task_command import frame_lines
from tests.cli.conftest import report

NAN = float("nan")


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"risk": 0.2, "risk_error": 0.01}, "estimated residual noise: 0.200 +- 0.010"),
        ({"risk": NAN, "risk_error": NAN}, "residual noise: could not be judged"),
        (
            {"risk": NAN, "risk_error": NAN, "below_zero": 3},
            "residual noise: not to be told, for the noise is not what its law says",
        ),
    ],
)
def test_the_residual_noise_is_told_or_why_it_is_not(facts, said):
    assert said in frame_lines("a.fits", report("a.fits", Path("a_dip.fits"), **facts))
