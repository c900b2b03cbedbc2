"""Apply fitted networks to a region: the delivered image and what it says of its own error."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from dip_pipeline.restoration.computing.side_by_side import both
from dip_pipeline.restoration.delivering.asking import Answers, blended, moved_by
from dip_pipeline.restoration.delivering.restraint import Restraint, least_risk
from dip_pipeline.restoration.delivering.uncertainty import PROBE_SIGMA, spread_predictor, stein_map
from dip_pipeline.restoration.fits.fit_code import (
    SPLIT_STRENGTH,
    amplitude,
    code_for,
    judged_split,
    picture,
)
from dip_pipeline.restoration.images.flux import close_flux, keep_level
from dip_pipeline.restoration.images.smoothing import smooth
from dip_pipeline.restoration.images.spectral import LostLight, StarLight, Trial, least_loss
from dip_pipeline.restoration.problem import FitOptions
from dip_pipeline.restoration.views.regions import Region

_NO_LIGHT, _LIGHT = 0.5, 1.0  # contrast in sigma
_AROUND_PX, _NEAR_PX = 2, 1  # of what stands out, its light is: only guided images tell of more
_MOST_TRIED_PIXELS = 250_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the networks make of a region; planes (1, 1, rows, cols), sky-sigma units.

    delivered : the restored image, averaged and closed in flux
    sigma : the observation's noise at the delivered level
    squared_error : unbiased, noisy estimate of ((delivered - truth) / sigma)^2
    predictor : what the error plane is looked up by
    """

    delivered: Tensor
    sigma: Tensor
    squared_error: Tensor
    predictor: Tensor


def restored_once(
    networks: Sequence[nn.Module],
    shares: Sequence[Tensor],
    region: Region,
    restraint: Restraint,
    options: FitOptions,
) -> tuple[Tensor, Tensor]:
    """Restore a region as `ask_networks` and `finished` do, without an estimate of the error.

    Returns what the networks say, and the finished image.
    """
    with torch.no_grad():
        said = blended(networks, shares, region.observed, region, options)
        images = said.image, region.observed, said.taken
        return said.image, _finished_image(*images, region, restraint, options)


def finished(
    answers: Answers, region: Region, restraint: Restraint, options: FitOptions
) -> Answers:
    """Mix in the observation where it knows more, and close the flux, in both images."""
    shifted = moved_by(region, answers.probe)
    plain, moved = both(
        lambda estimated, observed, taken: _finished_image(
            estimated, observed, taken, region, restraint, options
        ),
        (answers.plain, region.observed, answers.taken[0]),
        (answers.moved, shifted, answers.taken[1]),
    )
    return replace(answers, plain=plain, moved=moved)


def judged(answers: Answers, region: Region) -> Delivery:
    """Estimate the error of a finished image from what the moved observation changed in it."""
    with torch.no_grad():
        delivered = answers.plain
        sigma = region.noise.sigma(delivered)
        response = (answers.moved - delivered) / (PROBE_SIGMA * region.sigma)
        of_judge = region.noise.judging_sigma(delivered)
        squares = stein_map(delivered, region.observed, of_judge, answers.probe * response)
        predictor = spread_predictor(response, answers.scatter / sigma)
    return Delivery(delivered, sigma, squares, predictor)


def _finished_image(
    estimated: Tensor,
    observed: Tensor,
    taken: Tensor,
    region: Region,
    restraint: Restraint,
    options: FitOptions,
) -> Tensor:
    sigma = region.noise.sigma(estimated)
    stars = StarLight(region.stars, taken)
    mixed = restraint.apply(estimated, observed, sigma, region.told, stars, region.noise.root)
    level = keep_level(mixed, observed, sigma, region.told)
    return _closed_on_light(level, observed, region, options)


def choose_restraint(answers: Sequence[Answers], regions: Sequence[Region]) -> Restraint:
    """Measure, over some regions, how far the networks' corrections are to be trusted."""
    pairs = list(zip(answers, regions, strict=True))
    with torch.no_grad():
        lost = least_loss([_trial(*pair) for pair in _first_pixels(pairs)])
        columns: list[list[np.ndarray]] = [[], [], []]
        for answer, region in pairs:
            plain, moved = _put_back(lost, answer, region)
            squares, response = _stein_terms(plain, moved, answer, region)
            bright = (answer.plain + region.stars) / region.noise.sigma(answer.plain)
            judged = region.trusted > 0
            for column, plane in zip(columns, (bright, squares, response), strict=True):
                column.append(plane[judged].cpu().numpy())
    brightness, squares_of, responses = (np.concatenate(column) for column in columns)
    return replace(least_risk(brightness, squares_of, responses), lost=lost)


def _first_pixels(pairs: Sequence[tuple[Answers, Region]]) -> Sequence[tuple[Answers, Region]]:
    """As many pairs as hold about that many pixels; at least one."""
    sizes = np.cumsum([answer.plain.numel() for answer, _ in pairs])
    return pairs[: 1 + int((sizes < _MOST_TRIED_PIXELS).sum())]


def _trial(answer: Answers, region: Region) -> Trial:
    def risk(images: tuple[Tensor, Tensor]) -> Tensor:
        squares, response = _stein_terms(*images, answer, region)
        return squares + 2 * response

    sigma = region.noise.sigma(answer.plain)
    return Trial(
        filtered_by=lambda lost: _put_back(lost, answer, region),
        sigma=sigma,
        brightness=(answer.plain + region.stars) / sigma,
        judged=region.trusted,
        risk_of=risk,
    )


def _put_back(lost: LostLight, answer: Answers, region: Region) -> tuple[Tensor, Tensor]:
    """Image of the region, and of the region slightly moved, with the light put back."""
    return both(
        lambda estimated, observed, taken: lost.put_back(
            estimated,
            observed,
            region.noise.sigma(estimated),
            region.trusted,
            stars=StarLight(region.stars, taken),
            noise=region.noise.root,
        ),
        (answer.plain, region.observed, answer.taken[0]),
        (answer.moved, moved_by(region, answer.probe), answer.taken[1]),
    )


def _stein_terms(
    plain: Tensor, moved: Tensor, answer: Answers, region: Region
) -> tuple[Tensor, Tensor]:
    """Squared residual in units of sigma, and the response to the probe."""
    sigma = region.noise.sigma(answer.plain)
    response = answer.probe * (moved - plain) / (PROBE_SIGMA * region.sigma)
    return ((plain - region.observed) / sigma) ** 2, response


def deliver_code(
    network: nn.Module, region: Region, options: FitOptions, *, seed: int, judged: bool
) -> Delivery:
    """Draw the network's image of the code, judged by the copy that the fit did not see.

    Closure takes its residual from the fitted copy too, so that the judge stays unseen.
    """
    with torch.no_grad():
        code = code_for(region.shape, region.origin, seed).to(region.observed.device)
        seen, judge = judged_split(region, seed) if judged else (region.observed, region.observed)
        out = picture(network, code, amplitude(seen))
        delivered = _closed(out, seen, region, options)
        sigma = region.noise.sigma(delivered)
        offset = 1 + 1 / SPLIT_STRENGTH**2 if judged else 0.0
        squares = ((delivered - judge) / region.noise.judging_sigma(delivered)) ** 2 - offset
        structure = (delivered - smooth(delivered, 4.0)).abs() / sigma
    return Delivery(delivered, sigma, squares, smooth(structure, 1.0))


def _closed(estimated: Tensor, observed: Tensor, region: Region, options: FitOptions) -> Tensor:
    sigma = region.noise.sigma(estimated)
    closed = close_flux(estimated, observed, sigma, region.told, options.flux_scale_px)
    if region.guides is None:
        return closed
    contrast = _contrast((estimated + region.stars) / sigma).abs()
    return estimated + _share_of_light(contrast, _AROUND_PX) * (closed - estimated)


def _closed_on_light(
    estimated: Tensor, observed: Tensor, region: Region, options: FitOptions
) -> Tensor:
    """Close the flux of what stands out on half the scale, then that of all on the whole.

    planes : (1, 1, rows, cols). What networks take from faint stars is then back in apertures of
    one FWHM, not only in wider ones; noise comes back with it on their pixels alone. In this order
    nothing is put back twice: the whole scale finds what the half one left.
    """
    closed = _closed(estimated, observed, region, options)
    sigma = region.noise.sigma(estimated)
    contrast = _contrast((closed + region.stars) / sigma)
    half_px = options.flux_scale_px / 2
    finer = close_flux(estimated, observed, sigma, region.told, half_px)
    mended = estimated + _share_of_light(contrast, _NEAR_PX) * (finer - estimated)
    return _closed(mended, observed, region, options)


def _contrast(image: Tensor) -> Tensor:
    """Tell what stands out from around it, bright or dark; image : in sigma, calm."""
    return smooth(image, 1.0) - smooth(image, 4.0)


def _share_of_light(contrast: Tensor, within_px: int) -> Tensor:
    """1 on and around what stands out, 0 where there is nothing whose flux could be put back."""
    share = ((contrast - _NO_LIGHT) / (_LIGHT - _NO_LIGHT)).clamp(0.0, 1.0)
    return nnf.max_pool2d(share, 2 * within_px + 1, stride=1, padding=within_px)
