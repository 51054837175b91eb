from __future__ import annotations

import json
import threading
import time

import pytest

from services.adapters.mqtt import MqttConnection
from services.adapters.mqtt_message import JsonSpeech, MqttTrigger, TriggerQueue, parse_trigger
from services.core.errors import InvalidInputError
from tests.support.told import BEGAN_AT_NS, an_event, an_outcome


def _trigger(**said: object) -> bytes:
    return json.dumps(said).encode()


def test_a_trigger_with_all_it_may_have_is_read() -> None:
    said = _trigger(trigger_id="t-1", part_id="p-1", recipe="7", lot="L", more="is passed over")
    assert parse_trigger(said) == MqttTrigger("t-1", "p-1", "7", "L")


def test_what_a_trigger_leaves_out_is_empty() -> None:
    assert parse_trigger(_trigger(trigger_id="t-1", part_id=None, lot="")) == MqttTrigger("t-1")


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "must be JSON"),
        (b"\xff\xfe", "must be JSON"),
        (b"[" * 4096, "must be JSON"),
        (b"[]", "must be a JSON object"),
        (b"7", "must be a JSON object"),
        (b"{}", "trigger_id must not be empty"),
        (_trigger(trigger_id=7), "trigger_id must not be empty"),
        (_trigger(trigger_id="../x"), "trigger_id must start with"),
        (_trigger(trigger_id="t", part_id=7), "part_id of a trigger must be text"),
        (_trigger(trigger_id="t", lot=["x"]), "lot of a trigger must be text"),
        (_trigger(trigger_id="t", recipe="a b"), "recipe must start with"),
        (_trigger(trigger_id="t", part_id="x" * 129), "part_id must have at most 128"),
        (_trigger(trigger_id="t", more="x" * 4096), "at most 4096 bytes"),
    ],
)
def test_what_is_no_trigger_is_refused_with_the_reason(payload: bytes, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        parse_trigger(payload)


def test_triggers_are_taken_once_in_the_order_in_which_they_came() -> None:
    queue = TriggerQueue()
    for number in range(3):
        queue.offer(_trigger(trigger_id=f"t-{number}"), retained=False)
    assert [trigger.trigger_id for trigger in queue.take(0)] == ["t-0", "t-1", "t-2"]
    assert queue.take(0) == []


def test_a_trigger_that_comes_twice_is_one() -> None:
    queue = TriggerQueue()
    queue.offer(_trigger(trigger_id="t"), retained=False)
    queue.take(0)
    queue.offer(_trigger(trigger_id="t"), retained=False)
    assert queue.take(0) == []
    assert queue.malformed() == []


def test_a_retained_trigger_is_refused() -> None:
    queue = TriggerQueue()
    queue.offer(_trigger(trigger_id="t"), retained=True)
    assert queue.take(0) == []
    assert queue.malformed() == ["a trigger must not be retained, got t retained"]


def test_no_more_than_64_triggers_wait_and_the_rest_is_told_of() -> None:
    queue = TriggerQueue()
    for number in range(65):
        queue.offer(_trigger(trigger_id=f"t-{number}"), retained=False)
    assert queue.malformed() == ["at most 64 triggers may wait, got t-64 as well"]
    assert len(queue.take(0)) == 64
    # It was not taken, so it may come again.
    queue.offer(_trigger(trigger_id="t-64"), retained=False)
    assert queue.take(0) == [MqttTrigger("t-64")]


def test_no_more_than_100_texts_are_kept_the_newest_ones() -> None:
    queue = TriggerQueue()
    for number in range(150):
        queue.complain(f"text {number}")
    kept = queue.malformed()
    assert (len(kept), kept[0], kept[-1]) == (100, "text 50", "text 149")
    assert queue.malformed() == []


def test_who_waits_for_a_trigger_has_it_when_it_comes() -> None:
    queue = TriggerQueue()
    threading.Timer(0.05, queue.offer, [_trigger(trigger_id="t")], {"retained": False}).start()
    began_s = time.monotonic()
    assert queue.take(30) == [MqttTrigger("t")]
    assert time.monotonic() - began_s < 20


def test_states_are_retained_and_tell_a_loss_from_a_leave() -> None:
    speech = JsonSpeech("plant/hall-2", "line-1", qos=2)
    will = speech.begin(BEGAN_AT_NS)
    (online,), (left,) = speech.birth(BEGAN_AT_NS + 1), speech.farewell(BEGAN_AT_NS + 2)
    assert {message.topic for message in (will, online, left)} == {"plant/hall-2/line-1/state"}
    assert all(message.retain and message.qos == 1 for message in (will, online, left))
    said = [json.loads(message.payload) for message in (will, online, left)]
    assert [each["state"] for each in said] == ["offline", "online", "offline"]
    assert {each["session_at_ns"] for each in said} == {BEGAN_AT_NS}
    assert ["left_at" in each for each in said] == [False, False, True]


def test_outcomes_and_events_go_to_their_own_topics_with_the_set_quality() -> None:
    speech = JsonSpeech("plant", "line-1", qos=2)
    told = [speech.tell(each, BEGAN_AT_NS) for each in (an_outcome(), an_event())]
    assert [(each.topic, each.qos, each.retain) for each in told] == [
        ("plant/line-1/outcome", 2, False),
        ("plant/line-1/event", 2, False),
    ]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"host": ""}, "host must be"),
        ({"port": 0}, "port must lie"),
        ({"qos": 0}, "qos must be 1 or 2"),
        ({"payload": "xml"}, "payload must be json or sparkplug"),
        ({"topic_prefix": "a/#"}, "topic_prefix must have"),
        ({"topic_prefix": "/a"}, "topic_prefix must have"),
        ({"topic_prefix": "$SYS"}, "topic_prefix must have"),
        ({"sparkplug_group": "a/b"}, "sparkplug_group must have"),
        ({"keepalive_s": 1}, "keepalive_s must lie"),
        ({"timeout_s": 0.0}, "timeout_s in"),
        ({"certificate_file": "x"}, "must be set together"),
    ],
)
def test_a_connection_that_cannot_be_is_refused(changes: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        MqttConnection(**{"host": "broker", **changes})  # type: ignore[arg-type]


def test_a_connection_does_not_show_its_password() -> None:
    assert "hidden" not in repr(MqttConnection("broker", username="line", password="hidden"))
