"""Every noise plane becomes one sigma, whatever form it has."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dip_pipeline.frames.noise_form import NoiseForm, form_of, sigma_of

FROM_SIGMA = {
    NoiseForm.SIGMA: lambda s: s,
    NoiseForm.VARIANCE: lambda s: s**2,
    NoiseForm.INVERSE_VARIANCE: lambda s: s**-2,
    NoiseForm.WEIGHT: lambda s: s**-2,
}


@given(sigma=st.floats(1e-6, 1e6), form=st.sampled_from(list(NoiseForm)))
def test_a_sigma_comes_back_from_every_form(sigma, form):
    stored = np.array([[FROM_SIGMA[form](sigma)]])
    np.testing.assert_allclose(sigma_of(stored, form), sigma, rtol=1e-12)


@pytest.mark.parametrize("form", list(NoiseForm))
@pytest.mark.parametrize("stored", [np.nan, 0.0, -1.0, np.inf, -np.inf])
def test_what_holds_no_information_is_infinite(form, stored):
    assert sigma_of(np.array([[stored]]), form) == np.inf


@pytest.mark.parametrize("stored", [1e16, 1e20, 1e30])
def test_large_numbers_mark_no_information_but_where_they_are_much(stored):
    for form in (NoiseForm.SIGMA, NoiseForm.VARIANCE):
        assert sigma_of(np.array([[stored]]), form) == np.inf
    for form in (NoiseForm.INVERSE_VARIANCE, NoiseForm.WEIGHT):
        np.testing.assert_allclose(sigma_of(np.array([[stored]]), form), stored**-0.5)


def test_integers_are_numbers_too():
    np.testing.assert_array_equal(
        sigma_of(np.array([[4, 0]], "i2"), NoiseForm.VARIANCE), [[2.0, np.inf]]
    )


@pytest.mark.parametrize(
    ("name", "header", "form"),
    [
        ("ERR", {}, NoiseForm.SIGMA),
        ("rms", {}, NoiseForm.SIGMA),
        ("VARIANCE", {}, NoiseForm.VARIANCE),
        ("STAT", {}, NoiseForm.VARIANCE),
        ("invvar", {}, NoiseForm.INVERSE_VARIANCE),
        ("IVM", {}, NoiseForm.INVERSE_VARIANCE),
        ("weight", {}, NoiseForm.WEIGHT),
        ("WHT", {}, NoiseForm.WEIGHT),
        ("UNCERT", {"UTYPE": "StdDevUncertainty"}, NoiseForm.SIGMA),
        ("UNCERT", {"UTYPE": "VarianceUncertainty"}, NoiseForm.VARIANCE),
        ("UNCERT", {"UTYPE": "InverseVariance"}, NoiseForm.INVERSE_VARIANCE),
        ("ERR", {"HDUCLAS3": "MSE"}, NoiseForm.VARIANCE),
        ("ERR", {"HDUCLAS3": "RMSE"}, NoiseForm.SIGMA),
        ("ERR", {"HDUCLAS3": "INVMSE"}, NoiseForm.INVERSE_VARIANCE),
    ],
)
def test_the_form_is_said_by_a_card_then_by_the_name(name, header, form):
    assert form_of(name, header) is form


def test_the_square_of_the_unit_is_a_variance():
    assert form_of("UNCERT", {}, "(adu)**2", "adu") is NoiseForm.VARIANCE
    assert form_of("UNCERT", {}, "adu", "adu") is NoiseForm.SIGMA


@pytest.mark.parametrize("unit", ["adu**2", "adu2", "adu^2", "(adu)2", "ADU ** 2"])
def test_a_square_is_known_in_every_spelling_whatever_the_name(unit):
    assert form_of("ERROR", {}, unit, "adu") is NoiseForm.VARIANCE
    assert form_of("IVAR", {}, unit, "adu") is NoiseForm.INVERSE_VARIANCE
    for plain in ("adu", "(adu)"):
        assert form_of("ERROR", {}, plain, "adu") is NoiseForm.SIGMA


@pytest.mark.parametrize(
    ("name", "file_name", "form"),
    [
        ("COMPRESSED_IMAGE", "one_ivar.fits.fz", NoiseForm.INVERSE_VARIANCE),
        ("N2", "c4d_170316_062107_oow_z_ls9.fits", NoiseForm.INVERSE_VARIANCE),
        ("COADD", "one_invvar_map.fits", NoiseForm.INVERSE_VARIANCE),
        ("CCD1", "mega.weight.fits", NoiseForm.WEIGHT),
        ("ERR", "field_var.fits", NoiseForm.SIGMA),
        ("", "varfield_sigma.fits", NoiseForm.SIGMA),
        ("", "ngc_var_star_rms.fits", NoiseForm.SIGMA),
        ("", "stack.var.fits", NoiseForm.VARIANCE),
        ("", "ngc_skyvar.fits", NoiseForm.VARIANCE),
        ("NOISEVAR", "", NoiseForm.VARIANCE),
        ("", "drz_whtmap.fits.gz", NoiseForm.WEIGHT),
        ("", "nothing.fits", NoiseForm.SIGMA),
    ],
)
def test_the_name_of_the_file_counts_where_that_of_the_plane_says_nothing(name, file_name, form):
    assert form_of(name, {}, file_name=file_name) is form


def test_ccddata_s_own_names_are_known():
    """What astropy writes into UTYPE, for each sort of uncertainty it has."""
    from astropy.nddata import InverseVariance, StdDevUncertainty, VarianceUncertainty

    kinds = {
        StdDevUncertainty: NoiseForm.SIGMA,
        VarianceUncertainty: NoiseForm.VARIANCE,
        InverseVariance: NoiseForm.INVERSE_VARIANCE,
    }
    for kind, form in kinds.items():
        assert form_of("UNCERT", {"UTYPE": kind.__name__}) is form
