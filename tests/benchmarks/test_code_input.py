"""The code input as it is watched: what is measured is what would be delivered."""

import numpy as np

from benchmarks.code_input import with_watched_code
from benchmarks.fields import FieldKind, draw
from benchmarks.restored import Settings


def test_stars_that_were_taken_off_are_in_the_watched_picture():
    field = draw(FieldKind.GALAXIES, 1, side_px=256)
    shown = np.where(field.usable, field.observed, -np.inf)
    brightest = np.unravel_index(np.argmax(shown), shown.shape)
    watched = with_watched_code(field, Settings(threads=1, steps=10))
    assert watched.science[brightest] > 0.5 * field.observed[brightest]
