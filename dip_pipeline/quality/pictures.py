"""Pictures of a restored frame: before, after, truth, residual and errors, as PNG files."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import FuncNorm
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.image import AxesImage
from matplotlib.patches import ConnectionPatch, Rectangle
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from dip_pipeline.quality.evidence import Evidence, Image
from dip_pipeline.quality.stretch import (
    Stretch,
    averaged,
    block_size,
    choose_cutout,
    choose_stretch,
)

PAPER = "#0d1014"
INK = "#e6e8eb"
FAINT_INK = "#8b929b"
ACCENT = "#ffb454"
SKY_MAP = "magma"
RESIDUAL_MAP = colormaps["RdBu_r"].with_extremes(bad="#5c6470")  # masked: neither high nor low
ERROR_MAP = "viridis"
_LONG_LABEL = 8  # characters, of which seven find place on a bar
DPI = 120
_SMALL_DPI = 75
_SMALL_JPEG = {"quality": 85, "optimize": True}


def write_pictures(
    folder: Path, evidence: Evidence, *, title: str = "", unit: str = ""
) -> list[Path]:
    """Write before, after, truth, residual and error pictures, and a panel of all of them.

    unit : of the frame

    Returns the files written: those that need a truth or an error plane only where there is one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stretch = choose_stretch(evidence)
    images: dict[str, tuple[Image, str]] = {
        "before": (evidence.observed, "before"),
        "after": (evidence.restored, "after"),
    }
    if evidence.truth is not None:
        images["truth"] = (evidence.truth.level, "truth")
    written = []
    for name, (image, label) in images.items():
        figure = _single(image, label, lambda axes, shown: _show_sky(axes, shown, stretch))
        written.append(_save(figure, folder / f"{name}.png"))
    residual = _single(evidence.residual, "(before - after) / sigma", _show_residual)
    written.append(_save(residual, folder / "residual.png"))
    written.append(_save(panel(evidence, title=title, unit=unit), folder / "panel.png"))
    if evidence.error is not None:
        written.append(_save(error_figure(evidence, unit=unit), folder / "error.png"))
    return written


def panel(
    evidence: Evidence, *, title: str = "", unit: str = "", with_residual: bool = True
) -> Figure:
    """Draw before, after, truth and residual side by side, and a cut-out of each below."""
    title, unit = as_written(title), as_written(unit)
    stretch, cutout = choose_stretch(evidence), choose_cutout(evidence)
    columns: list[tuple[str, Image, bool]] = [
        ("before", evidence.observed, False),
        ("after", evidence.restored, False),
    ]
    if evidence.truth is not None:
        columns.append(("truth", evidence.truth.level, False))
    skies = len(columns)
    if with_residual:
        columns.append(("(before - after) / sigma", evidence.residual, True))
    rows, cols = evidence.observed.shape
    tall = 4.0 * min(max(rows / cols, 0.4), 2.0)
    figure = _figure(4.2 * len(columns), tall + 5.1)
    grid = figure.add_gridspec(
        3,
        len(columns),
        height_ratios=[tall, 4.0, 0.1],
        hspace=0.04,
        wspace=0.03,
        left=0.012,
        right=0.988,
        top=0.915,
        bottom=0.06,
    )
    shown: list[AxesImage] = []
    for index, (label, image, is_residual) in enumerate(columns):
        whole, zoom = (figure.add_subplot(grid[row, index]) for row in (0, 1))
        for axes, part in ((whole, image), (zoom, image[cutout])):
            kept = _show_residual(axes, part) if is_residual else _show_sky(axes, part, stretch)
        shown.append(kept)
        whole.set_title(label, color=INK, fontsize=15, pad=8)
        _mark(figure, whole, zoom, cutout, scale=block_size(image))
    level = f"level ({unit}), asinh stretch" if unit else "level, asinh stretch"
    _bar(figure, grid[2, :skies], shown[0], level, share=0.5)
    if with_residual:
        _bar(figure, grid[2, skies], shown[-1], "sigma; grey: masked or saturated", share=0.9)
    if title:
        figure.suptitle(title, color=INK, fontsize=17, x=0.012, y=0.985, ha="left")
    return figure


def error_figure(evidence: Evidence, *, unit: str = "") -> Figure:
    """Draw the error plane, and where the truth is known, the true error and how they compare."""
    unit = as_written(unit)
    if evidence.error is None:
        return _figure(4.0, 4.0)
    error = np.where(np.isfinite(evidence.error), evidence.error, np.nan)
    finite = error[np.isfinite(error)]
    high = max(np.percentile(finite, 99), 3 * np.median(finite)) if finite.size else 1.0
    panels: list[tuple[str, Image]] = [("stated error", error)]
    if evidence.truth is not None:
        panels.append(("|after - truth|", np.abs(evidence.restored - evidence.truth.level)))
    count = len(panels) + (evidence.truth is not None)
    figure = _figure(5.0 * count, 5.4)
    grid = figure.add_gridspec(
        2,
        count,
        height_ratios=[4.4, 0.1],
        hspace=0.06,
        wspace=0.12,
        left=0.02,
        right=0.98,
        top=0.9,
        bottom=0.13,
    )
    for index, (label, image) in enumerate(panels):
        axes = figure.add_subplot(grid[0, index])
        shown = axes.imshow(
            averaged(image), vmin=0, vmax=float(high), cmap=ERROR_MAP, origin="lower"
        )
        axes.set_axis_off()
        axes.set_title(label, color=INK, fontsize=14)
    _bar(
        figure,
        grid[1, : len(panels)],
        shown,
        f"{unit or 'unit of the frame'}; black: none told",
        share=0.5,
    )
    if evidence.truth is not None:
        axes = figure.add_subplot(grid[0, count - 1])
        _calibration(axes, evidence, error, f" ({unit})" if unit else "")
    return figure


def _calibration(axes: Axes, evidence: Evidence, error: Image, unit: str) -> None:
    """Stated error against the 68.3 % half-width of the true one, in twentieths."""
    axes.set_facecolor(PAPER)
    axes.set_title("is the error true?", color=INK, fontsize=14)
    if evidence.truth is None:
        return
    off = np.abs(evidence.restored - evidence.truth.level)
    good = np.isfinite(error) & np.isfinite(off)
    if evidence.saturated is not None:
        good &= ~evidence.saturated
    stated, true = error[good], off[good]
    parts = np.array_split(np.argsort(stated, kind="stable"), 20)
    points = np.array(
        [(np.median(stated[p]), np.percentile(true[p], 68.3)) for p in parts if p.size > 9]
    )
    if points.size == 0 or not (points > 0).all():
        return
    middle = float(np.sqrt(points.min() * points.max()))
    reach = max(1.3 * float(points.max()) / middle, 3.0)  # a decade at least
    span = (middle / reach, middle * reach)
    axes.plot(span, span, color=FAINT_INK, linewidth=1, linestyle="--")
    axes.plot(*points.T, color=ACCENT, marker="o", markersize=5, linestyle="none")
    axes.set(xscale="log", yscale="log", xlim=span, ylim=span)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    axes.set_box_aspect(1)
    axes.set_xlabel(f"stated error{unit}", color=INK)
    axes.set_ylabel(f"true error, 68.3 % half-width{unit}", color=INK)
    axes.tick_params(colors=FAINT_INK)
    for spine in axes.spines.values():
        spine.set_color(FAINT_INK)


def _single(image: Image, label: str, show: Callable[[Axes, Image], AxesImage]) -> Figure:
    rows, cols = image.shape
    # A whole number of screen pixels for each pixel of the frame: nothing is resampled.
    zoom = max(1, round(900 / max(rows, cols))) / block_size(image) / DPI
    width, height = max(cols * zoom, 3.0), rows * zoom
    total = height + 1.0
    figure = _figure(width, total)
    axes = figure.add_axes((0.0, 0.55 / total, 1.0, height / total), anchor="C")
    shown = show(axes, image)
    figure.text(0.012, 1 - 0.22 / total, label, color=INK, fontsize=14, va="center")
    bar = figure.add_axes((0.25, 0.4 / total, 0.5, 0.07 / total))
    _style_bar(figure, bar, shown, "")
    return figure


def _show_sky(axes: Axes, image: Image, stretch: Stretch) -> AxesImage:
    shown = axes.imshow(averaged(image), norm=stretch.norm(), cmap=SKY_MAP, origin="lower")
    axes.set_axis_off()
    return shown


def _show_residual(axes: Axes, residual: Image) -> AxesImage:
    axes.set_axis_off()
    return axes.imshow(
        averaged(residual),
        vmin=-4,
        vmax=4,
        cmap=RESIDUAL_MAP,
        origin="lower",
    )


def _mark(
    figure: Figure, whole: Axes, zoom: Axes, cutout: tuple[slice, slice], *, scale: int
) -> None:
    """Outline the cut-out in the whole frame, and join the two pictures."""
    rows, cols = cutout
    row, col = rows.start / scale - 0.5, cols.start / scale - 0.5
    height, width = (rows.stop - rows.start) / scale, (cols.stop - cols.start) / scale
    box = Rectangle((col, row), width, height, fill=False, edgecolor=ACCENT, linewidth=1.2)
    whole.add_patch(box)
    zoom.add_patch(
        Rectangle(
            (0, 0),
            1,
            1,
            transform=zoom.transAxes,
            fill=False,
            edgecolor=ACCENT,
            linewidth=1.6,
            clip_on=False,
        )
    )
    for corner, x in ((col, 0.0), (col + width, 1.0)):
        figure.add_artist(
            ConnectionPatch(
                (corner, row),
                (x, 1.0),
                whole.transData,
                zoom.transAxes,
                color=ACCENT,
                linewidth=0.7,
                alpha=0.55,
            )
        )


def _bar(figure: Figure, place: SubplotSpec, shown: AxesImage, label: str, *, share: float) -> None:
    """Put a colour bar in the middle `share` of a grid cell."""
    cell = figure.add_subplot(place)
    cell.set_axis_off()
    _style_bar(figure, cell.inset_axes(((1 - share) / 2, 0, share, 1)), shown, label)


def _style_bar(figure: Figure, axes: Axes, shown: AxesImage, label: str) -> None:
    bar = figure.colorbar(shown, cax=axes, orientation="horizontal")
    if isinstance(shown.norm, FuncNorm):
        low, high = shown.norm.vmin or 0.0, shown.norm.vmax or 1.0
        levels = np.clip(shown.norm.inverse(np.linspace(0.0, 1.0, 7)), low, high)
        bar.set_ticks(list(levels), labels=_short_labels(levels))
        bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=FAINT_INK, labelsize=10, length=3)
    if label:
        bar.set_label(label, color=FAINT_INK, fontsize=10)


def _short_labels(levels: NDArray[np.float64]) -> list[str]:
    """Give levels in three digits, or as many as tell them apart and spare a small exponent.

    Every second one alone where they are so long that they would run into each other.
    """
    for digits in range(3, 9):
        labels = [f"{level:.{digits}g}" for level in levels]
        if len(set(labels)) == len(labels) and not any("e+0" in label for label in labels):
            break
    crowded = max(map(len, labels)) > _LONG_LABEL
    return ["" if crowded and number % 2 else label for number, label in enumerate(labels)]


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whatever the name ends in."""
    figure.savefig(path, format="png", facecolor=PAPER, metadata={"Software": None})


def as_written(text: str) -> str:
    r"""Have matplotlib write a text as it is, where it would take what is between $ for a formula.

    >>> as_written("M31 $x_{$")
    'M31 \\$x_{\\$'
    """
    return text.replace("$", r"\$")


def small_picture(figure: Figure) -> bytes:
    """Give a figure as a JPEG of a part of its pixels, to be shown among many."""
    stream = io.BytesIO()
    figure.savefig(stream, format="jpeg", dpi=_SMALL_DPI, facecolor=PAPER, pil_kwargs=_SMALL_JPEG)
    return stream.getvalue()


def _save(figure: Figure, path: Path) -> Path:
    save_figure(figure, path)
    return path
