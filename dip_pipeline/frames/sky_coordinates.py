"""Which coordinates a header gives its pixels, in a few words."""

from collections.abc import Mapping

from dip_pipeline.frames.camera import camera_of


def wcs_words(header: Mapping[str, object]) -> str:
    """Say the axes, distortions and pixel scale of the primary WCS; "none" without CTYPEs.

    Names of axes and projections: FITS standard 4.0, section 8; TPV, TNX, ZPX and SIP: registered
    conventions.
    """
    kinds = [str(header.get(f"CTYPE{axis}") or "").strip() for axis in range(1, 6)]
    kinds = [kind for kind in kinds if kind]
    if not kinds:
        return "none"
    words = [", ".join(kinds)]
    if "A_ORDER" in header and not any("SIP" in kind for kind in kinds):
        words.append("SIP")
    if any(keyword.startswith(("CPDIS", "D2IMDIS")) for keyword in header):
        words.append("lookup tables")
    alternates = sorted({k[-1] for k in header if len(k) == 7 and k.startswith("CTYPE1")})
    if alternates:
        words.append(f"alternates {', '.join(alternates)}")
    scale = camera_of(header).pixel_scale_arcsec
    if scale is not None:
        words.append(f"{scale:.3g} arcsec a pixel")
    return "; ".join(words)
