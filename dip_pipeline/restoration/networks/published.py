"""The deep image prior as published, so that its results can be reproduced.

Ulyanov, Vedaldi and Lempitsky 2018 (CVPR, and its supplement) and 2020 (Int. J. Comput. Vis. 128,
1867): their hourglass and their recipes for denoising, filling and finer pixels. Nothing here is
improved; what this package makes of the idea is in `networks` and `fit_code`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.forward.decimation import Decimation
from dip_pipeline.restoration.forward.operators import Identity, Operator
from dip_pipeline.restoration.forward.optics import DecimationKind

Image = NDArray[np.float32]
Judge = Callable[[Image], float]

_SLOPE = 0.2  # of the leaky rectifier
_LEVELS = 5


class PublishedHourglass(nn.Module):
    """The published encoder and decoder, with narrow skip connections or without any.

    skip_channels : 4 for denoising and super-resolution; 0 as for large holes. Each convolution
    has a bias and is followed by batch normalisation, always with the statistics of the image
    at hand; the output lies between 0 and 1.
    """

    multiple = 2**_LEVELS

    def __init__(
        self, channels_in: int, channels_out: int, *, skip_channels: int = 4, width: int = 128
    ) -> None:
        super().__init__()
        level = _Level(width, width, skip_channels, None)
        for depth in reversed(range(_LEVELS - 1)):
            level = _Level(width if depth else channels_in, width, skip_channels, level)
        self.levels = level
        self.last = nn.Conv2d(width, channels_out, 1)

    def forward(self, code: Tensor) -> Tensor:
        """Map (1, channels_in, rows, cols) to (1, channels_out, rows, cols)."""
        return torch.sigmoid(self.last(self.levels(code)))


class _Level(nn.Module):
    """One level down, what lies below it, and up again, beside a skip connection."""

    def __init__(
        self, channels_in: int, width: int, skip_channels: int, below: "_Level | None"
    ) -> None:
        super().__init__()
        self.skip = _convolved(channels_in, skip_channels, kernel=1) if skip_channels else None
        self.down = nn.Sequential(
            _convolved(channels_in, width, stride=2), _convolved(width, width)
        )
        self.below = below
        self.up = nn.Sequential(
            nn.BatchNorm2d(skip_channels + width),
            _convolved(skip_channels + width, width),
            _convolved(width, width, kernel=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        deep = self.down(x)
        if self.below is not None:
            deep = self.below(deep)
        joined = nnf.interpolate(deep, scale_factor=2, mode="bilinear", align_corners=False)
        if self.skip is not None:
            joined = torch.cat([self.skip(x), joined], dim=1)
        out: Tensor = self.up(joined)
        return out


def _convolved(
    channels_in: int, channels_out: int, *, kernel: int = 3, stride: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            channels_in,
            channels_out,
            kernel,
            stride=stride,
            padding=kernel // 2,
            padding_mode="reflect",
        ),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(_SLOPE),
    )


@dataclass(frozen=True, slots=True)
class PublishedRecipe:
    """The numbers of the published recipe for denoising.

    steps : 3000 in the published notebook, 1800 for the table of the paper
    code_channels, code_height : of the fixed code, uniform between 0 and the height
    jitter : standard deviation of what is added to the code at each step; 1/20 for noise of 50/255
    averaging : weight of the past in the running average of the output
    fallback_db : a step that fits the noisy image worse by more than this is taken back
    factor : pixels of the picture for one of the image, along each axis; the picture is seen
        through a Lanczos low pass of two lobes
    """

    skip_channels: int = 4
    steps: int = 3000
    learning_rate: float = 0.01
    code_channels: int = 32
    code_height: float = 0.1
    jitter: float = 1 / 30
    averaging: float = 0.99
    fallback_db: float = 5.0
    factor: int = 1


# Of an image half of whose pixels are missing, in the published notebook: jitter 0.03.
PUBLISHED_FILLING = PublishedRecipe(steps=11_000, learning_rate=1e-3, jitter=0.03)

# Of pixels four times finer, in the published notebook; no step is taken back there.
PUBLISHED_FINER = PublishedRecipe(steps=2000, jitter=0.03, fallback_db=float("inf"), factor=4)


@dataclass(frozen=True, slots=True)
class Look:
    """Scores of one look at a fit: of its last output, and of the running average.

    seconds : spent on the fit so far, looks left out
    """

    step: int
    seconds: float
    last: float
    averaged: float


@dataclass(frozen=True, slots=True, eq=False)
class PublishedFit:
    """What the recipe made of an image; images are (channels, rows, cols), from 0 to 1.

    looks : how it went, where a judge was given
    """

    last: Image
    averaged: Image
    seconds: float
    looks: tuple[Look, ...] = ()

    @property
    def best(self) -> Look:
        """The look at the best single output: nobody without the truth could stop there."""
        return max(self.looks, key=lambda look: look.last)

    @property
    def best_averaged(self) -> Look:
        """The look at which the running average was best."""
        return max(self.looks, key=lambda look: look.averaged)


def psnr_db(image: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Peak signal-to-noise ratio of images whose peak is 1, decibels."""
    difference = image.astype(np.float64) - truth
    return float(-10 * np.log10(np.mean(difference**2)))


def fit_published(
    noisy: NDArray[np.floating],
    recipe: PublishedRecipe | None = None,
    *,
    seed: int,
    device: str = "cpu",
    judge: Judge | None = None,
    look_every: int = 50,
) -> PublishedFit:
    """Denoise an image by the published recipe, fill what is missing of it, or draw it finer.

    noisy : (channels, rows, cols), noise around a picture between 0 and 1; clipped to that
        range, as published; NaN where it is missing, and not compared there
    judge : scores an output, more is better: for a benchmark that knows the truth
    Raises RestorationError where the sides do not suit the network.
    """
    recipe = recipe or PublishedRecipe()
    _check_sides(noisy.shape, recipe.factor)
    operator: Operator = Identity()
    if recipe.factor > 1:
        operator = Decimation(DecimationKind.LANCZOS, recipe.factor)
    jitter_seed = int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])
    generator = Generator(device).manual_seed(jitter_seed)
    seen = np.clip(np.nan_to_num(noisy), 0, 1).astype(np.float32)
    target = torch.from_numpy(seen)[None].to(device)
    known = torch.from_numpy(np.isfinite(noisy).astype(np.float32))[None].to(device)
    network, code = _start(target, recipe, seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    guard = _Guard(network, recipe.fallback_db)
    average, looks, seconds = torch.empty(0), [], 0.0
    for step in range(1, recipe.steps + 1):
        started = time.monotonic()
        jitter = torch.randn(code.shape, generator=generator, device=device)
        optimiser.zero_grad()
        out = network(code + recipe.jitter * jitter)
        drawn = out.detach()
        average = drawn if step == 1 else average.lerp(drawn, 1 - recipe.averaging)
        loss = nnf.mse_loss(known * _each(operator, out), target)
        loss.backward()  # type: ignore[no-untyped-call]
        guard.check(float(loss.detach()))
        optimiser.step()
        seconds += time.monotonic() - started
        if judge is not None and (step % look_every == 0 or step == recipe.steps):
            scores = (judge(_image(plane)) for plane in (drawn, average))
            looks.append(Look(step, seconds, *scores))
    return PublishedFit(_image(drawn), _image(average), seconds, tuple(looks))


class _Guard:
    """Takes weights back to those of the step before where a fit collapses.

    The optimiser's step that follows is taken all the same, as published.
    """

    def __init__(self, network: nn.Module, fallback_db: float) -> None:
        self._weights = list(network.parameters())
        self._kept = [weights.detach().clone() for weights in self._weights]
        self._factor = 10 ** (fallback_db / 10)
        self._last_loss = float("inf")

    def check(self, loss: float) -> None:
        """Compare the loss with that of the last good step."""
        with torch.no_grad():
            if loss > self._factor * self._last_loss:
                for weights, kept in zip(self._weights, self._kept, strict=True):
                    weights.copy_(kept)
                return
            for weights, kept in zip(self._weights, self._kept, strict=True):
                kept.copy_(weights)
        self._last_loss = loss


def _start(target: Tensor, recipe: PublishedRecipe, seed: int) -> tuple[PublishedHourglass, Tensor]:
    """Draw the first weights and the code; both depend on the seed alone."""
    channels, rows, cols = target.shape[1], *(recipe.factor * side for side in target.shape[2:])
    generator = Generator().manual_seed(seed)
    code = recipe.code_height * torch.rand(
        (1, recipe.code_channels, rows, cols), generator=generator
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PublishedHourglass(
            recipe.code_channels, channels, skip_channels=recipe.skip_channels
        )
    return network.to(target.device), code.to(target.device)


def _each(operator: Operator, planes: Tensor) -> Tensor:
    """Observe (1, channels, rows, cols), each channel for itself."""
    return operator.forward(planes.transpose(0, 1)).transpose(0, 1)


def _check_sides(shape: tuple[int, ...], factor: int) -> None:
    multiple = PublishedHourglass.multiple
    sides = [side * factor for side in shape[1:]]
    if len(shape) == 3 and all(side % multiple == 0 and side > multiple for side in sides):
        return
    times = f" divided by {factor}" if factor > 1 else ""
    raise RestorationError(
        f"image of shape {shape}: the published network needs (channels, rows, cols) with sides "
        f"that are multiples of {multiple} px{times}, {2 * multiple} px{times} or more; crop it"
    )


def _image(plane: Tensor) -> Image:
    image: Image = plane[0].cpu().numpy()
    return image
