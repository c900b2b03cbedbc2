"""Memory of planes that are freed: given to the next ones, and not back to the system."""

import ctypes
import os
from functools import cache

# Parameters of glibc's mallopt: malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE_BYTES = 1 << 28  # more than planes of the windows that networks are asked about


@cache
def reuse_memory() -> None:
    """Let glibc give the memory of freed planes to the next ones, and not back to the system.

    By default each plane of some megabytes is memory that the system has to clear, page by page:
    8 % of the time of a run.
    """
    library = ctypes.CDLL(None) if os.name == "posix" else None
    mallopt = getattr(library, "mallopt", None)  # of Linux alone
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_TRIM_THRESHOLD, _LARGE_BYTES)
