"""The registry of aliases: the log's order decides, and what counts survives compaction."""

from __future__ import annotations

import functools

import pytest

from services.adapters.codec import decode_alias_state, encode_alias_state
from services.adapters.memory import MemoryBroker, MemoryRecordWriter, MemoryTopicReader
from services.adapters.modelregistry import ModelRegistry
from services.core import alias
from services.core.errors import ConflictError, NotFoundError, UnavailableError
from services.core.topics import MODELS
from services.core.types import AliasState

WHO = {"actor": "mira", "at_ns": 17}


def add(version: int):
    return functools.partial(alias.add, version=version, **WHO)


def promote(version: int):
    return functools.partial(alias.promote, version=version, **WHO)


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


def registry_on(broker: MemoryBroker, *, writes: bool = True) -> ModelRegistry:
    writer = MemoryRecordWriter(broker) if writes else None
    return ModelRegistry(MemoryTopicReader(broker, [MODELS]), writer, timeout_s=1.0)


def test_changes_of_one_registry_are_seen_by_another(broker: MemoryBroker) -> None:
    ours, theirs = registry_on(broker), registry_on(broker, writes=False)
    ours.change("default", add(1))
    ours.change("default", promote(1))
    ours.change("weld", add(7))
    assert {state.alias for state in theirs.read_all()} == {"default", "weld"}
    assert theirs.state("default").live_version == 1
    assert theirs.state("default").revision == 2
    assert theirs.read_all() == []


def test_an_unknown_alias_is_named_with_those_that_exist(broker: MemoryBroker) -> None:
    registry = registry_on(broker)
    registry.change("weld", add(1))
    with pytest.raises(NotFoundError, match=r"there are: weld\), got 'default'"):
        registry.state("default")


def test_poll_gives_only_what_changed(broker: MemoryBroker) -> None:
    ours, theirs = registry_on(broker), registry_on(broker, writes=False)
    theirs.read_all()
    assert theirs.poll(0.0) == []
    after = ours.change("default", add(1))
    assert theirs.poll(1.0) == [after]


def test_an_illegal_change_writes_nothing(broker: MemoryBroker) -> None:
    registry = registry_on(broker)
    with pytest.raises(ConflictError, match="must have been added"):
        registry.change("default", promote(3))
    assert broker.records(MODELS) == []


def test_a_change_made_while_ours_was_thought_out_wins(broker: MemoryBroker) -> None:
    ours, theirs = registry_on(broker), registry_on(broker)

    def slow(state: AliasState) -> AliasState:
        theirs.change("default", add(2))
        return alias.add(state, 1, **WHO)

    theirs.change("default", add(9))
    with pytest.raises(ConflictError, match="must still be at revision 1 when it is changed, it is at revision 2"):
        ours.change("default", slow)
    assert len(broker.records(MODELS)) == 2


class RacingWriter(MemoryRecordWriter):
    """Lets another's record in just before ours, as a second writer on another machine may."""

    def __init__(self, broker: MemoryBroker, rival: AliasState) -> None:
        super().__init__(broker)
        self._rival: AliasState | None = rival

    def send(self, topic: str, *, key: bytes, value: bytes, headers=()):
        if self._rival is not None:
            super().send(topic, key=key, value=encode_alias_state(self._rival))
            self._rival = None
        return super().send(topic, key=key, value=value, headers=headers)


def test_of_two_records_with_one_revision_the_first_counts_and_is_the_last_on_the_log(broker: MemoryBroker) -> None:
    rival = alias.add(alias.new_alias("default"), 2, actor="rival", at_ns=1)
    ours = ModelRegistry(MemoryTopicReader(broker, [MODELS]), RacingWriter(broker, rival), timeout_s=1.0)
    with pytest.raises(ConflictError, match="at revision 1 by rival"):
        ours.change("default", add(1))
    assert ours.state("default") == rival
    late = registry_on(broker, writes=False)
    late.read_all()
    assert late.state("default") == rival
    # Compaction keeps the last record of the key: a reader that starts later must find the same truth.
    assert decode_alias_state(broker.records(MODELS)[-1].value) == rival


def test_an_undecodable_record_is_passed_over(broker: MemoryBroker) -> None:
    broker.append(MODELS, key=b"default", value=b"\xff\xff not protobuf")
    registry = registry_on(broker)
    assert registry.change("default", add(1)).revision == 1


def test_an_older_revision_that_comes_late_changes_nothing(broker: MemoryBroker) -> None:
    registry = registry_on(broker)
    first = registry.change("default", add(1))
    second = registry.change("default", promote(1))
    broker.append(MODELS, key=b"default", value=encode_alias_state(first))
    assert registry.read_all() == []
    assert registry.state("default") == second


def test_a_registry_without_a_writer_cannot_change_anything(broker: MemoryBroker) -> None:
    with pytest.raises(ConflictError, match="only a registry with a writer"):
        registry_on(broker, writes=False).change("default", add(1))


def test_a_broker_that_is_away_is_unavailable(broker: MemoryBroker) -> None:
    registry = registry_on(broker)
    broker.unavailable = True
    with pytest.raises(UnavailableError):
        registry.change("default", add(1))
