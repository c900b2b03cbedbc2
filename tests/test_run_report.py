"""What nobody should miss of a run is logged."""

import logging

import pytest

from dip_pipeline.run_report import with_failures_heard
from tests.cli.conftest import report

NAN = float("nan")


@pytest.mark.parametrize(
    ("risk", "error", "told"),
    [(2.4, 0.1, True), (1.2, 0.1, False), (0.3, 0.01, False), (1.5, NAN, False), (NAN, NAN, False)],
)
def test_an_error_larger_than_the_noise_is_warned_of(caplog, tmp_path, risk, error, told):
    with caplog.at_level(logging.WARNING):
        with_failures_heard(report("a.fits", tmp_path / "a.fits", risk=risk, risk_error=error))
    assert ("times the input's noise" in caplog.text) is told
    assert (f"a.fits: the estimated error is {risk:.2f}" in caplog.text) is told
