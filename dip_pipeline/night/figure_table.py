"""Figures by which frames of a night are compared, and what each may mean where it is odd."""

from dataclasses import dataclass

LEAST_FRAMES = 5  # alike, for one of them to be told unlike


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a frame, and what it may mean where it is odd.

    floor : least spread that is believed, of the logarithm where `ratio`, else in its own unit,
        or in the others' median of the figure `floor_in`; relative : the same, of the median
    high, low : what it may mean; "" where that side tells nothing
    settings : beginnings of names of those that change it; "" for all of them
    """

    words: str
    floor: float
    high: str
    low: str = ""
    ratio: bool = True
    unit: str = ""
    floor_in: str = ""
    relative: float = 0.0
    settings: tuple[str, ...] = ()


ANY_SETTING = ("",)
NOISE_SETTINGS = ("noise.", "reading.", "algorithm")

FIGURES: dict[str, Figure] = {
    "sky": Figure(
        "sky level",
        0.3,
        "twilight, moon, clouds, or a bias that is still in",
        "another exposure, a closed shutter, or a sky that was taken away",
        ratio=False,
        floor_in="noise",
        relative=0.08,
    ),
    "star_light": Figure(
        "light of its stars",
        0.08,
        "clearer than the others (clouds in those), or another field, exposure or gain",
        "clouds, dew, low in the sky, a dome in the way, or another field",
    ),
    "star_fwhm_px": Figure(
        "width of its stars (FWHM)", 0.05, "seeing, focus, wind, or trailed stars", unit=" px"
    ),
    "star_axis_ratio": Figure(
        "axis ratio of its stars", 0.03, "trailed: tracking, wind or tilt", unit=""
    ),
    "gain_e_per_dn": Figure(
        "gain of its noise law",
        0.06,
        *("another camera setting, or a wrong card",) * 2,
        unit=" e",
        settings=NOISE_SETTINGS,
    ),
    "noise": Figure(
        "noise of its sky",
        0.06,
        *("another gain, read noise or sky",) * 2,
        settings=NOISE_SETTINGS,
    ),
    "residual_noise": Figure(
        "residual noise",
        0.12,
        "noise law, options, sampling or sky are others than in the rest: look at its picture",
        settings=ANY_SETTING,
    ),
    "chi_square": Figure(
        "chi-square of what was taken away",
        0.05,
        *("its noise is not what its law says: gain, read noise, or structure in it",) * 2,
        settings=ANY_SETTING,
    ),
    "flux_change_in_noise": Figure(
        "change of flux a pixel, in its noise",
        0.02,
        *("light was moved: look at its picture",) * 2,
        ratio=False,
        settings=ANY_SETTING,
    ),
    "masked_share": Figure(
        "share of filled pixels",
        0.004,
        "another mask, cosmic rays, a trail",
        ratio=False,
        settings=ANY_SETTING,
    ),
    "doubtful_share": Figure(
        "share of pixels of low confidence",
        0.01,
        "large holes, or a saturated star",
        ratio=False,
        settings=ANY_SETTING,
    ),
    "seconds": Figure(
        "time",
        0.25,
        "the machine was busy, or the frame is another one",
        unit=" s",
        settings=ANY_SETTING,
    ),
}
