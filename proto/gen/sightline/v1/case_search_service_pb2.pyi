from sightline.v1 import feedback_service_pb2 as _feedback_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FindCasesRequest(_message.Message):
    __slots__ = ("text", "limit")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    text: str
    limit: int
    def __init__(self, text: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class FindCasesResponse(_message.Message):
    __slots__ = ("cases", "more")
    CASES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    cases: _containers.RepeatedCompositeFieldContainer[_feedback_service_pb2.QueuedCase]
    more: bool
    def __init__(self, cases: _Optional[_Iterable[_Union[_feedback_service_pb2.QueuedCase, _Mapping]]] = ..., more: _Optional[bool] = ...) -> None: ...
