"""A noise law held against its frame: how the sky scatters, and how pixels do beside each other."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from dip_pipeline.blind.correlation import MEASURED, SkyNoise
from dip_pipeline.blind.estimate import slope_of_scatter
from dip_pipeline.blind.scatter import (
    DETAIL,
    SECOND,
    Expectation,
    expected_detail,
    own_level,
    scatter_over_law,
)
from dip_pipeline.blind.sky import Window
from dip_pipeline.sensor import FROM_SCATTER, NO_PEDESTAL, NoiseKind, NoiseModel, Sourced
from dip_pipeline.sensor.noise_kernel import NoiseKernel
from dip_pipeline.sensor.noise_sigma import sigma_at, sigmas_at, variance_line

log = logging.getLogger(__name__)

# The sky's scatter over the law's sigma there, within which the law is believed. Measured on fields
# with the right law it is 0.96 at least; structure of the sky itself can only raise it.
_AGREEMENT = (0.93, 1.12)
_MOST_OF_WHITE = 1.1  # scatter from pixel to pixel over the law's, for white noise to be all of it
# A slope over that of a gain, within which the gain is believed: structure can raise it by half.
_GAIN_AGREEMENT = (0.67, 2.0)
# Scatter of a sky over its law's that no light and no level explains: another unit.
_MOST_OF_ANY = 300.0
_SLOPE_ERRORS = 4.0  # by which it must be off
_ENOUGH_PIXELS = 20_000  # for their scatter from pixel to pixel to be known to a few percent
_CORRELATIONS = np.arange(0, 51) / 100  # of neighbours, by resampling
_SECOND = np.outer(SECOND, SECOND)
FROM_DETAIL = "from pixel to pixel, for light is everywhere"
_LEVEL_PX = 2.0  # smoothing of the level that a pixel's sigma is taken at


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How a frame scatters, over what its noise law says.

    noise : the law; white where what looked like correlated noise is light
    ratio, level : 1 where they agree, and the level at which; NaN where that cannot be told
    sky_ratio : that of the sky about its local level; more than `ratio` where light raises it
    sky : what was measured
    """

    noise: NoiseModel
    ratio: float
    level: float
    sky_ratio: float
    sky: SkyNoise

    @property
    def agrees(self) -> bool:
        """Whether nothing is to be said against the law."""
        return not np.isfinite(self.ratio) or _AGREEMENT[0] < self.ratio < _AGREEMENT[1]

    @property
    def is_refuted(self) -> bool:
        """Whether the sky scatters so much less that the law cannot be the frame's.

        No sky scatters less than its noise: a sigma that is 1.5 times too large makes networks
        answer noise by its negative.
        """
        return 0 < self.ratio < _AGREEMENT[0]

    def against(self, windows: Sequence[Window]) -> str:
        """Say why the law cannot be the frame's; nothing where it can.

        Where nobody says at which level no photon arrived, that explains any scatter of the sky,
        but not one that grows with light at another rate than the gain's.
        """
        if self.agrees or self.noise.from_error_plane:
            return ""
        beyond = self.ratio > _MOST_OF_ANY
        if beyond or self.with_level_of_sky() is None:
            if not (beyond or self.is_refuted):
                return ""
            return f"its sky scatters {self.ratio:.2g} times as much as {self._law_in_words} says"
        kernel = self.noise.correlation
        slope, error = slope_of_scatter(windows, self.sky, kernel)
        named = variance_line(self.noise).slope
        off = abs(slope - named) > _SLOPE_ERRORS * error
        if not off or _GAIN_AGREEMENT[0] < slope / named < _GAIN_AGREEMENT[1]:
            return ""
        return (
            f"the variance of its pixels grows with light {slope / named:.2g} times as fast as "
            f"{self._law_in_words} says"
        )

    def told(self, path: Path) -> NoiseModel:
        """Give the law to restore with, and warn of what the frame says against it.

        Where only its level without light was taken for granted, that is corrected.
        """
        if self.agrees:
            if self.sky_ratio > _AGREEMENT[1]:
                log.warning(
                    "%s: its sky scatters %.2f times as much as its noise law says, but from pixel "
                    "to pixel just as it says: taken as light of sources too close to be told "
                    "apart, not as noise",
                    path,
                    self.sky_ratio,
                )
            return self.noise
        corrected = self.with_level_of_sky()
        if corrected is None:
            advice = "check gain, read noise and pedestal, or give --sigma"
            if self.noise.from_error_plane:
                advice = "check that error plane, or give --sigma"
        else:
            pedestal, sky = corrected.sensor.pedestal_dn, corrected.sensor.subtracted_sky_dn
            advice = f"taken from that scatter: pedestal {pedestal}" + (
                f", subtracted sky {sky}" if sky else ""
            )
        log.warning(
            "%s: its sky scatters %.2f times as much as its noise law says: %s",
            path,
            self.ratio,
            advice,
        )
        return corrected or self.noise

    def with_level_of_sky(self) -> NoiseModel | None:
        """Find the level without light from the sky's scatter, where nobody says what it is.

        Raw frames hold a bias, and reduced ones have lost their sky: both move the level at which
        no photon arrived, level - (sigma^2 - read noise) gain. None where a card or the user says,
        and where the sky scatters less than reading alone.
        """
        noise = self.noise
        pedestal = noise.sensor.pedestal_dn
        guessed = pedestal is not None and pedestal.source.endswith("taken as removed")
        if not guessed or noise.sensor.subtracted_sky_dn:
            return None
        if self.ratio < 1 and not noise.correlation.is_white:
            return None  # pixels that were resampled scatter less
        if noise.kind is not NoiseKind.POISSON_GAUSSIAN or not np.isfinite(self.ratio):
            return None
        dark = variance_line(noise)
        # Rounded, so that one pixel more or less does not make another law of it.
        sigma = float(f"{self.ratio * sigma_at(noise, self.level):.3g}")
        if not sigma > 0:
            return None
        level = round(self.level / sigma, 2) * sigma
        photons = sigma**2 - sigma_at(noise, dark.zero_level) ** 2
        if photons <= 0:
            return None
        zero = level - photons / dark.slope
        guess = f"{NO_PEDESTAL} {FROM_SCATTER}"
        guesses = [guess if own.startswith(NO_PEDESTAL) else own for own in noise.sensor.guesses]
        return replace(
            noise,
            sensor=replace(
                noise.sensor,
                guesses=tuple(guesses),
                pedestal_dn=Sourced(max(zero, 0.0), "DN", FROM_SCATTER),
                subtracted_sky_dn=Sourced(-zero, "DN", FROM_SCATTER) if zero < 0 else None,
            ),
        )

    @property
    def _law_in_words(self) -> str:
        return f"{self.noise.kind}, {self.noise.rung}"


def hold_against_sky(noise: NoiseModel, windows: Sequence[Window], sky: SkyNoise) -> Agreement:
    """Compare a law with the scatter of its frame, in units of the law's own sigma.

    The sky's scatter about its local level is compared where it was measured. Light of stars too
    faint and close to be told apart raises it, and correlates as the optics do: there the scatter
    from pixel to pixel decides, which optics hardly let through.
    """
    expected = 1.0 if noise.from_error_plane else _sigma_or_nan(noise, sky.level)
    sky_ratio = sky.sigma / expected if expected > 0 else float("nan")
    held = Agreement(noise, sky_ratio, sky.level, sky_ratio, sky)
    unknown = noise.correlation is sky.kernel and noise.correlation.source != MEASURED
    without_sky = unknown and not np.isfinite(sky_ratio)
    if noise.correlation.is_white and held.agrees and not without_sky:
        return held
    if not noise.correlation.is_white and noise.correlation is not sky.kernel:
        return held  # it was asked for
    expectation = _expected(noise)
    ratio, level = scatter_over_law(windows, expectation)
    if noise.correlation.is_white and ratio < _AGREEMENT[0] and not noise.from_error_plane:
        expectation = _expected_in_gaps(noise)
        ratio, level = scatter_over_law(windows, expectation)
    if not noise.correlation.is_white:
        # Correlated noise would make that less than the sky's by this factor, white noise not.
        passed = noise.correlation.passed(DETAIL) ** 0.5
        agrees = _AGREEMENT[0] * passed**0.5 < ratio < _MOST_OF_WHITE
        if not agrees and not ratio > passed**0.5 * sky_ratio:
            return held
        white = NoiseKernel(source="light, not noise, correlates")
        held = replace(held, noise=replace(noise, correlation=white))
    if without_sky:
        enough = sum(np.count_nonzero(window.good) for window in windows) >= _ENOUGH_PIXELS
        refuted = enough and 0 < ratio < _AGREEMENT[0]
        return _by_detail(held, windows, (ratio, level), expectation) if refuted else held
    # Where too little sky tells whether it is correlated, less scatter from pixel to pixel may be
    # that: then it can but confirm the law.
    beyond = not np.isfinite(ratio) and sky_ratio > _MOST_OF_ANY  # all of it looks like structure
    if beyond or ratio >= sky_ratio or (unknown and ratio < _AGREEMENT[0]):
        return held
    return replace(held, ratio=ratio, level=level)


def _by_detail(
    held: Agreement,
    windows: Sequence[Window],
    seen: tuple[float, float],
    expectation: Expectation,
) -> Agreement:
    """Tell a law that is too strong from noise that is correlated, where light is everywhere.

    seen : scatter from pixel to pixel over the law's, and its level; expectation : of the law
    Resampling takes more from fourth differences than from second ones, and a wrong strength takes
    the same from both. As white noise of its law such a frame would come back with noise inverted.
    """
    ratio, level = seen
    coarser, _ = scatter_over_law(windows, expectation, SECOND)
    if not coarser > 0:
        return held
    kernels = [NoiseKernel.from_neighbour(float(each), FROM_DETAIL) for each in _CORRELATIONS]
    fine = np.array([kernel.passed(DETAIL) for kernel in kernels]) ** 0.5
    second = np.array([kernel.passed(_SECOND) for kernel in kernels]) ** 0.5
    nearest = int(np.argmin(np.abs(fine / second - ratio / coarser)))
    strength = min(1.0, ratio / float(fine[nearest]))
    noise = replace(held.noise, correlation=kernels[nearest])
    return replace(held, noise=noise, ratio=strength, level=level)


def scatter_of_plain(noise: NoiseModel, windows: Sequence[Window]) -> float:
    """Measure the scatter from pixel to pixel over that of a law of white noise; NaN of too few."""
    return scatter_over_law(windows, _expected(noise))[0]


def nearest_to_scatter(laws: Sequence[NoiseModel], windows: Sequence[Window]) -> NoiseModel:
    """Choose the law of white noise that the scatter from pixel to pixel is nearest to.

    The first where too few pixels tell.
    """
    ratios = [scatter_of_plain(law, windows) for law in laws]
    off = [abs(np.log(ratio)) if ratio > 0 else np.inf for ratio in ratios]
    return laws[int(np.argmin(off))]


def _expected(noise: NoiseModel) -> Expectation:
    return lambda window, taps: expected_detail(sigmas_of(noise, window), taps)


def _expected_in_gaps(noise: NoiseModel) -> Expectation:
    """Expect what a law says at the levels of a detail's own pixels alone; no error plane.

    Smoothing carries the light of narrow lines into the gaps between them, where noise would seem
    to be less than a right law says. Where photons are few the level is that of noise in part.
    """
    return lambda window, taps: sigmas_at(noise, own_level(window, taps))


def level_of(windows: Sequence[Window]) -> float:
    """Median of the good pixels of all windows; 0 without any."""
    values = np.concatenate([window.pixels[window.good] for window in windows])
    return float(np.median(values)) if values.size else 0.0


def _sigma_or_nan(noise: NoiseModel, level: float) -> float:
    return sigma_at(noise, level) if np.isfinite(level) else float("nan")


def sigmas_of(noise: NoiseModel, window: Window) -> NDArray[np.float64]:
    """Give the standard deviation of each pixel by the law, at a level without its own noise."""
    if window.error is not None:
        return window.error
    return sigmas_at(noise, gaussian_filter(window.pixels, _LEVEL_PX))
