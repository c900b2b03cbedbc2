"""Run a function over many items, and remember on disk what is done; dask lives here alone.

Importing this room loads no dask: the local executor does, when it is first used.
"""

from dip_pipeline.engine.durable import output_error, read_published
from dip_pipeline.engine.executors import Executor, map_items
from dip_pipeline.engine.options import ExecutorKind, WorkerOptions
from dip_pipeline.engine.run_directory import RunDirectory
from dip_pipeline.engine.tile_store import TileStore

__all__ = [
    "Executor",
    "ExecutorKind",
    "RunDirectory",
    "TileStore",
    "WorkerOptions",
    "map_items",
    "output_error",
    "read_published",
]
