"""Where a frame is worked on, and how much of it; where its scratch lies."""

from dataclasses import dataclass
from pathlib import Path

from dip_pipeline.engine import Pool, Shard


@dataclass(frozen=True, slots=True)
class Place:
    """Where a frame is worked on, and how much of it.

    rank : of several frames in the same pool, that of the lowest rank is served first
    shard : restore this part of the tiles alone, and write no product
    finish : restore none, write the product of tiles that are there
    elsewhere : whether workers may stand in another folder
    """

    pool: Pool
    rank: int = 0
    shard: Shard | None = None
    finish: bool = False
    elsewhere: bool = False


def scratch_of(target: Path) -> Path:
    """Where the scratch folder of an output lies: beside it."""
    return target.with_name(f"{target.name}.dip")
