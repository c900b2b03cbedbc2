"""Where a frame is cut and how its tiles are put together again; geometry only."""

from dip_pipeline.tiling.blend import axis_weights, blend
from dip_pipeline.tiling.plan import Tile, TileOptions, plan_tiles, tile_borders

__all__ = ["Tile", "TileOptions", "axis_weights", "blend", "plan_tiles", "tile_borders"]
