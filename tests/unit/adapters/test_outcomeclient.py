"""The client of ``OutcomeService``, at a real port."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import pytest
from sightline.v1 import outcome_service_pb2, outcome_service_pb2_grpc

from services.adapters.codec_line import alarm_to_message, line_state_to_message, reference_to_message
from services.adapters.codec_outcome import outcome_to_message
from services.adapters.outcomeclient import OutcomeClient, TriggeredPart
from services.core.alarm import Alarm
from services.core.errors import (
    BusyError,
    EventDecodeError,
    InvalidInputError,
    NotFoundError,
    PreconditionError,
    SightlineError,
    UnavailableError,
)
from services.core.identity import alarm_id
from services.core.line_event import Light
from services.core.line_state import LineState
from services.core.outcome import Outcome
from services.core.reference_check import ReferencePartState, ReferencePhase, ReferenceState
from services.core.types import Verdict
from services.local.process import free_port
from services.runtime.grpc_server import GrpcServer
from services.runtime.lifecycle import Health
from services.runtime.settings import GrpcSettings
from tests.support.outcomes import NOW_NS, outcomes

ALARM = Alarm(
    alarm_id("line-1", "three", ("", "", ""), "part-3", NOW_NS),
    "line-1",
    "three",
    Light.AMBER,
    "3 parts in a row failed",
    NOW_NS,
    "part-3",
)
REFERENCE = ReferenceState(ReferencePhase.DUE, "Ada", NOW_NS, parts=(ReferencePartState("ref-good", Verdict.PASS),))
DEADLINE_S = 10.0


@dataclass
class ToldService(outcome_service_pb2_grpc.OutcomeServiceServicer):
    """``OutcomeService`` that says what it is told."""

    told: tuple[LineState, ...] = (LineState("line-1", Light.AMBER, alarms=(ALARM,), reference=REFERENCE),)
    outcomes: list[Outcome] = field(default_factory=list)
    fails: Exception | None = None
    part_id: str = "part-9"
    stays: bool = False
    """Whether the stream waits for its caller to leave after the last outcome."""
    asked: list[Any] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)

    def _note(self, request: Any) -> None:
        self.asked.append(request)
        if self.fails is not None:
            raise self.fails

    def GetLines(self, request: Any, context: grpc.ServicerContext) -> outcome_service_pb2.GetLinesResponse:  # noqa: N802
        self._note(request)
        return outcome_service_pb2.GetLinesResponse(lines=[line_state_to_message(line) for line in self.told])

    def AcknowledgeAlarm(  # noqa: N802
        self, request: Any, context: grpc.ServicerContext
    ) -> outcome_service_pb2.AcknowledgeAlarmResponse:
        self._note(request)
        seen = replace(ALARM, acknowledged_by=request.person, acknowledged_at_ns=NOW_NS + 1, note=request.note)
        return outcome_service_pb2.AcknowledgeAlarmResponse(alarm=alarm_to_message(seen))

    def BeginReferenceCheck(  # noqa: N802
        self, request: Any, context: grpc.ServicerContext
    ) -> outcome_service_pb2.BeginReferenceCheckResponse:
        self._note(request)
        return outcome_service_pb2.BeginReferenceCheckResponse(reference=reference_to_message(REFERENCE))

    def TriggerPart(self, request: Any, context: grpc.ServicerContext) -> outcome_service_pb2.TriggerPartResponse:  # noqa: N802
        self._note(request)
        return outcome_service_pb2.TriggerPartResponse(part_id=self.part_id, deadline_at_ns=NOW_NS)

    def WatchOutcomes(  # noqa: N802
        self, request: Any, context: grpc.ServicerContext
    ) -> Iterator[outcome_service_pb2.WatchOutcomesResponse]:
        self._note(request)
        if self.stays:
            context.add_callback(self.left.set)
        for one in self.outcomes:
            yield outcome_service_pb2.WatchOutcomesResponse(outcome=outcome_to_message(one))
        if self.stays:
            self.left.wait(DEADLINE_S)


@pytest.fixture
def service() -> ToldService:
    return ToldService()


@pytest.fixture
def client(service: ToldService) -> Iterator[OutcomeClient]:
    server = GrpcServer(GrpcSettings(port=0), Health())
    server.add(outcome_service_pb2_grpc.add_OutcomeServiceServicer_to_server, service, "Outcome")
    server.start()
    client = OutcomeClient(f"127.0.0.1:{server.port}", timeout_s=DEADLINE_S)
    yield client
    client.close()
    server.stop(0)


def test_lines_come_as_the_service_has_them(client: OutcomeClient, service: ToldService) -> None:
    assert client.lines() == service.told


def test_an_alarm_is_acknowledged_in_a_person_s_name(client: OutcomeClient, service: ToldService) -> None:
    seen = client.acknowledge_alarm("line-1", ALARM.alarm_id, "Ada", "tool changed")
    assert (seen.line_id, seen.acknowledged_by, seen.note) == ("line-1", "Ada", "tool changed")
    (asked,) = service.asked
    assert (asked.line_id, asked.alarm_id, asked.person) == ("line-1", ALARM.alarm_id, "Ada")


def test_a_check_begins_in_a_person_s_name(client: OutcomeClient, service: ToldService) -> None:
    assert client.begin_reference_check("line-1", "Ada") == REFERENCE
    assert (service.asked[0].line_id, service.asked[0].person) == ("line-1", "Ada")


def test_a_trigger_says_which_part_it_is_and_when_its_answer_is_due(
    client: OutcomeClient, service: ToldService
) -> None:
    assert client.trigger_part("line-1", recipe="7", lot="lot-1") == TriggeredPart("part-9", NOW_NS)
    (asked,) = service.asked
    assert (asked.line_id, asked.part_id, asked.recipe, asked.lot) == ("line-1", "", "7", "lot-1")


def test_a_trigger_s_answer_must_name_the_part(client: OutcomeClient, service: ToldService) -> None:
    service.part_id = ""
    with pytest.raises(EventDecodeError, match="TriggerPartResponse: part_id must not be empty"):
        client.trigger_part("line-1")


def test_outcomes_come_one_after_the_other_until_the_service_ends_the_stream(
    client: OutcomeClient, service: ToldService
) -> None:
    service.outcomes = outcomes("FPR")
    assert list(client.watch_outcomes("line-1")) == service.outcomes
    assert service.asked[0].line_id == "line-1"


def test_whoever_looks_no_longer_ends_the_stream_and_hears_of_no_error(
    client: OutcomeClient, service: ToldService
) -> None:
    service.stays = True
    service.outcomes = outcomes("F")
    stream = client.watch_outcomes(timeout_s=DEADLINE_S)
    seen = []
    for one in stream:
        seen.append(one)
        stream.cancel()
        stream.cancel()
    assert seen == service.outcomes
    assert service.left.wait(DEADLINE_S)


def test_a_stream_that_breaks_off_says_so(client: OutcomeClient, service: ToldService) -> None:
    service.fails = NotFoundError("a line must be one that is spoken for, got line-2")
    with pytest.raises(NotFoundError, match="got line-2"):
        list(client.watch_outcomes("line-2"))


@pytest.mark.parametrize("error", [InvalidInputError, NotFoundError, PreconditionError, BusyError, UnavailableError])
def test_an_error_of_the_service_is_the_domain_s(
    client: OutcomeClient, service: ToldService, error: type[SightlineError]
) -> None:
    service.fails = error("a rule, and what was received")
    with pytest.raises(error, match="a rule, and what was received"):
        client.acknowledge_alarm("line-1", ALARM.alarm_id, "Ada")


def test_a_service_that_is_away_is_unavailable() -> None:
    gone = OutcomeClient(f"127.0.0.1:{free_port()}", timeout_s=DEADLINE_S)
    with pytest.raises(UnavailableError, match="the outcome service must answer, got UNAVAILABLE"):
        gone.lines()
    gone.close()
    with pytest.raises(UnavailableError, match="before its client is closed"):
        gone.lines()
