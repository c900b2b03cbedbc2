"""Warnings of libraries that are not the user's business.

What is done with warnings is the whole process's: two threads that change it at once may leave it
changed for good, or each hear those of the other. So one does at a time.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

_lock = RLock()


@contextmanager
def ignored_warnings(*categories: type[Warning]) -> Iterator[None]:
    """Ignore warnings of some categories, or all, meanwhile."""
    with _lock, warnings.catch_warnings():
        for category in categories or (Warning,):
            warnings.simplefilter("ignore", category)
        yield


@contextmanager
def caught_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Catch all warnings meanwhile, in a list."""
    with _lock, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
