from collections.abc import Callable

import numpy as np
import pytest

from dip_pipeline.blind.sky import Window
from dip_pipeline.simulate import DetectorOptions, SceneKind, SceneOptions, draw_scene
from dip_pipeline.simulate.detector import expose


@pytest.fixture(scope="session", params=list(SceneKind))
def level(request) -> np.ndarray:
    """Noiseless level of a field, its sky included, DN."""
    options = SceneOptions(request.param, shape=(384, 384), seed=1)
    return draw_scene(options).signal() + options.sky_dn


@pytest.fixture(scope="session")
def shoot() -> Callable[..., Window]:
    """Expose a detector to a level; gives the window with its bad pixels left out."""

    def shot(level: np.ndarray, detector: DetectorOptions | None = None, seed: int = 1) -> Window:
        options = detector or DetectorOptions()
        rng = np.random.default_rng(seed)
        observed, flags = expose(level + options.pedestal_dn, options, rng)
        return Window.of(observed, flags == 0)

    return shot
