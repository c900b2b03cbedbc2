"""Light that the networks lose, put back from the residual by a local Wiener filter.

Networks err in proportion to the light: a profile that few others in the frame resemble comes out
a little too wide or too dim. In windows of 8 x 8 pixels the cosine transform of their image tells
which frequencies carry light; there the residual is put back by the gain

    g = (r c)^2 / ((r c)^2 + s^2)

with c the coefficient of the image, s the noise of the residual's, and r the error of the networks
relative to the light, measured in bins of brightness. All windows are averaged. Where the
networks know little (a source unlike all others), what they drew at frequencies that carry no
light is taken off, too: that is the second step of BM3D without its grouping, the networks' image
being the pilot: Dabov et al. 2007, IEEE Trans. Image Process. 16(8), 2080; Yu & Sapiro 2011, Image
Processing On Line 1, 292. Hot pixels and the like are of all frequencies, and none of light: they
come back as they were observed, and are not in the pilot.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as nnf
from scipy.fft import dct
from torch import Tensor

from dip_pipeline.restoration.images.spikes import find_spikes, without_spikes

_WINDOW_PX = 8
_ROWS_AT_ONCE = {"cpu": 64, "cuda": 512}
# Rates, and shares of the networks' own image that are kept where the gain is small.
_CHOICES = ((0.0, 1.0), (0.025, 1.0), (0.05, 1.0), (0.1, 1.0), (0.2, 1.0), (0.4, 1.0), (0.7, 0.0))
_EDGES_SIGMA = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # of brightness above the sky, in local sigma
_FEWEST_PIXELS = 50
_ERRORS = 2.0  # standard errors that a gain must be worth


class StarLight(NamedTuple):
    """Light of stars beside an estimate and its observation; planes (1, 1, rows, cols).

    off : taken off both, and counts as brightness
    taken : in both, of stars that are fitted otherwise. No network drew it, and of stars as they
        are put back nothing is shrunk: what their fit makes of noise would be underestimated
    """

    off: Tensor | float = 0.0
    taken: Tensor | float = 0.0


NO_STARLIGHT = StarLight()


@dataclass(frozen=True, slots=True)
class LostLight:
    """Error of the networks relative to the light, by brightness.

    knots : brightness in sigma, rising; rates : r of the gain above; 0 puts nothing back
    kept : share of the networks' image that stays at frequencies without light
    """

    knots: tuple[float, ...] = (0.0,)
    rates: tuple[float, ...] = (0.0,)
    kept: tuple[float, ...] = (1.0,)

    def put_back(
        self,
        estimate: Tensor,
        observed: Tensor,
        sigma: Tensor,
        trusted: Tensor,
        *,
        stars: StarLight = NO_STARLIGHT,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Add to the estimate what the residual holds of its light; planes (1, 1, rows, cols).

        noise : root of the noise's correlation; None for white noise
        """
        if max(self.rates) == 0.0 and min(self.kept) == 1.0:
            return estimate
        brightness = np.log1p(((estimate + stars.off) / sigma).clamp(min=0).cpu().numpy())
        rate, kept = (
            torch.from_numpy(
                np.interp(brightness, np.log1p(self.knots), column).astype(np.float32)
            ).to(estimate.device)
            for column in (self.rates, self.kept)
        )
        residual = trusted * (observed - estimate)
        pilot = estimate - stars.taken
        spikes = find_spikes(pilot, sigma)
        own, residual = torch.where(spikes, residual, 0.0), torch.where(spikes, 0.0, residual)
        pilot = without_spikes(pilot, spikes)
        return estimate + own + filtered(pilot, residual, sigma**2, (rate, kept), noise)


NOTHING_LOST = LostLight()


def filtered(
    estimate: Tensor,
    residual: Tensor,
    variance: Tensor,
    trust: tuple[Tensor, Tensor],
    noise: Tensor | None,
) -> Tensor:
    """Give the change that the gains of the estimate make to it; planes (1, 1, rows, cols).

    trust : rates, and shares that are kept
    Borders are mirrored; frames smaller than a window are left without.
    """
    rows, cols = estimate.shape[-2:]
    margin = _WINDOW_PX - 1
    if min(rows, cols) < _WINDOW_PX:
        return torch.zeros_like(estimate)
    waves = _waves().to(estimate.device)
    spectrum = 1.0 if noise is None else _noise_spectrum(noise).to(estimate.device)
    wide = [
        nnf.pad(plane, (margin,) * 4, mode="reflect")
        for plane in (estimate, residual, variance, *trust)
    ]
    all_kept = bool((trust[1] == 1).all())
    total = torch.zeros_like(wide[0])
    height = _ROWS_AT_ONCE[estimate.device.type]
    for first in range(0, rows + margin, height):
        last = min(first + height, rows + margin) + margin
        light, left, doubt, rates, kept = (plane[..., first:last, :] for plane in wide)
        wave = nnf.conv2d(light, waves)
        # In place: these are 64 planes each.
        power = (_mean_of(rates) * wave).square_()
        gain = power.div_(power + spectrum * _mean_of(doubt))
        change = nnf.conv2d(left, waves).mul_(gain)
        if not all_kept:
            change -= (1 - gain).mul_(1 - _mean_of(kept)).mul_(wave)
        total[..., first:last, :] += _sum_of_waves(change)
    inner: Tensor = total[..., margin : margin + rows, margin : margin + cols]
    return inner / _WINDOW_PX**2


def _mean_of(plane: Tensor) -> Tensor:
    return nnf.avg_pool2d(plane, _WINDOW_PX, 1)


@dataclass(frozen=True, slots=True)
class Trial:
    """One region as the networks left it, to try rates on; planes (1, 1, rows, cols).

    filtered_by : image of the region, and of the region slightly moved, after a put-back
    sigma : of the noise; brightness : in sigma; judged : where the observation says anything
    risk_of : unbiased estimate of the squared error, over sigma squared, of both images
    """

    filtered_by: Callable[[LostLight], tuple[Tensor, Tensor]]
    sigma: Tensor
    brightness: Tensor
    judged: Tensor
    risk_of: Callable[[tuple[Tensor, Tensor]], Tensor]


def least_loss(trials: Sequence[Trial]) -> LostLight:
    """Find the rate of least estimated risk in each bin of brightness."""
    shine = np.concatenate([_column(trial.brightness, trial) for trial in trials])
    gains, changes = [], []
    for rate, kept in _CHOICES:
        columns = [_of_choice(trial, LostLight((0.0,), (rate,), (kept,))) for trial in trials]
        gains.append(np.concatenate([gain for gain, _ in columns]))
        changes.append(np.concatenate([change for _, change in columns]))
    risks, moves = np.stack(gains), np.stack(changes)
    bins = np.digitize(shine, _EDGES_SIGMA)
    knots, chosen = [], []
    for index in range(len(_EDGES_SIGMA) + 1):
        members = bins == index
        if members.sum() >= _FEWEST_PIXELS:
            knots.append(max(0.0, float(np.median(shine[members]))))
            chosen.append(_CHOICES[_least(risks[:, members], moves[:, members])])
    return LostLight(tuple(knots), *zip(*chosen, strict=True)) if knots else NOTHING_LOST


def _of_choice(trial: Trial, choice: LostLight) -> tuple[np.ndarray, np.ndarray]:
    """Estimated risk of each judged pixel, and by how many sigma the choice moves it."""
    images = trial.filtered_by(choice)
    move = (images[0] - trial.filtered_by(NOTHING_LOST)[0]) / trial.sigma
    return _column(trial.risk_of(images), trial), _column(move, trial)


def _least(risks: np.ndarray, moves: np.ndarray) -> int:
    """Which choice, of (choices, pixels), is surely the best: a gain must outdo its own error.

    The estimated gain of a pixel that is moved by d sigma scatters with the noise by 2 d.
    """
    doubt = _ERRORS * 2 * np.sqrt((moves**2).mean(axis=1) / moves.shape[1])
    return int((risks.mean(axis=1) + doubt).argmin())


def _column(plane: Tensor, trial: Trial) -> np.ndarray:
    values: np.ndarray = plane[trial.judged > 0].double().cpu().numpy()
    return values


@lru_cache(maxsize=1)
def _waves() -> Tensor:
    """Orthonormal cosine waves of a window, (64, 1, 8, 8)."""
    rows = dct(np.eye(_WINDOW_PX), axis=0, norm="ortho")
    waves = np.einsum("ia,jb->ijab", rows, rows).reshape(-1, 1, _WINDOW_PX, _WINDOW_PX)
    return torch.from_numpy(np.ascontiguousarray(waves)).float()


def _sum_of_waves(coefficients: Tensor) -> Tensor:
    """Add up the windows of (1, 64, rows, cols) coefficients: columns first, ten times faster."""
    rows = torch.from_numpy(dct(np.eye(_WINDOW_PX), axis=0, norm="ortho")).float()
    rows = rows.to(coefficients.device)
    across = rows.view(_WINDOW_PX, 1, 1, _WINDOW_PX).repeat(_WINDOW_PX, 1, 1, 1)
    columns = nnf.conv_transpose2d(coefficients, across, groups=_WINDOW_PX)
    return nnf.conv_transpose2d(columns, rows.view(_WINDOW_PX, 1, _WINDOW_PX, 1))


def _noise_spectrum(noise: Tensor | None) -> Tensor:
    """Variance of each wave's coefficient under noise of unit variance, (1, 64, 1, 1)."""
    waves = _waves()
    if noise is None:
        return torch.ones(1, len(waves), 1, 1)
    root = noise[:1].cpu()
    spread = nnf.conv2d(waves, root, padding=root.shape[-1] - 1)
    return (spread**2).sum(dim=(1, 2, 3)).view(1, -1, 1, 1)
