"""The thread that zarr reads and writes in: a process that ends waits for it.

Zarr itself waits 0.2 s, and closes what the thread runs while it still does: a traceback at the end
of a run that went well, on a machine that is busy.
"""

from zarr.core import sync

_PATIENCE_S = 10.0


def end_zarr_thread() -> None:
    """Stop the thread, and wait until it has ended."""
    loop, thread = (getattr(sync, name, [None])[0] for name in ("loop", "iothread"))  # its own
    if loop is not None and thread is not None and not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_PATIENCE_S)
