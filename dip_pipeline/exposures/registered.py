"""Further exposures of a frame's sky: opened, checked, registered, ready to be cut with it."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from dip_pipeline.account.restored_input import inferred_by
from dip_pipeline.config import RunConfig
from dip_pipeline.errors import (
    ContradictionError,
    EmptyFrameError,
    ExposureError,
    FrameError,
)
from dip_pipeline.exposures.changes import (
    change_facts,
    changes_in_words,
    source_changes,
    warn_of_trails,
)
from dip_pipeline.exposures.light import level_offset, light_by_cards, see_window, unit_of
from dip_pipeline.exposures.places import by_sky, in_frames, in_windows, middle_of, origin_of
from dip_pipeline.exposures.settling import settle_guide
from dip_pipeline.exposures.skies import FrameLight, SkyDifference, sky_difference
from dip_pipeline.frames import (
    Camera,
    Frame,
    camera_of,
    file_digest,
    identities,
    named_digest,
    open_frames,
)
from dip_pipeline.preparing.cutting import ExposureSource, Window
from dip_pipeline.preparing.planning import settle_frame
from dip_pipeline.progress import Told
from dip_pipeline.registration import (
    FWHM_OF_SIGMA,
    Mixture,
    Registered,
    Seen,
    StarRings,
    mixture_between,
    register,
    star_rings,
)
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.sensor import NoiseModel
from dip_pipeline.task import Task

log = logging.getLogger(__name__)

_SCALE_TOLERANCE = 0.01
_USUAL_FWHM_PX = 2.3  # of stars, where none can be measured
_MOST_FWHM_PX = 2.5  # well sampled; knots of a nebula that pass for stars may be wider
_NARROWER = 0.55  # than stars of the sharpest exposure the scene's Gaussian is taken
_MOST_WIDER = 1.7  # stars, than those of the sharpest exposure
_FIRST_WIDER = 1.15  # from where on another should be given first


@dataclass(frozen=True, slots=True)
class Registration:
    """One further exposure: how to cut it, and how it compares with the reference."""

    source: ExposureSource
    found: Registered
    facts: dict[str, object]
    sky: SkyDifference

    @property
    def words(self) -> str:
        """Tell it in one line."""
        found = self.found
        row, col = found.geometry.shift_px
        return (
            f"{self.source.frame.path.name}: at {row:+.2f} rows, {col:+.2f} columns ({found.how}); "
            f"light {self.source.flux_scale:.4g} ({found.how_flux}){found.seeing_words}"
            f"{self.sky.words(self.source.frame.unit)}"
        )


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
        _check_observed(frames[0])
        seen = dict.fromkeys(identities(frames[0]), str(frames[0].path))
        for name in config.task.exposures:
            found = open_frames(name, config.frame_reading())
            _check_observed(found[0])
            told = identities(found[0])
            if known := next((one for one in told if one in seen), None):
                raise ExposureError(
                    f"{name}: the same exposure as {seen[known]}; leave one of them out, its "
                    "noise would count twice"
                )
            seen |= dict.fromkeys(told, str(found[0].path))
            if len(found) != len(frames):
                raise ExposureError(
                    f"{name}: {len(found)} science planes, {frames[0].path} has {len(frames)}; "
                    "exposures with the same planes are needed, or one plane of each, FILE[EXT]"
                )
            opened.append(found)
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
        seen = see_window(reference, window, noise, unit)
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
            _warn_of_seeing(reference, found, min(known))
            if better := _better_first(found, min(known)):
                told.progress.note(f"{told.source}: {better}")
        fwhm_px = min([*known, _MOST_FWHM_PX]) if known else _USUAL_FWHM_PX
        support_px = _NARROWER * fwhm_px / FWHM_OF_SIGMA * optics.factor
        own, found = _with_seeing(seen, found)
        return replace(optics, support_px=round(support_px, 4), seeing=own), found

    def _tell_of_changes(self, reference: Frame, found: Sequence[Registration], told: Told) -> None:
        """Say which sources are not the same in all exposures."""
        names = [reference.path.name, *(each.source.frame.path.name for each in found)]
        warn_of_trails(names, [each.found.compared for each in found])
        changes = source_changes(names, [each.found.compared.changes for each in found])
        if not changes:
            return
        what = (
            ""
            if self.config.task.each
            else ("; the result has the mean of what varies, and nothing of what one alone shows")
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
        reference, unit = first.frame, first.unit
        _check_alike(frame, reference, any_optics=self.config.fit.any_optics)
        settle = settle_guide if self.config.task.each else settle_frame
        settled, noise = settle(frame, self.config)
        known, own_window = by_sky(settled, reference, first.window)
        own = see_window(settled, own_window, noise, unit)
        origins = origin_of(own_window), origin_of(first.window)
        found = register(
            own,
            first.seen,
            known=None if known is None else in_windows(known, *origins),
            by_cards=light_by_cards(frame, reference, noise.sensor, first.noise.sensor),
            summed=first.summed,
            any_optics=self.config.fit.any_optics,
        )
        geometry = in_frames(found.geometry, *origins)
        row, col = origins[1].tolist()
        changes = tuple(
            replace(each, row=each.row + row, col=each.col + col) for each in found.compared.changes
        )
        sky = sky_difference(
            FrameLight(settled, noise),
            FrameLight(reference, first.noise),
            geometry,
            found.flux_scale,
            unit,
        )
        sky.warn(frame, reference)
        even = sky.surface.is_level
        offset = unit * level_offset(own, first.seen, found) if even else sky.offset
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
            "file": frame.path.name,
            "plane": frame.label,
            "sha256": file_digest(frame.path),
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


def _with_seeing(
    reference: Seen, found: Sequence[Registration]
) -> tuple[Mixture, list[Registration]]:
    """Measure what lies between the stars of the sharpest and all others; first the reference's.

    () where it is one Gaussian, or nothing.
    """
    stars = np.arange(len(reference.stars))
    rings: list[StarRings | None] = [
        star_rings(reference, stars, stars, reference.stars.width_px, 1.0)
    ]
    rings += [each.found.rings for each in found]
    wider = [0.0, *(each.source.wider_px2 for each in found)]
    # Of all pixels of a star, not of one: larger pixels are fewer.
    fluxes = [1.0, *(each.found.flux_scale / each.found.geometry.scale**2 for each in found)]
    first = int(np.argmin(wider))
    sharpest = rings[first]
    mixtures = [
        mixture_between(sharpest, own, flux / fluxes[first])
        if sharpest is not None and own is not None and px2 > wider[first]
        else ()
        for own, px2, flux in zip(rings, wider, fluxes, strict=True)
    ]
    told = [
        replace(
            each,
            source=replace(each.source, seeing=mixture),
            facts={**each.facts, "seeing": [list(pair) for pair in mixture]},
        )
        for each, mixture in zip(found, mixtures[1:], strict=True)
    ]
    return mixtures[0], told


def _warn_of_seeing(
    reference: Frame, found: Sequence[Registration], sharpest_fwhm_px: float
) -> None:
    """Say which exposures are much wider than the sharpest: alone they cannot be made as sharp."""
    spread = [(reference.path, 0.0)]
    spread += [(each.source.frame.path, each.source.wider_px2) for each in found]
    least = min(wider_px2 for _, wider_px2 in spread)
    for path, wider_px2 in spread:
        fwhm_px = np.hypot(sharpest_fwhm_px, FWHM_OF_SIGMA * np.sqrt(wider_px2 - least))
        if fwhm_px > _MOST_WIDER * sharpest_fwhm_px:
            log.warning(
                "%s: its stars are %.1f times as wide as those of the sharpest exposure; where "
                "that does not reach, their light is off by some percent; leave it out, or combine "
                "it with others of its seeing",
                path,
                fwhm_px / sharpest_fwhm_px,
            )


def _better_first(found: Sequence[Registration], sharpest_fwhm_px: float) -> str:
    """Say which exposure should be given first, where one is sharper; else "".

    The scene has the pixels of the first: the finest of another falls between them.
    """
    sharpest = min(found, key=lambda each: each.source.wider_px2)
    by_px2 = -sharpest.source.wider_px2
    ratio = np.hypot(sharpest_fwhm_px, FWHM_OF_SIGMA * np.sqrt(max(by_px2, 0.0))) / sharpest_fwhm_px
    if ratio < _FIRST_WIDER:
        return ""
    return (
        f"its stars are {ratio:.1f} times as wide as those of {sharpest.source.frame.path.name}: "
        "give that one first, and the result has its pixels, which hold the sharpest light whole"
    )


def _check_observed(frame: Frame) -> None:
    """Raise ExposureError for a result of an earlier run: its noise is not an exposure's."""
    if task := inferred_by(frame):
        raise ExposureError(
            f"{frame.path}: a result of dip ({task}), whose noise hangs together and is no "
            "exposure's; combine the frames that it was made of"
        )


def readable_exposures(sources: Sequence[str], config: RunConfig) -> list[str]:
    """Those that can be opened, if these are two at least; else all: nothing can be done then."""
    found = []
    for source in sources:
        with suppress(FrameError):
            open_frames(source, config.frame_reading())
            found.append(source)
    return found if len(found) > 1 else list(sources)


def check_exposures(sources: Sequence[str], config: RunConfig) -> None:
    """Raise a DipError where exposures cannot guide each other: one line for all of them."""
    task = {"task.exposures": tuple(sources[1:])}
    first = open_frames(sources[0], config.frame_reading())
    others = Exposures.of(config.with_overrides(**task), first)
    for frames in others.frames if others else ():
        for frame, reference in zip(frames, first, strict=True):
            _check_alike(frame, reference, any_optics=config.fit.any_optics)


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


def _check_alike(frame: Frame, reference: Frame, *, any_optics: bool) -> None:
    """Raise ExposureError for another unit, filter or pixel scale."""
    if frame.unit.strip().casefold() != reference.unit.strip().casefold():
        raise ExposureError(
            f"{frame.path}: in {frame.unit or 'no unit'}, {reference.path} in "
            f"{reference.unit or 'no unit'}; exposures of one unit are needed"
        )
    if any_optics:
        return
    own, other = camera_of(frame.header), camera_of(reference.header)
    if own.filter and other.filter and own.filter.casefold() != other.filter.casefold():
        raise ExposureError(
            f"{frame.path}: filter {own.filter}, {reference.path}: {other.filter}; exposures of "
            "one filter are needed (--any-optics takes others)"
        )
    _check_scales(frame, reference, own, other)


def _check_scales(frame: Frame, reference: Frame, own: Camera, other: Camera) -> None:
    scales = own.pixel_scale_arcsec, other.pixel_scale_arcsec
    if scales[0] is None or scales[1] is None:
        return
    if abs(scales[0] / scales[1] - 1) > _SCALE_TOLERANCE:
        raise ExposureError(
            f"{frame.path}: {scales[0]:.4g} arcsec a pixel, {reference.path}: {scales[1]:.4g}; "
            "exposures of one pixel scale are needed (--any-optics takes others)"
        )
