"""What every service that turns records into records says alike: dead letters, and how large a record is."""

from __future__ import annotations

from collections.abc import Sequence

from services.adapters.ports import Record
from services.core import topics
from services.core.errors import SightlineError
from services.runtime.outbox import Output

_DETAIL_CHARACTERS = 500


def dead_letter_output(record: Record, error: SightlineError) -> Output:
    """The record of what could not be used: its own bytes and headers, with the reason and where it came from."""
    return Output(
        topics.dead_letter(record.topic),
        record.key,
        record.value,
        (
            *record.headers,
            ("reason", error.reason.encode()),
            ("detail", str(error)[:_DETAIL_CHARACTERS].encode("utf-8", "replace")),
            ("origin_topic", record.topic.encode()),
            ("origin_partition", str(record.partition).encode()),
            ("origin_offset", str(record.offset).encode()),
        ),
    )


def size_bytes(outputs: Sequence[Output]) -> int:
    """Bytes of the largest record among outputs, key and headers included."""
    return max(
        (
            len(item.key) + len(item.value) + sum(len(name) + len(value) for name, value in item.headers)
            for item in outputs
        ),
        default=0,
    )
