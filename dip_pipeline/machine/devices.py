"""Devices that fail: memory that runs out, a GPU that no longer answers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch

from dip_pipeline.errors import BrokenProcessError, GpuMemoryError, RestorationError, RunError
from dip_pipeline.restoration.priors.packets import fit_priors
from dip_pipeline.restoration.priors.prior import Prior
from dip_pipeline.restoration.problem import Problem

_NO_MEMORY = "can't allocate memory"  # what torch says where a processor's is at an end
_ROOM: dict[str, int] = {}  # tiles of the largest packet that a device has room for, once known


@contextmanager
def device_watched(problem: Problem) -> Iterator[None]:
    """Tell the failures of a device from all others, while a problem is worked on.

    A GPU is this thread's own meanwhile: streams, recordings and libraries of torch that no tensor
    leads to its device would be of the first one. Raises RunError where there is no such device,
    GpuMemoryError where its memory does not hold the problem, and BrokenProcessError where it does
    not answer any more: after most CUDA errors nothing in the process can use it again.
    """
    if problem.device.startswith("cuda") and not torch.cuda.is_available():
        raise RunError(f"{problem.device}: no GPU where the work is done; use --device auto or cpu")
    own = torch.cuda.device(problem.device) if problem.device.startswith("cuda") else nullcontext()
    try:
        with own:
            yield
    except torch.cuda.OutOfMemoryError as error:
        rows, cols = problem.pixels.shape
        raise GpuMemoryError(
            f"{problem.device}: no memory for one fit of {rows} x {cols} px; use a smaller --tile, "
            "fewer workers on this device, or --device cpu"
        ) from error
    except RuntimeError as error:
        if _NO_MEMORY in str(error):
            rows, cols = problem.pixels.shape
            raise RunError(
                f"{problem.device}: no memory left at {rows} x {cols} px; use a smaller --tile or "
                "fewer --workers"
            ) from error
        if answers(problem.device):
            raise
        reason = str(error).partition("\n")[0]
        raise BrokenProcessError(
            f"{problem.device} does not answer any more ({reason}); the same command resumes"
        ) from error


def answers(device: str) -> bool:
    """Whether a device still computes."""
    try:
        return float(torch.ones(1, device=device).sum()) == 1.0
    except RuntimeError:
        return False


def fit_in_packets(problems: Sequence[Problem]) -> list[Prior | RestorationError]:
    """Fit a prior to each problem, as many at once as the device has memory for.

    Raises torch.cuda.OutOfMemoryError where it does not hold a single one.
    """
    device = problems[0].device
    results: list[Prior | RestorationError] = []
    while len(results) < len(problems):
        packet = problems[len(results) :][: _ROOM.get(device, len(problems))]
        try:
            results += fit_priors(packet)
        except torch.cuda.OutOfMemoryError:
            if len(packet) == 1:
                raise
            _ROOM[device] = (len(packet) + 1) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return results


def device_name(device: str) -> str:
    """Name a device for the record: of a GPU what it is, for its number is another in each process.

    One that does not answer keeps its number.
    """
    if not device.startswith("cuda") or not torch.cuda.is_available():
        return device
    try:
        return torch.cuda.get_device_name(device)
    except RuntimeError:
        return device


def devices_used(records: Sequence[Mapping[str, object]]) -> str:
    """Name what the tiles were restored on."""
    return ", ".join(sorted({str(record["device"]) for record in records}))
