"""How torch computes: on how many threads, where, and to the same pixels each time."""

import ctypes
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import chain
from threading import Lock
from typing import NamedTuple, Self

import torch
from torch import nn

_MOVING = Lock()
# Parameters of glibc's mallopt: malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE_BYTES = 1 << 28  # more than planes of the windows that networks are asked about


def settle_computing(threads: int) -> None:
    """Give operations so many threads; of a GPU's ways take only those that repeat themselves.

    Some of cuDNN's ways to a gradient add up in whatever order its threads come.
    """
    torch.set_num_threads(threads)
    _reuse_memory()
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


@contextmanager
def settings_kept() -> Iterator[None]:
    """Put torch's settings back at the end, whatever `settle_computing` made of them meanwhile.

    For whoever calls this package: other work of the same process is to go on as before. Of several
    threads at once the last one to leave puts back what the first one found.
    """
    # Asked in every thread: torch sets a thread up when it is first asked, or computes, and gives
    # it the number that any thread has set last.
    found = _Settings.found()
    with _SETTINGS:
        _FOUND.append(_FOUND[0] if _FOUND else found)
    try:
        yield
    finally:
        with _SETTINGS:
            found = _FOUND.pop()
            torch.set_num_threads(found.threads)  # of this thread, and of new ones
            if not _FOUND:
                torch.backends.cudnn.deterministic = found.deterministic
                torch.backends.cudnn.benchmark = found.benchmark


class _Settings(NamedTuple):
    """What `settle_computing` changes."""

    threads: int
    deterministic: bool
    benchmark: bool

    @classmethod
    def found(cls) -> Self:
        cudnn = torch.backends.cudnn
        return cls(torch.get_num_threads(), cudnn.deterministic, cudnn.benchmark)


_SETTINGS = Lock()
_FOUND: list[_Settings] = []  # one for each that is at work


@cache
def _reuse_memory() -> None:
    """Let glibc give the memory of freed planes to the next ones, and not back to the system.

    By default each plane of some megabytes is memory that the system has to clear, page by page:
    8 % of the time of a run.
    """
    library = ctypes.CDLL(None) if os.name == "posix" else None
    mallopt = getattr(library, "mallopt", None)  # of Linux alone
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_TRIM_THRESHOLD, _LARGE_BYTES)


def move_to(device: str, networks: Iterable[nn.Module]) -> None:
    """Move networks to a device, unless they are there; threads that share them wait for it.

    torch moves weights in place: a thread that copies those which another one has just moved
    would read memory that is free by then.
    """
    place = torch.empty(0, device=device).device
    with _MOVING:
        for network in networks:
            weights = chain(network.parameters(), network.buffers())
            if any(one.device != place for one in weights):
                network.to(place)
