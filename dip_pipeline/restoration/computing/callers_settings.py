"""Settings of torch that are the caller's own: kept while this package computes with others.

Importing this loads no torch, nor does keeping them: what has not loaded it has no settings.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import NamedTuple, Self


@contextmanager
def settings_kept() -> Iterator[None]:
    """Put torch's settings back at the end, whatever `settle_computing` made of them meanwhile.

    For whoever calls this package: other work of the same process is to go on as before. Of several
    threads at once the last one to leave puts back what the first one found; where torch was not
    loaded yet, that is what it had when `settle_computing` was first asked.
    """
    # Asked in every thread: torch sets a thread up when it is first asked, or computes, and gives
    # it the number that any thread has set last.
    found = _Settings.found() if "torch" in sys.modules else None
    with _SETTINGS:
        _FOUND.append(_FOUND[0] if _FOUND else found)
    try:
        yield
    finally:
        with _SETTINGS:
            found = _FOUND.pop()
            if found is not None:
                found.put_back(all_of_them=not _FOUND)


def note_settings() -> None:
    """Note what is found of torch before anything of it is changed, for those that keep it."""
    found = _Settings.found()
    with _SETTINGS:
        _FOUND[:] = [found if own is None else own for own in _FOUND]


class _Settings(NamedTuple):
    """What `settle_computing` changes."""

    threads: int
    deterministic: bool
    benchmark: bool

    @classmethod
    def found(cls) -> Self:
        import torch

        cudnn = torch.backends.cudnn
        return cls(torch.get_num_threads(), cudnn.deterministic, cudnn.benchmark)

    def put_back(self, *, all_of_them: bool) -> None:
        """Set the threads of this thread and of new ones; those of cuDNN by the last to leave."""
        import torch

        torch.set_num_threads(self.threads)
        if all_of_them:
            torch.backends.cudnn.deterministic = self.deterministic
            torch.backends.cudnn.benchmark = self.benchmark


_SETTINGS = Lock()
_FOUND: list[_Settings | None] = []  # one for each that is at work; None: no torch was loaded yet
