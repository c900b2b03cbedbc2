"""How many processes work, with how many threads, on which devices."""

import contextlib
import ipaddress
import json
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from dip_pipeline.errors import ConfigError

# Every worker process loads the script that starts it, and would do its work again.
GUARD_ADVICE = (
    'a script that asks for them begins its work behind `if __name__ == "__main__":`; put it '
    "there, or use the executor inline"
)
_GPU_PACKET = 16
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")  # auto: where the worker is


class ExecutorKind(StrEnum):
    """Where the items run."""

    INLINE = "inline"  # in this process, one after the other; no sockets
    LOCAL = "local"  # in processes of this machine
    DASK = "dask"  # on the workers of a Dask scheduler


@dataclass(frozen=True, slots=True)
class SchedulerPlace:
    """Where a Dask scheduler is found: by its address, or by the file that it wrote.

    insecure : whether an unencrypted connection beyond this machine is wanted all the same
    """

    address: str | None = None
    file: str | None = None
    insecure: bool = False

    def find(self) -> str:
        """Give the address; ConfigError for one that is none, or that must not be used.

        Whoever reaches a Dask scheduler without TLS can run programs on all its workers.
        """
        address = self.address or self._from_file()
        found = re.fullmatch(r"(?:([a-z]+)://)?(.+?)(?::(\d+))?/?", address)
        scheme, host = (found[1] or "tcp", found[2].strip("[]")) if found else ("", "")
        if found is None or scheme not in ("tcp", "tls") or found[3] is None:
            raise ConfigError(
                f"--scheduler {address}: need an address with its port, such as tls://host:8786 "
                "(or tcp:// on this machine)"
            )
        if scheme == "tcp" and not self.insecure and not _is_loopback(host):
            raise ConfigError(
                f"--scheduler {address}: unencrypted, and not of this machine: whoever reaches it "
                "can run programs there; use tls:// with Dask's TLS settings, or add "
                "--insecure-cluster"
            )
        return address

    def _from_file(self) -> str:
        try:
            return str(json.loads(Path(self.file or "").read_text(encoding="utf-8"))["address"])
        except OSError as error:
            raise ConfigError(
                f"--scheduler-file {self.file}: cannot be read ({error.strerror}); give the file "
                "that `dask scheduler --scheduler-file` writes"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"--scheduler-file {self.file}: holds no address; give the file that "
                "`dask scheduler --scheduler-file` writes"
            ) from error


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` parts of the work, `number` from 1: every count-th item."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ConfigError(f"--shard {self}: need I/N with 1 <= I <= N, such as 3/16")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "I/N"."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if found is None:
            raise ConfigError(f"--shard {text}: need I/N with 1 <= I <= N, such as 3/16")
        return cls(int(found[1]), int(found[2]))

    def has(self, index: int) -> bool:
        """Whether an item is of this part."""
        return index % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What the work runs on.

    workers : processes of the local executor; None for one a GPU, or cores / threads_per_fit
    threads_per_fit : CPU threads of one fit; it changes the last bits of a result, so it belongs
        to the run and not to the machine
    devices : "cpu", or one or several of "cuda", "cuda:0", "cuda:1", ...
    shard : the part of the items that this process and its workers do; None for all
    scheduler : of the dask executor; None where its cluster is started by us
    dashboard : whether Dask shows its dashboard, on loopback
    packet : items that a GPU does at once, where that can be; None for what suits it
    """

    executor: ExecutorKind = ExecutorKind.INLINE
    workers: int | None = None
    threads_per_fit: int = 1
    devices: tuple[str, ...] = ("cpu",)
    shard: Shard | None = None
    scheduler: SchedulerPlace | None = None
    packet: int | None = None
    dashboard: bool = False

    def __post_init__(self) -> None:
        if self.packet is not None and self.packet < 1:
            raise ConfigError(f"--packet {self.packet}: need at least 1 tile")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"--workers {self.workers}: need at least 1 process")
        if self.workers is not None and self.executor is not ExecutorKind.LOCAL:
            raise ConfigError(
                f"--workers {self.workers}: processes of this machine; add --executor local"
            )
        if self.threads_per_fit < 1:
            raise ConfigError(f"--threads-per-fit {self.threads_per_fit}: need at least 1 thread")
        wrong = [device for device in self.devices if not _DEVICE.fullmatch(device)]
        if wrong or not self.devices:
            raise ConfigError(
                f"--device {', '.join(wrong) or 'missing'}: need cpu, cuda or cuda:0, cuda:1, ..."
            )
        if "cpu" in self.devices and len(self.devices) > 1:
            raise ConfigError(f"--device {', '.join(self.devices)}: need the CPU or GPUs, not both")

    @property
    def slots(self) -> int:
        """How many items run at the same time."""
        if self.executor is not ExecutorKind.LOCAL:
            return 1  # of Dask workers those that are there count
        if self.workers is not None:
            return self.workers
        if self.devices[0] != "cpu":
            return len(self.devices)
        return max(1, usable_cores() // self.threads_per_fit)

    @property
    def items_a_packet(self) -> int:
        """How many items are done at once: one on a CPU, which gains nothing from more.

        What workers elsewhere have is not known here unless it was said.
        """
        if self.devices[0] == "cpu":
            return 1
        return self.packet or (1 if self.devices[0] == "auto" else _GPU_PACKET)

    @property
    def item_device(self) -> str:
        """The device under the name by which the function that runs an item finds it.

        A worker process sees its own GPU only, so there it is always the first one.
        """
        if self.executor is not ExecutorKind.LOCAL or self.devices[0] == "cpu":
            return self.devices[0]
        return "cuda:0"


def usable_memory_bytes() -> int | None:
    """Memory of the machine, or what a container or batch job may use of it; None if unknown."""
    found = []
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not on every system
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for limit in _MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max", and where there is no such limit
            found.append(int(Path(limit).read_text(encoding="ascii")))
    return min((size for size in found if size > 0), default=None)


def address_space_left_bytes() -> int | None:
    """Tell what a limit of its address space leaves this process; None without one, or unknown."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # not on every system
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            return limit - pages * resource.getpagesize()
    return None


def usable_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
