"""Estimated risk and the error plane: what can be known of the truth without it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from dip_pipeline.restoration.images.smoothing import smooth

PROBE_SIGMA = 0.05  # step of the finite difference along the probe
_BINS = 16
_FEWEST_PIXELS_A_BIN = 400
_SIGNIFICANCE = 4.0  # standard errors
_WELL_KNOWN = 8.0  # standard errors
_SHORTFALLS = (0.5, 9.0)  # least and largest ratio of squared errors that is believed
ONE_SIGMA_SHARE = 0.683
MEASURED_SCALE_PX = 1.0
_SMALLEST_ERROR = 0.02  # in sigma; a bin's estimate scatters and may fall below zero
_LIGHT_EDGES_SIGMA = (0.2, 0.8, 3.0, 20.0, 60.0)  # of restored brightness; a table each
_EDGE_FROM, _EDGE_TO = 0.8, 1.25  # of an edge: there two tables are mixed
_LIGHT_SCALE_PX = 1.0
_FEWEST_PIXELS_OF_LIGHT = 400


@dataclass(frozen=True, slots=True)
class ErrorTable:
    """Error of a restored pixel, in sigma, as a rising function of a predictor."""

    knots: tuple[float, ...]
    errors: tuple[float, ...]

    def look_up(self, predictor: Tensor) -> Tensor:
        """Interpolate; beyond the ends the end value holds."""
        values = np.interp(predictor.cpu().numpy(), self.knots, self.errors)
        return torch.from_numpy(values.astype(np.float32)).to(predictor.device)


@dataclass(frozen=True, slots=True)
class LitErrors:
    """Error of a restored pixel, in sigma, by predictor and by restored brightness.

    edges : brightness in sigma, rising, between the ranges; tables : one for each range
    lacking : for each range what estimated squares fall short of the true ones, see `lacking_of`;
        () where it was not measured

    What a restoration loses is in proportion to the light there; of the rehearsals' truth, which is
    itself restored, it is lost already. Dark sky and sources therefore fall short by different
    factors, at the same predictor.
    """

    edges: tuple[float, ...]
    tables: tuple[ErrorTable, ...]
    lacking: tuple[float, ...] = ()

    def look_up(self, predictor: Tensor, light: Tensor) -> Tensor:
        """Interpolate in the tables, and over a quarter of its light around an edge between them.

        light : see `light_of`
        """
        return self._mixed([table.look_up(predictor) for table in self.tables], light)

    def complete(self, squares: Tensor, light: Tensor) -> Tensor:
        """Add to estimated squares of errors what they lack; light : see `light_of`."""
        if not any(self.lacking):
            return squares
        return squares + self._mixed([torch.full_like(light, one) for one in self.lacking], light)

    def _mixed(self, found: Sequence[Tensor], light: Tensor) -> Tensor:
        mixed = found[0]
        for edge, of_range in zip(self.edges, found[1:], strict=True):
            share = ((light / edge - _EDGE_FROM) / (_EDGE_TO - _EDGE_FROM)).clamp(0.0, 1.0)
            mixed = mixed + share * (of_range - mixed)
        return mixed


@dataclass(frozen=True, slots=True)
class _Usual:
    """Ratio of the squared errors to the rehearsed ones that is usual; weight : over variance."""

    ratio: float
    weight: float


_ANYWHERE = _Usual(1.0, 4.0)
# What a rehearsal takes for the truth holds some of the noise, and loses it like light: on empty
# sky the squared errors of seven frames, guided and not, were 0.60 to 0.88 of the rehearsed ones.
_ON_SKY = _Usual(0.75, 25.0)

UNKNOWN_ERRORS = LitErrors((), (ErrorTable((0.0,), (1.0,)),))


def light_of(delivered: Tensor, stars: Tensor, sigma: Tensor) -> Tensor:
    """Restored brightness around each pixel, in sigma; all planes (1, 1, rows, cols)."""
    return smooth((delivered + stars) / sigma, _LIGHT_SCALE_PX)


def stein_map(delivered: Tensor, observed: Tensor, sigma: Tensor, own_response: Tensor) -> Tensor:
    """Unbiased estimate of ((delivered - truth) / sigma)^2 at each pixel; very noisy alone.

        |f(y) - y|^2 - 1 + 2 n (f(y + e sigma n) - f(y)) / (e sigma),  n ~ N(0, 1)

    own_response : the last factor of 2, the response along the probe times the probe
    Stein 1981, Ann. Statist. 9(6), 1135; the probe after Ramani et al. 2008, IEEE Trans. Image
    Process. 17(9), 1540. Unbiased only for an f that was not fitted on this y.
    """
    each: Tensor = ((delivered - observed) / sigma) ** 2 - 1 + 2 * own_response
    return each


def spread_predictor(response: Tensor, turn_scatter: Tensor) -> Tensor:
    """How much of the input's noise comes through at each pixel, in sigma.

    The square of the response to a unit of white noise, smoothed, is the variance that noise
    leaves in the result; the scatter between views adds what the network is unsure of.
    """
    return torch.sqrt(smooth(response**2, 2.0) + smooth(turn_scatter**2, 1.0))


def calibrate(predictors: np.ndarray, squared_errors: np.ndarray) -> ErrorTable:
    """Tie the predictor to the error: the shape from the one, the level from the other.

    predictors, squared_errors : (pixels,), the latter unbiased but noisy, in sigma squared.
    In each bin of the predictor p the error is p * sqrt(sum of squared errors / sum of p^2).
    Where a bin's squared errors are not significant it is pooled with the next ones: on empty sky
    they scatter by more than they are. Errors are made to rise.
    """
    known = np.isfinite(predictors) & np.isfinite(squared_errors)
    if not known.any():
        return ErrorTable((0.0,), (1.0,))
    predictors = predictors[known].astype(np.float64)
    squared_errors = squared_errors[known].astype(np.float64)
    bins = int(np.clip(len(predictors) // _FEWEST_PIXELS_A_BIN, 1, _BINS))
    # Finer bins towards the bright end, where the error changes most and pixels are few.
    ranks = 1 - np.geomspace(1, 2.0 ** -(bins / 2), bins + 1)
    order = np.argsort(predictors)
    edges = np.unique(np.round(ranks / ranks[-1] * len(order)).astype(int))
    groups, pending = [], []
    for first, last in pairwise(edges):
        pending.append(order[first:last])
        values = squared_errors[np.concatenate(pending)]
        if values.mean() > _SIGNIFICANCE * values.std() / len(values) ** 0.5:
            groups.append(pending)
            pending = []
    if pending:  # the bright end is left over: it joins the last group
        groups = [*groups[:-1], [*(groups[-1] if groups else []), *pending]]
    knots, errors = [], []
    for group in groups:
        members = np.concatenate(group)
        power = float(np.mean(predictors[members] ** 2))
        level = float(np.mean(squared_errors[members]))
        ratio = np.sqrt(max(level, _SMALLEST_ERROR**2) / max(power, 1e-12))
        for part in group:
            knots.append(float(np.median(predictors[part])))
            errors.append(ratio * knots[-1])
    rising = np.maximum.accumulate(np.maximum(errors, _SMALLEST_ERROR))
    return ErrorTable(tuple(knots), tuple(float(error) for error in rising))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the errors of some pixels, in units of sigma.

    predictor : (pixels,)
    rehearsed : (draws, pixels), absolute errors under fresh noise
    rehearsed_smooth : (pixels,), squares of those errors smoothed
    measured_smooth : (pixels,), unbiased, noisy estimates of the same for the real errors
    lacking : (pixels,), see `lacking_of`
    """

    predictor: np.ndarray
    rehearsed: np.ndarray
    rehearsed_smooth: np.ndarray
    measured_smooth: np.ndarray
    lacking: np.ndarray

    @classmethod
    def joined(cls, parts: "Sequence[Evidence]") -> "Evidence":
        """Put what is known of the pixels of several regions together."""
        names = [column.name for column in fields(cls)]
        return cls(*(np.concatenate([getattr(one, name) for one in parts], -1) for name in names))

    @property
    def known(self) -> np.ndarray:
        """Pixels of which everything is finite, (pixels,)."""
        smooth_ones = self.rehearsed_smooth, self.measured_smooth
        planes = (self.predictor, *self.rehearsed, *smooth_ones, self.lacking)
        finite: np.ndarray = np.all([np.isfinite(plane) for plane in planes], axis=0)
        return finite

    def of(self, members: np.ndarray) -> "Evidence":
        """Give what is known of some of the pixels alone."""
        return Evidence(
            self.predictor[members],
            self.rehearsed[:, members],
            self.rehearsed_smooth[members],
            self.measured_smooth[members],
            self.lacking[members],
        )


def tabulate_by_light(evidence: Evidence, light: np.ndarray) -> LitErrors:
    """Do as `tabulate` in each range of brightness that has enough pixels.

    light : (pixels,), see `light_of`; a range of too few goes with the one beside it
    Pixels of which anything is not finite do not count.
    """
    known = evidence.known & np.isfinite(light)
    if not known.all():
        evidence, light = evidence.of(np.flatnonzero(known)), light[known]
    ranges = np.digitize(light, _LIGHT_EDGES_SIGMA)
    groups, edges = [np.flatnonzero(ranges == 0)], []
    for index, edge in enumerate(_LIGHT_EDGES_SIGMA, start=1):
        members = np.flatnonzero(ranges == index)
        if min(len(members), len(groups[-1])) < _FEWEST_PIXELS_OF_LIGHT:
            groups[-1] = np.concatenate([groups[-1], members])
        else:
            groups.append(members)
            edges.append(edge)
    tables, lacking = [], []
    for members in groups:
        dark = members.size > 0 and float(np.median(light[members])) < _LIGHT_EDGES_SIGMA[0]
        tables.append(tabulate(evidence.of(members), _ON_SKY if dark else _ANYWHERE))
        lacking.append(float(evidence.lacking[members].mean()) if members.size else 0.0)
    return LitErrors(tuple(edges), tuple(tables), tuple(lacking))


def tabulate(evidence: Evidence, usual: _Usual = _ANYWHERE) -> ErrorTable:
    """Half-width that covers the truth in 68.3 % of pixels, by predictor.

    usual : ratio that is expected before anything is measured
    In each bin of the predictor, the quantile of the rehearsed errors, times the ratio of the
    measured to the rehearsed smoothed error, over bins enough to know it well.
    """
    count = len(evidence.predictor)
    if count == 0:
        return ErrorTable((0.0,), (1.0,))
    bins = int(np.clip(count // _FEWEST_PIXELS_A_BIN, 1, _BINS))
    # Finer bins towards the bright end, where the error changes most and pixels are few.
    ranks = 1 - np.geomspace(1, 2.0 ** -(bins / 2), bins + 1)
    order = np.argsort(evidence.predictor)
    edges = np.unique(np.round(ranks / ranks[-1] * count).astype(int))
    groups = [order[first:last] for first, last in pairwise(edges)]
    knots, errors = [], []
    for number, members in enumerate(groups):
        quantile = np.quantile(evidence.rehearsed[:, members], ONE_SIGMA_SHARE)
        knots.append(float(np.median(evidence.predictor[members])))
        errors.append(float(quantile) * _shortfall(evidence, groups, number, usual))
    rising = np.maximum.accumulate(np.maximum(errors, _SMALLEST_ERROR))
    return ErrorTable(tuple(knots), tuple(float(error) for error in rising))


def _shortfall(
    evidence: Evidence, groups: Sequence[np.ndarray], number: int, usual: _Usual
) -> float:
    """How much larger than rehearsed the errors around a bin are, as a ratio of amplitudes."""
    for reach in range(len(groups)):
        members = np.concatenate(groups[max(0, number - reach) : number + reach + 1])
        values = evidence.measured_smooth[members]
        # Neighbouring squares of noise smoothed at s px agree over 2 pi s^2 pixels.
        together = 2 * np.pi * MEASURED_SCALE_PX**2
        level = values.mean()
        # Not 0, as it would be for a single pixel.
        error = max(values.std() * (together / len(values)) ** 0.5, 1e-6)
        if level > _WELL_KNOWN * error or reach == len(groups) - 1:
            rehearsed = max(float(evidence.rehearsed_smooth[members].mean()), 1e-9)
            # Where it is not well known it is drawn towards what is usual.
            known = rehearsed**2 / error**2
            squared = (level / rehearsed * known + usual.weight * usual.ratio) / (
                known + usual.weight
            )
            return float(np.clip(squared, *_SHORTFALLS) ** 0.5)
    return 1.0


def mean_risk(each: Tensor, judged: Tensor) -> tuple[float, float, int]:
    """Mean of the per-pixel estimates where judged is not 0, its standard error, the count."""
    values = each[judged > 0].double()
    count = values.numel()
    if count < 2:
        return float("nan"), float("nan"), count
    return float(values.mean()), float(values.std() / count**0.5), count
