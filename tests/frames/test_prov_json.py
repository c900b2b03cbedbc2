"""Provenance is PROV-JSON that other programs read, and says what it was told."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prov.model import ProvDocument

from dip_pipeline.frames.prov_json import (
    ProvBuilder,
    facts_of,
    flatten,
    from_literal,
    names_of,
    problems_of,
    to_literal,
    unflatten,
)

TIMES = ("2026-11-24T01:02:03+00:00", "2026-11-24T01:03:03+00:00")


@pytest.fixture
def document():
    builder = ProvBuilder()
    builder.entity("input", "Frame", {"file": "a.fits", "sha256": "ab" * 32, "plane": None})
    builder.entity("product", "RestoredFrame", {"noise": [1, [2, 3]], "risk": math.nan})
    builder.activity("run-1", "Restoration", TIMES, {"command_line": ["dip", "denoise", "µ"]})
    builder.agent("dip-pipeline", {"version": "0.1.0"})
    builder.relate("used", "run-1", "input", "science")
    builder.relate("wasGeneratedBy", "product", "run-1")
    builder.relate("wasDerivedFrom", "product", "input")
    builder.relate("wasAssociatedWith", "run-1", "dip-pipeline")
    return builder.build()


def test_another_library_reads_the_document(document):
    again = ProvBuilder()
    again.entity("x", "Frame", {})
    again.bundle("earlier", document)
    for written in (document, again.build()):
        read = ProvDocument.deserialize(content=json.dumps(written), format="json")
        assert json.loads(read.serialize(format="json"))
    records = ProvDocument.deserialize(content=json.dumps(document), format="json").get_records()
    assert len(records) == 8


def test_facts_come_back_as_they_were_told(document):
    assert facts_of(document, "input") == {"file": "a.fits", "sha256": "ab" * 32}
    product = facts_of(document, "product")
    assert product["noise"] == [1, [2, 3]]
    assert math.isnan(product["risk"])
    run = facts_of(document, "run-1")
    assert run["command_line"] == ["dip", "denoise", "µ"]
    assert run["prov:startTime"] == TIMES[0]
    assert facts_of(document, "nothing") == {}
    assert names_of(document, "Frame") == ["input"]


def test_what_is_no_prov_json_is_told(document):
    assert problems_of(document) == []
    assert problems_of([]) == ["is no JSON object"]
    assert len(problems_of({})) == 3
    del document["entity"]["dip:input"]
    assert all("names no entity: dip:input" in problem for problem in problems_of(document))
    assert len(problems_of(document)) == 2
    document["used"]["_:used1"] = None
    document["surprise"] = {}
    assert any("surprise" in problem for problem in problems_of(document))


def test_documents_of_earlier_runs_are_kept_one_level_deep(document):
    second = ProvBuilder()
    second.bundle("run-1", document)
    third = ProvBuilder()
    third.bundle("run-2", second.build())
    assert list(third.build()["bundle"]) == ["dip:run-1", "dip:run-2"]
    assert "bundle" not in third.build()["bundle"]["dip:run-2"]
    assert facts_of(third.build()["bundle"]["dip:run-1"], "input")["file"] == "a.fits"


values = st.recursive(
    st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner | st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    max_leaves=6,
).filter(lambda value: not isinstance(value, list) or "Infinity" not in json.dumps(value))


@settings(max_examples=60, deadline=None)
@given(value=values)
def test_literals_come_back(value):
    assert from_literal(json.loads(json.dumps(to_literal(value)))) == value


def test_tables_are_flattened_and_back():
    tables = {"fit": {"steps": 3, "prior": None}, "tiles": {"size_px": 64}}
    flat = flatten(tables)
    assert flat == {"fit.steps": 3, "tiles.size_px": 64}
    assert unflatten({**flat, "other": 1}) == {"fit": {"steps": 3}, "tiles": {"size_px": 64}}
