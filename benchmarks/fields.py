"""The fields that methods are compared on, each with its truth and what everybody is told of it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.stats import sigma_clipped_stats
from numpy.typing import NDArray

from benchmarks.stabilising import Anscombe, Stabiliser, White
from dip_pipeline.errors import ConfigError
from dip_pipeline.quality import Truth
from dip_pipeline.simulate import (
    GALAXY,
    STAR,
    Card,
    DetectorOptions,
    MoffatPsf,
    Scene,
    SceneKind,
    SceneOptions,
    draw_scene,
    noise_kernel,
    observe,
)

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]

EXTRA_DATA = "DIP_EXTRA_DATA"
NEIGHBOUR_CORRELATION = 0.4
ROOM_FOR_A_BRIGHT_STAR_PX = 256  # in smaller fields its wings would be all there is
NOISE_FACTOR = 8.0  # noise added to what was observed, in median errors of it


class FieldKind(StrEnum):
    """What is observed."""

    CROWDED = "crowded"
    GALAXIES = "galaxies"
    NEBULA = "nebula"
    CORRELATED = "correlated"  # galaxies and stars under noise whose neighbours correlate by 0.4
    JWST = "jwst"  # a stamp of NIRCam under white noise of 8 times its median error
    SDSS = "sdss"  # the same of a survey's image: a spiral galaxy and stars
    M13 = "m13"  # the same of a photographic plate of a globular cluster
    DUST = "dust"  # the same of the Galactic centre at 1.1 mm
    NOISE = "noise"  # nothing but sky
    F16 = "f16"  # the paper's picture in colour; drawn by `colour`


@dataclass(frozen=True, slots=True)
class ObservedImage:
    """An image of the extra data that is taken for the truth.

    name, errors : its file, and that of its errors ("": its noise is measured on its sky)
    unit : of its pixels; side_px : the largest square in it
    """

    name: str
    errors: str
    unit: str
    side_px: int


OBSERVED = {
    FieldKind.JWST: ObservedImage(
        "jwst/jw01324001001-01324-o001_t001_nircam_clear-f200w_i2d_stamp_512.fits",
        "jwst/jw01324001001-01324-o001_t001_nircam_f200w.noise_512.fits",
        "MJy/sr",
        512,
    ),
    FieldKind.SDSS: ObservedImage("multi_band/reprojected_sdss_g.fits.bz2", "", "nmgy", 496),
    FieldKind.M13: ObservedImage("compressed/m13.fits", "", "adu", 300),
    FieldKind.DUST: ObservedImage("nan/gc_bolocam_gps.fits.gz", "", "Jy/beam", 512),
}

SIMULATED = (FieldKind.CROWDED, FieldKind.GALAXIES, FieldKind.NEBULA)


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One observed field; planes are (rows, cols), in the frame's unit.

    stabiliser : the law of the noise, as peers use it
    cards, told : the law of the noise, as a user gives it: header cards, options of the run
    kernel : white noise convolved with it correlates as the field's does; None for white noise
    own_sigma : noise that the truth itself holds, where it was observed
    """

    kind: FieldKind
    seed: int
    observed: Plane
    masked: Mask
    saturated: Mask
    truth: Truth
    stabiliser: Stabiliser
    cards: tuple[Card, ...] = ()
    told: Mapping[str, object] = field(default_factory=dict)
    kernel: NDArray[np.float64] | None = None
    own_sigma: Plane | None = None
    psf: MoffatPsf = field(default_factory=MoffatPsf)

    @property
    def usable(self) -> Mask:
        """Pixels that carry information."""
        usable: Mask = ~self.masked & ~self.saturated
        return usable


def draw(kind: FieldKind, seed: int, *, side_px: int = 512) -> Field:
    """Draw a square field; the same arguments give the same pixels."""
    return _DRAWN[kind](kind, seed, side_px)


def draw_without_defects(kind: FieldKind, seed: int, *, side_px: int = 512) -> Field:
    """Draw a simulated field without bad column, cosmic ray, trail or saturated star."""
    options = SceneOptions(
        SceneKind(kind.value), shape=(side_px, side_px), seed=seed, saturated_star=False
    )
    return _observed(kind, draw_scene(options), DetectorOptions(defects=False))


def extra_data() -> Path | None:
    """Folder of observed images, named by DIP_EXTRA_DATA; None where it names none."""
    folder = os.environ.get(EXTRA_DATA)
    return Path(folder) if folder else None


def extra_file(name: str) -> Path:
    """Find a file of the extra data. Raises ConfigError where it is not there."""
    folder = extra_data()
    if folder is None or not (folder / name).exists():
        raise ConfigError(
            f"{name}: not found in the folder that {EXTRA_DATA} names ({folder or 'not set'}); "
            "set it, or leave the field out with --fields"
        )
    return folder / name


def centre(image: NDArray[np.generic], side_px: int) -> NDArray[np.generic]:
    """Cut the square of that side from the middle of the last two axes."""
    rows, cols = image.shape[-2:]
    top, left = (rows - side_px) // 2, (cols - side_px) // 2
    if min(top, left) < 0:
        raise ConfigError(f"side of {side_px} px: the image has {rows} x {cols} px; take less")
    return image[..., top : top + side_px, left : left + side_px]


def _simulated(kind: FieldKind, seed: int, side_px: int) -> Field:
    return _observed(kind, _scene(SceneKind(kind.value), seed, side_px), DetectorOptions())


def _correlated(kind: FieldKind, seed: int, side_px: int) -> Field:
    """Galaxies and stars as after resampling: cleaned of defects, no integers any more."""
    detector = DetectorOptions(
        defects=False, quantised=False, neighbour_correlation=NEIGHBOUR_CORRELATION
    )
    drawn = _observed(kind, _scene(SceneKind.GALAXIES, seed, side_px), detector)
    return replace(
        drawn,
        kernel=noise_kernel(NEIGHBOUR_CORRELATION),
        told={"noise.correlation": NEIGHBOUR_CORRELATION},
    )


def _pure_noise(kind: FieldKind, seed: int, side_px: int) -> Field:
    options = SceneOptions(shape=(side_px, side_px), seed=seed, saturated_star=False)
    sky = Scene(options, np.zeros(0, STAR), np.zeros(0, GALAXY))
    return _observed(kind, sky, DetectorOptions(defects=False))


def _scene(kind: SceneKind, seed: int, side_px: int) -> Scene:
    shape = (side_px, side_px)
    saturated = side_px >= ROOM_FOR_A_BRIGHT_STAR_PX
    return draw_scene(SceneOptions(kind, shape=shape, seed=seed, saturated_star=saturated))


def _observed(kind: FieldKind, scene: Scene, detector: DetectorOptions) -> Field:
    frame = observe(scene, detector)
    return Field(
        kind=kind,
        seed=scene.options.seed,
        observed=frame.observed_dn,
        masked=frame.masked & ~frame.saturated,
        saturated=frame.saturated,
        truth=Truth(frame.truth_dn, frame.signal_dn, frame.sigma_true_dn, frame.stars),
        stabiliser=Anscombe(detector.gain_e_per_dn, detector.read_noise_e, detector.pedestal_dn),
        cards=frame.header_cards(),
        psf=scene.options.psf,
    )


def _under_noise(kind: FieldKind, seed: int, side_px: int) -> Field:
    """Take what was observed as the truth: its own noise is in every method's result.

    Where no error plane tells that noise it is not taken off: a sky scatters by faint sources, too.
    """
    image = OBSERVED[kind]
    side_px = min(side_px, image.side_px)
    stamp = _read(extra_file(image.name), side_px)
    errors = _read(extra_file(image.errors), side_px) if image.errors else None
    sky_sigma = _sky_sigma(stamp) if errors is None else float(np.nanmedian(errors))
    unknown = ~np.isfinite(stamp if errors is None else stamp + errors)
    level = np.where(unknown, np.float32(np.nanmedian(stamp)), stamp)
    sigma = NOISE_FACTOR * sky_sigma
    rng = np.random.default_rng([seed, 0x1357])
    noisy = (level + sigma * rng.standard_normal(level.shape)).astype(np.float32)
    return Field(
        kind=kind,
        seed=seed,
        observed=np.where(unknown, np.float32(np.nan), noisy),
        masked=unknown,
        saturated=np.zeros(level.shape, bool),
        truth=Truth(level, level - np.median(level), np.full_like(level, sigma)),
        stabiliser=White(sigma),
        cards=(("BUNIT", image.unit, "unit of the pixels"),),
        told={"noise.sigma": sigma},
        own_sigma=None if errors is None else np.where(unknown, np.float32(0), errors),
    )


def _read(path: Path, side_px: int) -> Plane:
    with fits.open(path) as hdus:
        image = next(hdu.data for hdu in hdus if hdu.data is not None)
    return np.ascontiguousarray(centre(image, side_px), np.float32)


def _sky_sigma(image: Plane) -> float:
    """Scatter of the sky; sources are clipped away."""
    _, _, sigma = sigma_clipped_stats(image[np.isfinite(image)])
    return float(sigma)


_DRAWN: dict[FieldKind, Callable[[FieldKind, int, int], Field]] = {
    **dict.fromkeys(SIMULATED, _simulated),
    FieldKind.CORRELATED: _correlated,
    **dict.fromkeys(OBSERVED, _under_noise),
    FieldKind.NOISE: _pure_noise,
}
