"""What every index of embeddings promises, on SQLite in memory and on disk, and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from services.adapters.caseindex import SqlCaseIndex
from services.adapters.embeddingindex import SqlEmbeddingIndex
from services.adapters.ports import EmbeddingIndex, KeptEmbedding, NearestEmbeddings
from services.core.errors import NotFoundError
from services.core.neighbours import Relation
from services.core.types import Verdict
from tests.support.cases import queued_case, undo, wrong
from tests.support.embeddings import EXPIRES_NS, NOW_NS, by_hand, kept, query

HIT, MISS, FAR = Relation.NEAR_HIT, Relation.NEAR_MISS, Relation.FARTHEST


@dataclass
class Opened:
    """A database of cases, and how an index of embeddings in it is opened."""

    cases: SqlCaseIndex

    def embeddings(self, **changes: int) -> SqlEmbeddingIndex:
        return SqlEmbeddingIndex(self.cases.database, **changes)


@pytest.fixture
def opened(database_url: str) -> Iterator[Opened]:
    made = SqlCaseIndex(database_url)
    yield Opened(made)
    made.close()


@pytest.fixture
def index(opened: Opened) -> EmbeddingIndex:
    return opened.embeddings()


def told(nearest: NearestEmbeddings) -> dict[Relation, list[str]]:
    return {relation: [one.case_id for _, one in some] for relation, some in nearest.found.items()}


def ids(*embeddings: KeptEmbedding) -> list[str]:
    return [one.case_id for one in embeddings]


ASKED = kept(0, [1, 0, 0], Verdict.FAIL)
SAME = kept(1, [0.9, 0.1, 0], Verdict.FAIL)
OTHER = kept(2, [0.8, 0.3, 0], Verdict.PASS)
OPPOSITE = kept(3, [-1, 0.1, 0], Verdict.PASS)


# ---- keeping


def test_an_embedding_comes_back_as_it_was(index: EmbeddingIndex) -> None:
    assert index.put([SAME, OTHER]) == 0
    found = index.find(OTHER.case_id)
    assert (found.case_id, found.inspection, found.expires_at_ns) == (OTHER.case_id, OTHER.inspection, EXPIRES_NS)
    assert found.embedding.dtype == np.float16
    np.testing.assert_array_equal(found.embedding, OTHER.embedding)
    with pytest.raises(NotFoundError, match="an embedding must be in the index, got"):
        index.find(ASKED.case_id)
    assert index.put([]) == 0


def test_a_frame_that_comes_again_is_not_kept_longer_for_it(index: EmbeddingIndex) -> None:
    index.put([SAME])
    index.put([replace(SAME, expires_at_ns=EXPIRES_NS + 1), replace(SAME, expires_at_ns=EXPIRES_NS + 2)])
    assert index.find(SAME.case_id).expires_at_ns == EXPIRES_NS


def test_a_frame_that_becomes_a_case_stays_and_does_not_become_a_frame_again(index: EmbeddingIndex) -> None:
    index.put([ASKED, SAME])
    index.put([replace(SAME, expires_at_ns=0)])
    index.put([SAME])
    assert index.find(SAME.case_id).expires_at_ns == 0
    assert index.tidy(EXPIRES_NS) == 1
    assert told(index.nearest(query(ASKED), most=5, now_ns=EXPIRES_NS)) == {HIT: ids(SAME), FAR: ids(SAME)}


def test_another_length_than_that_of_its_version_is_left_out(opened: Opened) -> None:
    index = opened.embeddings()
    longer = kept(4, [1, 0, 0, 0])
    of_another = kept(5, [1, 0, 0, 0], model_version=2)
    assert index.put([SAME, longer, of_another]) == 1
    # Also by a process that has just begun.
    assert opened.embeddings().put([longer, OTHER]) == 1
    with pytest.raises(NotFoundError):
        index.find(longer.case_id)
    nothing = index.nearest(replace(query(ASKED), embedding=longer.embedding), most=5, now_ns=NOW_NS)
    assert (dict(nothing.found), nothing.compared) == ({}, 0)


def test_what_has_expired_is_not_found_and_then_forgotten(index: EmbeddingIndex) -> None:
    soon = replace(SAME, expires_at_ns=NOW_NS)
    index.put([soon, OTHER])
    assert told(index.nearest(query(ASKED), most=5, now_ns=NOW_NS - 1))[HIT] == ids(soon)
    assert HIT not in told(index.nearest(query(ASKED), most=5, now_ns=NOW_NS))
    assert index.tidy(NOW_NS) == 1
    assert index.tidy(NOW_NS) == 0
    with pytest.raises(NotFoundError):
        index.find(soon.case_id)
    assert index.find(OTHER.case_id).case_id == OTHER.case_id


def test_beyond_the_bound_the_oldest_frames_go_and_after_them_the_oldest_cases(opened: Opened) -> None:
    index = opened.embeddings(max_per_version=3)
    frames = [kept(number, [1, number, 0]) for number in range(1, 5)]
    cases = [kept(10 + number, [1, number, 1], expires_at_ns=0) for number in range(4)]
    other = kept(20, [1, 0, 0], model_version=2)
    index.put([*cases[:2], *frames, other])
    left = sorted(ids(frames[3], *cases[:2]))
    # What is beyond the bound is not found even before it is forgotten.
    assert sorted(told(index.nearest(query(ASKED), most=9, now_ns=NOW_NS))[MISS]) == left
    assert index.tidy(NOW_NS) == 3
    assert sorted(told(index.nearest(query(ASKED), most=9, now_ns=NOW_NS))[MISS]) == left
    index.put(cases[2:])
    assert index.tidy(NOW_NS) == 2
    assert sorted(told(index.nearest(query(ASKED), most=9, now_ns=NOW_NS))[MISS]) == sorted(ids(*cases[1:]))
    assert index.find(other.case_id).case_id == other.case_id


def test_the_embeddings_of_cases_can_be_put_anew(index: EmbeddingIndex) -> None:
    case = replace(SAME, expires_at_ns=0)
    index.put([case, OTHER])
    assert told(index.nearest(query(ASKED), most=5, now_ns=NOW_NS))[HIT] == ids(case)
    index.forget_cases()
    assert told(index.nearest(query(ASKED), most=5, now_ns=NOW_NS)) == {MISS: ids(OTHER), FAR: ids(OTHER)}
    index.put([case])
    assert told(index.nearest(query(ASKED), most=5, now_ns=NOW_NS))[HIT] == ids(case)


def test_a_frame_can_be_forgotten_and_a_case_cannot(index: EmbeddingIndex) -> None:
    case = replace(SAME, expires_at_ns=0)
    index.put([case, OTHER])
    index.nearest(query(ASKED), most=1, now_ns=NOW_NS)
    index.forget(ids(case, OTHER, ASKED))
    assert told(index.nearest(query(ASKED), most=5, now_ns=NOW_NS)) == {HIT: ids(case), FAR: ids(case)}


# ---- neighbours


def test_a_hit_is_of_the_same_class_a_miss_of_the_other_and_the_farthest_of_any(index: EmbeddingIndex) -> None:
    index.put([ASKED, SAME, OTHER, OPPOSITE])
    nearest = index.nearest(query(ASKED), most=1, now_ns=NOW_NS)
    assert told(nearest) == {HIT: ids(SAME), MISS: ids(OTHER), FAR: ids(OPPOSITE)}
    assert (nearest.compared, nearest.exact) == (3, True)
    similarities = {relation: some[0][0] for relation, some in nearest.found.items()}
    assert similarities == pytest.approx({HIT: 0.9939, MISS: 0.9363, FAR: -0.995}, abs=1e-3)
    of_a_good_part = index.nearest(query(ASKED, Verdict.PASS), most=1, now_ns=NOW_NS)
    assert told(of_a_good_part) == {HIT: ids(OTHER), MISS: ids(SAME), FAR: ids(OPPOSITE)}


def test_a_part_without_a_class_has_a_farthest_and_no_other(index: EmbeddingIndex) -> None:
    index.put([ASKED, SAME, OTHER, OPPOSITE])
    assert told(index.nearest(query(ASKED, None), most=1, now_ns=NOW_NS)) == {FAR: ids(OPPOSITE)}


def test_neither_itself_nor_another_picture_of_the_same_part_is_a_neighbour(index: EmbeddingIndex) -> None:
    again = kept(9, [1, 0, 0], Verdict.FAIL, part_id=ASKED.inspection.part_id, camera_id="cam-2")
    index.put([ASKED, again, SAME])
    nearest = index.nearest(query(ASKED), most=5, now_ns=NOW_NS)
    assert told(nearest) == {HIT: ids(SAME), FAR: ids(SAME)}
    assert nearest.compared == 1


def test_only_what_the_same_version_saw_is_compared(index: EmbeddingIndex) -> None:
    index.put([SAME, kept(4, [1, 0, 0], Verdict.FAIL, model_version=2), kept(5, [1, 0, 0], Verdict.FAIL, alias="zip")])
    assert told(index.nearest(query(ASKED), most=5, now_ns=NOW_NS)) == {HIT: ids(SAME), FAR: ids(SAME)}
    assert index.nearest(query(ASKED, model_version=3), most=5, now_ns=NOW_NS).compared == 0


def test_of_equals_the_older_frame_comes_first(index: EmbeddingIndex) -> None:
    equals = [kept(number, [0.5, 0.5, 0], Verdict.FAIL) for number in (8, 5, 7, 6)]
    index.put(equals)
    oldest_first = ids(*sorted(equals, key=lambda one: one.inspection.captured_at_ns))
    nearest = index.nearest(query(ASKED), most=3, now_ns=NOW_NS)
    assert told(nearest) == {HIT: oldest_first[:3], FAR: oldest_first[:3]}


def test_a_part_that_the_model_asked_about_counts_by_its_score(index: EmbeddingIndex) -> None:
    above = kept(4, [1, 0.1, 0], Verdict.REVIEW, score=0.61)
    below = kept(5, [1, 0.1, 0], Verdict.REVIEW, score=0.59)
    unknown = kept(6, [1, 0.1, 0], Verdict.REVIEW, score=float("nan"))
    index.put([above, below, unknown])
    nearest = told(index.nearest(query(ASKED), most=5, now_ns=NOW_NS))
    assert (nearest[HIT], nearest[MISS]) == (ids(above), ids(below))
    assert len(nearest[FAR]) == 3


def test_what_people_settled_on_counts_and_no_longer_once_it_is_taken_back(opened: Opened) -> None:
    index = opened.embeddings()
    case = queued_case(1, Verdict.FAIL)
    opened.cases.add_cases([case])
    index.put([replace(SAME, expires_at_ns=0), OTHER])
    assert SAME.case_id == case.case_id
    said = wrong(case)
    asked = lambda: told(index.nearest(query(ASKED), most=5, now_ns=NOW_NS))  # noqa: E731
    assert (asked()[HIT], asked()[MISS]) == (ids(SAME), ids(OTHER))
    opened.cases.add_review(said, published=False)
    assert asked()[MISS] == ids(SAME, OTHER)
    assert HIT not in asked()
    opened.cases.add_review(undo(case, said, 1), published=False)
    assert (asked()[HIT], asked()[MISS]) == (ids(SAME), ids(OTHER))


# ---- what is in memory


def test_what_another_process_writes_and_forgets_is_noticed(opened: Opened) -> None:
    mine, other = opened.embeddings(), opened.embeddings()
    other.put([SAME, OTHER])
    asked = lambda: told(mine.nearest(query(ASKED), most=5, now_ns=NOW_NS))  # noqa: E731
    assert asked()[HIT] == ids(SAME)
    better = kept(6, [1, 0.01, 0], Verdict.FAIL)
    other.put([better])
    assert asked()[HIT] == ids(better, SAME)
    with opened.cases.database.write() as connection:
        connection.exec_driver_sql(f"DELETE FROM embeddings WHERE case_id = '{SAME.case_id}'")
    assert asked()[HIT] == ids(better)
    with opened.cases.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM embeddings")
    assert asked() == {}


def test_versions_leave_memory_for_others_and_come_back(opened: Opened) -> None:
    index = opened.embeddings(max_bytes=200)
    of_each = [kept(number, [1, number, 0], Verdict.FAIL, model_version=number) for number in range(1, 5)]
    index.put([*of_each, *(kept(10 + one, [1, one, 1], model_version=1) for one in range(3))])
    for _ in range(2):
        for one in of_each:
            asked = query(kept(99, [1, 0, 0], model_version=one.inspection.model_version))
            assert told(index.nearest(replace(asked, own=Verdict.FAIL), most=1, now_ns=NOW_NS))[HIT] == ids(one)
            assert sum(version.size_bytes for version in index._versions.values()) <= 200


def test_of_a_version_that_is_larger_than_memory_the_newest_part_is_searched(opened: Opened) -> None:
    index = opened.embeddings(max_bytes=150)
    frames = [kept(number, [1, 0.1 * number, 0], Verdict.FAIL) for number in range(1, 8)]
    index.put(frames)
    nearest = index.nearest(query(ASKED), most=9, now_ns=NOW_NS)
    assert told(nearest)[HIT] == ids(*frames[4:])
    assert nearest.compared == 3


def test_a_stream_of_frames_is_found_while_it_passes(opened: Opened) -> None:
    index = opened.embeddings(max_per_version=8)
    for number in range(1, 40):
        one = kept(number, [1, np.sin(number), np.cos(number)], Verdict.FAIL)
        index.put([one])
        nearest = index.nearest(query(ASKED), most=99, now_ns=NOW_NS)
        assert one.case_id in told(nearest)[HIT]
        assert nearest.compared == min(number, 8)
        if number % 5 == 0:
            index.tidy(NOW_NS)
    assert len(index._versions["default", 1]._alive) <= 11


def clouds(count: int, length: int, seed: int) -> list[KeptEmbedding]:
    """Embeddings in a few clouds, as those of parts are."""
    dice = np.random.default_rng(seed)
    centres = dice.standard_normal((6, length))
    verdicts = (Verdict.PASS, Verdict.FAIL, Verdict.REVIEW)
    return [
        kept(number, centres[number % 6] + 0.6 * dice.standard_normal(length), verdicts[number % 3], score=number % 2)
        for number in range(1, count + 1)
    ]


def test_many_are_looked_through_by_an_inverted_file_that_says_so(opened: Opened) -> None:
    index = opened.embeddings(exact_up_to=250)
    pool = clouds(400, 16, 3)
    index.put(pool[:200])
    assert index.nearest(query(pool[0]), most=1, now_ns=NOW_NS).exact
    index.put(pool[200:])
    right = 0
    for one in pool[::40]:
        asked = query(one)
        nearest = index.nearest(asked, most=1, now_ns=NOW_NS)
        assert not nearest.exact
        expected = by_hand(asked, pool, {}, most=1, now_ns=NOW_NS)
        assert set(nearest.found) == set(expected)
        right += sum(nearest.found[relation][0][1].case_id == some[0][1] for relation, some in expected.items())
    assert right >= 0.8 * 3 * len(pool[::40])
    # New ones are added to it, and it is made anew when many are gone.
    index.put([kept(5_000, pool[0].embedding, Verdict.FAIL)])
    assert told(index.nearest(query(pool[0]), most=1, now_ns=NOW_NS))[HIT] == ids(
        kept(5_000, pool[0].embedding, Verdict.FAIL)
    )
    with opened.cases.database.write() as connection:
        connection.execute(text("DELETE FROM embeddings WHERE place % 2 = 0"))
    for one in pool[1:80:2]:
        # Some question finds something that is gone, and all that is gone is noticed.
        index.nearest(query(one), most=1, now_ns=NOW_NS)
    # What is left is 401 less those of an even place, among them the part that is asked about.
    assert index.nearest(query(pool[0]), most=1, now_ns=NOW_NS).compared == 200


def test_a_class_that_the_nearest_lists_do_not_hold_is_found_in_the_others(opened: Opened) -> None:
    index = opened.embeddings(exact_up_to=300)
    dice = np.random.default_rng(1)
    near = [kept(number, np.r_[1.0, 0.1 * dice.standard_normal(7)], Verdict.PASS) for number in range(1, 400)]
    lone = kept(500, np.r_[-1.0, 0.1 * dice.standard_normal(7)], Verdict.FAIL)
    index.put([*near, lone])
    nearest = index.nearest(query(near[0], Verdict.PASS), most=1, now_ns=NOW_NS)
    assert not nearest.exact
    assert told(nearest)[MISS] == ids(lone)


# ---- against a search by hand

vectors = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=4, max_size=4).filter(any)


@pytest.fixture(scope="module")
def emptied() -> Iterator[SqlCaseIndex]:
    """One database for all examples."""
    made = SqlCaseIndex("sqlite://")
    yield made
    made.close()


@st.composite
def pools(draw: st.DrawFn) -> list[KeptEmbedding]:
    return [
        kept(
            number,
            draw(vectors),
            draw(st.sampled_from(Verdict)),
            part_id=f"part-{draw(st.integers(0, 6))}",
            score=draw(st.sampled_from([0.1, 0.6, 0.9, float("nan")])),
            model_version=draw(st.sampled_from([1, 1, 1, 2])),
            expires_at_ns=draw(st.sampled_from([0, NOW_NS, NOW_NS + 1, EXPIRES_NS])),
        )
        for number in range(draw(st.integers(1, 14)))
    ]


@given(
    pool=pools(),
    asked=vectors,
    own=st.sampled_from([Verdict.PASS, Verdict.FAIL, None]),
    settled=st.dictionaries(st.integers(0, 13), st.booleans()),
    most=st.integers(1, 5),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_found_is_what_a_search_by_hand_finds(
    emptied: SqlCaseIndex,
    pool: Sequence[KeptEmbedding],
    asked: list[float],
    own: Verdict | None,
    settled: dict[int, bool],
    most: int,
) -> None:
    emptied.clear()
    with emptied.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM embeddings")
    index = SqlEmbeddingIndex(emptied.database)
    people = _settle(emptied, pool, settled)
    index.put(pool)
    question = replace(query(kept(99, asked, part_id="part-3")), own=own)
    nearest = index.nearest(question, most=most, now_ns=NOW_NS)
    found = {
        relation: [(pytest.approx(similarity, abs=2e-5), one.case_id) for similarity, one in some]
        for relation, some in nearest.found.items()
    }
    assert found == by_hand(question, pool, people, most=most, now_ns=NOW_NS)


def _settle(cases: SqlCaseIndex, pool: Sequence[KeptEmbedding], settled: dict[int, bool]) -> dict[str, Verdict]:
    """Let people find some of the model's verdicts wrong; gives what they settled on."""
    found = {}
    opposite = {Verdict.PASS: Verdict.FAIL, Verdict.FAIL: Verdict.PASS}
    for number, is_wrong in settled.items():
        if number >= len(pool) or not is_wrong or pool[number].inspection.verdict is Verdict.REVIEW:
            continue
        seen = pool[number].inspection
        case = replace(queued_case(number, seen.verdict, model_version=seen.model_version), inspection=seen)
        cases.add_cases([case])
        cases.add_review(wrong(case), published=False)
        found[case.case_id] = opposite[seen.verdict]
    return found


def test_questions_and_writes_may_come_from_several_threads(opened: Opened) -> None:
    from concurrent.futures import ThreadPoolExecutor

    index = opened.embeddings(max_per_version=30)

    def write(start: int) -> None:
        for number in range(start, start + 20):
            index.put([kept(number, [1, number % 7, number % 3], Verdict.FAIL)])
            index.tidy(NOW_NS)

    def ask(_: int) -> None:
        for _ in range(20):
            index.nearest(query(ASKED), most=3, now_ns=NOW_NS)

    work: list[Callable[[int], None]] = [write, write, ask, ask]
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(one, 1_000 * place) for place, one in enumerate(work)]
    assert [one.exception() for one in done] == [None] * 4
    assert index.nearest(query(ASKED), most=3, now_ns=NOW_NS).compared == 30
