"""Windows of a frame that are looked at one by one, on as many threads as they may have."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dip_pipeline.blind.sky import Window

Found = TypeVar("Found")


def of_each(
    look: Callable[[Window], Found], windows: Sequence[Window], threads: int
) -> list[Found]:
    """Look at each window; what is found does not depend on the number of threads."""
    if min(threads, len(windows)) < 2:
        return [look(window) for window in windows]
    with ThreadPoolExecutor(min(threads, len(windows))) as pool:
        return list(pool.map(look, windows))
