"""How many GPUs this process can use, told without torch where there can be none."""

import ctypes
import sys
from functools import cache
from pathlib import Path

_DRIVER = "libcuda.so.1"  # the name that CUDA itself opens it by
_AMD_DEVICE = Path("/dev/kfd")  # of ROCm, which torch counts as CUDA


def gpu_count() -> int:
    """How many GPUs torch can use. Torch, which takes seconds to load, is asked where any may be.

    One that is loaded already is always asked.
    """
    if "torch" not in sys.modules and not _may_have_gpu():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


@cache
def _may_have_gpu() -> bool:
    """Whether there is a driver of GPUs; True where that is not known."""
    if sys.platform == "darwin":
        return False  # Metal is none of CUDA's
    if sys.platform != "linux":
        return True
    try:
        ctypes.CDLL(_DRIVER)
    except OSError:
        return _AMD_DEVICE.exists()
    return True
