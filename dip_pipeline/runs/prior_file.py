"""A prior in a file of its own: `dip fit` writes it, `dip denoise --prior` applies it."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from dip_pipeline.account.record import ALGORITHM_VERSION, software_versions
from dip_pipeline.config import RunConfig
from dip_pipeline.errors import OutputError, PriorError, RestorationError
from dip_pipeline.frames import (
    Camera,
    Frame,
    camera_of,
    centre_digest,
    file_digest,
    named_digest,
    open_frames,
)
from dip_pipeline.frames.publishing import Destination, prepare, publishing
from dip_pipeline.restoration.priors.prior_record import SharedRecord
from dip_pipeline.runs.fitted_frame import FittedFrame, frames_told

if TYPE_CHECKING:
    from dip_pipeline.restoration.priors.shared_prior import SharedPrior

log = logging.getLogger(__name__)

_SUFFIX = ".prior"
_MOST_BYTES = 1 << 28  # a hundred times what our networks need
_SCALE_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class PriorFile:
    """A prior as it was read, with what it was fitted on; its networks are built when asked for.

    sha256 : of the file; data : its bytes
    record : what it says of itself
    key : all that decides its weights
    """

    path: Path
    sha256: str
    data: bytes
    record: SharedRecord
    frames: tuple[FittedFrame, ...]
    key: Mapping[str, object]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file; PriorError in one line for what is no prior, or one of another version."""
        data = _content(path)
        try:
            record = SharedRecord.from_bytes(data)
            key = record.origin["key"]
            version = key["algorithm"]
            frames = frames_told(record.origin["frames"])
        except (RestorationError, KeyError, TypeError, ValueError) as error:
            raise _not_ours(path, error) from error
        if version != ALGORITHM_VERSION:
            raise PriorError(
                f"{path}: fitted by version {version!r} of the algorithm, this is version "
                f"{ALGORITHM_VERSION}; fit it again with `dip fit`"
            )
        return cls(path, hashlib.sha256(data).hexdigest(), data, record, frames, key)

    @property
    def of_epochs(self) -> bool:
        """Whether it was fitted on exposures that others guide, each at its own epoch."""
        return "exposures" in self.key

    def load(self) -> "SharedPrior":
        """Build its networks; raises PriorError where its weights are none of theirs."""
        from dip_pipeline.restoration.priors.shared_prior import SharedPrior  # torch loads here

        try:
            return SharedPrior.from_bytes(self.data)
        except RestorationError as error:
            raise _not_ours(self.path, error) from error

    def has_seen(self, frame: Frame) -> bool:
        """Whether it was fitted on this frame: known by its pixels, for a file may hold several."""
        centre = centre_digest(frame)
        alike = [item for item in self.frames if item.centre == centre]
        seen = any(tuple(item.shape) == frame.shape for item in alike)
        if alike and not seen:
            log.warning(
                "%s: has the middle of %s, which %s was fitted on, and another size: of pixels "
                "that both show the estimated error is too small",
                frame.path,
                alike[0].name,
                self.path,
            )
        return seen

    def check(self, frame: Frame, config: RunConfig, further: Sequence[Frame] = ()) -> None:
        """Refuse a frame or options that it is not for; raises PriorError.

        further : planes of its file
        """
        kind = self.record.network_kind
        if config.fit.network not in ("auto", kind):
            raise PriorError(
                f"{self.path}: fitted with --network {kind}, not {config.fit.network}; leave "
                "--network out, or fit another prior with `dip fit`"
            )
        if config.task.guides:
            raise PriorError(
                f"{self.path}: fitted without guides, and cannot use one; leave --prior or --guide "
                "out"
            )
        if self.of_epochs != config.task.each:
            fitted = "on exposures beside others" if self.of_epochs else "on frames alone"
            raise PriorError(
                f"{self.path}: fitted {fitted}: combine --each makes and takes priors of its own; "
                "leave --prior out"
            )
        cameras = [item.camera for item in self.frames]
        names = str(frame.path), str(self.path)
        if not self.of_epochs:
            check_optics(names, camera_of(frame.header), cameras, any_optics=config.fit.any_optics)
            self._check_further(further, cameras, any_optics=config.fit.any_optics)
        elif file_digest(frame.path) not in self._exposures():
            raise PriorError(
                f"{frame.path}: none of the exposures that {self.path} is for; leave --prior out"
            )

    def _check_further(
        self, planes: Sequence[Frame], cameras: Sequence[Camera], *, any_optics: bool
    ) -> None:
        """Refuse further planes of a file that are behind another filter; one is named.

        Of another pixel scale chips of one camera may be, by its distortion: that is told.
        """
        seen = [(plane, camera_of(plane.header)) for plane in planes]
        other = [item for item in seen if not any(same_filter(item[1], one) for one in cameras)]
        unlike = [item for item in seen if not any(same_optics(item[1], one) for one in cameras)]
        for plane, camera in (other or unlike)[:1]:
            names = f"{plane.path}, {plane.label}", str(self.path)
            check_optics(names, camera, cameras, any_optics=any_optics or not other)

    def _exposures(self) -> set[str]:
        """Sha256 of the exposures that it was fitted on, or beside: all of one sky and filter."""
        told = self.key["exposures"]
        beside = {str(one).split()[-1] for one in told} if isinstance(told, list) else set()
        return beside | {item.sha256 for item in self.frames}

    def facts(self) -> dict[str, object]:
        """Name it in the record of what is made with it."""
        files = dict.fromkeys((item.name, item.sha256) for item in self.frames)
        return {
            "file": self.path.name,
            "sha256": self.sha256,
            "frames": [{"file": name, "sha256": digest} for name, digest in files],
        }


def fit_key(frames: Sequence[FittedFrame], config: RunConfig) -> dict[str, object]:
    """All that decides the weights of a prior."""
    configuration = config.pixel_key()
    del configuration["tiles"], configuration["output"]
    del configuration["fit"]["flux_scale_px"]
    configuration["fit"].pop("planes", None)  # which is not there where it is left alone
    key: dict[str, object] = {
        "algorithm": ALGORITHM_VERSION,
        "frames": [[frame.name, frame.sha256, *frame.beside] for frame in frames],
        "configuration": configuration,
    }
    if config.task.each:
        told = [pair for name in config.task.exposures for pair in _guide(name, config)]
        key["exposures"] = sorted({" ".join(pair) for pair in told})
    return key


def _guide(name: str, config: RunConfig) -> list[tuple[str, str]]:
    """Sha256 of an exposure that guides others, and of its noise planes and masks elsewhere."""
    planes = open_frames(name, config.frame_reading())
    beside = {path for plane in planes for path in plane.companions}
    told = [("beside", file_digest(path)) for path in beside]
    return [*named_digest("exposure", name).items(), *told]


def origin_of(key: Mapping[str, object], frames: Sequence[FittedFrame]) -> dict[str, object]:
    """Say what a prior was fitted on, and by what: no time, so that the same fit is the same file.

    key : of the fit; frames : once for each of their planes that it is on
    Undone by `PriorFile.read`.
    """
    return {
        "key": key,
        "frames": [asdict(frame) for frame in frames],
        "software": software_versions(),
    }


def is_fit_of(target: Path, key: Mapping[str, object]) -> bool:
    """Whether the target exists and is the prior of this very fit."""
    try:
        return target.exists() and PriorFile.read(target).key == json.loads(json.dumps(key))
    except PriorError:
        return False


def check_prior_target(
    target: Path, frames: Sequence[Frame], *, overwrite: bool = False
) -> Destination:
    """Refuse, before any work is done, a target that must not be written; raises OutputError."""
    if target.suffix.lower() != _SUFFIX:
        raise OutputError(f"{target}: not the name of a prior; give one that ends in {_SUFFIX}")
    return [prepare(target, frame.path, overwrite=overwrite) for frame in frames][-1]


def save_prior(destination: Destination, prior: "SharedPrior") -> None:
    """Write a prior, whole or not at all; raises OutputError."""
    content = prior.to_bytes()
    with publishing(destination, len(content)) as part:
        part.write_bytes(content)


def check_optics(
    names: tuple[str, str], found: Camera, wanted: Sequence[Camera], *, any_optics: bool
) -> None:
    """Refuse a filter or pixel scale that is none of those wanted; raises PriorError.

    names : of the frame, and of what it is to go with, for the message
    any_optics : only warn, as where a header does not say
    """
    for what, text, same in _OPTICS:
        here, there = text(found), sorted({text(camera) for camera in wanted} - {""})
        if not here or not there:
            where = names[1] if here else names[0]
            log.warning("%s: its header does not tell the %s; not compared", where, what)
        elif not any(same(found, camera) for camera in wanted):
            difference = f"{names[0]}: {what} {here}; {names[1]}: {', '.join(there)}"
            if not any_optics:
                raise PriorError(
                    f"{difference}; a prior is for one {what}: fit one for each with `dip fit`, "
                    "or give --any-optics"
                )
            log.warning("%s; taken all the same", difference)


def same_optics(first: Camera, second: Camera) -> bool:
    """Whether two are of one filter and pixel scale, as far as both are known."""
    return all(
        not (text(first) and text(second)) or same(first, second) for _, text, same in _OPTICS
    )


def same_filter(first: Camera, second: Camera) -> bool:
    """Whether two are of one filter, as far as both are known."""
    return not (first.filter and second.filter) or _same_filter(first, second)


def _same_filter(first: Camera, second: Camera) -> bool:
    return (first.filter or "").casefold() == (second.filter or "").casefold()


def _same_scale(first: Camera, second: Camera) -> bool:
    scales = first.pixel_scale_arcsec, second.pixel_scale_arcsec
    if not scales[0] or not scales[1]:
        return False
    return abs(scales[0] / scales[1] - 1) <= _SCALE_TOLERANCE


def _scale_text(camera: Camera) -> str:
    scale = camera.pixel_scale_arcsec
    return "" if scale is None else f"{scale:.4g} arcsec"


# What must agree: its name, how it is written, whether two of it are the same.
_OPTICS: tuple[tuple[str, Callable[[Camera], str], Callable[[Camera, Camera], bool]], ...] = (
    ("filter", lambda camera: camera.filter or "", _same_filter),
    ("pixel scale", _scale_text, _same_scale),
)


def _not_ours(path: Path, error: Exception) -> PriorError:
    return PriorError(f"{path}: {error}; give a file that `dip fit` wrote")


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise PriorError(f"{path}: too large for a prior; give a file that `dip fit` wrote")
        return path.read_bytes()
    except OSError as error:
        raise PriorError(
            f"{path}: cannot be read ({error.strerror}); give a file that `dip fit` wrote"
        ) from error
