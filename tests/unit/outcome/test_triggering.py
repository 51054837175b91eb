"""Parts that are triggered by messages: what is made, how parts are named, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from services.core.errors import InvalidInputError
from services.core.line_event import LineEventKind
from services.outcome.triggering import Triggering, TriggerListener
from tests.support.detector_line import wait_until
from tests.support.outcome_line import LINE, Clock, Record

Kind = LineEventKind


@pytest.fixture
def record() -> Record:
    return Record()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def triggering(record: Record, clock: Clock) -> Triggering:
    return Triggering(LINE, ("disc", "cap"), {"7": "cap"}, "", 800, ask=record.ask, tell=record.tell, clock_ns=clock)


def test_a_trigger_without_names_makes_what_is_made_and_names_the_part(
    triggering: Triggering, record: Record, clock: Clock
) -> None:
    first, second = (triggering.trigger("grpc", "", "", "") for _ in range(2))
    assert (first.product, first.lot) == ("cap", ""), "the first product where none is named"
    assert first.part_id != second.part_id
    assert first.part_id.startswith(f"{LINE}-")
    assert first.triggered_at_ns == clock.now_ns
    assert first.deadline_at_ns - first.triggered_at_ns == 800_000_000
    assert record.kinds == [Kind.TRIGGERED, Kind.TRIGGERED]
    assert {event.connection for event in record.events} == {"grpc"}
    assert [event.part_id for event in record.events] == [first.part_id, second.part_id]


def test_recipe_and_lot_stay_until_others_are_named(triggering: Triggering, record: Record) -> None:
    triggering.trigger("grpc", "disc", "lot-7", "dmc-1")
    taken = triggering.trigger("grpc", "", "", "dmc-2")
    assert (taken.part_id, taken.product, taken.lot) == ("dmc-2", "disc", "lot-7")
    assert (triggering.trigger("grpc", "7", "", "").product, triggering.product, triggering.lot) == (
        "cap",
        "cap",
        "lot-7",
    )
    assert record.kinds == [Kind.RECIPE_CHANGED, Kind.TRIGGERED, Kind.TRIGGERED, Kind.RECIPE_CHANGED, Kind.TRIGGERED]


@pytest.mark.parametrize(
    ("recipe", "lot", "part", "said"),
    [
        ("bolt", "", "", "recipe must be one of cap, disc, got 'bolt'"),
        ("bolt" * 100_000, "", "", "recipe must be one of cap, disc, got 'bolt"),
        ("", "lot 7", "", "lot must start with a letter"),
        ("", "", "../p", "part must start with a letter"),
        ("", "", "p" * 129, "part must have at most 128 characters"),
    ],
)
def test_what_breaks_a_rule_is_refused_and_on_record(
    triggering: Triggering, record: Record, recipe: str, lot: str, part: str, said: str
) -> None:
    with pytest.raises(InvalidInputError, match=said):
        triggering.trigger("grpc", recipe, lot, part)
    (event,) = record.events
    assert event.kind is Kind.TRIGGER_REFUSED
    assert said in event.detail
    assert len(event.detail) < 500
    assert (triggering.product, triggering.lot) == ("cap", ""), "nothing of it holds"


def test_a_line_without_products_takes_no_trigger(record: Record) -> None:
    triggering = Triggering(LINE, (), {}, "", 800, ask=record.ask, tell=record.tell)
    with pytest.raises(InvalidInputError, match="recipe must be one of no product, got ''"):
        triggering.trigger("grpc", "", "", "")


def test_parts_that_are_triggered_at_once_have_different_names(triggering: Triggering) -> None:
    names: list[str] = []
    threads = [
        threading.Thread(target=lambda: names.extend(triggering.trigger("grpc", "", "", "").part_id for _ in range(50)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(set(names)) == 200


# ---- a source of messages


@dataclass(frozen=True)
class Message:
    recipe: str = ""
    lot: str = ""
    part_id: str = ""


class Source:
    """Gives what it is given."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.notes: list[str] = []
        self.fails: Exception | None = None
        self._asked = threading.Event()

    def take_triggers(self, timeout_s: float) -> Sequence[Message]:
        if self.fails is not None:
            raise self.fails
        taken, self.messages = self.messages, []
        if not taken:
            self._asked.wait(min(timeout_s, 0.01))
        return taken

    def malformed(self) -> Sequence[str]:
        taken, self.notes = self.notes, []
        return taken


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def listener(triggering: Triggering, source: Source, record: Record, clock: Clock) -> Iterator[TriggerListener]:
    listener = TriggerListener(LINE, "mes", source, triggering.trigger, tell=record.tell, clock_ns=clock)
    listener.start()
    yield listener
    listener.close()
    listener.close()


def test_messages_trigger_parts_and_a_wrong_one_does_not_end_it(
    listener: TriggerListener, source: Source, record: Record
) -> None:
    source.messages = [Message(part_id="dmc-1"), Message(recipe="bolt"), Message(lot="lot-7", part_id="dmc-2")]
    wait_until(lambda: len(record.events) == 3, "all three are on record")
    assert record.kinds == [Kind.TRIGGERED, Kind.TRIGGER_REFUSED, Kind.TRIGGERED]
    assert {event.connection for event in record.events} == {"mes"}
    listener.check()


def test_what_is_no_message_is_on_record(listener: TriggerListener, source: Source, record: Record) -> None:
    source.notes = ["a trigger must be a JSON object, got b'x'", "a trigger must be a JSON object, got b'y'"]
    wait_until(lambda: len(record.events) == 2, "both are on record")
    assert record.kinds == [Kind.MALFORMED, Kind.MALFORMED]
    assert len({event.event_id for event in record.events}) == 2
    listener.check()


def test_what_ends_the_listening_is_raised_to_whoever_checks(listener: TriggerListener, source: Source) -> None:
    source.fails = OSError("gone")
    wait_until(lambda: listener._failure is not None, "the thread ends")
    with pytest.raises(OSError, match="gone"):
        listener.check()


def test_a_part_that_comes_round_again_has_a_name_and_so_an_answer_of_its_own(
    triggering: Triggering, record: Record
) -> None:
    triggering.note("dmc-2")
    names = [triggering.trigger("mes", "", "", part).part_id for part in ("dmc-1", "dmc-1", "dmc-2")]
    assert names == ["dmc-1", "dmc-1.2", "dmc-2.2"]
    assert [part.part_id for part in record.asked] == names


def test_killed_before_it_is_told_a_triggered_part_is_announced(clock: Clock) -> None:
    class KilledError(Exception):
        pass

    def die(_events: object) -> None:
        raise KilledError

    record = Record()
    triggering = Triggering(LINE, ("disc",), {}, "", 800, ask=record.ask, tell=die, clock_ns=clock)
    with pytest.raises(KilledError):
        triggering.trigger("mes", "", "", "dmc-1")
    assert [part.part_id for part in record.asked] == ["dmc-1"]
