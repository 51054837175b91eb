"""What a line says over MQTT, in JSON or in Sparkplug B, and the triggers that it is sent; no sockets here."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final, Protocol

from services.adapters.sparkplug import (
    BD_SEQ,
    DataType,
    Metric,
    MetricValue,
    Payload,
    encode_payload,
    next_number,
    node_metrics,
)
from services.core.errors import InvalidInputError
from services.core.identity import validate_id
from services.core.line_event import LineEvent, LineEventKind
from services.core.outcome import Outcome
from services.core.outcome_text import SCHEMA, iso_utc, json_bytes, told_bytes

#: Largest trigger, in bytes.
MAX_TRIGGER_BYTES: Final = 4096
#: Most triggers that wait to be taken.
MAX_TRIGGERS: Final = 64
#: Most texts about what was malformed that are kept until they are taken.
MAX_MALFORMED: Final = 100

_NS_PER_MS: Final = 1_000_000
_REMEMBERED: Final = 256


@dataclass(frozen=True, slots=True)
class MqttMessage:
    """One message to the broker."""

    topic: str
    payload: bytes
    qos: int
    retain: bool = False


class Speech(Protocol):
    """How a line speaks over MQTT. Not thread-safe: what it gives must be sent in the order in which it was given."""

    @property
    def command_topic(self) -> str:
        """Where it can be asked to introduce itself again; empty where it cannot."""
        ...

    def begin(self, at_ns: int) -> MqttMessage:
        """Begin a session.

        Args:
            at_ns: The present, nanoseconds since the epoch.

        Returns:
            The last will: what the broker says when the session is lost.
        """
        ...

    def birth(self, at_ns: int) -> list[MqttMessage]:
        """What is said once the broker is there, and when it is asked for again."""
        ...

    def tell(self, told: Outcome | LineEvent, at_ns: int) -> MqttMessage | None:
        """An outcome or an event; None for one that this way of speaking has no words for."""
        ...

    def farewell(self, at_ns: int) -> list[MqttMessage]:
        """What is said before leaving on purpose."""
        ...


class JsonSpeech:
    """Outcomes and events as JSON, and whether the line is there as a retained message."""

    def __init__(self, prefix: str, line_id: str, qos: int) -> None:
        self._root = f"{prefix}/{line_id}"
        self._line_id = line_id
        self._qos = qos
        self._session_at_ns = 0

    @property
    def command_topic(self) -> str:
        """Empty: what is retained need not be asked for."""
        return ""

    def begin(self, at_ns: int) -> MqttMessage:
        """Begin a session; the broker's word for its loss can only say when it began."""
        self._session_at_ns = at_ns
        return self._state("offline")

    def birth(self, at_ns: int) -> list[MqttMessage]:
        """The line is there."""
        del at_ns
        return [self._state("online")]

    def tell(self, told: Outcome | LineEvent, at_ns: int) -> MqttMessage:
        """One of them, on its own topic."""
        del at_ns
        kind = "outcome" if isinstance(told, Outcome) else "event"
        return MqttMessage(f"{self._root}/{kind}", told_bytes(told), self._qos)

    def farewell(self, at_ns: int) -> list[MqttMessage]:
        """The line has left, and when."""
        return [self._state("offline", at_ns)]

    def _state(self, state: str, left_at_ns: int = 0) -> MqttMessage:
        said: dict[str, object] = {
            "schema": SCHEMA,
            "kind": "state",
            "line_id": self._line_id,
            "state": state,
            "session_at_ns": self._session_at_ns,
            "session_at": iso_utc(self._session_at_ns),
        }
        if left_at_ns:
            said |= {"left_at_ns": left_at_ns, "left_at": iso_utc(left_at_ns)}
        return MqttMessage(f"{self._root}/state", json_bytes(said), 1, retain=True)


_DEVICE: Final = {
    "Part": DataType.STRING,
    "Product": DataType.STRING,
    "Lot": DataType.STRING,
    "Verdict": DataType.STRING,
    "InTime": DataType.BOOLEAN,
    "Revision": DataType.INT32,
    "Light": DataType.STRING,
    "DecidedAt": DataType.DATE_TIME,
}


class SparkplugSpeech:
    """The line as a device of an edge node of its own. Of events, only the stack light's have a metric."""

    def __init__(self, group: str, edge_node: str, line_id: str) -> None:
        self._group = group
        self._edge_node = edge_node
        self._line_id = line_id
        self._bd_seq = -1
        self._seq = 0
        self._values: dict[str, tuple[MetricValue, int]] = dict.fromkeys(_DEVICE, (None, 0))

    @property
    def command_topic(self) -> str:
        """Where a host application asks for the births again."""
        return self._topic("NCMD")

    def begin(self, at_ns: int) -> MqttMessage:
        """Begin a session, with the next ``bdSeq``; the will is the node's death."""
        self._bd_seq = next_number(self._bd_seq)
        return self._death(at_ns)

    def birth(self, at_ns: int) -> list[MqttMessage]:
        """The births of the node and of the line; ``seq`` begins anew."""
        at_ms = at_ns // _NS_PER_MS
        # So that the node's birth has 0.
        self._seq = -1
        return [
            self._numbered("NBIRTH", "", tuple(node_metrics(self._bd_seq, at_ms)), at_ms),
            self._numbered("DBIRTH", self._line_id, self._metrics(_DEVICE, at_ms), at_ms),
        ]

    def tell(self, told: Outcome | LineEvent, at_ns: int) -> MqttMessage | None:
        """An outcome, or a change of the stack light, as the line's data."""
        if isinstance(told, Outcome):
            said, happened_ns = _of_outcome(told), told.decided_at_ns
        elif told.kind is LineEventKind.LIGHT_CHANGED and told.light is not None:
            said, happened_ns = {"Light": told.light.value}, told.at_ns
        else:
            return None
        for name, value in said.items():
            self._values[name] = (value, happened_ns // _NS_PER_MS)
        at_ms = at_ns // _NS_PER_MS
        return self._numbered("DDATA", self._line_id, self._metrics(said, at_ms), at_ms)

    def farewell(self, at_ns: int) -> list[MqttMessage]:
        """The node's death: over MQTT 3.1.1 a node that leaves says so itself, since the will is then not sent."""
        return [self._death(at_ns)]

    def _death(self, at_ns: int) -> MqttMessage:
        at_ms = at_ns // _NS_PER_MS
        payload = Payload(at_ms, (Metric(BD_SEQ, DataType.INT64, self._bd_seq, at_ms),))
        return MqttMessage(self._topic("NDEATH"), encode_payload(payload), 1)

    def _numbered(self, kind: str, device: str, metrics: tuple[Metric, ...], at_ms: int) -> MqttMessage:
        self._seq = next_number(self._seq)
        payload = Payload(at_ms, metrics, self._seq)
        # The specification allows no other quality of service for these.
        return MqttMessage(self._topic(kind, device), encode_payload(payload), 0)

    def _metrics(self, names: dict[str, DataType] | dict[str, MetricValue], at_ms: int) -> tuple[Metric, ...]:
        known = {name: self._values[name] for name in names}
        return tuple(Metric(name, _DEVICE[name], value, since or at_ms) for name, (value, since) in known.items())

    def _topic(self, kind: str, device: str = "") -> str:
        topic = f"spBv1.0/{self._group}/{kind}/{self._edge_node}"
        return f"{topic}/{device}" if device else topic


def _of_outcome(outcome: Outcome) -> dict[str, MetricValue]:
    return {
        "Part": outcome.part_id,
        "Product": outcome.product,
        "Lot": outcome.lot,
        "Verdict": outcome.verdict.value,
        "InTime": outcome.in_time,
        "Revision": outcome.revision,
        "DecidedAt": outcome.decided_at_ns // _NS_PER_MS,
    }


# ---- triggers


@dataclass(frozen=True, slots=True)
class MqttTrigger:
    """Word that a part is before the cameras, from whoever may publish it."""

    trigger_id: str
    part_id: str = ""
    """Empty lets the line name the part."""
    recipe: str = ""
    """A product, or what settings name as one; empty keeps the one that is made."""
    lot: str = ""


def parse_trigger(payload: bytes) -> MqttTrigger:
    """Read a trigger.

    Args:
        payload: A JSON object with ``trigger_id`` and, where they are known, ``part_id``, ``recipe`` and ``lot``.

    Raises:
        InvalidInputError: If it is too large, no such object, or one of its ids breaks the rule for ids.
    """
    if len(payload) > MAX_TRIGGER_BYTES:
        raise InvalidInputError(f"a trigger must have at most {MAX_TRIGGER_BYTES} bytes, got {len(payload)}")
    try:
        said = json.loads(payload)
    except (ValueError, RecursionError):
        raise InvalidInputError(f"a trigger must be JSON, got {payload[:80]!r}") from None
    if not isinstance(said, dict):
        raise InvalidInputError(f"a trigger must be a JSON object, got {payload[:80]!r}")
    return MqttTrigger(
        trigger_id=validate_id(said.get("trigger_id", ""), "trigger_id"),
        part_id=_id_or_nothing(said, "part_id"),
        recipe=_id_or_nothing(said, "recipe"),
        lot=_id_or_nothing(said, "lot"),
    )


def _id_or_nothing(said: dict[str, object], name: str) -> str:
    value = said.get(name)
    if value is None or value == "":
        return ""
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} of a trigger must be text, got {str(value)[:80]!a}")
    return validate_id(value, name)


class TriggerQueue:
    """Triggers that wait to be taken, and texts about what was none. Bounded; thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[MqttTrigger] = deque()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._malformed: deque[str] = deque(maxlen=MAX_MALFORMED)

    def offer(self, payload: bytes, *, retained: bool) -> None:
        """Take what came on the trigger's topic.

        Args:
            payload: As it came.
            retained: Whether the broker had kept it; such a trigger is of a part that has long passed.
        """
        try:
            self._queue(parse_trigger(payload), retained=retained)
        except InvalidInputError as error:
            self.complain(str(error))

    def _queue(self, trigger: MqttTrigger, *, retained: bool) -> None:
        if retained:
            raise InvalidInputError(f"a trigger must not be retained, got {trigger.trigger_id} retained")
        with self._changed:
            # At least once may be twice; one part is not to be triggered as two.
            if trigger.trigger_id in self._seen:
                return
            if len(self._waiting) >= MAX_TRIGGERS:
                raise InvalidInputError(f"at most {MAX_TRIGGERS} triggers may wait, got {trigger.trigger_id} as well")
            self._seen[trigger.trigger_id] = None
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
            self._waiting.append(trigger)
            self._changed.notify_all()

    def complain(self, text: str) -> None:
        """Keep a text about something that was refused; the oldest goes where there are too many."""
        with self._changed:
            self._malformed.append(text)

    def take(self, timeout_s: float) -> list[MqttTrigger]:
        """All that wait, in the order in which they came; empty where none came within ``timeout_s``."""
        end_s = time.monotonic() + timeout_s
        with self._changed:
            while not self._waiting and (left_s := end_s - time.monotonic()) > 0:
                self._changed.wait(left_s)
            taken = list(self._waiting)
            self._waiting.clear()
            return taken

    def malformed(self) -> list[str]:
        """Texts about what was refused since the last call, the oldest first."""
        with self._changed:
            taken = list(self._malformed)
            self._malformed.clear()
            return taken
