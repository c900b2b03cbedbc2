"""The story of a prior for many frames: read some of them, know their noise, fit, write."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from dip_pipeline.account.restored_input import check_observed
from dip_pipeline.config import RunConfig
from dip_pipeline.errors import (
    ConfigError,
    ContradictionError,
    DipError,
    FrameError,
    RestorationError,
    SensorError,
)
from dip_pipeline.exposures.guiding import with_others
from dip_pipeline.exposures.registered import Exposures
from dip_pipeline.exposures.settling import settle_guide
from dip_pipeline.frames import Frame, identities, open_frames
from dip_pipeline.frames.workshops import clear_workshops
from dip_pipeline.noise.in_words import noise_in_words
from dip_pipeline.preparing.cutting import ExposureSource
from dip_pipeline.preparing.planning import (
    devices_of,
    fit_options,
    fit_windows,
    problem_source,
    settle_frame,
)
from dip_pipeline.progress import SILENT, Progress, Told
from dip_pipeline.restoration.computing.callers_settings import settings_kept
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.priors.fit_size import folds_for
from dip_pipeline.restoration.problem import Problem, StopReason
from dip_pipeline.runs.fitted_frame import FittedFrame
from dip_pipeline.runs.fitted_planes import planes_in_turn, planes_told
from dip_pipeline.runs.prior_file import (
    PriorFile,
    check_optics,
    check_prior_target,
    fit_key,
    is_fit_of,
    origin_of,
    save_prior,
)
from dip_pipeline.runs.seeds import prior_seed
from dip_pipeline.sensor import NoiseModel
from dip_pipeline.task import Task

if TYPE_CHECKING:
    from dip_pipeline.restoration.priors.prior_record import SharedRecord
    from dip_pipeline.restoration.priors.shared_prior import SharedPrior


UNFIT = (FrameError, SensorError, ContradictionError)  # what is a frame's own fault


@dataclass(frozen=True, slots=True)
class FitSummary:
    """How the fit of a prior went.

    residual_noise : estimated rms of (restored - truth) / sigma on the frames themselves, of each
        network where it was not fitted
    """

    target: Path
    status: Literal["fitted", "already done"]
    frames: int
    steps: int
    residual_noise: tuple[float, ...]
    seconds: float


class _Share(NamedTuple):
    """What a prior is fitted on of one frame, and this as it was read."""

    problems: list[Problem]
    frame: Frame


@settings_kept()
def fit_frames(
    sources: Sequence[str],
    target: Path,
    config: RunConfig,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> FitSummary:
    """Fit one prior to one or more frames and write it; a finished one is left alone.

    Raises a DipError for whatever a user can cause.
    """
    started = time.monotonic()
    told = progress or SILENT
    _check_config(config)
    opened = [open_frames(source, config.frame_reading()) for source in sources]
    frames = [planes[0] for planes in opened]
    turns = _turns(opened, config)
    _check_each_once(sources, opened, turns)
    for frame in frames:
        check_observed(frame, strict=config.reading.strict)
    fitted = [FittedFrame.of(source, frame) for source, frame in zip(sources, frames, strict=True)]
    key = fit_key(fitted, config)
    clear_workshops(target)
    if not overwrite and is_fit_of(target, key):
        return _summary(target, "already done", PriorFile.read(target).record, len(frames), 0.0)
    destination = check_prior_target(target, frames, overwrite=overwrite)
    for item, frame in zip(fitted[1:], frames[1:], strict=True):
        names = str(frame.path), str(frames[0].path)
        if not config.task.each:  # exposures are held against each other, every one
            check_optics(names, item.camera, [fitted[0].camera], any_optics=config.fit.any_optics)
    told.fit_started(str(target), len(frames))
    asked = _Asked(told, sum(map(len, turns)))
    shares: list[_Share] = []
    on: list[FittedFrame] = []
    for rank, planes in enumerate(opened):
        cut = _cut(planes, turns[rank], with_others(config, sources, rank), asked)
        if len(planes) > 1 and not config.task.each:
            told.note(f"{sources[rank]}: {planes_told(planes, list(cut))}")
        shares += cut.values()
        on += [fitted[rank].on(share.frame) for share in cut.values()]
    prior = _fitted(shares, config, origin_of(key, on), Told(told, str(target)))
    if prior.report.stop_reason is StopReason.DIVERGED:
        raise RestorationError(
            f"{target}: not written, the fit diverged: check the noise model of the frames "
            "(dip show), give more --steps or another --seed"
        )
    save_prior(destination, prior)
    return _summary(target, "fitted", prior, len(frames), time.monotonic() - started)


def _check_config(config: RunConfig) -> None:
    """Raise ConfigError for options that a prior for other frames cannot have."""
    if (config.fit.input, config.fit.scope) != ("image", "frame"):
        raise ConfigError(
            f"--input {config.fit.input}, --scope {config.fit.scope}: a prior for other frames "
            "needs --input image, --scope frame; change the configuration"
        )
    plain = config.task.name is Task.DENOISE and not config.task.guides
    if not (plain or config.task.each) or config.task.mask:
        raise ConfigError(
            f"a prior for other frames denoises; it is not for {config.task.name}, guides or a "
            "mask: leave the table [task] out"
        )


def why_unfit(source: str, config: RunConfig) -> str:
    """Tell why no prior can be fitted on a frame; empty where one can."""
    try:
        planes = open_frames(source, config.frame_reading())
        check_observed(planes[0], strict=config.reading.strict)
        _cut(planes, [0], with_others(config, [source], 0), _Asked(SILENT, 1))
    except UNFIT as error:
        return str(error)
    return ""


def _check_each_once(
    sources: Sequence[str], opened: Sequence[Sequence[Frame]], turns: Sequence[Sequence[int]]
) -> None:
    """Raise FrameError for a frame given twice: networks would be judged on what they saw.

    turns : numbers of the planes of each file that are fitted on; its first one stands for a file
    """
    seen: dict[tuple[str, str], str] = {}
    for source, planes, own in zip(sources, opened, turns, strict=True):
        known = [told for number in sorted({0, *own}) for told in identities(planes[number])]
        for told in known:
            if told in seen:
                raise FrameError(
                    f"{source}: the same frame as {seen[told]}; leave one of them out, its noise "
                    "would be fitted twice"
                )
        seen |= dict.fromkeys(known, source)


def _turns(opened: Sequence[Sequence[Frame]], config: RunConfig) -> list[list[int]]:
    """Choose planes of each file; of exposures that guide each other one each, in turn."""
    if config.task.each:
        return [[rank % len(planes)] for rank, planes in enumerate(opened)]
    return planes_in_turn(opened)


class _Asked(NamedTuple):
    """Who is told of a fit, how many planes it is on in all, and whether a file has several."""

    told: Progress
    planes: int
    several: bool = False


def _cut(
    planes: Sequence[Frame], turns: Sequence[int], config: RunConfig, asked: _Asked
) -> dict[int, _Share]:
    """Cut a file's share of what the prior is fitted on, by the numbers of its planes.

    turns : of the planes whose turn it is; one that cannot be fitted on leaves it to the next
    """
    asked = asked._replace(several=len(planes) > 1)
    others = Exposures.of(config, planes)
    shares: dict[int, _Share] = {}
    failed: DipError | None = None
    for first in turns:
        for index in ((first + further) % len(planes) for further in range(len(planes))):
            if index in shares:
                continue
            try:
                beside = () if others is None else (others, index)
                shares[index] = _problems(planes[index], beside, config, asked)
                break
            except UNFIT as error:
                failed = failed or error
    if not shares:
        assert failed is not None
        raise failed
    return shares


def _problems(
    frame: Frame,
    others: tuple[Exposures, int] | tuple[()],
    config: RunConfig,
    asked: _Asked,
) -> _Share:
    """Cut a frame's share of what the prior is fitted on; its noise law is its own.

    others : exposures that guide it, and the number of the plane in its file
    """
    settled, noise = (settle_guide if others else settle_frame)(frame, config)
    name = f"{frame.path}, {frame.label}" if asked.several else str(frame.path)
    asked.told.note(f"{name}: noise {noise_in_words(noise)}")
    here = devices_of(config)[0]  # whichever the name of workers' own is
    beside = _beside(settled, noise, *others) if others else ()
    cut = problem_source(settled, noise, config, exposures=beside)
    cut = replace(cut, device=here)
    seed = prior_seed(config.fit.seed)
    windows = fit_windows(frame.shape, seed=seed, frames=asked.planes)
    problems = [_made_ready(cut.problem(window, seed=seed)) for window in windows]
    if not any(problem.valid.any() for problem in problems):
        raise FrameError(f"{frame.path}: no valid pixel to fit a prior on; leave this frame out")
    return _Share(problems, frame)


def _beside(
    frame: Frame, noise: NoiseModel, others: Exposures, index: int
) -> tuple[ExposureSource, ...]:
    """Register the exposures that guide a frame; how is told where they are used."""
    told = Told(SILENT, str(frame.path))
    _, found = others.register(index, frame, noise, Optics(), told=told)
    return tuple(each.source for each in found)


def _made_ready(problem: Problem) -> Problem:
    """Take together what guides a problem: of its exposures each would need as much memory."""
    if not problem.exposures:
        return problem
    from dip_pipeline.restoration.computing.settings import settle_computing  # torch loads here
    from dip_pipeline.restoration.exposures.epochs import with_twin

    settle_computing(problem.threads)  # as where it is restored
    return with_twin(problem)


def _fitted(
    shares: Sequence[_Share],
    config: RunConfig,
    origin: Mapping[str, object],
    told: Told,
) -> "SharedPrior":
    from dip_pipeline.machine.devices import device_watched  # torch loads here
    from dip_pipeline.restoration.priors.shared_prior import fit_shared_prior

    folds = 2
    if config.task.each:  # as many as an exposure of its own would have
        largest = max(rows * cols for rows, cols in (share.frame.shape for share in shares))
        folds = folds_for(largest, fit_options(config))
    with device_watched(shares[0].problems[0]):
        return fit_shared_prior(
            [(share.problems, share.frame.shape) for share in shares],
            seed=prior_seed(config.fit.seed),
            folds=folds,
            origin=origin,
            on_step=told.on_step,
        )


def _summary(
    target: Path,
    status: Literal["fitted", "already done"],
    prior: "SharedPrior | SharedRecord",
    frames: int,
    seconds: float,
) -> FitSummary:
    risks = tuple(math.sqrt(max(risk, 0.0)) for risk in prior.report.risks)
    return FitSummary(target, status, frames, prior.report.steps, risks, seconds)
