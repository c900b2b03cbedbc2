"""The methods by name: ours in its variants, and the peers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.code_input import with_watched_code
from benchmarks.fields import SIMULATED, Field, FieldKind
from benchmarks.ours import with_dip, with_dip_tenfold
from benchmarks.peers import (
    with_bm3d,
    with_non_local_means,
    with_plain_bm3d,
    with_published_network,
    with_wavelets,
)
from benchmarks.restored import Restored, Settings

EVERYWHERE = tuple(FieldKind)
ON_LIGHT = tuple(kind for kind in FieldKind if kind is not FieldKind.NOISE)


@dataclass(frozen=True, slots=True)
class Method:
    """One way to restore a field.

    on : kinds of fields that it is measured on
    ours : whether it is this package's own, and depends on the effort
    """

    title: str
    run: Callable[[Field, Settings], Restored]
    on: tuple[FieldKind, ...] = EVERYWHERE
    ours: bool = False


def _own(title: str, on: tuple[FieldKind, ...], **options: object) -> Method:
    dotted = {f"fit.{name}": value for name, value in options.items()}
    return Method(title, partial(with_dip, options=dotted), on, ours=True)


METHODS: dict[str, Method] = {
    "dip": _own("ours", EVERYWHERE),
    "dip-open": _own("ours, closure off", ON_LIGHT, flux_scale_px=0.0),
    "dip-tile": _own("ours, closure off, tile scope", SIMULATED, scope="tile", flux_scale_px=0.0),
    "dip-code": _own("ours, closure off, code input", SIMULATED, input="code", flux_scale_px=0.0),
    # In memory, to see it on its way: `measuring` has it race the paper's network.
    "dip-watched": Method("ours, code input, watched", with_watched_code, (), ours=True),
    "dip-long": Method(
        "ours, ten times the steps", with_dip_tenfold, (FieldKind.NOISE,), ours=True
    ),
    "bm3d": Method("VST-BM3D", with_bm3d),
    "bm3d-white": Method(
        "VST-BM3D, noise taken for white", with_plain_bm3d, (FieldKind.CORRELATED,)
    ),
    "nlm": Method("non-local means", with_non_local_means),
    "wavelets": Method("wavelets", with_wavelets),
    "paper": Method("paper's network", with_published_network, ON_LIGHT),
    "paper-no-skip": Method(
        "paper's network without skips",
        partial(with_published_network, skip_channels=0),
        ON_LIGHT,
    ),
}
# The paper's network takes hours a field on a CPU: it runs where it is asked for.
CHOICES = tuple(name for name, method in METHODS.items() if method.on)
USUAL_METHODS = tuple(name for name in CHOICES if not name.startswith("paper"))
