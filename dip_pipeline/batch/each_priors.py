"""The networks that exposures share where each is restored at its own epoch."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dip_pipeline.batch.batch import Job
from dip_pipeline.batch.night_priors import PRIORS, NightPriors, options_of
from dip_pipeline.config import RunConfig
from dip_pipeline.exposures.guiding import fitted_exposures, further_exposures, sharing_words
from dip_pipeline.exposures.readable import check_exposures, readable_exposures
from dip_pipeline.frames import Reading
from dip_pipeline.night.grouping import Group

if TYPE_CHECKING:
    from dip_pipeline.progress import Progress


def shared_among_exposures(
    jobs: Sequence[Job],
    config: RunConfig,
    out: Path,
    progress: "Progress | None",
    *,
    overwrite: bool = False,
) -> list[Job]:
    """Fit one prior for exposures that guide each other; others have networks of their own.

    out : folder of the results, in which the prior lies in one of its own
    overwrite : whether products that were made otherwise are replaced; if none can be made, nothing
        is fitted
    Raises a DipError for exposures that cannot guide each other, before anything is fitted.
    """
    if not config.may_share_exposures:
        return list(jobs)
    sources = [job.source for job in jobs]
    able = readable_exposures(sources, config)
    further = further_exposures(sources, config)
    fitted = fitted_exposures(config, len(able))
    if not fitted or (not overwrite and _all_made_otherwise(jobs, config)):
        return list(jobs)
    check_exposures([*able, *further], config)
    all_of_them = config.with_overrides(**{"task.exposures": (*able, *further)})
    if progress is not None:
        progress.note(sharing_words(fitted, len(able)))
    priors = NightPriors(out / PRIORS, fitted, all_of_them, partial(_one_group, able))
    return priors.given_to(jobs, progress)


def _all_made_otherwise(jobs: Sequence[Job], config: RunConfig) -> bool:
    """Whether every product is there, and none was made with these options."""
    asked = config.with_overrides(**{"fit.planes": "auto"}).digest()  # as with a prior
    if not all(job.target.exists() for job in jobs):
        return False
    made = (options_of(job.target) for job in jobs)
    return all(one is None or one.digest() != asked for one in made)


def _one_group(able: Sequence[str], sources: Sequence[str], _: Reading) -> list[Group]:
    """Put all exposures that can be read together: they are of one sky."""
    return [Group("each", tuple(source for source in sources if source in set(able)))]
