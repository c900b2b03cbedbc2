"""Problems cut out of a frame, and the digest of all in them that decides their pixels."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from dip_pipeline.frames import Frame, Guide
from dip_pipeline.restoration.optics import Optics
from dip_pipeline.restoration.problem import FitOptions, Problem
from dip_pipeline.sensor import NoiseModel

Window = tuple[slice, slice]

_WORDS = {"source", "unit", "rung", "guesses", "notes"}  # of the numbers of a noise law


@dataclass(frozen=True, slots=True)
class ProblemSource:
    """Cuts problems out of a frame.

    guides : other images of the same sky
    optics : between the scene that is asked for and the pixels; None: the scene is what they show
    """

    frame: Frame
    noise: NoiseModel
    options: FitOptions
    saturation_dn: float | None
    device: str
    threads: int
    guides: tuple[Guide, ...] = ()
    optics: Optics | None = None

    def problem(self, window: Window, *, seed: int, inner: Window | None = None) -> Problem:
        """Read one window of the frame as a problem to restore."""
        pixels = self.frame.read(*window)
        science = pixels.science
        limit = np.inf if self.saturation_dn is None else self.saturation_dn
        saturated = np.isfinite(science) & (science >= limit)
        if pixels.saturated is not None:
            saturated |= np.isfinite(science) & pixels.saturated
        return Problem(
            pixels=science,
            error=pixels.error if self.noise.from_error_plane else None,
            masked=pixels.masked & ~saturated,
            saturated=saturated,
            noise=self.noise,
            options=self.options,
            seed=seed,
            origin=(window[0].start, window[1].start),
            inner=inner or (slice(None), slice(None)),
            device=_device_here(self.device),
            threads=self.threads,
            guides=tuple(guide.read(*window) for guide in self.guides),
            optics=self.optics,
        )


def _device_here(device: str) -> str:
    """Device of the process that runs; "auto" was left for it to decide."""
    if device != "auto":
        return device
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def problems_key(problems: Sequence[Problem], shape: tuple[int, int], *more: object) -> str:
    """Sha256, in hexadecimal digits, of all in some problems that decides what comes of them.

    shape : of the frame they were cut from; more : what else decides, such as a prior's digest.
    The device is not in it, nor where numbers of the noise law were found.
    """
    digest = hashlib.sha256()
    for problem in problems:
        facts = [asdict(problem.options), asdict(problem.noise), problem.seed, problem.threads]
        facts += [] if problem.optics is None else [asdict(problem.optics)]
        text = json.dumps(
            [_facts_only(facts), problem.origin, problem.pixels.shape, shape, more, problem.inner],
            sort_keys=True,
            default=_as_text,
        )
        digest.update(text.encode())
        error = [] if problem.error is None else [problem.error]
        for plane in (problem.pixels, problem.masked, problem.saturated, *error, *problem.guides):
            digest.update(plane.tobytes())
    return digest.hexdigest()


def _facts_only(value: object) -> object:
    """Leave out words about where a number comes from."""
    if isinstance(value, dict):
        return {k: _facts_only(v) for k, v in value.items() if k not in _WORDS}
    return [_facts_only(item) for item in value] if isinstance(value, list | tuple) else value


def _as_text(value: object) -> str:
    if isinstance(value, np.ndarray):
        return hashlib.sha256(value.tobytes()).hexdigest()
    return repr(value)
