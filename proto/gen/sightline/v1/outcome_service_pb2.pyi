from sightline.v1 import events_pb2 as _events_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HandshakeState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HANDSHAKE_STATE_UNSPECIFIED: _ClassVar[HandshakeState]
    HANDSHAKE_STATE_READY: _ClassVar[HandshakeState]
    HANDSHAKE_STATE_BUSY: _ClassVar[HandshakeState]
    HANDSHAKE_STATE_RESULT: _ClassVar[HandshakeState]
    HANDSHAKE_STATE_RELEASING: _ClassVar[HandshakeState]
    HANDSHAKE_STATE_SAFE: _ClassVar[HandshakeState]

class ReferencePhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REFERENCE_PHASE_UNSPECIFIED: _ClassVar[ReferencePhase]
    REFERENCE_PHASE_DUE: _ClassVar[ReferencePhase]
    REFERENCE_PHASE_PASSED: _ClassVar[ReferencePhase]
    REFERENCE_PHASE_FAILED: _ClassVar[ReferencePhase]
HANDSHAKE_STATE_UNSPECIFIED: HandshakeState
HANDSHAKE_STATE_READY: HandshakeState
HANDSHAKE_STATE_BUSY: HandshakeState
HANDSHAKE_STATE_RESULT: HandshakeState
HANDSHAKE_STATE_RELEASING: HandshakeState
HANDSHAKE_STATE_SAFE: HandshakeState
REFERENCE_PHASE_UNSPECIFIED: ReferencePhase
REFERENCE_PHASE_DUE: ReferencePhase
REFERENCE_PHASE_PASSED: ReferencePhase
REFERENCE_PHASE_FAILED: ReferencePhase

class GetLinesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetLinesResponse(_message.Message):
    __slots__ = ("lines",)
    LINES_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedCompositeFieldContainer[LineState]
    def __init__(self, lines: _Optional[_Iterable[_Union[LineState, _Mapping]]] = ...) -> None: ...

class LineState(_message.Message):
    __slots__ = ("line_id", "product", "lot", "light", "causes", "connections", "alarms", "reference", "past_alarms")
    LINE_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    LOT_FIELD_NUMBER: _ClassVar[int]
    LIGHT_FIELD_NUMBER: _ClassVar[int]
    CAUSES_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    PAST_ALARMS_FIELD_NUMBER: _ClassVar[int]
    line_id: str
    product: str
    lot: str
    light: _events_pb2.Light
    causes: _containers.RepeatedCompositeFieldContainer[LightCause]
    connections: _containers.RepeatedCompositeFieldContainer[ConnectionState]
    alarms: _containers.RepeatedCompositeFieldContainer[AlarmState]
    reference: ReferenceState
    past_alarms: _containers.RepeatedCompositeFieldContainer[AlarmState]
    def __init__(self, line_id: _Optional[str] = ..., product: _Optional[str] = ..., lot: _Optional[str] = ..., light: _Optional[_Union[_events_pb2.Light, str]] = ..., causes: _Optional[_Iterable[_Union[LightCause, _Mapping]]] = ..., connections: _Optional[_Iterable[_Union[ConnectionState, _Mapping]]] = ..., alarms: _Optional[_Iterable[_Union[AlarmState, _Mapping]]] = ..., reference: _Optional[_Union[ReferenceState, _Mapping]] = ..., past_alarms: _Optional[_Iterable[_Union[AlarmState, _Mapping]]] = ...) -> None: ...

class LightCause(_message.Message):
    __slots__ = ("token", "about", "text", "light")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ABOUT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LIGHT_FIELD_NUMBER: _ClassVar[int]
    token: str
    about: str
    text: str
    light: _events_pb2.Light
    def __init__(self, token: _Optional[str] = ..., about: _Optional[str] = ..., text: _Optional[str] = ..., light: _Optional[_Union[_events_pb2.Light, str]] = ...) -> None: ...

class ConnectionState(_message.Message):
    __slots__ = ("name", "kind", "address", "up", "handshake", "part_id", "error_code", "waiting", "oldest_waiting_ms", "detail")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    UP_FIELD_NUMBER: _ClassVar[int]
    HANDSHAKE_FIELD_NUMBER: _ClassVar[int]
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    OLDEST_WAITING_MS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    address: str
    up: bool
    handshake: HandshakeState
    part_id: str
    error_code: int
    waiting: int
    oldest_waiting_ms: int
    detail: str
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., address: _Optional[str] = ..., up: _Optional[bool] = ..., handshake: _Optional[_Union[HandshakeState, str]] = ..., part_id: _Optional[str] = ..., error_code: _Optional[int] = ..., waiting: _Optional[int] = ..., oldest_waiting_ms: _Optional[int] = ..., detail: _Optional[str] = ...) -> None: ...

class AlarmState(_message.Message):
    __slots__ = ("alarm_id", "rule", "light", "text", "raised_at_ns", "part_id", "camera_id", "product", "defect_class", "acknowledged_by", "acknowledged_at_ns", "note", "repeats", "kind", "count", "of", "window_s", "counted")
    ALARM_ID_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    LIGHT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    RAISED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    CAMERA_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    DEFECT_CLASS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_BY_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    REPEATS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    OF_FIELD_NUMBER: _ClassVar[int]
    WINDOW_S_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    alarm_id: str
    rule: str
    light: _events_pb2.Light
    text: str
    raised_at_ns: int
    part_id: str
    camera_id: str
    product: str
    defect_class: str
    acknowledged_by: str
    acknowledged_at_ns: int
    note: str
    repeats: int
    kind: str
    count: int
    of: int
    window_s: int
    counted: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, alarm_id: _Optional[str] = ..., rule: _Optional[str] = ..., light: _Optional[_Union[_events_pb2.Light, str]] = ..., text: _Optional[str] = ..., raised_at_ns: _Optional[int] = ..., part_id: _Optional[str] = ..., camera_id: _Optional[str] = ..., product: _Optional[str] = ..., defect_class: _Optional[str] = ..., acknowledged_by: _Optional[str] = ..., acknowledged_at_ns: _Optional[int] = ..., note: _Optional[str] = ..., repeats: _Optional[int] = ..., kind: _Optional[str] = ..., count: _Optional[int] = ..., of: _Optional[int] = ..., window_s: _Optional[int] = ..., counted: _Optional[_Iterable[str]] = ...) -> None: ...

class ReferenceState(_message.Message):
    __slots__ = ("phase", "occasion", "due_at_ns", "ended_at_ns", "parts")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    OCCASION_FIELD_NUMBER: _ClassVar[int]
    DUE_AT_NS_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    phase: ReferencePhase
    occasion: str
    due_at_ns: int
    ended_at_ns: int
    parts: _containers.RepeatedCompositeFieldContainer[ReferencePartState]
    def __init__(self, phase: _Optional[_Union[ReferencePhase, str]] = ..., occasion: _Optional[str] = ..., due_at_ns: _Optional[int] = ..., ended_at_ns: _Optional[int] = ..., parts: _Optional[_Iterable[_Union[ReferencePartState, _Mapping]]] = ...) -> None: ...

class ReferencePartState(_message.Message):
    __slots__ = ("part_id", "expected", "seen")
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    part_id: str
    expected: _events_pb2.Verdict
    seen: _events_pb2.Verdict
    def __init__(self, part_id: _Optional[str] = ..., expected: _Optional[_Union[_events_pb2.Verdict, str]] = ..., seen: _Optional[_Union[_events_pb2.Verdict, str]] = ...) -> None: ...

class WatchOutcomesRequest(_message.Message):
    __slots__ = ("line_id",)
    LINE_ID_FIELD_NUMBER: _ClassVar[int]
    line_id: str
    def __init__(self, line_id: _Optional[str] = ...) -> None: ...

class WatchOutcomesResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _events_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_events_pb2.Outcome, _Mapping]] = ...) -> None: ...

class TriggerPartRequest(_message.Message):
    __slots__ = ("line_id", "part_id", "recipe", "lot")
    LINE_ID_FIELD_NUMBER: _ClassVar[int]
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    LOT_FIELD_NUMBER: _ClassVar[int]
    line_id: str
    part_id: str
    recipe: str
    lot: str
    def __init__(self, line_id: _Optional[str] = ..., part_id: _Optional[str] = ..., recipe: _Optional[str] = ..., lot: _Optional[str] = ...) -> None: ...

class TriggerPartResponse(_message.Message):
    __slots__ = ("part_id", "deadline_at_ns")
    PART_ID_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_AT_NS_FIELD_NUMBER: _ClassVar[int]
    part_id: str
    deadline_at_ns: int
    def __init__(self, part_id: _Optional[str] = ..., deadline_at_ns: _Optional[int] = ...) -> None: ...

class AcknowledgeAlarmRequest(_message.Message):
    __slots__ = ("line_id", "alarm_id", "person", "note")
    LINE_ID_FIELD_NUMBER: _ClassVar[int]
    ALARM_ID_FIELD_NUMBER: _ClassVar[int]
    PERSON_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    line_id: str
    alarm_id: str
    person: str
    note: str
    def __init__(self, line_id: _Optional[str] = ..., alarm_id: _Optional[str] = ..., person: _Optional[str] = ..., note: _Optional[str] = ...) -> None: ...

class AcknowledgeAlarmResponse(_message.Message):
    __slots__ = ("alarm",)
    ALARM_FIELD_NUMBER: _ClassVar[int]
    alarm: AlarmState
    def __init__(self, alarm: _Optional[_Union[AlarmState, _Mapping]] = ...) -> None: ...

class BeginReferenceCheckRequest(_message.Message):
    __slots__ = ("line_id", "person")
    LINE_ID_FIELD_NUMBER: _ClassVar[int]
    PERSON_FIELD_NUMBER: _ClassVar[int]
    line_id: str
    person: str
    def __init__(self, line_id: _Optional[str] = ..., person: _Optional[str] = ...) -> None: ...

class BeginReferenceCheckResponse(_message.Message):
    __slots__ = ("reference",)
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    reference: ReferenceState
    def __init__(self, reference: _Optional[_Union[ReferenceState, _Mapping]] = ...) -> None: ...
