"""What is asked of a run: one validated configuration, and what it says of the optics."""

from dip_pipeline.config.run_config import (
    OPTIONS,
    OptionInfo,
    RunConfig,
    key_of,
    needed,
)

__all__ = ["OPTIONS", "OptionInfo", "RunConfig", "key_of", "needed"]
