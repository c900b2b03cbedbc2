import threading
import time
from functools import partial

import pytest
import torch

from dip_pipeline.restoration.computing import side_by_side as side_by_side_module
from dip_pipeline.restoration.computing.side_by_side import both, side_by_side


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_pieces(threads):
    def piece(number):
        time.sleep(0.02 * (3 - number))
        return number, torch.get_num_threads()

    results = side_by_side([partial(piece, number) for number in range(4)])
    assert results == [(number, 1) for number in range(4)]
    assert torch.get_num_threads() == threads


def test_a_failing_piece_stops_the_others(threads):
    stopped = threading.Event()

    def failing():
        raise ValueError("no")

    def waiting():
        assert stopped.wait(5)

    with pytest.raises(ValueError, match="no"):
        side_by_side([failing, waiting], stopped)
    assert torch.get_num_threads() == threads
    stopped.clear()
    if threads > 1:  # one after the other, the waiting piece comes first
        with pytest.raises(ValueError, match="no"):
            side_by_side([waiting, failing], stopped)


def test_a_gpus_linear_algebra_is_loaded_before_threads_ask_for_it(monkeypatch):
    """Two that load it at once fail: the first to ask must be no thread of a pool."""
    side_by_side_module.load_linear_algebra.cache_clear()
    asked_by = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: bool(used))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    used, current = [], []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    asked_for = []
    monkeypatch.setattr(
        torch, "eye", lambda side, device: asked_for.append(device) or torch.ones(side, side)
    )
    monkeypatch.setattr(
        torch.linalg, "cholesky", lambda *_: asked_by.append(threading.current_thread())
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        side_by_side([threading.current_thread, threading.current_thread])
        assert asked_by == []  # nobody uses the GPU, so it is not started
        used.append("the GPU")
        side_by_side([threading.current_thread, threading.current_thread])
        side_by_side([threading.current_thread, threading.current_thread])
    finally:
        torch.set_num_threads(before)
        side_by_side_module.load_linear_algebra.cache_clear()
    assert asked_by == [threading.main_thread()]
    assert asked_for == ["cuda:1"]  # no other GPU is started
    assert set(current) == {1}  # in every thread of a pool


def test_both_are_done_alike_and_without_gradients(threads):
    weight = torch.ones(1, requires_grad=True)
    seen = []

    def work(light, noise):
        seen.append(torch.get_num_threads())
        return weight * light / noise

    plain = torch.tensor([3.0]), torch.tensor([2.0])
    moved = torch.tensor([5.0]), torch.tensor([4.0])
    first, second = both(work, plain, moved)
    assert (first.item(), second.item()) == (1.5, 1.25)
    assert not first.requires_grad
    assert not second.requires_grad
    assert seen == [1, 1]
