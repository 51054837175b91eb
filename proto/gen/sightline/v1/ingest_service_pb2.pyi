from sightline.v1 import events_pb2 as _events_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TriggerRequest(_message.Message):
    __slots__ = ("line_id", "part_id", "product", "lot", "triggered_at_ns")
    LINE_ID_FIELD_NUMBER: _ClassVar[int]
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    LOT_FIELD_NUMBER: _ClassVar[int]
    TRIGGERED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    line_id: str
    part_id: str
    product: str
    lot: str
    triggered_at_ns: int
    def __init__(self, line_id: _Optional[str] = ..., part_id: _Optional[str] = ..., product: _Optional[str] = ..., lot: _Optional[str] = ..., triggered_at_ns: _Optional[int] = ...) -> None: ...

class TriggerResponse(_message.Message):
    __slots__ = ("camera_ids",)
    CAMERA_IDS_FIELD_NUMBER: _ClassVar[int]
    camera_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, camera_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class PublishRequest(_message.Message):
    __slots__ = ("idempotency_key", "line_id", "camera_id", "part_id", "product", "captured_at_ns", "image", "lot")
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    LINE_ID_FIELD_NUMBER: _ClassVar[int]
    CAMERA_ID_FIELD_NUMBER: _ClassVar[int]
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    LOT_FIELD_NUMBER: _ClassVar[int]
    idempotency_key: str
    line_id: str
    camera_id: str
    part_id: str
    product: str
    captured_at_ns: int
    image: bytes
    lot: str
    def __init__(self, idempotency_key: _Optional[str] = ..., line_id: _Optional[str] = ..., camera_id: _Optional[str] = ..., part_id: _Optional[str] = ..., product: _Optional[str] = ..., captured_at_ns: _Optional[int] = ..., image: _Optional[bytes] = ..., lot: _Optional[str] = ...) -> None: ...

class PublishResponse(_message.Message):
    __slots__ = ("idempotency_key", "ack", "error")
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    idempotency_key: str
    ack: PublishAck
    error: PublishError
    def __init__(self, idempotency_key: _Optional[str] = ..., ack: _Optional[_Union[PublishAck, _Mapping]] = ..., error: _Optional[_Union[PublishError, _Mapping]] = ...) -> None: ...

class PublishAck(_message.Message):
    __slots__ = ("frame_id", "sequence", "spooled", "image_ref")
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SPOOLED_FIELD_NUMBER: _ClassVar[int]
    IMAGE_REF_FIELD_NUMBER: _ClassVar[int]
    frame_id: str
    sequence: int
    spooled: bool
    image_ref: _events_pb2.ImageRef
    def __init__(self, frame_id: _Optional[str] = ..., sequence: _Optional[int] = ..., spooled: _Optional[bool] = ..., image_ref: _Optional[_Union[_events_pb2.ImageRef, _Mapping]] = ...) -> None: ...

class PublishError(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...
