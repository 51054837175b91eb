"""Asks the feedback service for statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from sightline.v1 import statistics_service_pb2, statistics_service_pb2_grpc

from services.adapters.grpcpeer import GrpcPeer
from services.core.errors import EventDecodeError
from services.core.escape_rate import EscapeEstimate
from services.core.shift import Shift
from services.core.statistics import (
    GroupBy,
    OutcomeTally,
    RowKey,
    Span,
    StatisticsFilter,
    StatisticsRow,
    StatisticsTable,
    VerdictTally,
)

_NS_PER_S: Final = 1_000_000_000
_MAX_MESSAGE_BYTES: Final = 16_000_000
_GROUP_BY_TO_WIRE: Final = {
    GroupBy.LINE: statistics_service_pb2.GROUP_BY_LINE,
    GroupBy.CAMERA: statistics_service_pb2.GROUP_BY_CAMERA,
    GroupBy.PRODUCT: statistics_service_pb2.GROUP_BY_PRODUCT,
    GroupBy.MODEL_VERSION: statistics_service_pb2.GROUP_BY_MODEL_VERSION,
    GroupBy.SHIFT: statistics_service_pb2.GROUP_BY_SHIFT,
    GroupBy.SHIFT_OF_DAY: statistics_service_pb2.GROUP_BY_SHIFT_OF_DAY,
    GroupBy.SPAN: statistics_service_pb2.GROUP_BY_SPAN,
}


@dataclass(frozen=True, slots=True)
class ShiftsView:
    """The plan of shifts, and the day and shift of a moment; times in seconds since the epoch."""

    shifts: tuple[Shift, ...]
    time_zone: str
    day_begins_s: int
    shift: str
    """Empty between shifts."""
    shift_begins_s: int
    shift_ends_s: int


class StatisticsClient:
    """One feedback service. Thread-safe; connects when first asked and again after an outage.

    Every call raises as those of ``services.adapters.feedbackclient.FeedbackClient``.
    """

    def __init__(self, address: str) -> None:
        """Set up; nothing is connected yet.

        Args:
            address: ``host:port``.
        """
        self._peer = GrpcPeer(address, "feedback service", max_message_bytes=_MAX_MESSAGE_BYTES)
        self._stub = statistics_service_pb2_grpc.StatisticsServiceStub(self._peer.channel)  # type: ignore[no-untyped-call]

    def table(
        self,
        where: StatisticsFilter,
        since_ns: int,
        until_ns: int,
        group_by: GroupBy,
        *,
        span_s: int = 0,
        timeout_s: float = 10.0,
    ) -> StatisticsTable:
        """The figures of a stretch of time.

        Args:
            where: Which inspections.
            since_ns: Captured at or after this time.
            until_ns: Captured before this time.
            group_by: What a row is about.
            span_s: Length of a point, for ``GroupBy.SPAN``.
            timeout_s: Deadline.
        """
        request = statistics_service_pb2.GetStatisticsRequest(
            line_id=where.line_id,
            camera_id=where.camera_id,
            product=where.product,
            alias=where.alias,
            model_version=where.model_version,
            since_ns=since_ns,
            until_ns=until_ns,
            group_by=_GROUP_BY_TO_WIRE[group_by],
            span_s=span_s,
        )
        response = self._peer.ask(self._stub.GetStatistics, request, timeout_s)
        return StatisticsTable(
            tuple(_row(one) for one in response.rows),
            _row(response.total),
            Span(response.since_ns // _NS_PER_S, response.until_ns // _NS_PER_S),
            response.kept_since_ns // _NS_PER_S,
        )

    def shifts(self, at_ns: int = 0, timeout_s: float = 10.0) -> ShiftsView:
        """The plan of shifts, and the day and shift of a moment; 0 is the present."""
        request = statistics_service_pb2.GetShiftsRequest(at_ns=at_ns)
        response = self._peer.ask(self._stub.GetShifts, request, timeout_s)
        return ShiftsView(
            shifts=tuple(Shift(one.name, one.begins_min, one.ends_min) for one in response.shifts),
            time_zone=response.time_zone,
            day_begins_s=response.day_begins_ns // _NS_PER_S,
            shift=response.shift,
            shift_begins_s=response.shift_begins_ns // _NS_PER_S,
            shift_ends_s=response.shift_ends_ns // _NS_PER_S,
        )

    def close(self) -> None:
        """Cancel what is in flight and let go; idempotent."""
        self._peer.close()


def _row(message: statistics_service_pb2.StatisticsRow) -> StatisticsRow:
    verdicts = VerdictTally(message.passed, message.failed, message.review, message.late)
    if verdicts.inspections != message.inspections:
        raise EventDecodeError(
            f"inspections must be the sum of their verdicts {verdicts.inspections}, got {message.inspections}"
        )
    estimated = message.HasField("escape_rate")
    return StatisticsRow(
        RowKey(
            message.name,
            message.line_id,
            message.model_version,
            message.day,
            message.begins_ns // _NS_PER_S,
            message.ends_ns // _NS_PER_S,
        ),
        verdicts,
        OutcomeTally(
            message.reviewed,
            message.fails_reviewed,
            message.false_rejects,
            message.escapes,
            message.wrong_reasons,
        ),
        EscapeEstimate(
            message.audit_drawn,
            message.audit_reviewed,
            message.audit_escapes,
            message.audit_undecided,
            rate=message.escape_rate if estimated else math.nan,
            low=message.escape_rate_low if estimated else math.nan,
            high=message.escape_rate_high if estimated else math.nan,
            covered=message.audit_covered if message.HasField("audit_covered") else math.nan,
        ),
    )
