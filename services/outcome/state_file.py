"""What must survive the process, a small file each: replaced whole, so that it is always one state or the next."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from services.adapters.codec_outcome import decode_line_event, encode_line_event
from services.core.errors import InvalidInputError, ModelFormatError
from services.core.identity import validate_id
from services.core.line_event import LineEvent
from services.core.manifest import read_strictly
from services.core.plc import ErrorCode, HandshakeMemory, HandshakeState, LineAnswer, TriggeredPart
from services.core.types import Verdict
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

_PART_FIELDS: Final = dataclasses.fields(TriggeredPart)


class BytesFile:
    """A few bytes on disk. Used by one thread at a time.

    Args:
        path: The file; its folder is made.
        fsync: Wait until the disk has it: survives the loss of power too.
    """

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        self._path = path
        self._fsync = fsync
        path.parent.mkdir(parents=True, exist_ok=True)

    def load(self) -> bytes | None:
        """What was saved last; None where nothing was."""
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def save(self, data: bytes) -> None:
        """Replace it.

        Raises:
            OSError: When the disk does not take it; what was there stays.
        """
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(data)
            if self._fsync:
                file.flush()
                os.fsync(file.fileno())
        fresh.replace(self._path)


@dataclasses.dataclass(frozen=True, slots=True)
class _SavedAnswer:
    part_id: str
    verdict: str
    revision: int
    at_ns: int
    error_code: int


@dataclasses.dataclass(frozen=True, slots=True)
class _SavedPlace:
    state: str
    product: str
    lot: str
    trigger: bool
    result_ack: bool


def handshake_to_json(memory: HandshakeMemory, events: Sequence[LineEvent]) -> bytes:
    """A handshake's memory as JSON, with the events that led to it.

    They are put on record only after it is saved; whoever reads it puts them on record again, with the same ids.
    """
    part = memory.part
    # By hand: it is written on the line's way to its answer, and dataclasses.asdict takes ten times as long.
    value = {
        "state": memory.state.value,
        "product": memory.product,
        "lot": memory.lot,
        "part": None if part is None else {field.name: getattr(part, field.name) for field in _PART_FIELDS},
        "answer": None if memory.answer is None else _plain(memory.answer),
        "recent": [_plain(answer) for answer in memory.recent],
        "trigger": memory.trigger,
        "result_ack": memory.result_ack,
        "events": [base64.b64encode(encode_line_event(event)).decode() for event in events],
    }
    return json.dumps(value, separators=(",", ":")).encode()


def handshake_from_json(data: bytes | None) -> tuple[HandshakeMemory | None, tuple[LineEvent, ...]]:
    """Read what :func:`handshake_to_json` gave; nothing where it is none, which is logged: the line begins anew."""
    if data is None:
        return None, ()
    try:
        value = json.loads(data)
        if not isinstance(value, dict):
            raise ModelFormatError(f"a handshake's memory must be an object, got {type(value).__name__}")
        part = None if value.get("part") is None else read_strictly(TriggeredPart, value["part"], "part")
        said = None if value.get("answer") is None else _answer(value["answer"])
        recent = tuple(_answer(one) for one in value.get("recent", ()))
        place = {key: value.get(key) for key in ("state", "product", "lot")}
        levels = {key: value.get(key, False) for key in ("trigger", "result_ack")}
        saved = read_strictly(_SavedPlace, place | levels, "handshake")
        if part is not None:
            validate_id(part.part_id, "part_id")
        events = tuple(decode_line_event(base64.b64decode(one)) for one in value.get("events", ()))
        memory = HandshakeMemory(
            HandshakeState(saved.state),
            saved.product,
            saved.lot,
            part,
            said,
            recent,
            saved.trigger,
            saved.result_ack,
        )
    except (InvalidInputError, ValueError, TypeError, RecursionError) as error:
        LOG.error("what an earlier life of a handshake left is left out: %s", error)  # noqa: TRY400
        return None, ()
    return memory, events


def _answer(value: object) -> LineAnswer:
    saved = read_strictly(_SavedAnswer, value, "answer")
    return LineAnswer(saved.part_id, Verdict(saved.verdict), saved.revision, saved.at_ns, ErrorCode(saved.error_code))


def _plain(answer: LineAnswer) -> dict[str, str | int]:
    return {
        "part_id": answer.part_id,
        "verdict": answer.verdict.value,
        "revision": answer.revision,
        "at_ns": answer.at_ns,
        "error_code": int(answer.error_code),
    }
