"""Asks the trainer service: starts and follows runs, and changes which version decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
from sightline.v1 import trainer_service_pb2, trainer_service_pb2_grpc

from services.adapters.codec import alias_state_from_message
from services.adapters.codec_training import report_from_message, run_from_message
from services.adapters.grpcpeer import GrpcPeer
from services.core.training_run import CandidateReport, TrainingRun
from services.core.types import AliasState

# Some ten thousand parts of a hold-out.
_MAX_MESSAGE_BYTES: Final = 16_000_000
#: A comparison of two versions lets each answer the whole hold-out.
COMPARE_TIMEOUT_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class RunPage:
    """One page of runs, the newest first, without the parts of their reports."""

    runs: tuple[TrainingRun, ...]
    next_token: str
    """For the next page; empty where nothing follows."""
    new_reviews: Mapping[str, int]
    """Answers since the last run, by alias."""
    reviews_wanted: int
    """Answers after which a run begins by itself; 0 for never."""


class RunStream:
    """A run after each of its changes, until it has ended. ``cancel`` may be called from any thread."""

    def __init__(self, responses: Any, peer: GrpcPeer) -> None:
        self._responses = responses
        self._peer = peer
        self._cancelled = False

    def __iter__(self) -> Iterator[TrainingRun]:
        """Give the run as it is now, and after every change.

        Raises:
            NotFoundError: It is not on record.
            UnavailableError: The service does not answer, breaks off, or the deadline passed.
            EventDecodeError: An answer breaks a rule.
        """
        try:
            for response in self._responses:
                yield run_from_message(response.run)
        except grpc.RpcError as error:
            if not self._cancelled:
                raise self._peer.error(error) from error

    def cancel(self) -> None:
        """Look no longer; the run goes on. Idempotent."""
        self._cancelled = True
        self._responses.cancel()


class TrainerClient:
    """One trainer service. Thread-safe; connects when first asked and again after an outage.

    Every call raises:
        InvalidInputError: The service refuses what it was asked.
        NotFoundError: There is no such run, alias or version.
        ExistsError: The alias has a run.
        PreconditionError: It cannot be done as things stand.
        ConflictError: Somebody else was faster.
        BusyError: Too many callers wait.
        UnavailableError: The service does not answer in time, or fails.
        EventDecodeError: Its answer breaks a rule.
    """

    def __init__(self, address: str) -> None:
        """Set up; nothing is connected yet.

        Args:
            address: ``host:port``.
        """
        self._peer = GrpcPeer(address, "trainer service", max_message_bytes=_MAX_MESSAGE_BYTES)
        self._stub = trainer_service_pb2_grpc.TrainerServiceStub(self._peer.channel)  # type: ignore[no-untyped-call]

    def start_run(
        self, alias: str, actor: str, *, note: str = "", recipe: str = "", loss: str = "", timeout_s: float = 10.0
    ) -> TrainingRun:
        """Ask for a run now.

        Args:
            alias: Of which alias.
            actor: Who asks.
            note: Why; may be empty.
            recipe: ``head`` or ``finetune``; empty takes the trainer's setting.
            loss: ``ce`` or ``ceod``; empty takes the trainer's setting.
            timeout_s: Deadline.
        """
        request = trainer_service_pb2.StartRunRequest(alias=alias, actor=actor, note=note, recipe=recipe, loss=loss)
        return run_from_message(self._peer.ask(self._stub.StartRun, request, timeout_s).run)

    def watch_run(self, run_id: str, timeout_s: float | None = None) -> RunStream:
        """Follow a run; it goes on, whether anybody looks or not.

        Args:
            run_id: Which.
            timeout_s: Deadline of the whole stream; None for none.
        """
        request = trainer_service_pb2.WatchRunRequest(run_id=run_id)
        return RunStream(self._peer.ask(self._stub.WatchRun, request, timeout_s), self._peer)

    def list_runs(
        self, *, alias: str = "", author: str = "", limit: int = 0, token: str = "", timeout_s: float = 10.0
    ) -> RunPage:
        """One page of runs.

        Args:
            alias: Of which alias; empty takes all.
            author: Only those that carry answers of this person; empty takes all.
            limit: Most of them, 1 to 100; 0 leaves it to the service.
            token: Of an earlier page; empty for the first.
            timeout_s: Deadline.
        """
        request = trainer_service_pb2.ListRunsRequest(alias=alias, author=author, page_size=limit, page_token=token)
        response = self._peer.ask(self._stub.ListRuns, request, timeout_s)
        return RunPage(
            tuple(run_from_message(one) for one in response.runs),
            response.next_page_token,
            dict(response.new_reviews),
            response.reviews_wanted,
        )

    def get_run(self, run_id: str, timeout_s: float = 10.0) -> TrainingRun:
        """One run whole."""
        request = trainer_service_pb2.GetRunRequest(run_id=run_id)
        return run_from_message(self._peer.ask(self._stub.GetRun, request, timeout_s).run)

    def cancel_run(self, run_id: str, actor: str, timeout_s: float = 10.0) -> TrainingRun:
        """End a run before its version is live."""
        request = trainer_service_pb2.CancelRunRequest(run_id=run_id, actor=actor)
        return run_from_message(self._peer.ask(self._stub.CancelRun, request, timeout_s).run)

    def resume_run(self, run_id: str, actor: str, timeout_s: float = 10.0) -> TrainingRun:
        """Go on with a run that failed or was cancelled."""
        request = trainer_service_pb2.ResumeRunRequest(run_id=run_id, actor=actor)
        return run_from_message(self._peer.ask(self._stub.ResumeRun, request, timeout_s).run)

    def promote(
        self,
        alias: str,
        version: int,
        actor: str,
        *,
        note: str = "",
        despite_gates: bool = False,
        timeout_s: float = 30.0,
    ) -> AliasState:
        """Make a version live.

        Args:
            alias: Of which alias.
            version: Which.
            actor: Who asks.
            note: Why; must say so where gates are broken.
            despite_gates: Although gates are broken.
            timeout_s: Deadline.
        """
        request = trainer_service_pb2.PromoteRequest(
            alias=alias, version=version, actor=actor, note=note, despite_gates=despite_gates
        )
        return alias_state_from_message(self._peer.ask(self._stub.Promote, request, timeout_s).state)

    def roll_back(self, alias: str, actor: str, *, note: str = "", timeout_s: float = 30.0) -> AliasState:
        """Make the previous version live again."""
        request = trainer_service_pb2.RollbackRequest(alias=alias, actor=actor, note=note)
        return alias_state_from_message(self._peer.ask(self._stub.Rollback, request, timeout_s).state)

    def compare_versions(
        self, alias: str, version: int, other_version: int, timeout_s: float = COMPARE_TIMEOUT_S
    ) -> CandidateReport:
        """Compare two versions on the frozen hold-out of the first."""
        request = trainer_service_pb2.CompareVersionsRequest(alias=alias, version=version, other_version=other_version)
        return report_from_message(self._peer.ask(self._stub.CompareVersions, request, timeout_s).report)

    def close(self) -> None:
        """Cancel what is in flight and let go; idempotent."""
        self._peer.close()
