"""Independent pieces of work in threads, the processor's cores shared between them.

Threads inside an operation wait for each other at its end: on a machine that others use too,
every operation then takes as long as its slowest thread. Whole pieces side by side do not wait.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import cache, partial
from threading import Event
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Planes = tuple[Tensor, ...]


def side_by_side(pieces: Sequence[Callable[[], T]], stopped: Event | None = None) -> list[T]:
    """Run all pieces, as many at a time as there are computing threads; results in their order.

    stopped : set when one piece fails or the caller is interrupted, for the others to look at
    """
    threads = torch.get_num_threads()
    workers = min(threads, len(pieces))
    if workers <= 1:
        return [piece() for piece in pieces]
    # Work on a processor must not start a GPU.
    gpu = torch.cuda.current_device() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    if gpu is not None:
        load_linear_algebra(gpu)
    pool = ThreadPoolExecutor(workers, initializer=_begin, initargs=(threads // workers, gpu))
    with pool:
        try:
            futures = [pool.submit(piece) for piece in pieces]
            # In turn, the first piece would run to its end before a failure of the second is seen.
            wait(futures, return_when=FIRST_EXCEPTION)
            for failed in (f for f in futures if f.done() and f.exception() is not None):
                failed.result()
            return [future.result() for future in futures]
        except BaseException:
            if stopped is not None:
                stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            torch.set_num_threads(threads)


def _begin(threads: int, gpu: int | None) -> None:
    """Begin a thread as the one that asks for it is: each has a current GPU of its own."""
    torch.set_num_threads(threads)
    if gpu is not None:
        torch.cuda.set_device(gpu)


def both(work: Callable[..., T], plain: Planes, moved: Planes) -> tuple[T, T]:
    """Do the same with some planes and with others, without gradients.

    Side by side on a processor; a GPU is busy with one of them.
    """

    def done(planes: Planes) -> T:
        with torch.no_grad():  # a thread starts without it
            return work(*planes)

    if plain[0].device.type != "cpu":
        return done(plain), done(moved)
    first, second = side_by_side([partial(done, plain), partial(done, moved)])
    return first, second


@cache
def load_linear_algebra(gpu: int) -> None:
    """Start a GPU and load its linear algebra, which two threads must not do at once.

    gpu : its number

    torch loads it at the first call, and fails in all threads but one that make theirs together
    (github.com/pytorch/pytorch/issues/90613).
    """
    torch.linalg.cholesky(torch.eye(1, device=f"cuda:{gpu}"))
