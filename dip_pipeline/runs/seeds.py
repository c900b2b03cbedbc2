"""Seeds of what a run fits, each from the run's own."""

import numpy as np


def tile_seed(run_seed: int, tile_index: int) -> int:
    """Seed of one tile: the same whichever worker runs it, and in whichever order."""
    return int(np.random.SeedSequence([run_seed, tile_index]).generate_state(1)[0])


def prior_seed(run_seed: int) -> int:
    """Seed of a prior: none that a tile has."""
    return int(np.random.SeedSequence([run_seed, 1 << 31]).generate_state(1)[0])
