"""Laws of the records: whole lines count, damaged ones are told of, nothing else is lost."""

import json
import multiprocessing
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dip_pipeline.engine.records import Records


def test_lines_come_back_and_a_torn_last_one_is_left_out(tmp_path, caplog):
    records = Records(tmp_path / "records")
    assert list(records.read()) == []
    for number in range(3):
        records.append({"tile": number, "word": "grüße\n"})
    (path,) = records.folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole + b"0123abcd {half")
    assert [entry["tile"] for entry in records.read()] == [0, 1, 2]
    assert "damaged" not in caplog.text


@settings(deadline=None, max_examples=60)
@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_changed_bit_costs_its_line_or_two_and_never_gives_a_wrong_one(
    tmp_path_factory, position, bit
):
    records = Records(tmp_path_factory.mktemp("records"))
    entries = [{"tile": number, "failed": number == 1} for number in range(4)]
    for entry in entries:
        records.append(entry)
    (path,) = records.folder.iterdir()
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1 << bit
    path.write_bytes(data)
    found = list(records.read())
    assert len(found) in (2, 3)  # two, where the end of a line was hit
    assert all(entry in entries for entry in found)


def _append(records, number):
    for step in range(200):
        records.append({"process": number, "step": step})
    os._exit(0)


def test_processes_at_once_lose_no_line(tmp_path):
    records = Records(tmp_path)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_append, args=(records, n)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found = sorted((entry["process"], entry["step"]) for entry in records.read())
    assert found == [(number, step) for number in range(3) for step in range(200)]


@pytest.mark.parametrize("line", ["[1, 2]", '"text"'])
def test_a_line_that_is_no_entry_is_left_out(tmp_path, line):
    import zlib

    text = json.dumps(json.loads(line)).encode()
    (tmp_path / "x.jsonl").write_bytes(b"%08x %s\n" % (zlib.crc32(text), text))
    assert list(Records(tmp_path).read()) == []
