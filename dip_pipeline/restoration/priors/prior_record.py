"""What is written of a prior beside its weights: read without building its networks.

The bytes of a prior are safetensors and their SHA-256; nothing in them is executed.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.problem import FitReport, NetworkKind, StopReason

SHARED_FORMAT = "dip-shared-prior-1"
_DIGEST_BYTES = 32  # of SHA-256, at the end
_LENGTH_BYTES = 8  # of the length of safetensors' header


@dataclass(frozen=True, slots=True)
class SharedRecord:
    """What a prior for many frames says of itself.

    origin : what the frames were, for whoever applies it; what JSON can hold
    """

    network_kind: NetworkKind
    report: FitReport
    origin: Mapping[str, Any]

    @classmethod
    def from_bytes(cls, data: bytes) -> "SharedRecord":
        """Read it of what `SharedPrior.to_bytes` wrote.

        Raises RestorationError where it is something else.
        """
        _, record = read_record(data, SHARED_FORMAT)
        return cls.of(record)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "SharedRecord":
        """Take it of a record that was read."""
        kind, report = NetworkKind(record["network"]), read_report(record["report"])
        return cls(kind, report, record["origin"])


def sealed(payload: bytes) -> bytes:
    """Put its SHA-256 after a payload."""
    return payload + hashlib.sha256(payload).digest()


def read_record(data: bytes, wanted_format: str) -> tuple[bytes, dict[str, Any]]:
    """Check the bytes of a prior; gives the safetensors in them, and the record.

    Raises RestorationError where it is something else.
    """
    payload, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    # safetensors itself does not notice a flipped bit in a weight.
    if hashlib.sha256(payload).digest() != digest:
        raise RestorationError(
            f"not a prior, or a damaged one: the checksum of its {len(data)} bytes is wrong"
        )
    try:
        end = _LENGTH_BYTES + int.from_bytes(payload[:_LENGTH_BYTES], "little")
        header = json.loads(payload[_LENGTH_BYTES:end])
        record: dict[str, Any] = json.loads(header["__metadata__"]["record"])
        found_format = record["format"]
    except (KeyError, ValueError, TypeError) as error:
        raise RestorationError(f"not a prior, or a damaged one: {error}") from error
    if found_format != wanted_format:
        raise RestorationError(f"prior of format {found_format!r}: need {wanted_format}")
    return payload, record


def report_record(report: FitReport) -> list[object]:
    """Give a report as JSON holds it."""
    return [report.steps, report.stop_reason.name, list(report.risks), list(report.notes)]


def read_report(record: Sequence[Any]) -> FitReport:
    """Undo `report_record`."""
    steps, reason, risks, notes = record
    return FitReport(steps, StopReason[reason], tuple(risks), tuple(notes))
