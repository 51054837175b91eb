"""A line's answers for tests, and an outcome service in this process that says what it is told to."""

from __future__ import annotations

import threading
import time
from concurrent import futures
from dataclasses import replace

import grpc
from sightline.v1 import events_pb2, outcome_service_pb2, outcome_service_pb2_grpc

from services.core.identity import derive_frame_id
from services.core.line_event import LineEvent, LineEventKind
from services.core.outcome import Outcome, OutcomeReason, OutcomeView
from services.core.types import Reason, Verdict

MS = 1_000_000
START_NS = 1_800_000_000_000_000_000


def outcome_view(camera_id: str, verdict: Verdict = Verdict.PASS, **changes: object) -> OutcomeView:
    """What one camera saw."""
    made = OutcomeView(
        camera_id=camera_id,
        frame_id=derive_frame_id(camera_id, "part", 0, START_NS),
        verdict=verdict,
        reason=Reason.SCORE,
        score=0.2 if verdict is Verdict.PASS else 0.9,
        alias="default",
        model_version=3,
        captured_at_ns=START_NS,
        decided_at_ns=START_NS + 60 * MS,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def outcome(
    part_id: str = "part-1",
    *,
    revision: int = 1,
    verdict: Verdict = Verdict.PASS,
    began_at_ns: int = START_NS,
    took_ms: float = 80.0,
    due_ms: float = 250.0,
    **changes: object,
) -> Outcome:
    """A part's answer; late where it took longer than was due."""
    decided_at_ns = began_at_ns + int(took_ms * MS)
    made = Outcome(
        outcome_id=derive_frame_id(part_id, str(revision), revision, began_at_ns),
        part_id=part_id,
        line_id="line-a",
        product="disc",
        revision=revision,
        verdict=verdict,
        reason=OutcomeReason.VIEWS,
        in_time=due_ms == 0 or took_ms <= due_ms,
        began_at_ns=began_at_ns,
        decided_at_ns=decided_at_ns,
        deadline_at_ns=began_at_ns + int(due_ms * MS) if due_ms else 0,
        views=(outcome_view("line-a-top", verdict),),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def line_event(kind: LineEventKind, number: int = 1, **changes: object) -> LineEvent:
    """One thing that happened; ``number`` tells events apart."""
    made = LineEvent(
        event_id=f"0189abcd-0000-7000-8000-{number:012d}",
        line_id="line-a",
        at_ns=START_NS + number * 100 * MS,
        kind=kind,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


ALARM_ID = "0189abcd-0000-7000-8000-0000000000aa"


def line_state(line_id: str = "line-a") -> outcome_service_pb2.LineState:
    """A line with every field set: an alarm stands, one connection is away, a check with reference parts is due."""
    return outcome_service_pb2.LineState(
        line_id=line_id,
        product="disc",
        lot="L-7",
        light=events_pb2.LIGHT_RED,
        causes=[
            outcome_service_pb2.LightCause(
                token="connection", about="mes", text="connection mes is away", light=events_pb2.LIGHT_RED
            ),
            outcome_service_pb2.LightCause(
                token="alarm", about=ALARM_ID, text="3 parts in a row failed", light=events_pb2.LIGHT_AMBER
            ),
        ],
        connections=[
            outcome_service_pb2.ConnectionState(
                name="press",
                kind="opcua",
                address="opc.tcp://0.0.0.0:4840",
                up=True,
                handshake=outcome_service_pb2.HANDSHAKE_STATE_RESULT,
                part_id="part-9",
                error_code=3,
            ),
            outcome_service_pb2.ConnectionState(
                name="mes",
                kind="webhook",
                address="https://mes.plant",
                waiting=14,
                oldest_waiting_ms=93_000,
                detail="no",
            ),
        ],
        alarms=[alarm_state()],
        reference=outcome_service_pb2.ReferenceState(
            phase=outcome_service_pb2.REFERENCE_PHASE_DUE,
            occasion="early",
            due_at_ns=START_NS,
            parts=[
                outcome_service_pb2.ReferencePartState(
                    part_id="good-1", expected=events_pb2.VERDICT_PASS, seen=events_pb2.VERDICT_PASS
                ),
                outcome_service_pb2.ReferencePartState(part_id="bad-1", expected=events_pb2.VERDICT_FAIL),
            ],
        ),
        past_alarms=[
            alarm_state(
                alarm_id="0189abcd-0000-7000-8000-0000000000ab",
                acknowledged_by="olga",
                acknowledged_at_ns=START_NS + 1_000 * MS,
                note="lens cleaned",
            )
        ],
    )


def alarm_state(**changes: object) -> outcome_service_pb2.AlarmState:
    """An alarm that nobody has acknowledged."""
    alarm = outcome_service_pb2.AlarmState(
        alarm_id=ALARM_ID,
        rule="fails-in-a-row",
        light=events_pb2.LIGHT_AMBER,
        text="3 parts in a row failed",
        raised_at_ns=START_NS,
        part_id="part-3",
        camera_id="line-a-top",
        product="disc",
        defect_class="scratch",
        repeats=2,
    )
    alarm.MergeFrom(outcome_service_pb2.AlarmState(**changes))  # type: ignore[arg-type]
    return alarm


class ToldOutcomeService(outcome_service_pb2_grpc.OutcomeServiceServicer):
    """An outcome service over gRPC on a free port.

    Attributes:
        lines: What it says of its lines; changed under :attr:`lock`.
        asked: What people did, oldest first.
        away: While true every call is refused as if the service were not there.
    """

    def __init__(self, *lines: outcome_service_pb2.LineState) -> None:
        self.lock = threading.Lock()
        self.lines = {line.line_id: line for line in lines}
        self.asked: list[tuple[str, ...]] = []
        self.away = False
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        outcome_service_pb2_grpc.add_OutcomeServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        """End it."""
        self._server.stop(0).wait()

    def GetLines(  # noqa: N802 - gRPC's name
        self, request: outcome_service_pb2.GetLinesRequest, context: grpc.ServicerContext
    ) -> outcome_service_pb2.GetLinesResponse:
        """Every line, as it was told."""
        del request
        self._refuse_if_away(context)
        with self.lock:
            lines = [self.lines[line_id] for line_id in sorted(self.lines)]
            return outcome_service_pb2.GetLinesResponse(lines=lines)

    def AcknowledgeAlarm(  # noqa: N802 - gRPC's name
        self, request: outcome_service_pb2.AcknowledgeAlarmRequest, context: grpc.ServicerContext
    ) -> outcome_service_pb2.AcknowledgeAlarmResponse:
        """Move an alarm to those that were acknowledged; the light is green when none is left."""
        self._refuse_if_away(context)
        with self.lock:
            line = self._line(request.line_id, context)
            for alarm in line.past_alarms:
                if alarm.alarm_id == request.alarm_id:
                    return outcome_service_pb2.AcknowledgeAlarmResponse(alarm=alarm)
            found = [alarm for alarm in line.alarms if alarm.alarm_id == request.alarm_id]
            if not found:
                context.abort(grpc.StatusCode.NOT_FOUND, f"there is no alarm {request.alarm_id}")
            alarm = outcome_service_pb2.AlarmState()
            alarm.CopyFrom(found[0])
            alarm.acknowledged_by, alarm.note = request.person, request.note
            alarm.acknowledged_at_ns = time.time_ns()
            line.alarms.remove(found[0])
            line.past_alarms.insert(0, alarm)
            causes = [cause for cause in line.causes if cause.about != request.alarm_id]
            del line.causes[:]
            line.causes.extend(causes)
            line.light = max((cause.light for cause in causes), default=events_pb2.LIGHT_GREEN)
            self.asked.append(("acknowledge", request.line_id, request.alarm_id, request.person, request.note))
            return outcome_service_pb2.AcknowledgeAlarmResponse(alarm=alarm)

    def BeginReferenceCheck(  # noqa: N802 - gRPC's name
        self, request: outcome_service_pb2.BeginReferenceCheckRequest, context: grpc.ServicerContext
    ) -> outcome_service_pb2.BeginReferenceCheckResponse:
        """Begin a check anew: nothing is seen yet."""
        self._refuse_if_away(context)
        with self.lock:
            reference = self._line(request.line_id, context).reference
            if not reference.parts:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the line has no reference parts")
            reference.phase = outcome_service_pb2.REFERENCE_PHASE_DUE
            reference.occasion, reference.due_at_ns, reference.ended_at_ns = request.person, time.time_ns(), 0
            for part in reference.parts:
                part.seen = events_pb2.VERDICT_UNSPECIFIED
            self.asked.append(("reference", request.line_id, request.person))
            return outcome_service_pb2.BeginReferenceCheckResponse(reference=reference)

    def _line(self, line_id: str, context: grpc.ServicerContext) -> outcome_service_pb2.LineState:
        if line_id not in self.lines:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no line {line_id}")
        return self.lines[line_id]

    def _refuse_if_away(self, context: grpc.ServicerContext) -> None:
        if self.away:
            context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
