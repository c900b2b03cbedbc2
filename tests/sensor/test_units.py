"""What a unit counts."""

import pytest

from dip_pipeline.sensor.units import UnitKind, is_rate, unit_kind


@pytest.mark.parametrize(
    ("unit", "kind"),
    [
        ("", UnitKind.UNKNOWN),
        (" ADU ", UnitKind.COUNTS),
        ("COUNTS", UnitKind.COUNTS),
        ("DN/s", UnitKind.COUNT_RATE),
        ("DN / sec", UnitKind.COUNT_RATE),
        ("counts s-1", UnitKind.COUNT_RATE),
        ("cps", UnitKind.COUNT_RATE),
        ("electron", UnitKind.ELECTRONS),
        ("e-", UnitKind.ELECTRONS),
        ("ELECTRONS/S", UnitKind.ELECTRON_RATE),
        ("e- s**-1", UnitKind.ELECTRON_RATE),
        ("electron.s-1", UnitKind.ELECTRON_RATE),
        ("adu/pix", UnitKind.COUNTS),
        ("ct / pix", UnitKind.COUNTS),
        ("electron/pixel", UnitKind.ELECTRONS),
        ("electron pix-1", UnitKind.ELECTRONS),
        ("e-/s/pix", UnitKind.ELECTRON_RATE),
        ("e-/pixel/s", UnitKind.ELECTRON_RATE),
        ("DN/pixel/sec", UnitKind.COUNT_RATE),
        ("counts sec-1", UnitKind.COUNT_RATE),
        ("DN/(s)", UnitKind.COUNT_RATE),
        ("MJy/sr", UnitKind.CALIBRATED),
        ("Jy/pix", UnitKind.CALIBRATED),
        ("nanomaggy", UnitKind.CALIBRATED),
        ("Jy/beam", UnitKind.CALIBRATED),
        ("erg/s/cm2", UnitKind.CALIBRATED),
        ("10**(-20)*erg/s/cm**2/Angstrom", UnitKind.CALIBRATED),
        ("km/s", UnitKind.CALIBRATED),
        ("s", UnitKind.CALIBRATED),
        ("none", UnitKind.UNKNOWN),
        ("UNKNOWN", UnitKind.UNKNOWN),
        ("DU", UnitKind.COUNTS),
        ("photoelectron", UnitKind.ELECTRONS),
        ("counts/seconds", UnitKind.COUNT_RATE),
    ],
)
def test_units_are_sorted(unit, kind):
    assert unit_kind(unit) is kind


def test_the_time_is_divided_out_of_what_is_told_a_second():
    rates = [
        unit
        for unit in ("adu", "adu/s", "electron", "e-/s", "MJy/sr", "")
        if is_rate(unit_kind(unit))
    ]
    assert rates == ["adu/s", "e-/s"]
