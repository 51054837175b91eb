"""What a later release writes is read by this one: fields that it does not know are passed over."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import unknown_fields
from sightline.v1 import events_pb2

from services.adapters.caserecord import CaseRecord
from services.adapters.codec import decode_alias_state, decode_inspection, encode_alias_state, encode_inspection
from services.adapters.codec_outcome import decode_outcome, encode_outcome
from services.adapters.codec_review import decode_review, encode_review
from services.adapters.memory import MemoryObjectStore
from services.core.types import AliasState
from tests.support.cases import queued_case, review
from tests.support.outcomes import outcome

# Field 15 000, a text: no message of ours has so many.
LATER = b"\xc2\xa9\x07\x05later"


@pytest.mark.parametrize(
    ("value", "encode", "decode"),
    [
        (queued_case().inspection, encode_inspection, decode_inspection),
        (review(queued_case()), encode_review, decode_review),
        (AliasState("default", 2, 1), encode_alias_state, decode_alias_state),
        (outcome(), encode_outcome, decode_outcome),
    ],
    ids=["inspection", "review", "alias", "outcome"],
)
def test_an_event_with_a_field_of_a_later_release_is_read(
    value: Any, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]
) -> None:
    assert decode(encode(value) + LATER) == decode(encode(value)) == value


def test_the_later_field_is_one() -> None:
    message = events_pb2.Inspection.FromString(LATER)
    [field] = unknown_fields.UnknownFieldSet(message)
    assert (field.field_number, field.data) == (15_000, b"later")


def test_a_review_on_record_with_a_field_of_a_later_release_is_read() -> None:
    store = MemoryObjectStore()
    record = CaseRecord(store)
    said = record.add_review(review(queued_case()))
    [stat] = store.list("record/reviews/")
    store.put(stat.key, json.dumps(json.loads(store.get(stat.key)) | {"saidByVoice": True}).encode())
    assert record.review(said.case_id, said.review_id) == said
