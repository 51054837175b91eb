"""``ExportService``: cases as an archive, in pieces."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
from sightline.v1 import export_service_pb2, export_service_pb2_grpc

from services.adapters.exportorder import LABELS_FROM_WIRE, LAYOUT_FROM_WIRE, MAX_CASE_IDS, ExportOrder
from services.adapters.ports import CaseFilter
from services.core.errors import BusyError, InvalidInputError, SightlineError
from services.core.review import validate_case_id
from services.feedback.exporting import Exporter
from services.feedback.servicer import read_case_filter
from services.runtime import metrics


class ExportServicer(export_service_pb2_grpc.ExportServiceServicer):
    """Answers calls, only so many at once; a call that is cancelled stops the work.

    Args:
        exporter: Makes archives.
        max_at_once: Calls at once.
    """

    def __init__(self, exporter: Exporter, *, max_at_once: int) -> None:
        self._exporter = exporter
        self._max_at_once = max_at_once
        self._places = threading.BoundedSemaphore(max_at_once)

    def Export(  # noqa: N802 - the name of the call
        self, request: export_service_pb2.ExportRequest, context: grpc.ServicerContext
    ) -> Iterator[export_service_pb2.ExportResponse]:
        """Give cases as an archive; see the protocol.

        Raises:
            InvalidInputError: For what breaks a rule.
            BusyError: While as many exports run as may.
            UnavailableError: While the record or the index is away.
        """
        order = _order(request)
        if not self._places.acquire(blocking=False):
            metrics.FEEDBACK_EXPORTS.labels(order.layout.value, BusyError.reason).inc()
            raise BusyError(f"at most {self._max_at_once} exports may run at once, got one more")
        outcome = "cancelled"
        pieces = self._exporter.export(order, context.is_active)
        try:
            for piece in pieces:
                yield export_service_pb2.ExportResponse(
                    data=piece.data, cases_done=piece.cases_done, cases_expected=piece.cases_expected
                )
            if context.is_active():
                outcome = "ok"
        except SightlineError as error:
            outcome = error.reason
            raise
        finally:
            self._places.release()
            metrics.FEEDBACK_EXPORTS.labels(order.layout.value, outcome).inc()


def _order(request: export_service_pb2.ExportRequest) -> ExportOrder:
    layout = LAYOUT_FROM_WIRE.get(request.layout)
    if layout is None:
        raise InvalidInputError(f"layout must be one of {sorted(LAYOUT_FROM_WIRE)}, got {request.layout}")
    labels = LABELS_FROM_WIRE.get(request.labels)
    if labels is None:
        raise InvalidInputError(f"labels must be one of {sorted(LABELS_FROM_WIRE)}, got {request.labels}")
    where = read_case_filter(request.filter)
    if len(request.case_ids) > MAX_CASE_IDS:
        raise InvalidInputError(f"case_ids must be at most {MAX_CASE_IDS}, got {len(request.case_ids)}")
    if request.case_ids and where != CaseFilter():
        raise InvalidInputError("filter must be empty where case_ids are given, got both")
    case_ids = tuple(validate_case_id(one) for one in request.case_ids)
    return ExportOrder(layout, where, case_ids, labels, request.reviewers)
