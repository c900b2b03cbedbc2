"""Fit of a code-input network: the deep image prior itself, stopped by a held-out copy."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Generator, Tensor, nn

from dip_pipeline.restoration.fits.fitted import Fitted
from dip_pipeline.restoration.fits.stopping import (
    JudgedRisk,
    MovingVariance,
    StepHook,
    StoppingRule,
    VarianceValley,
    ignore_step,
    structure_left,
)
from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.networks.architectures import build_network
from dip_pipeline.restoration.networks.recording import adam, repeated
from dip_pipeline.restoration.noise.correlation import correlate, reach_px
from dip_pipeline.restoration.problem import FitOptions, StopReason
from dip_pipeline.restoration.views.regions import Region

CODE_CHANNELS = 16
_CELL_PX = 64  # the code is drawn cell by cell, so any region of a frame sees the same code
_CODE_JITTER = 1 / 30  # relative to the code's scale, redrawn every step
_LEARNING_RATE = 5e-3
_HUBER_SIGMA = 8.0
_AVERAGING = 0.98  # of the weights' running mean
_LOOK_EVERY = 25
_PATIENCE = 12
# Where the noise is not known. In Wang et al. 2021 the share is 0.1 a step: as much as here.
_BLIND_LOOK_EVERY = 5
_BLIND_SHARE = 0.4
_BLIND_PATIENCE_STEPS = 300
_WHITE = 0.05  # correlation of neighbouring residuals below which nothing is left to learn
_WATCHED_PX = 256  # side of the square that is watched, shared by all regions
_LEAST_WATCHED_PX = 64
_CROP_PX = 256  # larger regions are fitted crop by crop
SPLIT_STRENGTH = 0.5  # y_fit = y + a n, y_judge = y - n / a: drawn once, never redrawn


def code_for(region_shape: tuple[int, int], origin: tuple[int, int], seed: int) -> Tensor:
    """Draw the fixed random code of a region, (1, CODE_CHANNELS, rows, cols), uniform in 0 to 1."""
    return _by_cells(region_shape, origin, lambda row, col: _code_cell(seed, row, col))


def judged_split(region: Region, seed: int) -> tuple[Tensor, Tensor]:
    """Split a region once: a copy to fit and a copy to judge by; the same for one seed.

    The noise is drawn cell by cell of the frame, as the code is: another region over the same
    pixels gets the same split, so its judge has not been seen by the fit either.
    """
    root = region.noise.root
    reach = reach_px(root)
    white = _by_cells(
        (region.shape[0] + 2 * reach, region.shape[1] + 2 * reach),
        (region.origin[0] - reach, region.origin[1] - reach),
        lambda row, col: _noise_cell(seed, row, col),
    )
    noise = region.sigma * correlate(white.to(region.observed.device), root)
    return region.observed + SPLIT_STRENGTH * noise, region.observed - noise / SPLIT_STRENGTH


def amplitude(fitted: Tensor) -> Tensor:
    """Scale of the output at each pixel: spares the network three decades of star light.

    fitted : the copy that the network is fitted to. Not the observation, which holds noise of
    the copy that judges.
    """
    return torch.sqrt(1 + smooth(fitted, 2.0) ** 2)


def picture(network: nn.Module, code: Tensor, scale: Tensor) -> Tensor:
    """Draw the network's image, in sky-sigma units; sides need not fit its multiple."""
    rows, cols = scale.shape[-2:]
    step = 16
    padded = nnf.pad(code, (0, -cols % step, 0, -rows % step), mode="replicate")
    out: Tensor = network(padded.contiguous(memory_format=torch.channels_last))
    return out[..., :rows, :cols] * scale


def fit_code_network(
    regions: list[Region],
    options: FitOptions,
    *,
    seed: int,
    device: str,
    judged: bool,
    on_step: StepHook = ignore_step,
) -> Fitted:
    """Fit one network from the code to the regions' first copies.

    judged : whether the noise law is known, so that the second copies can say when to stop;
    else the observation itself is fitted, until the image begins to follow its noise.
    """
    network = build_network(options.network_kind, CODE_CHANNELS, 1, seed=seed).to(device)
    running = copy.deepcopy(network).eval()
    generator = Generator(device).manual_seed(seed)
    rng = np.random.default_rng(seed)
    sheets = [_Sheet.lay_out(region, seed, judged=judged) for region in regions]
    watch: _Watch = _JudgedWatch(sheets) if judged else _BlindWatch(sheets)
    rule = watch.rule
    steps = _Steps(network, running)
    best = copy.deepcopy(running.state_dict())
    reason, step = None, 0
    for step in range(1, options.step_limit + 1):
        part = _drawn_part(sheets[rng.integers(len(sheets))], rng)
        jitter = torch.randn(part.code.shape, generator=generator, device=generator.device)
        loss = steps.take(part, jitter, averaging=min(_AVERAGING, step / (step + 10)))
        on_step(step, options.step_limit, loss)
        if step % watch.every == 0 or step == options.step_limit:
            reason = rule.update(step, watch.measure(network, running))
            if rule.best_step == step:
                best = copy.deepcopy(running.state_dict())
            if reason is not None:
                break
    if rule.best_step is not None:
        running.load_state_dict(best)
    if reason is None:
        reason = StopReason.STEP_LIMIT if rule.best_step in (None, step) else rule.reason
    return Fitted(running, step, reason, _judge(running, sheets) if judged else math.nan)


@dataclass(frozen=True, slots=True)
class _Sheet:
    """One region with its code, target and judge; planes (1, 1, rows, cols)."""

    code: Tensor
    scale: Tensor
    target: Tensor
    judge: Tensor
    sigma: Tensor
    weight: Tensor

    @classmethod
    def lay_out(cls, region: Region, seed: int, *, judged: bool) -> "_Sheet":
        observed = region.observed
        target, judge = judged_split(region, seed) if judged else (observed, observed)
        code = code_for(region.shape, region.origin, seed).to(observed.device)
        return cls(code, amplitude(target), target, judge, region.sigma, region.trusted)

    def middle(self, side_px: int) -> "_Sheet":
        """Cut a square of at most that side from the middle."""
        rows, cols = (
            slice(max(0, (length - side_px) // 2), (length + side_px) // 2)
            for length in self.scale.shape[-2:]
        )
        return self.crop(rows, cols)

    def crop(self, rows: slice, cols: slice) -> "_Sheet":
        """Cut a window."""
        return self.each(lambda plane: plane[..., rows, cols])

    def each(self, change: Callable[[Tensor], Tensor]) -> "_Sheet":
        """Change all planes alike."""
        return _Sheet(*(change(plane) for plane in self._planes))

    def keep(self, other: "_Sheet") -> None:
        """Take the planes of another one of the same shape into the memory of this one."""
        for mine, its in zip(self._planes, other._planes, strict=True):
            mine.copy_(its)

    @property
    def _planes(self) -> tuple[Tensor, ...]:
        return self.code, self.scale, self.target, self.judge, self.sigma, self.weight


def _drawn_part(sheet: _Sheet, rng: np.random.Generator) -> _Sheet:
    rows, cols = sheet.scale.shape[-2:]
    top = int(rng.integers(max(rows - _CROP_PX, 0) + 1))
    left = int(rng.integers(max(cols - _CROP_PX, 0) + 1))
    return sheet.crop(slice(top, top + _CROP_PX), slice(left, left + _CROP_PX))


class _Steps:
    """Steps of a network down the loss of a part, each followed by its mean over the steps."""

    def __init__(self, network: nn.Module, running: nn.Module) -> None:
        self._network, self._running = network, running
        self._optimiser = adam(network.parameters(), _LEARNING_RATE)
        self._new = torch.zeros((), device=next(network.parameters()).device)
        self._places: dict[torch.Size, tuple[_Sheet, Tensor, Callable[[], Tensor]]] = {}

    def take(self, part: _Sheet, jitter: Tensor, *, averaging: float) -> Tensor:
        """Take one; gives the loss. averaging : weight of the past in the mean of the weights."""
        self._new.fill_(1 - averaging)
        shape = part.scale.shape
        if shape not in self._places:
            place = part.each(torch.clone), jitter.clone()
            step = repeated(partial(self._step, *place), self._changed(), [self._optimiser])
            self._places[shape] = (*place, step)
        kept, its_jitter, step = self._places[shape]
        kept.keep(part)
        its_jitter.copy_(jitter)
        return step()

    def _step(self, part: _Sheet, jitter: Tensor) -> Tensor:
        loss = _part_loss(self._network, part, jitter)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        _average(self._running, self._network, self._new)
        return loss.detach()

    def _changed(self) -> list[Tensor]:
        both = self._network, self._running
        return [tensor for one in both for tensor in (*one.parameters(), *one.buffers())]


def _part_loss(network: nn.Module, part: _Sheet, jitter: Tensor) -> Tensor:
    out = picture(network, part.code + _CODE_JITTER * jitter, part.scale)
    residual = (out - part.target) / part.sigma
    each = nnf.huber_loss(
        residual, torch.zeros_like(residual), delta=_HUBER_SIGMA, reduction="none"
    )
    return (each * part.weight).sum() / part.weight.sum().clamp(min=1.0)


class _Watch(Protocol):
    """Measures, every few steps, what a rule needs to know of a fit."""

    every: int
    rule: StoppingRule

    def measure(self, network: nn.Module, running: nn.Module) -> float:
        """Look at the network, or at the running mean of its weights."""


class _JudgedWatch:
    """Judges the running mean by the copies that the fit does not see."""

    every = _LOOK_EVERY

    def __init__(self, sheets: list[_Sheet]) -> None:
        self.sheets = sheets
        self.rule: StoppingRule = JudgedRisk(_PATIENCE)

    def measure(self, network: nn.Module, running: nn.Module) -> float:  # noqa: ARG002  (protocol)
        """Estimate the risk."""
        return _judge(running, self.sheets)


class _BlindWatch:
    """Measures how much the image still changes, in units of its own amplitude.

    While the residual shows shapes the image is not learned, and a calm look does not count:
    early in a fit, between coarse and fine structure, there is a false valley. Empty sky has no
    shapes, and is best after a few looks.
    """

    every = _BLIND_LOOK_EVERY

    def __init__(self, sheets: list[_Sheet]) -> None:
        side_px = max(_LEAST_WATCHED_PX, int(_WATCHED_PX / len(sheets) ** 0.5))
        self.parts = [sheet.middle(side_px) for sheet in sheets]
        self.rule: StoppingRule = VarianceValley(_BLIND_PATIENCE_STEPS)
        self.variance = MovingVariance(_BLIND_SHARE)

    def measure(self, network: nn.Module, running: nn.Module) -> float:
        """Give the running variance of the network; infinite where the mean is not learned."""
        network.eval()
        with torch.no_grad():
            now = [picture(network, part.code, part.scale) / part.scale for part in self.parts]
            kept = [picture(running, part.code, part.scale) for part in self.parts]
        network.train()
        variance = self.variance.update(torch.cat([image.flatten() for image in now]))
        shapes = [
            structure_left(part.target - image, part.weight)
            for image, part in zip(kept, self.parts, strict=True)
        ]
        learned = float(np.mean(shapes)) < _WHITE
        return variance if learned or math.isnan(variance) else math.inf


def _judge(network: nn.Module, sheets: list[_Sheet]) -> float:
    """Unbiased risk of the running mean: |x - y_judge|^2 - (1 + 1/a^2), in units of sigma."""
    total, count = 0.0, 0.0
    with torch.no_grad():
        for sheet in sheets:
            out = picture(network, sheet.code, sheet.scale)
            each = ((out - sheet.judge) / sheet.sigma) ** 2 - (1 + 1 / SPLIT_STRENGTH**2)
            total += float((each * sheet.weight).sum())
            count += float(sheet.weight.sum())
    return total / max(count, 1.0)


def _average(running: nn.Module, network: nn.Module, new: Tensor) -> None:
    """Move the mean of the weights; new : weight of what they are now."""
    with torch.no_grad():
        for mean, weights in zip(running.parameters(), network.parameters(), strict=True):
            mean.lerp_(weights, new)
        for kept, statistic in zip(running.buffers(), network.buffers(), strict=True):
            kept.copy_(statistic)


def _by_cells(
    shape: tuple[int, int], origin: tuple[int, int], draw: Callable[[int, int], np.ndarray]
) -> Tensor:
    """Put the cells of the frame that a region touches together and cut them to the region."""
    rows, cols = shape
    first_row, first_col = origin[0] // _CELL_PX, origin[1] // _CELL_PX
    last_row, last_col = (origin[0] + rows - 1) // _CELL_PX, (origin[1] + cols - 1) // _CELL_PX
    bands = []
    for row in range(first_row, last_row + 1):
        cells = [draw(row, col) for col in range(first_col, last_col + 1)]
        bands.append(np.concatenate(cells, axis=2))
    field = np.concatenate(bands, axis=1)
    top, left = origin[0] - first_row * _CELL_PX, origin[1] - first_col * _CELL_PX
    return torch.from_numpy(field[None, :, top : top + rows, left : left + cols].copy())


def _code_cell(seed: int, row: int, col: int) -> np.ndarray:
    rng = np.random.default_rng(np.random.SeedSequence([seed, row, col]))
    return rng.random((CODE_CHANNELS, _CELL_PX, _CELL_PX), dtype=np.float32)


def _noise_cell(seed: int, row: int, col: int) -> np.ndarray:
    # Beyond the frame's first rows and columns cells have negative numbers; a seed may not.
    place = [number % 2**32 for number in (row, col)]
    rng = np.random.default_rng(np.random.SeedSequence([seed, *place, 7]))
    return rng.standard_normal((1, _CELL_PX, _CELL_PX), dtype=np.float32)
