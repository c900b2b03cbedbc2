"""Laws of where torch computes: networks that threads share are moved once, and whole."""

import time
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

from dip_pipeline.restoration.computing.settings import move_to


class Watched(nn.Linear):
    """Takes its time to move, and counts how often it was asked to."""

    moves = 0

    def to(self, *where):
        self.moves += 1
        time.sleep(0.1)
        return super().to(*where)


def test_of_threads_that_share_networks_one_moves_them_and_the_others_wait():
    networks = [Watched(2, 2), Watched(2, 2)]

    def place_of(_):
        move_to("meta", networks)
        return {weight.device.type for one in networks for weight in one.parameters()}

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(place_of, range(4))) == [{"meta"}] * 4
    assert [one.moves for one in networks] == [1, 1]


def test_statistics_move_with_the_weights():
    network = nn.BatchNorm1d(2, affine=False)
    move_to("meta", [network])
    assert network.running_mean.device == torch.device("meta")
