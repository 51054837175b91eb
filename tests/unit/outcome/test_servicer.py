"""``OutcomeService`` at a real port: how lines are, what they are told, and what people do about it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sightline.v1 import outcome_service_pb2_grpc

from services.adapters.outcomeclient import OutcomeClient, OutcomeStream
from services.core.errors import BusyError, InvalidInputError, NotFoundError, PreconditionError
from services.core.line_event import Light, LineEventKind
from services.core.outcome import Outcome
from services.core.reference_check import ReferencePhase
from services.core.types import Verdict
from services.outcome import servicer as module
from services.outcome.servicer import OutcomeServicer
from services.runtime.grpc_server import GrpcServer
from services.runtime.lifecycle import Health
from services.runtime.settings import GrpcSettings
from tests.support.detector_line import wait_until
from tests.support.outcome_line import LINE, BuiltLines
from tests.support.outcomes import outcome, outcomes

Kind = LineEventKind


class Served:
    """Two lines behind the service."""

    def __init__(self, folder: Path) -> None:
        self.built = BuiltLines(folder)
        self.lines = self.built.build()
        self._server = GrpcServer(GrpcSettings(port=0), Health())
        servicer = OutcomeServicer(self.lines)
        self._server.add(outcome_service_pb2_grpc.add_OutcomeServiceServicer_to_server, servicer, "Outcome")
        self._server.start()
        self.client = OutcomeClient(f"127.0.0.1:{self._server.port}")

    def watchers(self, line_id: str = LINE) -> int:
        return len(self.lines[line_id]._watchers)

    def watch(self, line_id: str = LINE) -> Watching:
        before = self.watchers()
        watching = Watching(self.client.watch_outcomes(line_id, timeout_s=60))
        wait_until(lambda: self.watchers() > before or watching.error is not None, "it is watched")
        return watching

    def stop(self) -> None:
        self.client.close()
        self._server.stop(1.0)
        self.built.stop()


class Watching:
    """Takes what a stream brings."""

    def __init__(self, stream: OutcomeStream) -> None:
        self._stream = stream
        self.seen: queue.Queue[Outcome] = queue.Queue()
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for one in self._stream:
                self.seen.put(one)
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.error = error

    def leave(self) -> None:
        self._stream.cancel()
        self._thread.join(10)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.stop()


def test_every_line_is_told_of_by_its_id(served: Served) -> None:
    for line in served.lines.values():
        line.look()
    first, second = served.client.lines()
    assert (first.line_id, second.line_id) == (LINE, "line-2")
    assert [one.name for one in first.connections] == ["plc", "belt", "mes", "day"]
    assert (first.light, first.reference.phase) == (Light.AMBER, ReferencePhase.DUE)
    assert (second.light, second.connections, second.reference.phase) == (Light.GREEN, (), None)


# ---- watching


def test_outcomes_of_a_line_are_told_as_they_come(served: Served) -> None:
    watching = served.watch()
    said = outcomes("PFR")
    served.lines[LINE].take(said)
    served.lines["line-2"].take([outcome(number=9, line_id="line-2")])
    served.lines[LINE].take([outcome(Verdict.FAIL, 4, revision=2)])
    assert [watching.seen.get(timeout=10) for _ in range(3)] == said
    assert watching.seen.get(timeout=10).revision == 2
    watching.leave()
    wait_until(lambda: served.watchers() == 0, "who left is told no more")


def test_without_a_line_those_of_all_are_told(served: Served) -> None:
    watching = served.watch("")
    served.lines["line-2"].take([outcome(number=9, line_id="line-2")])
    served.lines[LINE].take([outcome()])
    assert {watching.seen.get(timeout=10).line_id for _ in range(2)} == {LINE, "line-2"}
    watching.leave()


def test_a_caller_that_does_not_keep_up_is_told_so_and_let_go(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_BEHIND", 3)
    slow, quick = served.watch(), served.watch()
    line = served.lines[LINE]
    # All at once: nobody can have taken one in between.
    line.take(outcomes("P" * 500))
    wait_until(lambda: isinstance(slow.error, BusyError), "it is told")
    wait_until(lambda: isinstance(quick.error, BusyError), "so is the other")
    assert "at most 3 outcomes behind" in str(slow.error)
    wait_until(lambda: served.watchers() == 0, "it is let go")


def test_where_one_line_is_watched_by_as_many_as_may_no_other_keeps_the_caller(served: Served) -> None:
    full = served.lines["line-2"]
    leaving = [full.watch(lambda _one: None) for _ in range(64)]
    watching = Watching(served.client.watch_outcomes("", timeout_s=60))
    wait_until(lambda: isinstance(watching.error, BusyError), "it is told")
    assert served.watchers() == 0
    for leave in leaving:
        leave()


def test_a_line_that_nobody_here_speaks_for_is_refused(served: Served) -> None:
    with pytest.raises(NotFoundError, match=r"one that this service speaks for \(line-1, line-2\), got line-3"):
        list(served.client.watch_outcomes("line-3", timeout_s=10))
    for call in (
        lambda: served.client.trigger_part("line-3"),
        lambda: served.client.acknowledge_alarm("line-3", "018bcfe5-6800-7000-8000-000000000001", "Ada"),
        lambda: served.client.begin_reference_check("line-3", "Ada"),
    ):
        with pytest.raises(NotFoundError, match="speaks for"):
            call()
    with pytest.raises(InvalidInputError, match="line_id must not be empty"):
        served.client.trigger_part("")


# ---- triggers


def test_a_part_is_triggered_and_its_outcome_follows(served: Served) -> None:
    served.lines[LINE].start()
    watching = served.watch()
    taken = served.client.trigger_part(LINE, part_id="dmc-1", recipe="7", lot="lot-7")
    (said,) = served.built.record.arrivals
    assert (taken.part_id, said.product, said.lot) == ("dmc-1", "cap", "lot-7")
    assert taken.deadline_at_ns == said.arrived_at_ns + 60_000_000_000
    wait_until(lambda: served.built.cameras.asked == ["dmc-1"], "cameras are asked")
    served.lines[LINE].take([outcome(part_id="dmc-1")])
    assert watching.seen.get(timeout=10).part_id == "dmc-1"
    watching.leave()
    assert [event.connection for event in served.built.record.of(Kind.TRIGGERED)] == ["grpc"]


def test_a_part_without_a_name_gets_one(served: Served) -> None:
    one, other = (served.client.trigger_part(LINE).part_id for _ in range(2))
    assert one != other


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"recipe": "bolt"}, "recipe must be one of cap, disc, got 'bolt'"),
        ({"part_id": "dmc 1"}, "part must start with"),
        ({"lot": "-"}, "lot must start with"),
    ],
)
def test_a_trigger_that_breaks_a_rule_is_refused(served: Served, fields: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        served.client.trigger_part(LINE, **fields)
    assert served.built.record.arrivals == []


# ---- people


def test_an_alarm_is_acknowledged_in_a_person_s_name(served: Served) -> None:
    served.lines[LINE].take(outcomes("FFFFF"))
    alarm = next(one for one in served.client.lines()[0].alarms if one.rule == "not-passed-in-a-row")
    seen = served.client.acknowledge_alarm(LINE, alarm.alarm_id, "Ada", "nozzle cleaned")
    assert (seen.acknowledged_by, seen.note) == ("Ada", "nozzle cleaned")
    assert served.client.acknowledge_alarm(LINE, alarm.alarm_id, "Ben").acknowledged_by == "Ada"
    assert served.client.lines()[0].past_alarms[0].alarm_id == alarm.alarm_id
    with pytest.raises(InvalidInputError):
        served.client.acknowledge_alarm(LINE, alarm.alarm_id, "")
    with pytest.raises(NotFoundError, match="an alarm must stand"):
        served.client.acknowledge_alarm(LINE, "018bcfe5-6800-7000-8000-000000000001", "Ada")


def test_a_check_is_begun_in_a_person_s_name(served: Served) -> None:
    state = served.client.begin_reference_check(LINE, "Ada")
    assert (state.phase, state.occasion) == (ReferencePhase.DUE, "Ada")
    with pytest.raises(PreconditionError, match="must have reference parts"):
        served.client.begin_reference_check("line-2", "Ada")
    with pytest.raises(InvalidInputError):
        served.client.begin_reference_check(LINE, "")
