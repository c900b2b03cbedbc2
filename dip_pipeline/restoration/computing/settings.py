"""How torch computes: on how many threads, where, and to the same pixels each time."""

from collections.abc import Iterable
from itertools import chain
from threading import Lock

import torch
from torch import nn

from dip_pipeline.restoration.computing.callers_settings import note_settings
from dip_pipeline.restoration.computing.freed_memory import reuse_memory

_MOVING = Lock()


def settle_computing(threads: int) -> None:
    """Give operations so many threads; of a GPU's ways take only those that repeat themselves.

    Some of cuDNN's ways to a gradient add up in whatever order its threads come.
    """
    note_settings()
    torch.set_num_threads(threads)
    reuse_memory()
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def move_to(device: str, networks: Iterable[nn.Module]) -> None:
    """Move networks to a device, unless they are there; threads that share them wait for it.

    torch moves weights in place: a thread that copies those which another one has just moved
    would read memory that is free by then.
    """
    place = torch.empty(0, device=device).device
    with _MOVING:
        for network in networks:
            weights = chain(network.parameters(), network.buffers())
            if any(one.device != place for one in weights):
                network.to(place)
