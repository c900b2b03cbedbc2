"""Laws of our own optimisers: they step as torch's do, and load no compiler."""

import subprocess
import sys

import torch
from torch import nn

from dip_pipeline.restoration.networks.optimisers import Adam


def test_adam_steps_as_torchs_own_does():
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(5, 3, 3, 3, generator=generator).to(memory_format=torch.channels_last)
    mine, its = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ours, torchs = Adam([mine], 0.01, (0.9, 0.99)), torch.optim.Adam([its], 0.01, (0.9, 0.99))
    for _ in range(20):
        gradient = torch.randn(start.shape, generator=generator)
        for weight, optimiser in ((mine, ours), (its, torchs)):
            weight.grad = gradient.clone()
            optimiser.step()
    assert torch.equal(mine, its)


def test_a_fit_loads_no_compiler():
    code = (
        "import sys, torch\n"
        "from dip_pipeline.restoration.fits.fit_image import descend, one_cycle\n"
        "from dip_pipeline.restoration.networks.architectures import build_network\n"
        "network = build_network('unet', 7, 13, seed=1)\n"
        "loss = network(torch.ones(1, 7, 16, 16)).sum()\n"
        "descend(network, loss, *one_cycle(network, 10, 1.0))\n"
        "sys.exit('torch._dynamo' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
