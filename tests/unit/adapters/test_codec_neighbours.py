"""Neighbours on the wire."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from sightline.v1 import feedback_service_pb2

from services.adapters.codec_neighbours import neighbours_from_message, neighbours_to_message
from services.core.errors import EventDecodeError
from services.core.neighbours import Neighbour, Neighbours, Relation
from services.core.types import CaseKind, Verdict
from tests.support.cases import queued_case

CASE = queued_case(1, Verdict.PASS, kind=CaseKind.NEIGHBOUR)
FRAME = queued_case(2, Verdict.FAIL)
FOUND = Neighbours(
    (
        Neighbour(Relation.NEAR_HIT, 0.5, CASE.case_id, CASE.inspection, CASE),
        Neighbour(Relation.NEAR_MISS, -1.0, FRAME.case_id, FRAME.inspection),
        Neighbour(Relation.FARTHEST, 1.0, FRAME.case_id, FRAME.inspection),
    ),
    compared=100_000,
    exact=True,
    queued=(CASE,),
)


def test_neighbours_come_back_as_they_were() -> None:
    assert neighbours_from_message(neighbours_to_message(FOUND)) == FOUND
    nothing = Neighbours((), 0, False)
    assert neighbours_from_message(neighbours_to_message(nothing)) == nothing


def test_a_relation_of_a_newer_service_is_left_out() -> None:
    message = neighbours_to_message(FOUND)
    message.neighbours[1].relation = 9  # type: ignore[assignment]
    assert neighbours_from_message(message) == replace(FOUND, neighbours=(FOUND.neighbours[0], FOUND.neighbours[2]))


@pytest.mark.parametrize("similarity", [1.1, -1.1, math.nan, math.inf])
def test_a_similarity_that_is_no_cosine_is_refused(similarity: float) -> None:
    message = neighbours_to_message(FOUND)
    message.neighbours[0].similarity = similarity
    with pytest.raises(EventDecodeError, match=r"similarity must lie in \[-1, 1\]"):
        neighbours_from_message(message)


def test_what_is_no_id_is_refused_and_a_queued_case_that_is_no_neighbour_left_out() -> None:
    message = neighbours_to_message(FOUND)
    message.queued_case_ids.append(FRAME.case_id)
    assert neighbours_from_message(message).queued == (CASE,)
    message.neighbours[1].neighbour_id = "../x"
    with pytest.raises(EventDecodeError, match="case_id must be"):
        neighbours_from_message(message)
    with pytest.raises(EventDecodeError):
        neighbours_from_message(
            feedback_service_pb2.NeighboursResponse(
                neighbours=[feedback_service_pb2.Neighbour(relation=1)]  # type: ignore[arg-type]
            )
        )
