from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GroupBy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GROUP_BY_UNSPECIFIED: _ClassVar[GroupBy]
    GROUP_BY_LINE: _ClassVar[GroupBy]
    GROUP_BY_CAMERA: _ClassVar[GroupBy]
    GROUP_BY_PRODUCT: _ClassVar[GroupBy]
    GROUP_BY_MODEL_VERSION: _ClassVar[GroupBy]
    GROUP_BY_SHIFT: _ClassVar[GroupBy]
    GROUP_BY_SHIFT_OF_DAY: _ClassVar[GroupBy]
    GROUP_BY_SPAN: _ClassVar[GroupBy]
GROUP_BY_UNSPECIFIED: GroupBy
GROUP_BY_LINE: GroupBy
GROUP_BY_CAMERA: GroupBy
GROUP_BY_PRODUCT: GroupBy
GROUP_BY_MODEL_VERSION: GroupBy
GROUP_BY_SHIFT: GroupBy
GROUP_BY_SHIFT_OF_DAY: GroupBy
GROUP_BY_SPAN: GroupBy

class GetStatisticsRequest(_message.Message):
    __slots__ = ("line_id", "camera_id", "product", "alias", "model_version", "since_ns", "until_ns", "group_by", "span_s")
    LINE_ID_FIELD_NUMBER: _ClassVar[int]
    CAMERA_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SINCE_NS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_NS_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    SPAN_S_FIELD_NUMBER: _ClassVar[int]
    line_id: str
    camera_id: str
    product: str
    alias: str
    model_version: int
    since_ns: int
    until_ns: int
    group_by: GroupBy
    span_s: int
    def __init__(self, line_id: _Optional[str] = ..., camera_id: _Optional[str] = ..., product: _Optional[str] = ..., alias: _Optional[str] = ..., model_version: _Optional[int] = ..., since_ns: _Optional[int] = ..., until_ns: _Optional[int] = ..., group_by: _Optional[_Union[GroupBy, str]] = ..., span_s: _Optional[int] = ...) -> None: ...

class StatisticsRow(_message.Message):
    __slots__ = ("name", "line_id", "model_version", "day", "begins_ns", "ends_ns", "inspections", "passed", "failed", "review", "late", "defect_rate", "first_pass_yield", "reviewed", "fails_reviewed", "false_rejects", "escapes", "wrong_reasons", "audit_drawn", "audit_reviewed", "audit_escapes", "audit_undecided", "escape_rate", "escape_rate_low", "escape_rate_high", "audit_covered")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LINE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    DAY_FIELD_NUMBER: _ClassVar[int]
    BEGINS_NS_FIELD_NUMBER: _ClassVar[int]
    ENDS_NS_FIELD_NUMBER: _ClassVar[int]
    INSPECTIONS_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    REVIEW_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    DEFECT_RATE_FIELD_NUMBER: _ClassVar[int]
    FIRST_PASS_YIELD_FIELD_NUMBER: _ClassVar[int]
    REVIEWED_FIELD_NUMBER: _ClassVar[int]
    FAILS_REVIEWED_FIELD_NUMBER: _ClassVar[int]
    FALSE_REJECTS_FIELD_NUMBER: _ClassVar[int]
    ESCAPES_FIELD_NUMBER: _ClassVar[int]
    WRONG_REASONS_FIELD_NUMBER: _ClassVar[int]
    AUDIT_DRAWN_FIELD_NUMBER: _ClassVar[int]
    AUDIT_REVIEWED_FIELD_NUMBER: _ClassVar[int]
    AUDIT_ESCAPES_FIELD_NUMBER: _ClassVar[int]
    AUDIT_UNDECIDED_FIELD_NUMBER: _ClassVar[int]
    ESCAPE_RATE_FIELD_NUMBER: _ClassVar[int]
    ESCAPE_RATE_LOW_FIELD_NUMBER: _ClassVar[int]
    ESCAPE_RATE_HIGH_FIELD_NUMBER: _ClassVar[int]
    AUDIT_COVERED_FIELD_NUMBER: _ClassVar[int]
    name: str
    line_id: str
    model_version: int
    day: str
    begins_ns: int
    ends_ns: int
    inspections: int
    passed: int
    failed: int
    review: int
    late: int
    defect_rate: float
    first_pass_yield: float
    reviewed: int
    fails_reviewed: int
    false_rejects: int
    escapes: int
    wrong_reasons: int
    audit_drawn: int
    audit_reviewed: int
    audit_escapes: int
    audit_undecided: int
    escape_rate: float
    escape_rate_low: float
    escape_rate_high: float
    audit_covered: float
    def __init__(self, name: _Optional[str] = ..., line_id: _Optional[str] = ..., model_version: _Optional[int] = ..., day: _Optional[str] = ..., begins_ns: _Optional[int] = ..., ends_ns: _Optional[int] = ..., inspections: _Optional[int] = ..., passed: _Optional[int] = ..., failed: _Optional[int] = ..., review: _Optional[int] = ..., late: _Optional[int] = ..., defect_rate: _Optional[float] = ..., first_pass_yield: _Optional[float] = ..., reviewed: _Optional[int] = ..., fails_reviewed: _Optional[int] = ..., false_rejects: _Optional[int] = ..., escapes: _Optional[int] = ..., wrong_reasons: _Optional[int] = ..., audit_drawn: _Optional[int] = ..., audit_reviewed: _Optional[int] = ..., audit_escapes: _Optional[int] = ..., audit_undecided: _Optional[int] = ..., escape_rate: _Optional[float] = ..., escape_rate_low: _Optional[float] = ..., escape_rate_high: _Optional[float] = ..., audit_covered: _Optional[float] = ...) -> None: ...

class GetStatisticsResponse(_message.Message):
    __slots__ = ("rows", "total", "since_ns", "until_ns", "kept_since_ns")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    SINCE_NS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_NS_FIELD_NUMBER: _ClassVar[int]
    KEPT_SINCE_NS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[StatisticsRow]
    total: StatisticsRow
    since_ns: int
    until_ns: int
    kept_since_ns: int
    def __init__(self, rows: _Optional[_Iterable[_Union[StatisticsRow, _Mapping]]] = ..., total: _Optional[_Union[StatisticsRow, _Mapping]] = ..., since_ns: _Optional[int] = ..., until_ns: _Optional[int] = ..., kept_since_ns: _Optional[int] = ...) -> None: ...

class GetShiftsRequest(_message.Message):
    __slots__ = ("at_ns",)
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    at_ns: int
    def __init__(self, at_ns: _Optional[int] = ...) -> None: ...

class Shift(_message.Message):
    __slots__ = ("name", "begins_min", "ends_min")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BEGINS_MIN_FIELD_NUMBER: _ClassVar[int]
    ENDS_MIN_FIELD_NUMBER: _ClassVar[int]
    name: str
    begins_min: int
    ends_min: int
    def __init__(self, name: _Optional[str] = ..., begins_min: _Optional[int] = ..., ends_min: _Optional[int] = ...) -> None: ...

class GetShiftsResponse(_message.Message):
    __slots__ = ("shifts", "time_zone", "day_begins_ns", "shift", "shift_begins_ns", "shift_ends_ns")
    SHIFTS_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    DAY_BEGINS_NS_FIELD_NUMBER: _ClassVar[int]
    SHIFT_FIELD_NUMBER: _ClassVar[int]
    SHIFT_BEGINS_NS_FIELD_NUMBER: _ClassVar[int]
    SHIFT_ENDS_NS_FIELD_NUMBER: _ClassVar[int]
    shifts: _containers.RepeatedCompositeFieldContainer[Shift]
    time_zone: str
    day_begins_ns: int
    shift: str
    shift_begins_ns: int
    shift_ends_ns: int
    def __init__(self, shifts: _Optional[_Iterable[_Union[Shift, _Mapping]]] = ..., time_zone: _Optional[str] = ..., day_begins_ns: _Optional[int] = ..., shift: _Optional[str] = ..., shift_begins_ns: _Optional[int] = ..., shift_ends_ns: _Optional[int] = ...) -> None: ...
