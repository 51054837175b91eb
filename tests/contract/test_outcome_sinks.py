"""What every ``OutcomeSink`` promises, on the memory one, on files, on a real web service and on a real MQTT broker."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from services.adapters.memory import MemorySink
from services.adapters.mqtt import MqttConnection, MqttSink
from services.adapters.outcomefile import OutcomeFileSink
from services.adapters.ports import OutcomeSink
from services.adapters.webhook import WebhookConnection, WebhookSink
from services.core.errors import UnavailableError
from services.core.outcome_text import told_id, told_json
from tests.support.mqtt_broker import PASSWORD, USERNAME, Listener, MqttBroker, until
from tests.support.told import an_event, an_outcome
from tests.support.webhook_receiver import SECRET, WebhookReceiver

_TIMEOUT_S = 5.0


class Receiver(Protocol):
    """Whom a sink tells, as a test sees it."""

    sink: OutcomeSink

    def received(self) -> list[dict[str, object]]:
        """What it was told, in order."""
        ...

    def leave(self) -> None:
        """Be away from now on."""
        ...

    def come_back(self) -> None:
        """Be there again."""
        ...

    def close(self) -> None:
        """Let go of all."""
        ...


class InMemory:
    def __init__(self) -> None:
        self.sink = MemorySink()

    def received(self) -> list[dict[str, object]]:
        return [told_json(told) for told in self.sink.told]

    def leave(self) -> None:
        self.sink.unavailable = True

    def come_back(self) -> None:
        self.sink.unavailable = False

    def close(self) -> None:
        self.sink.close()


class InFiles:
    def __init__(self, folder: Path) -> None:
        self._folder = folder / "outcomes"
        self.sink = OutcomeFileSink(self._folder, "line-1")

    def received(self) -> list[dict[str, object]]:
        files = sorted(self._folder.glob("*.jsonl")) if self._folder.is_dir() else []
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def leave(self) -> None:
        # The share is gone: something else lies where the folder was.
        self.sink.close()
        if self._folder.is_dir():
            self._folder.rename(self._folder.with_name("away"))
        self._folder.touch()

    def come_back(self) -> None:
        self._folder.unlink()
        away = self._folder.with_name("away")
        if away.is_dir():
            away.rename(self._folder)

    def close(self) -> None:
        self.sink.close()


class OnTheWeb:
    def __init__(self) -> None:
        self._there = WebhookReceiver()
        self._bodies: list[bytes] = []
        self.sink = WebhookSink(WebhookConnection(self._there.url, SECRET, timeout_s=_TIMEOUT_S))

    def received(self) -> list[dict[str, object]]:
        return [json.loads(body) for body in [*self._bodies, *(each.body for each in self._there.posted)]]

    def leave(self) -> None:
        self._there.close()

    def come_back(self) -> None:
        self._bodies += [each.body for each in self._there.posted]
        self._there = WebhookReceiver(self._there.port)

    def close(self) -> None:
        self.sink.close()
        self._there.close()


class AtABroker:
    def __init__(self, *, password: bool) -> None:
        self._broker = MqttBroker(password=password)
        self._listener = Listener(self._broker, "plant/line-1/#")
        self._heard: list[dict[str, object]] = []
        self.sink = MqttSink(
            MqttConnection(
                "127.0.0.1",
                self._broker.port,
                username=USERNAME if password else "",
                password=PASSWORD if password else "",
                topic_prefix="plant",
                timeout_s=_TIMEOUT_S,
                reconnect_max_s=1,
            ),
            "line-1",
        )

    def received(self) -> list[dict[str, object]]:
        said = [json.loads(bytes(message.payload)) for message in list(self._listener.heard)]
        return self._heard + [each for each in said if each["kind"] != "state"]

    def leave(self) -> None:
        self._heard = self.received()
        self._listener.close()
        self._broker.kill()

    def come_back(self) -> None:
        self._broker.start()
        self._listener = Listener(self._broker, "plant/line-1/#")

    def close(self) -> None:
        self.sink.close()
        self._listener.close()
        self._broker.kill()


_REAL = ["webhook", "mqtt", "mqtt with a password"]


@pytest.fixture(params=["memory", "file", *(pytest.param(each, marks=pytest.mark.integration) for each in _REAL)])
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Receiver]:
    made: Receiver
    if request.param == "memory":
        made = InMemory()
    elif request.param == "file":
        made = InFiles(tmp_path)
    elif request.param == "webhook":
        made = OnTheWeb()
    else:
        made = AtABroker(password=request.param != "mqtt")
    yield made
    made.close()


def test_what_was_delivered_is_with_the_receiver_in_order(receiver: Receiver) -> None:
    told = [an_outcome("part-1"), an_event(), an_outcome("part-2")]
    for each in told:
        receiver.sink.deliver(each)
    until(lambda: len(receiver.received()) == 3)
    assert receiver.received() == [told_json(each) for each in told]


def test_the_same_one_delivered_twice_is_known_by_its_id(receiver: Receiver) -> None:
    receiver.sink.deliver(an_outcome("part-1"))
    receiver.sink.deliver(an_outcome("part-1"))
    receiver.sink.deliver(an_outcome("part-1", revision=2))
    until(lambda: any(each["revision"] == 2 for each in receiver.received()))
    ids = {str(each["outcome_id"]) for each in receiver.received()}
    assert ids == {told_id(an_outcome("part-1")), told_id(an_outcome("part-1", revision=2))}


def test_a_receiver_that_is_away_is_unavailable_within_the_deadline(receiver: Receiver) -> None:
    receiver.leave()
    began_s = time.monotonic()
    with pytest.raises(UnavailableError):
        receiver.sink.deliver(an_outcome())
    assert time.monotonic() - began_s < _TIMEOUT_S + 2
    receiver.come_back()


def test_what_could_not_be_delivered_goes_through_when_the_receiver_is_back(receiver: Receiver) -> None:
    receiver.sink.deliver(an_outcome("part-1"))
    until(lambda: len(receiver.received()) == 1)
    receiver.leave()
    with pytest.raises(UnavailableError):
        receiver.sink.deliver(an_outcome("part-2"))
    receiver.come_back()
    until(lambda: _delivers(receiver.sink, "part-2"))
    until(lambda: {"part-1", "part-2"} == {each["part_id"] for each in receiver.received()})


def test_close_may_be_called_twice_and_without_a_delivery(receiver: Receiver) -> None:
    receiver.sink.close()
    receiver.sink.close()


def test_close_may_be_called_while_the_receiver_is_away(receiver: Receiver) -> None:
    receiver.leave()
    receiver.sink.close()
    receiver.come_back()


def _delivers(sink: OutcomeSink, part_id: str) -> bool:
    try:
        sink.deliver(an_outcome(part_id))
    except UnavailableError:
        return False
    return True
