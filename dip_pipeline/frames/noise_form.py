"""In which form a file holds its noise, and how each becomes one sigma."""

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

    No information: NaN, zero, a negative number, and the sentinels above 1e15 of the stored form.
    A relative weight gives a relative sigma.
    """
    values = stored.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        known = np.isfinite(values) & (values > 0)
        known &= np.abs(values) < NO_INFORMATION
    return np.where(known, _TO_SIGMA[form](np.where(known, values, 1.0)), np.inf)


def form_of(
    name: str, header: Mapping[str, object], unit: str = "", science_unit: str = ""
) -> NoiseForm:
    """Tell the form of a noise plane by its cards, else by its name; sigma if neither says.

    CCDData says it by UTYPE, ESO by HDUCLAS3 (ESO-044286); a variance has the square of the
    science's unit.
    """
    for keyword in ("UTYPE", "HDUCLAS3"):
        form = _FORMS_BY_CARD.get(str(header.get(keyword, "")).strip().lower())
        if form is not None:
            return form
    words = name.lower()
    for word, form in _FORMS_BY_NAME.items():
        if word in words:
            return form
    if science_unit and unit.replace(" ", "").startswith(f"({science_unit})"):
        return NoiseForm.VARIANCE
    return NoiseForm.SIGMA


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

# In this order: "invvar" holds "var".
_FORMS_BY_NAME: dict[str, NoiseForm] = {
    "invvar": NoiseForm.INVERSE_VARIANCE,
    "ivar": NoiseForm.INVERSE_VARIANCE,
    "ivm": NoiseForm.INVERSE_VARIANCE,
    "oow": NoiseForm.INVERSE_VARIANCE,
    "var": NoiseForm.VARIANCE,
    "stat": NoiseForm.VARIANCE,
    "weight": NoiseForm.WEIGHT,
    "wht": NoiseForm.WEIGHT,
    "wtmap": NoiseForm.WEIGHT,
}
