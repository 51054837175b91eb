"""A line that is answered: outcomes and events on their topics, and an outcome service that says how the line is.

Parts, pictures and verdicts are the pretended line's; what came of each part from its two views, and what the line was
told, is made up here and goes through the real dashboard.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace

from sightline.v1 import events_pb2, outcome_service_pb2

from services.adapters.codec_outcome import encode_line_event, encode_outcome
from services.adapters.memory import MemoryBroker, MemoryTopicReader
from services.core import topics
from services.core.identity import derive_frame_id
from services.core.line_event import LineEvent, LineEventKind
from services.core.outcome import Outcome, OutcomeReason, OutcomeView
from services.core.types import Inspection, Verdict
from services.dashboard.feed import OutcomeFeed
from services.dashboard.lines import LineBoard, LinePoller, Lines
from services.dashboard.linestate import GrpcLineStates
from services.dashboard.outcomes import OutcomeBook
from tests.e2e.dashboard_feed import DEMO_CAMERAS, DashboardUnderTest
from tests.support.lines import MS, ToldOutcomeService, alarm_state

LINE = "line-a"
DUE_MS = 250.0
MINUTE_NS = 60_000_000_000
OLD_ALARM = "0189abcd-0000-7000-8000-0000000000ab"
_WORST_FIRST = (Verdict.FAIL, Verdict.REVIEW, Verdict.PASS)


class LineScene:
    """The scene, served until :meth:`close`."""

    def __init__(self, *line_ids: str, pictures: int = 12, defect_rate: float = 0.25) -> None:
        now_ns = time.time_ns()
        self._dice = random.Random(11)
        self.service = ToldOutcomeService(*(calm_line(line_id, now_ns) for line_id in line_ids or (LINE,)))
        broker = MemoryBroker()
        self.book, board = OutcomeBook(), LineBoard()
        states = GrpcLineStates(self.service.address)
        self._states = states
        self.dashboard = DashboardUnderTest(
            DEMO_CAMERAS[:2],
            pictures=pictures,
            defect_rate=defect_rate,
            broker=broker,
            lines=Lines(states, board, self.book, timeout_s=3.0),
        ).start()
        feed = OutcomeFeed(
            lambda: MemoryTopicReader(broker, [topics.OUTCOMES, topics.LINE_EVENTS]), self.book, lookback_s=900
        )
        outcome = self.dashboard.settings.outcome
        poller = LinePoller(states, board, interval_s=outcome.interval_s, timeout_s=outcome.timeout_s)
        shutdown = self.dashboard.shutdown
        self._threads = [
            threading.Thread(target=work, args=(shutdown,), daemon=True) for work in (feed.run, poller.run)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End everything."""
        self.dashboard.stop()
        for thread in self._threads:
            thread.join(10)
        self._states.close()
        self.service.close()

    def change(self, line_id: str = LINE) -> _Change:
        """The line's state, to be changed inside a ``with``."""
        return _Change(self.service, line_id)

    def raise_alarm(self, text: str, *, red: bool = False, line_id: str = LINE, **fields: object) -> str:
        """Let an alarm stand, as the service raises one.

        Returns:
            Its id.
        """
        alarm_id = str(uuid.uuid4())
        light = events_pb2.LIGHT_RED if red else events_pb2.LIGHT_AMBER
        alarm = outcome_service_pb2.AlarmState(
            alarm_id=alarm_id,
            rule="rule",
            light=light,
            text=text,
            raised_at_ns=time.time_ns(),
            part_id="part-000003",
            **fields,  # type: ignore[arg-type]
        )
        with self.change(line_id) as line:
            line.alarms.insert(0, alarm)
            line.causes.insert(0, outcome_service_pb2.LightCause(token="alarm", about=alarm_id, text=text, light=light))
            # The gravest first, as the service tells them.
            ordered = sorted(line.causes, key=lambda cause: -cause.light)
            del line.causes[:]
            line.causes.extend(ordered)
            line.light = max(line.light, light)
        return alarm_id

    def answer_part(self, *, took_ms: float | None = None, lose: Sequence[str] = (), **verdict: object) -> Outcome:
        """Let a part pass the cameras and answer the line.

        Args:
            took_ms: From the first capture to the answer; None draws one that mostly is in time.
            lose: Cameras whose view does not come before the deadline.
            verdict: Fields of the verdicts to set otherwise.
        """
        inspections = self.dashboard.publish_part(**verdict)
        took_ms = self._dice.gauss(132, 24) if took_ms is None else took_ms
        made = self._outcome([one for one in inspections if one.camera_id not in lose], lose, took_ms)
        self._publish(made)
        self.publish_event(
            LineEventKind.ANSWERED,
            connection="press",
            part_id=made.part_id,
            revision=1,
            verdict=made.verdict,
            at_ns=made.decided_at_ns + 2 * MS,
        )
        return made

    def answer_history(self, parts: int, span_s: float) -> None:
        """Let parts have been answered over the last seconds: some late, one without a view, one that changed later."""
        start_ns = time.time_ns() - int(span_s * 1e9)
        for number in range(parts):
            at_ns = start_ns + int(number * span_s * 1e9 / parts)
            since_last = parts - number
            took_ms = {3: 312.0, 7: 250.0}.get(since_last, 281.0 if number % 37 == 5 else None)
            lose = ["line-a-side"] if since_last == 7 else []
            made = self.answer_part(took_ms=took_ms, lose=lose, captured_at_ns=at_ns)
            if since_last == 7:
                self.revise(made, Verdict.FAIL)

    def revise(self, made: Outcome, verdict: Verdict) -> Outcome:
        """Let a view come late that changes what stands on record."""
        revised = replace(
            made,
            outcome_id=derive_frame_id(made.part_id, LINE, made.revision + 1, made.began_at_ns),
            revision=made.revision + 1,
            verdict=verdict,
            reason=OutcomeReason.VIEWS,
            missing_cameras=(),
            decided_at_ns=made.decided_at_ns + 640 * MS,
            in_time=False,
        )
        self._publish(revised)
        return revised

    def publish_event(self, kind: LineEventKind, **fields: object) -> LineEvent:
        """Write what happened on the line to its topic."""
        made = LineEvent(event_id=str(uuid.uuid4()), line_id=LINE, at_ns=time.time_ns(), kind=kind)
        event = replace(made, **fields)  # type: ignore[arg-type]
        self.dashboard.broker.append(topics.LINE_EVENTS, key=LINE.encode(), value=encode_line_event(event))
        return event

    def _publish(self, made: Outcome) -> None:
        self.dashboard.broker.append(topics.OUTCOMES, key=made.part_id.encode(), value=encode_outcome(made))

    def _outcome(self, inspections: Sequence[Inspection], lost: Sequence[str], took_ms: float) -> Outcome:
        first = inspections[0]
        began_at_ns = min(one.captured_at_ns for one in inspections)
        worst = next(verdict for verdict in _WORST_FIRST if any(one.verdict is verdict for one in inspections))
        verdict = Verdict.REVIEW if lost and worst is Verdict.PASS else worst
        return Outcome(
            outcome_id=derive_frame_id(first.part_id, first.line_id, 1, began_at_ns),
            part_id=first.part_id,
            line_id=first.line_id,
            product=first.product,
            lot="L-2611",
            revision=1,
            verdict=verdict,
            reason=OutcomeReason.DEADLINE_MISSED if lost else OutcomeReason.VIEWS,
            in_time=took_ms <= DUE_MS and not lost,
            began_at_ns=began_at_ns,
            decided_at_ns=began_at_ns + int(took_ms * MS),
            deadline_at_ns=began_at_ns + int(DUE_MS * MS),
            views=tuple(map(_view, inspections)),
            missing_cameras=tuple(lost),
            defect_class=next((one.defect_class for one in inspections if one.verdict is worst), ""),
        )


class _Change:
    def __init__(self, service: ToldOutcomeService, line_id: str) -> None:
        self._service = service
        self._line_id = line_id

    def __enter__(self) -> outcome_service_pb2.LineState:
        self._service.lock.acquire()
        return self._service.lines[self._line_id]

    def __exit__(self, *error: object) -> None:
        self._service.lock.release()


def calm_line(line_id: str, now_ns: int) -> outcome_service_pb2.LineState:
    """A line on which all is well: its PLC has part of a handshake done, its check was passed, one alarm is over."""
    return outcome_service_pb2.LineState(
        line_id=line_id,
        product="disc",
        lot="L-2611",
        light=events_pb2.LIGHT_GREEN,
        connections=[
            outcome_service_pb2.ConnectionState(
                name="press",
                kind="opcua",
                address="opc.tcp://0.0.0.0:4840/sightline",
                up=True,
                handshake=outcome_service_pb2.HANDSHAKE_STATE_BUSY,
                part_id="part-000240",
            ),
            outcome_service_pb2.ConnectionState(
                name="mes", kind="webhook", address="https://mes.plant.example/outcomes", up=True
            ),
        ],
        reference=outcome_service_pb2.ReferenceState(
            phase=outcome_service_pb2.REFERENCE_PHASE_PASSED,
            occasion="early",
            due_at_ns=now_ns - 94 * MINUTE_NS,
            ended_at_ns=now_ns - 91 * MINUTE_NS,
            parts=[
                outcome_service_pb2.ReferencePartState(
                    part_id="ref-good-1", expected=events_pb2.VERDICT_PASS, seen=events_pb2.VERDICT_PASS
                ),
                outcome_service_pb2.ReferencePartState(
                    part_id="ref-scratch-2", expected=events_pb2.VERDICT_FAIL, seen=events_pb2.VERDICT_FAIL
                ),
            ],
        ),
        past_alarms=[
            alarm_state(
                alarm_id=OLD_ALARM,
                text="3 parts in a row failed with scratch at camera line-a-top",
                raised_at_ns=now_ns - 47 * MINUTE_NS,
                part_id="part-000012",
                acknowledged_by="Olga Berg",
                acknowledged_at_ns=now_ns - 44 * MINUTE_NS,
                note="cleaned the feeder",
            )
        ],
    )


def trouble(scene: LineScene) -> None:
    """Let the line be as nobody wants it: late answers, a webhook that does not deliver, a check that failed."""
    with scene.change() as line:
        line.light = events_pb2.LIGHT_RED
        line.causes.extend(
            [
                outcome_service_pb2.LightCause(
                    token="reference", about="late", text="the check failed", light=events_pb2.LIGHT_RED
                ),
                outcome_service_pb2.LightCause(
                    token="connection",
                    about="mes",
                    text="connection mes does not deliver",
                    light=events_pb2.LIGHT_AMBER,
                ),
            ]
        )
        press, mes = line.connections
        press.handshake, press.error_code = outcome_service_pb2.HANDSHAKE_STATE_RESULT, 3
        mes.up, mes.waiting, mes.oldest_waiting_ms = False, 214, 93_000
        mes.detail = "HTTP 503 from mes.plant.example"
        line.reference.phase = outcome_service_pb2.REFERENCE_PHASE_FAILED
        line.reference.occasion = "late"
        line.reference.ended_at_ns = time.time_ns() - 3 * MINUTE_NS
        line.reference.parts[1].seen = events_pb2.VERDICT_PASS
    scene.raise_alarm("5 of 33 parts failed within 10 min")
    scene.raise_alarm("3 parts in a row were answered late", red=True, repeats=2)


def _view(inspection: Inspection) -> OutcomeView:
    return OutcomeView(
        camera_id=inspection.camera_id,
        frame_id=inspection.frame_id,
        verdict=inspection.verdict,
        reason=inspection.reason,
        score=inspection.score,
        alias=inspection.alias,
        model_version=inspection.model_version,
        captured_at_ns=inspection.captured_at_ns,
        decided_at_ns=inspection.decided_at_ns,
        defect_class=inspection.defect_class,
    )
