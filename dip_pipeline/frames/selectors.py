"""FILE[SCI,1] and FILE[1]: naming one HDU of a file as CFITSIO does."""

import re
from dataclasses import dataclass
from pathlib import Path

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.fits_layout import HduSpan


@dataclass(frozen=True, slots=True)
class Selector:
    """One HDU by number, or by name and version (None: the first of that name)."""

    text: str
    index: int | None = None
    name: str | None = None
    version: int | None = None

    def means(self, hdu: HduSpan) -> bool:
        """Whether an HDU is asked for; PRIMARY is the first one, whatever its name."""
        named = hdu.name == self.name or (self.name == "PRIMARY" and hdu.index == 0)
        return hdu.index == self.index or (named and self.version in (None, hdu.version))


def split_selector(source: str | Path) -> tuple[Path, str | None]:
    """Split "a.fits[SCI,1]" into the path and what stands in the brackets.

    A file whose own name ends in brackets is taken as it is.
    """
    found = re.fullmatch(r"(.+)\[([^\[\]]*)\]", str(source), flags=re.DOTALL)
    if found is None or Path(source).exists():
        return Path(source), None
    return Path(found.group(1)), found.group(2).strip()


def parse_selector(text: str) -> Selector:
    """Read what stands in the brackets: a number, a name, or name,version."""
    if re.fullmatch(r"\d+", text):
        return Selector(text, index=int(text))
    found = re.fullmatch(r"([^,\s][^,]*?)\s*(?:,\s*(\d+))?", text)
    if found is None or text.startswith("-"):
        raise FrameError(
            f"[{text}]: selects no HDU; give a number from 0, or a name and version: "
            "FILE[1], FILE[SCI], FILE[SCI,1]"
        )
    version = found.group(2)
    return Selector(text, name=found.group(1).upper(), version=int(version) if version else None)
