"""Several exposures of one scene: rejected, combined, or each at its own epoch."""
