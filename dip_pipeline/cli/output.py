"""What the command says: reports on stdout, everything else on stderr."""

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import click


def say(text: str) -> None:
    """Write a report to stdout; that nobody reads it any more is no failure."""
    if sys.stdout is None:  # closed by who called
        return
    try:
        click.echo(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _let_go(sys.stdout)


def end_streams() -> OSError | None:
    """Write what is still to be written; gives why not, but where nobody reads it any more."""
    why = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            why = why if isinstance(error, BrokenPipeError) else error
            _let_go(stream)
    return why


def _let_go(stream: TextIO) -> None:
    """Let what is still buffered go nowhere, or the interpreter complains when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def complain(message: str) -> None:
    """Write what went wrong to stderr, as one line."""
    complain_as_is(f"dip: error: {message}")


def complain_as_is(line: str) -> None:
    """Write a line to stderr; that nobody reads it is no failure of what it tells of."""
    with suppress(OSError):
        click.echo(line, err=True)


def write_any_name() -> None:
    """Let names of files be written that the encoding of the terminal has no letters for.

    Where a stream was closed by who called, nowhere: libraries ask for one while they load.
    """
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115  (to the end)
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def in_one_line(text: str) -> str:
    """Join lines and spaces."""
    return " ".join(text.split())


def counted(number: int, what: str) -> str:
    """Say how many there are of something.

    >>> counted(1, "tile"), counted(0, "tile"), counted(12, "tile")
    ('1 tile', '0 tiles', '12 tiles')
    """
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def in_seconds(seconds: float) -> str:
    """Tell a time as a person would.

    >>> in_seconds(0.4), in_seconds(52.3), in_seconds(200), in_seconds(9000)
    ('0.4 s', '52 s', '3.3 min', '2.5 h')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def in_bytes(size: int) -> str:
    """Tell a size in binary units.

    >>> in_bytes(3 << 20), in_bytes(5 << 30)
    ('3.0 MiB', '5.0 GiB')
    """
    return f"{size / 2**20:.1f} MiB" if size < 2**30 else f"{size / 2**30:.1f} GiB"
