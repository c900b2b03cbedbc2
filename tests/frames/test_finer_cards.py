"""Laws of finer grids: the same places on the sky, the same light, whatever form a header has."""

import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dip_pipeline.errors import FrameError
from dip_pipeline.frames import side_by_cards_arcsec
from dip_pipeline.frames.finer_cards import FINER_RULES
from dip_pipeline.frames.finer_header import FinerGrid, finer_cards, finer_raw_cards
from dip_pipeline.frames.fits_cards import parse_cards, split_cards
from dip_pipeline.frames.pixel_flux import PixelFlux, is_guess, pixel_flux
from tests.frames.conftest import ROOT

SHAPE = (60, 90)
MAS = 3.6e6
FACTORS = st.integers(2, 4)


def finer_header(header, factor, *, per_pixel=True):
    """The header on the finer grid, through raw cards, as a file would hold it."""
    raw = split_cards(header.tostring(padding=False).encode())
    made = finer_raw_cards(raw, FinerGrid(factor, per_pixel))
    return fits.Header.fromstring(b"".join(made).decode(), sep="")


def apart_mas(header, finer, factor, key=" "):
    """Largest distance of pixels and of their borders, both grids through astropy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd headers, alike in both
        old, new = (WCS(head, key=key).celestial for head in (header, finer))
    cols, rows = (axis.ravel() for axis in np.meshgrid(*(np.linspace(-0.5, side - 0.5, 7)
                                                         for side in SHAPE[::-1])))  # fmt: skip
    sky = old.pixel_to_world(cols, rows)
    again = new.pixel_to_world((cols + 0.5) * factor - 0.5, (rows + 0.5) * factor - 0.5)
    return float(sky.separation(again).max().deg) * MAS


@st.composite
def linear_parts(draw):
    """CD, PC with CDELT, CDELT with CROTA2, or PC alone: rotated, flipped, unequal sides."""
    angle = draw(st.floats(-180, 180))
    step = draw(st.floats(1e-5, 3e-4))
    ratio = draw(st.floats(0.5, 2.0))
    flip = draw(st.sampled_from([1.0, -1.0]))
    turn = np.radians(angle)
    pc = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    steps = np.array([flip * step, step * ratio])
    form = draw(st.sampled_from(["CD", "PC", "CROTA2", "PC alone"]))
    names = [f"{i}_{j}" for i in (1, 2) for j in (1, 2)]
    if form == "CROTA2":
        return {"CDELT1": steps[0], "CDELT2": steps[1], "CROTA2": angle}
    if form == "PC":
        cards = dict(zip((f"PC{n}" for n in names), pc.ravel().tolist(), strict=True))
        return cards | {"CDELT1": steps[0], "CDELT2": steps[1]}
    matrix = (steps[:, None] * pc).ravel().tolist()
    return dict(zip((f"{form[:2]}{n}" for n in names), matrix, strict=True))


@st.composite
def distortions(draw):
    """SIP of some order, TPV, or none: (ending of CTYPE, cards)."""
    kind = draw(st.sampled_from(["", "SIP", "TPV"]))
    small = st.floats(-1, 1)
    if kind == "SIP":
        order = draw(st.integers(2, 5))
        cards = {"A_ORDER": order, "B_ORDER": order, "A_DMAX": 1.5}
        for p in range(order + 1):
            for q in range(order + 1 - p):
                if p + q >= 2:
                    size = 2.0 / max(SHAPE) ** (p + q)
                    cards[f"A_{p}_{q}"] = draw(small) * size
                    cards[f"B_{p}_{q}"] = draw(small) * size
        return "TAN-SIP", cards
    if kind == "TPV":
        cards = {"PV1_1": 1.0, "PV2_1": 1.0}
        for axis in (1, 2):
            for term in (0, 2, 4, 5, 6, 7, 10):
                cards[f"PV{axis}_{term}"] = draw(small) * 1e-3
        return "TPV", cards
    return draw(st.sampled_from(["TAN", "SIN", "ZEA", "CAR"])), {}


@st.composite
def headers(draw):
    projection, cards = draw(distortions())
    sky = draw(st.sampled_from([("RA--", "DEC-"), ("GLON", "GLAT")]))
    header = fits.Header()
    order = draw(st.permutations([0, 1])) if projection in ("TAN", "SIN", "ZEA") else [0, 1]
    values = (draw(st.floats(0, 360)), draw(st.floats(-85, 85)))
    if projection == "CAR":
        values = (values[0], 0.0)
    for axis, world in enumerate(order, start=1):
        header[f"CTYPE{axis}"] = f"{sky[world]}-{projection}"
        header[f"CRVAL{axis}"] = values[world]
        if "A_ORDER" in cards or draw(st.integers(0, 5)):  # at times left to its default
            header[f"CRPIX{axis}"] = draw(st.floats(-50, 120))
    linear = draw(linear_parts())
    # wcslib takes the polynomial of TPV before CDELT: nobody writes it with CROTA2.
    assume(not (projection == "TPV" and "CROTA2" in linear))
    header.update(linear)
    header.update(cards)
    return header


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(headers(), FACTORS)
def test_finer_pixels_lie_where_they_lay_on_the_sky(header, factor):
    assert apart_mas(header, finer_header(header, factor), factor) < 1e-2


@settings(deadline=None, max_examples=25)
@given(headers(), FACTORS, st.sampled_from("ABZ"))
def test_alternate_coordinates_follow_too(header, factor, letter):
    for card in list(header.cards):
        if not card.keyword.startswith(("A_", "B_")):
            header[f"{card.keyword}{letter}"] = card.value
    assume("SIP" not in header["CTYPE1"])  # which knows the primary coordinates alone
    finer = finer_header(header, factor)
    assert apart_mas(header, finer, factor, key=letter) < 1e-2


def test_a_form_is_never_mixed_with_another():
    """Cards of a CD matrix stay one, those of PC and CDELT stay these."""
    cd = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CD1_1": 1e-4, "CD2_2": 1e-4})
    assert not any(k.startswith(("PC", "CDELT")) for k in finer_header(cd, 2))
    pc = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "PC1_1": 1e-4, "PC2_2": 1e-4})
    assert not any(k.startswith("CD1_") for k in finer_header(pc, 2))


@pytest.mark.parametrize("form", ["PC", "CD"])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_cube_whose_axes_are_mixed_keeps_its_third_axis(factor, form):
    """A slit: the wavelength runs along both the slit and the planes."""
    header = fits.Header()
    for axis, (kind, value, step) in enumerate(
        [("RA---TAN", 40.0, -1e-4), ("DEC--TAN", 10.0, 1e-4), ("WAVE", 5e-7, 1e-10)], start=1
    ):
        header[f"CTYPE{axis}"], header[f"CRVAL{axis}"] = kind, value
        header[f"CRPIX{axis}"], header[f"CDELT{axis}"] = 3.0 * axis, step
    header["PC1_3"], header["PC3_1"], header["PC3_2"] = 0.3, 0.2, -0.1
    if form == "CD":
        steps = [header.pop(f"CDELT{axis}") for axis in (1, 2, 3)]
        for i in (1, 2, 3):
            for j in (1, 2, 3):
                header[f"CD{i}_{j}"] = steps[i - 1] * header.pop(f"PC{i}_{j}", float(i == j))
    old, new = WCS(header), WCS(finer_header(header, factor))
    places = np.array([[0.0, 0, 0], [7, 3, 5], [-0.5, 20, 11]])
    finer = places.copy()
    finer[:, :2] = (finer[:, :2] + 0.5) * factor - 0.5
    np.testing.assert_allclose(
        new.wcs_pix2world(finer, 0), old.wcs_pix2world(places, 0), rtol=1e-13
    )


@pytest.mark.parametrize("matrix", [{}, {"PC1_1": 1.0, "PC2_2": 1.0}, {"PC1_2": 0.1, "PC1_3": 0.5}])
def test_a_projection_with_a_polynomial_has_the_factor_in_its_matrix_alone(matrix):
    """CDELT stays, and so does what the other axes take from a third."""
    header = fits.Header(
        {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "CDELT1": -0.1, "CDELT2": 0.1}
    )
    header.update(matrix)
    finer = finer_header(header, 4)
    if not matrix:
        assert (finer["CDELT1"], finer["CDELT2"], finer.get("PC1_1")) == (-0.025, 0.025, None)
        return
    assert (finer["CDELT1"], finer["CDELT2"]) == (-0.1, 0.1)
    assert (finer["PC1_1"], finer["PC2_2"]) == (0.25, 0.25)
    assert finer.get("PC1_2") == (0.025 if "PC1_2" in matrix else None)
    assert finer.get("PC1_3") == matrix.get("PC1_3")


def test_cards_in_pixels_and_levels_follow_and_all_else_stays_byte_for_byte():
    header = fits.Header()
    header["SATURATE"] = (65535, "DN")
    header["RDNOISE"] = 5.0
    header["GAIN"] = 1.5
    header["LTV1"], header["LTM1_1"] = -99.5, 1.0
    header["DATASEC"] = "[33:1056,1:1040]"
    header["CCDSEC"] = "[33:1056,1:1040]"
    header["TRIMSEC"] = "[1056:33,1040:1]"
    header["A_DMAX"], header["CNPIX1"] = 1.5, 7000
    header["PIXAR_SR"] = 4e-14
    header["HIERARCH ESO DET OUT1 RON"] = 3.2
    header["LONGTEXT"] = "and so on " * 12
    header["ODD"] = (1.5e-7, "an exponent")
    header["HISTORY"] = "SATURATE was 3"
    finer = finer_header(header, 2)
    assert finer["SATURATE"] == 65535 / 4
    assert finer.comments["SATURATE"] == "DN"
    assert finer["RDNOISE"] == 1.25
    assert finer["HIERARCH ESO DET OUT1 RON"] == 0.8
    assert (finer["LTV1"], finer["LTM1_1"], finer["LTM2_2"]) == (-199.5, 2.0, 2.0)
    assert finer["DATASEC"] == "[65:2112,1:2080]"
    assert finer["TRIMSEC"] == "[2112:65,2080:1]"  # read the other way
    assert (finer["A_DMAX"], finer["CNPIX1"]) == (3.0, 14000)
    assert finer["PIXAR_SR"] == pytest.approx(1e-14, rel=1e-9, abs=0)
    stays = ("GAIN", "CCDSEC", "LONGTEXT", "ODD", "HISTORY")
    for keyword in stays:
        assert str(finer.cards[keyword]) == str(header.cards[keyword])
    bright = finer_header(header, 2, per_pixel=False)
    assert (bright["SATURATE"], bright["RDNOISE"]) == (65535, 5.0)


@pytest.mark.parametrize(
    "cards",
    [
        {"PIXELSCL": 0.4},
        {"PIXSCALE": 0.4},
        {"PIXSCAL1": 0.3, "PIXSCAL2": 0.5},
        {"SECPIX": 0.4},
        {"SECPIX1": -0.3, "SECPIX2": 0.5},
        {"XPIXSZ": 9.0, "YPIXSZ": 9.0, "FOCALLEN": 1000.0},
    ],
)
def test_the_side_of_a_pixel_that_is_read_of_cards_is_that_of_a_finer_one(cards):
    finer = finer_header(fits.Header(cards), 3)
    assert side_by_cards_arcsec(finer) == pytest.approx(side_by_cards_arcsec(cards) / 3)


@pytest.mark.parametrize("factor", [2, 3])
def test_the_way_back_through_sip_leads_to_the_finer_pixel(factor):
    """Offsets by AP and BP are in pixels, as those that they are given."""
    header = fits.Header({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"})
    header.update({"CRPIX1": 40.0, "CRPIX2": 25.0, "CD1_1": -1e-4, "CD2_2": 1e-4})
    header.update({f"{name}_ORDER": 3 for name in ("A", "B", "AP", "BP")})
    header.update({"A_2_0": 2e-4, "B_1_1": 1e-4, "AP_2_0": -2e-4, "AP_1_0": 1e-3})
    header.update({"BP_1_1": -1e-4, "BP_0_3": 3e-6})
    finer = finer_header(header, factor)
    for name in ("AP", "BP"):
        for u, v in ((-30.0, 12.0), (17.0, -21.0)):
            off, finer_off = (
                sum(
                    head.get(f"{name}_{p}_{q}", 0.0) * (u * by) ** p * (v * by) ** q
                    for p in range(4)
                    for q in range(4)
                )
                for head, by in ((header, 1), (finer, factor))
            )
            assert finer_off == pytest.approx(factor * off)


@settings(deadline=None, max_examples=30)
@given(
    st.dictionaries(
        st.sampled_from(["LTV1", "LTV2", "LTM1_1", "LTM2_2"]), st.floats(0.25, 4), min_size=1
    ),
    FACTORS,
)
def test_the_physical_pixel_of_a_place_stays_also_where_cards_are_left_to_defaults(cards, factor):
    """Physical = (image - LTV) / LTM, the convention of IRAF."""
    finer = finer_header(fits.Header(cards), factor)
    place = 17.25
    new_place = (place - 0.5) * factor + 0.5
    for axis in (1, 2):
        old, new = (
            (at - told.get(f"LTV{axis}", 0.0)) / told.get(f"LTM{axis}_{axis}", 1.0)
            for at, told in ((place, cards), (new_place, finer))
        )
        assert new == pytest.approx(old)


def test_what_says_yes_or_no_among_the_levels_is_no_number():
    """SKYSUB is a level of some telescopes, and a word of others."""
    header = fits.Header({"SKYSUB": True, "SATURATE": "none"})
    finer = finer_header(header, 2)
    assert finer["SKYSUB"] is True
    assert finer["SATURATE"] == "none"


def test_a_header_without_physical_pixels_gets_none():
    assert not any(keyword.startswith("LT") for keyword in finer_header(fits.Header({"A": 1}), 2))


def test_physical_pixels_that_the_primary_tells_are_inherited():
    grid = FinerGrid(2, per_pixel=True)
    own, primary = (("LTM1_1", 0.5, ""),), (("LTV1", -50.0, ""),)
    finer = {card[0]: card[1] for card in finer_cards(own, grid, primary)}
    assert finer == {"LTM1_1": 1.0, "LTV1": -100.5, "LTV2": -0.5, "LTM2_2": 2.0}
    alone = (*own, ("INHERIT", False, ""))
    finer = {card[0]: card[1] for card in finer_cards(alone, grid, primary)}
    assert finer["LTV1"] == -0.5


@pytest.mark.parametrize("own", [(), (("LTM1_1", 0.5, ""),)])
def test_each_physical_pixel_that_the_primary_tells_is_said_once(own):
    """Of two cards readers take one or the other."""
    finer = finer_cards(own, FinerGrid(2, per_pixel=True), (("LTV1", -50.0, ""),))
    assert sorted(card[0] for card in finer) == ["LTM1_1", "LTM2_2", "LTV1", "LTV2"]


def test_what_stands_in_the_primary_alone_is_said_anew_unless_it_is_not_inherited():
    primary = (("SATURATE", 4000, "DN"), ("PIXSCAL1", 0.26, "arcsec"), ("CRPIX1", 3.0, ""),
               ("GAIN", 2.0, ""))  # fmt: skip
    grid = FinerGrid(2, per_pixel=True)
    own = (("RDNOISE", 4.0, ""),)
    assert finer_cards(own, grid, primary) == (
        ("RDNOISE", 1.0, ""),
        ("SATURATE", 1000, "DN"),
        ("PIXSCAL1", 0.13, "arcsec"),
    )
    alone = (*own, ("INHERIT", False, ""))
    assert [card[0] for card in finer_cards(alone, grid, primary)] == ["RDNOISE", "INHERIT"]


def test_lookup_distortions_are_dropped_and_nothing_that_only_sounds_like_them():
    header = fits.Header.fromstring(
        "\n".join(
            [
                "CPDIS1  = 'Lookup  '",
                "DP1     = 'EXTVER: 1'",
                "DP1     = 'NAXES: 2'",
                "D2IMDIS1= 'Lookup  '",
                "D2IM1   = 'EXTVER: 1'",
                "D2IMERR1= 0.04",
                "DQ1     =                    4",
                "DP_NAME = 'x'",
            ]
        ),
        sep="\n",
    )
    kept = finer_cards(
        parse_cards(split_cards(header.tostring(padding=False).encode())), FinerGrid(2, True)
    )
    assert [card[0] for card in kept] == ["DQ1", "DP_NAME"]


@pytest.mark.parametrize(
    ("unit", "flux"),
    [
        ("adu", "PER_PIXEL"), ("DN/s", "PER_PIXEL"), ("electron", "PER_PIXEL"), ("", "PER_PIXEL"),
        ("ELECTRONS/S", "PER_PIXEL"), ("nanomaggy", "PER_PIXEL"), ("Jy", "PER_PIXEL"),
        ("Jy/pixel", "PER_PIXEL"), ("10**(-20)*erg/s/cm**2/Angstrom", "PER_PIXEL"),
        ("counts", "PER_PIXEL"), ("e-/s", "PER_PIXEL"), ("MJy/sr", "BRIGHTNESS"),
        ("Jy/beam", "BRIGHTNESS"), ("JY/BEAM", "BRIGHTNESS"), ("K", "BRIGHTNESS"),
        ("K km/s", "BRIGHTNESS"), ("erg/s/cm2/arcsec2", "BRIGHTNESS"),
        ("W m-2 sr-1", "BRIGHTNESS"), ("Rayleigh", "BRIGHTNESS"), ("Msun/pc2", "BRIGHTNESS"),
        ("mJy/arcsec^2", "BRIGHTNESS"), ("km/s", "BRIGHTNESS"), ("deg", "BRIGHTNESS"),
        ("uK_CMB", "BRIGHTNESS"), ("K_CMB", "BRIGHTNESS"), ("muK", "BRIGHTNESS"),
        ("mK", "BRIGHTNESS"), ("kelvin", "BRIGHTNESS"), ("cm-2", "BRIGHTNESS"),
        ("g/cm2", "BRIGHTNESS"), ("10^20 cm^-2", "BRIGHTNESS"), ("tau", "BRIGHTNESS"),
        ("optical depth", "BRIGHTNESS"), ("ratio", "BRIGHTNESS"), ("Kcounts", "PER_PIXEL"),
        ("erg/s/cm2", "PER_PIXEL"), ("ph/s/cm2", "PER_PIXEL"), ("k", "BRIGHTNESS"),
    ],
)  # fmt: skip
def test_units_say_whether_finer_pixels_share_the_number(unit, flux):
    assert pixel_flux(unit) is PixelFlux[flux]


@pytest.mark.parametrize(
    ("unit", "guessed"),
    [
        ("", False), ("adu", False), ("ADU", False), ("DN/S", False), ("ELECTRONS", False),
        ("e-/s", False), ("nanomaggies", False), ("COUNTS/SEC", False), ("ergs/s/cm^2/A", False),
        ("MJy/sr", False), ("tau", False), ("photoelectrons", False), ("microJy", False),
        ("Jy", False), ("data", True), ("Kcounts", True), ("unknown", True), ("x" * 80, True),
        ("(", True),
    ],
)  # fmt: skip
def test_a_unit_that_nobody_knows_is_a_guess(unit, guessed):
    assert is_guess(unit) is guessed


@pytest.mark.parametrize("unit", ["mag", "mag/arcsec2", "mmag", "ABmag", "dex", "mag(AB)"])
def test_logarithms_are_refused_in_one_line(unit):
    with pytest.raises(FrameError, match="a logarithm") as caught:
        pixel_flux(unit)
    assert "\n" not in str(caught.value)


def test_the_documents_tell_of_every_rule():
    text = (ROOT / "docs" / "products.md").read_text(encoding="utf-8")
    table = text.partition("## Finer products")[2].partition("\n## ")[0]
    for rule in FINER_RULES:
        assert rule.what in table
