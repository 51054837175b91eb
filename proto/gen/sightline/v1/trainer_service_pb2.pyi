from sightline.v1 import events_pb2 as _events_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RunTrigger(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUN_TRIGGER_UNSPECIFIED: _ClassVar[RunTrigger]
    RUN_TRIGGER_REVIEWS: _ClassVar[RunTrigger]
    RUN_TRIGGER_SCHEDULE: _ClassVar[RunTrigger]
    RUN_TRIGGER_HAND: _ClassVar[RunTrigger]

class RunStage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUN_STAGE_UNSPECIFIED: _ClassVar[RunStage]
    RUN_STAGE_WAITING: _ClassVar[RunStage]
    RUN_STAGE_SNAPSHOT: _ClassVar[RunStage]
    RUN_STAGE_TRAINING: _ClassVar[RunStage]
    RUN_STAGE_EVALUATION: _ClassVar[RunStage]
    RUN_STAGE_REGISTERING: _ClassVar[RunStage]
    RUN_STAGE_SHADOW: _ClassVar[RunStage]
    RUN_STAGE_DECISION: _ClassVar[RunStage]
    RUN_STAGE_WATCH: _ClassVar[RunStage]
    RUN_STAGE_ENDED: _ClassVar[RunStage]

class RunOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUN_OUTCOME_UNSPECIFIED: _ClassVar[RunOutcome]
    RUN_OUTCOME_PROMOTED: _ClassVar[RunOutcome]
    RUN_OUTCOME_REFUSED: _ClassVar[RunOutcome]
    RUN_OUTCOME_CANCELLED: _ClassVar[RunOutcome]
    RUN_OUTCOME_FAILED: _ClassVar[RunOutcome]
    RUN_OUTCOME_ROLLED_BACK: _ClassVar[RunOutcome]

class GateState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GATE_STATE_UNSPECIFIED: _ClassVar[GateState]
    GATE_STATE_KEPT: _ClassVar[GateState]
    GATE_STATE_BROKEN: _ClassVar[GateState]
    GATE_STATE_NOT_MEASURED: _ClassVar[GateState]
RUN_TRIGGER_UNSPECIFIED: RunTrigger
RUN_TRIGGER_REVIEWS: RunTrigger
RUN_TRIGGER_SCHEDULE: RunTrigger
RUN_TRIGGER_HAND: RunTrigger
RUN_STAGE_UNSPECIFIED: RunStage
RUN_STAGE_WAITING: RunStage
RUN_STAGE_SNAPSHOT: RunStage
RUN_STAGE_TRAINING: RunStage
RUN_STAGE_EVALUATION: RunStage
RUN_STAGE_REGISTERING: RunStage
RUN_STAGE_SHADOW: RunStage
RUN_STAGE_DECISION: RunStage
RUN_STAGE_WATCH: RunStage
RUN_STAGE_ENDED: RunStage
RUN_OUTCOME_UNSPECIFIED: RunOutcome
RUN_OUTCOME_PROMOTED: RunOutcome
RUN_OUTCOME_REFUSED: RunOutcome
RUN_OUTCOME_CANCELLED: RunOutcome
RUN_OUTCOME_FAILED: RunOutcome
RUN_OUTCOME_ROLLED_BACK: RunOutcome
GATE_STATE_UNSPECIFIED: GateState
GATE_STATE_KEPT: GateState
GATE_STATE_BROKEN: GateState
GATE_STATE_NOT_MEASURED: GateState

class Gate(_message.Message):
    __slots__ = ("name", "state", "live", "candidate", "bound", "low", "high", "parts")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: GateState
    live: float
    candidate: float
    bound: float
    low: float
    high: float
    parts: int
    def __init__(self, name: _Optional[str] = ..., state: _Optional[_Union[GateState, str]] = ..., live: _Optional[float] = ..., candidate: _Optional[float] = ..., bound: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., parts: _Optional[int] = ...) -> None: ...

class EpochLoss(_message.Message):
    __slots__ = ("epoch", "train_loss", "validation_loss", "distance")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TRAIN_LOSS_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_LOSS_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    train_loss: float
    validation_loss: float
    distance: float
    def __init__(self, epoch: _Optional[int] = ..., train_loss: _Optional[float] = ..., validation_loss: _Optional[float] = ..., distance: _Optional[float] = ...) -> None: ...

class Confusion(_message.Message):
    __slots__ = ("good_pass", "good_review", "good_fail", "defective_pass", "defective_review", "defective_fail")
    GOOD_PASS_FIELD_NUMBER: _ClassVar[int]
    GOOD_REVIEW_FIELD_NUMBER: _ClassVar[int]
    GOOD_FAIL_FIELD_NUMBER: _ClassVar[int]
    DEFECTIVE_PASS_FIELD_NUMBER: _ClassVar[int]
    DEFECTIVE_REVIEW_FIELD_NUMBER: _ClassVar[int]
    DEFECTIVE_FAIL_FIELD_NUMBER: _ClassVar[int]
    good_pass: int
    good_review: int
    good_fail: int
    defective_pass: int
    defective_review: int
    defective_fail: int
    def __init__(self, good_pass: _Optional[int] = ..., good_review: _Optional[int] = ..., good_fail: _Optional[int] = ..., defective_pass: _Optional[int] = ..., defective_review: _Optional[int] = ..., defective_fail: _Optional[int] = ...) -> None: ...

class FlippedPart(_message.Message):
    __slots__ = ("part_id", "frame_id", "product", "label", "before", "after", "before_score", "after_score")
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    BEFORE_SCORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_SCORE_FIELD_NUMBER: _ClassVar[int]
    part_id: str
    frame_id: str
    product: str
    label: str
    before: _events_pb2.Verdict
    after: _events_pb2.Verdict
    before_score: float
    after_score: float
    def __init__(self, part_id: _Optional[str] = ..., frame_id: _Optional[str] = ..., product: _Optional[str] = ..., label: _Optional[str] = ..., before: _Optional[_Union[_events_pb2.Verdict, str]] = ..., after: _Optional[_Union[_events_pb2.Verdict, str]] = ..., before_score: _Optional[float] = ..., after_score: _Optional[float] = ...) -> None: ...

class AnsweredPart(_message.Message):
    __slots__ = ("image_sha256", "part_id", "case_ids", "review_ids", "reviewers", "label", "verdict", "score", "verdict_corrected", "verdict_right", "region_corrected", "region_right")
    IMAGE_SHA256_FIELD_NUMBER: _ClassVar[int]
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    CASE_IDS_FIELD_NUMBER: _ClassVar[int]
    REVIEW_IDS_FIELD_NUMBER: _ClassVar[int]
    REVIEWERS_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_CORRECTED_FIELD_NUMBER: _ClassVar[int]
    VERDICT_RIGHT_FIELD_NUMBER: _ClassVar[int]
    REGION_CORRECTED_FIELD_NUMBER: _ClassVar[int]
    REGION_RIGHT_FIELD_NUMBER: _ClassVar[int]
    image_sha256: str
    part_id: str
    case_ids: _containers.RepeatedScalarFieldContainer[str]
    review_ids: _containers.RepeatedScalarFieldContainer[str]
    reviewers: _containers.RepeatedScalarFieldContainer[str]
    label: str
    verdict: _events_pb2.Verdict
    score: float
    verdict_corrected: bool
    verdict_right: bool
    region_corrected: bool
    region_right: bool
    def __init__(self, image_sha256: _Optional[str] = ..., part_id: _Optional[str] = ..., case_ids: _Optional[_Iterable[str]] = ..., review_ids: _Optional[_Iterable[str]] = ..., reviewers: _Optional[_Iterable[str]] = ..., label: _Optional[str] = ..., verdict: _Optional[_Union[_events_pb2.Verdict, str]] = ..., score: _Optional[float] = ..., verdict_corrected: _Optional[bool] = ..., verdict_right: _Optional[bool] = ..., region_corrected: _Optional[bool] = ..., region_right: _Optional[bool] = ...) -> None: ...

class CandidateReport(_message.Message):
    __slots__ = ("live_version", "gates", "live", "candidate", "flips", "answered", "train_parts", "lessons", "holdout_parts")
    LIVE_VERSION_FIELD_NUMBER: _ClassVar[int]
    GATES_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    FLIPS_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    TRAIN_PARTS_FIELD_NUMBER: _ClassVar[int]
    LESSONS_FIELD_NUMBER: _ClassVar[int]
    HOLDOUT_PARTS_FIELD_NUMBER: _ClassVar[int]
    live_version: int
    gates: _containers.RepeatedCompositeFieldContainer[Gate]
    live: Confusion
    candidate: Confusion
    flips: _containers.RepeatedCompositeFieldContainer[FlippedPart]
    answered: _containers.RepeatedCompositeFieldContainer[AnsweredPart]
    train_parts: int
    lessons: int
    holdout_parts: int
    def __init__(self, live_version: _Optional[int] = ..., gates: _Optional[_Iterable[_Union[Gate, _Mapping]]] = ..., live: _Optional[_Union[Confusion, _Mapping]] = ..., candidate: _Optional[_Union[Confusion, _Mapping]] = ..., flips: _Optional[_Iterable[_Union[FlippedPart, _Mapping]]] = ..., answered: _Optional[_Iterable[_Union[AnsweredPart, _Mapping]]] = ..., train_parts: _Optional[int] = ..., lessons: _Optional[int] = ..., holdout_parts: _Optional[int] = ...) -> None: ...

class SnapshotSummary(_message.Message):
    __slots__ = ("digest", "parts", "good", "reviews", "contradicted", "left_out")
    class LeftOutEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    GOOD_FIELD_NUMBER: _ClassVar[int]
    REVIEWS_FIELD_NUMBER: _ClassVar[int]
    CONTRADICTED_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    digest: str
    parts: int
    good: int
    reviews: int
    contradicted: int
    left_out: _containers.ScalarMap[str, int]
    def __init__(self, digest: _Optional[str] = ..., parts: _Optional[int] = ..., good: _Optional[int] = ..., reviews: _Optional[int] = ..., contradicted: _Optional[int] = ..., left_out: _Optional[_Mapping[str, int]] = ...) -> None: ...

class ShadowFigures(_message.Message):
    __slots__ = ("frames", "wanted", "failed", "agreed", "live_flagged", "candidate_flagged", "flips")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    AGREED_FIELD_NUMBER: _ClassVar[int]
    LIVE_FLAGGED_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FLAGGED_FIELD_NUMBER: _ClassVar[int]
    FLIPS_FIELD_NUMBER: _ClassVar[int]
    frames: int
    wanted: int
    failed: int
    agreed: int
    live_flagged: int
    candidate_flagged: int
    flips: _containers.RepeatedCompositeFieldContainer[FlippedPart]
    def __init__(self, frames: _Optional[int] = ..., wanted: _Optional[int] = ..., failed: _Optional[int] = ..., agreed: _Optional[int] = ..., live_flagged: _Optional[int] = ..., candidate_flagged: _Optional[int] = ..., flips: _Optional[_Iterable[_Union[FlippedPart, _Mapping]]] = ...) -> None: ...

class WatchFigures(_message.Message):
    __slots__ = ("frames", "flagged", "late", "before_frames", "before_flagged", "before_late", "until_ns")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    FLAGGED_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FRAMES_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FLAGGED_FIELD_NUMBER: _ClassVar[int]
    BEFORE_LATE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_NS_FIELD_NUMBER: _ClassVar[int]
    frames: int
    flagged: int
    late: int
    before_frames: int
    before_flagged: int
    before_late: int
    until_ns: int
    def __init__(self, frames: _Optional[int] = ..., flagged: _Optional[int] = ..., late: _Optional[int] = ..., before_frames: _Optional[int] = ..., before_flagged: _Optional[int] = ..., before_late: _Optional[int] = ..., until_ns: _Optional[int] = ...) -> None: ...

class TrainingRun(_message.Message):
    __slots__ = ("run_id", "alias", "trigger", "actor", "note", "requested_at_ns", "stage_since_ns", "ended_at_ns", "stage", "outcome", "reason", "detail", "share", "doing", "recipe", "loss", "seed", "live_version", "candidate_version", "snapshot", "epochs", "report", "shadow", "watch", "authors", "promotes_itself", "attempts")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    STAGE_SINCE_NS_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    DOING_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    LIVE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_VERSION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    WATCH_FIELD_NUMBER: _ClassVar[int]
    AUTHORS_FIELD_NUMBER: _ClassVar[int]
    PROMOTES_ITSELF_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    alias: str
    trigger: RunTrigger
    actor: str
    note: str
    requested_at_ns: int
    stage_since_ns: int
    ended_at_ns: int
    stage: RunStage
    outcome: RunOutcome
    reason: str
    detail: str
    share: float
    doing: str
    recipe: str
    loss: str
    seed: int
    live_version: int
    candidate_version: int
    snapshot: SnapshotSummary
    epochs: _containers.RepeatedCompositeFieldContainer[EpochLoss]
    report: CandidateReport
    shadow: ShadowFigures
    watch: WatchFigures
    authors: _containers.RepeatedScalarFieldContainer[str]
    promotes_itself: bool
    attempts: int
    def __init__(self, run_id: _Optional[str] = ..., alias: _Optional[str] = ..., trigger: _Optional[_Union[RunTrigger, str]] = ..., actor: _Optional[str] = ..., note: _Optional[str] = ..., requested_at_ns: _Optional[int] = ..., stage_since_ns: _Optional[int] = ..., ended_at_ns: _Optional[int] = ..., stage: _Optional[_Union[RunStage, str]] = ..., outcome: _Optional[_Union[RunOutcome, str]] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ..., share: _Optional[float] = ..., doing: _Optional[str] = ..., recipe: _Optional[str] = ..., loss: _Optional[str] = ..., seed: _Optional[int] = ..., live_version: _Optional[int] = ..., candidate_version: _Optional[int] = ..., snapshot: _Optional[_Union[SnapshotSummary, _Mapping]] = ..., epochs: _Optional[_Iterable[_Union[EpochLoss, _Mapping]]] = ..., report: _Optional[_Union[CandidateReport, _Mapping]] = ..., shadow: _Optional[_Union[ShadowFigures, _Mapping]] = ..., watch: _Optional[_Union[WatchFigures, _Mapping]] = ..., authors: _Optional[_Iterable[str]] = ..., promotes_itself: _Optional[bool] = ..., attempts: _Optional[int] = ...) -> None: ...

class StartRunRequest(_message.Message):
    __slots__ = ("alias", "actor", "note", "recipe", "loss")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    alias: str
    actor: str
    note: str
    recipe: str
    loss: str
    def __init__(self, alias: _Optional[str] = ..., actor: _Optional[str] = ..., note: _Optional[str] = ..., recipe: _Optional[str] = ..., loss: _Optional[str] = ...) -> None: ...

class StartRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: TrainingRun
    def __init__(self, run: _Optional[_Union[TrainingRun, _Mapping]] = ...) -> None: ...

class WatchRunRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class WatchRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: TrainingRun
    def __init__(self, run: _Optional[_Union[TrainingRun, _Mapping]] = ...) -> None: ...

class ListRunsRequest(_message.Message):
    __slots__ = ("alias", "author", "page_size", "page_token")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    alias: str
    author: str
    page_size: int
    page_token: str
    def __init__(self, alias: _Optional[str] = ..., author: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRunsResponse(_message.Message):
    __slots__ = ("runs", "next_page_token", "new_reviews", "reviews_wanted")
    class NewReviewsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    RUNS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    NEW_REVIEWS_FIELD_NUMBER: _ClassVar[int]
    REVIEWS_WANTED_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[TrainingRun]
    next_page_token: str
    new_reviews: _containers.ScalarMap[str, int]
    reviews_wanted: int
    def __init__(self, runs: _Optional[_Iterable[_Union[TrainingRun, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., new_reviews: _Optional[_Mapping[str, int]] = ..., reviews_wanted: _Optional[int] = ...) -> None: ...

class GetRunRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class GetRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: TrainingRun
    def __init__(self, run: _Optional[_Union[TrainingRun, _Mapping]] = ...) -> None: ...

class CancelRunRequest(_message.Message):
    __slots__ = ("run_id", "actor")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    actor: str
    def __init__(self, run_id: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class CancelRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: TrainingRun
    def __init__(self, run: _Optional[_Union[TrainingRun, _Mapping]] = ...) -> None: ...

class ResumeRunRequest(_message.Message):
    __slots__ = ("run_id", "actor")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    actor: str
    def __init__(self, run_id: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class ResumeRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: TrainingRun
    def __init__(self, run: _Optional[_Union[TrainingRun, _Mapping]] = ...) -> None: ...

class PromoteRequest(_message.Message):
    __slots__ = ("alias", "version", "actor", "note", "despite_gates")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    DESPITE_GATES_FIELD_NUMBER: _ClassVar[int]
    alias: str
    version: int
    actor: str
    note: str
    despite_gates: bool
    def __init__(self, alias: _Optional[str] = ..., version: _Optional[int] = ..., actor: _Optional[str] = ..., note: _Optional[str] = ..., despite_gates: _Optional[bool] = ...) -> None: ...

class PromoteResponse(_message.Message):
    __slots__ = ("state",)
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: _events_pb2.AliasState
    def __init__(self, state: _Optional[_Union[_events_pb2.AliasState, _Mapping]] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ("alias", "actor", "note")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    alias: str
    actor: str
    note: str
    def __init__(self, alias: _Optional[str] = ..., actor: _Optional[str] = ..., note: _Optional[str] = ...) -> None: ...

class RollbackResponse(_message.Message):
    __slots__ = ("state",)
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: _events_pb2.AliasState
    def __init__(self, state: _Optional[_Union[_events_pb2.AliasState, _Mapping]] = ...) -> None: ...

class CompareVersionsRequest(_message.Message):
    __slots__ = ("alias", "version", "other_version")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OTHER_VERSION_FIELD_NUMBER: _ClassVar[int]
    alias: str
    version: int
    other_version: int
    def __init__(self, alias: _Optional[str] = ..., version: _Optional[int] = ..., other_version: _Optional[int] = ...) -> None: ...

class CompareVersionsResponse(_message.Message):
    __slots__ = ("report",)
    REPORT_FIELD_NUMBER: _ClassVar[int]
    report: CandidateReport
    def __init__(self, report: _Optional[_Union[CandidateReport, _Mapping]] = ...) -> None: ...
