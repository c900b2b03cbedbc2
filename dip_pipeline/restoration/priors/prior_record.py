"""What is written of a prior beside its weights: read without building its networks.

The bytes of a prior are safetensors and their SHA-256; nothing in them is executed.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dip_pipeline.errors import RestorationError
from dip_pipeline.restoration.problem import FitReport, NetworkKind, StopReason

SHARED_FORMAT = "dip-shared-prior-1"
_DIGEST_BYTES = 32  # of SHA-256, at the end
_LENGTH_BYTES = 8  # of the length of safetensors' header
_MOST_STEPS = 2**31  # what a table holds
_MOST_SAID = 120  # letters of why
# What becomes of a record that lacks something, or holds it in another form.
_ODD = (
    *(KeyError, IndexError, ValueError, TypeError, AttributeError, OverflowError),
    RecursionError,
)


@contextmanager
def as_written() -> Iterator[None]:
    """Read a record: raises RestorationError, in one line, where it is not as it was written."""
    try:
        yield
    except _ODD as error:
        what = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise RestorationError(f"not a prior, or a damaged one: {what[:_MOST_SAID]}") from error


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
        with as_written():
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
    with as_written():
        end = _LENGTH_BYTES + int.from_bytes(payload[:_LENGTH_BYTES], "little")
        header = json.loads(payload[_LENGTH_BYTES:end])
        record: dict[str, Any] = json.loads(header["__metadata__"]["record"])
        found_format = record["format"]
    if found_format != wanted_format:
        raise RestorationError(f"prior of format {found_format!r}: need {wanted_format}")
    return payload, record


def report_record(report: FitReport) -> list[object]:
    """Give a report as JSON holds it."""
    return [report.steps, report.stop_reason.name, list(report.risks), list(report.notes)]


def read_report(record: Sequence[Any]) -> FitReport:
    """Undo `report_record`."""
    steps, reason, risks, notes = record
    if not (isinstance(steps, int) and 0 <= steps < _MOST_STEPS):
        raise ValueError(f"{steps!r} steps of a fit")
    return FitReport(steps, StopReason[reason], tuple(map(float, risks)), tuple(map(str, notes)))
