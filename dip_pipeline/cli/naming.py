"""Where the results go: one name for one input, a name each in a folder for several."""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from dip_pipeline.batch.batch import Job
from dip_pipeline.errors import ConfigError, DipError, FrameError, OutputError
from dip_pipeline.frames import (
    FITS_SUFFIXES,
    ZARR_SUFFIXES,
    companions_of,
    is_zarr,
    output_kind,
    read_provenance,
    split_selector,
)

log = logging.getLogger(__name__)

_MOST_NAMED = 4
_PACKED = re.compile(r"\.(gz|bz2|fz|xz|z|zip)$", re.IGNORECASE)


def plan_jobs(
    sources: Sequence[str], out: str, *, create: bool = True, come_in: bool = False
) -> list[Job]:
    """Name the output of each input, and create the folder they go to.

    out : a file for one input; a folder for several, where it ends in a slash, or is one.
    create : whether the folder is to be made
    come_in : whether they are frames of a night that come in one after another: nothing is told
        again of what is left out, and two may have one output, which whoever restores them minds
    An input that is the finished output of another one is left out: an earlier run left it there.
    So is a file of noise or flags that belongs to another one, and what is named twice.
    Raises ConfigError for a name that no file can have, where two inputs would have one output, and
    where an output is an input.
    """
    _check_name("-o", out)
    if out.startswith("-"):
        raise ConfigError(f"-o is {out}, as if it were an option; a file of that name is ./{out}")
    for source in sources:
        _check_name("an input", source)
    if not _is_folder(sources, out):
        return [Job(sources[0], Path(out))]
    folder = Path(out)
    level = logging.DEBUG if come_in else logging.WARNING
    sources = without_companions(without_results(sources, folder, level), folder, level)
    sources = _named_once(sources, folder, level)
    jobs = [Job(source, folder / output_name(source)) for source in sources]
    taken: dict[Path, str] = {}
    inputs = {os.path.realpath(split_selector(source)[0]) for source in sources}
    for job in jobs:
        if job.target in taken and not come_in:
            raise ConfigError(
                f"{taken[job.target]} and {job.source}: both would be written to {job.target}; "
                "restore them one at a time, each with its own -o"
            )
        if os.path.realpath(job.target) in inputs:
            raise ConfigError(
                f"{job.target}: would be the output of {job.source}, and is an input; "
                "give another folder with -o"
            )
        taken[job.target] = job.source
    if create:
        create_folder(folder)
    return jobs


def _check_name(option: str, name: str) -> None:
    if not name.strip():
        raise ConfigError(f"{option} is an empty name; give a file or a folder")
    if "\0" in name:
        raise ConfigError(f"{option} is {name!r}, which no file can be called")


@contextmanager
def jobs_planned(sources: Sequence[str], out: str) -> Iterator[list[Job]]:
    """Plan as `plan_jobs` does; folders made for it go again where nothing could be begun.

    Not where frames failed: another command may be about to write there.
    """
    missing = [folder for folder in (Path(out), *Path(out).parents) if not folder.exists()]
    try:
        yield plan_jobs(sources, out)
    except DipError:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        raise


def output_name(source: str) -> str:
    """Name the output of an input in a folder.

    >>> [output_name(source) for source in ("m13.fits", "night/m13.fits.gz[SCI,1]", "m13.zarr/")]
    ['m13_dip.fits', 'm13_dip.fits', 'm13_dip.zarr']
    """
    name = Path(split_selector(source)[0]).name
    name = _PACKED.sub("", name)
    path = Path(name)
    if path.suffix.lower() in FITS_SUFFIXES + ZARR_SUFFIXES:
        return f"{path.stem}_dip{path.suffix}"
    return f"{name}_dip.fits"


def without_results(
    sources: Sequence[str], folder: Path, level: int = logging.WARNING
) -> list[str]:
    """Leave out what an earlier run made of the others; told of at that level of the log."""
    outputs = {os.path.realpath(folder / output_name(source)) for source in sources}
    results = [source for source in sources if _is_result(split_selector(source)[0], outputs)]
    if results:
        log.log(level, "%s: results of other inputs, left out: %s", folder, ", ".join(results))
    return [source for source in sources if source not in results]


def without_companions(
    sources: Sequence[str], folder: Path, level: int = logging.WARNING
) -> list[str]:
    """Leave out what lies beside an image for its sake: weights and masks, by their names."""
    paths = {source: Path(source).absolute() for source in sources}
    beside = {path.with_name(name) for path in paths.values() for name in companions_of(path.name)}
    left = [source for source, path in paths.items() if path in beside]
    if left:
        log.log(
            level,
            "%s: noise and flags of other inputs, left out: %d files, %s%s",
            folder,
            len(left),
            ", ".join(Path(source).name for source in left[:_MOST_NAMED]),
            ", ..." if len(left) > _MOST_NAMED else "",
        )
    return [source for source in sources if source not in left]


def _named_once(sources: Sequence[str], folder: Path, level: int) -> list[str]:
    """Leave out what is an input by another name, too: absolute, say, or through a link."""
    first: dict[tuple[str, str | None, str], str] = {}
    again: list[str] = []
    for source in sources:
        path, selector = split_selector(source)
        frame = os.path.realpath(path), selector, output_name(source)
        if frame in first:
            again.append(source if source == first[frame] else f"{source} (as {first[frame]})")
        first.setdefault(frame, source)
    if again:
        named = ", ".join(again[:_MOST_NAMED]) + (", ..." if len(again) > _MOST_NAMED else "")
        log.log(level, "%s: named more than once, restored once: %d, %s", folder, len(again), named)
    return list(first.values())


def _is_result(path: Path, outputs: set[str]) -> bool:
    if os.path.realpath(path) not in outputs:
        return False
    try:
        return read_provenance(path) is not None
    except FrameError:
        return False


def _is_folder(sources: Sequence[str], out: str) -> bool:
    """Decide whether the outputs go into `out`; a Zarr group is a file here, if one by name."""
    kind = output_kind(out)
    names_a_file = kind is not None and not _is_plain_folder(out)
    if len(sources) > 1 and names_a_file:
        raise ConfigError(f"-o {out}: names one file for {len(sources)} inputs; give a folder")
    if len(sources) > 1:
        return True
    if kind == "zarr":
        return False
    return out.endswith(("/", os.sep)) or _is_plain_folder(out)


def _is_plain_folder(out: str) -> bool:
    try:
        return Path(out).is_dir() and not is_zarr(Path(out))
    except OSError:
        return False


def create_folder(folder: Path) -> None:
    """Make the folder that results go to; OutputError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be a folder for the results ({error.strerror}); give another -o"
        ) from error
