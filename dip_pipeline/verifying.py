"""Verify a product: the file, its account, and, if it is at hand, its input."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dip_pipeline.account.account import recipe_of
from dip_pipeline.errors import DipError, FrameError
from dip_pipeline.frames import file_digest, read_provenance, split_selector
from dip_pipeline.frames.comparing import check_against
from dip_pipeline.frames.product import Restoration
from dip_pipeline.frames.prov_json import facts_of, names_of
from dip_pipeline.frames.provenance import Provenance
from dip_pipeline.frames.verifying import Check, check_file, contradicted, judged


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was looked at, and whether all of it held."""

    product: Path
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return all(check.passed is not False for check in self.checks)


def verify_product(product: Path, against: str | None = None) -> Verdict:
    """Check a product; against : its input, as the command that made it named it.

    Raises FrameError where the product, or the input, cannot be read at all.
    """
    checks, account, found = check_file(product)
    if account is not None:
        checks.append(_configuration(account, product, found))
        checks.append(_prior(account, product))
        if against is None:
            checks.append(Check("input", None, "not compared: give it with --against"))
        elif found:
            checks += check_against(product, against, account, found)
    return Verdict(product, tuple(checks))


def input_among(folder: Path, product: Path) -> str | None:
    """Name the input of a product that lies in a folder, as its account names it.

    None where it has no account, which its verdict tells. Raises FrameError where the account does
    not say, or the folder has no such file.
    """
    account = read_provenance(product)
    if account is None:
        return None
    path, plane = split_selector(recipe_of(account.document, product).source)
    if not (folder / path.name).exists():
        raise FrameError(f"{product}: was made of {path.name}, which is not in {folder}")
    return str(folder / path.name) + ("" if plane is None else f"[{plane}]")


def _configuration(account: Provenance, product: Path, found: Sequence[Restoration]) -> Check:
    """Compute the digest of the configuration anew from its values; compare the cards with them."""
    told = facts_of(account.document, "configuration").get("sha256")
    try:
        config = recipe_of(account.document, product).config
        digest = config.digest()
    except (DipError, ValueError) as error:
        return Check("configuration", passed=False, detail=str(error))
    wrong = [] if digest == told else [f"sha256 {digest}, the account says {told}"]
    expected = {
        "DIPTASK": f"{config.task.name} each" if config.task.each else str(config.task.name),
        "DIPINPUT": config.fit.input,
        "DIPSCOPE": config.scope_in_force,
        "DIPSEED": config.fit.seed,
        "DIPTILE": config.tile_px,
        "DIPOVLAP": config.tiles.overlap_px,
        "DIPFLUX": config.fit.flux_scale_px,
    }
    if config.may_share_planes:
        del expected["DIPSCOPE"]  # frame or stack, by how many planes there are
    wrong += [text for item in found for text in contradicted(item, expected)]
    return judged("configuration", wrong, "its sha256, computed anew, and the cards agree with it")


def _prior(account: Provenance, product: Path) -> Check:
    """Compute the digest of the prior file anew, where there is one and it is at hand."""
    run = facts_of(account.document, next(iter(names_of(account.document, "Restoration"))))
    told = str((run.get("key") or {}).get("prior") or "")
    if not told:
        return Check("prior", passed=True, detail="the frame's own, no file")
    try:
        name = recipe_of(account.document, product).config.fit.prior
    except (DipError, ValueError):
        name = None
    path = Path(name or "")
    if not path.is_file():
        named = name or f"the account does not name the file of sha256 {told}"
        return Check("prior", None, f"{named}: not at hand")
    fine = file_digest(path) == told
    words = "its sha256, computed anew" if fine else "is not the file that the account names"
    return Check("prior", fine, f"{path}: {words}")
