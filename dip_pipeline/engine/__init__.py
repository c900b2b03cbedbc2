"""Run a function over many items, and remember on disk what is done; dask lives here alone.

Importing this room loads no dask: the local executor does, when it is first used.
"""

from dip_pipeline.engine.durable import publish_sealed, read_published
from dip_pipeline.engine.durable import replace as replace_file
from dip_pipeline.engine.executors import (
    Job,
    Pool,
    map_items,
    open_pool,
    open_when_needed,
    run_items,
)
from dip_pipeline.engine.faults import reach
from dip_pipeline.engine.options import (
    ExecutorKind,
    SchedulerPlace,
    Shard,
    WorkerOptions,
    address_space_left_bytes,
    usable_memory_bytes,
)
from dip_pipeline.engine.plane_file import PlaneFile
from dip_pipeline.engine.run_directory import RunDirectory, tell_progress
from dip_pipeline.engine.run_file import differences
from dip_pipeline.engine.status import RunStatus, clean, read_status
from dip_pipeline.engine.tile_store import TileStore

__all__ = [
    "ExecutorKind",
    "Job",
    "PlaneFile",
    "Pool",
    "RunDirectory",
    "RunStatus",
    "SchedulerPlace",
    "Shard",
    "TileStore",
    "WorkerOptions",
    "address_space_left_bytes",
    "clean",
    "differences",
    "map_items",
    "open_pool",
    "open_when_needed",
    "publish_sealed",
    "reach",
    "read_published",
    "read_status",
    "replace_file",
    "run_items",
    "tell_progress",
    "usable_memory_bytes",
]
