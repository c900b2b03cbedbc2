"""Further exposures of a frame's sky: opened, checked, registered, ready to be cut with it."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from dip_pipeline.config import RunConfig
from dip_pipeline.errors import ContradictionError, EmptyFrameError, ExposureError
from dip_pipeline.exposures.alike import check_alike, check_observed, check_planes, filter_by_filter
from dip_pipeline.exposures.changes import (
    change_facts,
    changes_in_words,
    source_changes,
    unlike_sources,
    warn_of_trails,
)
from dip_pipeline.exposures.keeping import Kept
from dip_pipeline.exposures.light import level_offset, light_by_cards, see_window, unit_of
from dip_pipeline.exposures.places import (
    by_sky,
    in_frames,
    in_windows,
    middle_of,
    origin_of,
    whole_if_most,
)
from dip_pipeline.exposures.registration import (
    Registration,
    better_first,
    warn_of_seeing,
    with_seeing,
)
from dip_pipeline.exposures.settling import see_guide, settle_guide
from dip_pipeline.exposures.skies import FrameLight, sky_difference
from dip_pipeline.frames import (
    Frame,
    file_digest,
    identities,
    named_digest,
    open_frames,
)
from dip_pipeline.preparing.cutting import ExposureSource, Window
from dip_pipeline.preparing.planning import settle_frame
from dip_pipeline.progress import Told
from dip_pipeline.registration import FWHM_OF_SIGMA, Seen, register
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.sensor import NoiseModel
from dip_pipeline.task import Task

log = logging.getLogger(__name__)

_USUAL_FWHM_PX = 2.3  # of stars, where none can be measured
_MOST_FWHM_PX = 2.5  # well sampled; knots of a nebula that pass for stars may be wider
_SAMPLED_FWHM_PX, _FINER = 3.0, 2  # stars narrower than that are moved about on finer pixels
_NARROWER = 0.55  # than stars of the sharpest exposure the scene's Gaussian is taken
# The same of stars that are hardly sampled: they measure up to 1.25 times as wide as they are.
_NARROWER_OF_NARROW = 0.45

_Pair = tuple[Frame, NoiseModel, Frame, NoiseModel]
# How frames lie on each other, some kB each, with these, so that no other object has their ids.
_pairs: Kept[tuple[_Pair, Registration]] = Kept(4096)


@dataclass(frozen=True, slots=True)
class _First:
    """The reference of a run as its exposures are compared with it.

    unit : that all are seen in; summed : see `register`
    """

    frame: Frame
    noise: NoiseModel
    window: Window
    unit: float
    seen: Seen
    summed: bool


@dataclass(frozen=True, slots=True)
class Exposures:
    """The further exposures of a run, each with the planes of its file."""

    frames: tuple[tuple[Frame, ...], ...]
    config: RunConfig

    @classmethod
    def of(cls, config: RunConfig, frames: Sequence[Frame]) -> Self | None:
        """Open what the configuration names; None where nothing is to be combined.

        Raises ExposureError for a file given twice, and for one of another number of planes.
        """
        if config.task.name is not Task.COMBINE:
            return None
        opened = []
        check_observed(frames[0])
        seen = dict.fromkeys(identities(frames[0]), str(frames[0].path))
        for name in config.task.exposures:
            found = open_frames(name, config.frame_reading())
            check_observed(found[0])
            told = identities(found[0])
            if known := next((one for one in told if one in seen), None):
                raise ExposureError(
                    f"{name}: the same exposure as {seen[known]}; leave one of them out, its "
                    "noise would count twice"
                )
            seen |= dict.fromkeys(told, str(found[0].path))
            check_planes(found, frames, name)
            opened.append(filter_by_filter(found, frames, any_optics=config.fit.any_optics))
        return cls(tuple(opened), config)

    @property
    def first_planes(self) -> list[Frame]:
        """One frame of each file."""
        return [frames[0] for frames in self.frames]

    def register(
        self,
        index: int,
        reference: Frame,
        noise: NoiseModel,
        optics: Optics,
        *,
        told: Told,
    ) -> tuple[Optics, list[Registration]]:
        """Register the exposures of one plane of the reference, and say how sharp they are.

        index : of the plane in its file
        reference : settled, with its noise; told : hears of each as it is found
        Where each is restored for itself, one that contradicts it (clouds) or shows nothing is left
        out with a warning. Raises ExposureError for exposures that do not belong together, and
        ContradictionError where none is left.
        """
        window = middle_of(reference.shape)
        unit = unit_of(reference, window)
        see = see_guide if self.config.task.each else see_window
        seen = see(reference, window, noise, unit)
        first = _First(reference, noise, window, unit, seen, optics.summed)
        found = []
        for one in self._compared([frames[index] for frames in self.frames], first):
            if one is not None:
                found.append(one)
                told.progress.note(f"{told.source}: {one.words}")
        self._tell_of_changes(reference, found, told)
        if not found:
            raise ContradictionError(
                f"{reference.path}: no other exposure shows its sources; restore it alone"
            )
        known = [each.found.fwhm_px for each in found if np.isfinite(each.found.fwhm_px)]
        if known and not self.config.task.each:
            warn_of_seeing(reference, found, min(known))
            if better := better_first(found, min(known)):
                told.progress.note(f"{told.source}: {better}")
        fwhm_px = min([*known, _MOST_FWHM_PX]) if known else _USUAL_FWHM_PX
        own, found = with_seeing(seen, found)
        narrow = min(known, default=_USUAL_FWHM_PX) < _SAMPLED_FWHM_PX
        solving = _FINER if narrow and optics.factor == 1 else 1
        share = _NARROWER if solving == 1 else _NARROWER_OF_NARROW
        support_px = share * fwhm_px / FWHM_OF_SIGMA * optics.factor
        optics = replace(optics, support_px=round(support_px, 4), solving=solving, seeing=own)
        return optics, found

    def _tell_of_changes(self, reference: Frame, found: Sequence[Registration], told: Told) -> None:
        """Say which sources are not the same in all exposures."""
        names = [reference.path.name, *(each.source.frame.path.name for each in found)]
        compared = [each.found.compared for each in found]
        warn_of_trails(names, compared)
        for number, words in unlike_sources(names, compared).items():
            if number > 0 and self.config.task.each:  # warned of once: beside its own product
                told.progress.note(f"{told.source}: {words}")
            else:
                log.warning("%s", words)
        changes = source_changes(names, [each.changes for each in compared])
        if not changes:
            return
        what = (
            ""
            if self.config.task.each
            else (
                "; the result has the mean of what varies, less of it where that is by half or "
                "more, and nothing of what one alone shows"
            )
        )
        told.progress.note(f"{told.source}: {changes_in_words(changes)}{what}")

    def _compared(self, frames: Sequence[Frame], first: _First) -> Iterator[Registration | None]:
        """Compare frames with the reference, some at a time; gives what is found in their order."""
        at_once = min(self.config.threads_per_fit, len(frames))
        if at_once <= 1:
            yield from (self._if_any(frame, first) for frame in frames)
            return
        pool = ThreadPoolExecutor(at_once, thread_name_prefix="dip-register")
        try:
            futures = [pool.submit(self._if_any, frame, first) for frame in frames]
            yield from (future.result() for future in futures)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _if_any(self, frame: Frame, first: _First) -> Registration | None:
        """Compare a frame with the reference; None for one that guides nothing."""
        try:
            return self._one(frame, first)
        except (ContradictionError, EmptyFrameError) as error:
            if not self.config.task.each:
                raise
            log.warning("%s: not used for %s (%s)", frame.path, first.frame.path, error)
            return None

    def _one(self, frame: Frame, first: _First) -> Registration:
        check_alike(frame, first.frame, any_optics=self.config.fit.any_optics)
        if not self.config.task.each:
            return self._of(FrameLight(*settle_frame(frame, self.config)), first)
        own = FrameLight(*settle_guide(frame, self.config))
        # The very objects: those that are kept are of the same files and options.
        pair = own.frame, own.noise, first.frame, first.noise
        key = *map(id, pair), first.summed
        return _pairs.get_or_find(key, lambda: (pair, self._of(own, first)))[1]

    def _of(self, own_light: FrameLight, first: _First) -> Registration:
        reference, unit = first.frame, first.unit
        settled, noise = own_light.frame, own_light.noise
        known, own_window = by_sky(settled, reference, first.window)
        if self.config.task.each:
            own_window = whole_if_most(own_window, settled.shape)  # the same for all references
            own = see_guide(settled, own_window, noise, unit)
        else:
            own = see_window(settled, own_window, noise, unit)
        origins = origin_of(own_window), origin_of(first.window)
        found = register(
            own,
            first.seen,
            known=None if known is None else in_windows(known, *origins),
            by_cards=light_by_cards(settled, reference, noise.sensor, first.noise.sensor),
            summed=first.summed,
            any_optics=self.config.fit.any_optics,
        )
        geometry = in_frames(found.geometry, *origins)
        row, col = origins[1].tolist()
        changes = tuple(
            replace(each, row=each.row + row, col=each.col + col) for each in found.compared.changes
        )
        sky = sky_difference(
            own_light,
            FrameLight(reference, first.noise),
            geometry,
            found.flux_scale,
            unit,
            found.between,
        )
        sky.warn(settled, reference)
        offset = sky.offset
        if not np.isfinite(offset):
            offset = unit * level_offset(own, first.seen, found)
        saturation = noise.sensor.saturation_dn
        source = ExposureSource(
            frame=settled,
            noise=noise,
            saturation_dn=None if saturation is None else saturation.value,
            geometry=geometry,
            flux_scale=found.flux_scale,
            level_offset=offset,
            wider_px2=found.wider_px2,
            sky=sky.surface,
        )
        facts: dict[str, object] = {
            "file": settled.path.name,
            "plane": settled.label,
            "sha256": file_digest(settled.path),
            "matrix": [list(row) for row in geometry.matrix],
            "shift_px": list(geometry.shift_px),
            "shift_error_px": found.error_px if np.isfinite(found.error_px) else None,
            "registered_by": found.how,
            "flux_scale": found.flux_scale,
            "flux_scale_by": found.how_flux,
            "level_offset": offset,
            **sky.facts(),
            "wider_px2": found.wider_px2,
            "drawn_out": found.compared.drawn_out,
            **change_facts(changes, unit),
        }
        placed = replace(
            found, geometry=geometry, compared=replace(found.compared, changes=changes)
        )
        return Registration(source, placed, facts, sky)


def exposure_role(number: int) -> str:
    """Name the role of a further exposure, counted from 1, in the key of a run."""
    return f"exposure-{number}"


def exposure_digests(config: RunConfig) -> dict[str, str]:
    """Sha256 of the further exposures, by role."""
    digests: dict[str, str] = {}
    if config.task.name is Task.COMBINE:
        for number, name in enumerate(config.task.exposures, start=1):
            digests |= named_digest(exposure_role(number), name)
    return digests
