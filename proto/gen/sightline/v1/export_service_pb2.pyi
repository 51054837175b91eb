from sightline.v1 import feedback_service_pb2 as _feedback_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExportLayout(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPORT_LAYOUT_UNSPECIFIED: _ClassVar[ExportLayout]
    EXPORT_LAYOUT_COCO: _ClassVar[ExportLayout]
    EXPORT_LAYOUT_LABELS: _ClassVar[ExportLayout]
    EXPORT_LAYOUT_MVTEC: _ClassVar[ExportLayout]
    EXPORT_LAYOUT_TWO_FOLDERS: _ClassVar[ExportLayout]

class ExportLabels(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPORT_LABELS_UNSPECIFIED: _ClassVar[ExportLabels]
    EXPORT_LABELS_SETTLED: _ClassVar[ExportLabels]
    EXPORT_LABELS_SETTLED_ELSE_MODEL: _ClassVar[ExportLabels]
EXPORT_LAYOUT_UNSPECIFIED: ExportLayout
EXPORT_LAYOUT_COCO: ExportLayout
EXPORT_LAYOUT_LABELS: ExportLayout
EXPORT_LAYOUT_MVTEC: ExportLayout
EXPORT_LAYOUT_TWO_FOLDERS: ExportLayout
EXPORT_LABELS_UNSPECIFIED: ExportLabels
EXPORT_LABELS_SETTLED: ExportLabels
EXPORT_LABELS_SETTLED_ELSE_MODEL: ExportLabels

class ExportRequest(_message.Message):
    __slots__ = ("filter", "case_ids", "layout", "labels", "reviewers")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    CASE_IDS_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REVIEWERS_FIELD_NUMBER: _ClassVar[int]
    filter: _feedback_service_pb2.CaseFilter
    case_ids: _containers.RepeatedScalarFieldContainer[str]
    layout: ExportLayout
    labels: ExportLabels
    reviewers: bool
    def __init__(self, filter: _Optional[_Union[_feedback_service_pb2.CaseFilter, _Mapping]] = ..., case_ids: _Optional[_Iterable[str]] = ..., layout: _Optional[_Union[ExportLayout, str]] = ..., labels: _Optional[_Union[ExportLabels, str]] = ..., reviewers: _Optional[bool] = ...) -> None: ...

class ExportResponse(_message.Message):
    __slots__ = ("data", "cases_done", "cases_expected")
    DATA_FIELD_NUMBER: _ClassVar[int]
    CASES_DONE_FIELD_NUMBER: _ClassVar[int]
    CASES_EXPECTED_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    cases_done: int
    cases_expected: int
    def __init__(self, data: _Optional[bytes] = ..., cases_done: _Optional[int] = ..., cases_expected: _Optional[int] = ...) -> None: ...
