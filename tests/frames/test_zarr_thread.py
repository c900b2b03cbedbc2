"""Law of the thread that zarr works in: a process that ends waits for it."""

import asyncio
import threading
import time

from zarr.core import sync

from dip_pipeline.frames.zarr_thread import end_zarr_thread


def test_a_thread_that_is_slow_to_end_is_waited_for(monkeypatch):
    """Zarr waits 0.2 s for it, and then fails in a traceback: a busy machine is slower."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(sync, "loop", [loop])
    monkeypatch.setattr(sync, "iothread", [thread])
    monkeypatch.setattr(sync, "_executor", None)
    loop.call_soon_threadsafe(time.sleep, 0.3)
    end_zarr_thread()
    sync.cleanup_resources()
    assert loop.is_closed()


def test_where_nothing_was_read_there_is_nothing_to_wait_for(monkeypatch):
    monkeypatch.setattr(sync, "loop", [None])
    monkeypatch.setattr(sync, "iothread", [None])
    end_zarr_thread()
