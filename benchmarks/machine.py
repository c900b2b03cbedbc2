"""What a measurement ran on, and what ran: figures of time mean nothing without it."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from dip_pipeline import __version__
from dip_pipeline.engine.options import usable_cores

PACKAGES = ("torch", "numpy", "scipy", "bm3d", "scikit-image", "PyWavelets")
_ROOT = Path(__file__).resolve().parents[1]


def describe_machine() -> dict[str, object]:
    """Processor, cores at hand, memory, GPU, operating system."""
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def usual_device() -> str:
    """Where tasks are measured: on a GPU where one is at hand."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def versions() -> dict[str, str]:
    """Python and the packages that figures depend on."""
    found = {"dip-pipeline": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str:
    """Commit of this checkout, and whether anything differs from it."""
    try:
        head = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head} with changes" if changed else head


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=_ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")


def command_told(module: str) -> list[str]:
    """Give the command that runs, but for the folder that its JSON goes to."""
    words = sys.argv[1:]
    told = [
        Path(word).name if number and words[number - 1] == "--out" else word
        for number, word in enumerate(words)
    ]
    return ["python", "-m", module, *told]


def keep(path: Path, module: str, **found: object) -> None:
    """Write what was found as JSON: with the command, the commit and the machine."""
    kept = {
        "command": command_told(module),
        "commit": commit(),
        "machine": describe_machine(),
        **found,
    }
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
