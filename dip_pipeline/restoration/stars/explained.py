"""All that may explain what is seen of a star in part hidden: other places, heights and widths."""

import numpy as np

from dip_pipeline.restoration.stars.star_shape import StarShape
from dip_pipeline.restoration.stars.star_sheet import Sheet
from dip_pipeline.restoration.stars.star_trial import GOOD_MISFIT, Star, grid_px

_SPREAD = (3.0, 0.25)  # around where it was found, for the mean of all that explain it
_WIDTHS = (1.0, 1.3, 1.6, 2.0, 2.5)  # of what explains it, in widths of a star
_WIDE_ODDS = 40.0  # stars for one source of each other width
_BETTER = 0.8  # of what a star leaves: of a width that explains it better, if not well
_LEAST_CHANCE = 0.01  # of the likeliest's


def explaining(sheet: Sheet, star: Star) -> list[tuple[float, Star, StarShape]]:
    """Give the sources that explain what is seen of a star, and the chance of each.

    star : put back on the sheet, all others taken off
    """
    trial = sheet.trial(star.row, star.col, star.height)
    if trial is None:
        return [(1.0, star, star.shape or sheet.shape)]
    places = grid_px(*_SPREAD)
    its_shape = star.shape or sheet.shape
    shapes = [its_shape.widened(times) for times in _WIDTHS]
    tried = [trial.tried(shape, places) for shape in shapes]
    heights, power, cost = (np.stack(one) for one in zip(*tried, strict=True))
    cost += 2 * np.log(np.where(np.array(_WIDTHS) > 1, _WIDE_ODDS, 1.0))[:, None]
    best = np.unravel_index(int(np.argmin(cost)), cost.shape)
    left = (trial.before - np.maximum(heights, 0.0) ** 2 * power) / trial.freedom
    if best[0] > 0 and left[best] > max(GOOD_MISFIT, _BETTER * left[0].min()):
        # Nor is it a galaxy of that width, or one that is told from a star.
        cost[1:] = np.inf
        best = np.unravel_index(int(np.argmin(cost)), cost.shape)
    chance = np.exp(-0.5 * (cost - cost[best]) / max(1.0, left[best]))
    likely = np.argwhere(chance > _LEAST_CHANCE)
    total = float(sum(chance[width, at] for width, at in likely))
    return [
        (
            float(chance[width, at]) / total,
            Star(
                star.row + float(places[at, 0]),
                star.col + float(places[at, 1]),
                max(0.0, float(heights[width, at])),
                star.error,
            ),
            shapes[width],
        )
        for width, at in likely
    ]
