"""What is made of the science planes of a file: their tiles, blended, and what is told of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dip_pipeline.account.record import RunFacts, run_cards
from dip_pipeline.engine import RunDirectory
from dip_pipeline.frames import RestoredFrame, check_unchanged
from dip_pipeline.frames.digests import digest_planes
from dip_pipeline.progress import Told
from dip_pipeline.runs.place import Place
from dip_pipeline.runs.planes import Plane, Planes
from dip_pipeline.runs.prior_work import PriorTask, StackFit
from dip_pipeline.runs.restoring import PlaneWork, blend_tiles, restore_tiles
from dip_pipeline.runs.work import Record
from dip_pipeline.sensor import NoiseModel


@dataclass(frozen=True, slots=True)
class PlaneResult:
    """A plane whose tiles are there: their records, and how many were found done."""

    plane: Plane
    prior: PriorTask
    records: list[Record]
    found_done: int


def restore_planes(
    planes: Planes,
    priors: Sequence[tuple[PriorTask, StackFit | None]],
    run: RunDirectory,
    place: Place,
    told: Told,
) -> list[PlaneResult]:
    """Make the priors of planes, and their tiles.

    priors : of each plane, with the fit that it shares with others
    """
    works = [
        PlaneWork(prior, plane.tiles, planes.name_of(plane, told.source), stack)
        for plane, (prior, stack) in zip(planes.restored, priors, strict=True)
    ]
    ended = restore_tiles(works, run, place, told)
    return [
        PlaneResult(plane, prior, records, found_done)
        for plane, (prior, _), (records, found_done) in zip(
            planes.restored, priors, ended, strict=True
        )
    ]


def blend_planes(
    results: Sequence[PlaneResult],
    facts: Sequence[RunFacts],
    planes: Planes,
    run: RunDirectory,
    place: Place,
) -> tuple[list[RestoredFrame], list[RunFacts]]:
    """Blend the tiles of every plane; each gets the cards that tell of it, and its digests.

    Raises FrameError where a store that they were read of is not what it was.
    """
    for plane in planes.restored:
        check_unchanged(plane.origin)
    steps = _steps_by_hdu(results, facts, planes)
    blended = [
        replace(
            blend_tiles(result.prior.plan, result.plane.tiles, run, place),
            step=steps[result.plane.origin.where],
        )
        for result in results
    ]
    told = [
        replace(own, digests=digest_planes(made), step=made.step)
        for own, made in zip(facts, blended, strict=True)
    ]
    by_hdu: dict[str, list[RunFacts]] = {}
    for result, own in zip(results, told, strict=True):
        by_hdu.setdefault(result.plane.origin.where, []).append(own)
    cards = {where: run_cards(_pooled(several)) for where, several in by_hdu.items()}
    restored = [
        RestoredFrame(result.plane.product, made, cards[result.plane.origin.where])
        for result, made in zip(results, blended, strict=True)
    ]
    return [*restored, *(RestoredFrame(frame, None, ()) for frame, _ in planes.left)], told


def _steps_by_hdu(
    results: Sequence[PlaneResult], facts: Sequence[RunFacts], planes: Planes
) -> dict[str, float | None]:
    """One step for each HDU: the finest of its planes; None where one is to be stored exactly."""
    steps: dict[str, list[float | None]] = {}
    for result, own in zip(results, facts, strict=True):
        steps.setdefault(result.plane.origin.where, []).append(own.step)
    for frame, _ in planes.left:
        steps.setdefault(frame.where, []).append(None)
    return {where: _finest(of_hdu) for where, of_hdu in steps.items()}


def _finest(steps: Sequence[float | None]) -> float | None:
    known = [step for step in steps if step is not None]
    return min(known) if len(known) == len(steps) else None


def pooled_facts(facts: Sequence[RunFacts], planes: Planes) -> RunFacts:
    """Facts of a run over all its planes; of one plane, its own."""
    if len(facts) == 1 and not planes.left:
        return facts[0]
    return replace(
        _pooled(facts),
        planes=tuple(
            (plane.frame.label, own) for plane, own in zip(planes.restored, facts, strict=True)
        ),
        left=tuple((frame.label, reason) for frame, reason in planes.left),
    )


def _pooled(facts: Sequence[RunFacts]) -> RunFacts:
    """Tiles of several planes together; numbers of the noise only where all have the same law."""
    first = facts[0]
    if len(facts) == 1:
        return first
    alike = all(own.noise == first.noise for own in facts)
    return replace(
        first,
        noise=first.noise if alike else NoiseModel(first.noise.kind, "a law for each plane"),
        tiles=[tile for own in facts for tile in own.tiles],
        frame_pixels=sum(own.frame_pixels for own in facts),
        moved_cards=tuple(dict.fromkeys(card for own in facts for card in own.moved_cards)),
        digests={},  # each plane has its own
        step=max((own.step for own in facts if own.step is not None), default=None),
    )
