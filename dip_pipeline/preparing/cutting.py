"""Problems cut out of a frame, and the digest of all in them that decides their pixels."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from dip_pipeline.frames import Frame, Guide
from dip_pipeline.machine.gpus import gpu_count
from dip_pipeline.registration import Geometry, Surface
from dip_pipeline.restoration.forward.optics import Exposure, Mixture, Optics
from dip_pipeline.restoration.problem import FitOptions, Problem
from dip_pipeline.restoration.scene.beyond_edges import beyond_edges
from dip_pipeline.sensor import NoiseKind, NoiseModel
from dip_pipeline.sensor.noise_sigma import sigma_plane

Window = tuple[slice, slice]

_BESIDE_PX = 8  # of an exposure around what a window of the reference shows of it
_LEAST_PX = 8  # a side; of an exposure less is not worth reading
LEVEL_PX = 5  # side of the square whose mean is the level that noise is told at

_WORDS = {"source", "unit", "rung", "guesses", "notes"}  # of the numbers of a noise law


@dataclass(frozen=True, slots=True)
class ExposureSource:
    """Cuts a further exposure to what a window of the reference shows of it; see `Exposure`.

    level_offset : in the middle of what both see; sky : what is to be added to it elsewhere, over
        the exposure's own pixels
    """

    frame: Frame
    noise: NoiseModel
    saturation_dn: float | None
    geometry: Geometry
    flux_scale: float
    level_offset: float
    wider_px2: float = 0.0
    seeing: Mixture = ()
    sky: Surface = field(default_factory=Surface)

    def exposure(self, window: Window) -> Exposure | None:
        """Read its part of a window of the reference; None where it has hardly any."""
        corners = np.array([(r, c) for r in _ends(window[0]) for c in _ends(window[1])], float)
        places = self.geometry.to_exposure(corners)
        spans = window_around(places, self.frame.shape, _BESIDE_PX, _LEAST_PX)
        if spans is None:
            return None
        rows, cols = spans
        pixels = self.frame.read(rows, cols)
        saturated = pixels.saturated_from(self.saturation_dn)
        matrix = np.asarray(self.geometry.matrix)
        shift = matrix @ np.array([rows.start, cols.start]) + np.asarray(self.geometry.shift_px)
        row, col = (shift - np.array([window[0].start, window[1].start])).tolist()
        return Exposure(
            pixels=pixels.science,
            error=pixels.error if self.noise.from_error_plane else None,
            masked=pixels.masked & ~saturated,
            saturated=saturated,
            noise=self.noise,
            matrix=self.geometry.matrix,
            shift_px=(row, col),
            flux_scale=self.flux_scale,
            level_offset=self._offset(rows, cols),
            wider_px2=self.wider_px2,
            seeing=self.seeing,
        )

    def _offset(self, rows: slice, cols: slice) -> float | NDArray[np.float64]:
        """Level of each pixel of a part, from its place alone; one number where it is the same."""
        if self.sky.is_level:
            return self.level_offset
        row, col = np.arange(rows.start, rows.stop), np.arange(cols.start, cols.stop)
        return self.level_offset + self.sky.at(row[:, None], col[None, :])


@dataclass(frozen=True, slots=True)
class ProblemSource:
    """Cuts problems out of a frame.

    guides : other images of the same sky
    optics : between the scene that is asked for and the pixels; None: the scene is what they show
    exposures : further ones, to be combined with the frame
    """

    frame: Frame
    noise: NoiseModel
    options: FitOptions
    saturation_dn: float | None
    device: str
    threads: int
    guides: tuple[Guide, ...] = ()
    optics: Optics | None = None
    exposures: tuple[ExposureSource, ...] = ()

    def problem(self, window: Window, *, seed: int, inner: Window | None = None) -> Problem:
        """Read one window of the frame as a problem to restore.

        Where a PSF is undone it goes on beyond the frame's edges: see `beyond_edges`.
        """
        pixels = self.frame.read(*window)
        science = pixels.science
        saturated = pixels.saturated_from(self.saturation_dn)
        exposures = [
            replace(exposure, number=number)
            for number, each in enumerate(self.exposures, start=1)
            if (exposure := each.exposure(window)) is not None
        ]
        problem = Problem(
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
            exposures=tuple(exposures),
        )
        if problem.keeps_spikes:
            problem = _without_spikes(problem)
        return problem if self.exposures else beyond_edges(problem, self.frame.shape)


def _without_spikes(problem: Problem) -> Problem:
    """Have pixels that are far sharper than light kept, and all around restored without them.

    Those of exposures that stand beside it tell nothing of others either.
    """
    kept = _spikes_of(problem, problem.noise, problem.error)
    if kept is not None and kept.any():
        problem = replace(problem, masked=problem.masked | kept, kept=kept)
    exposures = []
    for each in problem.exposures:
        spikes = _spikes_of(each, each.noise, each.error)
        exposures.append(each if spikes is None else replace(each, masked=each.masked | spikes))
    return replace(problem, exposures=tuple(exposures))


def _spikes_of(
    seen: Problem | Exposure, noise: NoiseModel, error: NDArray[np.float32] | None
) -> NDArray[np.bool_] | None:
    """Find pixels that are far sharper than light; None where nothing tells."""
    from dip_pipeline.restoration.images.spikes import spikes_of  # torch loads here

    valid = ~seen.masked & ~seen.saturated & np.isfinite(seen.pixels)
    if noise.kind is NoiseKind.NONE or not valid.any():
        return None
    sigma = sigma_around(seen.pixels, valid, noise, error)
    return spikes_of(np.where(valid, seen.pixels, np.float32(np.nan)), sigma)


def sigma_around(
    pixels: NDArray[np.float32],
    known: NDArray[np.bool_],
    noise: NoiseModel,
    error: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """Give the noise that pixels have at the level around them; some of them must be known."""
    level = uniform_filter(np.where(known, pixels, np.median(pixels[known])), LEVEL_PX)
    return sigma_plane(noise, level, error)


def _ends(span: slice) -> tuple[int, int]:
    return span.start, span.stop - 1


def window_around(
    places: NDArray[np.float64], shape: tuple[int, int], beside_px: int, least_px: int
) -> Window | None:
    """Rows and columns of a frame that hold places, (n, 2), and so many pixels beside them.

    None where the frame has less than least_px of them along a side.
    """
    spans = []
    for low, high, side in zip(places.min(axis=0), places.max(axis=0), shape, strict=True):
        first = max(0, int(np.floor(low)) - beside_px)
        last = min(side, int(np.ceil(high)) + beside_px + 1)
        if last - first < least_px:
            return None
        spans.append(slice(first, last))
    return spans[0], spans[1]


def _device_here(device: str) -> str:
    """Device of the process that runs; "auto" was left for it to decide."""
    if device != "auto":
        return device
    return "cuda:0" if gpu_count() > 0 else "cpu"


def problems_key(problems: Sequence[Problem], shape: tuple[int, int], *more: object) -> str:
    """Sha256, in hexadecimal digits, of all in some problems that decides what comes of them.

    shape : of the frame they were cut from; more : what else decides, such as a prior's digest.
    The device is not in it, nor where numbers of the noise law were found.
    """
    digest = hashlib.sha256()
    for problem in problems:
        facts = [asdict(problem.options), asdict(problem.noise), problem.seed, problem.threads]
        facts += [] if problem.optics is None else [asdict(problem.optics)]
        facts += [_facts_of(each) for each in problem.exposures]
        text = json.dumps(
            [_facts_only(facts), problem.origin, problem.pixels.shape, shape, more, problem.inner],
            sort_keys=True,
            default=_as_text,
        )
        digest.update(text.encode())
        planes: tuple[Problem | Exposure, ...] = (problem, *problem.exposures)
        for each in planes:
            error = [] if each.error is None else [each.error]
            for plane in (each.pixels, each.masked, each.saturated, *error):
                digest.update(plane.tobytes())
        for plane in problem.guides:
            digest.update(plane.tobytes())
    return digest.hexdigest()


def _facts_of(exposure: Exposure) -> dict[str, object]:
    return {
        "noise": asdict(exposure.noise),
        "place": [exposure.pixels.shape, exposure.matrix, exposure.shift_px],
        "light": [exposure.flux_scale, exposure.level_offset],
        "wider_px2": exposure.wider_px2,
        "seeing": exposure.seeing,
    }


def _facts_only(value: object) -> object:
    """Leave out words about where a number comes from."""
    if isinstance(value, dict):
        return {k: _facts_only(v) for k, v in value.items() if k not in _WORDS}
    return [_facts_only(item) for item in value] if isinstance(value, list | tuple) else value


def _as_text(value: object) -> str:
    if isinstance(value, np.ndarray):
        return hashlib.sha256(value.tobytes()).hexdigest()
    return repr(value)
