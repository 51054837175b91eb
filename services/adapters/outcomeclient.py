"""Asks the outcome service how its lines are, and tells it what people do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
from sightline.v1 import outcome_service_pb2, outcome_service_pb2_grpc

from services.adapters.codec import at_least, strictly
from services.adapters.codec_line import alarm_from_message, line_state_from_message, reference_from_message
from services.adapters.codec_outcome import outcome_from_message
from services.adapters.grpcpeer import GrpcPeer
from services.core.alarm import Alarm
from services.core.identity import validate_id
from services.core.line_state import LineState
from services.core.outcome import Outcome
from services.core.reference_check import ReferenceState

# Some dozens of lines with all the alarms that each may keep.
_MAX_MESSAGE_BYTES: Final = 16_000_000


@dataclass(frozen=True, slots=True)
class TriggeredPart:
    """A part that was triggered."""

    part_id: str
    deadline_at_ns: int
    """When its answer is due, nanoseconds since the epoch; 0 without a deadline."""


class OutcomeStream:
    """Outcomes as they are decided. ``cancel`` may be called from any thread."""

    def __init__(self, responses: Any, peer: GrpcPeer) -> None:
        self._responses = responses
        self._peer = peer
        self._cancelled = False

    def __iter__(self) -> Iterator[Outcome]:
        """Give each outcome, late revisions included, until the stream is cancelled or the service ends it.

        Raises:
            NotFoundError: The service does not speak for the line.
            BusyError: Too many look already.
            UnavailableError: The service does not answer, breaks off, or the deadline passed.
            EventDecodeError: An answer breaks a rule.
        """
        try:
            for response in self._responses:
                yield outcome_from_message(response.outcome)
        except grpc.RpcError as error:
            if not self._cancelled:
                raise self._peer.error(error) from error

    def cancel(self) -> None:
        """Look no longer; idempotent."""
        self._cancelled = True
        self._responses.cancel()


class OutcomeClient:
    """One outcome service. Thread-safe; connects when first asked and again after an outage.

    Every call raises:
        InvalidInputError: The service refuses what it was asked.
        NotFoundError: It does not speak for the line, or there is no such alarm or recipe.
        PreconditionError: It cannot be done as things stand: a part is before the cameras, there are no reference
            parts.
        BusyError: Too many callers wait.
        UnavailableError: The service does not answer in time, or fails.
        EventDecodeError: Its answer breaks a rule.
    """

    def __init__(self, address: str, timeout_s: float = 10.0) -> None:
        """Set up; nothing is connected yet.

        Args:
            address: ``host:port``.
            timeout_s: Deadline of every call but ``watch_outcomes``.
        """
        self._peer = GrpcPeer(address, "outcome service", max_message_bytes=_MAX_MESSAGE_BYTES)
        self._stub = outcome_service_pb2_grpc.OutcomeServiceStub(self._peer.channel)  # type: ignore[no-untyped-call]
        self._timeout_s = timeout_s

    def lines(self) -> tuple[LineState, ...]:
        """How every line is now, by their ids."""
        response = self._peer.ask(self._stub.GetLines, outcome_service_pb2.GetLinesRequest(), self._timeout_s)
        return tuple(line_state_from_message(line) for line in response.lines)

    def acknowledge_alarm(self, line_id: str, alarm_id: str, person: str, note: str = "") -> Alarm:
        """Note that a person has seen an alarm; one that was acknowledged already stays with whoever was first.

        Args:
            line_id: The line.
            alarm_id: The alarm.
            person: Their name.
            note: What they say; may be empty.
        """
        request = outcome_service_pb2.AcknowledgeAlarmRequest(
            line_id=line_id, alarm_id=alarm_id, person=person, note=note
        )
        response = self._peer.ask(self._stub.AcknowledgeAlarm, request, self._timeout_s)
        return alarm_from_message(response.alarm, line_id)

    def begin_reference_check(self, line_id: str, person: str) -> ReferenceState:
        """Begin a check with reference parts in a person's name; one under way begins anew."""
        request = outcome_service_pb2.BeginReferenceCheckRequest(line_id=line_id, person=person)
        response = self._peer.ask(self._stub.BeginReferenceCheck, request, self._timeout_s)
        return reference_from_message(response.reference)

    def trigger_part(self, line_id: str, part_id: str = "", recipe: str = "", lot: str = "") -> TriggeredPart:
        """Trigger a part, as a PLC does; its outcome follows in :meth:`watch_outcomes`.

        Args:
            line_id: The line.
            part_id: The part's own id; empty lets the service name it.
            recipe: A product, or what the settings name as one; empty keeps the one that is made.
            lot: The lot; empty keeps it.
        """
        request = outcome_service_pb2.TriggerPartRequest(line_id=line_id, part_id=part_id, recipe=recipe, lot=lot)
        response = self._peer.ask(self._stub.TriggerPart, request, self._timeout_s)
        return strictly(
            "TriggerPartResponse",
            lambda: TriggeredPart(
                validate_id(response.part_id, "part_id"), at_least("deadline_at_ns", response.deadline_at_ns, 0)
            ),
        )

    def watch_outcomes(self, line_id: str = "", timeout_s: float | None = None) -> OutcomeStream:
        """Follow a line's outcomes from now on.

        Args:
            line_id: Only this line; empty for all.
            timeout_s: Deadline of the whole stream; None for none.
        """
        request = outcome_service_pb2.WatchOutcomesRequest(line_id=line_id)
        return OutcomeStream(self._peer.ask(self._stub.WatchOutcomes, request, timeout_s), self._peer)

    def close(self) -> None:
        """Cancel what is in flight and let go; idempotent."""
        self._peer.close()
