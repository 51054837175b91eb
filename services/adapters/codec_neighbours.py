"""Neighbours to protobuf and back."""

from __future__ import annotations

import math
from typing import Final

from sightline.v1 import feedback_service_pb2

from services.adapters.codec import inspection_from_message, inspection_to_message
from services.adapters.codec_review import queued_case_from_message, queued_case_to_message
from services.core.errors import EventDecodeError, InvalidInputError
from services.core.neighbours import Neighbour, Neighbours, Relation
from services.core.review import validate_case_id

_RELATION_TO_WIRE: Final = {
    Relation.NEAR_HIT: feedback_service_pb2.NEIGHBOUR_RELATION_NEAR_HIT,
    Relation.NEAR_MISS: feedback_service_pb2.NEIGHBOUR_RELATION_NEAR_MISS,
    Relation.FARTHEST: feedback_service_pb2.NEIGHBOUR_RELATION_FARTHEST,
}
_RELATION_FROM_WIRE: Final = {int(wire): relation for relation, wire in _RELATION_TO_WIRE.items()}


def neighbours_to_message(found: Neighbours) -> feedback_service_pb2.NeighboursResponse:
    """The protobuf form of what was found."""
    response = feedback_service_pb2.NeighboursResponse(
        compared=found.compared, exact=found.exact, queued_case_ids=[one.case_id for one in found.queued]
    )
    for one in found.neighbours:
        message = response.neighbours.add(
            relation=_RELATION_TO_WIRE[one.relation],
            similarity=one.similarity,
            neighbour_id=one.neighbour_id,
            inspection=inspection_to_message(one.inspection),
        )
        if one.case is not None:
            message.case.CopyFrom(queued_case_to_message(one.case))
    return response


def neighbours_from_message(message: feedback_service_pb2.NeighboursResponse) -> Neighbours:
    """Validate what came in an answer; a relation that this release does not know is left out.

    Raises:
        EventDecodeError: If a field breaks its rule.
    """
    try:
        found = tuple(_neighbour(one) for one in message.neighbours if one.relation in _RELATION_FROM_WIRE)
    except InvalidInputError as error:
        raise EventDecodeError(f"Neighbours: {error}") from error
    cases = {one.case.case_id: one.case for one in found if one.case is not None}
    return Neighbours(
        neighbours=found,
        compared=message.compared,
        exact=message.exact,
        queued=tuple(cases[one] for one in message.queued_case_ids if one in cases),
    )


def _neighbour(message: feedback_service_pb2.Neighbour) -> Neighbour:
    if not (math.isfinite(message.similarity) and -1 <= message.similarity <= 1):
        raise InvalidInputError(f"similarity must lie in [-1, 1], got {message.similarity}")
    return Neighbour(
        relation=_RELATION_FROM_WIRE[message.relation],
        similarity=message.similarity,
        neighbour_id=validate_case_id(message.neighbour_id),
        inspection=inspection_from_message(message.inspection),
        case=queued_case_from_message(message.case) if message.HasField("case") else None,
    )
