"""The page of a night: one HTML file that needs no other one, and nothing from a network."""

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dip_pipeline import __version__
from dip_pipeline.errors import FrameError, OutputError
from dip_pipeline.frames.publishing import prepare, publishing
from dip_pipeline.night.figure_table import FIGURES, LEAST_FRAMES
from dip_pipeline.night.figures import NightFrame
from dip_pipeline.night.report import MOST_PICTURES, NightReport, ReportedFrame, gather
from dip_pipeline.night.unmade import ENDS, Word, word_of
from dip_pipeline.quality import Curve, draw_curves

_TEMPLATES = Path(__file__).with_name("templates")
_PAGES = (".html", ".htm")
_IN_SIGHT = 12  # names of frames that one line tells of
_CURVES = ("sky", "star_fwhm_px", "star_light", "residual_noise")


def write_report(
    products: Sequence[Path],
    out: Path,
    *,
    folders: Sequence[Path] = (),
    pictures: int | None = MOST_PICTURES,
    overwrite: bool = False,
) -> NightReport:
    """Write one HTML file that needs no other one, and nothing from a network.

    folders : in which runs may have left word of frames without a product
    pictures : how many products are drawn at most, as `gather` takes it
    Raises OutputError where it cannot be written, and where it would replace what is no page;
    FrameError where there is neither a product nor word of one. Products that cannot be read are
    told in it.
    """
    word = word_of(folders)
    inputs = [*products, *word.read]
    inputs = [path for path in inputs if path.exists()] or inputs  # links may lead nowhere
    places = [prepare(out, path, overwrite=overwrite) for path in inputs]
    if not places:
        raise FrameError(f"{out}: nothing to tell of; give products of dip, or their folder")
    _check_is_page(out)
    report = gather(products, pictures=pictures, word=word)
    with publishing(places[0], _least_bytes(report)) as part, part.open("wb") as stream:
        for piece in _pieces(report, out.stem):  # all at once they are several times the pictures
            # Bytes of names that were no text to this locale may be text; what is none has a mark.
            whole = piece.encode("utf-8", "surrogateescape")
            stream.write(whole if piece.isascii() else whole.decode("utf-8", "replace").encode())
    return report


def _least_bytes(report: NightReport) -> int:
    """Size of the pictures of a page, as they stand in it."""
    return sum(4 * len(frame.picture) // 3 for frame in report.frames)


def _check_is_page(out: Path) -> None:
    """Leave alone what is there already and no page: an input, say. Raises OutputError."""
    if out.suffix.lower() in _PAGES or not out.is_file():
        return
    with out.open("rb") as stream:
        begins = stream.read(64).lstrip().lower()
    if not begins.startswith((b"<!doctype html", b"<html")):
        raise OutputError(
            f"{out}: exists already, and is no page of HTML, so it is not replaced; name another "
            "output, such as night.html"
        )


def render(report: NightReport, *, title: str) -> str:
    """Fill the page; whatever comes from a header is escaped."""
    return "".join(_pieces(report, title))


def _pieces(report: NightReport, title: str) -> Iterator[str]:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    odd = {frame.source: {o.figure: o for o in frame.oddities} for frame in report.odd}
    names = _short_names([frame.product for frame in report.frames])
    rows = [
        _row(frame, name, odd, report) for frame, name in zip(report.frames, names, strict=True)
    ]
    told = {key for row in rows for key, cell in row["cells"].items() if cell.text}
    return environment.get_template("night_page.html").generate(
        title=title,
        version=__version__,
        report=report,
        unmade=_unmade_rows(report.word),
        ends=[(end, count) for end in ENDS if (count := report.word.count(end))],
        rows=rows,
        columns=[(key, heading) for key, heading in _COLUMNS if key in told],
        least=LEAST_FRAMES,
        units=_units(report),
        curves=_in_line(_curves(report, odd), "png"),
        in_line=_in_line,
    )


def _units(report: NightReport) -> list[str]:
    """Units of the frames; empty where none is named."""
    units = {frame.told.unit for frame in report.frames if frame.told}
    unnamed = ["a unit that is not named"] if units > {""} else []
    return sorted(units - {""}) + unnamed


def _unmade_rows(word: Word) -> list[dict[str, Any]]:
    """Rows of frames without a product; of many alike the first names are in sight."""
    return [
        {"told": first, "names": names[:_IN_SIGHT], "further": names[_IN_SIGHT:]}
        for first, names in word.together
    ]


def _short_names(products: Sequence[Path]) -> list[str]:
    """Names of files; with their folders where two are the same."""
    names = [path.name for path in products]
    return [str(path) if names.count(path.name) > 1 else path.name for path in products]


@dataclass(frozen=True, slots=True)
class _Cell:
    """One cell of the table; meaning : why it is marked, "" where it is not."""

    text: str
    meaning: str = ""
    is_words: bool = False


_COLUMNS = (
    ("begun", "begun"), ("filter", "filter"), ("exposure", "exposure, s"), ("sky", "sky"),
    ("noise", "noise before"), ("gain_e_per_dn", "gain, e/DN"), ("star_fwhm_px", "FWHM, px"),
    ("star_axis_ratio", "axis ratio"), ("star_light", "light of 8 stars, median"),
    ("residual_noise", "residual noise"), ("chi_square", "chi-square"),
    ("masked_share", "filled"), ("doubtful_share", "low confidence"),
    ("flux_change_in_noise", "change of flux, sigma a pixel"), ("failed", "failed tiles"),
    ("seconds", "s of tiles"), ("noise_law", "noise law from"), ("settings", "other settings"),
    ("others", "compared with"),
)  # fmt: skip
_IN_WORDS = ("noise_law", "settings")


def _row(
    frame: ReportedFrame,
    name: str,
    odd: Mapping[str, Mapping[str, object]],
    report: NightReport,
) -> dict[str, Any]:
    told = frame.told
    if told is None:
        return {"name": name, "cells": {}, "problem": frame.problem, "words": []}
    found = odd.get(told.figures.source, {})
    texts = {
        **{figure: _number(value) for figure, value in told.figures.values.items()},
        "masked_share": _share(told.figures.values.get("masked_share")),
        "doubtful_share": _share(told.figures.values.get("doubtful_share")),
        "flux_change_in_noise": _small(told.figures.values.get("flux_change_in_noise")),
        "begun": told.begun,
        "filter": told.filter,
        "exposure": _number(told.exposure_s),
        "residual_noise": _risk(told),
        "noise_law": told.noise_source,
        "settings": report.settings.get(told.figures.source, ""),
        "others": _others(report, told),
        "failed": f"{told.failed_tiles} of {told.tiles}" if told.failed_tiles else "",
    }
    cells = {
        key: _Cell(texts.get(key, ""), _meaning(found.get(key)), is_words=key in _IN_WORDS)
        for key, _ in _COLUMNS
    }
    return {
        "name": name,
        "cells": cells,
        "problem": "",
        "picture": frame.picture,
        "no_picture": frame.no_picture,
        "images": told.images,
        "words": [_words(each) for each in found.values()],
    }


def _words(oddity: object) -> str:
    return str(getattr(oddity, "words", ""))


def _meaning(oddity: object) -> str:
    return "" if oddity is None else _words(oddity)


def _others(report: NightReport, told: NightFrame) -> str:
    """How many frames one is compared with; of too few of its kind none."""
    count = report.others[told.figures.source]
    return str(count) if report.is_compared(told) else f"none ({count} of its kind)"


def _risk(told: NightFrame) -> str:
    if told.risk is None:
        return "not judged"
    if told.risk_error is None:
        return f"< {told.risk:.3f}"
    return f"{told.risk:.3f} ± {told.risk_error:.3f}"


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def _small(value: float | None) -> str:
    return "" if value is None else f"{round(value, 4) + 0.0:.4f}"  # without a sign of zero


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _curves(report: NightReport, odd: Mapping[str, Mapping[str, object]]) -> bytes:
    """Draw what is known of at least two frames."""
    told = [frame.told for frame in report.frames if frame.told]
    curves = []
    for name in _CURVES:
        known = [frame.figures.values.get(name) for frame in told]
        if sum(value is not None for value in known) < 2:
            continue
        values = [math.nan if value is None else value for value in known]
        marked = [name in odd.get(frame.figures.source, {}) for frame in told]
        curves.append(Curve(_with_unit(name, told), values, marked))
    return draw_curves(curves, [frame.filter for frame in told]) if curves else b""


def _with_unit(name: str, frames: Sequence[NightFrame]) -> str:
    """Words of a figure with its unit, where all frames have one."""
    units = {"star_fwhm_px": {"px"}, "residual_noise": {"of the input's"}}
    unit, *others = units.get(name) or {frame.unit for frame in frames}
    return f"{FIGURES[name].words}{f', {unit}' if unit and not others else ''}"


def _in_line(picture: bytes, kind: str) -> str:
    if not picture:
        return ""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
