"""A run as it is asked for: the frame and what is read with it, and what decides its pixels."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dip_pipeline.account.record import run_key
from dip_pipeline.config import RunConfig
from dip_pipeline.config.task_optics import AskedOptics
from dip_pipeline.exposures.registered import Exposures
from dip_pipeline.frames import Frame, file_digest, open_frames, split_selector
from dip_pipeline.runs.prior_file import PriorFile
from dip_pipeline.runs.read_beside import NamedFiles, digests_beside


@dataclass(frozen=True, slots=True)
class AskedRun:
    """A run of one file, opened; nothing of it is computed, or written, yet.

    started : by time.monotonic
    frames : planes of the file; others : further exposures, to be combined with it
    named : files that options name, as they were before anything was read of them
    optics : what the task says of the way from the scene to the pixels
    shared : prior of many frames, to be applied
    key : all that decides the pixels of its product
    """

    source: str
    target: Path
    config: RunConfig
    command_line: Sequence[str]
    started: float
    frames: Sequence[Frame]
    others: Exposures | None
    named: NamedFiles
    optics: AskedOptics | None
    shared: PriorFile | None
    key: dict[str, object]

    @classmethod
    def opened(
        cls, source: str, target: Path, config: RunConfig, command_line: Sequence[str] = ()
    ) -> Self:
        """Open what is read, and take its digests. Raises a DipError for what cannot be read."""
        started = time.monotonic()
        named, optics = NamedFiles.of(config), AskedOptics.of(config)
        frames = open_frames(source, config.frame_reading())
        others = Exposures.of(config, frames)
        shared = None if config.fit.prior is None else PriorFile.read(Path(config.fit.prior))
        key = run_key(
            config,
            file_digest(frames[0].path),
            split_selector(source)[1],
            prior_digest=None if shared is None else shared.sha256,
            companions=digests_beside(frames, others, config),
        )
        return cls(
            source=source,
            target=target,
            config=config,
            command_line=command_line,
            started=started,
            frames=frames,
            others=others,
            named=named,
            optics=optics,
            shared=shared,
            key=key,
        )

    @property
    def frame(self) -> Frame:
        """The first plane."""
        return self.frames[0]


def absolute_source(source: str) -> str:
    """Name a frame by the whole way to it, and its HDU."""
    path, selector = split_selector(source)
    return str(path.absolute()) + ("" if selector is None else f"[{selector}]")
