"""Draw a picture on finer pixels from a fixed code, without a noise law: Ulyanov's prior, leaner.

The network draws the picture, a low pass makes its coarse pixels, and these are compared with the
given ones: Ulyanov et al. 2018, section 3.2. What differs from the published recipe: an hourglass
without skips, narrow where the picture is large (an eleventh of the multiplications), the mean of
the last outputs instead of the last one, a rate that falls to zero, and clipped pixels, which say
only that the picture is at least as dark or as bright there.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.fits.fit_code import CODE_CHANNELS, code_for
from dip_pipeline.restoration.fits.fit_image import quick_answer
from dip_pipeline.restoration.fits.stopping import StepHook, ignore_step
from dip_pipeline.restoration.forward.decimation import Decimation
from dip_pipeline.restoration.forward.optics import DecimationKind
from dip_pipeline.restoration.networks.architectures import Hourglass
from dip_pipeline.restoration.networks.recording import adam, repeated, set_rate

_CODE_JITTER = 0.03  # redrawn every step, of a code between 0 and 1
_AVERAGING = 0.98  # weight of the past in the mean of the outputs
_WARMING_STEPS = 30
_STEADY_SHARE = 0.5  # of the steps, after which the rate falls
_LEAST_SIDE_PX = 32  # of the finer picture


@dataclass(frozen=True, slots=True)
class FinerOptions:
    """How the picture is drawn.

    decimation : low pass between the finer picture and the given one
    widths : channels of the hourglass' levels
    """

    steps: int = 560
    learning_rate: float = 5e-3
    decimation: DecimationKind = DecimationKind.LANCZOS
    widths: tuple[int, ...] = (32, 64, 128, 128, 128)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise RestorationError(f"steps={self.steps}: need at least one optimiser step")


def draw_finer(
    picture: NDArray[np.floating],
    factor: int,
    options: FinerOptions | None = None,
    *,
    seed: int,
    device: str = "cpu",
    on_step: StepHook = ignore_step,
) -> NDArray[np.float32]:
    """Draw a picture (channels, rows, cols) between 0 and 1 on pixels finer by a whole factor.

    Pixels of exactly 0 or 1 are taken to be clipped; those that are NaN say nothing.
    Raises RestorationError for another shape, range or factor, and where a fit diverges.
    """
    options = options or FinerOptions()
    _check(picture, factor)
    operator = Decimation(options.decimation, factor)
    given = torch.from_numpy(np.asarray(picture, dtype=np.float32))[:, None].to(device)
    known, target = torch.isfinite(given).float(), given.nan_to_num()
    drawing = _Drawing(target, factor, options, seed)
    steps = _Steps(drawing, operator, target, known)
    for step in range(1, options.steps + 1):
        rate = options.learning_rate * _share_of_rate(step, options.steps)
        averaging = min(_AVERAGING, step / (step + 10)) if step > 1 else 0.0
        on_step(step, options.steps, steps.take(rate, averaging=averaging))
    finer: NDArray[np.float32] = steps.average[:, 0].clamp(0, 1).cpu().numpy()
    if not np.isfinite(finer).all():
        raise RestorationError("the fit diverged: try another seed, or a lower rate")
    return finer


class _Drawing:
    """The network and its code; the first weights and every jitter depend on the seed alone."""

    def __init__(self, target: Tensor, factor: int, options: FinerOptions, seed: int) -> None:
        channels, _, *coarse = target.shape
        rows, cols = (factor * side for side in coarse)
        # Torch's own first weights, smaller than He's: under normalisation that is a faster start.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Hourglass(CODE_CHANNELS, channels, widths=options.widths)
        self._jitter = Generator(target.device).manual_seed(seed)
        self.network: nn.Module = network.to(target.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        code = code_for((rows, cols), (0, 0), seed).to(target.device)
        self._code = code.contiguous(memory_format=torch.channels_last)
        self._noise = torch.zeros(self._code.shape, device=target.device)
        self.shape = (channels, 1, rows, cols)

    def shake(self) -> None:
        """Draw the code's jitter anew."""
        self._noise.normal_(generator=self._jitter)

    def draw(self) -> Tensor:
        """Draw once, (channels, 1, rows, cols), between 0 and 1."""
        answer = quick_answer(self.network, self._code + _CODE_JITTER * self._noise)
        return torch.sigmoid(answer).transpose(0, 1)


class _Steps:
    """Steps down the misfit of what is drawn, and the mean of what was."""

    def __init__(
        self, drawing: _Drawing, operator: Decimation, target: Tensor, known: Tensor
    ) -> None:
        self._drawing, self._operator = drawing, operator
        self._target, self._known = target, known
        network = drawing.network
        self._optimiser = adam(network.parameters(), 0.0)
        self._new = torch.zeros((), device=target.device)
        self.average = torch.zeros(drawing.shape, device=target.device)
        changed = [*network.parameters(), *network.buffers(), self.average]
        self._repeated = repeated(self._step, changed, [self._optimiser])

    def take(self, rate: float, *, averaging: float) -> Tensor:
        """Take one; gives the loss. averaging : weight of the past in the mean."""
        set_rate(self._optimiser, rate)
        self._new.fill_(1 - averaging)
        self._drawing.shake()
        return self._repeated()

    def _step(self) -> Tensor:
        drawn = self._drawing.draw()
        loss = _misfit(self._operator.forward(drawn), self._target, self._known)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self.average.lerp_(drawn.detach(), self._new)
        return loss.detach()


def _misfit(seen: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Mean squared difference of what is known; beyond where a pixel is clipped it has none."""
    explained = ((target <= 0) & (seen < 0)) | ((target >= 1) & (seen > 1))
    squares = ((seen - target) ** 2).masked_fill(explained, 0.0)
    return (squares * known).sum() / known.sum().clamp(min=1.0)


def _share_of_rate(step: int, steps: int) -> float:
    """1 in the first half but for a short rise, then a cosine down to 0."""
    rising = min(1.0, step / _WARMING_STEPS)
    falling = max(0.0, step / steps - _STEADY_SHARE) / (1 - _STEADY_SHARE)
    return rising * 0.5 * (1 + math.cos(math.pi * falling))


def _check(picture: NDArray[np.floating], factor: int) -> None:
    if picture.ndim != 3 or factor * min(picture.shape[1:]) < _LEAST_SIDE_PX:
        raise RestorationError(
            f"picture of shape {picture.shape}: need (channels, rows, cols) with sides of "
            f"{-(-_LEAST_SIDE_PX // max(factor, 1))} px or more"
        )
    seen = picture[~np.isnan(picture)]
    if seen.size == 0 or not (seen.min() >= 0 and seen.max() <= 1):
        raise RestorationError("picture: need values between 0 and 1; divide by its peak")
