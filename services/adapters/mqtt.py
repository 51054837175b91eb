"""Tells an MQTT broker of outcomes and events, and takes triggers from it."""

from __future__ import annotations

import logging
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from services.adapters.mqtt_message import (
    JsonSpeech,
    MqttMessage,
    MqttTrigger,
    SparkplugSpeech,
    Speech,
    TriggerQueue,
)
from services.adapters.sparkplug import asks_for_rebirth, decode_payload
from services.core.errors import InvalidInputError, UnavailableError
from services.core.identity import validate_id
from services.core.line_event import LineEvent
from services.core.outcome import Outcome

LOG = logging.getLogger(__name__)

_MAX_TOPIC_CHARACTERS: Final = 200
_RESERVED: Final = frozenset("+#\x00")
_FIRST_DELAY_S: Final = 1
# CONNACK's return codes of MQTT 3.1.1 as paho names them.
_CREDENTIALS: Final = frozenset({"Bad user name or password", "Not authorized"})
# paho looks ten times within the time that it is given for an acknowledgement, and may be one such step late.
_WAIT_SHARE: Final = 0.9

MqttPayload = Literal["json", "sparkplug"]


@dataclass(frozen=True, slots=True)
class MqttConnection:
    """How to reach a broker, and how to speak there."""

    host: str
    port: int = 1883
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    ca_file: Path | None = None
    """Authorities that the broker's certificate may be from; None takes the machine's own."""
    certificate_file: Path | None = None
    """This side's own certificate, where the broker wants one."""
    key_file: Path | None = None
    client_id: str = ""
    """Empty makes one of the line's id. No two clients of a broker may have the same one."""
    topic_prefix: str = "sightline"
    qos: int = 1
    """1, or 2 for a broker that must take each message once only."""
    keepalive_s: int = 30
    timeout_s: float = 5.0
    reconnect_max_s: int = 30
    """Longest time between two tries to connect; the first is a second, then it doubles."""
    payload: MqttPayload = "json"
    sparkplug_group: str = "Sightline"
    sparkplug_edge_node: str = ""
    """Empty makes one of the line's id. No two of a group may have the same one."""

    def __post_init__(self) -> None:
        if not self.host or len(self.host) > 253 or not self.host.isascii() or " " in self.host:
            raise InvalidInputError(f"host must be a name or an address, got {self.host[:80]!a}")
        if not 0 < self.port < 65_536:
            raise InvalidInputError(f"port must lie in 1..65535, got {self.port}")
        if self.qos not in {1, 2}:
            raise InvalidInputError(f"qos must be 1 or 2, which are acknowledged, got {self.qos}")
        if self.payload not in {"json", "sparkplug"}:
            raise InvalidInputError(f"payload must be json or sparkplug, got {self.payload[:80]!a}")
        if not 5 <= self.keepalive_s <= 3_600 or not 1 <= self.reconnect_max_s <= 3_600 or not 0 < self.timeout_s <= 60:
            raise InvalidInputError(
                "keepalive_s must lie in 5..3600, reconnect_max_s in 1..3600 and timeout_s in (0, 60], "
                f"got {self.keepalive_s}, {self.reconnect_max_s} and {self.timeout_s}"
            )
        if bool(self.certificate_file) != bool(self.key_file):
            raise InvalidInputError("certificate_file and key_file must be set together, got one of them")
        _check_topic("topic_prefix", self.topic_prefix, also="$")
        for name in ("sparkplug_group", "sparkplug_edge_node"):
            _check_topic(name, getattr(self, name) or "x", also="/")


class MqttSink:
    """An ``OutcomeSink`` on MQTT 3.1.1, which also takes triggers. Connects by itself, again and again.

    Under ``<prefix>/<line>`` lie ``outcome`` and ``event``, retained ``state``, and ``trigger``, which it listens to.
    With the payload ``sparkplug`` outcomes and the stack light are the metrics of a Sparkplug B device in place of the
    first three; what else happens on the line has no metric and is taken without being sent.

    Triggers that are sent while the broker is away are lost: when it is back their parts have passed.
    """

    def __init__(self, connection: MqttConnection, line_id: str, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        """Begin to connect; returns at once.

        Args:
            connection: Where the broker is.
            line_id: Whose outcomes they are.
            clock_ns: The present, nanoseconds since the epoch.

        Raises:
            InvalidInputError: If the line's id is none, or a file of certificates cannot be read.
        """
        self._connection = connection
        self._clock_ns = clock_ns
        self._root = f"{connection.topic_prefix}/{validate_id(line_id, 'line_id')}"
        self._speech = _speech(connection, line_id)
        self._triggers = TriggerQueue()
        self._changed = threading.Condition()
        # All of these are only touched with the condition held.
        self._up = False
        self._closed = False
        self._why = "no answer yet"
        self._session = 0
        self._greeting_mid: int | None = None
        self._confirmed: set[int] = set()
        self._client = self._made_client(line_id)
        self._client.connect_async(connection.host, connection.port, connection.keepalive_s)
        self._client.loop_start()

    @property
    def address(self) -> str:
        """Where it speaks, for people."""
        scheme = "mqtts" if self._connection.tls else "mqtt"
        where = self._root if self._connection.payload == "json" else self._connection.sparkplug_group
        return f"{scheme}://{self._connection.host}:{self._connection.port}/{where}"

    @property
    def up(self) -> bool:
        """Whether the broker is there and has taken the subscription to triggers."""
        with self._changed:
            return self._up

    def deliver(self, told: Outcome | LineEvent) -> None:
        """Publish one of them; returns once the broker has acknowledged it.

        Raises:
            UnavailableError: When the broker is away, refuses the connection or does not acknowledge in time.
        """
        end_s = time.monotonic() + self._connection.timeout_s
        with self._changed:
            if not self._changed.wait_for(lambda: self._up or self._closed, self._connection.timeout_s) or not self._up:
                raise self._away()
            session = self._session
            message = self._speech.tell(told, self._clock_ns())
            if message is None:
                return
            info = self._publish(message)
            mid = self._ask_for_confirmation() if message.qos == 0 else None
        if mid is None:
            self._await_acknowledgement(info, end_s)
        else:
            self._await_confirmation(mid, session, end_s)

    def take_triggers(self, timeout_s: float) -> list[MqttTrigger]:
        """Triggers that came and were not taken yet, each id once; empty where none came within ``timeout_s``."""
        return self._triggers.take(timeout_s)

    def malformed(self) -> Sequence[str]:
        """What came since the last call that is no trigger or command, each in words for people."""
        return self._triggers.malformed()

    def close(self) -> None:
        """Say goodbye, as far as the broker listens, and let go; idempotent."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
            infos = [self._publish(each) for each in self._speech.farewell(self._clock_ns())] if self._up else []
        end_s = time.monotonic() + self._connection.timeout_s
        for info in infos:
            try:
                self._await_acknowledgement(info, end_s)
            except UnavailableError as error:
                LOG.warning("left without a goodbye: %s", error)
        self._client.disconnect()
        self._client.loop_stop()

    # ---- sending

    def _publish(self, message: MqttMessage) -> MQTTMessageInfo:
        return self._client.publish(message.topic, message.payload, message.qos, message.retain)

    def _await_acknowledgement(self, info: MQTTMessageInfo, end_s: float) -> None:
        try:
            info.wait_for_publish(max(0.001, (end_s - time.monotonic()) * _WAIT_SHARE))
            if info.is_published():
                return
        except (RuntimeError, ValueError) as error:
            LOG.debug("a message could not be sent: %s", error)
        # The caller brings it again; what paho keeps would come on top of that, and there would be ever more of it.
        self._client.drop_out_messages()
        with self._changed:
            raise self._away()

    def _ask_for_confirmation(self) -> int | None:
        # Sparkplug forbids acknowledged data. A broker reads a connection in order, so its answer to the subscription,
        # renewed after the data, tells that it has had the data; renewing changes nothing (MQTT 3.1.1, 3.8.4).
        return self._client.subscribe(self._speech.command_topic, 1)[1]

    def _await_confirmation(self, mid: int, session: int, end_s: float) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: mid in self._confirmed or self._session != session, max(0.0, end_s - time.monotonic())
            )
            if mid not in self._confirmed or self._session != session:
                raise self._away()
            self._confirmed.discard(mid)

    def _away(self) -> UnavailableError:
        why = self._why if not self._up else "no acknowledgement"
        return UnavailableError(
            f"the MQTT broker at {self._connection.host}:{self._connection.port} must take a message within "
            f"{self._connection.timeout_s} s, got {why if not self._closed else 'a connection that was closed'}"
        )

    # ---- the connection, on paho's thread

    def _made_client(self, line_id: str) -> Client:
        connection = self._connection
        suffix = "" if connection.payload == "json" else "-sparkplug"
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=connection.client_id or f"sightline-{line_id}{suffix}",
            clean_session=True,
            protocol=MQTTProtocolVersion.MQTTv311,
        )
        if connection.username:
            client.username_pw_set(connection.username, connection.password)
        if connection.tls:
            client.tls_set_context(_tls(connection))
        client.connect_timeout = connection.timeout_s
        client.reconnect_delay_set(_FIRST_DELAY_S, connection.reconnect_max_s)
        # Bounded by the caller, who has one message under way; paho does not give a dropped one's place back.
        client.max_inflight_messages_set(0)
        client.on_socket_open = _send_at_once
        client.on_pre_connect = self._on_pre_connect
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _on_pre_connect(self, client: Client, userdata: Any) -> None:
        del userdata
        with self._changed:
            will = self._speech.begin(self._clock_ns())
        client.will_set(will.topic, will.payload, will.qos, will.retain)

    def _on_connect(
        self, client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        del userdata, flags, properties
        if reason.is_failure:
            refused = (
                f"{reason}: user name and password are not the broker's" if str(reason) in _CREDENTIALS else reason
            )
            with self._changed:
                self._say_why(f"a refusal ({refused})")
            return
        topics = [(f"{self._root}/trigger", 1)]
        if self._speech.command_topic:
            topics.insert(0, (self._speech.command_topic, 1))
        with self._changed:
            self._session += 1
            self._confirmed.clear()
            # Commands are listened for before the birth that tells of them.
            result, self._greeting_mid = client.subscribe(topics)
            if result == MQTTErrorCode.MQTT_ERR_SUCCESS:
                for message in self._speech.birth(self._clock_ns()):
                    self._publish(message)

    def _on_connect_fail(self, client: Client, userdata: Any) -> None:
        del client, userdata
        # paho calls this while it handles what went wrong, and does not say what that is.
        error = sys.exception()
        with self._changed:
            self._say_why(f"no connection ({type(error).__name__}: {str(error)[:200]})")

    def _on_disconnect(
        self, client: Client, userdata: Any, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        del client, userdata, flags, properties
        with self._changed:
            # A refused connection is closed as well; why it was refused says more.
            if self._up and not self._closed:
                self._say_why(f"a lost connection ({reason})")
            self._up = False
            self._session += 1
            self._changed.notify_all()

    def _say_why(self, why: str) -> None:
        if why != self._why:
            LOG.warning("MQTT broker at %s:%d: %s", self._connection.host, self._connection.port, why)
        self._why = why

    def _on_subscribe(
        self, client: Client, userdata: Any, mid: int, reasons: list[ReasonCode], properties: Properties | None
    ) -> None:
        del client, userdata, properties
        refused = any(reason.is_failure for reason in reasons)
        with self._changed:
            if mid == self._greeting_mid:
                self._greeting_mid = None
                self._up = True
                if refused:
                    self._triggers.complain(f"the broker must let us read {self._root}/trigger, got a refusal")
            else:
                self._confirmed.add(mid)
            self._changed.notify_all()

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        del client, userdata
        if message.topic != self._speech.command_topic:
            self._triggers.offer(bytes(message.payload), retained=message.retain)
            return
        # A kept command comes again with each subscription, and the births that it asks for have just been sent.
        if message.retain:
            return
        try:
            asked = asks_for_rebirth(decode_payload(bytes(message.payload)))
        except InvalidInputError as error:
            self._triggers.complain(str(error))
            return
        with self._changed:
            for birth in self._speech.birth(self._clock_ns()) if asked else []:
                self._publish(birth)


def _send_at_once(client: Client, userdata: Any, opened: Any) -> None:
    del client, userdata
    # A subscription must not wait for the acknowledgement of the data before it: 40 ms on Linux.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _speech(connection: MqttConnection, line_id: str) -> Speech:
    if connection.payload == "json":
        return JsonSpeech(connection.topic_prefix, line_id, connection.qos)
    edge_node = connection.sparkplug_edge_node or f"sightline-{line_id}"
    return SparkplugSpeech(connection.sparkplug_group, edge_node, line_id)


def _tls(connection: MqttConnection) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=connection.ca_file)
        if connection.certificate_file is not None and connection.key_file is not None:
            # Asked for nothing: a key with a pass phrase would wait for somebody at a terminal.
            context.load_cert_chain(connection.certificate_file, connection.key_file, password=_no_pass_phrase)
    except OSError as error:
        raise InvalidInputError(f"the MQTT broker's TLS files must be PEM that can be read, got {error}") from error
    return context


def _no_pass_phrase() -> str:
    return ""


def _check_topic(name: str, value: str, *, also: str) -> None:
    reserved = _RESERVED | set(also)
    if not value or len(value) > _MAX_TOPIC_CHARACTERS or reserved & set(value) or value != value.strip("/ "):
        raise InvalidInputError(
            f"{name} must have 1 to {_MAX_TOPIC_CHARACTERS} characters and none of "
            f"{' '.join(sorted(reserved - {chr(0)}))}, got {value[:80]!a}"
        )
