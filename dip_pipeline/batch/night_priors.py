"""Priors that the frames of a night share: which frames go together, and on which one is fitted."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from dip_pipeline.account.account import recipe_of
from dip_pipeline.batch.batch import Job
from dip_pipeline.config import RunConfig
from dip_pipeline.engine.run_lock import take
from dip_pipeline.errors import (
    ConfigError,
    DipError,
    ExistsError,
    OutputError,
    PriorError,
    RunError,
)
from dip_pipeline.frames import (
    Reading,
    camera_of,
    identities,
    open_frame,
    open_frames,
    read_provenance,
    split_selector,
)
from dip_pipeline.night.grouping import Group, Taken, group_by_night
from dip_pipeline.progress import Progress
from dip_pipeline.runs.prior_file import PriorFile, same_filter

log = logging.getLogger(__name__)


_LOOK_S = 0.5
PRIORS = "priors"  # folder of them, in that of the results


def groups_of(sources: Sequence[str], reading: Reading) -> list[Group]:
    """Put frames together that can share a prior.

    Those that cannot be opened are left out, and files whose planes are behind unlike filters.
    """
    taken = []
    for source in sources:
        try:
            planes = open_frames(source, reading)
        except (DipError, OSError) as error:
            log.info("%s: of no group (%s)", source, error)
            continue
        first, *further = (camera_of(plane.header) for plane in planes)
        if all(same_filter(first, one) for one in further):
            taken.append(Taken.of(source, planes[0].header))
        else:
            log.info("%s: of no group (its planes are behind unlike filters)", source)
    return group_by_night(taken)


@dataclass(frozen=True, slots=True)
class NightPriors:
    """Where priors of nights lie, on how many frames each is fitted, and how.

    groups : puts frames together that share a prior
    overwrite : whether products that were made otherwise are replaced; else they need none
    """

    folder: Path
    frames: int
    config: RunConfig
    groups: Callable[[Sequence[str], Reading], list[Group]] = groups_of
    overwrite: bool = True

    def given_to(
        self, jobs: Sequence[Job], progress: Progress | None, beside: Sequence[str] = ()
    ) -> list[Job]:
        """Fit a prior for each group of frames; where that fails they are fitted one by one.

        beside : further frames of the night, that need none themselves
        A frame that cannot be fitted on, as one without a pixel, leaves its place to another.
        """
        priors: dict[str, str] = {}
        there = self._there()
        reading = self.config.frame_reading()
        own = [job.source for job in jobs]
        needing = {job.source for job in jobs if self.overwrite or not self._stays(job.target)}
        for group in self.groups(list(dict.fromkeys([*beside, *own])), reading):
            if needing.isdisjoint(group.sources):
                continue
            target = self._made(group, there, progress)
            if target is not None:
                priors.update(dict.fromkeys(group.sources, str(target)))
        return [
            job._replace(prior=None if self._was_alone(job.target) else priors.get(job.source))
            for job in jobs
        ]

    def _stays(self, target: Path) -> bool:
        """Whether there is something that was not made with these options: it is not replaced."""
        made = options_of(target)
        return target.exists() and (made is None or made.digest() != self.config.digest())

    def _was_alone(self, target: Path) -> bool:
        """Whether a product was made with these options before its night had a prior: it stays."""
        if self.config.task.each:  # whether they share one is clear before the first is made
            return False
        made = options_of(target)
        return made is not None and made.fit.prior is None and made.digest() == self.config.digest()

    def _made(
        self,
        group: Group,
        there: Sequence[tuple[Path, list[str]]],
        progress: Progress | None,
    ) -> Path | None:
        """Fit the prior of a group, unless it is there, on frames that it can be fitted on."""
        fit = group
        while len(fit.sources) > 1:  # a fit of its own is as good for one
            chosen, target = self._choose(fit, there)
            try:
                self._fit(chosen, target, progress)
            except ConfigError:
                raise
            except (DipError, OSError) as error:
                unfit = _unfit(chosen, self.config, error)
                if not unfit:
                    log.warning("%s: not fitted; each frame is, for itself: %s", target, error)
                    return None
                for source, why in unfit.items():
                    log.warning("%s: the prior of all is not fitted on it: %s", source, why)
                fit = replace(fit, sources=tuple(one for one in fit.sources if one not in unfit))
            else:
                return target
        if len(group.sources) > 1:
            log.warning(
                "%s: no prior: not two frames are left to fit it on; each is fitted for itself",
                group.name,
            )
        return None

    def _there(self) -> list[tuple[Path, list[str]]]:
        """Find priors in the folder, the oldest first, and the names of frames of each."""
        paths = [path for path in self.folder.glob("*.prior") if path.is_file()]
        paths.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))
        return [(path, _fitted_on(path)) for path in paths]

    def _choose(
        self, group: Group, there: Sequence[tuple[Path, list[str]]]
    ) -> tuple[list[str], Path]:
        """Choose frames to fit on, and the file: those of a prior that is there, if they are here.

        So frames that are taken later in the night get the prior that the first ones have.
        """
        by_name = {_name_of(source): source for source in reversed(group.sources)}
        for path, names in there:
            fitted = [by_name[name] for name in names if name in by_name]
            if (
                fitted
                and len(fitted) == len(names)
                and path.stem.endswith(f"_{self._mark(fitted)}")
            ):
                return fitted, path
        chosen = self._each_once(_spread(group.sources, self.frames))
        return chosen, self.folder / f"{group.name}_{self._mark(chosen)}.prior"

    def _each_once(self, sources: Sequence[str]) -> list[str]:
        """Leave out copies of a frame under another name: packed, converted, with another card."""
        seen: set[tuple[str, str]] = set()
        kept = []
        for source in sources:
            told = []
            with suppress(DipError, OSError):  # the fit will say it
                told = identities(open_frame(source, self.config.frame_reading()))
            if seen.isdisjoint(told):
                kept.append(source)
            seen.update(told)
        return kept

    def _mark(self, chosen: Sequence[str]) -> str:
        """Tell fits apart by where their frames lie, however that is written, and all options."""
        places = [f"{Path(split_selector(one)[0]).resolve()} {_name_of(one)}" for one in chosen]
        places += self.config.task.exposures
        facts = "\n".join([*places, str(self.frames), self.config.digest()])
        return sha256(facts.encode()).hexdigest()[:8]

    def _fit(self, chosen: Sequence[str], target: Path, progress: Progress | None) -> None:
        from dip_pipeline.fitting import fit_frames

        self.folder.mkdir(parents=True, exist_ok=True)
        with _alone_at(target):
            try:
                fit_frames(chosen, target, self.config, progress=progress)
            except ExistsError:  # the frames themselves were replaced since
                fit_frames(chosen, target, self.config, overwrite=True, progress=progress)
            except OutputError:
                if not target.exists():
                    raise
                # Another run, whose lock is not seen here, has made it meanwhile.
                fit_frames(chosen, target, self.config, progress=progress)


@contextmanager
def _alone_at(target: Path) -> Iterator[None]:
    """Wait until no other run is at a prior: of shards that begin together one fits it."""
    path = target.with_name(f".{target.name}.lock")
    lock, waits = None, False
    while lock is None:
        try:
            lock = take(path)  # None where its holder took it away at this moment
        except RunError:
            if not waits:
                log.info("%s: another run is at it; waiting for it", target)
            waits = True
            time.sleep(_LOOK_S)
        except OSError:  # no lock in this folder
            yield
            return
    lock.sign()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # first: who waits for it makes another one
        lock.release()


def options_of(target: Path) -> RunConfig | None:
    """Read what a product was made with; None where there is none, or it does not say."""
    with suppress(DipError, OSError):
        if target.exists() and (account := read_provenance(target)) is not None:
            return recipe_of(account.document, target).config
    return None


def _unfit(chosen: Sequence[str], config: RunConfig, error: Exception) -> dict[str, str]:
    """Name the frames for which a fit failed, and why; none where it is no frame's fault."""
    from dip_pipeline.fitting import UNFIT, why_unfit

    if not isinstance(error, UNFIT):
        return {}
    told = {source: why_unfit(source, config) for source in chosen}
    return {source: why for source, why in told.items() if why}


def _spread(sources: Sequence[str], count: int) -> list[str]:
    """Choose some, evenly over the night."""
    count = min(count, len(sources))
    return [sources[(2 * i + 1) * len(sources) // (2 * count)] for i in range(count)]


def _fitted_on(path: Path) -> list[str]:
    """Name the frames that a prior was fitted on; none where it is no prior."""
    try:
        return [item.name for item in PriorFile.read(path).frames]
    except PriorError:
        return []


def _name_of(source: str) -> str:
    """Name a frame as a prior does."""
    path, selector = split_selector(source)
    return path.name if selector is None else f"{path.name}[{selector}]"
