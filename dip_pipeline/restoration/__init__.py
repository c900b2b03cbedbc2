"""Restore one tile, or fit the prior of a frame; knows nothing of files or schedulers."""

from dip_pipeline.restoration.prior import Prior, fit_prior
from dip_pipeline.restoration.restore import restore, unchanged

__all__ = ["Prior", "fit_prior", "restore", "unchanged"]
