"""Fitted networks and a record as bytes: safetensors and its SHA-256.

Nothing in them is executed when they are read.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.delivering.restraint import Restraint
from dip_pipeline.restoration.delivering.uncertainty import ErrorTable, LitErrors
from dip_pipeline.restoration.fits.fit_code import CODE_CHANNELS
from dip_pipeline.restoration.images.spectral import LostLight
from dip_pipeline.restoration.networks.architectures import build_network
from dip_pipeline.restoration.priors.prior_record import read_record, sealed
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
        tensors = safetensors.torch.load(payload)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise RestorationError(f"not a prior, or a damaged one: {error}") from error
    kind, input_kind = NetworkKind(record["network"]), InputKind(record["input"])
    usual = (CODE_CHANNELS, 1)
    if input_kind is InputKind.IMAGE:
        planes = record.get("guide_planes", 0)
        usual = feature_channels(planes), answer_channels(planes)
    channels = record.get("channels", usual)
    networks = tuple(
        _load_network(kind, channels, tensors, half) for half in range(record["networks"])
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
    return SkyScale(level, sigma, rows, shape, scales, twin=twin)


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
    columns = tuple(ErrorTable(*map(tuple, table)) for table in tables)
    return LitErrors(tuple(edges), columns, *map(tuple, lacking))


def restraint_record(restraint: Restraint) -> list[object]:
    """Give a restraint as JSON holds it."""
    lost = restraint.lost
    return [restraint.knots, restraint.shares, lost.knots, lost.rates, lost.kept]


def read_restraint(record: Sequence[Any]) -> Restraint:
    """Undo `restraint_record`."""
    knots, shares, *lost = (tuple(column) for column in record)
    return Restraint(knots, shares, LostLight(*lost))


def as_text(data: bytes) -> str:
    """Give bytes as JSON holds them."""
    return base64.b64encode(data).decode("ascii")


def from_text(text: str) -> bytes:
    """Undo `as_text`."""
    return base64.b64decode(text)


def _load_network(
    kind: NetworkKind, channels: Sequence[int], tensors: Mapping[str, Tensor], half: int
) -> nn.Module:
    network = build_network(kind, channels[0], channels[1], seed=0)
    prefix = f"{half}."
    state = {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise RestorationError(
            f"prior of another version of network {kind}: its weights do not fit"
        ) from error
    return network.eval()
