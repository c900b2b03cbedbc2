"""Whether exposures belong together: observed, of one unit, filter and pixel scale."""

from dip_pipeline.account.restored_input import inferred_by
from dip_pipeline.errors import ExposureError
from dip_pipeline.frames import Camera, Frame, camera_of

_SCALE_TOLERANCE = 0.01


def check_observed(frame: Frame) -> None:
    """Raise ExposureError for a result of an earlier run: its noise is not an exposure's."""
    if task := inferred_by(frame):
        raise ExposureError(
            f"{frame.path}: a result of dip ({task}), whose noise hangs together and is no "
            "exposure's; combine the frames that it was made of"
        )


def check_alike(frame: Frame, reference: Frame, *, any_optics: bool) -> None:
    """Raise ExposureError for another unit, filter or pixel scale."""
    if frame.unit.strip().casefold() != reference.unit.strip().casefold():
        raise ExposureError(
            f"{frame.path}: in {frame.unit or 'no unit'}, {reference.path} in "
            f"{reference.unit or 'no unit'}; exposures of one unit are needed"
        )
    if any_optics:
        return
    own, other = camera_of(frame.header), camera_of(reference.header)
    if own.filter and other.filter and own.filter.casefold() != other.filter.casefold():
        raise ExposureError(
            f"{frame.path}: filter {own.filter}, {reference.path}: {other.filter}; exposures of "
            "one filter are needed (--any-optics takes others)"
        )
    _check_scales(frame, reference, own, other)


def _check_scales(frame: Frame, reference: Frame, own: Camera, other: Camera) -> None:
    scales = own.pixel_scale_arcsec, other.pixel_scale_arcsec
    if scales[0] is None or scales[1] is None:
        return
    if abs(scales[0] / scales[1] - 1) > _SCALE_TOLERANCE:
        raise ExposureError(
            f"{frame.path}: {scales[0]:.4g} arcsec a pixel, {reference.path}: {scales[1]:.4g}; "
            "exposures of one pixel scale are needed (--any-optics takes others)"
        )
