"""Which HDU of a FITS file is the science, and which others belong to it."""

import logging
from pathlib import Path

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.fits_layout import HduSpan, Layout
from dip_pipeline.frames.frame import Role
from dip_pipeline.frames.selectors import Selector

logger = logging.getLogger(__name__)

PRODUCT_HDUS = ("DIP_ERR", "DIP_FLAG", "DIP_PROV", "DIP_TILE")
_ROLES: dict[str, Role] = {
    "SCI": "science",
    "ERR": "error",
    "VAR": "variance",
    "DQ": "flags",
    "MASK": "flags",
}


def choose_science(layout: Layout, selector: Selector | None, path: Path) -> HduSpan:
    """Pick the HDU to restore: the selected one, else SCI, else the first image."""
    if selector is not None:
        chosen = _select(layout, selector, path)
        if _ROLES.get(chosen.name) == "flags" or chosen.name in PRODUCT_HDUS:
            raise FrameError(
                f"{path}: {chosen.where} is a mask or a product plane, not an image to restore"
            )
        return _checked(chosen, layout, path)
    images = [hdu for hdu in layout.hdus if hdu.has_pixels and hdu.name not in PRODUCT_HDUS]
    if not images:
        raise FrameError(f"{path}: {_what_it_holds(layout)}: no image to restore")
    named = [hdu for hdu in images if hdu.name == "SCI"]
    if named:
        chosen = next((hdu for hdu in named if hdu.version == 1), named[0])
        if len(named) > 1:
            logger.info(
                "%s: %d SCI images; taking %s, the others stay as they are: select one with "
                "FILE[SCI,n]",
                path,
                len(named),
                chosen.where,
            )
        return _checked(chosen, layout, path)
    plain = [hdu for hdu in images if hdu.name not in _ROLES]
    if not plain:
        raise FrameError(
            f"{path}: holds only {', '.join(hdu.where for hdu in images)}: no science image; "
            "select one with FILE[n] to restore it all the same"
        )
    return _checked(plain[0], layout, path)


def _select(layout: Layout, selector: Selector, path: Path) -> HduSpan:
    for hdu in layout.hdus:
        by_name = hdu.name == selector.name or (selector.name == "PRIMARY" and hdu.index == 0)
        if hdu.index == selector.index or (by_name and selector.version in (None, hdu.version)):
            return hdu
    raise FrameError(
        f"{path}: no HDU [{selector.text}]; it holds {', '.join(h.where for h in layout.hdus[:12])}"
    )


def _checked(hdu: HduSpan, layout: Layout, path: Path) -> HduSpan:
    """Return the HDU if it is a two-dimensional image with pixels."""
    if hdu.kind not in ("image", "compressed"):
        raise FrameError(f"{path}: {hdu.where} is a {hdu.kind}, not an image to restore")
    if not hdu.has_pixels:
        size = f"size {hdu.shape}" if hdu.shape else "no pixels"
        raise FrameError(f"{path}: {hdu.where} has {size}: not an image to restore")
    if len(hdu.plane_shape) != 2:
        flat = [h.where for h in layout.hdus if h.has_pixels and len(h.plane_shape) == 2]
        advice = f"; select one of {', '.join(flat[:8])} with FILE[n]" if flat else ""
        raise FrameError(
            f"{path}: {hdu.where} has {len(hdu.shape)} axes {hdu.shape}: dip restores "
            f"two-dimensional images{advice}"
        )
    return hdu


def _what_it_holds(layout: Layout) -> str:
    kinds = {hdu.kind for hdu in layout.hdus if hdu.data_bytes}
    first = layout.hdus[0]
    if first.kind == "groups":
        return "random groups (visibilities, not pixels)"
    empty = [hdu for hdu in layout.hdus if hdu.kind == "image" and 0 in hdu.shape]
    if empty:
        return f"{empty[0].where} has size {empty[0].shape}"
    tables = [hdu.where for hdu in layout.hdus if hdu.kind == "table"]
    if tables:
        return f"only tables: {', '.join(tables[:4])}"
    return "only headers" if not kinds else f"only data of kind {', '.join(sorted(kinds))}"


def roles_of(layout: Layout, science: HduSpan) -> dict[int, Role]:
    """Role of each HDU: companions have the shape and the EXTVER of the science."""
    roles: dict[int, Role] = {}
    for hdu in layout.hdus:
        role: Role = "other"
        if hdu is science:
            role = "science"
        elif (
            hdu.name in ("ERR", "VAR", "DQ")
            and hdu.has_pixels
            and hdu.version == science.version
            and hdu.plane_shape == science.plane_shape
        ):
            role = _ROLES[hdu.name]
        roles[hdu.index] = role
    return roles
