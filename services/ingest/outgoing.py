"""A frame on its way to Kafka: what waits in memory or on the spool's disk, and the records that it becomes."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import Final

from services.adapters.codec import decode_frame, encode_frame
from services.adapters.codec_outcome import encode_arrival
from services.adapters.ports import Headers, ObjectStore
from services.core import topics
from services.core.errors import EventDecodeError
from services.core.outcome import Arrival
from services.core.types import Frame, ImageRef
from services.ingest.encoding import content_type_of, suffix_of

#: More than a frame's fields, key and headers together ever take.
_ENVELOPE_BYTES: Final = 1_024
_LENGTH_BYTES: Final = 4
#: Enough to understand a refusal by; an arrival stays small.
_REFUSAL_CHARACTERS: Final = 500


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One frame with its whole image, or the word that a frame was refused."""

    frame: Frame
    """With ``image``; empty when it was refused."""
    headers: tuple[tuple[str, bytes], ...] = ()
    refusal: str = ""
    refusal_reason: str = ""

    @property
    def size_bytes(self) -> int:
        """Bytes that it takes in memory, about."""
        return len(self.frame.image or b"") + _ENVELOPE_BYTES


@dataclass(frozen=True, slots=True)
class OutgoingRecord:
    """What is written to Kafka."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers
    image_ref: ImageRef | None = None


def to_disk(outgoing: Outgoing) -> bytes:
    """The spool's form: the length of a JSON head, the head, the frame with its image."""
    head = json.dumps(
        {
            "headers": [(name, value.hex()) for name, value in outgoing.headers],
            "refusal": outgoing.refusal,
            "reason": outgoing.refusal_reason,
        }
    ).encode()
    return len(head).to_bytes(_LENGTH_BYTES, "big") + head + encode_frame(outgoing.frame)


def from_disk(data: bytes) -> Outgoing:
    """Read the spool's form.

    Raises:
        EventDecodeError: If it is something else, as after an update that changed the form.
    """
    end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "big")
    try:
        head = json.loads(data[_LENGTH_BYTES:end])
        headers = tuple((str(name), bytes.fromhex(value)) for name, value in head["headers"])
        refusal, reason = str(head["refusal"]), str(head["reason"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EventDecodeError(f"a spooled frame must have a head, got {len(data)} bytes: {error}") from error
    return Outgoing(decode_frame(data[end:]), headers, refusal, reason)


def to_arrival(outgoing: Outgoing) -> OutgoingRecord:
    """Make the record that tells of the frame's part; it needs nothing but the frame's own fields.

    Args:
        outgoing: The frame, or the word that it was refused.
    """
    frame = outgoing.frame
    arrival = Arrival(
        part_id=frame.part_id,
        line_id=frame.line_id,
        product=frame.product,
        arrived_at_ns=frame.captured_at_ns,
        cycle_time_ms=frame.cycle_time_ms,
        lot=frame.lot,
        camera_id=frame.camera_id,
        frame_id=frame.frame_id,
        refusal=outgoing.refusal[:_REFUSAL_CHARACTERS],
    )
    return OutgoingRecord(topics.ARRIVALS, frame.part_id.encode(), encode_arrival(arrival), outgoing.headers)


def to_record(outgoing: Outgoing, store: ObjectStore, *, inline_limit_bytes: int) -> OutgoingRecord:
    """Make the record, putting the image into the object store when the message would be too large with it.

    Args:
        outgoing: The frame.
        store: Takes large images.
        inline_limit_bytes: Bound of the whole message, key and headers included.

    Raises:
        SightlineError: When the object store does not take the image.
    """
    frame = outgoing.frame
    key = frame.camera_id.encode()
    if outgoing.refusal:
        headers = [
            *outgoing.headers,
            ("reason", outgoing.refusal_reason.encode()),
            ("detail", outgoing.refusal.encode()),
            ("origin", b"ingest"),
        ]
        return OutgoingRecord(topics.dead_letter(topics.FRAMES), key, encode_frame(frame), headers)
    image = frame.image or b""
    # An empty image has no place in the store; its few bytes of message fit anywhere.
    if len(image) <= inline_limit_bytes or not image:
        value = encode_frame(frame)
        rest_bytes = len(key) + sum(len(name) + len(data) for name, data in outgoing.headers)
        if len(value) + rest_bytes <= inline_limit_bytes or not image:
            return OutgoingRecord(topics.FRAMES, key, value, outgoing.headers)
    suffix = suffix_of(image)
    # A retry writes the same bytes to the same key, at most an hour further on.
    ref = store.put(object_key(frame, suffix, time.time()), image, content_type=content_type_of(suffix))
    value = encode_frame(replace(frame, image=None, image_ref=ref))
    return OutgoingRecord(topics.FRAMES, key, value, outgoing.headers, ref)


def object_key(frame: Frame, suffix: str, now_s: float) -> str:
    """Where a frame's image lies; by the hour of its arrival in the store, since whole hours expire.

    Args:
        frame: Its ids go into the key.
        suffix: Of the file name.
        now_s: Time of the upload, seconds since the epoch.
    """
    hour = time.strftime("%Y%m%d/%H", time.gmtime(now_s))
    return f"frames/{frame.line_id}/{frame.camera_id}/{hour}/{frame.frame_id}.{suffix}"
