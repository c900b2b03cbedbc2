"""Restore one tile, or fit the prior of a frame; knows nothing of files or schedulers."""

from dip_pipeline.restoration.prior import Prior
from dip_pipeline.restoration.prior_fit import fit_prior
from dip_pipeline.restoration.restore import restore, unchanged
from dip_pipeline.restoration.shared_prior import SharedPrior, fit_shared_prior

__all__ = ["Prior", "SharedPrior", "fit_prior", "fit_shared_prior", "restore", "unchanged"]
