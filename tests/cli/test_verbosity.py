"""Laws of what the command says of the log."""

import logging

from dip_pipeline.cli.verbosity import LogLines


def said(*records):
    lines = []
    handler = LogLines(lines.append)
    for level, message in records:
        handler.handle(logging.LogRecord("dip_pipeline", level, "", 0, message, (), None))
    return lines


def test_a_warning_is_said_once_however_often_a_frame_is_read():
    one, other = (logging.WARNING, "a.fits: DATASUM wrong"), (logging.WARNING, "b.fits: wrong")
    assert said(one, other, one) == [
        "dip: warning: a.fits: DATASUM wrong",
        "dip: warning: b.fits: wrong",
    ]


def test_errors_and_what_is_told_by_the_way_are_said_each_time():
    error, note = (logging.ERROR, "a.fits: failed"), (logging.INFO, "looked")
    assert said(error, note, error, note) == ["dip: error: a.fits: failed", "dip: looked"] * 2


def of_planes(count, level):
    lines = []
    handler = LogLines(lines.append)
    handler.setLevel(level)
    for number in range(count):
        text, name = "%s: noise %d", f"c.fits, HDU 0, plane [{number}]"
        record = logging.LogRecord("d", logging.WARNING, "", 0, text, (name, number), None)
        handler.handle(record)
    return lines


def test_of_a_cube_few_planes_have_a_line_of_their_own():
    lines = of_planes(50, logging.WARNING)
    assert lines[:3] == [f"dip: warning: c.fits, HDU 0, plane [{n}]: noise {n}" for n in range(3)]
    assert lines[3:] == [
        "dip: warning: c.fits, HDU 0: the same of further planes, each with its own numbers "
        "(told with -v)"
    ]
    assert len(of_planes(50, logging.INFO)) == 50
    assert len(of_planes(3, logging.WARNING)) == 3
