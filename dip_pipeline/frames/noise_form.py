"""In which form a file holds its noise, and how each becomes one sigma."""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

# Writers mark a pixel without information by a number that no sensor has: 1e16, 1e20, 1e30.
NO_INFORMATION = 1e15


class NoiseForm(StrEnum):
    """What the numbers of a noise plane are."""

    SIGMA = "sigma"
    VARIANCE = "variance"
    INVERSE_VARIANCE = "inverse variance"
    WEIGHT = "relative weight"  # inverse variance up to one factor for the frame


def sigma_of(stored: NDArray[np.generic], form: NoiseForm) -> Doubles:
    """Turn a noise plane into sigma, float64; inf where it holds no information.

    No information: NaN, zero, a negative number, infinity, and of a sigma or a variance the
    sentinels above 1e15; a large inverse variance is much information.
    A relative weight gives a relative sigma.
    """
    values = stored.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        known = np.isfinite(values) & (values > 0)
        if form in (NoiseForm.SIGMA, NoiseForm.VARIANCE):
            known &= values < NO_INFORMATION
    return np.where(known, _TO_SIGMA[form](np.where(known, values, 1.0)), np.inf)


def form_of(
    name: str,
    header: Mapping[str, object],
    unit: str = "",
    science_unit: str = "",
    *,
    file_name: str = "",
) -> NoiseForm:
    """Tell the form of a noise plane by its cards, else by its name; sigma if nothing says.

    CCDData says it by UTYPE, ESO by HDUCLAS3 (ESO-044286); a variance has the square of the
    science's unit. Of the words of the name, then of the name of its file, the last that says
    something counts. What Pan-STARRS calls weights are variances (Waters et al. 2020, ApJS 251, 4).
    """
    for keyword in ("UTYPE", "HDUCLAS3"):
        form = _FORMS_BY_CARD.get(str(header.get(keyword, "")).strip().lower())
        if form is not None:
            return form
    if re.search(r"\.skycell\..*\.wt\.", file_name.lower()):
        return NoiseForm.VARIANCE
    for text in (name, file_name):
        words = re.findall("[a-z]+", text.lower())
        said = [_FORMS_BY_WORD[word] for word in words if word in _FORMS_BY_WORD]
        if said and (said[-1] is not NoiseForm.SIGMA or not _is_square(unit, science_unit)):
            return said[-1]
    if _is_square(unit, science_unit):
        return NoiseForm.VARIANCE
    stem = re.sub(r"(\.(fits?|fts|fz|gz|bz2|xz))+$", "", file_name.lower())
    last = re.findall("[a-z]+", stem)[-1:]
    parts = [form for text in (name.lower(), *last) for part, form in _PARTS if part in text]
    return parts[0] if parts else NoiseForm.SIGMA


def _is_square(unit: str, of: str) -> bool:
    """Whether a unit is another one squared, in one of the spellings of FITS and its writers."""
    plain, base = (re.sub(r"[\s()]", "", text.lower()) for text in (unit, of))
    return bool(base) and plain in (f"{base}2", f"{base}**2", f"{base}^2")


# As the user names them before a plane, "ivar:NAME".
FORMS_ASKED = {
    "sigma": NoiseForm.SIGMA,
    "variance": NoiseForm.VARIANCE,
    "ivar": NoiseForm.INVERSE_VARIANCE,
    "weight": NoiseForm.WEIGHT,
}

_TO_SIGMA: dict[NoiseForm, Callable[[Doubles], Doubles]] = {
    NoiseForm.SIGMA: lambda values: values,
    NoiseForm.VARIANCE: np.sqrt,
    NoiseForm.INVERSE_VARIANCE: lambda values: 1 / np.sqrt(values),
    NoiseForm.WEIGHT: lambda values: 1 / np.sqrt(values),
}

_FORMS_BY_CARD: dict[str, NoiseForm] = {
    "stddevuncertainty": NoiseForm.SIGMA,
    "varianceuncertainty": NoiseForm.VARIANCE,
    "inversevariance": NoiseForm.INVERSE_VARIANCE,
    "inversevarianceuncertainty": NoiseForm.INVERSE_VARIANCE,
    "rmse": NoiseForm.SIGMA,
    "mse": NoiseForm.VARIANCE,
    "invmse": NoiseForm.INVERSE_VARIANCE,
}

_WORDS: dict[NoiseForm, str] = {
    NoiseForm.SIGMA: "sigma err error errors rms std stddev noise unc uncert uncertainty",
    NoiseForm.VARIANCE: "var variance stat",
    NoiseForm.INVERSE_VARIANCE: "invvar ivar ivm oow inversevariance",
    NoiseForm.WEIGHT: "weight wht wgt wt wtmap",
}
_FORMS_BY_WORD = {word: form for form, words in _WORDS.items() for word in words.split()}
# Of names that hold none of these words: SKYVAR, weightmap. In this order: "invvar" holds "var".
_PARTS = (
    ("invvar", NoiseForm.INVERSE_VARIANCE),
    ("ivar", NoiseForm.INVERSE_VARIANCE),
    ("weight", NoiseForm.WEIGHT),
    ("wht", NoiseForm.WEIGHT),
    ("var", NoiseForm.VARIANCE),
)
