"""Fitted networks and a record as bytes: safetensors and its SHA-256.

Nothing in them is executed when they are read.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.delivering.restraint import Restraint
from dip_pipeline.restoration.delivering.uncertainty import ErrorTable, LitErrors
from dip_pipeline.restoration.fits.fit_code import CODE_CHANNELS
from dip_pipeline.restoration.images.blocks import CrossFit
from dip_pipeline.restoration.images.spectral import LostLight
from dip_pipeline.restoration.networks.architectures import NETWORKS, build_network
from dip_pipeline.restoration.priors.prior_record import as_written, read_record, sealed
from dip_pipeline.restoration.problem import InputKind, NetworkKind
from dip_pipeline.restoration.stars.star_shape import StarShape
from dip_pipeline.restoration.views.features import answer_channels, feature_channels
from dip_pipeline.restoration.views.guide_planes import GuideScale
from dip_pipeline.restoration.views.sky_scale import SkyScale


def pack(networks: Sequence[nn.Module], record: Mapping[str, object]) -> bytes:
    """Serialise networks with what is to be known of them.

    record : what JSON can hold; `format`, the kinds `network` and `input`, how many `guide_planes`;
        `channels` in and out of the networks, where they are not those of the input
    """
    tensors = {
        f"{half}.{name}": value.contiguous().cpu()
        for half, network in enumerate(networks)
        for name, value in network.state_dict().items()
    }
    text = json.dumps({**record, "networks": len(networks)})
    payload = safetensors.torch.save(tensors, metadata={"record": text})
    return sealed(payload)


def unpack(data: bytes, wanted_format: str) -> tuple[tuple[nn.Module, ...], dict[str, Any]]:
    """Read what `pack` wrote. Raises RestorationError where it is something else."""
    payload, record = read_record(data, wanted_format)
    try:
        with as_written():
            tensors = safetensors.torch.load(payload)
    except SafetensorError as error:
        raise RestorationError(f"not a prior, or a damaged one: {error}") from error
    with as_written():
        kind, input_kind = NetworkKind(record["network"]), InputKind(record["input"])
        usual = (CODE_CHANNELS, 1)
        if input_kind is InputKind.IMAGE:
            planes = record.get("guide_planes", 0)
            usual = feature_channels(planes), answer_channels(planes)
        channels_in, channels_out = record.get("channels", usual)
        count, halves = record["networks"], {name.partition(".")[0] for name in tensors}
        if not halves or halves != {str(half) for half in range(min(count, len(halves) + 1))}:
            raise ValueError(f"{count} networks, and weights of {len(halves)}")
        networks = tuple(
            _load_network(kind, (channels_in, channels_out), tensors, half) for half in range(count)
        )
    return networks, record


def scale_record(scale: SkyScale) -> list[object]:
    """Give the scale of a sky as JSON holds it."""
    star = None if scale.star is None else list(astuple(scale.star))
    guides = [list(astuple(guide)) for guide in scale.guides]
    return [scale.level, scale.sigma, scale.covariance, star, guides, scale.twin]


def read_scale(record: Sequence[Any]) -> SkyScale:
    """Undo `scale_record`."""
    level, sigma, covariance, star, guides, twin = record
    shape = None if star is None else StarShape(*star)
    rows = tuple(tuple(row) for row in covariance)
    scales = tuple(GuideScale(*guide) for guide in guides)
    return SkyScale(float(level), float(sigma), rows, shape, scales, twin=twin)


def read_cross_fit(record: Sequence[int] | None) -> CrossFit | None:
    """Read which network restores which block."""
    if record is None:
        return None
    crossed = CrossFit(*record)
    if min(crossed.block_px, crossed.guard_px) < 1 or crossed.folds not in (2, 4):
        raise ValueError(f"blocks of {record}")
    return crossed


def errors_record(errors: LitErrors | None) -> list[object] | None:
    """Give the errors of restored pixels as JSON holds them."""
    if errors is None:
        return None
    tables = [[table.knots, table.errors] for table in errors.tables]
    return [errors.edges, tables, errors.lacking]


def read_errors(record: Sequence[Any] | None) -> LitErrors | None:
    """Undo `errors_record`."""
    if record is None:
        return None
    edges, tables, *lacking = record  # which earlier ones did not measure
    columns = tuple(ErrorTable(*_columns(table)) for table in tables)
    if len(columns) != len(edges) + 1 or any(len(one) not in (0, len(columns)) for one in lacking):
        raise ValueError(f"errors in {len(columns)} ranges, between {len(edges)} edges: {lacking}")
    return LitErrors(_numbers(edges), columns, *map(_numbers, lacking))


def restraint_record(restraint: Restraint) -> list[object]:
    """Give a restraint as JSON holds it."""
    lost = restraint.lost
    return [restraint.knots, restraint.shares, lost.knots, lost.rates, lost.kept]


def read_restraint(record: Sequence[Any]) -> Restraint:
    """Undo `restraint_record`."""
    knots, shares, *lost = record
    knots, shares = _columns([knots, shares])
    return Restraint(knots, shares, LostLight(*_columns(lost)))


def _columns(record: Sequence[Sequence[Any]]) -> list[tuple[float, ...]]:
    """Read columns of one table: of numbers, and of one length."""
    columns = [_numbers(column) for column in record]
    if len({len(column) for column in columns}) > 1:
        raise ValueError(f"columns of {', '.join(str(len(column)) for column in columns)} numbers")
    return columns


def _numbers(record: Sequence[Any]) -> tuple[float, ...]:
    return tuple(map(float, record))


def as_text(data: bytes) -> str:
    """Give bytes as JSON holds them."""
    return base64.b64encode(data).decode("ascii")


def from_text(text: str) -> bytes:
    """Undo `as_text`."""
    return base64.b64decode(text)


def _load_network(
    kind: NetworkKind, channels: tuple[int, int], tensors: Mapping[str, Tensor], half: int
) -> nn.Module:
    prefix = f"{half}."
    state = {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
    try:
        with torch.device("meta"):  # shapes alone: none is made that the file has no weights for
            wanted = NETWORKS[kind](*channels).state_dict()
        fits = {name: one.shape for name, one in wanted.items()} == {
            name: one.shape for name, one in state.items()
        }
    except (RuntimeError, TypeError, ValueError):  # channels that none can have
        fits = False
    if not fits:
        raise RestorationError(
            f"prior of another version of network {kind}: its weights do not fit"
        )
    network = build_network(kind, *channels, seed=0)
    network.load_state_dict(state)
    return network.eval()
