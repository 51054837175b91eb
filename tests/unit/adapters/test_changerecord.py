"""Changes on record: what is written is read again, and what is no change is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from services.adapters.changerecord import ChangeRecord
from services.adapters.memory import MemoryObjectStore
from services.core.errors import EventDecodeError, InvalidInputError, NotFoundError
from services.core.model_change import ComparedPart, Correction, CorrectionKind, ModelChange, PartVerdict
from services.core.types import AliasAction, OperatingPoint, Verdict
from tests.support.cases import queued_case

KEY = "record/changes/default/4.json"
CASE = queued_case(1)
PART = ComparedPart(
    case_id=CASE.case_id,
    part_id="part-1",
    line_id="line-1",
    camera_id="cam-1",
    captured_at_ns=5,
    settled=Verdict.PASS,
    corrections=(
        Correction("6ba7b810-9dad-41d1-80b4-00c04fd430c8", "Ada <3", CorrectionKind.REASON, Verdict.PASS, "dent", 6),
    ),
    before=PartVerdict(Verdict.FAIL, 0.9, OperatingPoint(0.6, 0.5, 0.7), 1, "scratch"),
)
CHANGE = ModelChange("default", 4, 2, 1, AliasAction.PROMOTE, "mira", 7, "why not", parts=(PART,), began_at_ns=8)


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore()


@pytest.fixture
def record(store: MemoryObjectStore) -> ChangeRecord:
    return ChangeRecord(store)


def test_a_change_is_read_as_it_was_written(record: ChangeRecord, store: MemoryObjectStore) -> None:
    record.put(CHANGE)
    assert record.get("default", 4) == CHANGE
    assert ChangeRecord(store).get("default", 4) == CHANGE
    assert record.revisions() == {"default": [4]}


def test_a_change_that_goes_on_takes_the_place_of_what_was_known(
    record: ChangeRecord, store: MemoryObjectStore
) -> None:
    other = ChangeRecord(store)
    record.put(CHANGE)
    assert other.get("default", 4) == CHANGE
    after = PartVerdict(Verdict.PASS, 0.1, OperatingPoint(0.6, 0.5, 0.7), 2)
    further = replace(CHANGE, parts=(replace(PART, after=after),))
    record.put(further)
    assert record.get("default", 4) == further
    assert other.get("default", 4) == further


def test_a_score_that_is_no_number_survives(record: ChangeRecord, store: MemoryObjectStore) -> None:
    unseen = PartVerdict(Verdict.REVIEW, math.nan, OperatingPoint(math.nan, math.nan, math.nan), 0)
    record.put(replace(CHANGE, parts=(replace(PART, before=unseen),)))
    [part] = ChangeRecord(store).get("default", 4).parts
    assert math.isnan(part.before.score)
    assert math.isnan(part.before.operating_point.threshold)


def test_revisions_are_the_newest_first_as_numbers(record: ChangeRecord, store: MemoryObjectStore) -> None:
    for revision in (9, 10, 2):
        record.put(replace(CHANGE, revision=revision))
    store.put("record/changes/default/x.json", b"{}")
    store.put("record/changes/weld/3.json", b"{}")
    assert record.revisions() == {"default": [10, 9, 2], "weld": [3]}
    assert record.revisions("default") == {"default": [10, 9, 2]}


def test_what_is_not_there_and_what_is_no_key_is_said(record: ChangeRecord) -> None:
    with pytest.raises(NotFoundError, match="a change must be on record, got default revision 4"):
        record.get("default", 4)
    with pytest.raises(InvalidInputError, match="alias must be"):
        record.get("../../models", 4)
    with pytest.raises(InvalidInputError, match="revision must be >= 1, got 0"):
        record.get("default", 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"revision": "5"}, "must hold default revision 4, got default revision 5"),
        ({"state": "CHANGE_STATE_UNSPECIFIED"}, "state must be a state of a change, got 0"),
        ({"live_version": 0}, "live_version must be >= 1, got 0"),
        ({"alias": "Not One"}, "alias must be"),
        ({"live_version": "many"}, "an object must hold a ModelChange as JSON"),
    ],
)
def test_what_is_no_change_is_refused_with_its_place(
    record: ChangeRecord, store: MemoryObjectStore, change: dict[str, Any], message: str
) -> None:
    record.put(CHANGE)
    store.put(KEY, json.dumps(json.loads(store.get(KEY)) | change).encode())
    with pytest.raises(EventDecodeError, match=f"{KEY}: .*{message}"):
        record.get("default", 4)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"settled": "VERDICT_REVIEW"}, "settled must be pass or fail, got review"),
        ({"corrections": []}, "a compared part must have a correction"),
        ({"case_id": "1"}, "case_id must be"),
        ({"before": {}}, "verdict must be a verdict, got none"),
    ],
)
def test_what_is_no_part_is_refused(
    record: ChangeRecord, store: MemoryObjectStore, part: dict[str, Any], message: str
) -> None:
    record.put(CHANGE)
    written = json.loads(store.get(KEY))
    written["parts"][0] |= part
    store.put(KEY, json.dumps(written).encode())
    with pytest.raises(EventDecodeError, match=message):
        record.get("default", 4)
