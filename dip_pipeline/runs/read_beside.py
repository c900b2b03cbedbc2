"""Files that are read with an input: part of what decides a result."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dip_pipeline.config import RunConfig
from dip_pipeline.config.task_optics import SCENE_TASKS
from dip_pipeline.errors import FrameError
from dip_pipeline.exposures.registered import Exposures, exposure_digests, exposure_role
from dip_pipeline.frames import (
    Frame,
    file_digest,
    guide_digests,
    named_digest,
    open_frames,
    path_state,
    split_selector,
)


@dataclass(frozen=True, slots=True)
class NamedFiles:
    """Files that options name, as they were before anything was read of them."""

    states: Mapping[Path, object]

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """Note PSF, mask, guides and further exposures."""
        task = config.task
        named = [task.psf if task.name in SCENE_TASKS else None, task.mask]
        names = [*named, *task.guides, *task.exposures]
        paths = {split_selector(name)[0] for name in names if name is not None}
        return cls({path: path_state(path) for path in paths})

    def check_unchanged(self) -> None:
        """Raise FrameError where digest and pixels may be of two versions of a file."""
        for path, state in self.states.items():
            if path_state(path) != state:
                raise FrameError(f"{path}: changed while it was being read; run again")


def digests_beside(
    frames: Sequence[Frame], others: Exposures | None, config: RunConfig
) -> dict[str, str]:
    """Sha256 of all that is read with some frames, by name or role.

    Noise planes and masks of further exposures and of guides come after their role.
    Raises FrameError for a file that is not there.
    """
    task = config.task
    found = _by_name(frames, "")
    found |= named_digest("psf", task.psf if task.name in SCENE_TASKS else None)
    found |= named_digest("mask", task.mask)
    found |= guide_digests(task.guides) | exposure_digests(config)
    for number, source in enumerate(task.guides, start=1):
        found |= _by_name(open_frames(source), f"guide-{number}: ")
    for number, planes in enumerate(others.frames if others else (), start=1):
        found |= _by_name(planes, f"{exposure_role(number)}: ")
    return found


def _by_name(frames: Iterable[Frame], role: str) -> dict[str, str]:
    """Sha256 of the files that are read with some frames; two of one name are counted."""
    paths: set[Path] = {path for frame in frames for path in frame.companions}
    found: dict[str, str] = {}
    for path in sorted(paths):
        alike = sum(other.name == path.name for other in paths if other < path)
        name = f"{role}{path.name}" + (f" ({alike + 1})" if alike else "")
        found[name] = file_digest(path)
    return found
