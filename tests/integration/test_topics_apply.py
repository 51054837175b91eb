"""Topics are brought to what is wanted, on a real broker; nothing is ever taken away."""

from __future__ import annotations

import dataclasses
import uuid

import pytest

from services.adapters.kafka_topics import TopicChange, TopicSpec, TopicWork, apply_topics, describe_topics
from services.core import topics
from tests.conftest import KafkaServer

pytestmark = pytest.mark.integration

_HOUR_MS = 3_600_000


@pytest.fixture
def wanted() -> TopicSpec:
    return TopicSpec(f"apply-{uuid.uuid4().hex[:8]}", 3, 24 * _HOUR_MS, replication_factor=1, min_insync_replicas=1)


def test_a_dry_run_tells_what_it_would_do_and_does_nothing(kafka: KafkaServer, wanted: TopicSpec) -> None:
    assert apply_topics(kafka.connection, [wanted], dry_run=True) == [
        TopicChange(wanted.name, TopicWork.CREATE, "", "3 partitions")
    ]
    assert wanted.name not in describe_topics(kafka.connection)


def test_what_was_applied_once_needs_nothing_more(kafka: KafkaServer, wanted: TopicSpec) -> None:
    assert [change.work for change in apply_topics(kafka.connection, [wanted])] == [TopicWork.CREATE]
    assert apply_topics(kafka.connection, [wanted]) == []
    assert describe_topics(kafka.connection)[wanted.name] == 3


def test_a_longer_retention_is_set_on_a_topic_that_exists(kafka: KafkaServer, wanted: TopicSpec) -> None:
    apply_topics(kafka.connection, [wanted])
    longer = dataclasses.replace(wanted, retention_ms=48 * _HOUR_MS)
    told = TopicChange(wanted.name, TopicWork.CONFIGS, f"retention.ms={24 * _HOUR_MS}", f"retention.ms={48 * _HOUR_MS}")
    assert apply_topics(kafka.connection, [longer], dry_run=True) == [told]
    assert apply_topics(kafka.connection, [longer]) == [told]
    assert apply_topics(kafka.connection, [longer]) == []


def test_partitions_are_never_taken_away(kafka: KafkaServer, wanted: TopicSpec) -> None:
    apply_topics(kafka.connection, [wanted])
    (change,) = apply_topics(kafka.connection, [dataclasses.replace(wanted, partitions=2)])
    assert (change.work, change.before, change.after) == (TopicWork.MORE_PARTITIONS, "3 partitions", "2 partitions")
    assert change.by_hand
    assert describe_topics(kafka.connection)[wanted.name] == 3


def test_partitions_are_added(kafka: KafkaServer, wanted: TopicSpec, request: pytest.FixtureRequest) -> None:
    if kafka.is_standin:
        request.applymarker(pytest.mark.xfail(reason="tansu lacks CreatePartitions", strict=True))
    apply_topics(kafka.connection, [wanted])
    (change,) = apply_topics(kafka.connection, [dataclasses.replace(wanted, partitions=5)])
    assert change.work is TopicWork.PARTITIONS
    assert describe_topics(kafka.connection)[wanted.name] == 5


def test_other_numbers_of_copies_are_told_and_left_to_the_brokers_operator(
    kafka: KafkaServer, wanted: TopicSpec
) -> None:
    apply_topics(kafka.connection, [wanted])
    (change,) = apply_topics(kafka.connection, [dataclasses.replace(wanted, replication_factor=3)])
    assert (change.work, change.before, change.after) == (TopicWork.REPLICATION, "1 copies", "3 copies")
    assert change.by_hand


def test_arrivals_and_verdicts_have_the_same_partitions_for_the_outcome_service_joins_them() -> None:
    from services.adapters.kafka_topics import standard_topics

    numbers = {spec.name: spec.partitions for spec in standard_topics(partitions=24)}
    assert numbers[topics.ARRIVALS] == numbers[topics.VERDICTS] == 24
