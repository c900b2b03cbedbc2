"""Pictures of a product beside its input: what was restored, and what was taken away."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dip_pipeline.account.account import recipe_of
from dip_pipeline.config import RunConfig
from dip_pipeline.errors import FrameError
from dip_pipeline.flags import PixelFlag
from dip_pipeline.frames import Frame, open_frames, read_account
from dip_pipeline.frames.finer_product import grid_of
from dip_pipeline.frames.mask_file import with_mask
from dip_pipeline.frames.product import Restoration, restorations_of, run_of
from dip_pipeline.frames.provenance import Provenance
from dip_pipeline.frames.publishing import prepare, publishing
from dip_pipeline.preparing.planning import kernels_of_stacks, settle_frame
from dip_pipeline.quality import Evidence, panel, save_figure, small_picture
from dip_pipeline.repeating import checked_source
from dip_pipeline.restoration.computing.callers_settings import settings_kept
from dip_pipeline.restoration.forward.optics import in_blocks
from dip_pipeline.sensor import NoiseKind, NoiseModel
from dip_pipeline.sensor.noise_sigma import sigma_plane
from dip_pipeline.task import Task

Image = NDArray[np.float32]

_PACKED = (".gz", ".fz")
_BYTES_A_PICTURE = 4_000_000
_FEW = 6  # planes of one cube or stack that are drawn unasked
_ALL = slice(None)
# Of these what was taken away is noise; of others light moves, too.
_LEAVES_NOISE = (Task.DENOISE, Task.INPAINT)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Pictures of a product, and how many of its planes were left out."""

    files: tuple[Path, ...]
    left_out: int
    planes: int


@dataclass(frozen=True, slots=True)
class _Shown:
    """One restored plane, its number and how many there are."""

    number: int
    planes: int
    title: str
    evidence: Evidence
    unit: str
    with_residual: bool


@settings_kept()
def draw_product(
    product: Path,
    folder: Path,
    *,
    source: str | None = None,
    planes: Sequence[int] | None = (),
    overwrite: bool = False,
) -> Drawn:
    """Draw restored images of a product beside their input, a PNG each.

    source : where the input lies now, if it was moved
    planes : numbers of those to draw, from 1; None: every one; (): all, but of a cube or stack of
        many a few, evenly chosen
    Before, after, and, where the task takes nothing but noise away, (before - after) / sigma by the
    noise law of the run; below each a part where there is much to see. Raises FrameError where
    product or input are not what the account says, OutputError where a picture cannot be written.
    """
    written, count = [], 0
    for shown in _shown(product, source, planes):
        count = shown.planes
        destination = prepare(folder / _name(product, shown), product, overwrite=overwrite)
        with publishing(destination, _BYTES_A_PICTURE) as part:
            save_figure(_figure(shown), part)
        written.append(destination.target)
    return Drawn(tuple(written), 0 if planes else count - len(written), count)


@settings_kept()
def first_picture(product: Path) -> bytes:
    """Draw the first restored image of a product as `draw_product` does; gives a small JPEG.

    Raises FrameError where product or input are not what the account says.
    """
    return small_picture(_figure(next(_shown(product, None, [1]))))


def _name(product: Path, shown: _Shown) -> str:
    """Name a picture after its product; with the number of its plane where there are several."""
    if shown.planes == 1:
        return f"{_stem(product)}.png"
    digits = max(3, len(str(shown.planes)))  # by name they are in their order
    return f"{_stem(product)}_{shown.number:0{digits}d}.png"


def _figure(shown: _Shown) -> Figure:
    return panel(
        shown.evidence, title=shown.title, unit=shown.unit, with_residual=shown.with_residual
    )


def _stem(product: Path) -> str:
    name = product.name
    for packing in _PACKED:
        name = name.removesuffix(packing)
    return Path(name).stem


def _shown(product: Path, source: str | None, asked: Sequence[int] | None) -> Iterator[_Shown]:
    account = read_account(product)
    recipe = recipe_of(account.document, product)
    chosen = checked_source(recipe, product, source)
    frames = with_mask(open_frames(chosen, recipe.config.frame_reading()), recipe.config.task.mask)
    found = restorations_of(product, run_of(account))
    planes = [(item, planes) for item in found for planes in item.images]
    if len(planes) != len(frames):
        raise FrameError(
            f"{product}: {len(planes)} restored planes of {len(frames)} in {chosen}: which is "
            "which is not known; pictures are drawn of products whose every plane was restored"
        )
    numbers = _numbers(product, [len(item.images) for item in found], asked)
    kernels = kernels_of_stacks(frames, recipe.config)
    for number in numbers:
        frame, (item, (science, _, flags)) = frames[number - 1], planes[number - 1]
        whole = tuple(slice(0, side) for side in science.shape)
        restored = np.asarray(science[whole[0], whole[1]], np.float32)
        delivered = restored, np.asarray(flags[whole[0], whole[1]])
        settled = settle_frame(frame, recipe.config, kernels.get(number - 1))
        evidence = _evidence(settled, delivered, account)
        yield _Shown(
            number=number,
            planes=len(frames),
            title=_title(product, item, frame.label if len(frames) > 1 else ""),
            evidence=evidence,
            unit=frame.unit,
            with_residual=_leaves_noise(recipe.config) and bool(evidence.usable.any()),
        )


def _leaves_noise(config: RunConfig) -> bool:
    """Whether nothing but noise is taken away, and every pixel stays where it was."""
    return config.task.name in _LEAVES_NOISE or config.task.each


def _numbers(product: Path, sizes: Sequence[int], asked: Sequence[int] | None) -> list[int]:
    """Numbers of the planes to draw, from 1, of images of so many planes each.

    Of more than a few planes of one image the middles of so many equal parts: at the ends of a cube
    there may be little to see.
    """
    count = sum(sizes)
    if absent := [number for number in asked or () if not 1 <= number <= count]:
        raise FrameError(f"{product}: has no plane {absent[0]}; it holds {count}, counted from 1")
    if asked:
        return sorted(set(asked))
    if asked is None:
        return list(range(1, count + 1))
    numbers, before = [], 0
    for size in sizes:
        few = min(size, _FEW)
        numbers += [before + (2 * part + 1) * size // (2 * few) + 1 for part in range(few)]
        before += size
    return numbers


def _title(product: Path, item: Restoration, label: str) -> str:
    cards = {keyword: value for keyword, value, _ in item.cards}
    risk, sure = cards.get("DIPRISK"), cards.get("DIPRISKE")
    told = ""
    if isinstance(risk, float):
        bound = "" if isinstance(sure, float) else "at most "
        told = f", residual noise {bound}{risk:.3f}"
    # Where the locale has no letters for a name, its bytes are no text that can be drawn.
    name = os.fsencode(product.name).decode("utf-8", "replace")
    return f"{name}{f', {label}' if label else ''}{told}"


def _evidence(
    settled: tuple[Frame, NoiseModel],
    delivered: tuple[Image, NDArray[np.generic]],
    account: Provenance,
) -> Evidence:
    """Put a plane beside its input, whose pixels are cut up where the product's are finer."""
    restored, flags = delivered
    frame, noise = settled
    pixels = frame.read(_ALL, _ALL)
    factor = restored.shape[0] // frame.shape[0]
    observed, sigma = pixels.science, np.full(frame.shape, np.nan, np.float32)
    if noise.kind is not NoiseKind.NONE:
        level = restored if factor == 1 else observed
        sigma = sigma_plane(noise, level, pixels.error)
    share = np.float32(grid_of(account, frame.unit).share)
    observed, sigma = observed * share, sigma * share
    marks = flags.astype(np.uint8)
    saturated = (marks & PixelFlag.SATURATED) != 0
    filled = (marks & PixelFlag.FILLED) != 0
    return Evidence(
        observed=in_blocks(observed, factor),
        restored=restored,
        sigma=in_blocks(sigma, factor),
        masked=(filled | in_blocks(pixels.masked, factor)) & ~saturated,
        saturated=saturated,
    )
