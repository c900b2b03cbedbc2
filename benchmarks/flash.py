"""The flash / no-flash pair of the deep image prior's paper, against the joint bilateral filter.

The luminance of a square of the pair. Nobody knows the truth: the figures are the noise in flat
patches, at the same contrast of edges. Patches are those where the flash image is flattest; edges
are its strongest gradients, and their contrast is the step of the result across them, with the sign
that the flash image gives it, averaged over so many that noise does not matter. Of the settings
of the filter that keep 95 % of the contrast of the no-flash image, the calmest counts.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter, map_coordinates, uniform_filter

from benchmarks.fields import extra_file
from dip_pipeline.config import RunConfig
from dip_pipeline.frames import open_frame
from dip_pipeline.pipeline import restore_frame

Image = NDArray[np.float64]
Row = dict[str, object]

FLASH, NO_FLASH = (
    f"dip_paper/flash_no_flash_cave01_0{number}_{name}.jpg"
    for number, name in ((0, "flash"), (1, "noflash"))
)
CORNER = (110, 360)
_LUMINANCE = (0.299, 0.587, 0.114)  # of ITU-R BT.601
_PATCH_PX = 13
_PATCHES = 24
_EDGES = 1500
_STEP_PX = 2.5
_CONTRAST_SHARE = 0.95
_GAP_PX = 4
_SPACES_PX = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
_COLOURS = (3.0, 5.0, 8.0, 12.0, 20.0, 30.0)


def flash_rows(
    seed: int, *, side_px: int, steps: int | None, picture: Path | None = None
) -> list[Row]:
    """Restore the no-flash image by the flash image; the noise is estimated from it alone.

    picture : where no-flash, flash, joint bilateral and guided image are drawn side by side
    """
    flash, dark = (luminance(name, side_px) for name in (FLASH, NO_FLASH))
    about: Row = {"field": "flash", "seed": seed, "side_px": side_px, "steps": steps}
    images = {"observed": dark, **_ours(flash, dark, seed, steps)}
    kept = _CONTRAST_SHARE * edge_contrast(dark, flash)
    images["joint bilateral"], setting = joint_bilateral(flash, dark, kept)
    if picture is not None:
        draw_side_by_side([dark, flash, images["joint bilateral"], images["guided"]], picture)
    return [
        {
            **about,
            "method": name,
            "flat_noise": round(flat_noise(image, flash), 3),
            "edge_contrast": round(edge_contrast(image, flash), 3),
            **(setting if name == "joint bilateral" else {}),
        }
        for name, image in images.items()
    ]


def luminance(name: str, side_px: int) -> Image:
    """Luminance of a square of a picture, 0 to 255."""
    colours = np.asarray(Picture.open(extra_file(name)), np.float64)
    rows, cols = (slice(first, first + side_px) for first in CORNER)
    return np.ascontiguousarray(colours[rows, cols] @ np.array(_LUMINANCE))


def _ours(flash: Image, dark: Image, seed: int, steps: int | None) -> dict[str, Image]:
    options: dict[str, object] = {
        "fit.steps": steps,
        "fit.seed": seed,
        "fit.flux_scale_px": 0.0,  # nobody measures fluxes in a picture
        "workers.threads_per_fit": 1,
        "workers.device": "cpu",
    }
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        names = [Path(folder) / f"{name}.fits" for name in ("flash", "dark", "out")]
        for name, image in zip(names, (flash, dark), strict=False):
            fits.writeto(name, image.astype(np.float32))
        for method, guides in (("unguided", ()), ("guided", (str(names[0]),))):
            started = time.monotonic()
            config = RunConfig().with_overrides(**options, **{"task.guides": guides or None})
            restore_frame(str(names[1]), names[2], config, overwrite=True)
            found[method] = open_frame(names[2]).read(slice(None), slice(None)).science
            print(f"{method}: {time.monotonic() - started:.0f} s")
    return {name: image.astype(np.float64) for name, image in found.items()}


def joint_bilateral(
    flash: Image, dark: Image, least_contrast: float
) -> tuple[Image, Mapping[str, object]]:
    """Take, of many settings with at least that contrast of edges, the one of least noise.

    Petschnigg et al. 2004, ACM Trans. Graph. 23, 664, as OpenCV has it.
    """
    import cv2

    best: tuple[float, Image, Mapping[str, object]] | None = None
    guide, source = flash.astype(np.float32), dark.astype(np.float32)
    for space in _SPACES_PX:
        for colour in _COLOURS:
            found = cv2.ximgproc.jointBilateralFilter(guide, source, -1, colour, space)
            image: Image = np.asarray(found, np.float64)
            if edge_contrast(image, flash) < least_contrast:
                continue
            noise = flat_noise(image, flash)
            if best is None or noise < best[0]:
                best = noise, image, {"sigma_space_px": space, "sigma_colour": colour}
    return (dark, {"setting": "none keeps the contrast"}) if best is None else best[1:]


def draw_side_by_side(images: Sequence[Image], path: Path) -> None:
    """Draw images beside each other, each from its darkest to its brightest percent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    panels: list[Image] = []
    for image in images:
        low, high = np.percentile(image, (1, 99))
        grey = 255 * np.clip((image - low) / (high - low), 0, 1)
        panels += [grey, np.full((len(grey), _GAP_PX), 255.0)]
    Picture.fromarray(np.hstack(panels[:-1]).astype(np.uint8)).save(path)


def flat_noise(image: Image, flash: Image) -> float:
    """Median over flat patches of the scatter around a plane."""
    scatters = []
    rows, cols = np.mgrid[:_PATCH_PX, :_PATCH_PX]
    plane = np.stack([np.ones(rows.size), rows.ravel(), cols.ravel()], axis=1)
    for row, col in _flat_places(flash):
        patch = image[row : row + _PATCH_PX, col : col + _PATCH_PX].ravel()
        left = patch - plane @ np.linalg.lstsq(plane, patch, rcond=None)[0]
        scatters.append(float(np.sqrt((left**2).sum() / (left.size - 3))))
    return float(np.median(scatters))


def edge_contrast(image: Image, flash: Image) -> float:
    """Mean step across the edges of the flash image."""
    rows, cols, down, across = _edges(flash)
    ends = [
        map_coordinates(image, [rows + sign * down, cols + sign * across], order=1, mode="nearest")
        for sign in (-_STEP_PX, _STEP_PX)
    ]
    return float(np.mean(ends[1] - ends[0]))


def _edges(flash: Image) -> tuple[Image, Image, Image, Image]:
    """Places of the strongest gradients, and their directions."""
    smooth = gaussian_filter(flash, 1.0)
    down, across = np.gradient(smooth)
    steepness = np.hypot(down, across)
    steepness[:8], steepness[-8:], steepness[:, :8], steepness[:, -8:] = 0, 0, 0, 0
    chosen = np.argsort(steepness, axis=None)[-_EDGES:]
    rows, cols = np.unravel_index(chosen, flash.shape)
    length = steepness[rows, cols]
    return (
        rows.astype(float),
        cols.astype(float),
        down[rows, cols] / length,
        across[rows, cols] / length,
    )


def _flat_places(flash: Image) -> list[tuple[int, int]]:
    """Corners of the flattest patches that do not overlap; dark corners of the picture left out."""
    mean = uniform_filter(flash, _PATCH_PX)
    scatter = np.sqrt(np.maximum(uniform_filter(flash**2, _PATCH_PX) - mean**2, 0))
    scatter[mean < 30] = np.inf
    half = _PATCH_PX // 2
    found: list[tuple[int, int]] = []
    inner = scatter[half:-half, half:-half].copy()
    while len(found) < _PATCHES:
        row, col = np.unravel_index(int(inner.argmin()), inner.shape)
        found.append((int(row), int(col)))
        inner[
            max(0, row - _PATCH_PX) : row + _PATCH_PX, max(0, col - _PATCH_PX) : col + _PATCH_PX
        ] = np.inf
    return found
