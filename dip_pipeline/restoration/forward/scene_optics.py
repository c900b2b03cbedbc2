"""The way from a scene to its observation, in brightness, and first guesses of the way back.

Where a PSF is to be undone, the scene is what an instrument of a narrower one would show: stars are
Gaussians of TARGET_FWHM_PX pixels of the scene, wide enough to be sampled (Magain, Courbin and Sohy
1998, Astrophys. J. 494, 472). What is left between the two is undone, and no sharp point is asked
of pixels that cannot hold one.

Planes are (batch, 1, rows, cols).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dip_pipeline.restoration.forward.convolution import Convolution
from dip_pipeline.restoration.forward.decimation import Decimation
from dip_pipeline.restoration.forward.interpolation import refine, repeat
from dip_pipeline.restoration.forward.operators import Composed, Identity, Operator
from dip_pipeline.restoration.forward.optics import DecimationKind, Optics
from dip_pipeline.restoration.forward.target_star import TARGET_SIGMA_PX

Kernel = NDArray[np.float64]

_RIDGE = 1e-4  # of the target's power, where it has next to none
# Noise over signal, in power, of the Wiener filters that a scene is first guessed with.
_WIENER = (0.002, 0.01, 0.05, 0.2)
_WIENER_REACH = 2  # a filter reaches so many times as far as nearly all of its kernel's light
_MARGIN_SHARE = 0.98  # of a kernel's light: nearer to a border than that a pixel says little


@dataclass(frozen=True, eq=False)
class SceneOptics:
    """Forward operator and the linear guesses of one optics, at one orientation.

    factor : fine pixels for a coarse one along each axis
    operator : brightness of the scene to brightness of the observation
    sharpeners : Wiener filters of the kernel, sharpest first; none without a PSF
    margin_px : coarse pixels along a border of a crop that see what lies outside of it
    """

    factor: int
    operator: Operator
    sharpeners: tuple[Convolution, ...]
    margin_px: int

    def observe(self, scene: Tensor) -> Tensor:
        """Brightness of the coarse pixels."""
        return self.operator.forward(scene)

    def refine(self, planes: Tensor) -> Tensor:
        """Coarse planes on the scene's grid, flux kept."""
        return refine(planes, self.factor)

    def repeat(self, planes: Tensor) -> Tensor:
        """Coarse planes on the scene's grid, each pixel as blocks."""
        return repeat(planes, self.factor)


def scene_optics(optics: Optics, quarter_turns: int = 0, *, flip: bool = False) -> SceneOptics:
    """Lay out the optics for a scene that is flipped left to right if asked, then turned."""
    if optics.psf is None:
        kernel = None
    else:
        kernel = remaining_kernel(optics.psf)
        kernel = np.rot90(np.fliplr(kernel) if flip else kernel, quarter_turns)
    return _laid_out(
        optics.factor,
        optics.decimation,
        None if kernel is None else np.ascontiguousarray(kernel).tobytes(),
        None if kernel is None else kernel.shape,
    )


@lru_cache(maxsize=32)
def _laid_out(
    factor: int,
    decimation: DecimationKind,
    kernel_bytes: bytes | None,
    kernel_shape: tuple[int, ...] | None,
) -> SceneOptics:
    steps: list[Operator] = []
    sharpeners: tuple[Convolution, ...] = ()
    margin_px = 1
    if kernel_bytes is not None and kernel_shape is not None:
        kernel = np.frombuffer(kernel_bytes, np.float64).reshape(kernel_shape).copy()
        steps.append(Convolution(kernel))
        sharpeners = tuple(Convolution(wiener_kernel(kernel, share)) for share in _WIENER)
        margin_px += -(-_radius_px(kernel) // factor)
    if factor > 1:
        steps.append(Decimation(decimation, factor, summed=False))
        margin_px += 1
    operator: Operator = Composed(steps) if steps else Identity()
    return SceneOptics(factor, operator, sharpeners, margin_px)


def remaining_kernel(psf: NDArray[np.floating]) -> Kernel:
    """Find the kernel s that turns the target's star into the PSF's, r * s = p, sum 1.

    psf : (rows, cols), odd sides. By division of Fourier transforms; nowhere above 1, so where the
    PSF is the narrower of the two, nothing is left to undo.
    """
    rows, cols = psf.shape
    sizes = (2 * rows + 32, 2 * cols + 32)
    light = _spectrum(psf.astype(np.float64), sizes)
    down, across = np.fft.fftfreq(sizes[0])[:, None], np.fft.rfftfreq(sizes[1])[None, :]
    target = np.exp(-2 * (np.pi * TARGET_SIGMA_PX) ** 2 * (down**2 + across**2))
    ratio = light * target / (target**2 + _RIDGE)
    ratio /= np.maximum(np.abs(ratio), 1.0)
    kernel = _cut(np.fft.irfft2(ratio, sizes), (rows // 2, cols // 2))
    normalised: Kernel = kernel / kernel.sum()
    return normalised


def wiener_kernel(kernel: Kernel, noise_share: float) -> Kernel:
    """Kernel of Wiener's filter, conj(S) / (|S|^2 + n), of gain 1 for what does not vary."""
    sizes = (6 * kernel.shape[0] + 1, 6 * kernel.shape[1] + 1)
    light = _spectrum(kernel, sizes)
    gain = np.conj(light) / (np.abs(light) ** 2 + noise_share) * (1 + noise_share)
    reach = _WIENER_REACH * _radius_px(kernel) + 2
    cut = _cut(np.fft.irfft2(gain, sizes), (reach, reach))
    normalised: Kernel = cut / cut.sum()
    return normalised


def _spectrum(kernel: Kernel, sizes: tuple[int, int]) -> NDArray[np.complex128]:
    """Fourier transform of a kernel about its middle pixel."""
    padded = np.zeros(sizes)
    padded[: kernel.shape[0], : kernel.shape[1]] = kernel
    middle = (-(kernel.shape[0] // 2), -(kernel.shape[1] // 2))
    spectrum: NDArray[np.complex128] = np.fft.rfft2(np.roll(padded, middle, (0, 1)))
    return spectrum


def _cut(centred: Kernel, reach: tuple[int, int]) -> Kernel:
    """Take the pixels within reach of the origin of a periodic plane, the origin to the middle."""
    rolled = np.roll(centred, reach, (0, 1))
    return rolled[: 2 * reach[0] + 1, : 2 * reach[1] + 1]


def _radius_px(kernel: Kernel) -> int:
    """Half side of the square that holds nearly all of a kernel's light."""
    middle = (kernel.shape[0] // 2, kernel.shape[1] // 2)
    light = np.abs(kernel)
    for radius in range(max(middle)):
        rows, cols = (slice(max(0, at - radius), at + radius + 1) for at in middle)
        if light[rows, cols].sum() > _MARGIN_SHARE * light.sum():
            return radius
    return int(max(middle))
