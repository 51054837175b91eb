from sightline.v1 import events_pb2 as _events_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChangeState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANGE_STATE_UNSPECIFIED: _ClassVar[ChangeState]
    CHANGE_STATE_COMPARING: _ClassVar[ChangeState]
    CHANGE_STATE_DONE: _ClassVar[ChangeState]
    CHANGE_STATE_SUPERSEDED: _ClassVar[ChangeState]

class CorrectionKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CORRECTION_KIND_UNSPECIFIED: _ClassVar[CorrectionKind]
    CORRECTION_KIND_VERDICT: _ClassVar[CorrectionKind]
    CORRECTION_KIND_DECISION: _ClassVar[CorrectionKind]
    CORRECTION_KIND_REASON: _ClassVar[CorrectionKind]

class PartOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PART_OUTCOME_UNSPECIFIED: _ClassVar[PartOutcome]
    PART_OUTCOME_NOW_RIGHT: _ClassVar[PartOutcome]
    PART_OUTCOME_STILL_RIGHT: _ClassVar[PartOutcome]
    PART_OUTCOME_ASKS: _ClassVar[PartOutcome]
    PART_OUTCOME_STILL_WRONG: _ClassVar[PartOutcome]
    PART_OUTCOME_NOW_WRONG: _ClassVar[PartOutcome]
CHANGE_STATE_UNSPECIFIED: ChangeState
CHANGE_STATE_COMPARING: ChangeState
CHANGE_STATE_DONE: ChangeState
CHANGE_STATE_SUPERSEDED: ChangeState
CORRECTION_KIND_UNSPECIFIED: CorrectionKind
CORRECTION_KIND_VERDICT: CorrectionKind
CORRECTION_KIND_DECISION: CorrectionKind
CORRECTION_KIND_REASON: CorrectionKind
PART_OUTCOME_UNSPECIFIED: PartOutcome
PART_OUTCOME_NOW_RIGHT: PartOutcome
PART_OUTCOME_STILL_RIGHT: PartOutcome
PART_OUTCOME_ASKS: PartOutcome
PART_OUTCOME_STILL_WRONG: PartOutcome
PART_OUTCOME_NOW_WRONG: PartOutcome

class PartVerdict(_message.Message):
    __slots__ = ("verdict", "score", "operating_point", "model_version", "defect_class")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    OPERATING_POINT_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEFECT_CLASS_FIELD_NUMBER: _ClassVar[int]
    verdict: _events_pb2.Verdict
    score: float
    operating_point: _events_pb2.OperatingPoint
    model_version: int
    defect_class: str
    def __init__(self, verdict: _Optional[_Union[_events_pb2.Verdict, str]] = ..., score: _Optional[float] = ..., operating_point: _Optional[_Union[_events_pb2.OperatingPoint, _Mapping]] = ..., model_version: _Optional[int] = ..., defect_class: _Optional[str] = ...) -> None: ...

class Correction(_message.Message):
    __slots__ = ("review_id", "reviewer", "kind", "settled", "defect_class", "reviewed_at_ns", "withdrawn")
    REVIEW_ID_FIELD_NUMBER: _ClassVar[int]
    REVIEWER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    DEFECT_CLASS_FIELD_NUMBER: _ClassVar[int]
    REVIEWED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    review_id: str
    reviewer: str
    kind: CorrectionKind
    settled: _events_pb2.Verdict
    defect_class: str
    reviewed_at_ns: int
    withdrawn: bool
    def __init__(self, review_id: _Optional[str] = ..., reviewer: _Optional[str] = ..., kind: _Optional[_Union[CorrectionKind, str]] = ..., settled: _Optional[_Union[_events_pb2.Verdict, str]] = ..., defect_class: _Optional[str] = ..., reviewed_at_ns: _Optional[int] = ..., withdrawn: _Optional[bool] = ...) -> None: ...

class ComparedPart(_message.Message):
    __slots__ = ("case_id", "part_id", "line_id", "camera_id", "captured_at_ns", "settled", "corrections", "before", "after", "outcome", "left_out")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    LINE_ID_FIELD_NUMBER: _ClassVar[int]
    CAMERA_ID_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    CORRECTIONS_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    part_id: str
    line_id: str
    camera_id: str
    captured_at_ns: int
    settled: _events_pb2.Verdict
    corrections: _containers.RepeatedCompositeFieldContainer[Correction]
    before: PartVerdict
    after: PartVerdict
    outcome: PartOutcome
    left_out: str
    def __init__(self, case_id: _Optional[str] = ..., part_id: _Optional[str] = ..., line_id: _Optional[str] = ..., camera_id: _Optional[str] = ..., captured_at_ns: _Optional[int] = ..., settled: _Optional[_Union[_events_pb2.Verdict, str]] = ..., corrections: _Optional[_Iterable[_Union[Correction, _Mapping]]] = ..., before: _Optional[_Union[PartVerdict, _Mapping]] = ..., after: _Optional[_Union[PartVerdict, _Mapping]] = ..., outcome: _Optional[_Union[PartOutcome, str]] = ..., left_out: _Optional[str] = ...) -> None: ...

class ComparedFrame(_message.Message):
    __slots__ = ("case_id", "sampling_probability", "before", "after", "left_out")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    sampling_probability: float
    before: _events_pb2.Verdict
    after: _events_pb2.Verdict
    left_out: str
    def __init__(self, case_id: _Optional[str] = ..., sampling_probability: _Optional[float] = ..., before: _Optional[_Union[_events_pb2.Verdict, str]] = ..., after: _Optional[_Union[_events_pb2.Verdict, str]] = ..., left_out: _Optional[str] = ...) -> None: ...

class FrameStratum(_message.Message):
    __slots__ = ("before", "cases", "frames")
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    CASES_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    before: _events_pb2.Verdict
    cases: int
    frames: float
    def __init__(self, before: _Optional[_Union[_events_pb2.Verdict, str]] = ..., cases: _Optional[int] = ..., frames: _Optional[float] = ...) -> None: ...

class ModelChange(_message.Message):
    __slots__ = ("alias", "revision", "live_version", "previous_version", "action", "actor", "at_ns", "note", "state", "parts", "frames", "strata", "frames_since_ns", "frames_until_ns", "began_at_ns", "ended_at_ns")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    LIVE_VERSION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_VERSION_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    STRATA_FIELD_NUMBER: _ClassVar[int]
    FRAMES_SINCE_NS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_UNTIL_NS_FIELD_NUMBER: _ClassVar[int]
    BEGAN_AT_NS_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    alias: str
    revision: int
    live_version: int
    previous_version: int
    action: _events_pb2.AliasAction
    actor: str
    at_ns: int
    note: str
    state: ChangeState
    parts: _containers.RepeatedCompositeFieldContainer[ComparedPart]
    frames: _containers.RepeatedCompositeFieldContainer[ComparedFrame]
    strata: _containers.RepeatedCompositeFieldContainer[FrameStratum]
    frames_since_ns: int
    frames_until_ns: int
    began_at_ns: int
    ended_at_ns: int
    def __init__(self, alias: _Optional[str] = ..., revision: _Optional[int] = ..., live_version: _Optional[int] = ..., previous_version: _Optional[int] = ..., action: _Optional[_Union[_events_pb2.AliasAction, str]] = ..., actor: _Optional[str] = ..., at_ns: _Optional[int] = ..., note: _Optional[str] = ..., state: _Optional[_Union[ChangeState, str]] = ..., parts: _Optional[_Iterable[_Union[ComparedPart, _Mapping]]] = ..., frames: _Optional[_Iterable[_Union[ComparedFrame, _Mapping]]] = ..., strata: _Optional[_Iterable[_Union[FrameStratum, _Mapping]]] = ..., frames_since_ns: _Optional[int] = ..., frames_until_ns: _Optional[int] = ..., began_at_ns: _Optional[int] = ..., ended_at_ns: _Optional[int] = ...) -> None: ...

class PartCounts(_message.Message):
    __slots__ = ("parts", "now_right", "still_right", "asks", "still_wrong", "now_wrong", "left_out", "waiting")
    PARTS_FIELD_NUMBER: _ClassVar[int]
    NOW_RIGHT_FIELD_NUMBER: _ClassVar[int]
    STILL_RIGHT_FIELD_NUMBER: _ClassVar[int]
    ASKS_FIELD_NUMBER: _ClassVar[int]
    STILL_WRONG_FIELD_NUMBER: _ClassVar[int]
    NOW_WRONG_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    parts: int
    now_right: int
    still_right: int
    asks: int
    still_wrong: int
    now_wrong: int
    left_out: int
    waiting: int
    def __init__(self, parts: _Optional[int] = ..., now_right: _Optional[int] = ..., still_right: _Optional[int] = ..., asks: _Optional[int] = ..., still_wrong: _Optional[int] = ..., now_wrong: _Optional[int] = ..., left_out: _Optional[int] = ..., waiting: _Optional[int] = ...) -> None: ...

class FrameEstimate(_message.Message):
    __slots__ = ("value", "low", "high")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    value: float
    low: float
    high: float
    def __init__(self, value: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class Flip(_message.Message):
    __slots__ = ("before", "after", "flipped", "compared", "estimate")
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    FLIPPED_FIELD_NUMBER: _ClassVar[int]
    COMPARED_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    before: _events_pb2.Verdict
    after: _events_pb2.Verdict
    flipped: int
    compared: int
    estimate: FrameEstimate
    def __init__(self, before: _Optional[_Union[_events_pb2.Verdict, str]] = ..., after: _Optional[_Union[_events_pb2.Verdict, str]] = ..., flipped: _Optional[int] = ..., compared: _Optional[int] = ..., estimate: _Optional[_Union[FrameEstimate, _Mapping]] = ...) -> None: ...

class ChangeSummary(_message.Message):
    __slots__ = ("change", "counts", "flips", "flipped", "frames", "frames_compared", "planned", "settled", "waits_for")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    FLIPS_FIELD_NUMBER: _ClassVar[int]
    FLIPPED_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    FRAMES_COMPARED_FIELD_NUMBER: _ClassVar[int]
    PLANNED_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    WAITS_FOR_FIELD_NUMBER: _ClassVar[int]
    change: ModelChange
    counts: PartCounts
    flips: _containers.RepeatedCompositeFieldContainer[Flip]
    flipped: FrameEstimate
    frames: float
    frames_compared: int
    planned: int
    settled: int
    waits_for: str
    def __init__(self, change: _Optional[_Union[ModelChange, _Mapping]] = ..., counts: _Optional[_Union[PartCounts, _Mapping]] = ..., flips: _Optional[_Iterable[_Union[Flip, _Mapping]]] = ..., flipped: _Optional[_Union[FrameEstimate, _Mapping]] = ..., frames: _Optional[float] = ..., frames_compared: _Optional[int] = ..., planned: _Optional[int] = ..., settled: _Optional[int] = ..., waits_for: _Optional[str] = ...) -> None: ...

class ListChangesRequest(_message.Message):
    __slots__ = ("alias", "reviewer", "page_size", "page_token")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    REVIEWER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    alias: str
    reviewer: str
    page_size: int
    page_token: str
    def __init__(self, alias: _Optional[str] = ..., reviewer: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListChangesResponse(_message.Message):
    __slots__ = ("changes", "next_page_token", "compares")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    COMPARES_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[ChangeSummary]
    next_page_token: str
    compares: bool
    def __init__(self, changes: _Optional[_Iterable[_Union[ChangeSummary, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., compares: _Optional[bool] = ...) -> None: ...

class GetChangeRequest(_message.Message):
    __slots__ = ("alias", "revision", "reviewer")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    REVIEWER_FIELD_NUMBER: _ClassVar[int]
    alias: str
    revision: int
    reviewer: str
    def __init__(self, alias: _Optional[str] = ..., revision: _Optional[int] = ..., reviewer: _Optional[str] = ...) -> None: ...

class GetChangeResponse(_message.Message):
    __slots__ = ("summary", "parts")
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    summary: ChangeSummary
    parts: _containers.RepeatedCompositeFieldContainer[ComparedPart]
    def __init__(self, summary: _Optional[_Union[ChangeSummary, _Mapping]] = ..., parts: _Optional[_Iterable[_Union[ComparedPart, _Mapping]]] = ...) -> None: ...
