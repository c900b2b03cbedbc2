"""What was found of exposures once, kept for the next of them that asks."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

V = TypeVar("V")


class Kept(Generic[V]):
    """Values by key, the latest that were asked for; threads may share it.

    most : sum of their sizes; the one that nobody asked for the longest goes first
    size_of : a value; of each is one unless told
    """

    def __init__(self, most: int, size_of: Callable[[V], int] = lambda _: 1) -> None:
        self._most = most
        self._size_of = size_of
        self._values: OrderedDict[Hashable, V] = OrderedDict()
        self._lock = Lock()

    def get_or_find(self, key: Hashable, find: Callable[[], V]) -> V:
        """Give what is kept, or find it; two that ask at once may both find it."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = find()
        with self._lock:
            self._values[key] = value
            while sum(map(self._size_of, self._values.values())) > self._most:
                self._values.popitem(last=False)
        return value
