"""One simulated frame and a restoration of it with known faults."""

import numpy as np
import pytest
from scipy import ndimage

from dip_pipeline.quality import Evidence, Truth
from dip_pipeline.simulate import SceneOptions, simulate


@pytest.fixture(scope="session")
def frame():
    return simulate(SceneOptions("crowded", shape=(256, 224), seed=5))


@pytest.fixture(scope="session")
def truth(frame):
    return Truth(frame.truth_dn, frame.signal_dn, frame.sigma_true_dn, frame.stars)


@pytest.fixture(scope="session")
def evidence(frame, truth):
    """The truth plus smooth errors of 0.2 sigma, and an error plane that says so."""
    rng = np.random.default_rng(1)
    smooth = ndimage.gaussian_filter(rng.standard_normal(frame.truth_dn.shape), 1.2)
    sigma = frame.sigma_true_dn
    return Evidence(
        frame.observed_dn,
        (frame.truth_dn + 0.2 * sigma * smooth / smooth.std()).astype(np.float32),
        sigma,
        error=0.2 * sigma,
        masked=frame.masked,
        saturated=frame.saturated,
        truth=truth,
    )
