"""The account of a line: every id counts once, whatever comes twice is a duplicate, whatever is missing is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.adapters.codec import encode_case, encode_frame, encode_inspection
from services.adapters.codec_explained import encode_explained_case
from services.adapters.connection import KafkaConnection
from services.adapters.kafka import KafkaRecordWriter
from services.adapters.kafka_topics import ensure_topics, standard_topics
from services.core.identity import case_id, derive_frame_id
from services.core.topics import CASES, EXPLAINED, FRAMES, VERDICTS, dead_letter
from services.core.types import Case, CaseKind, ExplainedCase, Frame, Inspection, OperatingPoint, Reason, Verdict
from services.local.broker import LocalBroker
from services.local.tally import Tally

pytestmark = pytest.mark.integration

SECOND_NS = 1_000_000_000
NOW_NS = 1_780_000_000 * SECOND_NS


@pytest.fixture
def broker() -> Iterator[KafkaConnection]:
    with LocalBroker() as running:
        connection = KafkaConnection(running.bootstrap_servers)
        ensure_topics(connection, standard_topics(partitions=2))
        yield connection


def frame_id(number: int) -> str:
    return derive_frame_id("cam", f"item-{number}", 0, NOW_NS + number)


def inspection(number: int, version: int = 1) -> Inspection:
    import numpy as np

    seen = version > 0
    return Inspection(
        frame_id=frame_id(number),
        part_id=f"part-{number}",
        line_id="line",
        camera_id="cam",
        product="disc",
        sequence=number + 1,
        captured_at_ns=NOW_NS + number,
        decided_at_ns=NOW_NS + number * SECOND_NS,
        verdict=Verdict.FAIL if seen else Verdict.REVIEW,
        reason=Reason.SCORE if seen else Reason.UNREADABLE_IMAGE,
        score=0.9 if seen else float(np.nan),
        operating_point=OperatingPoint(0.5, 0.4, 0.6),
        uncertainty=0.0,
        alias="default",
        model_version=version,
    )


def case(number: int) -> Case:
    import numpy as np

    return Case(
        case_id=case_id(frame_id(number), "default", 1),
        kind=CaseKind.FAIL,
        inspection=inspection(number),
        sampling_probability=1.0,
        embedding=np.zeros(4, np.float16),
        image=b"picture",
    )


def test_the_account_is_of_distinct_ids(broker: KafkaConnection) -> None:
    writer = KafkaRecordWriter(broker)

    def send(topic: str, value: bytes, headers: tuple[tuple[str, bytes], ...] = ()) -> None:
        writer.send(topic, key=b"cam", value=value, headers=headers).result(20)

    for number in range(4):
        send(VERDICTS, encode_inspection(inspection(number)))
    send(VERDICTS, encode_inspection(inspection(2)))
    send(CASES, encode_case(case(0)))
    send(CASES, encode_case(case(1)))
    send(CASES, encode_case(case(1)))
    for number in (0, 0):
        send(EXPLAINED, encode_explained_case(ExplainedCase(case(number), (), NOW_NS)))
    # An unreadable image has both a dead letter and a verdict without a model.
    unreadable = Frame(frame_id(7), "part-7", "line", "cam", "disc", 8, NOW_NS, image=b"no image")
    send(VERDICTS, encode_inspection(inspection(7, version=0)))
    send(dead_letter(FRAMES), encode_frame(unreadable), (("reason", b"image_unsupported"),))
    # A record that is no frame has a place instead of an id.
    place = (("origin_partition", b"1"), ("origin_offset", b"5"))
    send(dead_letter(FRAMES), b"\xff\xff", place)
    send(dead_letter(FRAMES), b"\xff\xff", place)
    writer.close(5)

    tally = Tally(broker)
    assert tally.wait_for(6, 20)
    tally.read_to_end()
    outcome = tally.outcome(frames_in=8)
    tally.close()
    assert outcome.verdicts == 4
    assert outcome.dead_lettered == 2
    assert outcome.cases == 2
    assert outcome.explained == 1
    assert outcome.duplicates == 4
    assert outcome.lost == 2
    assert not outcome.clean


def test_a_case_that_is_not_explained_is_waited_for_and_missed(broker: KafkaConnection) -> None:
    writer = KafkaRecordWriter(broker)

    def explain(number: int) -> None:
        value = encode_explained_case(ExplainedCase(case(number), (), NOW_NS))
        writer.send(EXPLAINED, key=b"cam", value=value).result(20)

    for number in range(2):
        writer.send(VERDICTS, key=b"cam", value=encode_inspection(inspection(number))).result(20)
        writer.send(CASES, key=b"cam", value=encode_case(case(number))).result(20)
    explain(0)
    tally = Tally(broker)
    assert not tally.wait_for_explained(1.0)
    assert not tally.outcome(frames_in=2).clean
    explain(1)
    assert tally.wait_for_explained(20)
    assert tally.outcome(frames_in=2).clean
    tally.close()
    writer.close(5)


def test_the_rate_is_that_of_verdicts_from_the_first_to_the_last(broker: KafkaConnection) -> None:
    writer = KafkaRecordWriter(broker)
    for number in range(5):
        writer.send(VERDICTS, key=b"cam", value=encode_inspection(inspection(number))).result(20)
    writer.close(5)
    tally = Tally(broker)
    assert tally.wait_for(5, 20)
    outcome = tally.outcome(frames_in=5)
    tally.close()
    assert outcome.frames_per_s == 1.0
    assert outcome.clean


def test_waiting_ends_when_nothing_comes_any_more(broker: KafkaConnection) -> None:
    tally = Tally(broker)
    assert not tally.wait_for(1, 0.3)
    assert not tally.wait_for(1, 30, during=lambda settled: settled > 0)
    assert tally.outcome(frames_in=1).lost == 1
    tally.close()
