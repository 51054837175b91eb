"""Ids: made once, derived from what does not change, and never trusted from outside.

A frame's id has the layout of a version 7 UUID (RFC 9562): the first 48 bits are the capture time in milliseconds,
so ids sort by time; the rest is a digest of camera, source item, pass and time instead of random bits. The same item
offered again after a crash or a retry therefore gets the same id, and every id made from it is repeatable too.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Sequence

from services.core.errors import InvalidInputError

#: Longest id, in characters, for lines, cameras, products, parts and aliases.
MAX_ID_LENGTH = 128
#: Longest text of a source item or idempotency key, in bytes of UTF-8, that goes into an id.
MAX_SOURCE_BYTES = 4096

_NS_PER_MS = 1_000_000
_MAX_TIME_NS = (1 << 48) * _NS_PER_MS - 1
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z", re.ASCII)
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
_FRAME_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z", re.ASCII)
_SHOWN_CHARACTERS = 80


def derive_frame_id(camera_id: str, source_item: str, pass_number: int, captured_at_ns: int) -> str:
    """Make the id of one frame from what identifies it at its source.

    Two calls with equal arguments give equal ids, in any process and at any time.

    Args:
        camera_id: The camera, already validated.
        source_item: What the source calls the item: file name, position in a video, drawing seed.
        pass_number: How many times the source has offered the item before (a looping replay), or the frame's
            sequence where the source has no item names; ``>= 0``.
        captured_at_ns: Time of the item **as its source gives it** (file time, position, drawing time), in
            nanoseconds since the epoch. Do not pass the time of a retry: the id would change with it.

    Returns:
        A lower-case UUID of version 7 layout.

    Raises:
        InvalidInputError: If a number is negative or past the layout's range, or the item's text is too long.
    """
    return _uuid7("frame", captured_at_ns, camera_id, source_item, str(_not_negative("pass_number", pass_number)))


def id_from_idempotency_key(camera_id: str, idempotency_key: str, captured_at_ns: int) -> str:
    """Make a frame id from the key that a client sends with each attempt to deliver one frame.

    Args:
        camera_id: The camera, already validated.
        idempotency_key: The client's key; not empty, equal for each attempt, different for each frame of the camera.
        captured_at_ns: The capture time that the client sent, nanoseconds since the epoch; equal for each attempt.

    Returns:
        A lower-case UUID of version 7 layout.

    Raises:
        InvalidInputError: If the key is empty or too long, or the time is out of range.
    """
    if not idempotency_key:
        raise InvalidInputError("idempotency_key must not be empty")
    return _uuid7("key", captured_at_ns, camera_id, idempotency_key)


def case_id(frame_id: str, alias: str, version: int) -> str:
    """Make the id of the case that a model version opens on a frame.

    It keeps the frame's time bits, so cases sort as their frames do.

    Args:
        frame_id: Id of the frame, as :func:`derive_frame_id` made it.
        alias: Model alias.
        version: Model version; 0 where no model saw the image.

    Returns:
        A lower-case UUID of version 7 layout; equal arguments give equal ids.

    Raises:
        InvalidInputError: If ``frame_id`` is not a frame id or ``version`` is negative.
    """
    time_ms = uuid.UUID(validate_frame_id(frame_id)).int >> 80
    return _uuid7("case", time_ms * _NS_PER_MS, frame_id, alias, str(_not_negative("version", version)))


def outcome_id(part_id: str, revision: int, began_at_ns: int) -> str:
    """Make the id of one revision of a part's answer; it sorts by when the part began.

    Args:
        part_id: The part, already validated.
        revision: From 1.
        began_at_ns: The part's first capture or trigger, nanoseconds since the epoch.

    Returns:
        A lower-case UUID of version 7 layout; equal arguments give equal ids.

    Raises:
        InvalidInputError: If a number is negative or past the layout's range.
    """
    return _uuid7("outcome", began_at_ns, part_id, str(_not_negative("revision", revision)))


def line_event_id(line_id: str, connection: str, what: str, at_ns: int) -> str:
    """Make the id of one thing that happened on a line.

    Args:
        line_id: The line, already validated.
        connection: Where it happened; may be empty.
        what: What tells it from everything else that happened there at that moment.
        at_ns: When, nanoseconds since the epoch.

    Returns:
        A lower-case UUID of version 7 layout; equal arguments give equal ids.

    Raises:
        InvalidInputError: If the time is out of range.
    """
    return _uuid7("line-event", at_ns, line_id, connection, what)


def alarm_id(line_id: str, rule: str, key: Sequence[str], part_id: str, began_at_ns: int) -> str:
    """Make the id of an alarm; it sorts by when the part that raised it began.

    Args:
        line_id: The line, already validated.
        rule: The rule's name.
        key: What the count was about, in the rule's order; texts may be empty.
        part_id: The part that raised it, already validated.
        began_at_ns: That part's first capture or trigger, nanoseconds since the epoch.

    Returns:
        A lower-case UUID of version 7 layout; equal arguments give equal ids, so a replay raises the same alarm.

    Raises:
        InvalidInputError: If the time is out of range.
    """
    return _uuid7("alarm", began_at_ns, line_id, rule, *key, part_id)


def captured_at_ms(frame_id: str) -> int:
    """Read the capture time back from a frame id.

    Args:
        frame_id: Id of a frame or a case.

    Returns:
        Milliseconds since the epoch.

    Raises:
        InvalidInputError: If it is not a frame id.
    """
    return uuid.UUID(validate_frame_id(frame_id)).int >> 80


def validate_frame_id(value: str) -> str:
    """Let a frame or case id from outside through only if it is a canonical version 7 UUID.

    Args:
        value: Text from outside.

    Returns:
        The same text.

    Raises:
        InvalidInputError: If it is anything else.
    """
    if not isinstance(value, str) or _FRAME_ID.match(value) is None:
        raise InvalidInputError(f"frame_id must be a lower-case UUID of version 7, got {_shown(value)}")
    return value


def validate_id(value: str, field: str = "id") -> str:
    """Let a name from outside (line, camera, product, part, alias) through only if it is harmless everywhere.

    Ids become Kafka keys, object keys, file names, URLs and log lines. Allowed are ASCII letters, digits, ``.``, ``_``
    and ``-``, starting with a letter or a digit, without ``..``, at most 128 characters. Use :func:`id_from_text` for
    text that may hold more than that.

    Args:
        value: Text from outside.
        field: What it names, for the error message.

    Returns:
        The same text.

    Raises:
        InvalidInputError: If a rule is broken; the message names the field and shows the value escaped.
    """
    if not isinstance(value, str) or not value:
        raise InvalidInputError(f"{field} must not be empty")
    if len(value) > MAX_ID_LENGTH:
        raise InvalidInputError(f"{field} must have at most {MAX_ID_LENGTH} characters, got {len(value)}")
    if _ID.match(value) is None or ".." in value:
        raise InvalidInputError(
            f"{field} must start with a letter or digit and hold only letters, digits, '.', '_', '-' and no '..', "
            f"got {_shown(value)}"
        )
    return value


def id_from_text(text: str, field: str = "id") -> str:
    """Turn any text (a file name, a serial number as printed) into a valid id.

    Text that is a valid id already stays as it is. Otherwise what is not allowed becomes ``_`` and eight hex digits of
    the text's digest are appended, so that two different texts do not become one part.

    Args:
        text: Text from outside, not empty.
        field: What it names, for the error message.

    Returns:
        An id that :func:`validate_id` accepts.

    Raises:
        InvalidInputError: If the text is empty.
    """
    if not text:
        raise InvalidInputError(f"{field} must not be empty")
    if len(text) <= MAX_ID_LENGTH and _ID.match(text) and ".." not in text:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    readable = re.sub(r"\.{2,}", ".", _NOT_ALLOWED.sub("_", text)).lstrip("._-")[: MAX_ID_LENGTH - 9].rstrip(".")
    return f"{readable or 'x'}-{digest}"


def _uuid7(domain: str, time_ns: int, *fields: str) -> str:
    if not 0 <= time_ns <= _MAX_TIME_NS:
        raise InvalidInputError(f"captured_at_ns must lie in 0..{_MAX_TIME_NS}, got {time_ns}")
    digest = hashlib.sha256()
    # Length before text: ("ab", "c") and ("a", "bc") must not meet. The whole time goes in, not only its milliseconds.
    for text in (domain, str(time_ns), *fields):
        data = text.encode("utf-8", "surrogatepass")
        if len(data) > MAX_SOURCE_BYTES:
            raise InvalidInputError(f"each part of an id must have at most {MAX_SOURCE_BYTES} bytes, got {len(data)}")
        digest.update(len(data).to_bytes(4, "big"))
        digest.update(data)
    bits = int.from_bytes(digest.digest()[:10], "big")
    value = (time_ns // _NS_PER_MS) << 80 | bits
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return str(uuid.UUID(int=value))


def _not_negative(name: str, value: int) -> int:
    if value < 0:
        raise InvalidInputError(f"{name} must be >= 0, got {value}")
    return value


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
