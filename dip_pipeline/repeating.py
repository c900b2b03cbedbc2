"""Do a run again from the account in its product: the same input, the same options."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dip_pipeline.account import restoration_of
from dip_pipeline.config import RunConfig
from dip_pipeline.errors import ConfigError, FrameError, PriorError
from dip_pipeline.frames import file_digest, read_account, split_selector
from dip_pipeline.frames.prov_json import Document, facts_of, unflatten
from dip_pipeline.pipeline import RunReport, restore_frame
from dip_pipeline.progress import SILENT, Progress
from dip_pipeline.record import software_versions


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that it takes to do a run again.

    source : input file with its HDU, as it lay then; sha256 : of that file
    prior_sha256 : of the prior file that the configuration names; "" without one
    versions : of all that may change a result
    """

    source: str
    sha256: str
    prior_sha256: str
    config: RunConfig
    versions: dict[str, Any]


def recipe_of(document: Document, product: Path) -> Recipe:
    """Read from an account how to do its run again; FrameError where it does not say enough."""
    given = facts_of(document, "input")
    run = facts_of(document, restoration_of(document))
    try:
        plane = str(given["plane"])
        source = str(given["prov:location"]) + (f"[{plane}]" if plane else "")
        config = RunConfig.from_document(unflatten(facts_of(document, "configuration")))
        return Recipe(
            source=source,
            sha256=str(given["sha256"]),
            prior_sha256=str(run["key"]["prior"]),
            config=config,
            versions=facts_of(document, "dip-pipeline"),
        )
    except (KeyError, TypeError, ConfigError) as error:
        raise FrameError(
            f"{product}: its provenance does not say how it was made: {error}"
        ) from error


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
    chosen = _moved(recipe.source, source)
    _check_digest(chosen, recipe, product)
    _check_prior(recipe, product)
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
    return f"{split_selector(given)[0]}" + ("" if plane is None else f"[{plane}]")


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
