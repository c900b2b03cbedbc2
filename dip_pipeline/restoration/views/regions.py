"""Regions of a frame as tensors in sky-sigma units."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.computing.side_by_side import side_by_side
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.restoration.images.filling import WIDE, fill, measure_covariance
from dip_pipeline.restoration.images.smoothing import fill_unknown, ring_mean, smooth
from dip_pipeline.restoration.noise import twinning
from dip_pipeline.restoration.noise.correlation import root_of
from dip_pipeline.restoration.noise.laws import NoiseLaw, law_for
from dip_pipeline.restoration.problem import InputKind, Problem
from dip_pipeline.restoration.psf.hidden_in_scene import HiddenScene, hidden_in_scene
from dip_pipeline.restoration.psf.shown_in_scene import in_scene
from dip_pipeline.restoration.stars.common_shape import measure_shape
from dip_pipeline.restoration.stars.hidden_stars import (
    HiddenStars,
    find_hidden_stars,
    nothing_hidden,
)
from dip_pipeline.restoration.stars.shown_stars import ShownStars, find_shown_stars
from dip_pipeline.restoration.stars.star_shape import (
    FittedStar,
    Image,
    StarShape,
    fit_bright_stars,
    stars_of_each,
)
from dip_pipeline.restoration.views.guide_planes import NO_STARS, lay_out_guides, measure_guides
from dip_pipeline.restoration.views.sky_scale import SkyScale
from dip_pipeline.sensor import NoiseKind, NoiseModel, estimate_sigma
from dip_pipeline.task import Task

_LENT = 0.5  # of a pixel is a twin's, if it is to stand for it
_FEW_COUNTS = 30.0  # a pixel of the sky; of more Gaussian noise is like enough
_NO_READ_NOISE = 0.4  # of a count: with more it is not known how many photons there were
_LEAST_OF_FLOOR = 0.8  # what a restored level below the dark one may make of its variance
_LEAST_VARIANCE = 1e-6  # in sky-sigma squared; keeps residuals finite


@dataclass(frozen=True, slots=True)
class PixelNoise:
    """Noise of pixels as a function of their noiseless level, in sky-sigma units.

    floor : (batch, 1, rows, cols), variance in the dark
    slope, dark_level : variance added by each unit of light above the dark level; (batch, 1, 1, 1)
        where the regions of a batch are of several frames
    root : (batch, 1, side, side), turns white noise into the frame's; None where it is white
    counted : whether pixels are few counts without read noise, which no Gaussian is like
    """

    floor: Tensor
    slope: Tensor | float
    dark_level: Tensor | float
    root: Tensor | None = None
    counted: bool = False

    def sigma(self, level: Tensor) -> Tensor:
        """Give the standard deviation of each pixel at that level."""
        light = torch.clamp(level - self.dark_level, min=0.0)
        return torch.sqrt(self.floor + self.slope * light)

    def judging_sigma(self, level: Tensor) -> Tensor:
        """Give the standard deviation by which pixels restored to that level are judged.

        In the dark a restored level is as often below the truth as above it. Taken as it is the
        variance is right on average, with nothing below the dark level it would be too large.
        """
        variance = self.floor + self.slope * (level - self.dark_level)
        return torch.sqrt(torch.maximum(variance, _LEAST_OF_FLOOR * self.floor))

    def repeated(self, times: int) -> "PixelNoise":
        """Noise of a batch that comes so many times, one after the other."""
        slope, dark_level = (
            term.repeat(times, 1, 1, 1) if isinstance(term, Tensor) else term
            for term in (self.slope, self.dark_level)
        )
        root = None if self.root is None else self.root.repeat(times, 1, 1, 1)
        return PixelNoise(self.floor.repeat(times, 1, 1, 1), slope, dark_level, root, self.counted)

    def counts(self, level: Tensor) -> Tensor:
        """Give the counts of pixels at that level, of stars that were taken off, too."""
        return ((level - self.dark_level) / self.slope + self.floor / self.slope**2).clamp(min=0.0)


@dataclass(frozen=True, slots=True)
class Region:
    """One region, in sky-sigma units; every plane is (1, 1, rows, cols).

    stars : light of stars, taken off `observed` and to be put back: of those that unknown pixels
        hide, as far as it is known, and of those that the frame shows well
    hidden : what is known of stars that unknown pixels hide, (rows, cols)
    hidden_scene : those of them that are drawn in a scene; None where none is
    observed : unknown pixels filled from their surroundings
    sigma : noise of each pixel, from a level that does not contain its own noise
    noise : noise at any level
    covariance : autocovariance that holes are filled by, (1, lags, lags)
    known : 1 where the pixel holds information
    lent : 1 where it does not, but a twin does and is believed: `observed` is then its light; None
        without a twin
    trusted : 1 where it may enter a data term (known and not saturated)
    guides : (1, 2 * guides, rows, cols), see `guide_planes`; of a twin (1, 3, rows, cols), see
        `twinning`; None without either
    starry_guides : the same with the light of the stars that the frame shows well
    shown_stars : those of the stars whose light would change with the pixels; None without any
    """

    observed: Tensor
    sigma: Tensor
    known: Tensor
    trusted: Tensor
    noise: PixelNoise
    covariance: Tensor
    stars: Tensor
    hidden: HiddenStars
    origin: tuple[int, int]
    scale: SkyScale
    guides: Tensor | None = None
    starry_guides: Tensor | None = None
    shown_stars: ShownStars | None = None
    hidden_scene: HiddenScene | None = None
    lent: Tensor | None = None

    @property
    def told(self) -> Tensor:
        """1 where a pixel is to be trusted: the frame's own, or what a twin lends."""
        return self.trusted if self.lent is None else torch.maximum(self.trusted, self.lent)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.observed.shape[-2], self.observed.shape[-1]

    def without_guides(self) -> "Region":
        """Give the same region without guides, on the scale that it is on."""
        return replace(self, guides=None, starry_guides=None)

    def with_shown_stars(self) -> "Region":
        """Give the same region with the stars that it shows well left in."""
        if self.shown_stars is None:
            return self
        light = _plane(self.shown_stars.light).float().to(self.observed.device)
        observed = fill(self.observed + light, self.known, self.covariance, WIDE)
        # A law without read noise has next to no floor: rounding must not make it a negative one.
        floor = (self.noise.floor - self.noise.slope * light).clamp(min=_LEAST_VARIANCE)
        noise = replace(self.noise, floor=floor)
        return replace(
            self,
            observed=observed,
            sigma=noise.sigma(ring_mean(observed)),
            noise=noise,
            stars=self.stars - light,
            guides=self.guides if self.starry_guides is None else self.starry_guides,
            shown_stars=None,
            lent=None,
        )


def measure_sky(problems: Sequence[Problem]) -> SkyScale:
    """Level and noise of the sky over some regions of a frame.

    Raises RestorationError where no pixel is valid, or all are equal.
    """
    levels: list[NDArray[np.float64]] = []
    sigmas: list[NDArray[np.float64]] = []
    for problem in problems:
        values = problem.pixels[problem.valid].astype(np.float64)
        if values.size == 0:
            continue
        levels.append(values)
        if problem.noise.kind is NoiseKind.NONE:
            scatter = estimate_sigma(np.where(problem.valid, problem.pixels, np.float32(np.nan)))
            sigmas.append(np.array([scatter]))
        else:
            sigmas.append(_sky_sigma_dn(problem))
    if not levels:
        raise RestorationError("no valid pixel: all are masked, saturated or not finite")
    level = float(np.median(np.concatenate(levels)))
    # Not nanmedian: where no pixel has a sigma it warns, and the error below says it better.
    every_sigma = np.concatenate(sigmas)
    finite = every_sigma[np.isfinite(every_sigma)]
    sigma = float(np.median(finite)) if finite.size else float("nan")
    if not np.isfinite(sigma) or sigma <= 0:
        raise RestorationError(
            f"noise of the sky is {sigma:g}: need a positive one; give --sigma, or --gain and "
            "--read-noise"
        )
    shown = [problem for problem in problems if problem.valid.any()]
    seen = partial(_light_and_doubt, level=level, sigma=sigma)

    def looked_at(problem: Problem) -> tuple[Tensor, list[FittedStar]]:
        most = stars_of_each(len(shown))
        stars = fit_bright_stars(*seen(problem), problem.valid, most=most)
        return _covariance(problem, level, sigma), stars

    found = side_by_side([partial(looked_at, problem) for problem in shown])
    table = torch.stack([covariance for covariance, _ in found]).mean(dim=0)
    star = measure_shape([star for _, stars in found for star in stars])
    rows = tuple(tuple(row) for row in table.tolist())
    guides = measure_guides(problems, seen)
    return SkyScale(level, sigma, rows, star, guides, twin=problems[0].twin is not None)


def prepare(problem: Problem, scale: SkyScale) -> Region:
    """Turn a problem into tensors on its device, in sky-sigma units, unknown pixels filled.

    Raises RestorationError where it has not as many guides as the scale.
    """
    if len(problem.guides) != len(scale.guides):
        raise RestorationError(
            f"{len(problem.guides)} guides for a prior fitted with {len(scale.guides)}: give as "
            "many, in the same order"
        )
    seen = partial(_light_and_doubt, level=scale.level, sigma=scale.sigma)
    if (problem.twin is not None) is not scale.twin:
        raise RestorationError(
            "a twin beside the frame where its prior has none, or the reverse: fit it anew"
        )
    known = ~problem.masked & np.isfinite(problem.pixels)
    twin = None
    if problem.twin is not None:
        twin = twinning.lay_out_twin(problem.twin, scale.level, scale.sigma)
    hidden, hidden_scene, shown = _stars_of(problem, scale, twin)
    laid = lay_out_guides(problem, scale.guides, seen, NO_STARS if shown is None else shown.places)
    guides, starry = (None, None) if laid is None else laid
    if twin is not None:
        starry = twinning.less(twin, _plane(hidden.light))
        guides = starry if shown is None else twinning.less(starry, _plane(shown.light))
    # A clipped value says nothing of the light, and less its star it is nothing at all.
    known &= ~problem.saturated
    stars = hidden.light if shown is None else hidden.light + shown.light
    level = np.where(known, problem.pixels, scale.level).astype(np.float64)
    device = torch.device(problem.device)
    known_plane = _plane(known).float().to(device)
    covariance = torch.tensor(scale.covariance, device=device)[None]
    light = (level - scale.level) / scale.sigma - np.where(known, stars, 0.0)
    filled = fill(_plane(light).float().to(device), known_plane, covariance, WIDE)
    law = _law_of(problem)
    dark_level = (law.dark_level - scale.level) / scale.sigma
    floor = (_floor_dn(problem, law) / scale.sigma**2).clamp(min=_LEAST_VARIANCE)
    # The light that was taken off keeps its noise. Where a PSF is negative somewhere there is less
    # than none: a variance below zero would have no root, and the fit would be lost.
    floor = floor + law.slope / scale.sigma * _plane(stars).clamp(min=0.0)
    if problem.noise.kind is NoiseKind.NONE:
        floor = torch.ones_like(floor)  # the scatter itself, so that the frame's unit is no matter
    root = root_of(problem.noise.correlation, device)
    noise = PixelNoise(
        *(floor.float().to(device), law.slope / scale.sigma, dark_level, root),
        counted=root is None and _is_counted(problem.noise, law, scale.level),
    )
    guides = None if guides is None else guides.to(device)
    sigma, lent = noise.sigma(ring_mean(filled)), None
    if twin is not None and guides is not None:
        mean, _, (share, *_) = twinning.joined(guides, filled, sigma, known_plane, root)
        lent = (1 - known_plane) * (share > _LENT).float()
        filled = torch.where(lent > 0, mean, filled)
    return Region(
        observed=filled,
        sigma=sigma,
        known=known_plane,
        trusted=_plane(problem.valid).float().to(device),
        noise=noise,
        covariance=covariance,
        stars=_plane(stars).float().to(device),
        hidden=hidden,
        origin=problem.origin,
        scale=scale,
        guides=guides,
        lent=lent,
        starry_guides=None if starry is None else starry.to(device),
        shown_stars=shown,
        hidden_scene=hidden_scene,
    )


def _is_counted(noise: NoiseModel, law: NoiseLaw, level: float) -> bool:
    """Whether pixels of the sky are few counts, and nothing else makes noise of them."""
    if noise.kind not in (NoiseKind.POISSON, NoiseKind.POISSON_GAUSSIAN) or not law.slope > 0:
        return False
    dark = torch.tensor(law.dark_level, dtype=torch.float64)
    read_noise = float(law.variance(dark)) ** 0.5 / law.slope
    return read_noise < _NO_READ_NOISE and (level - law.dark_level) / law.slope < _FEW_COUNTS


def _sky_sigma_dn(problem: Problem) -> NDArray[np.float64]:
    """Sigma of the valid pixels, in the frame's unit."""
    law = _law_of(problem)
    pixels = _plane(np.where(problem.valid, problem.pixels, 0.0).astype(np.float64))
    level = ring_mean(fill_unknown(pixels, _plane(problem.valid).double()))
    light = torch.clamp(level - law.dark_level, min=0.0)
    variance = (_floor_dn(problem, law) + law.slope * light)[0, 0].numpy()
    sigma: NDArray[np.float64] = np.sqrt(variance[problem.valid])
    return sigma


def _stars_of(
    problem: Problem, scale: SkyScale, twin: Tensor | None
) -> tuple[HiddenStars, HiddenScene | None, ShownStars | None]:
    """Stars hidden by pixels that say nothing, what a scene has of them, and stars that are shown.

    In sky-sigma units. Beside a twin shown stars are those of its mean with the frame. They are not
    looked for where a code is fitted, judged by a copy of the pixels that no fit may have seen.
    twin : as `twinning` lays it out; None without
    """
    hidden, scene = nothing_hidden(problem.pixels.shape), None
    options, star, optics = problem.options, scale.star, problem.optics or Optics()
    if options.input is not InputKind.IMAGE:
        star = None
    if not problem.valid.any() or (problem.valid.all() and star is None):
        return hidden, None, None
    light, doubt = _light_and_doubt(problem, scale.level, scale.sigma)
    of_scene = options.task in (Task.SUPER_RESOLVE, Task.DECONVOLVE)
    if not problem.valid.all():
        hidden = find_hidden_stars(light, doubt, problem.valid, scale.star)
        if of_scene and optics.psf is not None:
            hidden, scene = hidden_in_scene(hidden, problem.saturated, optics)
    if star is None:
        return hidden, scene, None
    if twin is not None:
        twin = twinning.less(twin, _plane(hidden.light))
    shown = _shown_stars(light - hidden.light, doubt, problem, star, twin)
    if shown is not None and of_scene:
        shown = in_scene(shown, star, optics)
    return hidden, scene, shown


def _shown_stars(
    light: Image, doubt: Image, problem: Problem, star: StarShape, twin: Tensor | None
) -> ShownStars | None:
    """Find the stars that a frame shows well; with a twin, their mean where they agree."""
    correlation = problem.noise.correlation
    widening = correlation.passed(star.stamp()) ** 0.5
    if twin is None:
        return find_shown_stars(light, doubt, problem.valid, star, widening)
    frame, noise, valid = (_plane(each).float() for each in (light, doubt, problem.valid))
    root = root_of(correlation, twin.device)
    mean, sigma, (share, *_) = twinning.joined(twin, frame, noise, valid, root)
    seen: list[Image] = [plane[0, 0].double().numpy() for plane in (mean, sigma, share, twin)]
    shown = find_shown_stars(seen[0], seen[1], problem.valid, star, widening)
    return None if shown is None else replace(shown, beside=(seen[2], seen[3] - shown.light))


def _light_and_doubt(problem: Problem, level: float, sigma: float) -> tuple[Image, Image]:
    """Light above the sky, 0 where it is not valid, and its sigma; sky-sigma units."""
    pixels = np.where(problem.valid, problem.pixels, level).astype(np.float64)
    law = _law_of(problem)
    seen = smooth(fill_unknown(_plane(pixels), _plane(problem.valid).double(), level), 1.0)
    light = torch.clamp(seen - law.dark_level, min=0.0)
    if problem.noise.kind is NoiseKind.NONE:
        variance = torch.full_like(seen, sigma**2)
    else:
        variance = _floor_dn(problem, law) + law.slope * light
    doubt: Image = torch.sqrt(variance.clamp(min=_LEAST_VARIANCE * sigma**2))[0, 0].numpy() / sigma
    return (pixels - level) / sigma, doubt


def _covariance(problem: Problem, level: float, sigma: float) -> Tensor:
    """Covariance of the valid pixels of asinh of the light by lag, (33, 33)."""
    pixels = np.where(problem.valid, problem.pixels, level).astype(np.float64)
    seen = _plane((pixels - level) / sigma).float()
    return measure_covariance(seen, _plane(problem.valid).float())[0]


def _floor_dn(problem: Problem, law: NoiseLaw) -> Tensor:
    """Variance in the dark, (1, 1, rows, cols), float64, the frame's unit squared.

    A variance from an error plane often contains the pixel's own noise: the mean of its
    neighbours stands for it. Where it is not known it is filled from its surroundings.
    """
    dark = torch.full((1, 1, *problem.pixels.shape), law.dark_level, dtype=torch.float64)
    variance = law.variance(dark)
    known = torch.isfinite(variance) & ~_plane(problem.masked)
    if problem.noise.from_error_plane:
        known &= variance > 0  # a law may be noiseless in the dark, an error plane may not
    if not bool(known.any()):
        return torch.full_like(dark, float("nan"))
    typical = float(variance[known].median())
    if bool((variance[known] == typical).all()):  # as of a law that is a formula
        return torch.full_like(dark, typical)
    filled = fill_unknown(torch.where(known, variance, 0.0), known.double(), typical)
    return ring_mean(filled) if problem.noise.from_error_plane else filled


def _law_of(problem: Problem) -> NoiseLaw:
    error = None if problem.error is None else _plane(problem.error.astype(np.float64))
    return law_for(problem.noise, error)


def _plane(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))[None, None]
