"""What scenes are restored with today: interpolation, and Richardson-Lucy deconvolution."""

from collections.abc import Iterator

import numpy as np
from bm3d import bm3d
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from skimage.restoration import richardson_lucy

from benchmarks.stabilising import Anscombe
from dip_pipeline.simulate import DetectorOptions

Image = NDArray[np.float64]

_LOBES = 3
_MARGIN_PX = 24
_FULL_SCALE_DN = 1e5  # scikit-image stops where a model falls below a fixed number; keep far off


def spline(image: Image, factor: int) -> Image:
    """Bicubic spline of pixel values; each fine pixel gets its share of the flux."""
    axes = [_places(length, factor) for length in image.shape]
    places = np.meshgrid(*axes, indexing="ij")
    fine: Image = map_coordinates(image, places, order=3, mode="nearest") / factor**2
    return fine


def lanczos(image: Image, factor: int) -> Image:
    """Lanczos interpolation of three lobes."""
    down, across = (_lanczos_matrix(length, factor) for length in image.shape)
    fine: Image = down @ image @ across.T / factor**2
    return fine


def restored_by_bm3d(image: Image, detector: DetectorOptions) -> Image:
    """BM3D between the transform to unit noise and its exact unbiased inverse."""
    transform = Anscombe(detector.gain_e_per_dn, detector.read_noise_e, detector.pedestal_dn)
    return transform.inverse(bm3d(transform.forward(image), 1.0))


def lucy(
    image: Image, kernel: Image, stops: tuple[int, ...], sky_dn: float = 0.0
) -> Iterator[tuple[int, Image]]:
    """Richardson-Lucy of scikit-image after each of some numbers of iterations.

    sky_dn : taken off first, and put back; what is negative then counts as dark
    """
    light = np.maximum(image - sky_dn, 1e-3)
    padded = np.pad(light, _MARGIN_PX, mode="reflect") / _FULL_SCALE_DN
    inside = slice(_MARGIN_PX, -_MARGIN_PX)
    for count in stops:
        found: Image = richardson_lucy(  # type: ignore[no-untyped-call]
            padded, kernel, num_iter=count, clip=False, filter_epsilon=1e-12
        )
        yield count, found[inside, inside] * _FULL_SCALE_DN + sky_dn


def _places(length: int, factor: int) -> Image:
    """Middles of fine pixels, in coarse ones."""
    places: Image = (np.arange(length * factor) + 0.5) / factor - 0.5
    return places


def _lanczos_matrix(length: int, factor: int) -> Image:
    matrix = np.zeros((length * factor, length))
    for row, place in zip(matrix, _places(length, factor), strict=True):
        taps = int(np.floor(place)) + np.arange(1 - _LOBES, _LOBES + 1)
        weights = np.sinc(place - taps) * np.sinc((place - taps) / _LOBES)
        np.add.at(row, np.clip(taps, 0, length - 1), weights / weights.sum())
    return matrix
