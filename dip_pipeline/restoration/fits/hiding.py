"""Fill scattered pixels of a picture without a noise law, by a network that learns by hiding more.

Some of the known pixels are hidden, the network predicts them from the rest, and is fitted to what
was there: Ulyanov's idea of a prior that comes from the picture alone, with the picture as input
instead of a code. Hiding what is to be predicted is Noise2Void's (Krull et al. 2019, CVPR); no
noise has to be drawn, so no law of it is needed. Textures that come again in the picture are
learned; what is wholly hidden is not.

Planes are (batch, 1, rows, cols), in units of the picture's own contrast.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from torch import Tensor, nn

from dip_pipeline.errors import DivergedError, RestorationError
from dip_pipeline.restoration.fits.fit_image import descend, one_cycle, quick_answer
from dip_pipeline.restoration.fits.stopping import StepHook, ignore_step
from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.networks.architectures import UNet, initialise
from dip_pipeline.restoration.views.crops import turn

_CHANNELS = 5
_NEAR_PX, _WIDER_PX, _FAR_PX = 0.6, 1.2, 4.0  # standard deviations of the means that are seen
_VIEWS = 8  # turns of the picture and of its mirror image, averaged in the end
_LEAST_WEIGHT = 1e-6


@dataclass(frozen=True, slots=True)
class HidingOptions:
    """How the network is fitted.

    steps : of the optimiser, each on that many crops
    hidden_share : of the known pixels of a crop
    widths : channels of the network's levels
    """

    steps: int = 1600
    crops: int = 4
    crop_px: int = 64
    hidden_share: float = 0.1
    widths: tuple[int, ...] = (24, 48, 96, 128)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.crops < 1:
            raise RestorationError(
                f"steps={self.steps}, crops={self.crops}: need at least one of each"
            )
        if not 0 < self.hidden_share < 1:
            raise RestorationError(f"hidden_share={self.hidden_share}: need more than 0, below 1")

    @property
    def multiple(self) -> int:
        """What the sides of the network's input have to be a multiple of."""
        return 1 << (len(self.widths) - 1)


def fill_by_hiding(
    picture: NDArray[np.floating],
    options: HidingOptions | None = None,
    *,
    seed: int,
    device: str = "cpu",
    on_step: StepHook = ignore_step,
) -> NDArray[np.float32]:
    """Fill the NaN of a picture (rows, cols); other pixels come back as they are, in its unit.

    Raises RestorationError where nothing is known, or too little for a crop; DivergedError where
    the fit comes to nothing.
    """
    options = options or HidingOptions()
    given = np.asarray(picture, dtype=np.float32)
    if given.ndim != 2:
        raise RestorationError(f"picture of shape {given.shape}: need (rows, cols)")
    known = np.isfinite(given)
    if known.all():
        return given.copy()
    smallest_px = 2 * options.multiple
    if min(given.shape) < smallest_px or not known.any():
        raise RestorationError(
            f"picture of {given.shape[0]} x {given.shape[1]} px, {int(known.sum())} of them known: "
            f"need sides of {smallest_px} px or more, and something to learn from"
        )
    seen, level, contrast = _scaled(torch.from_numpy(given)[None, None].to(device))
    shown = torch.from_numpy(known).float()[None, None].to(device)
    network = _fit(seen, shown, options, seed, on_step)
    filled = _averaged(network.eval(), seen, shown, options.multiple)
    values: NDArray[np.float32] = (filled * contrast + level)[0, 0].cpu().numpy()
    if not np.isfinite(values).all():
        raise DivergedError("the fit diverged: try another seed")
    return np.where(known, given, values)


def _scaled(picture: Tensor) -> tuple[Tensor, float, float]:
    """Put the picture, 0 where it is not known, in units of its contrast around its median."""
    known = torch.isfinite(picture).float()
    level = float(picture[known > 0].median())
    around = torch.where(known > 0, picture - level, 0.0)
    local = smooth(around, _FAR_PX) / smooth(known, _FAR_PX).clamp(min=_LEAST_WEIGHT)
    # In double precision: squares of large units are beyond single.
    spread = ((around - local).double() ** 2 * known).sum() / known.sum()
    contrast = max(float(spread.sqrt()), float(torch.finfo(torch.float32).tiny))
    return around / contrast, level, contrast


def _fit(
    seen: Tensor, known: Tensor, options: HidingOptions, seed: int, on_step: StepHook
) -> nn.Module:
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x41D]))
    with torch.random.fork_rng(devices=[]):
        lean = UNet(_CHANNELS, 1, widths=options.widths)
    initialise(lean, lean.last, torch.Generator().manual_seed(seed))
    network: nn.Module = lean.to(seen.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimisers, schedules = one_cycle(network, options.steps, 1)
    for step in range(1, options.steps + 1):
        picture, shown = _crops(seen, known, options, rng)
        drawn = torch.from_numpy(rng.random(shown.shape, dtype=np.float32)).to(shown.device)
        hidden = shown * (drawn < options.hidden_share)
        residual = _estimate(network, picture, shown - hidden) - picture
        loss = (residual**2 * hidden).sum() / hidden.sum().clamp(min=1.0)
        descend(network, loss, optimisers, schedules)
        on_step(step, options.steps, loss)
    return network


def _crops(
    seen: Tensor, known: Tensor, options: HidingOptions, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Draw crops of the picture and of what is known of it, each turned at random."""
    rows, cols = seen.shape[-2:]
    side = min(options.crop_px, min(rows, cols)) // options.multiple * options.multiple
    drawn = []
    for _ in range(options.crops):
        top, left = int(rng.integers(rows - side + 1)), int(rng.integers(cols - side + 1))
        quarter, flip = int(rng.integers(4)), bool(rng.integers(2))
        window = (..., slice(top, top + side), slice(left, left + side))
        drawn.append([turn(plane[window], quarter, flip=flip) for plane in (seen, known)])
    picture, shown = (torch.cat(planes) for planes in zip(*drawn, strict=True))
    return picture, shown


def _estimate(network: nn.Module, picture: Tensor, shown: Tensor) -> Tensor:
    """Predict every pixel from those that are shown: means of neighbours, and an answer added.

    What is hidden is multiplied by 0 before anything is made of it.
    """
    lit = picture * shown
    near, wider, far = (
        smooth(lit, scale_px) / smooth(shown, scale_px).clamp(min=_LEAST_WEIGHT)
        for scale_px in (_NEAR_PX, _WIDER_PX, _FAR_PX)
    )
    filled = torch.where(shown > 0, lit, wider)
    features = [filled - far, (lit - far) * shown, near - far, far, shown]
    stacked = torch.cat(features, dim=1).contiguous(memory_format=torch.channels_last)
    return filled + quick_answer(network, stacked)


def _averaged(network: nn.Module, seen: Tensor, known: Tensor, multiple: int) -> Tensor:
    """Average the estimates of all views of the picture."""
    rows, cols = seen.shape[-2:]
    margin = (0, -cols % multiple, 0, -rows % multiple)
    planes = [nnf.pad(plane, margin) for plane in (seen, known)]
    total = torch.zeros_like(planes[0])
    with torch.no_grad():
        for number in range(_VIEWS):
            quarter, flip = number % 4, number >= 4
            turned = (turn(plane, quarter, flip=flip).contiguous() for plane in planes)
            estimated = turn(_estimate(network, *turned), -quarter)
            total = total + (estimated.flip(-1) if flip else estimated)
    return total[..., :rows, :cols] / _VIEWS
