"""The paper's own picture: F16 in colour under white noise of 25 of 255 levels."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from bm3d import BM3DProfile, bm3d_rgb
from matplotlib.image import imread
from numpy.typing import NDArray

from benchmarks.fields import Field, FieldKind, Plane, centre, extra_file
from benchmarks.methods import METHODS
from benchmarks.peers import recipe_for
from benchmarks.restored import Settings
from benchmarks.stabilising import White
from dip_pipeline.quality import Truth
from dip_pipeline.restoration.networks.published import fit_published, psnr_db

_PUBLISHED_SKIPS = {"paper": 4, "paper-no-skip": 0}
PICTURE = "dip_paper/denoising_F16_GT.png"
SIGMA = 25 / 255
# Orthonormal, so that noise stays white and as strong: brightness, and two differences.
_OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture in colour, (3, rows, cols), from 0 to 1, and the same under noise, not clipped."""

    clean: NDArray[np.float32]
    noisy: NDArray[np.float32]
    seed: int


@dataclass(frozen=True, slots=True)
class ColourFigures:
    """Peak signal-to-noise ratio, decibels.

    psnr_db : of what the method delivers (the paper's recipe: its running average)
    last_db, best_db : of the last single output of a fit and of the best along the way
    """

    psnr_db: float
    seconds: float
    last_db: float | None = None
    best_db: float | None = None


def draw_picture(seed: int, *, side_px: int = 512) -> Picture:
    """Put noise on the paper's picture, or on the middle of it."""
    levels = np.moveaxis(imread(extra_file(PICTURE))[..., :3], -1, 0)
    clean = centre(levels, side_px).astype(np.float32)
    noise = np.random.default_rng([seed, 0xF16]).standard_normal(clean.shape)
    return Picture(clean, (clean + SIGMA * noise).astype(np.float32), seed)


def restore_picture(picture: Picture, method: str, settings: Settings) -> ColourFigures:
    """Restore a picture and measure it; the paper's recipe clips its input, others do not.

    The paper's network and BM3D see all colours at once. Ours restores the brightness, which then
    guides the differences of colour, as a deep band guides another, and the first of these the
    second; other methods restore one plane at a time.
    """
    if method in _PUBLISHED_SKIPS:
        return _published(picture, settings, _PUBLISHED_SKIPS[method])
    if method == "bm3d":
        return _timed(picture, lambda noisy: _bm3d(noisy, settings))
    by_planes = _guided_by_brightness if METHODS[method].ours else _by_planes
    return _timed(picture, lambda noisy: by_planes(noisy, picture.seed, method, settings))


def _timed(
    picture: Picture, restore: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> ColourFigures:
    started = time.monotonic()
    restored = restore(picture.noisy)
    seconds = time.monotonic() - started
    return ColourFigures(psnr_db(np.clip(restored, 0, 1), picture.clean), seconds)


def _bm3d(noisy: NDArray[np.float32], settings: Settings) -> NDArray[np.float32]:
    profile = BM3DProfile()
    profile.num_threads = settings.threads
    planes = bm3d_rgb(np.moveaxis(noisy, 0, -1).astype(np.float64), SIGMA, profile)
    return np.asarray(np.moveaxis(planes, -1, 0), np.float32)


def _by_planes(
    noisy: NDArray[np.float32], seed: int, method: str, settings: Settings
) -> NDArray[np.float32]:
    """Restore three opponent colours as three frames."""
    restore = METHODS[method].run
    return _colours([restore(_frame(one, seed), settings).science for one in _opponent(noisy)])


def _guided_by_brightness(
    noisy: NDArray[np.float32], seed: int, method: str, settings: Settings
) -> NDArray[np.float32]:
    """Restore the brightness, then the differences of colour, guided by what is restored before."""
    restored: list[Plane] = []
    with tempfile.TemporaryDirectory() as folder:
        guides: list[str] = []
        for number, plane in enumerate(_opponent(noisy)):
            told = {"task.guides": tuple(guides)} if guides else {}
            frame = _frame(plane, seed, told)
            restored.append(METHODS[method].run(frame, settings).science)
            guides.append(str(Path(folder) / f"{number}.fits"))
            fits.PrimaryHDU(restored[-1]).writeto(guides[-1])
    return _colours(restored)


def _opponent(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.tensordot(_OPPONENT, colours, axes=1), np.float32)


def _colours(opponent: Sequence[Plane]) -> NDArray[np.float32]:
    return np.asarray(np.tensordot(_OPPONENT.T, np.stack(opponent), axes=1), np.float32)


def _frame(plane: Plane, seed: int, told: Mapping[str, object] | None = None) -> Field:
    nothing = np.zeros(plane.shape, bool)
    unknown = np.full_like(plane, np.nan)
    return Field(
        kind=FieldKind.F16,
        seed=seed,
        observed=plane,
        masked=nothing,
        saturated=nothing,
        truth=Truth(unknown, unknown, np.full_like(plane, SIGMA)),
        stabiliser=White(SIGMA),
        told={"noise.sigma": SIGMA, **(told or {})},
    )


def _published(picture: Picture, settings: Settings, skip_channels: int) -> ColourFigures:
    fit = fit_published(
        picture.noisy,
        recipe_for(settings, skip_channels),
        seed=picture.seed,
        device=settings.device,
        judge=lambda image: psnr_db(image, picture.clean),
    )
    return ColourFigures(
        psnr_db=psnr_db(fit.averaged, picture.clean),
        seconds=fit.seconds,
        last_db=psnr_db(fit.last, picture.clean),
        best_db=fit.best.last,
    )
