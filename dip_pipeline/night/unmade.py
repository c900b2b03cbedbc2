"""Frames of a folder that have no product, or no new one: by what runs left word of there."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from dip_pipeline.engine import read_status
from dip_pipeline.engine.run_lock import owner_of
from dip_pipeline.errors import DipError, ExitCode, FrameError, RunError
from dip_pipeline.frames import read_provenance
from dip_pipeline.frames.prov_json import facts_of, names_of

SUMMARY = "summary.json"
FAILED, WAITING, STOPPED, RUNNING = "failed", "waiting", "unfinished", "in work"
_OWN_NAME = re.compile(r"summary(-\d+)?\.json")
_SCRATCH = ".dip"
_AT_WORK = "the run is at work"
ENDS = (FAILED, STOPPED, WAITING, RUNNING)


class Unmade(NamedTuple):
    """A frame whose last run made no product.

    status : failed; waiting, which was not reached; unfinished; in work
    why : in one line; when : it was so, ISO 8601; "" for both where nobody says
    has_older : whether a product of an earlier run is there
    """

    source: str
    product: Path
    status: str
    why: str = ""
    when: str = ""
    has_older: bool = False

    @property
    def reason(self) -> str:
        """Why, without the name that an error begins with."""
        return self.why.removeprefix(f"{' '.join(self.source.split())}: ")

    @property
    def words(self) -> str:
        """How it ended, and why."""
        older = " (what is there is of an earlier run)" if self.has_older else ""
        return f"{self.status}{': ' if self.why else ''}{self.reason}{older}"

    def facts(self) -> dict[str, str]:
        """Give it as a summary holds it."""
        own = {"source": self.source, "target": str(self.product), "status": self.status}
        return own | {"error": self.why, "ended": self.when}


class Word(NamedTuple):
    """What runs left word of.

    unmade : frames, the failed ones first; read : summaries, and scratch of runs, that tell of them
    unread : one line for each summary that cannot be read; silent : folders without one
    """

    unmade: tuple[Unmade, ...] = ()
    read: tuple[Path, ...] = ()
    unread: tuple[str, ...] = ()
    silent: tuple[Path, ...] = ()

    def count(self, status: str) -> int:
        """Count the frames that are so."""
        return sum(each.status == status for each in self.unmade)

    @property
    def together(self) -> list[tuple[Unmade, list[str]]]:
        """Frames of one end and one reason as one: the first of them, and the names of all."""
        alike: dict[tuple[str, str, str, bool], list[Unmade]] = {}
        for each in self.unmade:
            alike.setdefault((each.status, each.why, each.when, each.has_older), []).append(each)
        return [(told[0], [each.source for each in told]) for told in alike.values()]


def word_of(folders: Sequence[Path]) -> Word:
    """Read what runs left word of in folders; nothing that lies there is an error."""
    found: list[Unmade] = []
    read, unread, silent = [], [], []
    for folder in folders:
        own: list[tuple[Path, dict[str, Any]]] = []
        for path in summaries_in(folder):
            try:
                own.append((path, read_summary(path)))
            except FrameError as error:
                unread.append(str(error))
        silent += [] if own else [folder]
        scratch = _inside(folder, lambda path: path.suffix == _SCRATCH)
        read += [*(path for path, _ in own), *scratch]
        told = [
            each
            for path, content in own
            for each in _entries(
                path, content, _AT_WORK if is_at_work(path) else _why_waiting(content)
            )
        ]
        found += _with_scratch(scratch, _unmade_of(told))
    found.sort(key=lambda each: (ENDS.index(each.status), each.when, each.source))
    return Word(tuple(found), tuple(read), tuple(unread), tuple(silent))


def summaries_in(folder: Path) -> list[Path]:
    """Files that have the name of a summary."""
    return _inside(folder, lambda path: bool(_OWN_NAME.fullmatch(path.name)))


def read_summary(path: Path) -> dict[str, Any]:
    """Read a summary; raises FrameError where it cannot be read, or is none of dip."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise FrameError(f"{path}: cannot be read ({why})") from error
    if not isinstance(found, dict) or "exit_code" not in found:
        raise FrameError(f"{path}: is no summary of dip")
    return found


def unmade_in(path: Path) -> list[Unmade]:
    """Frames that the summary of a run that has ended says have no product, and have none since.

    None of a summary that cannot be read.
    """
    with suppress(FrameError):
        content = read_summary(path)
        return _unmade_of(list(_entries(path, content, _why_waiting(content))))
    return []


def _entries(path: Path, content: Mapping[str, Any], reason: str) -> Iterator[Unmade]:
    """Every frame that a summary tells of, those of earlier runs that it keeps too.

    reason : why frames wait, if some do
    The product lies beside the summary: folders move, and names in it may be relative.
    """
    started = _text(content.get("started"))
    for name in ("earlier", "frames"):
        frames = content.get(name)
        for frame in frames if isinstance(frames, list) else ():
            source, target = (_text(_of(frame, key)) for key in ("source", "target"))
            if not source or not Path(target).name:
                continue
            status = _text(_of(frame, "status"))
            waits = status == WAITING and name == "frames"
            yield Unmade(
                source,
                path.with_name(Path(target).name),
                status,
                reason if waits else _text(_of(frame, "error")),
                _text(_of(frame, "ended")) or started,
            )


def _why_waiting(content: Mapping[str, Any]) -> str:
    """Say why a run as a whole did not reach all its frames."""
    if error := _text(content.get("error")):
        return error
    code = content.get("exit_code")
    if code is None:
        return "the run was killed"
    return "the run was interrupted" if code == ExitCode.INTERRUPTED else ""


def is_at_work(path: Path) -> bool:
    """Whether the run that keeps a summary has not ended."""
    owner = owner_of(path.with_name(f".{path.name}.lock"), looking_on=True)
    return owner is not None and owner.alive


def _unmade_of(told: Sequence[Unmade]) -> list[Unmade]:
    """Of what is told of each product the last, where it is that there is none, or an older one.

    One that is there is good enough for a frame that was not reached.
    """
    last: dict[Path, Unmade] = {}
    for each in told:
        before = last.get(each.product)
        if before is None or _moment(each.when) >= _moment(before.when):
            last[each.product] = each
    return [
        each._replace(has_older=bool(made))
        for each in last.values()
        if each.status in (FAILED, WAITING)
        and not ((made := _made(each.product)) and _is_made(each, made))
    ]


def _is_made(each: Unmade, made: str) -> bool:
    return each.status == WAITING or _moment(made) >= _moment(each.when)


def _made(product: Path) -> str:
    """When a whole product was made; "" where there is none."""
    try:
        account = read_provenance(product) if product.exists() else None
        if account is None:
            return ""
        run = names_of(account.document, "Restoration")
        return _text(facts_of(account.document, run[0]).get("prov:endTime")) if run else ""
    except (DipError, OSError):
        return ""


def _with_scratch(scratch: Sequence[Path], unmade: Sequence[Unmade]) -> list[Unmade]:
    """Add frames that are unfinished by their scratch; of those that failed the reason stays."""
    found = {each.product: each for each in unmade}
    for path in scratch:
        product = path.with_suffix("")
        before = found.get(product)
        try:
            status = read_status(path)
        except (RunError, OSError):
            continue
        runs = status.state == "running"
        if not runs and ((before and before.status == FAILED) or _made(product)):
            continue
        source = _text(status.about.get("source")) or product.name
        found[product] = Unmade(
            source if before is None else before.source,
            product,
            RUNNING if runs else STOPPED,
            status.tiles_words if runs else f"{status.tiles_words}; {status.way_on}",
            status.created,
        )
    return list(found.values())


def _inside(folder: Path, is_wanted: Callable[[Path], bool]) -> list[Path]:
    with suppress(OSError):
        return sorted(path for path in folder.iterdir() if is_wanted(path))
    return []


def _of(frame: object, name: str) -> object:
    return frame.get(name) if isinstance(frame, Mapping) else None


def _text(value: object) -> str:
    """Text of a value of JSON, of letters that can be written; "" for what is none."""
    if not isinstance(value, str):
        return ""
    try:
        value.encode("utf-8", "surrogateescape")  # bytes of names that were no text
    except UnicodeEncodeError:
        return value.encode("utf-8", "replace").decode()
    return value


def _moment(when: str) -> float:
    """Seconds of a time; of none that can be read the beginning of all."""
    try:
        return datetime.fromisoformat(when).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0
