from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_PASS: _ClassVar[Verdict]
    VERDICT_FAIL: _ClassVar[Verdict]
    VERDICT_REVIEW: _ClassVar[Verdict]

class VerdictReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_REASON_UNSPECIFIED: _ClassVar[VerdictReason]
    VERDICT_REASON_SCORE: _ClassVar[VerdictReason]
    VERDICT_REASON_UNSURE: _ClassVar[VerdictReason]
    VERDICT_REASON_UNREADABLE_IMAGE: _ClassVar[VerdictReason]
    VERDICT_REASON_DEADLINE_MISSED: _ClassVar[VerdictReason]
    VERDICT_REASON_DISAGREEMENT: _ClassVar[VerdictReason]

class CaseKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CASE_KIND_UNSPECIFIED: _ClassVar[CaseKind]
    CASE_KIND_FAIL: _ClassVar[CaseKind]
    CASE_KIND_REVIEW: _ClassVar[CaseKind]
    CASE_KIND_AUDIT: _ClassVar[CaseKind]
    CASE_KIND_NEIGHBOUR: _ClassVar[CaseKind]

class ExplanationStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPLANATION_STATUS_UNSPECIFIED: _ClassVar[ExplanationStatus]
    EXPLANATION_STATUS_DONE: _ClassVar[ExplanationStatus]
    EXPLANATION_STATUS_PARTIAL: _ClassVar[ExplanationStatus]
    EXPLANATION_STATUS_FAILED: _ClassVar[ExplanationStatus]

class ExplanationGrade(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPLANATION_GRADE_UNSPECIFIED: _ClassVar[ExplanationGrade]
    EXPLANATION_GRADE_A: _ClassVar[ExplanationGrade]
    EXPLANATION_GRADE_B: _ClassVar[ExplanationGrade]
    EXPLANATION_GRADE_C: _ClassVar[ExplanationGrade]
    EXPLANATION_GRADE_D: _ClassVar[ExplanationGrade]

class AliasAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ALIAS_ACTION_UNSPECIFIED: _ClassVar[AliasAction]
    ALIAS_ACTION_ADD: _ClassVar[AliasAction]
    ALIAS_ACTION_PROMOTE: _ClassVar[AliasAction]
    ALIAS_ACTION_ROLL_BACK: _ClassVar[AliasAction]
    ALIAS_ACTION_SHADOW: _ClassVar[AliasAction]
    ALIAS_ACTION_RETIRE: _ClassVar[AliasAction]

class Answer(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ANSWER_UNSPECIFIED: _ClassVar[Answer]
    ANSWER_YES: _ClassVar[Answer]
    ANSWER_NO: _ClassVar[Answer]
    ANSWER_NOT_SURE: _ClassVar[Answer]
    ANSWER_NOT_ASKED: _ClassVar[Answer]

class ReviewAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REVIEW_ACTION_UNSPECIFIED: _ClassVar[ReviewAction]
    REVIEW_ACTION_ANSWER: _ClassVar[ReviewAction]
    REVIEW_ACTION_SKIP: _ClassVar[ReviewAction]
    REVIEW_ACTION_UNDO: _ClassVar[ReviewAction]

class OutcomeReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_REASON_UNSPECIFIED: _ClassVar[OutcomeReason]
    OUTCOME_REASON_VIEWS: _ClassVar[OutcomeReason]
    OUTCOME_REASON_DEADLINE_MISSED: _ClassVar[OutcomeReason]
    OUTCOME_REASON_UNKNOWN_PRODUCT: _ClassVar[OutcomeReason]
    OUTCOME_REASON_OVERLOADED: _ClassVar[OutcomeReason]

class LineEventKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LINE_EVENT_KIND_UNSPECIFIED: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_TRIGGERED: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_TRIGGER_REFUSED: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_ANSWERED: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_ACKNOWLEDGED: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_ACK_MISSING: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_ACK_UNEXPECTED: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_RECIPE_CHANGED: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_RECIPE_REFUSED: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_HEARTBEAT_LOST: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_HEARTBEAT_BACK: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_CONNECTION_LOST: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_CONNECTION_BACK: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_UNDELIVERED: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_MALFORMED: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_SUPERSEDED: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_CLOCK_SKEW: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_ALARM_RAISED: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_ALARM_ACKNOWLEDGED: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_LIGHT_CHANGED: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_REFERENCE_BEGUN: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_REFERENCE_PART: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_REFERENCE_PASSED: _ClassVar[LineEventKind]
    LINE_EVENT_KIND_REFERENCE_FAILED: _ClassVar[LineEventKind]

class Light(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LIGHT_UNSPECIFIED: _ClassVar[Light]
    LIGHT_GREEN: _ClassVar[Light]
    LIGHT_AMBER: _ClassVar[Light]
    LIGHT_RED: _ClassVar[Light]
VERDICT_UNSPECIFIED: Verdict
VERDICT_PASS: Verdict
VERDICT_FAIL: Verdict
VERDICT_REVIEW: Verdict
VERDICT_REASON_UNSPECIFIED: VerdictReason
VERDICT_REASON_SCORE: VerdictReason
VERDICT_REASON_UNSURE: VerdictReason
VERDICT_REASON_UNREADABLE_IMAGE: VerdictReason
VERDICT_REASON_DEADLINE_MISSED: VerdictReason
VERDICT_REASON_DISAGREEMENT: VerdictReason
CASE_KIND_UNSPECIFIED: CaseKind
CASE_KIND_FAIL: CaseKind
CASE_KIND_REVIEW: CaseKind
CASE_KIND_AUDIT: CaseKind
CASE_KIND_NEIGHBOUR: CaseKind
EXPLANATION_STATUS_UNSPECIFIED: ExplanationStatus
EXPLANATION_STATUS_DONE: ExplanationStatus
EXPLANATION_STATUS_PARTIAL: ExplanationStatus
EXPLANATION_STATUS_FAILED: ExplanationStatus
EXPLANATION_GRADE_UNSPECIFIED: ExplanationGrade
EXPLANATION_GRADE_A: ExplanationGrade
EXPLANATION_GRADE_B: ExplanationGrade
EXPLANATION_GRADE_C: ExplanationGrade
EXPLANATION_GRADE_D: ExplanationGrade
ALIAS_ACTION_UNSPECIFIED: AliasAction
ALIAS_ACTION_ADD: AliasAction
ALIAS_ACTION_PROMOTE: AliasAction
ALIAS_ACTION_ROLL_BACK: AliasAction
ALIAS_ACTION_SHADOW: AliasAction
ALIAS_ACTION_RETIRE: AliasAction
ANSWER_UNSPECIFIED: Answer
ANSWER_YES: Answer
ANSWER_NO: Answer
ANSWER_NOT_SURE: Answer
ANSWER_NOT_ASKED: Answer
REVIEW_ACTION_UNSPECIFIED: ReviewAction
REVIEW_ACTION_ANSWER: ReviewAction
REVIEW_ACTION_SKIP: ReviewAction
REVIEW_ACTION_UNDO: ReviewAction
OUTCOME_REASON_UNSPECIFIED: OutcomeReason
OUTCOME_REASON_VIEWS: OutcomeReason
OUTCOME_REASON_DEADLINE_MISSED: OutcomeReason
OUTCOME_REASON_UNKNOWN_PRODUCT: OutcomeReason
OUTCOME_REASON_OVERLOADED: OutcomeReason
LINE_EVENT_KIND_UNSPECIFIED: LineEventKind
LINE_EVENT_KIND_TRIGGERED: LineEventKind
LINE_EVENT_KIND_TRIGGER_REFUSED: LineEventKind
LINE_EVENT_KIND_ANSWERED: LineEventKind
LINE_EVENT_KIND_ACKNOWLEDGED: LineEventKind
LINE_EVENT_KIND_ACK_MISSING: LineEventKind
LINE_EVENT_KIND_ACK_UNEXPECTED: LineEventKind
LINE_EVENT_KIND_RECIPE_CHANGED: LineEventKind
LINE_EVENT_KIND_RECIPE_REFUSED: LineEventKind
LINE_EVENT_KIND_HEARTBEAT_LOST: LineEventKind
LINE_EVENT_KIND_HEARTBEAT_BACK: LineEventKind
LINE_EVENT_KIND_CONNECTION_LOST: LineEventKind
LINE_EVENT_KIND_CONNECTION_BACK: LineEventKind
LINE_EVENT_KIND_UNDELIVERED: LineEventKind
LINE_EVENT_KIND_MALFORMED: LineEventKind
LINE_EVENT_KIND_SUPERSEDED: LineEventKind
LINE_EVENT_KIND_CLOCK_SKEW: LineEventKind
LINE_EVENT_KIND_ALARM_RAISED: LineEventKind
LINE_EVENT_KIND_ALARM_ACKNOWLEDGED: LineEventKind
LINE_EVENT_KIND_LIGHT_CHANGED: LineEventKind
LINE_EVENT_KIND_REFERENCE_BEGUN: LineEventKind
LINE_EVENT_KIND_REFERENCE_PART: LineEventKind
LINE_EVENT_KIND_REFERENCE_PASSED: LineEventKind
LINE_EVENT_KIND_REFERENCE_FAILED: LineEventKind
LIGHT_UNSPECIFIED: Light
LIGHT_GREEN: Light
LIGHT_AMBER: Light
LIGHT_RED: Light

class ImageRef(_message.Message):
    __slots__ = ("bucket", "key", "size_bytes", "sha256")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    key: str
    size_bytes: int
    sha256: str
    def __init__(self, bucket: _Optional[str] = ..., key: _Optional[str] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ...) -> None: ...

class RecordPosition(_message.Message):
    __slots__ = ("topic", "partition", "offset")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    offset: int
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("frame_id", "part_id", "line_id", "camera_id", "product", "sequence", "captured_at_ns", "cycle_time_ms", "source_item", "lot", "image", "image_ref")
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    LINE_ID_FIELD_NUMBER: _ClassVar[int]
    CAMERA_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    CYCLE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ITEM_FIELD_NUMBER: _ClassVar[int]
    LOT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_REF_FIELD_NUMBER: _ClassVar[int]
    frame_id: str
    part_id: str
    line_id: str
    camera_id: str
    product: str
    sequence: int
    captured_at_ns: int
    cycle_time_ms: int
    source_item: str
    lot: str
    image: bytes
    image_ref: ImageRef
    def __init__(self, frame_id: _Optional[str] = ..., part_id: _Optional[str] = ..., line_id: _Optional[str] = ..., camera_id: _Optional[str] = ..., product: _Optional[str] = ..., sequence: _Optional[int] = ..., captured_at_ns: _Optional[int] = ..., cycle_time_ms: _Optional[int] = ..., source_item: _Optional[str] = ..., lot: _Optional[str] = ..., image: _Optional[bytes] = ..., image_ref: _Optional[_Union[ImageRef, _Mapping]] = ...) -> None: ...

class OperatingPoint(_message.Message):
    __slots__ = ("threshold", "review_low", "review_high")
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    REVIEW_LOW_FIELD_NUMBER: _ClassVar[int]
    REVIEW_HIGH_FIELD_NUMBER: _ClassVar[int]
    threshold: float
    review_low: float
    review_high: float
    def __init__(self, threshold: _Optional[float] = ..., review_low: _Optional[float] = ..., review_high: _Optional[float] = ...) -> None: ...

class StageTimings(_message.Message):
    __slots__ = ("queue_ms", "fetch_ms", "decode_ms", "infer_ms", "total_ms")
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    FETCH_MS_FIELD_NUMBER: _ClassVar[int]
    DECODE_MS_FIELD_NUMBER: _ClassVar[int]
    INFER_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    queue_ms: float
    fetch_ms: float
    decode_ms: float
    infer_ms: float
    total_ms: float
    def __init__(self, queue_ms: _Optional[float] = ..., fetch_ms: _Optional[float] = ..., decode_ms: _Optional[float] = ..., infer_ms: _Optional[float] = ..., total_ms: _Optional[float] = ...) -> None: ...

class Inspection(_message.Message):
    __slots__ = ("frame_id", "part_id", "line_id", "camera_id", "product", "sequence", "captured_at_ns", "decided_at_ns", "verdict", "reason", "score", "operating_point", "uncertainty", "alias", "model_version", "defect_class", "cycle_time_ms", "in_time", "timings", "image_ref", "position", "detail", "trace_id", "disagreement")
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    LINE_ID_FIELD_NUMBER: _ClassVar[int]
    CAMERA_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    DECIDED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    OPERATING_POINT_FIELD_NUMBER: _ClassVar[int]
    UNCERTAINTY_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEFECT_CLASS_FIELD_NUMBER: _ClassVar[int]
    CYCLE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    IN_TIME_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_REF_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    DISAGREEMENT_FIELD_NUMBER: _ClassVar[int]
    frame_id: str
    part_id: str
    line_id: str
    camera_id: str
    product: str
    sequence: int
    captured_at_ns: int
    decided_at_ns: int
    verdict: Verdict
    reason: VerdictReason
    score: float
    operating_point: OperatingPoint
    uncertainty: float
    alias: str
    model_version: int
    defect_class: str
    cycle_time_ms: int
    in_time: bool
    timings: StageTimings
    image_ref: ImageRef
    position: RecordPosition
    detail: str
    trace_id: str
    disagreement: float
    def __init__(self, frame_id: _Optional[str] = ..., part_id: _Optional[str] = ..., line_id: _Optional[str] = ..., camera_id: _Optional[str] = ..., product: _Optional[str] = ..., sequence: _Optional[int] = ..., captured_at_ns: _Optional[int] = ..., decided_at_ns: _Optional[int] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., reason: _Optional[_Union[VerdictReason, str]] = ..., score: _Optional[float] = ..., operating_point: _Optional[_Union[OperatingPoint, _Mapping]] = ..., uncertainty: _Optional[float] = ..., alias: _Optional[str] = ..., model_version: _Optional[int] = ..., defect_class: _Optional[str] = ..., cycle_time_ms: _Optional[int] = ..., in_time: _Optional[bool] = ..., timings: _Optional[_Union[StageTimings, _Mapping]] = ..., image_ref: _Optional[_Union[ImageRef, _Mapping]] = ..., position: _Optional[_Union[RecordPosition, _Mapping]] = ..., detail: _Optional[str] = ..., trace_id: _Optional[str] = ..., disagreement: _Optional[float] = ...) -> None: ...

class FrameEmbedding(_message.Message):
    __slots__ = ("inspection", "embedding_f16")
    INSPECTION_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_F16_FIELD_NUMBER: _ClassVar[int]
    inspection: Inspection
    embedding_f16: bytes
    def __init__(self, inspection: _Optional[_Union[Inspection, _Mapping]] = ..., embedding_f16: _Optional[bytes] = ...) -> None: ...

class ShadowInspection(_message.Message):
    __slots__ = ("shadow", "live_verdict", "live_score", "live_version", "detail")
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    LIVE_VERDICT_FIELD_NUMBER: _ClassVar[int]
    LIVE_SCORE_FIELD_NUMBER: _ClassVar[int]
    LIVE_VERSION_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    shadow: Inspection
    live_verdict: Verdict
    live_score: float
    live_version: int
    detail: str
    def __init__(self, shadow: _Optional[_Union[Inspection, _Mapping]] = ..., live_verdict: _Optional[_Union[Verdict, str]] = ..., live_score: _Optional[float] = ..., live_version: _Optional[int] = ..., detail: _Optional[str] = ...) -> None: ...

class Case(_message.Message):
    __slots__ = ("case_id", "kind", "inspection", "sampling_probability", "image", "image_ref", "embedding_f16")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    INSPECTION_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_REF_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_F16_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    kind: CaseKind
    inspection: Inspection
    sampling_probability: float
    image: bytes
    image_ref: ImageRef
    embedding_f16: bytes
    def __init__(self, case_id: _Optional[str] = ..., kind: _Optional[_Union[CaseKind, str]] = ..., inspection: _Optional[_Union[Inspection, _Mapping]] = ..., sampling_probability: _Optional[float] = ..., image: _Optional[bytes] = ..., image_ref: _Optional[_Union[ImageRef, _Mapping]] = ..., embedding_f16: _Optional[bytes] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("method", "status", "reason", "detail", "target_class", "probability", "map_height", "map_width", "map_f16", "scale_low", "scale_high", "grade", "trust", "deletion_auc", "insertion_auc", "random_auc", "stability", "coverage", "passes", "seconds", "seed", "transplant")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    TARGET_CLASS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    MAP_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    MAP_WIDTH_FIELD_NUMBER: _ClassVar[int]
    MAP_F16_FIELD_NUMBER: _ClassVar[int]
    SCALE_LOW_FIELD_NUMBER: _ClassVar[int]
    SCALE_HIGH_FIELD_NUMBER: _ClassVar[int]
    GRADE_FIELD_NUMBER: _ClassVar[int]
    TRUST_FIELD_NUMBER: _ClassVar[int]
    DELETION_AUC_FIELD_NUMBER: _ClassVar[int]
    INSERTION_AUC_FIELD_NUMBER: _ClassVar[int]
    RANDOM_AUC_FIELD_NUMBER: _ClassVar[int]
    STABILITY_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    PASSES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TRANSPLANT_FIELD_NUMBER: _ClassVar[int]
    method: str
    status: ExplanationStatus
    reason: str
    detail: str
    target_class: str
    probability: float
    map_height: int
    map_width: int
    map_f16: bytes
    scale_low: float
    scale_high: float
    grade: ExplanationGrade
    trust: float
    deletion_auc: float
    insertion_auc: float
    random_auc: float
    stability: float
    coverage: float
    passes: int
    seconds: float
    seed: int
    transplant: float
    def __init__(self, method: _Optional[str] = ..., status: _Optional[_Union[ExplanationStatus, str]] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ..., target_class: _Optional[str] = ..., probability: _Optional[float] = ..., map_height: _Optional[int] = ..., map_width: _Optional[int] = ..., map_f16: _Optional[bytes] = ..., scale_low: _Optional[float] = ..., scale_high: _Optional[float] = ..., grade: _Optional[_Union[ExplanationGrade, str]] = ..., trust: _Optional[float] = ..., deletion_auc: _Optional[float] = ..., insertion_auc: _Optional[float] = ..., random_auc: _Optional[float] = ..., stability: _Optional[float] = ..., coverage: _Optional[float] = ..., passes: _Optional[int] = ..., seconds: _Optional[float] = ..., seed: _Optional[int] = ..., transplant: _Optional[float] = ...) -> None: ...

class ExplainedCase(_message.Message):
    __slots__ = ("case", "explanations", "agreement", "explained_at_ns")
    CASE_FIELD_NUMBER: _ClassVar[int]
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    EXPLAINED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    case: Case
    explanations: _containers.RepeatedCompositeFieldContainer[Explanation]
    agreement: float
    explained_at_ns: int
    def __init__(self, case: _Optional[_Union[Case, _Mapping]] = ..., explanations: _Optional[_Iterable[_Union[Explanation, _Mapping]]] = ..., agreement: _Optional[float] = ..., explained_at_ns: _Optional[int] = ...) -> None: ...

class AliasState(_message.Message):
    __slots__ = ("alias", "revision", "live_version", "previous_version", "shadow_version", "candidate_versions", "action", "actor", "at_ns", "note")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    LIVE_VERSION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_VERSION_FIELD_NUMBER: _ClassVar[int]
    SHADOW_VERSION_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    alias: str
    revision: int
    live_version: int
    previous_version: int
    shadow_version: int
    candidate_versions: _containers.RepeatedScalarFieldContainer[int]
    action: AliasAction
    actor: str
    at_ns: int
    note: str
    def __init__(self, alias: _Optional[str] = ..., revision: _Optional[int] = ..., live_version: _Optional[int] = ..., previous_version: _Optional[int] = ..., shadow_version: _Optional[int] = ..., candidate_versions: _Optional[_Iterable[int]] = ..., action: _Optional[_Union[AliasAction, str]] = ..., actor: _Optional[str] = ..., at_ns: _Optional[int] = ..., note: _Optional[str] = ...) -> None: ...

class AreaPoint(_message.Message):
    __slots__ = ("x_px", "y_px")
    X_PX_FIELD_NUMBER: _ClassVar[int]
    Y_PX_FIELD_NUMBER: _ClassVar[int]
    x_px: float
    y_px: float
    def __init__(self, x_px: _Optional[float] = ..., y_px: _Optional[float] = ...) -> None: ...

class Review(_message.Message):
    __slots__ = ("review_id", "case_id", "frame_id", "action", "verdict_right", "reason_right", "corrected_verdict", "defect_class", "mask_ref", "mask_pixels", "area", "note", "reviewer", "reviewed_at_ns", "said_at_ns", "alias", "model_version", "shown_method", "supersedes", "disagrees_with")
    REVIEW_ID_FIELD_NUMBER: _ClassVar[int]
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    VERDICT_RIGHT_FIELD_NUMBER: _ClassVar[int]
    REASON_RIGHT_FIELD_NUMBER: _ClassVar[int]
    CORRECTED_VERDICT_FIELD_NUMBER: _ClassVar[int]
    DEFECT_CLASS_FIELD_NUMBER: _ClassVar[int]
    MASK_REF_FIELD_NUMBER: _ClassVar[int]
    MASK_PIXELS_FIELD_NUMBER: _ClassVar[int]
    AREA_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    REVIEWER_FIELD_NUMBER: _ClassVar[int]
    REVIEWED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    SAID_AT_NS_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SHOWN_METHOD_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDES_FIELD_NUMBER: _ClassVar[int]
    DISAGREES_WITH_FIELD_NUMBER: _ClassVar[int]
    review_id: str
    case_id: str
    frame_id: str
    action: ReviewAction
    verdict_right: Answer
    reason_right: Answer
    corrected_verdict: Verdict
    defect_class: str
    mask_ref: ImageRef
    mask_pixels: int
    area: _containers.RepeatedCompositeFieldContainer[AreaPoint]
    note: str
    reviewer: str
    reviewed_at_ns: int
    said_at_ns: int
    alias: str
    model_version: int
    shown_method: str
    supersedes: str
    disagrees_with: str
    def __init__(self, review_id: _Optional[str] = ..., case_id: _Optional[str] = ..., frame_id: _Optional[str] = ..., action: _Optional[_Union[ReviewAction, str]] = ..., verdict_right: _Optional[_Union[Answer, str]] = ..., reason_right: _Optional[_Union[Answer, str]] = ..., corrected_verdict: _Optional[_Union[Verdict, str]] = ..., defect_class: _Optional[str] = ..., mask_ref: _Optional[_Union[ImageRef, _Mapping]] = ..., mask_pixels: _Optional[int] = ..., area: _Optional[_Iterable[_Union[AreaPoint, _Mapping]]] = ..., note: _Optional[str] = ..., reviewer: _Optional[str] = ..., reviewed_at_ns: _Optional[int] = ..., said_at_ns: _Optional[int] = ..., alias: _Optional[str] = ..., model_version: _Optional[int] = ..., shown_method: _Optional[str] = ..., supersedes: _Optional[str] = ..., disagrees_with: _Optional[str] = ...) -> None: ...

class Arrival(_message.Message):
    __slots__ = ("part_id", "line_id", "product", "lot", "arrived_at_ns", "cycle_time_ms", "camera_id", "frame_id", "refusal")
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    LINE_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    LOT_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    CYCLE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    CAMERA_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    part_id: str
    line_id: str
    product: str
    lot: str
    arrived_at_ns: int
    cycle_time_ms: int
    camera_id: str
    frame_id: str
    refusal: str
    def __init__(self, part_id: _Optional[str] = ..., line_id: _Optional[str] = ..., product: _Optional[str] = ..., lot: _Optional[str] = ..., arrived_at_ns: _Optional[int] = ..., cycle_time_ms: _Optional[int] = ..., camera_id: _Optional[str] = ..., frame_id: _Optional[str] = ..., refusal: _Optional[str] = ...) -> None: ...

class OutcomeView(_message.Message):
    __slots__ = ("camera_id", "frame_id", "verdict", "reason", "score", "defect_class", "alias", "model_version", "captured_at_ns", "decided_at_ns", "expected")
    CAMERA_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    DEFECT_CLASS_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    DECIDED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    camera_id: str
    frame_id: str
    verdict: Verdict
    reason: VerdictReason
    score: float
    defect_class: str
    alias: str
    model_version: int
    captured_at_ns: int
    decided_at_ns: int
    expected: bool
    def __init__(self, camera_id: _Optional[str] = ..., frame_id: _Optional[str] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., reason: _Optional[_Union[VerdictReason, str]] = ..., score: _Optional[float] = ..., defect_class: _Optional[str] = ..., alias: _Optional[str] = ..., model_version: _Optional[int] = ..., captured_at_ns: _Optional[int] = ..., decided_at_ns: _Optional[int] = ..., expected: _Optional[bool] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("outcome_id", "part_id", "line_id", "product", "lot", "revision", "verdict", "reason", "in_time", "views", "missing_cameras", "began_at_ns", "deadline_at_ns", "decided_at_ns", "defect_class", "detail")
    OUTCOME_ID_FIELD_NUMBER: _ClassVar[int]
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    LINE_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    LOT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IN_TIME_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    MISSING_CAMERAS_FIELD_NUMBER: _ClassVar[int]
    BEGAN_AT_NS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_AT_NS_FIELD_NUMBER: _ClassVar[int]
    DECIDED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    DEFECT_CLASS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    outcome_id: str
    part_id: str
    line_id: str
    product: str
    lot: str
    revision: int
    verdict: Verdict
    reason: OutcomeReason
    in_time: bool
    views: _containers.RepeatedCompositeFieldContainer[OutcomeView]
    missing_cameras: _containers.RepeatedScalarFieldContainer[str]
    began_at_ns: int
    deadline_at_ns: int
    decided_at_ns: int
    defect_class: str
    detail: str
    def __init__(self, outcome_id: _Optional[str] = ..., part_id: _Optional[str] = ..., line_id: _Optional[str] = ..., product: _Optional[str] = ..., lot: _Optional[str] = ..., revision: _Optional[int] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., reason: _Optional[_Union[OutcomeReason, str]] = ..., in_time: _Optional[bool] = ..., views: _Optional[_Iterable[_Union[OutcomeView, _Mapping]]] = ..., missing_cameras: _Optional[_Iterable[str]] = ..., began_at_ns: _Optional[int] = ..., deadline_at_ns: _Optional[int] = ..., decided_at_ns: _Optional[int] = ..., defect_class: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class LineEvent(_message.Message):
    __slots__ = ("event_id", "line_id", "at_ns", "kind", "connection", "part_id", "revision", "verdict", "error_code", "product", "lot", "actor", "detail", "alarm_id", "light")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    LINE_ID_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    LOT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    ALARM_ID_FIELD_NUMBER: _ClassVar[int]
    LIGHT_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    line_id: str
    at_ns: int
    kind: LineEventKind
    connection: str
    part_id: str
    revision: int
    verdict: Verdict
    error_code: int
    product: str
    lot: str
    actor: str
    detail: str
    alarm_id: str
    light: Light
    def __init__(self, event_id: _Optional[str] = ..., line_id: _Optional[str] = ..., at_ns: _Optional[int] = ..., kind: _Optional[_Union[LineEventKind, str]] = ..., connection: _Optional[str] = ..., part_id: _Optional[str] = ..., revision: _Optional[int] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., error_code: _Optional[int] = ..., product: _Optional[str] = ..., lot: _Optional[str] = ..., actor: _Optional[str] = ..., detail: _Optional[str] = ..., alarm_id: _Optional[str] = ..., light: _Optional[_Union[Light, str]] = ...) -> None: ...
