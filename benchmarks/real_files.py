"""What is detected in files of real telescopes: every file of a folder, as a table.

    DIP_EXTRA_DATA=FOLDER python -m benchmarks.real_files > docs/real_files.md

Reads what `dip show` reads, and restores nothing.
"""

import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dip_pipeline.config import RunConfig
from dip_pipeline.errors import DipError
from dip_pipeline.runs.describing import FrameDescription, describe_frame

_TEXTS = {".md", ".txt"}

HEAD = """# Files of real telescopes

What `dip show` tells of each, with the options left alone: layout, planes to restore, the rung of
the noise ladder that is taken, what the mask is made of, and the coordinates. Made by
`python -m benchmarks.real_files` from a folder of public files (names as in that folder). Files
that are refused say why, and end the command with exit code 1; none ends in a traceback.

| file | layout | planes | noise rung | bad pixels | WCS |
|---|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One file: the cells of its row; restorable : whether `dip denoise` would restore it."""

    cells: tuple[str, ...]
    restorable: bool

    def __str__(self) -> str:
        return f"| {' | '.join(cell.replace('|', '/') for cell in self.cells)} |"


def files_of(folder: Path) -> Iterator[Path]:
    """Every file of a folder but texts, in the order of their names."""
    yield from (
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix.lower() not in _TEXTS
    )


def row_of(path: Path, folder: Path) -> Row:
    """Describe one file; what is refused says why."""
    name = path.relative_to(folder).as_posix()
    try:
        shown = describe_frame(str(path), RunConfig())
    except (DipError, OSError) as error:
        reason = str(error).replace(f"{path}: ", "").replace(f"{folder}/", "")
        return Row((name, f"refused: {reason}", "", "", "", ""), restorable=False)
    taken = [rung for rung in shown.ladder if rung.taken]
    restorable = bool(taken)
    reason = "; ".join(shown.notes[:1]).replace(f"{path}: ", "")
    noise = f"{taken[0].name}: {shown.noise}" if taken else f"cannot be restored: {reason}"
    return Row((name, shown.layout, _planes(shown), noise, _mask(shown), shown.wcs), restorable)


def _planes(shown: FrameDescription) -> str:
    size = " x ".join(map(str, shown.shape))
    count = len(shown.science)
    return f"{shown.science[0]}, {size}" if count == 1 else f"{count} of {size}"


def _mask(shown: FrameDescription) -> str:
    return f"{shown.masked_share:.2%} ({shown.mask or 'not finite'})"


def main() -> int:
    """Write the table to stdout; 1 where there is no folder."""
    folder = Path(os.environ.get("DIP_EXTRA_DATA", ""))
    if not os.environ.get("DIP_EXTRA_DATA") or not folder.is_dir():
        print("DIP_EXTRA_DATA names no folder of files", file=sys.stderr)
        return 1
    logging.disable(logging.WARNING)
    rows = [row_of(path, folder) for path in files_of(folder)]
    print(HEAD + "\n".join(map(str, rows)))
    restorable = sum(row.restorable for row in rows)
    print(f"\n{len(rows)} files: {restorable} can be restored, {len(rows) - restorable} cannot.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
