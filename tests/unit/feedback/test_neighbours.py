"""What resembles a case, over the service's own port: looked at, and brought into the queue."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.adapters.caseindex import SqlCaseIndex
from services.adapters.codec import encode_frame
from services.adapters.embeddingindex import SqlEmbeddingIndex
from services.adapters.feedbackclient import FeedbackClient
from services.adapters.ports import CaseFilter, QueueOrder
from services.core import topics
from services.core.errors import InvalidInputError, NotFoundError, UnavailableError
from services.core.identity import case_id
from services.core.neighbours import Neighbours, Relation
from services.core.review import Answer, CaseState, QueuedCase
from services.core.types import CaseKind, ExplainedCase, Frame, FrameEmbedding, ImageRef, Verdict
from services.feedback.embeddings import EmbeddingTidier
from services.feedback.rebuild import rebuild_index
from services.feedback.refill import IndexRefill
from services.runtime import metrics
from tests.support.detector_line import wait_until
from tests.support.explainer_line import NOW_NS, make_case, picture
from tests.support.feedback_line import FeedbackLine, answer, explained

HIT, MISS, FAR = Relation.NEAR_HIT, Relation.NEAR_MISS, Relation.FARTHEST
WRONG = {"verdict_right": Answer.NO, "reason_right": Answer.NOT_ASKED, "corrected_verdict": Verdict.PASS}
HOUR_NS = 3_600_000_000_000


@pytest.fixture
def line() -> Iterator[FeedbackLine]:
    line = FeedbackLine()
    yield line
    line.stop()


@pytest.fixture
def client(line: FeedbackLine) -> FeedbackClient:
    return line.serve()


def explained_case(number: int, seen: Sequence[float], **changes: Any) -> ExplainedCase:
    """An explained case with what the model saw in it."""
    made = explained(number, image=shown(number), **changes)
    return replace(made, case=replace(made.case, embedding=np.array(seen, np.float16)))


def add_case(line: FeedbackLine, number: int, seen: Sequence[float], **changes: Any) -> QueuedCase:
    """Put a case on record, into the index, and what the model saw in it too."""
    made = explained_case(number, seen, **changes)
    queued = line.add_case(number, image=shown(number), **changes)
    kept = line.intake.of_case(made.case)
    assert kept is not None
    line.intake.put([kept])
    return queued


def shown(number: int) -> bytes:
    return picture(spot=(number % 20, number // 20), height_px=30, width_px=40)


def frame(
    line: FeedbackLine,
    number: int,
    seen: Sequence[float],
    *,
    kind: CaseKind = CaseKind.AUDIT,
    by_reference: bool = False,
) -> FrameEmbedding:
    """What the model saw in a frame that is no case; its picture lies where the line keeps those of frames."""
    inspection = make_case(number, b"", kind=kind).inspection
    if by_reference:
        ref = line.store.put(f"frames/line-1/cam-1/20260921/10/{inspection.frame_id}.png", shown(number))
        return FrameEmbedding(replace(inspection, image_ref=ref), np.array(seen, np.float16))
    record = Frame(
        frame_id=inspection.frame_id,
        part_id=inspection.part_id,
        line_id=inspection.line_id,
        camera_id=inspection.camera_id,
        product=inspection.product,
        sequence=inspection.sequence,
        captured_at_ns=inspection.captured_at_ns,
        image=shown(number),
    )
    position = line.broker.append(topics.FRAMES, key=b"cam-1", value=encode_frame(record))
    return FrameEmbedding(replace(inspection, position=position), np.array(seen, np.float16))


def id_of(seen: FrameEmbedding) -> str:
    return case_id(seen.inspection.frame_id, seen.inspection.alias, seen.inspection.model_version)


def told(found: Neighbours) -> dict[Relation, str]:
    return {one.relation: one.neighbour_id for one in found.neighbours}


def first_of_the_queue(line: FeedbackLine) -> QueuedCase:
    return line.index.list_cases(CaseFilter(), QueueOrder.BY_GAIN, limit=1, now_ns=line.now_ns).cases[0]


# ---- looking


def test_looking_changes_nothing(line: FeedbackLine, client: FeedbackClient) -> None:
    case = add_case(line, 0, [1, 0, 0])
    near, good, far = (
        frame(line, number, seen, kind=kind)
        for number, seen, kind in (
            (1, [1, 0.1, 0], CaseKind.FAIL),
            (2, [1, 0.2, 0], CaseKind.AUDIT),
            (3, [-1, 0, 0], CaseKind.AUDIT),
        )
    )
    line.see(near, good, far)
    found = client.neighbours(case.case_id)
    assert told(found) == {HIT: id_of(near), MISS: id_of(good), FAR: id_of(far)}
    assert [one.relation for one in found.neighbours] == [HIT, MISS, FAR]
    assert (found.compared, found.exact, found.queued) == (3, True, ())
    assert [one.case for one in found.neighbours] == [None] * 3
    assert found.neighbours[1].inspection.position == good.inspection.position
    assert found.neighbours[1].similarity == pytest.approx(0.98058, abs=1e-3)
    assert [one.case_id for one in line.queue()] == [case.case_id]


def test_a_neighbour_that_is_a_case_comes_with_what_people_settled_on(
    line: FeedbackLine, client: FeedbackClient
) -> None:
    case, other = add_case(line, 0, [1, 0, 0]), add_case(line, 1, [1, 0.1, 0])
    line.reviewing.submit(answer(other, **WRONG), b"")
    (miss, far) = client.neighbours(case.case_id).neighbours
    assert (miss.relation, far.relation) == (MISS, FAR)
    assert miss.case is not None
    assert (miss.case.case_id, miss.case.state, miss.case.settled_verdict) == (
        other.case_id,
        CaseState.REVIEWED,
        Verdict.PASS,
    )


def test_what_people_settled_on_of_the_case_turns_hits_into_misses(line: FeedbackLine, client: FeedbackClient) -> None:
    case = add_case(line, 0, [1, 0, 0])
    bad, good = frame(line, 1, [1, 0.1, 0], kind=CaseKind.FAIL), frame(line, 2, [1, 0.2, 0])
    line.see(bad, good)
    assert told(client.neighbours(case.case_id))[HIT] == id_of(bad)
    line.reviewing.submit(answer(case, **WRONG), b"")
    assert told(client.neighbours(case.case_id))[HIT] == id_of(good)


def test_a_case_whose_embedding_is_gone_is_compared_by_its_record(line: FeedbackLine, client: FeedbackClient) -> None:
    made = explained_case(0, [1, 0, 0])
    line.index.add_cases([_kept(line, made)])
    line.see(frame(line, 1, [1, 0.1, 0]))
    assert MISS in told(client.neighbours(made.case.case_id))


def _kept(line: FeedbackLine, made: ExplainedCase) -> QueuedCase:
    from services.feedback.keeping import keep_case

    assert made.case.image is not None
    return keep_case(line.record, made, made.case.image)


def test_a_case_that_no_model_saw_has_no_neighbours(line: FeedbackLine, client: FeedbackClient) -> None:
    case = line.add_case(0)
    line.see(frame(line, 1, [1, 0.1, 0, 0]))
    found = client.neighbours(case.case_id)
    assert (found.neighbours, found.compared, found.exact) == ((), 0, True)
    assert client.neighbours(case.case_id, "ada").queued == ()


def test_who_asks_for_what_is_not_there_or_in_no_name_is_told_so(line: FeedbackLine, client: FeedbackClient) -> None:
    case = add_case(line, 0, [1, 0, 0])
    with pytest.raises(NotFoundError, match="a case must be in the index"):
        client.neighbours(case_id(case.inspection.frame_id, "other", 1))
    with pytest.raises(InvalidInputError, match="case_id must be"):
        client.neighbours("../../etc/passwd")
    with pytest.raises(InvalidInputError, match="reviewer must be a name"):
        client.neighbours(case.case_id, " ")
    line.index.unavailable = True
    with pytest.raises(UnavailableError):
        client.neighbours(case.case_id)


# ---- into the queue


@pytest.mark.parametrize("by_reference", [False, True])
def test_near_hit_and_near_miss_that_were_no_cases_become_cases_with_their_pictures(
    line: FeedbackLine, client: FeedbackClient, by_reference: bool
) -> None:
    case = add_case(line, 0, [1, 0, 0])
    certain = add_case(line, 9, [0, 0, 1])
    bad = frame(line, 1, [1, 0.1, 0], kind=CaseKind.FAIL, by_reference=by_reference)
    good = frame(line, 2, [1, 0.2, 0], by_reference=by_reference)
    far = frame(line, 3, [-1, 0, 0], by_reference=by_reference)
    line.see(bad, good, far)
    line.reviewing.submit(answer(case, **WRONG), b"")
    found = client.neighbours(case.case_id, "ada")
    assert told(found) == {HIT: id_of(good), MISS: id_of(bad), FAR: id_of(far)}
    assert [one.case_id for one in found.queued] == [id_of(good), id_of(bad)]
    for queued, number in zip(found.queued, (2, 1), strict=True):
        assert (queued.kind, queued.state, queued.sampling_probability) == (CaseKind.NEIGHBOUR, CaseState.OPEN, 1.0)
        assert (queued.image_width_px, queued.image_height_px, queued.shown_method) == (40, 30, "")
        assert line.record.image(queued.image_ref) == shown(number)
        kept = line.record.case(queued.case_id)
        assert (kept.case.kind, kept.explanations, kept.case.embedding.size) == (CaseKind.NEIGHBOUR, (), 3)
        assert line.embeddings.find(queued.case_id).expires_at_ns == 0
    assert {one.neighbour_id: one.case is not None for one in found.neighbours} == {
        id_of(good): True,
        id_of(bad): True,
        id_of(far): False,
    }
    # Whoever loads the queue anew finds them in front of what the model is as sure of.
    first = first_of_the_queue(line)
    assert first.kind is CaseKind.NEIGHBOUR
    assert first.gain == 1.0
    assert certain.gain < 1.0
    # And asks about them as about any other case.
    kept, state = client.submit(answer(first, shown_method="", reason_right=Answer.NOT_ASKED), b"")
    assert (kept.case_id, state) == (first.case_id, CaseState.REVIEWED)


def test_asking_twice_is_asking_once(line: FeedbackLine, client: FeedbackClient) -> None:
    case = add_case(line, 0, [1, 0, 0])
    line.see(frame(line, 1, [1, 0.1, 0], kind=CaseKind.FAIL), frame(line, 2, [1, 0.2, 0]))
    first = client.neighbours(case.case_id, "ada")
    puts = line.store.puts
    assert client.neighbours(case.case_id, "ada") == first
    assert line.store.puts == puts
    assert len(line.queue()) == 3


def test_a_picture_that_is_gone_is_passed_over_for_the_next_most_similar(
    line: FeedbackLine, client: FeedbackClient
) -> None:
    case = add_case(line, 0, [1, 0, 0])
    gone, there = frame(line, 1, [1, 0.1, 0]), frame(line, 2, [1, 0.3, 0])
    replaced = frame(line, 3, [1, 0.2, 0])
    assert gone.inspection.position is not None
    nowhere = FrameEmbedding(
        replace(gone.inspection, position=replace(gone.inspection.position, offset=10_000)), gone.embedding
    )
    another = FrameEmbedding(replace(replaced.inspection, position=there.inspection.position), replaced.embedding)
    damaged = frame(line, 4, [1, 0.05, 0], by_reference=True)
    assert damaged.inspection.image_ref is not None
    line.store.put(damaged.inspection.image_ref.key, b"something else")
    placeless = FrameEmbedding(replace(frame(line, 5, [1, 0.01, 0]).inspection, position=None), damaged.embedding)
    line.see(nowhere, there, another, damaged, placeless)
    assert told(client.neighbours(case.case_id))[MISS] in {id_of(damaged), id_of(placeless)}
    found = client.neighbours(case.case_id, "ada")
    assert told(found)[MISS] == id_of(there)
    assert [one.case_id for one in found.queued] == [id_of(there)]
    assert {one.case_id for one in line.queue()} == {case.case_id, id_of(there)}


def test_where_many_pictures_are_gone_one_that_is_there_is_found_behind_them(
    line: FeedbackLine, client: FeedbackClient
) -> None:
    case = add_case(line, 0, [1, 0, 0])
    gone = [frame(line, number, [1, 0.01 * number, 0]) for number in range(1, 21)]
    for partition in line.broker.partitions(topics.FRAMES):
        line.broker.expire(partition, line.broker.end(partition))
    there = frame(line, 30, [1, 0.5, 0])
    line.see(*gone, there)
    found = client.neighbours(case.case_id, "ada")
    assert [one.case_id for one in found.queued] == [id_of(there)]
    # Nobody looks for the same pictures again.
    assert not any(_has(line, id_of(one)) for one in gone)
    assert client.neighbours(case.case_id).compared == 1


def test_where_no_picture_is_left_nothing_is_queued(line: FeedbackLine, client: FeedbackClient) -> None:
    case = add_case(line, 0, [1, 0, 0])
    line.see(*(frame(line, number, [1, 0.1 * number, 0]) for number in range(1, 4)))
    for partition in line.broker.partitions(topics.FRAMES):
        line.broker.expire(partition, line.broker.end(partition))
    assert MISS in told(client.neighbours(case.case_id))
    found = client.neighbours(case.case_id, "ada")
    assert (found.neighbours, found.queued, found.compared) == ((), (), 0)
    assert len(line.queue()) == 1


def test_a_broker_that_is_away_is_said_and_the_same_call_goes_through_later(
    line: FeedbackLine, client: FeedbackClient
) -> None:
    case = add_case(line, 0, [1, 0, 0])
    line.see(frame(line, 1, [1, 0.1, 0]))
    line.broker.unavailable = True
    with pytest.raises(UnavailableError):
        client.neighbours(case.case_id, "ada")
    assert len(line.queue()) == 1
    line.broker.unavailable = False
    assert len(client.neighbours(case.case_id, "ada").queued) == 1


def test_what_people_answered_is_shown_and_not_asked_about_again(line: FeedbackLine, client: FeedbackClient) -> None:
    case, known = add_case(line, 0, [1, 0, 0]), add_case(line, 1, [1, 0.1, 0])
    line.reviewing.submit(answer(known), b"")
    found = client.neighbours(case.case_id, "ada")
    assert told(found)[HIT] == known.case_id
    assert found.queued == ()


def test_what_somebody_else_holds_is_left_to_them(line: FeedbackLine, client: FeedbackClient) -> None:
    case, held = add_case(line, 0, [1, 0, 0]), add_case(line, 1, [1, 0.1, 0])
    client.claim(held.case_id, "bob")
    assert client.neighbours(case.case_id, "ada").queued == ()
    assert [one.case_id for one in client.neighbours(case.case_id, "bob").queued] == [held.case_id]
    line.now_ns += HOUR_NS
    assert [one.case_id for one in client.neighbours(case.case_id, "ada").queued] == [held.case_id]


def test_a_neighbour_that_is_explained_later_becomes_an_ordinary_case(
    line: FeedbackLine, client: FeedbackClient
) -> None:
    case = add_case(line, 0, [1, 0, 0])
    bad = frame(line, 1, [1, 0.1, 0], kind=CaseKind.FAIL)
    line.see(bad)
    (queued,) = client.neighbours(case.case_id, "ada").queued
    line.reviewing.submit(answer(queued, shown_method="", reason_right=Answer.NOT_ASKED), b"")
    ordinary = add_case(line, 1, [1, 0.1, 0])
    assert ordinary.case_id == queued.case_id
    now = line.index.find_case(queued.case_id)
    assert (now.kind, now.state, now.shown_method) == (CaseKind.FAIL, CaseState.REVIEWED, "invrise-soft")
    assert line.record.case(queued.case_id).case.kind is CaseKind.FAIL
    # And not a neighbour again.
    client.neighbours(case.case_id, "ada")
    assert line.index.find_case(queued.case_id).kind is CaseKind.FAIL


def test_a_neighbour_counts_in_no_audit(line: FeedbackLine, client: FeedbackClient) -> None:
    case = add_case(line, 0, [1, 0, 0])
    line.see(frame(line, 2, [1, 0.2, 0]))
    client.neighbours(case.case_id, "ada")
    assert client.stats(CaseFilter(kind=CaseKind.AUDIT)).open == 0
    assert client.stats(CaseFilter(kind=CaseKind.NEIGHBOUR)).open == 1


# ---- on the way in


def test_what_is_published_of_frames_and_cases_is_kept_and_committed(line: FeedbackLine) -> None:
    line.start()
    seen = frame(line, 1, [3, 4, 0])
    line.send(explained_case(0, [1, 0, 0]))
    line.send_frames(seen)
    wait_until(lambda: _has(line, id_of(seen)), "the frame's embedding")
    wait_until(lambda: _has(line, explained_case(0, [1, 0, 0]).case.case_id), "the case's embedding")
    kept = line.embeddings.find(id_of(seen))
    assert kept.embedding == pytest.approx([0.6, 0.8, 0], abs=1e-3)
    assert kept.expires_at_ns == seen.inspection.decided_at_ns + 24 * HOUR_NS
    assert kept.inspection.position == seen.inspection.position

    def committed() -> int:
        return sum(line.broker.committed("feedback", one) or 0 for one in line.broker.partitions(topics.EMBEDDINGS))

    wait_until(lambda: committed() == 1, "its offset is committed")


def _has(line: FeedbackLine, derived_id: str) -> bool:
    try:
        line.embeddings.find(derived_id)
    except NotFoundError:
        return False
    return True


@pytest.mark.parametrize(
    ("seen", "flaw"),
    [
        ([], "empty"),
        ([0, 0, 0], "zero"),
        ([1, math.nan, 0], "not_finite"),
        ([1, math.inf, 0], "not_finite"),
        ([1, 0, 0, 0], "other_length"),
    ],
)
def test_an_embedding_that_cannot_be_compared_is_counted_and_told_once(
    line: FeedbackLine, caplog: pytest.LogCaptureFixture, seen: list[float], flaw: str
) -> None:
    before = metrics.FEEDBACK_EMBEDDINGS.labels(flaw)._value.get()
    case = add_case(line, 0, [1, 0, 0])
    line.start()
    bad = [frame(line, number, seen) for number in (1, 2)]
    right = frame(line, 3, [1, 0.1, 0])
    with caplog.at_level("WARNING", "services.feedback.embeddings"):
        line.send_frames(*bad, right)
        wait_until(lambda: _has(line, id_of(right)), "the good embedding")
    assert metrics.FEEDBACK_EMBEDDINGS.labels(flaw)._value.get() - before == 2
    assert [flaw in record.getMessage() for record in caplog.records] == [True]
    assert told(line.finder().look(case.case_id)) == {MISS: id_of(right), FAR: id_of(right)}
    assert line.broker.records(topics.dead_letter(topics.EMBEDDINGS)) == []


def test_the_largest_and_smallest_numbers_have_a_direction(line: FeedbackLine) -> None:
    case = add_case(line, 0, [65_504, 65_504, 0])
    tiny = frame(line, 1, [6e-8, 6e-8, 0])
    line.see(tiny)
    (miss, _) = line.finder().look(case.case_id).neighbours
    assert miss.similarity == pytest.approx(1.0, abs=1e-3)


def test_what_is_no_embedding_goes_to_the_dead_letters(line: FeedbackLine) -> None:
    line.start()
    line.broker.append(topics.EMBEDDINGS, key=b"cam-1", value=b"\xff\xff")
    letters = topics.dead_letter(topics.EMBEDDINGS)
    wait_until(lambda: len(line.broker.records(letters)) == 1, "the dead letter")
    assert dict(line.broker.records(letters)[0].headers)["reason"] == b"event_undecodable"


def test_what_has_expired_on_arrival_is_not_kept(line: FeedbackLine) -> None:
    old = frame(line, 1, [1, 0, 0])
    line.now_ns = old.inspection.decided_at_ns + 24 * HOUR_NS
    line.see(old)
    assert not _has(line, id_of(old))


def test_the_tidier_forgets_what_has_expired_and_waits_out_an_index_that_is_away(line: FeedbackLine) -> None:
    soon = frame(line, 1, [1, 0, 0])
    line.see(soon)
    away = [True]

    class Sometimes:
        def tidy(self, now_ns: int) -> int:
            if away.pop() if away else False:
                raise UnavailableError("the case index must answer, got 'disk is full'")
            return line.embeddings.tidy(now_ns)

    tidier = EmbeddingTidier(Sometimes(), interval_s=0.01, clock_ns=lambda: NOW_NS + 25 * HOUR_NS)  # type: ignore[arg-type]
    tidier.start()
    wait_until(lambda: not _has(line, id_of(soon)), "it is forgotten")
    tidier.check()
    tidier.close()
    tidier.close()


def test_an_index_that_is_made_anew_has_what_the_models_saw_in_cases(
    line: FeedbackLine, client: FeedbackClient
) -> None:
    case = add_case(line, 0, [1, 0, 0])
    other = explained_case(1, [1, 0.1, 0])
    line.index.add_cases([_kept(line, other)])
    good = frame(line, 2, [1, 0.2, 0])
    line.see(good)
    assert told(client.neighbours(case.case_id)) == {MISS: id_of(good), FAR: id_of(good)}
    # The record of the first case has no embedding that can be compared; the index forgets it with the others.
    rebuild_index(line.index, line.record, embeddings=line.embeddings)
    assert not _has(line, case.case_id)
    assert _has(line, other.case.case_id)
    assert _has(line, id_of(good))
    assert told(client.neighbours(other.case.case_id)) == {MISS: id_of(good), FAR: id_of(good)}


def test_an_index_that_was_lost_fills_itself_with_what_the_models_saw_too(line: FeedbackLine) -> None:
    made = explained_case(1, [1, 0.1, 0])
    _kept(line, made)
    index = SqlCaseIndex("sqlite://")
    embeddings = SqlEmbeddingIndex(index.database)
    refill = IndexRefill(index, line.record, embeddings=embeddings)
    refill.start()
    assert refill.wait(20)
    refill.check()
    assert embeddings.find(made.case.case_id).expires_at_ns == 0
    refill.close()
    index.close()


def test_where_the_picture_lies_is_checked(line: FeedbackLine) -> None:
    case = add_case(line, 0, [1, 0, 0])
    seen = frame(line, 1, [1, 0.1, 0])
    elsewhere = ImageRef("secrets", "key", 10, "ab" * 32)
    line.see(FrameEmbedding(replace(seen.inspection, position=None, image_ref=elsewhere), seen.embedding))
    assert line.finder().bring(case.case_id, "ada").queued == ()
