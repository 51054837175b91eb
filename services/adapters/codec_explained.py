"""Explanations to protobuf and back, as strict as the other events (see ``codec``).

Lenient in one way: a status or grade that this release does not know, as a newer writer may send it, becomes the value
that promises least: a map of an unknown status is PARTIAL, without a map FAILED; an unknown grade is none.
"""

from __future__ import annotations

import math
import re
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from sightline.v1 import events_pb2

from services.adapters.codec import case_from_message, case_to_message
from services.core.errors import EventDecodeError, InvalidInputError
from services.core.types import ExplainedCase, Explanation, ExplanationStatus, Grade

#: Longest side of a map on the wire.
MAX_MAP_SIDE: Final = 1024
#: Most explanations of one case.
MAX_EXPLANATIONS: Final = 32

_TOKEN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z", re.ASCII)
_REASON = re.compile(r"[a-z0-9_]{0,64}\Z", re.ASCII)

_STATUS_TO_WIRE = {
    ExplanationStatus.DONE: events_pb2.EXPLANATION_STATUS_DONE,
    ExplanationStatus.PARTIAL: events_pb2.EXPLANATION_STATUS_PARTIAL,
    ExplanationStatus.FAILED: events_pb2.EXPLANATION_STATUS_FAILED,
}
GRADE_TO_WIRE = {
    Grade.A: events_pb2.EXPLANATION_GRADE_A,
    Grade.B: events_pb2.EXPLANATION_GRADE_B,
    Grade.C: events_pb2.EXPLANATION_GRADE_C,
    Grade.D: events_pb2.EXPLANATION_GRADE_D,
}
_STATUS_FROM_WIRE = {value: key for key, value in _STATUS_TO_WIRE.items()}
GRADE_FROM_WIRE = {value: key for key, value in GRADE_TO_WIRE.items()}


def encode_explained_case(explained: ExplainedCase) -> bytes:
    """Encode a case with its explanations.

    Args:
        explained: Its case as ``encode_case`` takes it; maps have two dimensions.

    Raises:
        InvalidInputError: If the case breaks its rules, or a map has another shape.
    """
    return explained_case_to_message(explained).SerializeToString()


def explained_case_to_message(explained: ExplainedCase) -> events_pb2.ExplainedCase:
    """The protobuf form of a case with its explanations; raises as :func:`encode_explained_case` does."""
    return events_pb2.ExplainedCase(
        case=case_to_message(explained.case),
        explanations=[explanation_to_message(one) for one in explained.explanations],
        agreement=explained.agreement,
        explained_at_ns=explained.explained_at_ns,
    )


def decode_explained_case(data: bytes) -> ExplainedCase:
    """Decode a case with its explanations from outside.

    Args:
        data: Value of a record of the ``explained`` topic.

    Raises:
        EventDecodeError: If the bytes are not an explained case or a field breaks its rule.
    """
    try:
        message = events_pb2.ExplainedCase.FromString(data)
    except DecodeError as error:
        raise EventDecodeError(f"ExplainedCase: bytes must be a protobuf message, got {len(data)}: {error}") from error
    return explained_case_from_message(message)


def explained_case_from_message(message: events_pb2.ExplainedCase) -> ExplainedCase:
    """Validate a case with its explanations that came in another form than its bytes.

    Raises:
        EventDecodeError: If a field breaks its rule.
    """
    try:
        return _explained_case(message)
    except InvalidInputError as error:
        raise EventDecodeError(f"ExplainedCase: {error}") from error


def explanation_to_message(explanation: Explanation) -> events_pb2.Explanation:
    """The protobuf form of one explanation, for servicers that answer with it.

    Raises:
        InvalidInputError: If the map does not have two dimensions.
    """
    if explanation.map.ndim != 2:
        raise InvalidInputError(f"map must have shape (h, w), got {explanation.map.shape}")
    height, width = explanation.map.shape
    return events_pb2.Explanation(
        method=explanation.method,
        status=_STATUS_TO_WIRE[explanation.status],
        reason=explanation.reason,
        detail=explanation.detail,
        target_class=explanation.target_class,
        probability=explanation.probability,
        map_height=height,
        map_width=width,
        map_f16=np.ascontiguousarray(explanation.map, dtype="<f2").tobytes(),
        scale_low=explanation.scale_low,
        scale_high=explanation.scale_high,
        grade=(
            events_pb2.EXPLANATION_GRADE_UNSPECIFIED if explanation.grade is None else GRADE_TO_WIRE[explanation.grade]
        ),
        trust=explanation.trust,
        deletion_auc=explanation.deletion_auc,
        insertion_auc=explanation.insertion_auc,
        random_auc=explanation.random_auc,
        transplant=explanation.transplant,
        stability=explanation.stability,
        coverage=explanation.coverage,
        passes=explanation.passes,
        seconds=explanation.seconds,
        seed=explanation.seed,
    )


def explanation_from_message(message: events_pb2.Explanation) -> Explanation:
    """Validate an explanation that came inside another message (a gRPC answer).

    Raises:
        EventDecodeError: If a field breaks its rule.
    """
    try:
        return _explanation(message)
    except InvalidInputError as error:
        raise EventDecodeError(f"Explanation: {error}") from error


def _explained_case(message: events_pb2.ExplainedCase) -> ExplainedCase:
    if not message.HasField("case"):
        raise InvalidInputError("case must be set, got none")
    if len(message.explanations) > MAX_EXPLANATIONS:
        raise InvalidInputError(f"explanations must be at most {MAX_EXPLANATIONS}, got {len(message.explanations)}")
    if message.explained_at_ns < 1:
        raise InvalidInputError(f"explained_at_ns must be >= 1, got {message.explained_at_ns}")
    return ExplainedCase(
        case=case_from_message(message.case),
        explanations=tuple(_explanation(one) for one in message.explanations),
        explained_at_ns=message.explained_at_ns,
        agreement=_share("agreement", message.agreement),
    )


def _explanation(message: events_pb2.Explanation) -> Explanation:
    if _TOKEN.match(message.method) is None:
        raise InvalidInputError(f"method must be a short lower-case name, got {message.method[:80]!r}")
    if _REASON.match(message.reason) is None:
        raise InvalidInputError(f"reason must be a short lower-case token, got {message.reason[:80]!r}")
    for name, value in (("passes", message.passes), ("seed", message.seed)):
        if value < 0:
            raise InvalidInputError(f"{name} must be >= 0, got {value}")
    for name, number in (
        ("scale_low", message.scale_low),
        ("scale_high", message.scale_high),
        ("seconds", message.seconds),
    ):
        if not math.isfinite(number):
            raise InvalidInputError(f"{name} must be finite, got {number}")
    values = _map(message)
    unknown = ExplanationStatus.PARTIAL if values.size else ExplanationStatus.FAILED
    return Explanation(
        method=message.method,
        status=_STATUS_FROM_WIRE.get(message.status, unknown),
        map=values,
        reason=message.reason,
        detail=message.detail,
        target_class=message.target_class,
        probability=_share("probability", message.probability),
        scale_low=message.scale_low,
        scale_high=message.scale_high,
        grade=GRADE_FROM_WIRE.get(message.grade),
        trust=_share("trust", message.trust),
        deletion_auc=_share("deletion_auc", message.deletion_auc),
        insertion_auc=_share("insertion_auc", message.insertion_auc),
        random_auc=_share("random_auc", message.random_auc),
        transplant=_rise(message),
        stability=_share("stability", message.stability),
        coverage=_share("coverage", message.coverage),
        passes=message.passes,
        seconds=message.seconds,
        seed=message.seed,
    )


def _map(message: events_pb2.Explanation) -> NDArray[np.float16]:
    height, width = message.map_height, message.map_width
    if not (0 <= height <= MAX_MAP_SIDE and 0 <= width <= MAX_MAP_SIDE):
        raise InvalidInputError(f"map_height and map_width must lie in 0..{MAX_MAP_SIDE}, got {height} and {width}")
    if len(message.map_f16) != 2 * height * width:
        raise InvalidInputError(
            f"map_f16 must hold 2 * {height} * {width} bytes for its map, got {len(message.map_f16)}"
        )
    values = np.frombuffer(message.map_f16, dtype="<f2").astype(np.float16, copy=False)
    return values.reshape(height, width)


def _rise(message: events_pb2.Explanation) -> float:
    """The transplant's figure; not measured where the writer did not know of it."""
    if not message.HasField("transplant") or math.isnan(message.transplant):
        return math.nan
    if not -1 - 1e-3 <= message.transplant <= 1 + 1e-3:
        raise InvalidInputError(f"transplant must lie in [-1, 1], got {message.transplant}")
    return min(1.0, max(-1.0, message.transplant))


def _share(name: str, value: float) -> float:
    # NaN is "not measured"; rounding may carry a mean a hair out of its range.
    if math.isnan(value):
        return value
    if not -1e-3 <= value <= 1 + 1e-3:
        raise InvalidInputError(f"{name} must lie in [0, 1], got {value}")
    return min(1.0, max(0.0, value))
