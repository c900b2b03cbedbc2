"""The science planes of one file in one run: chips of a mosaic, planes of a cube, reads of a ramp.

Each is a frame of its own, with its own noise, prior and tiles; the tiles of all are numbered
through, so that one run directory holds them, and one product all planes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dip_pipeline.config import RunConfig
from dip_pipeline.config.task_optics import AskedOptics
from dip_pipeline.errors import EmptyFrameError
from dip_pipeline.exposures.registered import Exposures
from dip_pipeline.exposures.registration import Registration
from dip_pipeline.exposures.settling import settle_guide
from dip_pipeline.frames import (
    Frame,
    Guide,
    check_holes,
    finer_frame,
    finer_notes,
    finer_plane,
    guide_notes,
    unlike_notes,
    with_mask,
)
from dip_pipeline.noise.in_words import noise_in_words
from dip_pipeline.preparing.planning import guides_of, kernels_of_stacks, settle_frame
from dip_pipeline.progress import Told
from dip_pipeline.psf.agreement import warn_of_psf
from dip_pipeline.psf.sharp_pixels import without_rays, without_too_sharp
from dip_pipeline.restoration.forward.optics import Optics
from dip_pipeline.runs.hole_rims import warn_of_bright_rims
from dip_pipeline.runs.mosaics import check_mosaics, mosaic_notes
from dip_pipeline.sensor import NoiseModel
from dip_pipeline.sensor.noise_kernel import NoiseKernel
from dip_pipeline.task import Task
from dip_pipeline.tiling import Tile, plan_tiles

_PLANES_TOLD = 3  # of a cube, of whose noise a line is said


@dataclass(frozen=True, slots=True)
class Plane:
    """One plane to restore: as the file has it, and as it is fitted; its noise law, its tiles.

    frame : with the noise planes and the masks that the law and the options call for
    guides : other images of the same sky
    product : as the output holds it, of finer pixels where these were asked for
    optics : between the scene that is asked for and the pixels; None: the scene is what they show
    exposures : further ones of the same sky, registered to it
    """

    origin: Frame
    frame: Frame
    noise: NoiseModel
    tiles: tuple[Tile, ...]
    product: Frame
    optics: Optics | None = None
    exposures: tuple[Registration, ...] = ()
    guides: tuple[Guide, ...] = ()

    @property
    def first_tile(self) -> int:
        """Number of its first tile in the run."""
        return self.tiles[0].index

    @property
    def pixels(self) -> int:
        """How many it has."""
        return self.frame.shape[0] * self.frame.shape[1]

    @property
    def combined(self) -> int:
        """How many exposures become its result; those that only guide it do not count."""
        return 1 if self.optics is None else 1 + len(self.exposures)


@dataclass(frozen=True, slots=True)
class Planes:
    """What is restored of a file, and what is left as it is, with the reason.

    left : as the output holds it; unlike : what else of the input is not used, or not in the
        output
    """

    restored: tuple[Plane, ...]
    left: tuple[tuple[Frame, str], ...]
    unlike: tuple[str, ...] = ()

    @property
    def tiles(self) -> int:
        """Tiles of all planes."""
        return sum(len(plane.tiles) for plane in self.restored)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user must hear."""
        left = [f"{frame.label}: left as it is: {reason}" for frame, reason in self.left]
        guides = guide_notes({plane.frame.label: plane.guides for plane in self.restored})
        return (*left, *self.unlike, *guides)

    def name_of(self, plane: Plane, source: str) -> str:
        """Name a plane, for people: where there are several, by its place, too."""
        several = len(self.restored) + len(self.left) > 1
        return f"{source}, {plane.frame.label}" if several else source

    @property
    def noise(self) -> str:
        """The noise laws in words: of the first plane, and exposure, where there are several."""
        first = self.restored[0]
        counts = ((len(self.restored), "planes"), (first.combined, "exposures"))
        several = " of ".join(f"{count} {what}" for count, what in counts if count > 1)
        words = noise_in_words(first.noise)
        return f"of {several}, the first: {words}" if several else words


def plan_planes(
    source: str,
    frames: Sequence[Frame],
    config: RunConfig,
    told: Told,
    asked: AskedOptics | None = None,
    others: Exposures | None = None,
) -> Planes:
    """Find the noise of every plane and cut it into tiles.

    asked : what the task says of the way from the scene to the pixels
    others : further exposures, to be combined with these
    Of several planes, those without anything to restore are left as they are. Raises
    EmptyFrameError where that is all of them, SensorError where a noise must be known and is not,
    FrameError where the output could not say where finer pixels lie.
    """
    check_mosaics(frames, config.task)
    planes: list[Plane] = []
    left: list[tuple[Frame, str]] = []
    count, heard = 0, _NoiseTold(told)
    products: dict[str, Frame] = {}
    guides = guides_of(config, frames)
    masked = with_mask(frames, config.task.mask)
    kernels = kernels_of_stacks(masked, config)
    for number, (frame, seen) in enumerate(zip(frames, masked, strict=True)):
        try:
            settled, noise = _settled(seen, config, kernels.get(number))
        except EmptyFrameError as error:
            if len(frames) == 1:
                raise
            reason = str(error).removeprefix(f"{frame.path}: ")
            left.append((_as_product(frame, asked, products), reason))
            continue
        if config.task.name is Task.INPAINT:
            warn_of_bright_rims(settled, noise)
        settled, optics = _beside_psf(settled, noise, asked, config)
        options = config.tile_options()
        tiles = plan_tiles(frame.shape, asked.tile_options(options) if asked else options)
        tiles = [replace(tile, index=count + tile.index) for tile in tiles]
        count += len(tiles)
        product = _as_product(frame, asked, products)
        name = source if len(frames) == 1 else f"{source}, {frame.label}"
        plane = Plane(
            frame, settled, noise, tuple(tiles), product, optics, guides=guides[frame.label]
        )
        heard.of_plane(name, plane)
        if others is not None:
            plane = _registered(plane, number, others, Told(told.progress, name))
        planes.append(plane)
    if not planes:
        raise EmptyFrameError(
            f"{frames[0].path}: none of its {len(frames)} planes can be restored; "
            f"{left[0][0].label}: {left[0][1]}"
        )
    finer = dict.fromkeys(note for product in products.values() for note in finer_notes(product))
    more = (*mosaic_notes(frames, config.reading.bayer), *unlike_notes(frames), *finer)
    more = (*more, *_first_alone(planes, config))
    planned = Planes(tuple(planes), tuple(left), more)
    for note in planned.notes:
        told.progress.note(f"{source}: {note}")
    return planned


class _NoiseTold:
    """Says what the noise of planes is: of few of each HDU, and only where it is another."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._last: dict[str, str] = {}
        self._count: Counter[str] = Counter()

    def of_plane(self, name: str, plane: Plane) -> None:
        """Say it of the next plane, unless enough is said."""
        where, words = plane.origin.where, noise_in_words(plane.noise)
        if words == self._last.get(where):
            return
        self._last[where] = words
        self._count[where] += 1
        if self._count[where] == _PLANES_TOLD + 1:
            words = "of this plane and those after it is in the account (DIP_PROV)"
        if self._count[where] <= _PLANES_TOLD + 1:
            self._told.progress.note(f"{name}: noise {words}")


def _first_alone(planes: Sequence[Plane], config: RunConfig) -> tuple[str, ...]:
    """Say of combined exposures that planes of the first stay beside what is of all of them."""
    planes = [plane for plane in planes if plane.exposures and plane.product is plane.origin]
    own = any(
        (plane.origin.has_error_plane or plane.origin.has_mask) and not plane.origin.companions
        for plane in planes
    )
    if config.task.each or not own:
        return ()
    return (
        "error plane and flags of the input stay in the result and are those of the first exposure "
        "alone; DIP_ERR and DIP_FLAG are of all",
    )


def _beside_psf(
    frame: Frame, noise: NoiseModel, asked: AskedOptics | None, config: RunConfig
) -> tuple[Frame, Optics | None]:
    """Say what lies between a scene and a frame of known noise; mask what cannot come through it.

    And warn where the frame's stars do not agree.
    """
    if asked is None:
        return frame, None
    optics = asked.of_frame(frame)
    # Exposures show each other's; and who asked to look for them has them masked.
    if config.task.name is not Task.COMBINE and not config.reading.find_cosmics:
        frame = without_rays(frame, noise, asked)
    frame = without_too_sharp(frame, noise, asked)
    warn_of_psf(frame, noise, asked)
    return frame, optics


def _settled(
    frame: Frame, config: RunConfig, elsewhere: NoiseKernel | None
) -> tuple[Frame, NoiseModel]:
    """Find the noise of a frame that has what the task is about; see `plan_planes`."""
    if config.task.name is Task.INPAINT:
        check_holes(frame, config.task.mask, may_be_none=config.reading.find_cosmics)
    if config.task.each and elsewhere is None:
        return settle_guide(frame, config)  # it guides others, too
    return settle_frame(frame, config, elsewhere)


def _registered(plane: Plane, number: int, others: Exposures, told: Told) -> Plane:
    """Find how the further exposures lie on a plane, which is the number-th of its file."""
    optics, found = others.register(
        number, plane.frame, plane.noise, plane.optics or Optics(), told=told
    )
    own = None if plane.optics is None else optics
    return replace(plane, optics=own, exposures=tuple(found))


def _as_product(frame: Frame, asked: AskedOptics | None, known: dict[str, Frame]) -> Frame:
    """View a frame as the output holds it; known : the first plane of each HDU, so viewed."""
    if asked is None or asked.factor == 1:
        return frame
    if frame.where in known:
        return finer_plane(known[frame.where], frame)
    known[frame.where] = finer_frame(frame, asked.grid(frame))
    return known[frame.where]
