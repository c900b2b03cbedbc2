"""Fit of a code-input network: the deep image prior itself, stopped by a held-out copy."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Generator, Tensor, nn

from dip_pipeline.restoration.networks import build_network
from dip_pipeline.restoration.problem import FitOptions, StopReason
from dip_pipeline.restoration.regions import Region
from dip_pipeline.restoration.smoothing import smooth
from dip_pipeline.restoration.stopping import (
    FixedSteps,
    JudgedRisk,
    StepHook,
    StoppingRule,
    ignore_step,
)

CODE_CHANNELS = 16
_CELL_PX = 64  # the code is drawn cell by cell, so any region of a frame sees the same code
_CODE_JITTER = 1 / 30  # relative to the code's scale, redrawn every step
_LEARNING_RATE = 5e-3
_HUBER_SIGMA = 8.0
_AVERAGING = 0.98  # of the weights' running mean
_LOOK_EVERY = 25
_PATIENCE = 12
_CROP_PX = 256  # larger regions are fitted crop by crop
SPLIT_STRENGTH = 0.5  # y_fit = y + a n, y_judge = y - n / a: drawn once, never redrawn


@dataclass(frozen=True, slots=True)
class CodeFit:
    """A fitted code network, how long it took, why it ended, and its judged risk."""

    network: nn.Module
    steps: int
    stop_reason: StopReason
    risk: float


def code_for(region_shape: tuple[int, int], origin: tuple[int, int], seed: int) -> Tensor:
    """Draw the fixed random code of a region, (1, CODE_CHANNELS, rows, cols), uniform in 0 to 1."""
    return _by_cells(region_shape, origin, lambda row, col: _code_cell(seed, row, col))


def judged_split(region: Region, seed: int) -> tuple[Tensor, Tensor]:
    """Split a region once: a copy to fit and a copy to judge by; the same for one seed.

    The noise is drawn cell by cell of the frame, as the code is: another region over the same
    pixels gets the same split, so its judge has not been seen by the fit either.
    """
    unit = _by_cells(region.shape, region.origin, lambda row, col: _noise_cell(seed, row, col))
    noise = region.sigma * unit.to(region.observed.device)
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
) -> CodeFit:
    """Fit one network from the code to the regions' first copies.

    judged : whether the noise law is known, so that the second copies can say when to stop;
    else all steps are done on the observation itself.
    """
    network = build_network(options.network_kind, CODE_CHANNELS, 1, seed=seed).to(device)
    running = copy.deepcopy(network).eval()
    generator = Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    sheets = [_Sheet.lay_out(region, seed, judged=judged) for region in regions]
    rule: StoppingRule = JudgedRisk(_PATIENCE) if judged else FixedSteps()
    optimiser = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
    best = copy.deepcopy(running.state_dict())
    reason, risk, step = None, float("nan"), 0
    for step in range(1, options.step_limit + 1):
        loss = _sheet_loss(network, sheets[rng.integers(len(sheets))], rng, generator)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        on_step(step, options.step_limit, loss)
        _average(running, network, min(_AVERAGING, step / (step + 10)))
        if step % _LOOK_EVERY == 0 or step == options.step_limit:
            risk = _judge(running, sheets) if judged else float(loss.detach())
            reason = rule.update(step, risk)
            if rule.best_step == step:
                best = copy.deepcopy(running.state_dict())
            if reason is not None:
                break
    running.load_state_dict(best)
    if reason is None:
        reason = StopReason.STEP_LIMIT if rule.best_step == step else StopReason.JUDGED_RISK
    return CodeFit(running, step, reason, _judge(running, sheets) if judged else risk)


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

    def crop(self, rows: slice, cols: slice) -> "_Sheet":
        planes = (self.code, self.scale, self.target, self.judge, self.sigma, self.weight)
        return _Sheet(*(plane[..., rows, cols] for plane in planes))


def _sheet_loss(
    network: nn.Module, sheet: _Sheet, rng: np.random.Generator, generator: Generator
) -> Tensor:
    rows, cols = sheet.scale.shape[-2:]
    top = int(rng.integers(max(rows - _CROP_PX, 0) + 1))
    left = int(rng.integers(max(cols - _CROP_PX, 0) + 1))
    part = sheet.crop(slice(top, top + _CROP_PX), slice(left, left + _CROP_PX))
    jitter = torch.randn(part.code.shape, generator=generator).to(part.code.device)
    out = picture(network, part.code + _CODE_JITTER * jitter, part.scale)
    residual = (out - part.target) / part.sigma
    each = nnf.huber_loss(
        residual, torch.zeros_like(residual), delta=_HUBER_SIGMA, reduction="none"
    )
    return (each * part.weight).sum() / part.weight.sum().clamp(min=1.0)


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


def _average(running: nn.Module, network: nn.Module, decay: float) -> None:
    with torch.no_grad():
        for mean, new in zip(running.parameters(), network.parameters(), strict=True):
            mean.lerp_(new, 1 - decay)
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
    rng = np.random.default_rng(np.random.SeedSequence([seed, row, col, 7]))
    return rng.standard_normal((1, _CELL_PX, _CELL_PX), dtype=np.float32)
