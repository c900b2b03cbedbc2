"""Surfaces over the field of a frame, through what its stars say, galaxies and blends apart."""

from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from dip_pipeline.restoration.stars.star_shape import Image

LEVEL, PLANE, BOWL, QUADRATIC = 1, 3, 4, 6  # terms
FEWEST = 9  # stars that tell of a surface with four terms
BY_CHANCE = 1e-4  # that stars which are all alike look so
_MOST_OFF = 0.4  # of all stars, from a surface through the others
_OUTLYING = 3.0  # of the usual miss


class Surface(NamedTuple):
    """A surface through what stars say.

    values : of the surface at the stars that are on it, (stars, numbers of each)
    places : of these, (stars, 2); chance : that stars which are all alike look so
    """

    values: Image
    places: Image
    chance: float


def surface_through(said: Image, places: Image, terms: int, *, scatter: float) -> Surface:
    """Fit a surface of so many terms; galaxies and blends, which are off it, do not count.

    said : (stars, numbers of each); places : (stars, 2); scatter : of a number, at least
    """
    columns = _terms(places)[:, :terms]
    misses = np.hypot.reduce(said - columns @ _robust(columns, said, scatter), axis=1)
    kept = misses < max(scatter, _OUTLYING * 1.4826 * float(np.median(misses)))
    if np.count_nonzero(kept) < max(FEWEST, (1 - _MOST_OFF) * kept.size):
        return Surface(said, places, 1.0)
    said, columns = said[kept], columns[kept]
    values = columns @ np.linalg.lstsq(columns, said, rcond=None)[0]
    return Surface(values, places[kept], _chance(said, values, terms))


def _terms(places: Image) -> Image:
    """Give a level, a plane, a bowl, and what makes a bowl any quadratic surface, (stars, 6)."""
    middle = places.mean(axis=0)
    down, across = ((places - middle) / max(float(np.ptp(places, axis=0).max()), 1.0)).T
    square = down**2 + across**2
    columns = [np.ones_like(down), down, across, square, down**2 - across**2, down * across]
    return np.stack(columns, axis=1)


def _robust(columns: Image, said: Image, scatter: float) -> Image:
    """Find the terms of a surface that galaxies and blends do not lift, (terms, numbers)."""
    found = np.zeros((columns.shape[1], said.shape[1]))
    for number, values in enumerate(said.T):
        start = np.zeros(columns.shape[1])
        start[0] = np.median(values)
        fit = optimize.least_squares(
            lambda weights, values=values: columns @ weights - values,
            start,
            jac=lambda _: columns,
            loss="soft_l1",
            f_scale=scatter,
        )
        found[:, number] = fit.x
    return found


def _chance(said: Image, values: Image, terms: int) -> float:
    """Probability that numbers which only scatter follow a surface as well: Fisher's F."""
    free, numbers = len(said) - terms, said.shape[1]
    within = float(((said - values) ** 2).sum()) / (numbers * free)
    between = float(((values - said.mean(axis=0)) ** 2).sum()) / (numbers * (terms - 1))
    ratio = between / max(within, 1e-12)
    return float(stats.f.sf(ratio, numbers * (terms - 1), numbers * free))
