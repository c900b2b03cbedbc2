"""How torch computes: on how many threads, and to the same pixels each time."""

import torch


def settle_computing(threads: int) -> None:
    """Give operations so many threads; of a GPU's ways take only those that repeat themselves.

    Some of cuDNN's ways to a gradient add up in whatever order its threads come.
    """
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
