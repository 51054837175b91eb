from sightline.v1 import events_pb2 as _events_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CaseState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CASE_STATE_UNSPECIFIED: _ClassVar[CaseState]
    CASE_STATE_OPEN: _ClassVar[CaseState]
    CASE_STATE_REVIEWED: _ClassVar[CaseState]
    CASE_STATE_DISPUTED: _ClassVar[CaseState]

class QueueOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUEUE_ORDER_UNSPECIFIED: _ClassVar[QueueOrder]
    QUEUE_ORDER_BY_GAIN: _ClassVar[QueueOrder]
    QUEUE_ORDER_NEWEST: _ClassVar[QueueOrder]
    QUEUE_ORDER_OLDEST: _ClassVar[QueueOrder]

class NeighbourRelation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NEIGHBOUR_RELATION_UNSPECIFIED: _ClassVar[NeighbourRelation]
    NEIGHBOUR_RELATION_NEAR_HIT: _ClassVar[NeighbourRelation]
    NEIGHBOUR_RELATION_NEAR_MISS: _ClassVar[NeighbourRelation]
    NEIGHBOUR_RELATION_FARTHEST: _ClassVar[NeighbourRelation]
CASE_STATE_UNSPECIFIED: CaseState
CASE_STATE_OPEN: CaseState
CASE_STATE_REVIEWED: CaseState
CASE_STATE_DISPUTED: CaseState
QUEUE_ORDER_UNSPECIFIED: QueueOrder
QUEUE_ORDER_BY_GAIN: QueueOrder
QUEUE_ORDER_NEWEST: QueueOrder
QUEUE_ORDER_OLDEST: QueueOrder
NEIGHBOUR_RELATION_UNSPECIFIED: NeighbourRelation
NEIGHBOUR_RELATION_NEAR_HIT: NeighbourRelation
NEIGHBOUR_RELATION_NEAR_MISS: NeighbourRelation
NEIGHBOUR_RELATION_FARTHEST: NeighbourRelation

class CaseFilter(_message.Message):
    __slots__ = ("line_id", "camera_id", "product", "verdict", "kind", "alias", "model_version", "since_ns", "until_ns", "defect_class", "reviewer", "state")
    LINE_ID_FIELD_NUMBER: _ClassVar[int]
    CAMERA_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SINCE_NS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_NS_FIELD_NUMBER: _ClassVar[int]
    DEFECT_CLASS_FIELD_NUMBER: _ClassVar[int]
    REVIEWER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    line_id: str
    camera_id: str
    product: str
    verdict: _events_pb2.Verdict
    kind: _events_pb2.CaseKind
    alias: str
    model_version: int
    since_ns: int
    until_ns: int
    defect_class: str
    reviewer: str
    state: CaseState
    def __init__(self, line_id: _Optional[str] = ..., camera_id: _Optional[str] = ..., product: _Optional[str] = ..., verdict: _Optional[_Union[_events_pb2.Verdict, str]] = ..., kind: _Optional[_Union[_events_pb2.CaseKind, str]] = ..., alias: _Optional[str] = ..., model_version: _Optional[int] = ..., since_ns: _Optional[int] = ..., until_ns: _Optional[int] = ..., defect_class: _Optional[str] = ..., reviewer: _Optional[str] = ..., state: _Optional[_Union[CaseState, str]] = ...) -> None: ...

class QueuedCase(_message.Message):
    __slots__ = ("case_id", "kind", "inspection", "image_ref", "image_width_px", "image_height_px", "shown_method", "shown_grade", "gain", "state", "claimed_by", "claimed_until_ns", "settled_verdict", "explained_at_ns", "sampling_probability")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    INSPECTION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_REF_FIELD_NUMBER: _ClassVar[int]
    IMAGE_WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    IMAGE_HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    SHOWN_METHOD_FIELD_NUMBER: _ClassVar[int]
    SHOWN_GRADE_FIELD_NUMBER: _ClassVar[int]
    GAIN_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_BY_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_UNTIL_NS_FIELD_NUMBER: _ClassVar[int]
    SETTLED_VERDICT_FIELD_NUMBER: _ClassVar[int]
    EXPLAINED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    kind: _events_pb2.CaseKind
    inspection: _events_pb2.Inspection
    image_ref: _events_pb2.ImageRef
    image_width_px: int
    image_height_px: int
    shown_method: str
    shown_grade: _events_pb2.ExplanationGrade
    gain: float
    state: CaseState
    claimed_by: str
    claimed_until_ns: int
    settled_verdict: _events_pb2.Verdict
    explained_at_ns: int
    sampling_probability: float
    def __init__(self, case_id: _Optional[str] = ..., kind: _Optional[_Union[_events_pb2.CaseKind, str]] = ..., inspection: _Optional[_Union[_events_pb2.Inspection, _Mapping]] = ..., image_ref: _Optional[_Union[_events_pb2.ImageRef, _Mapping]] = ..., image_width_px: _Optional[int] = ..., image_height_px: _Optional[int] = ..., shown_method: _Optional[str] = ..., shown_grade: _Optional[_Union[_events_pb2.ExplanationGrade, str]] = ..., gain: _Optional[float] = ..., state: _Optional[_Union[CaseState, str]] = ..., claimed_by: _Optional[str] = ..., claimed_until_ns: _Optional[int] = ..., settled_verdict: _Optional[_Union[_events_pb2.Verdict, str]] = ..., explained_at_ns: _Optional[int] = ..., sampling_probability: _Optional[float] = ...) -> None: ...

class ListQueueRequest(_message.Message):
    __slots__ = ("filter", "order", "page_size", "page_token", "not_held_from")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    NOT_HELD_FROM_FIELD_NUMBER: _ClassVar[int]
    filter: CaseFilter
    order: QueueOrder
    page_size: int
    page_token: str
    not_held_from: str
    def __init__(self, filter: _Optional[_Union[CaseFilter, _Mapping]] = ..., order: _Optional[_Union[QueueOrder, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., not_held_from: _Optional[str] = ...) -> None: ...

class ListQueueResponse(_message.Message):
    __slots__ = ("cases", "next_page_token")
    CASES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    cases: _containers.RepeatedCompositeFieldContainer[QueuedCase]
    next_page_token: str
    def __init__(self, cases: _Optional[_Iterable[_Union[QueuedCase, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetCaseRequest(_message.Message):
    __slots__ = ("case_id",)
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    def __init__(self, case_id: _Optional[str] = ...) -> None: ...

class GetCaseResponse(_message.Message):
    __slots__ = ("summary", "explanations", "agreement", "reviews")
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    REVIEWS_FIELD_NUMBER: _ClassVar[int]
    summary: QueuedCase
    explanations: _containers.RepeatedCompositeFieldContainer[_events_pb2.Explanation]
    agreement: float
    reviews: _containers.RepeatedCompositeFieldContainer[_events_pb2.Review]
    def __init__(self, summary: _Optional[_Union[QueuedCase, _Mapping]] = ..., explanations: _Optional[_Iterable[_Union[_events_pb2.Explanation, _Mapping]]] = ..., agreement: _Optional[float] = ..., reviews: _Optional[_Iterable[_Union[_events_pb2.Review, _Mapping]]] = ...) -> None: ...

class ClaimCaseRequest(_message.Message):
    __slots__ = ("case_id", "reviewer", "release")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    REVIEWER_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    reviewer: str
    release: bool
    def __init__(self, case_id: _Optional[str] = ..., reviewer: _Optional[str] = ..., release: _Optional[bool] = ...) -> None: ...

class ClaimCaseResponse(_message.Message):
    __slots__ = ("until_ns",)
    UNTIL_NS_FIELD_NUMBER: _ClassVar[int]
    until_ns: int
    def __init__(self, until_ns: _Optional[int] = ...) -> None: ...

class SubmitReviewRequest(_message.Message):
    __slots__ = ("review", "mask_png")
    REVIEW_FIELD_NUMBER: _ClassVar[int]
    MASK_PNG_FIELD_NUMBER: _ClassVar[int]
    review: _events_pb2.Review
    mask_png: bytes
    def __init__(self, review: _Optional[_Union[_events_pb2.Review, _Mapping]] = ..., mask_png: _Optional[bytes] = ...) -> None: ...

class SubmitReviewResponse(_message.Message):
    __slots__ = ("review", "state")
    REVIEW_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    review: _events_pb2.Review
    state: CaseState
    def __init__(self, review: _Optional[_Union[_events_pb2.Review, _Mapping]] = ..., state: _Optional[_Union[CaseState, str]] = ...) -> None: ...

class UndoReviewRequest(_message.Message):
    __slots__ = ("review_id", "undone_review_id", "reviewer", "said_at_ns", "only_own")
    REVIEW_ID_FIELD_NUMBER: _ClassVar[int]
    UNDONE_REVIEW_ID_FIELD_NUMBER: _ClassVar[int]
    REVIEWER_FIELD_NUMBER: _ClassVar[int]
    SAID_AT_NS_FIELD_NUMBER: _ClassVar[int]
    ONLY_OWN_FIELD_NUMBER: _ClassVar[int]
    review_id: str
    undone_review_id: str
    reviewer: str
    said_at_ns: int
    only_own: bool
    def __init__(self, review_id: _Optional[str] = ..., undone_review_id: _Optional[str] = ..., reviewer: _Optional[str] = ..., said_at_ns: _Optional[int] = ..., only_own: _Optional[bool] = ...) -> None: ...

class UndoReviewResponse(_message.Message):
    __slots__ = ("review", "state")
    REVIEW_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    review: _events_pb2.Review
    state: CaseState
    def __init__(self, review: _Optional[_Union[_events_pb2.Review, _Mapping]] = ..., state: _Optional[_Union[CaseState, str]] = ...) -> None: ...

class ListReviewsRequest(_message.Message):
    __slots__ = ("reviewer", "line_id", "since_ns", "until_ns", "page_size", "page_token", "standing_only")
    REVIEWER_FIELD_NUMBER: _ClassVar[int]
    LINE_ID_FIELD_NUMBER: _ClassVar[int]
    SINCE_NS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_NS_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STANDING_ONLY_FIELD_NUMBER: _ClassVar[int]
    reviewer: str
    line_id: str
    since_ns: int
    until_ns: int
    page_size: int
    page_token: str
    standing_only: bool
    def __init__(self, reviewer: _Optional[str] = ..., line_id: _Optional[str] = ..., since_ns: _Optional[int] = ..., until_ns: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., standing_only: _Optional[bool] = ...) -> None: ...

class ListReviewsResponse(_message.Message):
    __slots__ = ("reviews", "next_page_token", "cases")
    REVIEWS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CASES_FIELD_NUMBER: _ClassVar[int]
    reviews: _containers.RepeatedCompositeFieldContainer[_events_pb2.Review]
    next_page_token: str
    cases: _containers.RepeatedCompositeFieldContainer[QueuedCase]
    def __init__(self, reviews: _Optional[_Iterable[_Union[_events_pb2.Review, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., cases: _Optional[_Iterable[_Union[QueuedCase, _Mapping]]] = ...) -> None: ...

class GetStatsRequest(_message.Message):
    __slots__ = ("filter",)
    FILTER_FIELD_NUMBER: _ClassVar[int]
    filter: CaseFilter
    def __init__(self, filter: _Optional[_Union[CaseFilter, _Mapping]] = ...) -> None: ...

class GetStatsResponse(_message.Message):
    __slots__ = ("open", "reviewed", "disputed", "verdict_right", "false_rejects", "escapes", "wrong_reason")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    REVIEWED_FIELD_NUMBER: _ClassVar[int]
    DISPUTED_FIELD_NUMBER: _ClassVar[int]
    VERDICT_RIGHT_FIELD_NUMBER: _ClassVar[int]
    FALSE_REJECTS_FIELD_NUMBER: _ClassVar[int]
    ESCAPES_FIELD_NUMBER: _ClassVar[int]
    WRONG_REASON_FIELD_NUMBER: _ClassVar[int]
    open: int
    reviewed: int
    disputed: int
    verdict_right: int
    false_rejects: int
    escapes: int
    wrong_reason: int
    def __init__(self, open: _Optional[int] = ..., reviewed: _Optional[int] = ..., disputed: _Optional[int] = ..., verdict_right: _Optional[int] = ..., false_rejects: _Optional[int] = ..., escapes: _Optional[int] = ..., wrong_reason: _Optional[int] = ...) -> None: ...

class NeighboursRequest(_message.Message):
    __slots__ = ("case_id", "into_queue_for")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    INTO_QUEUE_FOR_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    into_queue_for: str
    def __init__(self, case_id: _Optional[str] = ..., into_queue_for: _Optional[str] = ...) -> None: ...

class Neighbour(_message.Message):
    __slots__ = ("relation", "similarity", "neighbour_id", "inspection", "case")
    RELATION_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOUR_ID_FIELD_NUMBER: _ClassVar[int]
    INSPECTION_FIELD_NUMBER: _ClassVar[int]
    CASE_FIELD_NUMBER: _ClassVar[int]
    relation: NeighbourRelation
    similarity: float
    neighbour_id: str
    inspection: _events_pb2.Inspection
    case: QueuedCase
    def __init__(self, relation: _Optional[_Union[NeighbourRelation, str]] = ..., similarity: _Optional[float] = ..., neighbour_id: _Optional[str] = ..., inspection: _Optional[_Union[_events_pb2.Inspection, _Mapping]] = ..., case: _Optional[_Union[QueuedCase, _Mapping]] = ...) -> None: ...

class NeighboursResponse(_message.Message):
    __slots__ = ("neighbours", "compared", "exact", "queued_case_ids")
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    COMPARED_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    QUEUED_CASE_IDS_FIELD_NUMBER: _ClassVar[int]
    neighbours: _containers.RepeatedCompositeFieldContainer[Neighbour]
    compared: int
    exact: bool
    queued_case_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, neighbours: _Optional[_Iterable[_Union[Neighbour, _Mapping]]] = ..., compared: _Optional[int] = ..., exact: _Optional[bool] = ..., queued_case_ids: _Optional[_Iterable[str]] = ...) -> None: ...
