from sightline.v1 import events_pb2 as _events_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExplainRequest(_message.Message):
    __slots__ = ("image", "alias", "model_version", "method", "target_class", "frame_id", "max_passes", "budget_ms")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    TARGET_CLASS_FIELD_NUMBER: _ClassVar[int]
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_PASSES_FIELD_NUMBER: _ClassVar[int]
    BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    alias: str
    model_version: int
    method: str
    target_class: str
    frame_id: str
    max_passes: int
    budget_ms: int
    def __init__(self, image: _Optional[bytes] = ..., alias: _Optional[str] = ..., model_version: _Optional[int] = ..., method: _Optional[str] = ..., target_class: _Optional[str] = ..., frame_id: _Optional[str] = ..., max_passes: _Optional[int] = ..., budget_ms: _Optional[int] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("explanation", "final")
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    explanation: _events_pb2.Explanation
    final: bool
    def __init__(self, explanation: _Optional[_Union[_events_pb2.Explanation, _Mapping]] = ..., final: _Optional[bool] = ...) -> None: ...
