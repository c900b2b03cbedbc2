"""Pairs of a noisy frame and its guide: simulated narrow band, real SDSS g, and lone sources."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter

from benchmarks.fields import extra_file
from dip_pipeline.sensor import estimate_sigma
from dip_pipeline.simulate import MoffatPsf, SceneOptions, draw_scene
from dip_pipeline.simulate.psf import add_star

Image = NDArray[np.float64]

PSF = MoffatPsf()
RATIO = 0.1  # light of the narrow band in that of the broad one; their noise is the same
SIGMA = 10.0
NEBULA_SIGMA = 3.0  # 99th percentile of the nebula that the broad band does not show
TIMES = 4.0  # noise added to SDSS g, in its own
LONE_SNR = (5.0, 20.0, 100.0, 1000.0)  # in the guide
ONLY_FRAME_SNR = 20.0
_ONLY_FRAME = 6
_APART_PX = 24.0
_EMPTY_SIGMA = 0.5  # of the frame's noise: less light than this within 8 px is none
_SDSS = ("multi_band/reprojected_sdss_g.fits.bz2", "multi_band/reprojected_sdss_r.fits.bz2")
_SDSS_CORNER = (10, 20)  # the three galaxies are in the square from here


@dataclass(frozen=True, slots=True)
class Lone:
    """A source that only one of the two shows. on_light : upon the light of the frame."""

    row: float
    col: float
    snr: float
    on_light: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A frame and its guide; planes are (rows, cols).

    truth : noiseless, but for `own_share` of the frame's noise that an observed one holds; what
        the frame has beyond it is noise `own_times` as large
    only_frame : stars that the guide does not show; they are in the truth
    """

    field: str
    seed: int
    observed: Image
    guide: Image
    truth: Image
    sigma: float
    guide_sigma: float
    header: fits.Header
    own_share: float = 0.0
    own_times: float = TIMES
    only_frame: tuple[Lone, ...] = ()

    @property
    def on_sources(self) -> NDArray[np.bool_]:
        """Where there is light of one sigma and more, in an average over a few pixels."""
        return self.light > 1.0

    def squared_errors(self, result: Image) -> Image:
        """Unbiased squared errors of a result, over the frame's noise.

        An observed truth is y0 = t + n0, the frame y0 + n with n of k times the noise. Whatever a
        result holds of the frame's noise it holds of n0, too, so that its difference from y0 is too
        small: E[(x - t)^2] = E[(x - y0)^2] - E[n0^2] + 2 E[(x - y0) n0 + n0^2], and the last term
        is 2 E[x n] / k^2.
        """
        wrong = (result - self.truth) / self.sigma
        if not self.own_share:
            return wrong**2
        added = (self.observed - self.truth) / self.sigma
        return wrong**2 - self.own_share**2 + 2 * wrong * added / self.own_times**2

    @property
    def light(self) -> Image:
        """Light above the sky, in sigma, smoothed a little where the truth is observed."""
        width = 1.0 if self.own_share else 0.0
        light: Image = (gaussian_filter(self.truth, width) - np.median(self.truth)) / self.sigma
        return light


def narrow_band(seed: int, side_px: int = 256) -> Pair:
    """Stars and galaxies at a tenth of the guide's signal, some of other colours, and a nebula."""
    rng = np.random.default_rng([seed, 77])
    options = SceneOptions("crowded", shape=(side_px, side_px), seed=seed, saturated_star=False)
    galaxies = draw_scene(replace(options, kind="galaxies")).galaxies
    broad = replace(draw_scene(options), nebula=None, galaxies=galaxies)
    stars, fainter = broad.stars.copy(), galaxies.copy()
    factor = np.exp(0.2 * rng.standard_normal(len(stars)))
    odd = rng.random(len(stars)) < 0.15
    factor[odd] *= np.where(rng.random(odd.sum()) < 0.5, 0.2, 3.0)
    stars["flux_dn"] *= factor * RATIO
    fainter["flux_dn"] *= RATIO * np.exp(0.2 * rng.standard_normal(len(galaxies)))
    truth = replace(broad, stars=stars, galaxies=fainter).signal() + _nebula(seed, side_px, rng)
    deep = broad.signal()
    places = _places(deep * RATIO / SIGMA, (ONLY_FRAME_SNR,) * _ONLY_FRAME, rng)
    truth += drawn(truth.shape, places, SIGMA)
    return Pair(
        field="narrow",
        seed=seed,
        observed=truth + SIGMA * rng.standard_normal(truth.shape),
        guide=deep + SIGMA * rng.standard_normal(truth.shape),
        truth=truth,
        sigma=SIGMA,
        guide_sigma=SIGMA,
        header=_sky_header(side_px),
        only_frame=tuple(places),
    )


def sdss(seed: int, side_px: int = 256) -> Pair:
    """SDSS g under white noise of four times its own, guided by r; g itself stands for the truth.

    Both headers say filter g: whatever reads them must not mind.
    """
    window = tuple(slice(corner, corner + side_px) for corner in _SDSS_CORNER)
    planes, headers = [], []
    for name in _SDSS:
        with fits.open(extra_file(name)) as hdus:
            planes.append(hdus[0].data.astype(np.float64))
            headers.append(hdus[0].header.copy())
    own, guide_sigma = (estimate_sigma(plane.astype(np.float32)) for plane in planes)
    truth, guide = (np.ascontiguousarray(plane[window]) for plane in planes)
    header = headers[0]
    for axis, corner in ((1, _SDSS_CORNER[1]), (2, _SDSS_CORNER[0])):
        header[f"CRPIX{axis}"] -= corner
    rng = np.random.default_rng([seed, 9])
    sigma = float(np.hypot(TIMES, 1) * own)
    return Pair(
        field="sdss",
        seed=seed,
        observed=truth + TIMES * own * rng.standard_normal(truth.shape),
        guide=guide,
        truth=truth,
        sigma=sigma,
        guide_sigma=guide_sigma,
        header=header,
        own_share=own / sigma,
    )


def lone_sources(pair: Pair, each: int = 3) -> list[Lone]:
    """Choose places for sources of the guide alone: on empty sky, and one of each on light."""
    rng = np.random.default_rng([pair.seed, 5])
    empty = _places(pair.light, [snr for snr in LONE_SNR for _ in range(each)], rng)
    bright = gaussian_filter(pair.light, 4.0)
    bright[:16], bright[-16:], bright[:, :16], bright[:, -16:] = 0, 0, 0, 0
    found = list(empty)
    for snr in LONE_SNR:
        for one in found:
            near = (slice(max(0, int(one.row) - 24), int(one.row) + 24),)
            bright[(*near, slice(max(0, int(one.col) - 24), int(one.col) + 24))] = 0
        row, col = np.unravel_index(int(bright.argmax()), bright.shape)
        found.append(Lone(float(row) + 0.3, float(col) - 0.2, snr, on_light=True))
    return found


def drawn(shape: tuple[int, ...], sources: Sequence[Lone], sigma: float) -> Image:
    """Draw sources of given signal to noise, of the whole profile under white noise sigma."""
    image = np.zeros(shape)
    for one in sources:
        profile = point(shape, one)
        image += one.snr * sigma / np.sqrt((profile**2).sum()) * profile
    return image


def point(shape: tuple[int, ...], one: Lone) -> Image:
    """Draw a source of unit flux."""
    image = np.zeros(shape)
    add_star(image, (one.row, one.col), 1.0, psf=PSF, oversample=1)
    return image


def _places(light: Image, snrs: Sequence[float], rng: np.random.Generator) -> list[Lone]:
    """Choose places without light, apart from each other."""
    free = maximum_filter(light - np.median(light), 17) < _EMPTY_SIGMA
    free[:16], free[-16:], free[:, :16], free[:, -16:] = False, False, False, False
    candidates = rng.permutation(np.argwhere(free))
    found: list[Lone] = []
    for row, col in candidates:
        if len(found) == len(snrs):
            break
        if all(np.hypot(row - one.row, col - one.col) > _APART_PX for one in found):
            shift = rng.uniform(-0.5, 0.5, 2)
            found.append(Lone(row + shift[0], col + shift[1], snrs[len(found)]))
    return found


def _nebula(seed: int, side_px: int, rng: np.random.Generator) -> Image:
    """Filaments in a round part of the frame."""
    options = SceneOptions("nebula", shape=(side_px, side_px), seed=seed + 1000)
    nebula = draw_scene(options).nebula
    assert nebula is not None
    light = nebula.render((side_px, side_px))
    rows, cols = np.mgrid[:side_px, :side_px]
    middle = rng.uniform(0.3, 0.7, 2) * side_px
    radius = np.hypot(rows - middle[0], cols - middle[1]) / (side_px / 6)
    inside = np.clip(1.5 - radius, 0, 1)
    shown: Image = light * inside * (NEBULA_SIGMA * SIGMA / np.percentile(light, 99))
    return shown


def _sky_header(side_px: int) -> fits.Header:
    header = fits.Header()
    for axis, (kind, value, step) in enumerate(
        (("RA---TAN", 279.1, -1.1e-4), ("DEC--TAN", 33.0, 1.1e-4)), start=1
    ):
        header[f"CTYPE{axis}"], header[f"CRVAL{axis}"] = kind, value
        header[f"CRPIX{axis}"], header[f"CDELT{axis}"] = (side_px + 1) / 2, step
    return header
