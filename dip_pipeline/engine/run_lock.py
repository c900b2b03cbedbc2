"""Who holds a run directory: a lock of the kernel, and a heartbeat for those who cannot see it.

The kernel's lock ends with its process, however that ends, so nobody has to judge whether an
owner is dead. Some shared file systems keep locks to one machine, or have none: there an owner is
known to live by its lock file, which it touches every few seconds.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dip_pipeline.errors import RunError

logger = logging.getLogger(__name__)

HEARTBEAT_S = 10.0
SILENT_S = 60.0  # an owner not heard of for so long is dead

_PROBE = ".now.{}.tmp"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@dataclass(frozen=True, slots=True)
class Owner:
    """Who signed a lock file, and how many seconds ago it was last heard of."""

    process_id: int
    host: str
    since: str
    silent_s: float

    @property
    def alive(self) -> bool:
        """Whether it still runs, as far as can be told from here.

        A process of its number may be another one, after a restart or in another container.
        """
        heard_of = abs(self.silent_s) < SILENT_S
        return heard_of and (self.host != socket.gethostname() or _runs_here(self.process_id))

    def __str__(self) -> str:
        return f"process {self.process_id} on {self.host} since {self.since}"


class Lock:
    """A lock that is held, and its heartbeat. The lock file itself stays when it is let go."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor
        self._let_go = threading.Event()

    def sign(self) -> None:
        """Tell others who holds it, now and then again."""
        assert self._descriptor is not None
        now = datetime.now(UTC).isoformat(timespec="seconds")
        owner = {"process": os.getpid(), "host": socket.gethostname(), "since": now}
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(owner).encode(), 0)
        threading.Thread(target=self._beat, name="dip-heartbeat", daemon=True).start()

    def share(self) -> None:
        """Let others share it from now on."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # no locks here: said when it was taken
                fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def release(self) -> None:
        """Let go; what it says of its owner goes too, unless others share it."""
        self._let_go.set()
        if self._descriptor is None:
            return
        if not self._shared_with_others():
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        self._descriptor = None

    def _shared_with_others(self) -> bool:
        assert self._descriptor is not None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # no locks here
            return False
        return False

    def _beat(self) -> None:
        while not self._let_go.wait(HEARTBEAT_S):
            with contextlib.suppress(OSError):
                os.utime(self.path)


def take(path: Path, *, shared: bool = False) -> Lock | None:
    """Lock a file, making it where needed; None where it is another file by now.

    Raises RunError where another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    held = False
    try:
        held = _hold(descriptor, path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    finally:
        if not held:
            os.close(descriptor)
    return Lock(path, descriptor) if held else None


def owner_of(path: Path, *, looking_on: bool = False) -> Owner | None:
    """Read who signed a lock file; None where nobody holds it.

    looking_on : write nothing into the folder, not even to ask for the time by its clock; how long
        an owner has been silent is then told by ours
    """
    try:
        found = json.loads(path.read_bytes())
        touched = path.stat().st_mtime
        # Our clock may be behind that of the folder.
        now = max(time.time(), touched) if looking_on else _now_there(path.parent)
        return Owner(int(found["process"]), str(found["host"]), str(found["since"]), now - touched)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove_empty(folder: Path) -> None:
    """Delete a folder that nothing of a run is left in; OSError where something is.

    Who asked for the time by its clock at this moment has a file in it.
    """
    for probe in folder.glob(_PROBE.format("*")):
        probe.unlink(missing_ok=True)
    folder.rmdir()


def _hold(descriptor: int, path: Path, kind: int) -> bool:
    owner = owner_of(path)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _held_by(path, owner) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.warning("%s: no locks on this file system; run one process at a time", path)
        if owner is not None and owner.alive:
            raise _held_by(path, owner) from error
    if not os.path.samestat(os.fstat(descriptor), path.stat()):
        return False
    if kind == fcntl.LOCK_EX and owner is not None and owner.host != socket.gethostname():
        _check_no_other_machine(path, owner)
    return True


def _check_no_other_machine(path: Path, owner: Owner) -> None:
    """Refuse where an owner on another machine, whose lock we cannot see, still lives."""
    if owner.alive:
        left_s = SILENT_S - owner.silent_s
        raise RunError(
            f"{path.parent}: already being run by {owner}, heard of {owner.silent_s:.0f} s ago; "
            f"stop it first, or if it is dead run again in {left_s:.0f} s"
        )


def _held_by(path: Path, owner: Owner | None) -> RunError:
    return RunError(
        f"{path.parent}: already being run by {owner or 'another process'}; "
        "wait for it, or stop it first"
    )


def _now_there(folder: Path) -> float:
    """Time by the clock of the file system, which on a network folder is not ours."""
    probe = folder / _PROBE.format(uuid.uuid4().hex)
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:  # a folder that we may only read
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def _runs_here(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except OSError:  # there, and another user's
        return True
    return True
