"""``OutcomeService``: how the lines are, what they are told, and what a person does about it."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator, Mapping
from typing import Final

import grpc
from sightline.v1 import outcome_service_pb2, outcome_service_pb2_grpc

from services.adapters.codec_line import alarm_to_message, line_state_to_message, reference_to_message
from services.adapters.codec_outcome import outcome_to_message
from services.core.errors import BusyError, NotFoundError
from services.core.identity import validate_id
from services.core.outcome import Outcome
from services.core.review import validate_reviewer
from services.outcome.gateway import LineGateway

#: Where a trigger of a call comes from, in events.
CALLER: Final = "grpc"
_MAX_BEHIND: Final = 1_000
_LOOK_S: Final = 0.5


class OutcomeServicer(outcome_service_pb2_grpc.OutcomeServiceServicer):
    """Answers calls; errors are the domain's.

    Args:
        lines: The lines that this process speaks for, by id.
    """

    def __init__(self, lines: Mapping[str, LineGateway]) -> None:
        self._lines = lines

    def GetLines(  # noqa: N802 - the name of the call
        self, request: outcome_service_pb2.GetLinesRequest, context: grpc.ServicerContext
    ) -> outcome_service_pb2.GetLinesResponse:
        """How every line is now."""
        del request, context
        states = [self._lines[line_id].state() for line_id in sorted(self._lines)]
        return outcome_service_pb2.GetLinesResponse(lines=map(line_state_to_message, states))

    def WatchOutcomes(  # noqa: N802
        self, request: outcome_service_pb2.WatchOutcomesRequest, context: grpc.ServicerContext
    ) -> Iterator[outcome_service_pb2.WatchOutcomesResponse]:
        """Each outcome as it is decided.

        Raises:
            NotFoundError: If nobody here speaks for the line.
            BusyError: If as many look as may, or the caller does not keep up.
        """
        lines = [self._line(request.line_id)] if request.line_id else list(self._lines.values())
        waiting: queue.Queue[Outcome] = queue.Queue(_MAX_BEHIND)
        missed: list[str] = []

        def note(outcome: Outcome) -> None:
            try:
                waiting.put_nowait(outcome)
            except queue.Full:
                missed.append(outcome.part_id)

        with contextlib.ExitStack() as stack:
            for line in lines:
                stack.callback(line.watch(note))
            while context.is_active():
                if missed:
                    raise BusyError(f"a caller may be at most {_MAX_BEHIND} outcomes behind, got one more")
                try:
                    outcome = waiting.get(timeout=_LOOK_S)
                except queue.Empty:
                    continue
                yield outcome_service_pb2.WatchOutcomesResponse(outcome=outcome_to_message(outcome))

    def TriggerPart(  # noqa: N802
        self, request: outcome_service_pb2.TriggerPartRequest, context: grpc.ServicerContext
    ) -> outcome_service_pb2.TriggerPartResponse:
        """Trigger a part; its outcome follows by its deadline.

        Raises:
            NotFoundError: If nobody here speaks for the line.
            InvalidInputError: If there is no such recipe, or an id is none.
        """
        del context
        taken = self._line(request.line_id).trigger(CALLER, request.recipe, request.lot, request.part_id)
        return outcome_service_pb2.TriggerPartResponse(part_id=taken.part_id, deadline_at_ns=taken.deadline_at_ns)

    def AcknowledgeAlarm(  # noqa: N802
        self, request: outcome_service_pb2.AcknowledgeAlarmRequest, context: grpc.ServicerContext
    ) -> outcome_service_pb2.AcknowledgeAlarmResponse:
        """Acknowledge an alarm in a person's name.

        Raises:
            NotFoundError: If there is no such line or alarm.
            InvalidInputError: If nobody is named.
        """
        del context
        line = self._line(request.line_id)
        alarm = line.acknowledge(request.alarm_id, validate_reviewer(request.person), request.note)
        return outcome_service_pb2.AcknowledgeAlarmResponse(alarm=alarm_to_message(alarm))

    def BeginReferenceCheck(  # noqa: N802
        self, request: outcome_service_pb2.BeginReferenceCheckRequest, context: grpc.ServicerContext
    ) -> outcome_service_pb2.BeginReferenceCheckResponse:
        """Begin a check with reference parts in a person's name.

        Raises:
            NotFoundError: If there is no such line.
            PreconditionError: If the line has no reference parts.
            InvalidInputError: If nobody is named.
        """
        del context
        reference = self._line(request.line_id).begin_reference_check(validate_reviewer(request.person))
        return outcome_service_pb2.BeginReferenceCheckResponse(reference=reference_to_message(reference))

    def _line(self, line_id: str) -> LineGateway:
        line = self._lines.get(validate_id(line_id, "line_id"))
        if line is None:
            known = ", ".join(sorted(self._lines)) or "none"
            raise NotFoundError(f"line_id must be one that this service speaks for ({known}), got {line_id}")
        return line
