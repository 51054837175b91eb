"""An outcome service that ends, as by ``kill -9``, at a place between decision and output that it is told.

``OUTCOME_DIES_AT`` names the place, ``OUTCOME_DIES_AFTER`` how many answers it gives before.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

from services.adapters.kafka import KafkaRecordConsumer, KafkaRecordWriter
from services.adapters.modbus import ModbusImage
from services.core import topics
from services.core.line_event import LineEvent, LineEventKind
from services.core.plc import PlcOutputs
from services.outcome.__main__ import main
from services.outcome.postbox import Postbox
from services.outcome.state_file import BytesFile, handshake_from_json
from services.runtime.lifecycle import main_guard

_AT = os.environ.get("OUTCOME_DIES_AT", "")
_LEFT = [int(os.environ.get("OUTCOME_DIES_AFTER", "0"))]

#: In the order in which an answer passes them.
PLACES = (
    "before the outcome is written",
    "after the outcome is written",
    "before the answer is written down",
    "after the answer is written down",
    "after the answer is told",
    "after the answer is shown",
    "after the acknowledgement is told",
    "before the offsets are committed",
)


def _die_at(place: str) -> None:
    if place != _AT:
        return
    _LEFT[0] -= 1
    if _LEFT[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)


def _around(kind: type, name: str, meets: Callable[..., bool], before: str = "", after: str = "") -> None:
    inner = getattr(kind, name)

    def wrapped(self: Any, *given: Any, **named: Any) -> Any:
        met = meets(*given)
        if met and before:
            _die_at(before)
        result = inner(self, *given, **named)
        if met and after:
            _die_at(after)
        return result

    setattr(kind, name, wrapped)


def _is_outcome(topic: str) -> bool:
    return topic == topics.OUTCOMES


def _holds(kind: LineEventKind, events: Sequence[LineEvent]) -> bool:
    return any(event.kind is kind for event in events)


def _is_answer(data: bytes) -> bool:
    return _holds(LineEventKind.ANSWERED, handshake_from_json(data)[1]) if b'"events"' in data else False


def _answers(events: Sequence[LineEvent]) -> bool:
    return _holds(LineEventKind.ANSWERED, events)


def _acknowledges(events: Sequence[LineEvent]) -> bool:
    return _holds(LineEventKind.ACKNOWLEDGED, events)


def _is_result(outputs: PlcOutputs) -> bool:
    return outputs.result_ready


if __name__ == "__main__":
    _around(KafkaRecordWriter, "send", _is_outcome, PLACES[0], PLACES[1])
    _around(BytesFile, "save", _is_answer, PLACES[2], PLACES[3])
    _around(Postbox, "tell", _answers, after=PLACES[4])
    _around(ModbusImage, "write", _is_result, after=PLACES[5])
    _around(Postbox, "tell", _acknowledges, after=PLACES[6])
    _around(KafkaRecordConsumer, "commit", bool, PLACES[7])
    main_guard(main)
