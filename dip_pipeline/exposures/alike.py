"""Whether exposures belong together: observed, of one unit, filter and pixel scale."""

from collections.abc import Sequence

from dip_pipeline.account.restored_input import inferred_by
from dip_pipeline.errors import ExposureError
from dip_pipeline.frames import PLACES, Camera, Frame, camera_of, mosaic_of

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


def check_planes(frames: Sequence[Frame], references: Sequence[Frame], name: str) -> None:
    """Raise ExposureError for a file of another number of planes, which may be those of a mosaic.

    name : of the file, for people
    """
    if len(frames) == len(references):
        return
    kinds = [mosaic_of(planes[0]) is not None for planes in (frames, references)]
    advice = "exposures with the same planes are needed, or one plane of each, FILE[EXT]"
    if kinds[0] != kinds[1]:
        mosaic, other = (name, references[0].path) if kinds[0] else (references[0].path, name)
        advice = (
            f"{mosaic} is a raw mosaic of colour filters, {other} is none by its cards or pixels; "
            "--bayer says what both are"
        )
    raise ExposureError(
        f"{name}: planes to restore {len(frames)}, of {references[0].path} {len(references)}; "
        f"{advice}"
    )


def filter_by_filter(
    frames: Sequence[Frame], references: Sequence[Frame], *, any_optics: bool
) -> tuple[Frame, ...]:
    """Give the planes of a file in the order of the reference's: of mosaics, by their filters.

    A frame that was turned, flipped or cut since begins with another filter. Raises ExposureError
    for a mosaic of others, and for one whose rows are told to go another way: programs disagree
    whether its filters do, too. With any_optics these are taken place by place.
    """
    taken = list(frames)
    for number, reference in enumerate(references):
        own, other = mosaic_of(frames[number]), mosaic_of(reference)
        if own is None or other is None:
            continue
        if not any_optics:
            _check_row_order(frames[number], reference)
        if own[1] == other[1]:
            continue
        if sorted(own[1]) == sorted(other[1]):
            place = PLACES.index(_place_of(reference))
            letter = other[1][place]
            same = [at for at, name in enumerate(own[1]) if name == letter]
            taken[number] = frames[number - place + same[other[1][:place].count(letter)]]
        elif not any_optics:
            raise ExposureError(
                f"{frames[number].path}: filters {own[1]}, {reference.path}: {other[1]}; exposures "
                "of the same filters are needed (--any-optics takes others)"
            )
    return tuple(taken)


def _check_row_order(frame: Frame, reference: Frame) -> None:
    own, other = (
        str(one.header.get("ROWORDER") or "").strip().upper() for one in (frame, reference)
    )
    if own and other and own != other:
        raise ExposureError(
            f"{frame.path}: ROWORDER {own}, {reference.path}: {other}; raw mosaics whose rows go "
            "one way are needed (--any-optics takes the filters as their cards name them)"
        )


def _place_of(image: Frame) -> tuple[int, int]:
    row, col = image.plane_index[-2:]
    return row, col


def _check_scales(frame: Frame, reference: Frame, own: Camera, other: Camera) -> None:
    scales = own.pixel_scale_arcsec, other.pixel_scale_arcsec
    if scales[0] is None or scales[1] is None:
        return
    if abs(scales[0] / scales[1] - 1) > _SCALE_TOLERANCE:
        raise ExposureError(
            f"{frame.path}: {scales[0]:.4g} arcsec a pixel, {reference.path}: {scales[1]:.4g}; "
            "exposures of one pixel scale are needed (--any-optics takes others)"
        )
