"""The gRPC shell of the statistics; every rule lies below it."""

from __future__ import annotations

from typing import Final

import grpc
from sightline.v1 import statistics_service_pb2, statistics_service_pb2_grpc

from services.core.errors import InvalidInputError
from services.core.identity import validate_id
from services.core.manifest import validate_alias
from services.core.statistics import GroupBy, StatisticsFilter, StatisticsRow
from services.feedback.calls import counted
from services.feedback.statistics import Statistics

_NS_PER_S: Final = 1_000_000_000
_GROUP_BY_FROM_WIRE: Final = {
    int(statistics_service_pb2.GROUP_BY_UNSPECIFIED): GroupBy.LINE,
    int(statistics_service_pb2.GROUP_BY_LINE): GroupBy.LINE,
    int(statistics_service_pb2.GROUP_BY_CAMERA): GroupBy.CAMERA,
    int(statistics_service_pb2.GROUP_BY_PRODUCT): GroupBy.PRODUCT,
    int(statistics_service_pb2.GROUP_BY_MODEL_VERSION): GroupBy.MODEL_VERSION,
    int(statistics_service_pb2.GROUP_BY_SHIFT): GroupBy.SHIFT,
    int(statistics_service_pb2.GROUP_BY_SHIFT_OF_DAY): GroupBy.SHIFT_OF_DAY,
    int(statistics_service_pb2.GROUP_BY_SPAN): GroupBy.SPAN,
}


class StatisticsServicer(statistics_service_pb2_grpc.StatisticsServiceServicer):
    """Answers calls; errors are the domain's.

    Args:
        statistics: Puts the figures together.
    """

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics

    def GetStatistics(  # noqa: N802 - the name of the call
        self, request: statistics_service_pb2.GetStatisticsRequest, context: grpc.ServicerContext
    ) -> statistics_service_pb2.GetStatisticsResponse:
        """Give the figures of a stretch of time; see the protocol.

        Raises:
            InvalidInputError: For what breaks a rule.
            UnavailableError: While the index is away.
        """
        del context
        with counted("get_statistics"):
            table = self._statistics.table(
                _filter(request),
                _moment("since_ns", request.since_ns),
                _moment("until_ns", request.until_ns),
                _group_by(request.group_by),
                request.span_s,
            )
            return statistics_service_pb2.GetStatisticsResponse(
                rows=[_row(one) for one in table.rows],
                total=_row(table.total),
                since_ns=table.span.since_s * _NS_PER_S,
                until_ns=table.span.until_s * _NS_PER_S,
                kept_since_ns=table.kept_since_s * _NS_PER_S,
            )

    def GetShifts(  # noqa: N802
        self, request: statistics_service_pb2.GetShiftsRequest, context: grpc.ServicerContext
    ) -> statistics_service_pb2.GetShiftsResponse:
        """Give the plan of shifts; see the protocol.

        Raises:
            InvalidInputError: For a moment that is none.
        """
        del context
        with counted("get_shifts"):
            now = self._statistics.shifts(_moment("at_ns", request.at_ns))
            response = statistics_service_pb2.GetShiftsResponse(
                shifts=[
                    statistics_service_pb2.Shift(name=one.name, begins_min=one.begins_min, ends_min=one.ends_min)
                    for one in now.plan.shifts
                ],
                time_zone=now.plan.time_zone,
                day_begins_ns=now.day_begins_s * _NS_PER_S,
            )
            if now.shift is not None:
                response.shift = now.shift.name
                response.shift_begins_ns = now.shift.begins_s * _NS_PER_S
                response.shift_ends_ns = now.shift.ends_s * _NS_PER_S
            return response


def _row(row: StatisticsRow) -> statistics_service_pb2.StatisticsRow:
    key, audit = row.key, row.audit
    message = statistics_service_pb2.StatisticsRow(
        name=key.name,
        line_id=key.line_id,
        model_version=key.model_version,
        day=key.day,
        begins_ns=key.begins_s * _NS_PER_S,
        ends_ns=key.ends_s * _NS_PER_S,
        inspections=row.verdicts.inspections,
        passed=row.verdicts.passed,
        failed=row.verdicts.failed,
        review=row.verdicts.review,
        late=row.verdicts.late,
        defect_rate=row.defect_rate,
        first_pass_yield=row.first_pass_yield,
        reviewed=row.outcomes.reviewed,
        fails_reviewed=row.outcomes.fails_reviewed,
        false_rejects=row.outcomes.false_rejects,
        escapes=row.outcomes.escapes,
        wrong_reasons=row.outcomes.wrong_reasons,
        audit_drawn=audit.drawn,
        audit_reviewed=audit.reviewed,
        audit_escapes=audit.escapes,
        audit_undecided=audit.undecided,
    )
    if audit.reviewed:
        message.escape_rate = audit.rate
        message.escape_rate_low = audit.low
        message.escape_rate_high = audit.high
    if audit.drawn:
        message.audit_covered = audit.covered
    return message


def _filter(request: statistics_service_pb2.GetStatisticsRequest) -> StatisticsFilter:
    if request.model_version < 0:
        raise InvalidInputError(f"model_version must be >= 0, got {request.model_version}")
    return StatisticsFilter(
        line_id=validate_id(request.line_id, "line_id") if request.line_id else "",
        camera_id=validate_id(request.camera_id, "camera_id") if request.camera_id else "",
        product=validate_id(request.product, "product") if request.product else "",
        alias=validate_alias(request.alias) if request.alias else "",
        model_version=request.model_version,
    )


def _group_by(wire: int) -> GroupBy:
    try:
        return _GROUP_BY_FROM_WIRE[wire]
    except KeyError:
        raise InvalidInputError(f"group_by must be a value of the protocol, got {wire}") from None


def _moment(name: str, value: int) -> int:
    if value < 0:
        raise InvalidInputError(f"{name} must be >= 0, got {value}")
    return value
