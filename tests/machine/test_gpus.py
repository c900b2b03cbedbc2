"""Laws of counting GPUs: torch is asked where any may be, and where it is loaded already."""

import subprocess
import sys

import pytest
import torch

from dip_pipeline.machine.gpus import gpu_count

_PROGRAM = """
import sys
from pathlib import Path
from dip_pipeline.machine import gpus
driver, device, loads = sys.argv[1:]
gpus._DRIVER, gpus._AMD_DEVICE = driver, Path(device)
count = gpus.gpu_count()
assert ("torch" in sys.modules) == (loads == "True")
import torch
assert count == (torch.cuda.device_count() if torch.cuda.is_available() else 0) or loads != "True"
"""
_NONE, _ANY = "libdip-has-none.so.1", "libc.so.6"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other drivers, or none")
@pytest.mark.parametrize(
    ("driver", "device", "loads"),
    [(_NONE, "/dev/none", False), (_ANY, "/dev/none", True), (_NONE, "/dev/null", True)],
)
def test_torch_is_loaded_to_count_them_where_there_is_a_driver_alone(driver, device, loads):
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, driver, device, str(loads)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_where_torch_is_loaded_it_is_asked(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert gpu_count() == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_count() == 0
