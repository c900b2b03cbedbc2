"""Many frames: one after another, with priors they share, a summary, a workflow."""
