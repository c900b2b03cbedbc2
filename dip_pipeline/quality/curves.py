"""Figures of many frames as curves over the night, frame by frame."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dip_pipeline.quality.pictures import ACCENT, DPI, FAINT_INK, INK, PAPER, as_written

_MARKERS = "os^Dvp*X"
_WIDTH, _HEIGHT = 12.6, 1.6


@dataclass(frozen=True, slots=True)
class Curve:
    """One figure of each frame, in their order; NaN where it is not known.

    odd : which of them are unlike the others
    """

    words: str
    values: Sequence[float]
    odd: Sequence[bool]


def draw_curves(curves: Sequence[Curve], kinds: Sequence[str]) -> bytes:
    """Draw curves below each other over the number of the frame, from 1; gives a PNG.

    kinds : of each frame, such as its filter: each kind has its own marker, and a name if there
    are several
    """
    figure = Figure(
        figsize=(_WIDTH, _HEIGHT * len(curves) + 0.5),
        dpi=DPI,
        facecolor=PAPER,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    names = list(dict.fromkeys(kinds))
    for axes, curve in zip(grid, curves, strict=True):
        for place, name in enumerate(names):
            chosen = [n for n, kind in enumerate(kinds) if kind == name]
            marker = _MARKERS[place % len(_MARKERS)]
            for odd, colour, size in ((False, INK, 4), (True, ACCENT, 8)):
                shown = [n for n in chosen if curve.odd[n] is odd]
                axes.plot(
                    [n + 1 for n in shown],
                    [curve.values[n] for n in shown],
                    linestyle="",
                    marker=marker,
                    markersize=size,
                    color=colour,
                    label=as_written(name or "none") if not odd else None,
                )
        axes.set_facecolor(PAPER)
        axes.set_title(as_written(curve.words), color=INK, fontsize=10, loc="left", pad=3)
        axes.tick_params(colors=FAINT_INK, labelsize=8)
        for spine in axes.spines.values():
            spine.set_color(FAINT_INK)
        axes.margins(x=0.02, y=0.15)
    grid[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    grid[-1].set_xlabel("frame", color=FAINT_INK, fontsize=9)
    if len(names) > 1:
        grid[0].legend(
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=len(names),
            frameon=False,
            fontsize=8,
            labelcolor=INK,
        )
    stream = io.BytesIO()
    figure.savefig(stream, format="png", facecolor=PAPER, metadata={"Software": None})
    return stream.getvalue()
