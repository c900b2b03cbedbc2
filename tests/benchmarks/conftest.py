"""The benchmarks need packages that the pipeline itself does not: see the extra `bench`."""

from importlib.util import find_spec

import pytest
import torch

if any(find_spec(name) is None for name in ("bm3d", "maskfill", "skimage", "pywt")):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
