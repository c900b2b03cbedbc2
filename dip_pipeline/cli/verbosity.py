"""How much the command says: -v and -q, before or after the command's name."""

import logging
import re
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import click

_KEY = "dip.verbosity"
PLANES_TOLD = 3  # of a cube, with the same warning
_PLANE = re.compile(r"(?P<hdu>.+), plane \[[\d, ]+\]")
QUIET = -1  # what went wrong, and nothing else
NORMAL = 0  # also what a user must hear, and how it goes on


def verbosity_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add -v and -q to a command; `verbosity` tells what was given."""
    for option in (
        click.option(
            "-q",
            "--quiet",
            is_flag=True,
            expose_value=False,
            callback=_add(-1),
            help="Say only what goes wrong.  [default: no]",
        ),
        click.option(
            "-v",
            "--verbose",
            count=True,
            expose_value=False,
            callback=_add(1),
            help="Say more, twice for all that is logged.  [default: no]",
        ),
    ):
        command = option(command)
    return command


def verbosity() -> int:
    """Sum of the -v less that of the -q of the command that runs."""
    return int(click.get_current_context().meta.get(_KEY, NORMAL))


class LogLines(logging.Handler):
    """Writes the log as lines of the command: what is wrong begins as every error does.

    A warning is written once: of a frame that is read several times each reading says the same. Of
    a cube it is written for few planes, but where more than warnings is asked for.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write
        self._warned: set[str] = set()
        self._planes: Counter[tuple[str, str]] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; never fails, as the law of handlers is."""
        label = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        try:
            line = f"dip: {label}{self.format(record)}"
            if record.levelno == logging.WARNING:
                if line in self._warned:
                    return
                self._warned.add(line)
                line = self._of_few_planes(line, record.msg)
            if line:
                self._write(line)
        except OSError:
            self.handleError(record)

    def _of_few_planes(self, line: str, said: str) -> str:
        """Give the line; of the first plane too many a hint, and nothing of those after it."""
        plane = _PLANE.match(line)
        if plane is None or self.level < logging.WARNING:
            return line
        self._planes[said, plane["hdu"]] += 1
        count = self._planes[said, plane["hdu"]] - PLANES_TOLD
        if count <= 0:
            return line
        more = (
            f"{plane['hdu']}: the same of further planes, each with its own numbers (told with -v)"
        )
        return more if count == 1 else ""


def start_logging(handler: logging.Handler, level: int) -> None:
    """Send the log to a handler, as much of it as was asked for.

    Warnings of libraries (odd cards and the like) are for those who ask with -v.
    """
    wanted = {QUIET: logging.ERROR, NORMAL: logging.WARNING, 1: logging.INFO}
    handler.setLevel(wanted.get(max(level, QUIET), logging.DEBUG))
    logger = logging.getLogger("dip_pipeline")
    logger.handlers[:] = [handler]
    logger.setLevel(handler.level)
    logger.propagate = False
    if level <= NORMAL:
        warnings.simplefilter("ignore")


def _add(sign: int) -> Callable[[click.Context, click.Parameter, int], None]:
    def callback(ctx: click.Context, _parameter: click.Parameter, value: int) -> None:
        ctx.meta[_KEY] = ctx.meta.get(_KEY, NORMAL) + sign * int(value)

    return callback
