"""Further exposures of a frame's sky: opened, checked, registered, ready to be cut with it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.ndimage import map_coordinates

from dip_pipeline.config import RunConfig
from dip_pipeline.cutting import ExposureSource, Window
from dip_pipeline.errors import ContradictionError, ExposureError
from dip_pipeline.exposure_places import by_sky, in_frames, in_windows, middle_of, origin_of
from dip_pipeline.frames import (
    Camera,
    Frame,
    camera_of,
    file_digest,
    named_digest,
    open_frames,
)
from dip_pipeline.planning import settle_frame
from dip_pipeline.registration import (
    Registered,
    Seen,
    register,
    robust_level,
    see,
)
from dip_pipeline.restoration.optics import Optics
from dip_pipeline.sensor import NoiseModel, Sensor
from dip_pipeline.sensor_cards import exposure_of
from dip_pipeline.task import Task
from dip_pipeline.units import UnitKind, is_rate, unit_kind

log = logging.getLogger(__name__)

_SCALE_TOLERANCE = 0.01
_GAIN_TOLERANCE = 1e-3
_USUAL_FWHM_PX = 2.3  # of stars, where none can be measured
_MOST_FWHM_PX = 2.5  # well sampled; knots of a nebula that pass for stars may be wider
_NARROWER = 0.55  # than stars of the sharpest exposure the scene's Gaussian is taken
_FWHM = 2.3548


@dataclass(frozen=True, slots=True)
class Registration:
    """One further exposure: how to cut it, and how it compares with the reference."""

    source: ExposureSource
    found: Registered
    facts: dict[str, object]

    @property
    def words(self) -> str:
        """Tell it in one line."""
        found = self.found
        row, col = found.geometry.shift_px
        return (
            f"{self.source.frame.path.name}: at {row:+.2f} rows, {col:+.2f} columns ({found.how}); "
            f"light {self.source.flux_scale:.4g} ({found.how_flux}){found.seeing_words}"
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
        seen = {_identity(frames[0]): str(frames[0].path)}
        for name in config.task.exposures:
            found = open_frames(name, config.frame_reading())
            identity = _identity(found[0])
            if identity in seen:
                raise ExposureError(
                    f"{name}: the same exposure as {seen[identity]}; leave one of them out, its "
                    "noise would count twice"
                )
            seen[identity] = str(found[0].path)
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
        self, index: int, reference: Frame, noise: NoiseModel, optics: Optics
    ) -> tuple[Optics, list[Registration]]:
        """Register the exposures of one plane of the reference, and say how sharp they are.

        index : of the plane in its file
        reference : settled, with its noise
        Where each is restored for itself, one that contradicts it (clouds) is left out with a
        warning. Raises ExposureError for exposures that do not belong together, and where none is
        left.
        """
        window = middle_of(reference.shape)
        unit = _unit_of(reference, window)
        seen = _see(reference, window, noise, unit)
        first = _First(reference, noise, window, unit, seen, optics.summed)
        found = []
        for frames in self.frames:
            try:
                found.append(self._one(frames[index], first))
            except ContradictionError as error:
                if not self.config.task.each:
                    raise
                log.warning("%s: not used for %s (%s)", frames[index].path, reference.path, error)
        if not found:
            raise ExposureError(
                f"{reference.path}: no other exposure shows its sources; restore it alone"
            )
        known = [each.found.fwhm_px for each in found if np.isfinite(each.found.fwhm_px)]
        fwhm_px = min([*known, _MOST_FWHM_PX]) if known else _USUAL_FWHM_PX
        support_px = _NARROWER * fwhm_px / _FWHM * optics.factor
        return replace(optics, support_px=round(support_px, 4)), found

    def _one(self, frame: Frame, first: _First) -> Registration:
        reference, unit = first.frame, first.unit
        _check_alike(frame, reference, any_optics=self.config.fit.any_optics)
        settled, noise = settle_frame(frame, self.config)
        known, own_window = by_sky(settled, reference, first.window)
        own = _see(settled, own_window, noise, unit)
        origins = origin_of(own_window), origin_of(first.window)
        found = register(
            own,
            first.seen,
            known=None if known is None else in_windows(known, *origins),
            by_cards=_light_by_cards(frame, reference, noise.sensor, first.noise.sensor),
            summed=first.summed,
            any_optics=self.config.fit.any_optics,
        )
        offset = unit * _level_offset(own, first.seen, found)
        geometry = in_frames(found.geometry, *origins)
        saturation = noise.sensor.saturation_dn
        source = ExposureSource(
            frame=settled,
            noise=noise,
            saturation_dn=None if saturation is None else saturation.value,
            geometry=geometry,
            flux_scale=found.flux_scale,
            level_offset=offset,
            wider_px2=found.wider_px2,
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
            "wider_px2": found.wider_px2,
        }
        return Registration(source, replace(found, geometry=geometry), facts)


def _identity(frame: Frame) -> tuple[str, str]:
    """Tell an exposure by its file's content, whatever its name, and its place in there."""
    return file_digest(frame.path), frame.label


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


def _unit_of(frame: Frame, window: Window) -> float:
    """Power of two near the scatter of a frame: exposures are seen in it.

    In their own unit the squares of their pixels may be 1e-50.
    """
    _, scatter = robust_level(frame.read(*window).science)
    return 2.0 ** round(np.log2(scatter)) if scatter > 0 else 1.0


def _see(frame: Frame, window: Window, noise: NoiseModel, unit: float) -> Seen:
    pixels = frame.read(*window)
    masked = pixels.masked.copy()
    saturation = noise.sensor.saturation_dn
    if saturation is not None:
        masked |= pixels.science >= saturation.value
    if pixels.saturated is not None:
        masked |= pixels.saturated
    science = (pixels.science.astype(np.float64) / unit).astype(np.float32)
    return see(str(frame.path), science, masked)


def _light_by_cards(
    frame: Frame, reference: Frame, own: Sensor, other: Sensor
) -> tuple[float, str] | None:
    """Light of a frame for one unit of the reference's, where their pixels count; and how.

    By exposure times, unless they were divided out, and where data numbers are counted by gains.
    """
    kind = unit_kind(frame.unit)
    if kind is UnitKind.CALIBRATED:
        return None
    scale, words = 1.0, []
    times = [_seconds(each) for each in (frame, reference)]
    if not is_rate(kind) and times[0] is not None and times[1] is not None:
        scale, words = times[0] / times[1], ["exposure times"]
    if kind not in (UnitKind.ELECTRONS, UnitKind.ELECTRON_RATE):
        gain, of_reference = _named_gain(own), _named_gain(other)
        if is_rate(kind) and times[0] is not None and times[1] is not None:
            # Of a rate, a gain holds the exposure time.
            gain, of_reference = gain / times[0], of_reference / times[1]
        if abs(gain / of_reference - 1) > _GAIN_TOLERANCE:  # False where one is NaN
            scale, words = scale * of_reference / gain, [*words, "gains"]
    return (scale, " and ".join(words)) if words else None


def _named_gain(sensor: Sensor) -> float:
    """Gain that a card or the user names; NaN for one that was estimated from the pixels."""
    gain = sensor.gain_e_per_dn
    return np.nan if gain is None or gain.source.startswith("estimated") else gain.value


def _seconds(frame: Frame) -> float | None:
    exposure = exposure_of(frame.header)
    return None if exposure is None else exposure.value


def _level_offset(own: Seen, reference: Seen, found: Registered) -> float:
    """Level of the exposure where the reference has none: median of what differs, place by place.

    Not the difference of two skies: a nebula lies elsewhere in each exposure.
    """
    rows, cols = own.pixels.shape
    step = max(1, int(np.sqrt(rows * cols / 250_000)))
    row, col = np.mgrid[0:rows:step, 0:cols:step]
    places = np.column_stack([row.ravel(), col.ravel()]).astype(float)
    there = found.geometry.to_reference(places)
    light = map_coordinates(
        np.where(reference.usable, reference.pixels, np.nan).astype(np.float64),
        there.T,
        order=1,
        cval=np.nan,
    )
    here = np.where(own.usable, own.pixels, np.nan)[row.ravel(), col.ravel()]
    level, _ = robust_level((here - found.flux_scale * light).astype(np.float32))
    return level
