"""Laws of looking for cosmic rays in several threads."""

import threading

import numpy as np

from dip_pipeline.frames import Pixels
from dip_pipeline.preparing import cosmics, found_pixels
from dip_pipeline.sensor import NoiseKind, NoiseModel


class Blank:
    """A source of pixels; one is told from another by its name."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return self.name

    def read(self, rows, cols):
        plane = np.zeros((rows.stop - rows.start, cols.stop - cols.start), np.float32)
        return Pixels(plane, None, plane > 0)


def test_a_frame_may_fill_what_is_remembered_while_another_looks_there(monkeypatch):
    """What is found in blocks is kept for a while; two frames are read at once."""
    noise = NoiseModel(NoiseKind.NONE, "test")
    first, second = (cosmics.CosmicPixels(Blank(name), (64, 64), noise) for name in ("a", "b"))
    filling = threading.Thread(target=lambda: second.found(slice(0, 64), slice(0, 64)))

    class Slow(type(found_pixels._found)):
        """Lets the other frame in after it has said that a block is there."""

        def __contains__(self, key):
            there = super().__contains__(key)
            if there and not filling.ident:
                filling.start()
                filling.join(0.2)
            return there

    monkeypatch.setattr(found_pixels, "_found", Slow())
    monkeypatch.setattr(found_pixels, "_BLOCK_PX", 8)
    monkeypatch.setattr(cosmics, "_detect", lambda pixels, _: np.zeros(pixels.science.shape, bool))
    for _ in range(2):
        assert not first.found(slice(0, 8), slice(0, 8)).any()
    filling.join()
    assert len(found_pixels._found) == found_pixels._MOST_BLOCKS
