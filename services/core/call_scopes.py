"""Which scope a machine's token needs for which call; a call that is not listed is refused."""

from __future__ import annotations

import enum
from typing import Final


class Scope(enum.StrEnum):
    """What a token permits."""

    INGEST_PUSH = "ingest.push"
    INGEST_TRIGGER = "ingest.trigger"
    DETECTOR_INSPECT = "detector.inspect"
    EXPLAINER_EXPLAIN = "explainer.explain"
    FEEDBACK_READ = "feedback.read"
    FEEDBACK_WRITE = "feedback.write"
    TRAINER_READ = "trainer.read"
    TRAINER_WRITE = "trainer.write"
    OUTCOME_READ = "outcome.read"
    OUTCOME_WRITE = "outcome.write"
    SERVING_READ = "serving.read"
    SERVING_WRITE = "serving.write"


#: By full method name. Nothing needs ``serving.write`` yet: the agent is told by the topic of models alone.
CALL_SCOPES: Final[dict[str, Scope]] = {
    f"/sightline.v1.{method}": scope
    for method, scope in {
        "CaseSearchService/FindCases": Scope.FEEDBACK_READ,
        "ChangesService/ListChanges": Scope.FEEDBACK_READ,
        "ChangesService/GetChange": Scope.FEEDBACK_READ,
        "DetectorService/Inspect": Scope.DETECTOR_INSPECT,
        "ExplainerService/Explain": Scope.EXPLAINER_EXPLAIN,
        "ExportService/Export": Scope.FEEDBACK_READ,
        "FeedbackService/ListQueue": Scope.FEEDBACK_READ,
        "FeedbackService/GetCase": Scope.FEEDBACK_READ,
        "FeedbackService/ClaimCase": Scope.FEEDBACK_WRITE,
        "FeedbackService/SubmitReview": Scope.FEEDBACK_WRITE,
        "FeedbackService/UndoReview": Scope.FEEDBACK_WRITE,
        "FeedbackService/ListReviews": Scope.FEEDBACK_READ,
        "FeedbackService/GetStats": Scope.FEEDBACK_READ,
        "FeedbackService/Neighbours": Scope.FEEDBACK_READ,
        "IngestService/Publish": Scope.INGEST_PUSH,
        "IngestService/Trigger": Scope.INGEST_TRIGGER,
        "OutcomeService/GetLines": Scope.OUTCOME_READ,
        "OutcomeService/WatchOutcomes": Scope.OUTCOME_READ,
        "OutcomeService/TriggerPart": Scope.OUTCOME_WRITE,
        "OutcomeService/AcknowledgeAlarm": Scope.OUTCOME_WRITE,
        "OutcomeService/BeginReferenceCheck": Scope.OUTCOME_WRITE,
        "ServingService/GetStatus": Scope.SERVING_READ,
        "StatisticsService/GetStatistics": Scope.FEEDBACK_READ,
        "StatisticsService/GetShifts": Scope.FEEDBACK_READ,
        "TrainerService/StartRun": Scope.TRAINER_WRITE,
        "TrainerService/WatchRun": Scope.TRAINER_READ,
        "TrainerService/ListRuns": Scope.TRAINER_READ,
        "TrainerService/GetRun": Scope.TRAINER_READ,
        "TrainerService/CancelRun": Scope.TRAINER_WRITE,
        "TrainerService/ResumeRun": Scope.TRAINER_WRITE,
        "TrainerService/Promote": Scope.TRAINER_WRITE,
        "TrainerService/Rollback": Scope.TRAINER_WRITE,
        "TrainerService/CompareVersions": Scope.TRAINER_READ,
    }.items()
}

#: Probes carry no token, and health tells nothing but that.
OPEN_SERVICES: Final = frozenset({"grpc.health.v1.Health"})
#: Tells which calls there are: to any machine that is known.
KNOWN_MACHINE_SERVICES: Final = frozenset(
    {"grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection"}
)


def service_of(method: str) -> str:
    """The full service name in ``/package.Service/Method``."""
    return method.strip("/").partition("/")[0]
