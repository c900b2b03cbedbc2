"""Laws of the record: whatever decides pixels makes another run."""

import pytest

from dip_pipeline.account import record
from dip_pipeline.account.record import is_lost, run_key
from dip_pipeline.config import RunConfig
from dip_pipeline.stop_reason import StopReason

_GIVEN = {
    "config": RunConfig(),
    "input_digest": "a",
    "selector": "SCI",
    "prior_digest": "b",
    "companions": {"guide-1": "c"},
}


@pytest.mark.parametrize(
    "changed",
    [
        {"config": RunConfig().with_overrides(**{"fit.seed": 7})},
        {"input_digest": "z"},
        {"selector": None},
        {"selector": "SCI,2"},
        {"prior_digest": None},
        {"prior_digest": "z"},
        {"companions": None},
        {"companions": {"guide-1": "z"}},
        {"companions": {"guide-2": "c"}},
    ],
    ids=str,
)
def test_whatever_decides_the_pixels_makes_another_run(changed):
    assert run_key(**_GIVEN | changed) != run_key(**_GIVEN)


def test_another_version_of_the_method_makes_another_run(monkeypatch):
    before = run_key(**_GIVEN)
    monkeypatch.setattr(record, "ALGORITHM_VERSION", record.ALGORITHM_VERSION + 1)
    assert run_key(**_GIVEN) != before


@pytest.mark.parametrize("reason", StopReason)
def test_tiles_are_lost_with_their_workers_alone(reason):
    assert is_lost({"stop_reason": reason.name}) is (reason is StopReason.WORKER_LOST)
