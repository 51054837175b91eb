"""Runs on record: what is written is read again, and what is no run is refused and left out."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from sightline.v1 import trainer_service_pb2

from services.adapters.codec_training import run_from_message, run_to_message
from services.adapters.memory import MemoryObjectStore
from services.adapters.trainingrecord import TrainingRecord
from services.core.errors import EventDecodeError, InvalidInputError, NotFoundError, SightlineError
from services.core.training_run import RunStage, TrainingRun, new_run_id, validate_run_id
from tests.support.training_runs import BEGAN_NS, training_run

RUN = training_run()
KEY = f"training/runs/default/{RUN.run_id}.json"


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore()


@pytest.fixture
def damaged() -> list[str]:
    return []


@pytest.fixture
def record(store: MemoryObjectStore, damaged: list[str]) -> TrainingRecord:
    def told(key: str, error: SightlineError) -> None:
        del error
        damaged.append(key)

    return TrainingRecord(store, told)


def same(one: TrainingRun, other: TrainingRun) -> bool:
    # Of the values, NaN is the only one that differs from itself.
    return run_to_message(one).SerializeToString(deterministic=True) == run_to_message(other).SerializeToString(
        deterministic=True
    )


def test_a_run_is_read_as_it_was_written(record: TrainingRecord, store: MemoryObjectStore) -> None:
    record.put(RUN)
    assert same(record.get("default", RUN.run_id), RUN)
    assert same(TrainingRecord(store).find(RUN.run_id), RUN)
    report = TrainingRecord(store).find(RUN.run_id).report
    assert report is not None
    assert math.isnan(report.promotion.gates[2].live)
    assert math.isinf(report.promotion.gates[4].bound)


def test_a_run_that_has_only_been_asked_for_is_read_too(record: TrainingRecord) -> None:
    asked = TrainingRun(RUN.run_id, "default", RUN.trigger, "mira", 5, RUN.recipe, RUN.loss, 0, promotes_itself=False)
    record.put(asked)
    assert record.find(RUN.run_id) == asked


def test_a_run_that_goes_on_takes_the_place_of_what_was_known(record: TrainingRecord, store: MemoryObjectStore) -> None:
    other = TrainingRecord(store)
    going = training_run(ended=False)
    record.put(going)
    assert other.find(going.run_id).stage is RunStage.TRAINING
    record.put(RUN)
    assert other.find(RUN.run_id).stage is RunStage.ENDED
    # An ended run that is resumed is read anew too.
    record.put(replace(going, share=0.25))
    assert other.find(RUN.run_id).share == 0.25


def test_pages_are_the_newest_first_over_all_aliases(record: TrainingRecord) -> None:
    runs = [training_run(at, alias) for at, alias in enumerate(("default", "weld", "default", "weld", "default"))]
    for run in runs:
        record.put(run)
    seen: list[str] = []
    token = ""
    while True:
        page, token = record.page(limit=2, token=token)
        seen += [run.run_id for run in page]
        if not token:
            break
    assert seen == [run.run_id for run in reversed(runs)]
    assert [run.run_id for run in record.page(alias="weld", limit=9)[0]] == [runs[3].run_id, runs[1].run_id]
    assert record.aliases() == ("default", "weld")


def test_a_full_last_page_has_no_token(record: TrainingRecord) -> None:
    record.put(RUN)
    assert record.page(limit=1)[1] == ""


def test_runs_are_found_by_whose_answers_they_carry(record: TrainingRecord) -> None:
    mine, others = training_run(1, authors=("ada",)), training_run(2, authors=("bob", "mira"))
    record.put(mine)
    record.put(others)
    assert [run.run_id for run in record.page(author="ada", limit=5)[0]] == [mine.run_id]
    assert [run.run_id for run in record.page(author="mira", limit=5)[0]] == [others.run_id]


def test_a_damaged_run_keeps_nobody_from_the_others(
    record: TrainingRecord, store: MemoryObjectStore, damaged: list[str]
) -> None:
    other = training_run(1)
    record.put(RUN)
    record.put(other)
    store.put(KEY, b"{ half")
    store.put("training/runs/default/notes.txt", b"x")
    assert [run.run_id for run in record.newest("")] == [other.run_id]
    assert damaged == [KEY]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"run_id": new_run_id(BEGAN_NS, bytes(10))}, "must hold that run"),
        ({"stage": "RUN_STAGE_UNSPECIFIED"}, "stage must be a stage of a run, got 0"),
        ({"outcome": "RUN_OUTCOME_UNSPECIFIED"}, "a run has an outcome when it has ended, got ended and None"),
        ({"recipe": "magic"}, "recipe must be head or finetune, got 'magic'"),
        ({"share": 1.5}, "share must lie in"),
        ({"actor": " "}, "reviewer must be a name"),
        ({"snapshot": {"digest": "x"}}, "digest must be 64 lower-case hex digits"),
        ({"report": {}}, "a report must have the candidate's confusion"),
        ({"report": {"candidate": {}, "gates": [{"name": "luck", "state": 1}]}}, "a gate must be one that is known"),
        ({"share": "much"}, "an object must hold a TrainingRun as JSON"),
    ],
)
def test_what_is_no_run_is_refused_with_its_place(
    record: TrainingRecord, store: MemoryObjectStore, change: dict[str, Any], message: str
) -> None:
    record.put(RUN)
    store.put(KEY, json.dumps(json.loads(store.get(KEY)) | change).encode())
    with pytest.raises(EventDecodeError, match=f"{KEY}: .*{message}"):
        record.get("default", RUN.run_id)


def test_what_is_not_there_and_what_is_no_key_is_said(record: TrainingRecord) -> None:
    with pytest.raises(NotFoundError, match="a run must be on record"):
        record.find(RUN.run_id)
    with pytest.raises(InvalidInputError, match="run_id must be"):
        record.find("../models")
    with pytest.raises(InvalidInputError, match="page_token must be one of an earlier answer"):
        record.page(limit=1, token="../models")


def test_a_data_set_is_kept_once_and_checked(record: TrainingRecord, store: MemoryObjectStore) -> None:
    data = b'{"schema":1}'
    digest = hashlib.sha256(data).hexdigest()
    record.put_snapshot(digest, data)
    record.put_snapshot(digest, data)
    assert record.snapshot(digest) == data
    with pytest.raises(EventDecodeError, match="must hold what its SHA-256 says"):
        record.put_snapshot("0" * 64, data)
    store.put(f"training/snapshots/{digest}.json", b"{}")
    with pytest.raises(EventDecodeError, match="must hold what its SHA-256 says"):
        record.snapshot(digest)


def test_ids_of_newer_runs_sort_later_whatever_their_chance() -> None:
    older, newer = new_run_id(BEGAN_NS, b"\xff" * 10), new_run_id(BEGAN_NS + 1_000_000, bytes(10))
    assert older < newer
    assert validate_run_id(older) == older


def test_what_a_later_release_says_of_a_verdict_is_review() -> None:
    message = run_to_message(RUN)
    message.report.flips[0].after = 99  # type: ignore[assignment]  # no value of this release
    flips = run_from_message(trainer_service_pb2.TrainingRun.FromString(message.SerializeToString())).report
    assert flips is not None
    assert flips.flips[0].after.value == "review"


def test_a_note_nested_without_end_counts_as_none(
    record: TrainingRecord, store: MemoryObjectStore, damaged: list[str]
) -> None:
    record.put_learnt("default", {"a"})
    record.wish_end(RUN.run_id, "ada")
    for stored in list(store.list("training/")):
        store.put(stored.key, b"[" * 2_000)
    assert record.learnt("default") == frozenset()
    assert record.end_wished_by(RUN.run_id) == ""
    assert len(damaged) == 2
