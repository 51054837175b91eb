"""A replica with a name of its own that is restarted takes up its partitions, and the others keep theirs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from services.adapters.kafka import KafkaRecordConsumer
from services.adapters.ports import TopicPartition
from tests.conftest import KafkaServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


class Watched:
    """What a member was told."""

    def __init__(self) -> None:
        self.revoked: list[TopicPartition] = []

    def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.revoked += partitions

    def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        pass


def member(kafka: KafkaServer, topic: str, group: str, name: str) -> tuple[KafkaRecordConsumer, Watched]:
    connection = replace(kafka.connection, instance_id=name, session_timeout_ms=20_000)
    consumer, watched = KafkaRecordConsumer(connection, group), Watched()
    consumer.subscribe([topic], watched)
    return consumer, watched


def poll_until(condition: Callable[[], bool], *members: KafkaRecordConsumer) -> None:
    end_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end_s, "it must come about within 60 s"
        for each in members:
            each.poll(max_records=10, timeout_s=0.1)


def test_a_member_that_comes_back_under_its_name_has_its_partitions_and_nobody_else_gives_any_up(
    kafka: KafkaServer, unique: Callable[[str], str]
) -> None:
    topic, group = kafka.topic(partitions=4), unique("group")
    first, _ = member(kafka, topic, group, "detector-0")
    other, watched = member(kafka, topic, group, "detector-1")
    poll_until(lambda: len(first.assignment()) == len(other.assignment()) == 2, first, other)
    mine, theirs = first.assignment(), other.assignment()
    watched.revoked.clear()
    # A member with a name does not leave when it closes; to the broker this is what a kill looks like.
    first.close()
    again, _ = member(kafka, topic, group, "detector-0")
    poll_until(lambda: bool(again.assignment()), again, other)
    assert again.assignment() == mine
    assert (other.assignment(), watched.revoked) == (theirs, [])
    again.close()
    other.close()
