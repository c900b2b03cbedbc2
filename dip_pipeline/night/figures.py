"""Figures of a product by which frames of a night are compared: of its record and its pixels."""

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sep
from numpy.typing import NDArray

from dip_pipeline.errors import DipError, FrameError, SensorError
from dip_pipeline.flags import PixelFlag
from dip_pipeline.frames import (
    Card,
    camera_of,
    read_provenance,
)
from dip_pipeline.frames.finer_product import grid_of
from dip_pipeline.frames.fits_cards import parse_cards
from dip_pipeline.frames.fits_file import fits_file
from dip_pipeline.frames.product import Restoration, lost_chunks, restorations_of, run_of
from dip_pipeline.frames.prov_json import facts_of
from dip_pipeline.frames.provenance import Provenance
from dip_pipeline.night.fields import pointing_of
from dip_pipeline.night.grouping import begun_of, hours_of
from dip_pipeline.night.odd_frames import FrameFigures
from dip_pipeline.night.settings import settings_of
from dip_pipeline.night.star_widths import half_height_widths
from dip_pipeline.registration import robust_level
from dip_pipeline.sensor.cards import Sourced
from dip_pipeline.sensor.noise_sigma import sigma_at
from dip_pipeline.sensor.sensor import NoiseKind, NoiseModel, Sensor

log = logging.getLogger(__name__)

_SIDE_PX = 1024  # of the middle of a frame, which is looked at
_EXPOSURE = ("EXPTIME", "EXPOSURE", "ITIME")
_BINNING = ("XBINNING", "YBINNING", "CCDSUM", "BINNING")
_OBJECT = ("OBJECT", "OBSTYPE", "IMAGETYP")
_STAR_SIGMA = 10.0
# As many in each frame: of all that stand out a frame under clouds shows the brighter ones alone.
_STARS = 8
_APERTURE_PX = 6.0
_SPOILT = PixelFlag.FILLED | PixelFlag.SATURATED | PixelFlag.LOW_CONFIDENCE

_UNREAD = (DipError, OSError, LookupError, TypeError, ValueError)


class NightFrame(NamedTuple):
    """A product as one of a night.

    begun : of its exposure, "" where no card says; filter : "" likewise; exposure_s : None likewise
    risk, risk_error : of the whole product: without the second the first is an upper bound
    images : restored ones
    """

    figures: FrameFigures
    begun: str
    filter: str
    exposure_s: float | None
    unit: str
    risk: float | None
    risk_error: float | None
    noise_source: str
    tiles: int
    failed_tiles: int
    images: int


def night_frame(source: str, product: Path) -> NightFrame:
    """Read a product as one of a night; of several images of it the first tells of sky and stars.

    Raises FrameError where it is no product, or does not say what is needed.
    """
    try:
        account = read_provenance(product)
        if account is None or not account.tiles:
            raise FrameError(
                f"{product}: is no product of dip, or a damaged one; give what it restored"
            )
        found = restorations_of(product, run_of(account))
        if lost := lost_chunks(found):
            raise FrameError(f"{product}: is damaged: {lost}")
        first, made = found[0], facts_of(account.document, "product")
        every = (*_primary(product), *first.cards)
        cards = {keyword: value for keyword, value, _ in every}
        noise, share = facts_of(account.document, "noise"), _share(account, cards)
        values = {**_of_record(account), **_of_pixels(first, cards, noise, share)}
        values["flux_change_in_noise"] = _flux_change(account, values.get("noise"))
        law = str(cards.get("DIPNSRC") or "")
        kind = _kind_of(first, cards, account)
        words = "".join(letter for letter in law if not letter.isdigit())
        return NightFrame(
            FrameFigures(
                source,
                kind,
                values,
                words,
                exposure_s=_exposure_s(cards),
                pointing=pointing_of(
                    first.cards,
                    cards,
                    first.images[0][0].shape,
                    comments={keyword: comment for keyword, _, comment in every},
                ),
                settings=settings_of(account.document),
            ),
            begun=_begun(cards),
            filter=camera_of(cards).filter or "",
            exposure_s=_exposure_s(cards),
            unit=str(cards.get("BUNIT") or ""),
            risk=_finite(made.get("risk_rms")),
            risk_error=_finite(made.get("risk_standard_error")),
            noise_source=law,
            tiles=len(account.tiles),
            failed_tiles=sum(bool(tile.get("failed")) for tile in account.tiles),
            images=sum(len(item.images) for item in found),
        )
    except DipError:
        raise
    except _UNREAD as error:
        raise FrameError(f"{product}: its account cannot be read: {error}") from error


def figures_of(source: str, product: Path) -> FrameFigures | None:
    """Read the figures of a product; None where it does not say what they are.

    No error is raised whatever happens: whoever asks has a night to end.
    """
    try:
        return night_frame(source, product).figures
    except Exception as error:  # noqa: BLE001  (a defect of ours, too, is no reason to lose a night)
        log.warning("%s: is not compared with the others: %s", product, error)
        return None


def _begun(cards: Mapping[str, Any]) -> str:
    """When the exposure began, as its cards say it: ISO 8601; by MJD-OBS without hours."""
    told = begun_of(cards)
    if "T" in told or (hours_since := hours_of({"MJD-OBS": cards.get("MJD-OBS")})) is None:
        return told
    return datetime.fromtimestamp(round(hours_since * 3600), UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _exposure_s(cards: Mapping[str, Any]) -> float | None:
    return next(
        (found for name in _EXPOSURE if (found := _finite(cards.get(name))) is not None), None
    )


def _finite(value: object) -> float | None:
    number = _number(value)
    return number if math.isfinite(number) else None


def _primary(product: Path) -> tuple[Card, ...]:
    """Cards of the primary header, which often tells of camera, filter and exposure."""
    if product.is_dir():
        return ()
    with fits_file(product) as opened:
        return parse_cards(opened.layout.hdus[0].cards)


def _kind_of(first: Restoration, cards: Mapping[str, Any], account: Provenance) -> tuple[str, ...]:
    """Tell what frames have in common that can be compared."""
    camera = camera_of(cards)
    own = [camera.instrument, camera.filter, first.images[0][0].shape]
    own += [cards.get(name) for name in (*_BINNING, *_OBJECT, "BUNIT")]
    own += [cards.get(name) for name in ("DIPTASK", "DIPFACT", "DIPNEXP")]
    return (*map(str, own), str(len(account.tiles)))


def _of_record(account: Provenance) -> dict[str, float | None]:
    made = facts_of(account.document, "product")
    tiles = account.tiles
    weight = np.array([_number(tile.get("judged_pixels")) for tile in tiles])
    chi_square = np.array([_number(tile.get("chi_square")) for tile in tiles])
    good = np.isfinite(chi_square) & (weight > 0)
    bound = bool(made.get("risk_is_upper_bound"))
    return {
        "residual_noise": None if bound else made.get("risk_rms"),
        "chi_square": float(np.average(chi_square[good], weights=weight[good]))
        if good.any()
        else None,
        "seconds": _seconds(account),
    }


def _flux_change(account: Provenance, noise: float | None) -> float | None:
    """Change of flux a pixel, in the noise of a pixel of the sky."""
    change = facts_of(account.document, "product").get("flux_change")
    pixels = float(np.nansum([_number(tile.get("judged_pixels")) for tile in account.tiles]))
    if not isinstance(change, int | float) or not noise or not pixels:
        return None
    return float(change) / pixels / noise


def _seconds(account: Provenance) -> float | None:
    """Seconds that the tiles took: of the run as a whole a resumed one knows only its last part."""
    seconds = [_number(tile.get("seconds")) for tile in account.tiles]
    total = float(np.sum(seconds))
    return total if total > 20.0 else None  # below, what else the machine does decides


def _share(account: Provenance, cards: Mapping[str, Any]) -> float:
    """Which part of an input's pixel one of the product holds."""
    return float(grid_of(account, cards.get("BUNIT")).share)


def _of_pixels(
    first: Restoration, cards: Mapping[str, Any], law: Mapping[str, Any], share: float
) -> dict[str, float | None]:
    """Sky, noise, stars and flags, by the middle of the frame; the noise is the input's."""
    science, _, flags = first.images[0]
    science, marks = _middle(science), _middle(flags).astype(np.uint8)
    good = np.isfinite(science) & ((marks & _SPOILT) == 0)
    if np.count_nonzero(good) < 100:
        return {}
    sky, scatter = robust_level(science[good])
    gain = cards.get("DIPGAIN")
    before = _noise_at(sky / share, law)
    noise = None if before is None else share * before
    return {
        "sky": sky,
        "noise": noise,
        "gain_e_per_dn": float(gain) if gain else None,
        "masked_share": float(np.mean((marks & PixelFlag.FILLED) != 0)),
        "doubtful_share": float(np.mean((marks & PixelFlag.LOW_CONFIDENCE) != 0)),
        **_of_stars(np.where(good, science, sky) - sky, ~good, max(scatter, noise or 0.0)),
    }


def _noise_at(sky: float, law: Mapping[str, Any]) -> float | None:
    """Noise of a pixel of the sky by the law of the run, the frame's unit.

    law : as the account tells it; None where the law is an error plane, or none
    """
    kind = NoiseKind(law["law"])
    if kind is NoiseKind.NONE:
        return None
    told = {
        name: Sourced(_number(item["value"]), item["unit"], item["source"])
        for name, item in law["numbers"].items()
        if _finite(item["value"]) is not None
    }
    sensor = Sensor(
        gain_e_per_dn=told.get("gain"),
        read_noise_e=told.get("read_noise"),
        pedestal_dn=told.get("pedestal"),
        subtracted_sky_dn=told.get("subtracted_sky"),
        n_combined=told.get("n_combined"),
    )
    noise = NoiseModel(
        kind, law["rung"], told.get("sigma"), sensor=sensor, quantum=told.get("quantum")
    )
    with suppress(SensorError):
        return sigma_at(noise, sky)
    return None


def _of_stars(
    light: NDArray[np.floating], bad: NDArray[np.bool_], noise: float
) -> dict[str, float | None]:
    """Light, width and axis ratio of the brightest stars; {} where these are too few."""
    if noise <= 0:
        return {}
    plane = np.ascontiguousarray(light, dtype=np.float64)
    sep.set_extract_pixstack(max(sep.get_extract_pixstack(), plane.size))  # clouds of light, too
    try:
        found = sep.extract(plane, _STAR_SIGMA * noise, mask=bad, minarea=5)
    except Exception:  # noqa: BLE001  (sep raises no narrower class; the other figures still tell)
        return {}
    found = found[(found["flag"] == 0) & (found["b"] > 0)]
    found = found[np.argsort(-found["flux"], kind="stable")][:_STARS]
    if len(found) < _STARS:
        return {}
    fluxes, _, _ = sep.sum_circle(plane, found["x"], found["y"], _APERTURE_PX)
    radii, flags = sep.flux_radius(
        plane, found["x"], found["y"], np.full(len(found), 2 * _APERTURE_PX), 0.5, subpix=5
    )
    whole = (flags == 0) & (radii > 0)
    places = np.column_stack([found["y"], found["x"]])
    widths = half_height_widths(plane, places[whole], radii[whole])
    widths = widths[np.isfinite(widths)]
    return {
        "star_light": float(np.median(fluxes)),
        "star_fwhm_px": float(np.median(widths)) if len(widths) > _STARS // 2 else None,
        "star_axis_ratio": float(np.median(found["a"] / found["b"])),
    }


def _middle(plane: Any) -> NDArray[Any]:  # noqa: ANN401  (any `PlaneArray`)
    starts = [max(0, (side - _SIDE_PX) // 2) for side in plane.shape]
    rows, cols = (
        slice(start, min(side, start + _SIDE_PX))
        for start, side in zip(starts, plane.shape, strict=True)
    )
    return np.asarray(plane[rows, cols])


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def all_figures(pairs: Sequence[tuple[str, Path]]) -> list[FrameFigures]:
    """Figures of products by (source, product), of those that say them."""
    found = (figures_of(source, product) for source, product in pairs)
    return [each for each in found if each is not None]
