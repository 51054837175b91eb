"""A real MQTT broker on loopback, with or without a password, that can be killed and started again."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from amqtt.broker import Broker
from amqtt.contexts import BaseContext
from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.certificates import ServerCertificate

USERNAME = "line"
PASSWORD = "the broker's password"
_DEADLINE_S = 20.0


class OnePassword(BaseAuthPlugin):
    """Lets in whoever has the one password; the broker loads it by its name."""

    def __init__(self, context: BaseContext) -> None:
        super().__init__(context)

    async def authenticate(self, *, session: Session) -> bool:
        return session.username == USERNAME and session.password == PASSWORD

    @dataclass
    class Config:
        """Nothing to set."""


class MqttBroker:
    """The broker, in a thread with a loop of its own.

    Attributes:
        port: On loopback; kept over restarts.
    """

    def __init__(self, *, password: bool = False, certificate: ServerCertificate | None = None) -> None:
        self.port = 0
        self._certificate = certificate
        self._plugin: dict[str, dict[str, object]] = (
            {"tests.support.mqtt_broker.OnePassword": {}}
            if password
            else {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._broker: Broker | None = None
        logging.getLogger("amqtt").setLevel(logging.ERROR)
        logging.getLogger("transitions").setLevel(logging.ERROR)
        self.start()

    def start(self) -> None:
        """Serve, on the port that it had before; what was retained is gone."""
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="mqtt-broker", daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(_DEADLINE_S)

    async def _serve(self) -> None:
        listener: dict[str, object] = {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}
        if self._certificate is not None:
            listener |= {
                "ssl": True,
                "certfile": str(self._certificate.certificate),
                "keyfile": str(self._certificate.key),
            }
        self._broker = Broker({"listeners": {"default": listener}, "plugins": self._plugin})
        await self._broker.start()
        self.port = self._broker._servers["default"].instance.sockets[0].getsockname()[1]

    def kill(self) -> None:
        """Be gone, as after kill -9: connections are reset and nobody listens; idempotent."""
        loop, broker = self._loop, self._broker
        self._loop = self._broker = None
        if loop is None or broker is None:
            return
        asyncio.run_coroutine_threadsafe(_vanish(broker), loop).result(_DEADLINE_S)
        loop.call_soon_threadsafe(loop.stop)
        until(lambda: not loop.is_running())
        loop.close()

    def cut(self, client_id: str) -> None:
        """Cut a client's connection without a word, as a pulled cable does for the broker."""
        loop, broker = self._loop, self._broker
        assert loop is not None
        assert broker is not None
        loop.call_soon_threadsafe(broker._sessions[client_id][1].writer._writer.transport.abort)


async def _vanish(broker: Broker) -> None:
    # Not the broker's own shutdown, which takes leave of each client and at times waits for one for good.
    for server in broker._servers.values():
        server.instance.close()
    for _, handler in list(broker._sessions.values()):
        if handler.writer is not None:
            handler.writer._writer.transport.abort()
    me = asyncio.current_task()
    left = [task for task in asyncio.all_tasks() if task is not me]
    for task in left:
        task.cancel()
    await asyncio.wait(left, timeout=_DEADLINE_S / 4)


class Listener:
    """Somebody else at the broker, who hears what is published and may publish too."""

    def __init__(self, broker: MqttBroker, *topics: str) -> None:
        self.heard: list[MQTTMessage] = []
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=f"listener-{id(self)}")
        self._client.username_pw_set(USERNAME, PASSWORD)
        self._client.on_connect = lambda client, *_: client.subscribe([(topic, 1) for topic in topics])
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _data, message: self.heard.append(message)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        assert self._subscribed.wait(_DEADLINE_S)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish, until the broker has it."""
        self._client.publish(topic, payload, 1, retain).wait_for_publish(_DEADLINE_S)

    def on(self, topic: str) -> list[bytes]:
        """What came on a topic so far."""
        return [bytes(message.payload) for message in list(self.heard) if message.topic == topic]

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()


def until(condition: Callable[[], object], timeout_s: float = _DEADLINE_S) -> None:
    """Wait until a condition holds."""
    end_s = time.monotonic() + timeout_s
    tick = threading.Event()
    while not condition():
        assert time.monotonic() < end_s, "the condition must hold in time"
        tick.wait(0.01)
