"""Faults on purpose: named points where a test may end the process, or fill the disk.

Nothing happens at them unless DIP_FAULT is set: `NAME:N:kill` ends this process, as kill -9 would,
the Nth time that it comes to the point; `NAME:N:full` tells it there that the disk is full.
"""

import errno
import os
import signal
from collections import Counter

VARIABLE = "DIP_FAULT"

POINTS = (
    "run begun",  # run.json is there, nothing else
    "before publish",  # a file is about to be written aside
    "before link",  # written and synced aside, not yet under its name
    "after publish",  # a tile is there, its record is not
    "after record",
    "before blend",
    "during blend",  # a band is in the planes
    "before save",
    "after save",  # the product is there, the scratch is too
    "during remove",  # a part of the scratch is gone
)

_reached: Counter[str] = Counter()


def reach(point: str) -> None:
    """Come to a point; raises OSError where a test asked for a full disk."""
    armed = os.environ.get(VARIABLE)
    if armed is None:
        return
    name, number, action = armed.split(":")
    if name != point:
        return
    _reached[point] += 1
    if _reached[point] != int(number):
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def forget() -> None:
    """Count from one again."""
    _reached.clear()
