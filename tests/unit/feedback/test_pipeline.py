"""Explained cases in, cases on record and in the index out, on ports in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from services.adapters.caseindex import SqlCaseIndex
from services.adapters.caseindex_database import IndexDamagedError
from services.core import topics
from services.core.review import CaseState
from services.core.types import CaseKind, Grade, ImageRef, Reason
from services.feedback.picture import shown_size_px
from services.feedback.readiness import IntakeHealth
from services.runtime.images import case_image_key
from services.runtime.lifecycle import Health
from services.runtime.settings import LimitSettings
from tests.support.detector_line import wait_until
from tests.support.explained import explanation, failed
from tests.support.explainer_line import NOW_NS, make_case
from tests.support.feedback_line import HEIGHT_PX, IMAGE, WIDTH_PX, FeedbackLine, answer, explained


@pytest.fixture
def line() -> Iterator[FeedbackLine]:
    line = FeedbackLine()
    yield line
    line.stop()


def committed(line: FeedbackLine, count: int) -> None:
    wait_until(lambda: line.committed() == count, f"{count} records are committed, are {line.committed()}")


def elsewhere(line: FeedbackLine, image: bytes = IMAGE, number: int = 0) -> ImageRef:
    """Where the detector has put a case's image."""
    frame_id = make_case(number, image).inspection.frame_id
    return line.store.put(case_image_key("line-1", "cam-1", frame_id, "png", NOW_NS), image)


# ---- what becomes of a case


def test_a_case_is_on_record_and_in_the_queue_when_its_offset_is_committed(line: FeedbackLine) -> None:
    line.start()
    sent = explained(0, explanations=[explanation(), explanation("gradcam")])
    line.send(sent)
    committed(line, 1)
    (case,) = line.queue()
    assert (case.case_id, case.kind, case.state) == (sent.case.case_id, CaseKind.FAIL, CaseState.OPEN)
    assert (case.image_width_px, case.image_height_px) == (WIDTH_PX, HEIGHT_PX)
    assert (case.shown_method, case.shown_grade) == ("invrise-soft", Grade.B)
    assert case.image_ref.key == f"record/images/{_digest(IMAGE)[:2]}/{_digest(IMAGE)}.png"
    assert line.store.get(case.image_ref.key) == IMAGE
    kept = line.record.case(case.case_id)
    assert kept.case.image_ref == case.image_ref
    assert [one.method for one in kept.explanations] == ["invrise-soft", "gradcam"]


def test_a_picture_by_reference_is_copied_before_it_expires(line: FeedbackLine) -> None:
    line.start()
    ref = elsewhere(line)
    line.send(explained(0, ref))
    committed(line, 1)
    (case,) = line.queue()
    assert case.image_ref.key.startswith("record/images/")
    line.store.delete([ref.key])
    assert line.store.get(case.image_ref.key) == IMAGE


def test_a_case_of_which_no_method_has_a_map_is_kept(line: FeedbackLine) -> None:
    line.start()
    line.send(explained(0, explanations=[failed()]), explained(1, explanations=[]))
    committed(line, 2)
    assert [(case.shown_method, case.shown_grade) for case in line.queue()] == [("", None)] * 2


def test_a_picture_that_nobody_can_read_is_kept_without_a_size(line: FeedbackLine) -> None:
    line.start()
    line.send(explained(0, b"torn"))
    committed(line, 1)
    (case,) = line.queue()
    assert (case.image_width_px, case.image_height_px) == (0, 0)
    assert line.store.get(case.image_ref.key) == b"torn"


def test_what_the_detector_could_not_read_has_no_size_whatever_its_header_says() -> None:
    case = make_case(0, IMAGE)
    unread = replace(case, inspection=replace(case.inspection, reason=Reason.UNREADABLE_IMAGE))
    assert shown_size_px(case, IMAGE) == (WIDTH_PX, HEIGHT_PX)
    assert shown_size_px(unread, IMAGE) == (0, 0)


def test_many_cases_go_into_the_index_in_few_writes(line: FeedbackLine) -> None:
    line.index.unavailable = True
    line.send(*[explained(number, camera=f"cam-{number % 3}") for number in range(60)])
    consuming = line.start()
    wait_until(lambda: consuming.paused == [True], "the index is waited for")
    line.index.unavailable = False
    committed(line, 60)
    assert len(line.queue()) == 60
    assert line.index.additions < 20


# ---- the same again


def test_a_replay_changes_nothing(line: FeedbackLine) -> None:
    first = line.start()
    sent = [explained(number) for number in range(3)]
    line.send(*sent)
    committed(line, 3)
    client_says = answer(line.queue()[0])
    line.reviewing.submit(client_says, b"")
    before, puts = line.queue(), line.store.puts
    first.crash()
    for partition in line.broker.partitions(topics.EXPLAINED):
        line.broker.commit("feedback", {partition: 0})
    line.start()
    committed(line, 3)
    assert line.queue() == before
    assert line.store.puts == puts


def test_a_case_that_was_explained_anew_takes_the_earlier_one_s_place_and_not_the_other_way(
    line: FeedbackLine,
) -> None:
    line.start()
    line.send(
        explained(0, explained_at_ns=NOW_NS + 20, explanations=[explanation("gradcam")]),
        explained(0, explained_at_ns=NOW_NS + 10),
    )
    committed(line, 2)
    (case,) = line.queue()
    assert case.shown_method == "gradcam"
    assert [one.method for one in line.record.case(case.case_id).explanations] == ["gradcam"]


# ---- what cannot be used


def test_what_is_no_explained_case_goes_to_the_dead_letters_and_the_others_go_on(line: FeedbackLine) -> None:
    line.start()
    line.broker.append(topics.EXPLAINED, key=b"cam-1", value=b"\xff\xff", headers=[("traceparent", b"00-1")])
    line.send(explained(0))
    committed(line, 2)
    (letter,) = line.dead_letters
    headers = dict(letter.headers)
    assert letter.value == b"\xff\xff"
    assert headers["reason"] == b"event_undecodable"
    assert (headers["origin_topic"], headers["traceparent"]) == (topics.EXPLAINED.encode(), b"00-1")
    assert len(line.queue()) == 1


def test_a_case_whose_picture_is_gone_goes_to_the_dead_letters(line: FeedbackLine) -> None:
    line.start()
    ref = elsewhere(line)
    line.store.delete([ref.key])
    line.send(explained(0, ref))
    committed(line, 1)
    assert dict(line.dead_letters[0].headers)["reason"] == b"image_missing"
    assert line.queue() == []


def test_a_case_whose_picture_was_exchanged_goes_to_the_dead_letters(line: FeedbackLine) -> None:
    line.start()
    ref = elsewhere(line)
    line.store.put(ref.key, b"other")
    line.send(explained(0, ref))
    committed(line, 1)
    assert dict(line.dead_letters[0].headers)["reason"] == b"image_invalid"


def test_a_picture_that_is_too_large_goes_to_the_dead_letters() -> None:
    line = FeedbackLine(limits=LimitSettings(max_image_bytes=1_000))
    line.start()
    line.send(explained(0, elsewhere(line, IMAGE + bytes(1_000))))
    committed(line, 1)
    assert dict(line.dead_letters[0].headers)["reason"] == b"invalid_input"
    line.stop()


def test_a_dead_letter_is_written_before_its_offset_is_committed(line: FeedbackLine) -> None:
    line.broker.append(topics.EXPLAINED, key=b"cam-1", value=b"\xff\xff")
    line.writer.holding = True
    line.start()
    wait_until(lambda: len(line.dead_letters) == 1, "it is written")
    assert line.committed() == 0
    line.writer.release()
    committed(line, 1)


# ---- something is away


def test_while_the_object_store_is_away_cases_keep_their_place(line: FeedbackLine) -> None:
    consuming = line.start()
    line.store.unavailable = True
    line.send(*[explained(number) for number in range(5)])
    wait_until(lambda: consuming.paused == [True], "partitions are paused")
    assert not consuming.health.ready
    assert line.committed() == 0
    assert line.dead_letters == []
    line.store.unavailable = False
    committed(line, 5)
    wait_until(lambda: consuming.health.ready and consuming.paused == [True, False], "it goes on")
    assert len(line.queue()) == 5


def test_while_the_index_is_away_cases_keep_their_place(line: FeedbackLine) -> None:
    consuming = line.start()
    line.index.unavailable = True
    line.send(explained(0))
    wait_until(lambda: not consuming.health.ready, "it is noticed")
    assert line.committed() == 0
    line.index.unavailable = False
    committed(line, 1)
    assert len(line.queue()) == 1


def test_a_stop_during_an_outage_leaves_cases_to_whoever_reads_them_next(line: FeedbackLine) -> None:
    first = line.start()
    line.store.unavailable = True
    line.send(explained(0))
    wait_until(lambda: not first.health.ready, "it is noticed")
    first.stop()
    assert line.committed() == 0
    line.store.unavailable = False
    line.start()
    committed(line, 1)
    assert len(line.queue()) == 1


def test_a_stop_finishes_what_was_taken(line: FeedbackLine) -> None:
    consuming = line.start()
    line.send(*[explained(number) for number in range(20)])
    wait_until(lambda: line.queue() != [], "it has begun")
    consuming.stop()
    assert line.committed() == len(line.queue())


def test_a_damaged_index_ends_the_service(line: FeedbackLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: object) -> None:
        raise IndexDamagedError("the case index must be whole, got 'malformed'")

    monkeypatch.setattr(SqlCaseIndex, "add_cases", damaged)
    consuming = line.start()
    line.send(explained(0))
    wait_until(lambda: consuming.failure is not None, "it ends")
    assert isinstance(consuming.failure, IndexDamagedError)
    consuming.failure = None


def test_what_keeps_new_cases_from_coming_keeps_nobody_from_reviewing() -> None:
    service = Health(stall_s=5.0)
    intake = IntakeHealth(service)
    intake.set_ready(True)
    intake.hold("kafka", "no answer")
    assert service.ready
    assert not intake.ready
    intake.release("kafka")
    assert intake.ready
    intake.set_ready(False)
    assert not service.ready


def test_rounds_of_the_consumer_s_loop_keep_the_service_alive() -> None:
    now_s = [0.0]
    service = Health(stall_s=5.0, clock=lambda: now_s[0])
    now_s[0] = 6.0
    assert not service.alive
    IntakeHealth(service).turned()
    assert service.alive


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
