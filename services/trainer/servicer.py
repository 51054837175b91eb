"""``TrainerService``: runs, what they proved, and which version decides."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import grpc
from sightline.v1 import trainer_service_pb2, trainer_service_pb2_grpc

from services.adapters.codec import alias_state_to_message
from services.adapters.codec_training import loss_from_text, recipe_from_text, report_to_message, run_to_message
from services.core.errors import BusyError, InvalidInputError, SightlineError
from services.core.manifest import validate_alias
from services.core.review import validate_reviewer
from services.core.training_run import TrainingRun, validate_run_id
from services.runtime import metrics
from services.trainer.controller import TrainingController
from services.trainer.learner import Learner
from services.trainer.promoting import Promoter
from services.trainer.runbook import RunBook

MAX_PAGE_SIZE: Final = 100
DEFAULT_PAGE_SIZE: Final = 20


class TrainerServicer(trainer_service_pb2_grpc.TrainerServiceServicer):
    """Answers calls; errors are the domain's.

    Args:
        book: What is known of runs.
        controller: Begins and ends them.
        promoter: Changes what decides.
        learner: Compares versions.
        reviews_wanted: Answers after which a run begins by itself; 0 for never.
        max_watchers: Callers that may follow runs at once.
    """

    def __init__(
        self,
        book: RunBook,
        controller: TrainingController,
        promoter: Promoter,
        learner: Learner,
        *,
        reviews_wanted: int,
        max_watchers: int,
    ) -> None:
        self._book = book
        self._controller = controller
        self._promoter = promoter
        self._learner = learner
        self._reviews_wanted = reviews_wanted
        self._comparing = threading.Lock()
        self._watching = threading.BoundedSemaphore(max_watchers)
        self._closing = threading.Event()

    def close(self) -> None:
        """End what follows runs, so that the server can stop; idempotent."""
        self._closing.set()

    def StartRun(  # noqa: N802 - the name of the call
        self, request: trainer_service_pb2.StartRunRequest, context: grpc.ServicerContext
    ) -> trainer_service_pb2.StartRunResponse:
        """Ask for a run; see the protocol. Raises as ``TrainingController.start_run``."""
        del context
        with _counted("start_run"):
            recipe = recipe_from_text(request.recipe) if request.recipe else None
            loss = loss_from_text(request.loss) if request.loss else None
            run = self._controller.start_run(request.alias, request.actor, request.note, recipe, loss)
            return trainer_service_pb2.StartRunResponse(run=run_to_message(run))

    def WatchRun(  # noqa: N802
        self, request: trainer_service_pb2.WatchRunRequest, context: grpc.ServicerContext
    ) -> Iterator[trainer_service_pb2.WatchRunResponse]:
        """Send a run after every change; see the protocol.

        Raises:
            InvalidInputError: For an id that is none.
            NotFoundError: If it is not on record.
            BusyError: While too many follow runs.
            UnavailableError: While the record is away.
        """
        with _counted("watch_run"):
            validate_run_id(request.run_id)
            if not self._watching.acquire(blocking=False):
                raise BusyError("a run is followed by so many at once that calls could not be answered")
            try:
                for run in self._book.follow(request.run_id, lambda: self._closing.is_set() or not context.is_active()):
                    yield trainer_service_pb2.WatchRunResponse(run=run_to_message(run))
            finally:
                self._watching.release()

    def ListRuns(  # noqa: N802
        self, request: trainer_service_pb2.ListRunsRequest, context: grpc.ServicerContext
    ) -> trainer_service_pb2.ListRunsResponse:
        """List runs; see the protocol.

        Raises:
            InvalidInputError: For what breaks a rule.
            UnavailableError: While the record is away.
        """
        del context
        with _counted("list_runs"):
            if not 0 <= request.page_size <= MAX_PAGE_SIZE:
                raise InvalidInputError(
                    f"page_size must be 1 to {MAX_PAGE_SIZE}, or 0 for {DEFAULT_PAGE_SIZE}, got {request.page_size}"
                )
            alias = validate_alias(request.alias) if request.alias else ""
            author = validate_reviewer(request.author) if request.author else ""
            runs, token = self._book.page(
                alias=alias, author=author, limit=request.page_size or DEFAULT_PAGE_SIZE, token=request.page_token
            )
            aliases = [alias] if alias else self._controller.aliases()
            return trainer_service_pb2.ListRunsResponse(
                runs=[run_to_message(_without_parts(run)) for run in runs],
                next_page_token=token,
                new_reviews={one: self._controller.new_reviews(one) for one in aliases},
                reviews_wanted=self._reviews_wanted,
            )

    def GetRun(  # noqa: N802
        self, request: trainer_service_pb2.GetRunRequest, context: grpc.ServicerContext
    ) -> trainer_service_pb2.GetRunResponse:
        """Give one run whole; see the protocol. Raises as ``RunBook.get``."""
        del context
        with _counted("get_run"):
            run = self._book.get(validate_run_id(request.run_id))
            return trainer_service_pb2.GetRunResponse(run=run_to_message(run))

    def CancelRun(  # noqa: N802
        self, request: trainer_service_pb2.CancelRunRequest, context: grpc.ServicerContext
    ) -> trainer_service_pb2.CancelRunResponse:
        """End a run before its version is live; see the protocol. Raises as ``TrainingController.cancel_run``."""
        del context
        with _counted("cancel_run"):
            run = self._controller.cancel_run(validate_run_id(request.run_id), request.actor)
            return trainer_service_pb2.CancelRunResponse(run=run_to_message(run))

    def ResumeRun(  # noqa: N802
        self, request: trainer_service_pb2.ResumeRunRequest, context: grpc.ServicerContext
    ) -> trainer_service_pb2.ResumeRunResponse:
        """Go on with a run; see the protocol. Raises as ``TrainingController.resume_run``."""
        del context
        with _counted("resume_run"):
            run = self._controller.resume_run(validate_run_id(request.run_id), request.actor)
            return trainer_service_pb2.ResumeRunResponse(run=run_to_message(run))

    def Promote(  # noqa: N802
        self, request: trainer_service_pb2.PromoteRequest, context: grpc.ServicerContext
    ) -> trainer_service_pb2.PromoteResponse:
        """Make a version live; see the protocol. Raises as ``Promoter.promote``."""
        del context
        with _counted("promote"):
            state = self._promoter.promote(
                request.alias, request.version, request.actor, request.note, despite_gates=request.despite_gates
            )
            self._controller.wake()
            return trainer_service_pb2.PromoteResponse(state=alias_state_to_message(state))

    def Rollback(  # noqa: N802
        self, request: trainer_service_pb2.RollbackRequest, context: grpc.ServicerContext
    ) -> trainer_service_pb2.RollbackResponse:
        """Make the previous version live again; see the protocol. Raises as ``Promoter.roll_back``."""
        del context
        with _counted("rollback"):
            state = self._promoter.roll_back(request.alias, request.actor, request.note)
            return trainer_service_pb2.RollbackResponse(state=alias_state_to_message(state))

    def CompareVersions(  # noqa: N802
        self, request: trainer_service_pb2.CompareVersionsRequest, context: grpc.ServicerContext
    ) -> trainer_service_pb2.CompareVersionsResponse:
        """Compare two versions; see the protocol.

        Raises:
            InvalidInputError: For what breaks a rule.
            NotFoundError: If there is no such version.
            BusyError: While another comparison goes on.
            UnavailableError: While the store is away.
        """
        del context
        with _counted("compare_versions"):
            alias = validate_alias(request.alias)
            versions = request.version, request.other_version
            if min(versions) < 1 or versions[0] == versions[1]:
                raise InvalidInputError(f"two versions from 1 on must be named, got {versions[0]} and {versions[1]}")
            if not self._comparing.acquire(blocking=False):
                raise BusyError("versions are compared one pair at a time, another comparison goes on")
            try:
                report = self._learner.compare(alias, *versions)
            finally:
                self._comparing.release()
            return trainer_service_pb2.CompareVersionsResponse(report=report_to_message(replace(report, answered=())))


def _without_parts(run: TrainingRun) -> TrainingRun:
    return replace(
        run,
        report=replace(run.report, flips=(), answered=()) if run.report else None,
        shadow=replace(run.shadow, flips=()) if run.shadow else None,
    )


@contextlib.contextmanager
def _counted(call: str) -> Iterator[None]:
    """Count a call once it has ended, as ok or by the reason of its error."""
    outcome = "failed"
    try:
        yield
        outcome = "ok"
    except SightlineError as error:
        outcome = error.reason
        raise
    finally:
        metrics.TRAINER_CALLS.labels(call, outcome).inc()
