"""Hubble and James Webb: SCI, ERR, DQ with one version a chip; JWST's variances."""

from dip_pipeline.frames.fits_layout import HduSpan
from dip_pipeline.frames.flag_rules import MEANINGS, FlagRule, rule_for
from dip_pipeline.frames.layouts.chip import (
    Chip,
    FitsView,
    NoisePlane,
    flag_plane,
    noise_plane,
)
from dip_pipeline.frames.noise_form import NoiseForm

_OF_JWST = {"ASDF", "ERR", "DQ", "PIXELDQ", "GROUPDQ", "VAR_POISSON"}


class Jwst:
    """SCI, ERR, VAR_*, DQ (of ramps PIXELDQ and GROUPDQ); the ASDF extension is left as it is."""

    name = "JWST"

    def chips(self, view: FitsView) -> tuple[Chip, ...]:
        """SCI of every version."""
        names = {hdu.name for hdu in view.hdus}
        if view.text("TELESCOP") != "JWST" or not (_OF_JWST & names):
            return ()
        rule = rule_for("JWST", view.bad_bits)
        return tuple(
            Chip(
                science,
                self._noise(view, science),
                flag_plane(
                    rule,
                    view.beside(science, "DQ", "PIXELDQ"),
                    view.beside(science, "GROUPDQ"),
                ),
            )
            for science in view.chosen(["SCI"])
        )

    @staticmethod
    def _noise(view: FitsView, science: HduSpan) -> NoisePlane | None:
        error = noise_plane(NoiseForm.SIGMA, view.beside(science, "ERR"))
        # Without ERR: photons and reading. The flat's variance is no noise of this exposure.
        return error or noise_plane(
            NoiseForm.VARIANCE,
            view.beside(science, "VAR_POISSON"),
            view.beside(science, "VAR_RNOISE"),
        )


class Hubble:
    """SCI, ERR, DQ, a version a chip; drizzled: SCI, WHT, CTX."""

    name = "HST"

    def chips(self, view: FitsView) -> tuple[Chip, ...]:
        """SCI of every version."""
        instrument = view.text("INSTRUME")
        if view.text("TELESCOP") != "HST" and instrument != "WFPC2":
            return ()
        rule = _hubble_rule(instrument, view.text("DETECTOR"), view.bad_bits)
        return tuple(
            Chip(
                science,
                noise_plane(NoiseForm.SIGMA, view.beside(science, "ERR"))
                or noise_plane(_weight_form(view), view.beside(science, "WHT")),
                flag_plane(rule, view.beside(science, "DQ")),
            )
            for science in view.chosen(["SCI"])
        )


def _hubble_rule(instrument: str, detector: str, bad_bits: str | None) -> FlagRule:
    name = f"HST_{instrument}_{detector}"
    name = name if name in MEANINGS else f"HST_{instrument}"
    return rule_for(name if name in MEANINGS else "", bad_bits)


def _weight_form(view: FitsView) -> NoiseForm:
    """Drizzle's weights are exposure times unless it was told to write inverse variances."""
    kinds = {view.text(keyword) for keyword in ("D001WTTP", "WHTTYPE", "FINALWHT")}
    return NoiseForm.INVERSE_VARIANCE if kinds & {"ERR", "IVM"} else NoiseForm.WEIGHT
