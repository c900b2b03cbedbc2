"""A network that was taught by the truth of other fields: about the best that can be done at all.

No result of ours: it needs what nobody has of a real sky, sixty fields of the same kind without
noise. What it leaves of the noise in a field that it has not seen, any method would leave, nearly.
"""

from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, mse_loss, pixel_shuffle

from benchmarks.scenes import Image, observed_level
from benchmarks.stabilising import Anscombe
from dip_pipeline.restoration.networks.architectures import UNet
from dip_pipeline.simulate import DetectorOptions

FIELDS = 60
STEPS = 3000  # at 7000 it is better by half a percent
_FIRST_SEED = 10_000  # of the fields it is taught by: none of those that are measured
_CROP_PX = 96  # of the observation
_BATCH = 12
_RATE = 1e-3
_WARM_UP = 100
_KEPT = 0.998  # of the running mean of the weights, a step
WIDTHS = (24, 48, 96, 96)
_SCALE = 10.0  # sigma, as the network's unit

Draw = Callable[[int], tuple[Image, Image]]


class Taught(nn.Module):
    """U-Net from an observation to its level, or to that on pixels of a whole part of the size."""

    def __init__(self, factor: int, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.factor = factor
        self.network = UNet(1, factor**2, widths=widths)

    def forward(self, observed: Tensor) -> Tensor:
        """Map (batch, 1, rows, cols) to (batch, 1, factor rows, factor cols)."""
        found = pixel_shuffle(self.network(observed), self.factor)
        if self.factor > 1:
            observed = interpolate(observed, scale_factor=self.factor, mode="bilinear")
        return observed - found


def teach(
    draw: Draw,
    detector: DetectorOptions,
    factor: int,
    *,
    fields: int,
    steps: int,
    widths: tuple[int, ...] = WIDTHS,
) -> Taught:
    """Teach a network.

    draw : from a seed to (level, rows x cols; truth, factor times as many), DN a pixel of each
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    taught, mean = Taught(factor, widths), Taught(factor, widths)
    mean.load_state_dict(taught.state_dict())
    optimiser = torch.optim.Adam(taught.parameters(), _RATE)
    drawn = [draw(_FIRST_SEED + number) for number in range(fields)]
    stabilised = _stabiliser(detector)
    for step in range(steps):
        rate = min(1.0, (step + 1) / _WARM_UP) * (0.505 + 0.495 * np.cos(np.pi * step / steps))
        optimiser.param_groups[0]["lr"] = _RATE * rate
        pairs = [_crop(*drawn[rng.integers(fields)], factor, rng) for _ in range(_BATCH)]
        levels, truths = (np.stack(planes) for planes in zip(*pairs, strict=True))
        shown = stabilised.forward(observed_level(levels, detector, rng))
        middle = np.median(shown, axis=(1, 2), keepdims=True)
        # Fine pixels, as bright as coarse ones.
        wanted = stabilised.forward(truths * factor**2)
        optimiser.zero_grad()
        loss = mse_loss(taught(_batch(shown - middle)), _batch(wanted - middle))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        kept = min(_KEPT, step / (step + 10))
        with torch.no_grad():
            for own, other in zip(mean.parameters(), taught.parameters(), strict=True):
                own.lerp_(other, 1 - kept)
    return mean


def restored_by(taught: Taught, observed_dn: Image, detector: DetectorOptions) -> Image:
    """Restore an observation, as the mean over its eight turned and mirrored views."""
    stabilised = _stabiliser(detector)
    shown = stabilised.forward(observed_dn)
    middle = np.median(shown)
    views = []
    with torch.no_grad():
        for turns, mirrored in product(range(4), (False, True)):
            view = np.rot90(shown - middle, turns)
            view = view[::-1] if mirrored else view
            found = taught(_batch(view[None]))[0, 0].double().numpy() * _SCALE
            views.append(np.rot90(found[::-1] if mirrored else found, -turns))
    level = stabilised.undo(np.mean(views, axis=0) + middle)
    return level / taught.factor**2


def _batch(planes: Image) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(planes[:, None] / _SCALE, np.float32))


def _stabiliser(detector: DetectorOptions) -> Anscombe:
    return Anscombe(detector.gain_e_per_dn, detector.read_noise_e)


def _crop(level: Image, truth: Image, factor: int, rng: np.random.Generator) -> tuple[Image, Image]:
    """Cut a level and its truth, turned and mirrored alike."""
    side = min(_CROP_PX // factor, *level.shape)
    row, col = (int(rng.integers(0, length - side + 1)) for length in level.shape)
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    pair = []
    for plane, scale in ((level, 1), (truth, factor)):
        cut = plane[scale * row : scale * (row + side), scale * col : scale * (col + side)]
        cut = np.rot90(cut, turns)
        pair.append(cut[::-1] if mirrored else cut)
    return pair[0], pair[1]
