"""A network taught by truths: it learns what fields are like."""

import numpy as np
import pytest
import torch

from benchmarks.taught import restored_by, teach
from dip_pipeline.simulate import DetectorOptions

DETECTOR = DetectorOptions(defects=False)
SIDE_PX = 32


def smooth(seed):
    """Draw a level that varies along rows alone, and itself on pixels of half the size."""
    rng = np.random.default_rng(seed)
    phase, height = rng.uniform(0, 2 * np.pi), rng.uniform(100, 200)
    fine = 300 + height * np.sin(np.arange(2 * SIDE_PX) / 20 + phase)
    truth = np.broadcast_to(fine / 4, (2 * SIDE_PX, 2 * SIDE_PX))
    return truth.reshape(SIDE_PX, 2, SIDE_PX, 2).sum(axis=(1, 3)), truth


@pytest.fixture
def one_thread():
    """Threads that wait for each other in small operations take minutes on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("factor", [1, 2])
def test_what_it_leaves_is_less_than_the_noise(factor):
    def draw(seed):
        level, truth = smooth(seed)
        return (level, truth) if factor == 2 else (level, level)

    network = teach(draw, DETECTOR, factor, fields=4, steps=200, widths=(8, 16))
    level, truth = draw(1)
    sigma = DETECTOR.sigma_dn(level)
    observed = level + sigma * np.random.default_rng(2).standard_normal(level.shape)
    restored = restored_by(network, observed, DETECTOR)
    assert restored.shape == truth.shape
    error = (restored - truth) * factor / np.kron(sigma, np.ones((factor, factor)))
    assert np.sqrt((error**2).mean()) < 0.6
    assert abs(error.mean()) < 0.2
