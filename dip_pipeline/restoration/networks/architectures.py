"""The networks: an hourglass without skip connections, and a lean U-Net.

Both are fully convolutional and keep the input's size; sides must be multiples of `multiple`.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from dip_pipeline.restoration.problem import NetworkKind

_SLOPE = 0.1  # of the leaky rectifier


class UNet(nn.Module):
    """Two levels down and up with skip connections, one 3 x 3 convolution a level.

    Narrow where the image is large and wide where it is small: most of a stock network's cost
    is its full-resolution level. No normalisation, so the output keeps its scale.
    """

    multiple = 4
    reach_px: int | None = 16  # farther away nothing is seen: 11 px, and how levels are aligned

    def __init__(
        self, channels_in: int, channels_out: int, widths: tuple[int, ...] = (16, 32, 64)
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleList()
        self.downs = nn.ModuleList()
        self.ups = nn.ModuleList()
        self.decoders = nn.ModuleList()
        previous = channels_in
        for level, width in enumerate(widths):
            self.encoders.append(_conv(previous, width))
            if level + 1 < len(widths):
                previous = widths[level + 1]
                self.downs.append(nn.Conv2d(width, previous, 2, stride=2))
        for level in reversed(range(len(widths) - 1)):
            self.ups.append(nn.ConvTranspose2d(widths[level + 1], widths[level], 2, stride=2))
            self.decoders.append(_conv(2 * widths[level], widths[level]))
        self.last = nn.Conv2d(widths[0], channels_out, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, channels_in, rows, cols) to (batch, channels_out, rows, cols)."""
        skips = []
        x = features
        for level, encoder in enumerate(self.encoders):
            x = encoder(x)
            if level < len(self.downs):
                skips.append(x)
                x = self.downs[level](x)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(torch.cat([up(x), skips.pop()], dim=1))
        out: Tensor = self.last(x)
        return out


class Hourglass(nn.Module):
    """Encoder and decoder without skip connections; Ulyanov et al. 2018, section 3.

    Strided convolutions down, bilinear upsampling after the channels are reduced, batch
    normalisation (applied with the running statistics of the fit, so that a tile does not depend
    on where it was cut), leaky rectifiers. Any size will do: borders are
    repeated up to a multiple of 16, and to 32 px, below which the bottom is a single pixel.
    """

    multiple = 16
    reach_px: int | None = None  # larger than most windows
    _LEAST_PX = 32

    def __init__(
        self, channels_in: int, channels_out: int, widths: tuple[int, ...] = (16, 32, 64, 64, 64)
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = channels_in
        for level, width in enumerate(widths):
            layers.append(_normalised(previous, width, stride=1 if level == 0 else 2))
            layers.append(_normalised(width, width, stride=1))
            previous = width
        for width in reversed(widths[:-1]):
            layers.append(_normalised(previous, width, stride=1, kernel=1))
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            layers.append(_normalised(width, width, stride=1))
            previous = width
        self.body = nn.Sequential(*layers)
        self.last = nn.Conv2d(previous, channels_out, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, channels_in, rows, cols) to (batch, channels_out, rows, cols)."""
        rows, cols = features.shape[-2:]
        tall, wide = (max(self._LEAST_PX, size + -size % self.multiple) for size in (rows, cols))
        padded = nnf.pad(features, (0, wide - cols, 0, tall - rows), mode="replicate")
        out: Tensor = self.last(self.body(padded))
        return out[..., :rows, :cols]


NETWORKS: dict[NetworkKind, Callable[[int, int], UNet | Hourglass]] = {
    NetworkKind.UNET: UNet,
    NetworkKind.HOURGLASS: Hourglass,
}


def build_network(
    kind: NetworkKind, channels_in: int, channels_out: int, *, seed: int
) -> UNet | Hourglass:
    """Build a network whose first weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        network = NETWORKS[kind](channels_in, channels_out)
    # A generator of its own: other threads draw from the global one at the same time.
    initialise(network, network.last, torch.Generator().manual_seed(seed))
    for weights in network.parameters():
        if weights.dim() == 4:  # faster by half on a CPU
            weights.data = weights.data.contiguous(memory_format=torch.channels_last)
    return network


def _conv(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.LeakyReLU(_SLOPE))


def _normalised(channels_in: int, channels_out: int, *, stride: int, kernel: int = 3) -> nn.Module:
    # No bias before a normalisation: its gradient is zero but for rounding, which Adam would
    # turn into full steps.
    return nn.Sequential(
        nn.Conv2d(
            channels_in,
            channels_out,
            kernel,
            stride=stride,
            padding=kernel // 2,
            padding_mode="reflect" if kernel > 1 else "zeros",
            bias=False,
        ),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(_SLOPE),
    )


def initialise(network: nn.Module, last: nn.Conv2d, generator: torch.Generator) -> None:
    """He's initialisation; the last layer starts at zero, so a fit starts at its base image."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, a=_SLOPE, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.zeros_(last.weight)
