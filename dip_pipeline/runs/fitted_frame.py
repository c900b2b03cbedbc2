"""The frames that a prior was fitted on, as its file tells them."""

import json
from dataclasses import dataclass, replace
from typing import Self

from pydantic import TypeAdapter, ValidationError

from dip_pipeline.frames import (
    Camera,
    Frame,
    camera_of,
    centre_digest,
    file_digest,
    split_selector,
)


@dataclass(frozen=True, slots=True)
class FittedFrame:
    """One frame that a prior was fitted on.

    name : of its file, and the HDU if one was chosen
    sha256 : of its file; centre : of the pixels in its middle, which stay the same when a header
        is edited or the format changed
    shape : rows and columns; beside : sha256 of its noise plane and its mask, where these lie in
        other files
    """

    name: str
    sha256: str
    centre: str
    camera: Camera
    shape: tuple[int, int] = (0, 0)
    beside: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: str, frame: Frame) -> Self:
        """Describe a frame; reads its file once."""
        path, selector = split_selector(source)
        name = path.name if selector is None else f"{path.name}[{selector}]"
        return cls(
            name,
            file_digest(frame.path),
            centre_digest(frame),
            camera_of(frame.header),
            frame.shape,
            tuple(file_digest(path) for path in frame.companions),
        )

    def on(self, plane: Frame) -> Self:
        """Tell it of the plane of its file that the prior is fitted on."""
        return replace(self, centre=centre_digest(plane), shape=plane.shape)


def frames_told(told: object) -> tuple[FittedFrame, ...]:
    """Read the frames that a prior was fitted on; ValueError where they are told otherwise."""
    try:
        frames = TypeAdapter(tuple[FittedFrame, ...]).validate_json(json.dumps(told), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"frames.{where}: {first['msg'].lower()}") from error
    if not frames:
        raise ValueError("fitted on no frame")
    return frames
