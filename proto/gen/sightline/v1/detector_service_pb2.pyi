from sightline.v1 import events_pb2 as _events_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InspectRequest(_message.Message):
    __slots__ = ("product", "part_id", "image", "with_embedding")
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    WITH_EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    product: str
    part_id: str
    image: bytes
    with_embedding: bool
    def __init__(self, product: _Optional[str] = ..., part_id: _Optional[str] = ..., image: _Optional[bytes] = ..., with_embedding: _Optional[bool] = ...) -> None: ...

class InspectResponse(_message.Message):
    __slots__ = ("inspection", "probabilities", "classes", "embedding")
    INSPECTION_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    inspection: _events_pb2.Inspection
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    classes: _containers.RepeatedScalarFieldContainer[str]
    embedding: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, inspection: _Optional[_Union[_events_pb2.Inspection, _Mapping]] = ..., probabilities: _Optional[_Iterable[float]] = ..., classes: _Optional[_Iterable[str]] = ..., embedding: _Optional[_Iterable[float]] = ...) -> None: ...
