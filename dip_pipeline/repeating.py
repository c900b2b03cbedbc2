"""Do a run again from the account in its product: the same input, the same options."""

from collections.abc import Sequence
from pathlib import Path

from dip_pipeline.account.account import Recipe, recipe_of
from dip_pipeline.account.record import software_versions
from dip_pipeline.errors import FrameError, PriorError
from dip_pipeline.exposures.registered import Exposures
from dip_pipeline.frames import file_digest, open_frames, read_account, split_selector
from dip_pipeline.pipeline import RunReport, restore_frame
from dip_pipeline.progress import SILENT, Progress
from dip_pipeline.runs.read_beside import digests_beside


def repeat_run(
    product: Path,
    target: Path,
    *,
    source: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    command_line: Sequence[str] = (),
) -> RunReport:
    """Do the run that made a product again, into another file.

    source : where the input lies now, if it was moved
    Raises FrameError, or PriorError, where the input or the prior is not the one of the account.
    """
    recipe = recipe_of(read_account(product).document, product)
    chosen = checked_source(recipe, product, source)
    _check_prior(recipe, product)
    _check_beside(chosen, recipe, product)
    for note in version_notes(recipe):
        (progress or SILENT).note(f"{product}: {note}")
    return restore_frame(
        chosen,
        target,
        recipe.config,
        overwrite=overwrite,
        progress=progress,
        command_line=command_line,
    )


def checked_source(recipe: Recipe, product: Path, moved: str | None) -> str:
    """Find the input of a product, and see that it is the file of the account; else FrameError.

    moved : where it lies now, if not where it lay
    """
    chosen = _moved(recipe.source, moved)
    _check_digest(chosen, recipe, product)
    return chosen


def _check_beside(source: str, recipe: Recipe, product: Path) -> None:
    """Compare all that is read with the input; raises FrameError."""
    frames = open_frames(source, recipe.config.frame_reading())
    now = digests_beside(frames, Exposures.of(recipe.config, frames), recipe.config)
    other = [name for name in {**now, **recipe.beside} if now.get(name) != recipe.beside.get(name)]
    if other:
        raise FrameError(
            f"{product}: was made with other files beside its input: {', '.join(other)}; put those "
            "of the account there"
        )


def version_notes(recipe: Recipe) -> list[str]:
    """Say which versions differ from those of the account: pixels may differ, too."""
    now = software_versions()
    return [
        f"made by {name} {then}, this is {now.get(name, 'not there')}: pixels may differ"
        for name, then in recipe.versions.items()
        if name in now and now[name] != then
    ]


def _moved(recorded: str, given: str | None) -> str:
    """Input as it lies now, with the HDU of the account."""
    if given is None:
        return recorded
    plane = split_selector(recorded)[1]
    path, other = split_selector(given)
    if other not in (None, plane):
        raise FrameError(
            f"--input {given}: the product was made of {plane or 'all images'} of its input; give "
            "the file alone"
        )
    return f"{path}" + ("" if plane is None else f"[{plane}]")


def _check_digest(source: str, recipe: Recipe, product: Path) -> None:
    path = split_selector(source)[0]
    if not path.exists():
        raise FrameError(
            f"{product}: was made of {path}, which is not there; say with --input where it is now"
        )
    if file_digest(path) != recipe.sha256:
        raise FrameError(f"{path}: is not the file that {product} was made of: its sha256 differs")


def _check_prior(recipe: Recipe, product: Path) -> None:
    name = recipe.config.fit.prior
    if name is None:
        return
    path = Path(name)
    if not path.is_file() or file_digest(path) != recipe.prior_sha256:
        raise PriorError(
            f"{product}: was made with the prior {path}, which is not there or not the same now; "
            "put the file with the sha256 of card DIPPRIOR there"
        )
