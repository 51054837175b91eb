"""What every case index promises, on SQLite in memory and on disk, and on PostgreSQL."""

from __future__ import annotations

import base64
import json
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from services.adapters.caseindex import SqlCaseIndex
from services.adapters.caseindex_query import _MERGED_BUCKETS, _SORTED_CASES
from services.adapters.ports import CaseFilter, CaseIndex, QueueOrder, ReviewFilter, ReviewStats
from services.core.errors import ConflictError, InvalidInputError, NotFoundError
from services.core.review import Answer, CaseState, QueuedCase, Review, ReviewAction, queue_rank
from services.core.types import CaseKind, Grade, Verdict
from tests.support.cases import HOUR_NS, SECOND_NS, START_NS, image_ref, queued_case, review, undo, wrong

NOW_NS = START_NS + 1_000 * HOUR_NS
HOSTILE = (
    "'; DROP TABLE cases; --",
    '"quoted" `and` [more]',
    "%_\\ :name ?1 $1 {0} %s",
    "Jörg Ångström 检查员 🔧",
    "e\u0301 שלום ﷽",
    "x" * 64,
)


@pytest.fixture
def index(database_url: str) -> Iterator[CaseIndex]:
    made = SqlCaseIndex(database_url)
    yield made
    made.close()


def ids(cases: tuple[QueuedCase, ...] | list[QueuedCase]) -> list[str]:
    return [case.case_id for case in cases]


def pages(
    index: CaseIndex,
    where: CaseFilter | None = None,
    order: QueueOrder = QueueOrder.BY_GAIN,
    *,
    limit: int = 4,
    between: Callable[[], object] = lambda: None,
    not_held_from: str = "",
) -> list[QueuedCase]:
    """All pages of a queue, with something done between them."""
    found: list[QueuedCase] = []
    token = ""
    while True:
        page = index.list_cases(
            where or CaseFilter(), order, limit=limit, token=token, not_held_from=not_held_from, now_ns=NOW_NS
        )
        assert len(page.cases) <= limit
        found += page.cases
        token = page.next_token
        if not token:
            return found
        assert len(page.cases) == limit
        between()


def found(index: CaseIndex, **where: object) -> set[str]:
    return set(ids(pages(index, CaseFilter(**where))))  # type: ignore[arg-type]


def state_of(index: CaseIndex, case: QueuedCase) -> tuple[CaseState, Verdict | None]:
    now = index.find_case(case.case_id)
    return now.state, now.settled_verdict


def many(count: int, **changes: object) -> list[QueuedCase]:
    """Cases of several lines, verdicts and doubts, in no order of gain."""
    return [
        queued_case(
            number,
            list(Verdict)[number % 3],
            line_id=f"line-{number % 2}",
            product=f"product-{number % 3}",
            uncertainty=(number * 7 % 11) / 11,
            **changes,
        )
        for number in range(count)
    ]


# ---- cases


def test_a_case_comes_back_with_every_field(index: CaseIndex) -> None:
    full = queued_case(
        1,
        detail="said 'so'",
        disagreement=0.25,
        trace_id="0" * 31 + "1",
        image_ref=image_ref("elsewhere", 2**40),
        shown_grade=Grade.B,
        sampling_probability=0.1 + 0.2,
        captured_at_ns=(1 << 62) + 1,
    )
    bare = queued_case(2, shown_method="", image_width_px=0, image_height_px=0, defect_class="", model_version=0)
    index.add_cases([full, bare])
    assert [index.find_case(full.case_id), index.find_case(bare.case_id)] == [full, bare]
    assert set(pages(index)) == {full, bare}


def test_what_is_not_there_is_not_found(index: CaseIndex) -> None:
    case = queued_case()
    with pytest.raises(NotFoundError, match="a case must be in the index, got"):
        index.find_case(case.case_id)
    with pytest.raises(NotFoundError, match="a review must be in the index, got"):
        index.find_review(review(case).review_id)
    assert index.reviews_of(case.case_id) == ()
    assert index.list_cases(CaseFilter(), QueueOrder.BY_GAIN, limit=5, now_ns=NOW_NS).cases == ()
    assert index.list_reviews(ReviewFilter(), limit=5).reviews == ()
    assert index.stats(CaseFilter()) == ReviewStats(0, 0, 0, 0, 0, 0, 0)
    index.add_cases([])


def test_a_text_that_is_not_unicode_is_refused_for_good(index: CaseIndex) -> None:
    with pytest.raises(InvalidInputError, match="must be Unicode, got half a pair"):
        index.find_case("\ud800")
    with pytest.raises(InvalidInputError, match="must be Unicode, got half a pair"):
        index.add_cases([queued_case(shown_method="\ud800")])


def test_the_same_case_twice_is_one_case(index: CaseIndex) -> None:
    case = queued_case()
    index.add_cases([case, case])
    index.add_cases([case])
    assert pages(index) == [case]
    assert index.stats(CaseFilter()).open == 1


def test_a_case_that_is_explained_anew_keeps_its_reviews_and_its_claim(index: CaseIndex) -> None:
    case = queued_case()
    index.add_cases([case])
    index.add_review(wrong(case), published=True)
    index.claim(case.case_id, "ben", until_ns=NOW_NS + 5, now_ns=NOW_NS)
    anew = replace(case, explained_at_ns=case.explained_at_ns + 1, shown_method="gradcam", shown_grade=Grade.C)
    index.add_cases([anew])
    expected = replace(
        anew,
        state=CaseState.REVIEWED,
        settled_verdict=Verdict.PASS,
        claimed_by="ben",
        claimed_until_ns=NOW_NS + 5,
    )
    assert index.find_case(case.case_id) == expected
    index.add_cases([case])
    assert index.find_case(case.case_id) == expected, "an older explanation must change nothing"
    assert index.stats(CaseFilter()) == ReviewStats(0, 1, 0, 0, 1, 0, 0)


def test_cases_are_added_all_or_none(index: CaseIndex) -> None:
    spoiled = replace(queued_case(2), image_width_px="wide")
    spoiled = replace(spoiled, inspection=replace(spoiled.inspection, sequence="first"))
    with pytest.raises((TypeError, ValueError)):
        index.add_cases([queued_case(1), spoiled])
    assert pages(index) == []
    assert index.stats(CaseFilter()).open == 0


# ---- order and pages


def test_a_queue_comes_in_the_order_of_rank_newest_or_oldest(index: CaseIndex) -> None:
    cases = many(30)
    index.add_cases(cases)
    by_gain = sorted(cases, key=lambda case: queue_rank(case.gain, case.inspection.captured_at_ns), reverse=True)
    assert ids(pages(index)) == ids(by_gain)
    assert ids(pages(index, order=QueueOrder.OLDEST)) == ids(cases)
    assert ids(pages(index, order=QueueOrder.NEWEST)) == ids(cases[::-1])


def test_waiting_makes_up_for_gain(index: CaseIndex) -> None:
    doubtful_late = queued_case(1, uncertainty=0.6, captured_at_ns=START_NS + 11 * HOUR_NS)
    certain_early = queued_case(2, uncertainty=0.1, captured_at_ns=START_NS)
    doubtful_early = queued_case(3, uncertainty=0.6, captured_at_ns=START_NS)
    index.add_cases([doubtful_late, certain_early, doubtful_early])
    assert ids(pages(index)) == ids([doubtful_early, certain_early, doubtful_late])


@pytest.mark.parametrize("order", QueueOrder)
def test_cases_of_equal_place_are_given_once_each(index: CaseIndex, order: QueueOrder) -> None:
    cases = [queued_case(number, captured_at_ns=START_NS) for number in range(11)]
    index.add_cases(cases)
    got = ids(pages(index, order=order, limit=3))
    assert sorted(got) == sorted(ids(cases))


@pytest.mark.parametrize("order", QueueOrder)
def test_pages_stay_where_they_are_while_cases_arrive(index: CaseIndex, order: QueueOrder) -> None:
    there = many(20)
    index.add_cases(there[::2])
    waiting = iter(there[1::2])
    got = ids(pages(index, order=order, limit=2, between=lambda: index.add_cases([next(waiting)])))
    assert len(got) == len(set(got))
    assert set(ids(there[::2])) <= set(got)


@pytest.mark.parametrize("order", QueueOrder)
def test_pages_stay_where_they_are_while_states_change(index: CaseIndex, order: QueueOrder) -> None:
    cases = many(20)
    index.add_cases(cases)
    dice = random.Random(3)
    turn = iter(range(100))

    def answer() -> None:
        index.add_review(review(dice.choice(cases), next(turn)), published=True)

    got = ids(pages(index, order=order, limit=2, between=answer))
    assert sorted(got) == sorted(ids(cases))


def test_open_cases_are_given_while_others_are_answered(index: CaseIndex) -> None:
    cases = many(20)
    index.add_cases(cases)
    answered: list[QueuedCase] = []
    queue = iter(cases[::3])

    def answer() -> None:
        if (case := next(queue, None)) is not None:
            answered.append(case)
            index.add_review(review(case), published=True)

    got = ids(pages(index, CaseFilter(state=CaseState.OPEN), limit=2, between=answer))
    assert len(got) == len(set(got))
    assert set(ids(cases)) - set(ids(answered)) <= set(got)


def test_a_queue_of_many_buckets_is_in_order_however_it_is_read(index: CaseIndex) -> None:
    # One case in each of more buckets than are merged; then more cases than are sorted.
    few = [queued_case(n, product=f"product-{n}", uncertainty=n * 7 % 13 / 13) for n in range(_MERGED_BUCKETS + 6)]
    index.add_cases(few)

    def in_order(cases: list[QueuedCase]) -> list[str]:
        return ids(sorted(cases, key=lambda case: queue_rank(case.gain, case.inspection.captured_at_ns), reverse=True))

    assert ids(pages(index, limit=7)) == in_order(few)
    assert ids(pages(index, order=QueueOrder.OLDEST, limit=7)) == ids(few)
    rest = [
        queued_case(n, product=f"product-{n % (_MERGED_BUCKETS + 6)}", uncertainty=n * 7 % 13 / 13)
        for n in range(len(few), _SORTED_CASES + 10)
    ]
    index.add_cases(rest)
    assert ids(pages(index, limit=1_500)) == in_order(few + rest)
    assert ids(pages(index, order=QueueOrder.NEWEST, limit=1_500)) == ids((few + rest)[::-1])
    got = pages(index, CaseFilter(since_ns=few[20].inspection.captured_at_ns, until_ns=START_NS + 60 * SECOND_NS))
    assert ids(got) == in_order([*few, *rest][20:60])


@pytest.mark.parametrize("order", QueueOrder)
def test_cases_that_lie_together_in_time_are_found_wherever_they_lie(index: CaseIndex, order: QueueOrder) -> None:
    cases = [
        queued_case(n, model_version=1 + n // 40, uncertainty=n * 7 % 13 / 13, product=f"product-{n % 30}")
        for n in range(160)
    ]
    index.add_cases(cases[80:])
    index.add_cases(cases[:80])
    for case in (cases[0], cases[79], cases[80], cases[159]):
        index.add_review(review(case), published=True)
    for version in range(1, 5):
        of_version = cases[(version - 1) * 40 : version * 40]
        where = CaseFilter(model_version=version)
        assert set(ids(pages(index, where, order, limit=9))) == set(ids(of_version))
        since_ns, until_ns = of_version[3].inspection.captured_at_ns, of_version[33].inspection.captured_at_ns
        inside = replace(where, since_ns=since_ns, until_ns=until_ns)
        assert set(ids(pages(index, inside, order, limit=9))) == set(ids(of_version[3:33]))
    counted = index.stats(CaseFilter(since_ns=cases[20].inspection.captured_at_ns))
    assert (counted.open, counted.reviewed) == (137, 3)
    counted = index.stats(CaseFilter(until_ns=cases[80].inspection.captured_at_ns))
    assert (counted.open, counted.reviewed) == (78, 2)
    index.add_review(undo(cases[0], review(cases[0]), 1), published=True)
    assert index.stats(CaseFilter(until_ns=cases[1].inspection.captured_at_ns)).open == 1


@pytest.mark.parametrize(
    "token",
    [
        "rubbish",
        "!!",
        "ä",
        "W10",
        "e30",
        "A" * 10_000,
        base64.urlsafe_b64encode(b"[" * 150).decode(),
        base64.urlsafe_b64encode(json.dumps(["gain", float("nan"), queued_case().case_id]).encode()).decode(),
        base64.urlsafe_b64encode(json.dumps(["gain", 0.5, "' OR 1=1"]).encode()).decode(),
        base64.urlsafe_b64encode(json.dumps(["gain", True, queued_case().case_id]).encode()).decode(),
        base64.urlsafe_b64encode(json.dumps(["gain", 0.5]).encode()).decode(),
    ],
)
def test_a_token_that_is_none_is_refused(index: CaseIndex, token: str) -> None:
    with pytest.raises(InvalidInputError, match="a page token must come from an earlier page of the order 'gain'"):
        index.list_cases(CaseFilter(), QueueOrder.BY_GAIN, limit=5, token=token, now_ns=NOW_NS)
    with pytest.raises(InvalidInputError, match="of the order 'reviews'"):
        index.list_reviews(ReviewFilter(), limit=5, token=token)


def test_a_token_of_another_order_is_refused(index: CaseIndex) -> None:
    index.add_cases(many(5))
    tokens = {order: index.list_cases(CaseFilter(), order, limit=2, now_ns=NOW_NS).next_token for order in QueueOrder}
    for order in QueueOrder:
        for other in set(QueueOrder) - {order}:
            with pytest.raises(InvalidInputError, match="page token"):
                index.list_cases(CaseFilter(), order, limit=2, token=tokens[other], now_ns=NOW_NS)
    out_of_range = base64.urlsafe_b64encode(json.dumps(["newest", 1 << 64, queued_case().case_id]).encode()).decode()
    with pytest.raises(InvalidInputError, match="page token"):
        index.list_cases(CaseFilter(), QueueOrder.NEWEST, limit=2, token=out_of_range, now_ns=NOW_NS)


def test_a_page_has_at_least_one_row(index: CaseIndex) -> None:
    for ask in (
        lambda: index.list_cases(CaseFilter(), QueueOrder.BY_GAIN, limit=0, now_ns=NOW_NS),
        lambda: index.list_reviews(ReviewFilter(), limit=0),
        lambda: index.unpublished(0),
    ):
        with pytest.raises(InvalidInputError, match="limit must be >= 1, got 0"):
            ask()


# ---- filters


def test_each_filter_narrows_by_its_own_field(index: CaseIndex) -> None:
    plain = queued_case(0)
    others = {
        "line_id": queued_case(1, line_id="line-2"),
        "camera_id": queued_case(2, camera_id="cam-2"),
        "product": queued_case(3, product="ring"),
        "verdict": queued_case(4, Verdict.REVIEW, kind=CaseKind.FAIL),
        "kind": queued_case(5, kind=CaseKind.AUDIT),
        "alias": queued_case(6, alias="other"),
        "model_version": queued_case(7, model_version=2),
        "defect_class": queued_case(8, defect_class="hole"),
    }
    index.add_cases([plain, *others.values()])
    for name, case in others.items():
        value = getattr(case if name == "kind" else case.inspection, name)
        assert found(index, **{name: value}) == {case.case_id}, name
        assert index.stats(CaseFilter(**{name: value})).open == 1, name
    assert len(found(index)) == 9
    for name in ("line_id", "camera_id", "product", "alias", "defect_class", "reviewer"):
        assert found(index, **{name: "none"}) == set(), name


def test_a_span_of_time_holds_its_begin_and_not_its_end(index: CaseIndex) -> None:
    cases = many(10)
    index.add_cases(cases)
    since_ns, until_ns = (cases[number].inspection.captured_at_ns for number in (3, 7))
    for order in QueueOrder:
        where = CaseFilter(since_ns=since_ns, until_ns=until_ns)
        assert set(ids(pages(index, where, order, limit=2))) == set(ids(cases[3:7]))
    assert index.stats(CaseFilter(since_ns=since_ns, until_ns=until_ns)).open == 4
    assert index.stats(CaseFilter(since_ns=since_ns)).open == 7
    assert index.stats(CaseFilter(until_ns=until_ns, line_id="line-0")).open == 4


def test_a_class_is_the_models_or_a_standing_answers(index: CaseIndex) -> None:
    by_model, by_person, both, none = (
        queued_case(0, defect_class="hole"),
        queued_case(1),
        queued_case(2, defect_class="hole", line_id="line-2"),
        queued_case(3),
    )
    index.add_cases([by_model, by_person, both, none])
    named = review(by_person, defect_class="hole")
    index.add_review(named, published=True)
    index.add_review(review(both, defect_class="hole"), published=True)
    assert found(index, defect_class="hole") == set(ids([by_model, by_person, both]))
    assert found(index, defect_class="hole", state=CaseState.REVIEWED) == set(ids([by_person, both]))
    assert found(index, defect_class="hole", reviewer="ada", line_id="line-1") == {by_person.case_id}
    assert found(index, defect_class="scratch") == set(ids([by_person, none])), "the model's name stays one"
    assert index.stats(CaseFilter(defect_class="hole")) == ReviewStats(1, 2, 0, 2, 0, 0, 0)
    assert index.stats(CaseFilter(defect_class="hole", since_ns=START_NS)) == ReviewStats(1, 2, 0, 2, 0, 0, 0)
    index.add_review(undo(by_person, named, 1), published=True)
    assert found(index, defect_class="hole") == set(ids([by_model, both]))


def test_a_reviewer_is_somebody_whose_answer_stands(index: CaseIndex) -> None:
    cases = many(6)
    index.add_cases(cases)
    answers = [review(case) for case in cases[:4]]
    for answer in answers:
        index.add_review(answer, published=True)
    index.add_review(review(cases[4], action=ReviewAction.SKIP), published=True)
    index.add_review(review(cases[0], 1, "ben"), published=True)
    index.add_review(undo(cases[1], answers[1], 1, "ben"), published=True)
    assert found(index, reviewer="ada") == set(ids([cases[0], cases[2], cases[3]]))
    assert found(index, reviewer="ben") == {cases[0].case_id}
    assert found(index, reviewer="ada", line_id="line-0") == set(ids([cases[0], cases[2]]))
    until_ns = cases[2].inspection.captured_at_ns
    assert found(index, reviewer="ada", until_ns=until_ns) == {cases[0].case_id}
    assert index.stats(CaseFilter(reviewer="ada")).reviewed == 3
    assert index.stats(CaseFilter(reviewer="ada", since_ns=until_ns, line_id="line-0")).reviewed == 1
    with_names = ids(pages(index, CaseFilter(reviewer="ada"), QueueOrder.OLDEST, limit=1))
    assert with_names == ids([cases[0], cases[2], cases[3]])


def test_filters_agree_with_a_search_by_hand(index: CaseIndex) -> None:
    dice = random.Random(11)
    cases = [
        queued_case(
            number,
            dice.choice(list(Verdict)),
            line_id=f"line-{dice.randrange(2)}",
            camera_id=f"cam-{dice.randrange(3)}",
            product=f"product-{dice.randrange(2)}",
            model_version=dice.randrange(1, 3),
            defect_class=dice.choice(["", "hole", "dent"]),
            uncertainty=dice.random(),
        )
        for number in range(80)
    ]
    index.add_cases(cases)
    for case in dice.sample(cases, 40):
        index.add_review(review(case, 0, dice.choice(["ada", "ben"])), published=True)
        if dice.random() < 0.3 and case.inspection.verdict is not Verdict.REVIEW:
            index.add_review(wrong(case, 1, "cleo"), published=True)
    known = [index.find_case(case.case_id) for case in cases]
    for _ in range(60):
        where = CaseFilter(
            line_id=dice.choice(["", "line-0"]),
            camera_id=dice.choice(["", "", "cam-1"]),
            product=dice.choice(["", "", "product-1"]),
            verdict=dice.choice([None, None, *Verdict]),
            model_version=dice.choice([0, 0, 2]),
            defect_class=dice.choice(["", "", "hole"]),
            state=dice.choice([None, *CaseState]),
            since_ns=dice.choice([0, START_NS + 20 * SECOND_NS]),
        )
        wanted = {
            case.case_id
            for case in known
            if where.line_id in {"", case.inspection.line_id}
            and where.camera_id in {"", case.inspection.camera_id}
            and where.product in {"", case.inspection.product}
            and where.verdict in {None, case.inspection.verdict}
            and where.model_version in {0, case.inspection.model_version}
            and where.defect_class in {"", case.inspection.defect_class}
            and where.state in {None, case.state}
            and case.inspection.captured_at_ns >= where.since_ns
        }
        assert set(ids(pages(index, where, dice.choice(list(QueueOrder))))) == wanted, where
        counted = index.stats(where)
        by_state = {
            CaseState.OPEN: counted.open,
            CaseState.REVIEWED: counted.reviewed,
            CaseState.DISPUTED: counted.disputed,
        }
        if where.state is not None:
            assert by_state[where.state] == len(wanted), where
        else:
            assert sum(by_state.values()) == len(wanted), where


# ---- reviews and states


def test_the_first_answer_makes_a_case_reviewed(index: CaseIndex) -> None:
    case = queued_case()
    index.add_cases([case])
    assert state_of(index, case) == (CaseState.OPEN, None)
    answer = review(case)
    index.add_review(answer, published=True)
    assert state_of(index, case) == (CaseState.REVIEWED, Verdict.FAIL)
    assert index.find_review(answer.review_id) == answer
    assert index.reviews_of(case.case_id) == (answer,)


def test_a_skipped_case_stays_open(index: CaseIndex) -> None:
    case = queued_case()
    index.add_cases([case])
    index.add_review(review(case, action=ReviewAction.SKIP), published=True)
    assert state_of(index, case) == (CaseState.OPEN, None)


def test_a_case_that_is_undone_is_as_if_it_had_never_been_answered(index: CaseIndex) -> None:
    case = queued_case()
    index.add_cases([case])
    before = index.stats(CaseFilter())
    answer = wrong(case)
    index.add_review(answer, published=True)
    assert index.stats(CaseFilter()).false_rejects == 1
    index.add_review(undo(case, answer, 1), published=True)
    assert index.find_case(case.case_id) == case
    assert index.stats(CaseFilter()) == before


def test_two_that_differ_dispute_until_one_takes_it_back(index: CaseIndex) -> None:
    case = queued_case()
    index.add_cases([case])
    by_ada, by_ben = review(case, 0, "ada"), wrong(case, 1, "ben")
    index.add_review(by_ada, published=True)
    index.add_review(by_ben, published=True)
    assert state_of(index, case) == (CaseState.DISPUTED, None)
    assert index.stats(CaseFilter()) == ReviewStats(0, 0, 1, 0, 0, 0, 0)
    index.add_review(undo(case, by_ada, 2, "ada"), published=True)
    assert state_of(index, case) == (CaseState.REVIEWED, Verdict.PASS)
    assert index.stats(CaseFilter()) == ReviewStats(0, 1, 0, 0, 1, 0, 0)


def test_an_answer_that_replaces_another_counts_alone_and_its_undo_brings_the_other_back(index: CaseIndex) -> None:
    case = queued_case()
    index.add_cases([case])
    first = review(case)
    second = wrong(case, 1, supersedes=first.review_id)
    index.add_review(first, published=True)
    index.add_review(second, published=True)
    assert state_of(index, case) == (CaseState.REVIEWED, Verdict.PASS)
    assert index.list_reviews(ReviewFilter(standing_only=True), limit=9).reviews == (second,)
    index.add_review(undo(case, second, 2), published=True)
    assert state_of(index, case) == (CaseState.REVIEWED, Verdict.FAIL)
    assert index.list_reviews(ReviewFilter(standing_only=True), limit=9).reviews == (first,)


def test_an_undo_may_come_before_what_it_takes_back(index: CaseIndex) -> None:
    case = queued_case()
    index.add_cases([case])
    answer = wrong(case)
    index.add_review(undo(case, answer, 1), published=True)
    index.add_review(answer, published=True)
    assert state_of(index, case) == (CaseState.OPEN, None)


@pytest.mark.parametrize(
    ("given", "answer", "expected"),
    [
        (Verdict.FAIL, review, ReviewStats(0, 1, 0, 1, 0, 0, 0)),
        (Verdict.PASS, review, ReviewStats(0, 1, 0, 1, 0, 0, 0)),
        (Verdict.FAIL, wrong, ReviewStats(0, 1, 0, 0, 1, 0, 0)),
        (Verdict.PASS, wrong, ReviewStats(0, 1, 0, 0, 0, 1, 0)),
        (Verdict.FAIL, lambda case: review(case, reason_right=Answer.NO), ReviewStats(0, 1, 0, 1, 0, 0, 1)),
        (
            Verdict.FAIL,
            lambda case: review(case, verdict_right=Answer.NOT_SURE, reason_right=Answer.NO),
            ReviewStats(0, 1, 0, 0, 0, 0, 0),
        ),
        (
            Verdict.REVIEW,
            lambda case: review(case, corrected_verdict=Verdict.PASS),
            ReviewStats(0, 1, 0, 0, 0, 0, 0),
        ),
    ],
)
def test_counts_tell_what_people_found(
    index: CaseIndex, given: Verdict, answer: Callable[[QueuedCase], Review], expected: ReviewStats
) -> None:
    case = queued_case(1, given)
    index.add_cases([case])
    index.add_review(answer(case), published=True)
    assert index.stats(CaseFilter()) == expected
    assert index.stats(CaseFilter(state=CaseState.OPEN)) == expected, "the state is not read"
    assert index.stats(CaseFilter(since_ns=1)) == expected
    assert index.stats(CaseFilter(reviewer="ada")) == expected


def test_reviews_that_came_before_their_case_count_once_it_is_there(index: CaseIndex) -> None:
    case = queued_case(1, line_id="line-7")
    answer = wrong(case, defect_class="")
    index.add_review(answer, published=True)
    assert index.reviews_of(case.case_id) == (answer,)
    assert index.stats(CaseFilter()) == ReviewStats(0, 0, 0, 0, 0, 0, 0)
    assert index.list_reviews(ReviewFilter(line_id="line-7"), limit=5).reviews == ()
    index.add_cases([case])
    assert state_of(index, case) == (CaseState.REVIEWED, Verdict.PASS)
    assert found(index, reviewer="ada") == {case.case_id}
    assert index.list_reviews(ReviewFilter(line_id="line-7"), limit=5).reviews == (answer,)


def test_the_same_review_twice_is_one_review(index: CaseIndex) -> None:
    case = queued_case()
    index.add_cases([case])
    answer = review(case)
    index.add_review(answer, published=True)
    index.add_review(replace(answer, note="something else"), published=False)
    assert index.reviews_of(case.case_id) == (answer,)
    assert index.stats(CaseFilter()).reviewed == 1
    assert index.unpublished(5) == ()


@pytest.mark.parametrize("seed", range(3))
def test_the_order_in_which_a_record_is_replayed_changes_nothing(index: CaseIndex, seed: int) -> None:
    cases = many(5)
    said: list[Review] = []
    for case in cases:
        first = review(case)
        said += [first, undo(case, first, 1), review(case, 2, "ben"), review(case, 3, "ada", defect_class="hole")]
    index.add_cases(cases)
    for one in said:
        index.add_review(one, published=True)
    expected = (
        pages(index),
        index.stats(CaseFilter()),
        found(index, defect_class="hole"),
        found(index, reviewer="ben"),
    )
    index.clear()
    dice = random.Random(seed)
    steps: list[Callable[[], None]] = [
        *(lambda one=one: index.add_review(one, published=True) for one in said * 2),  # type: ignore[misc]
        *(lambda case=case: index.add_cases([case]) for case in cases * 2),  # type: ignore[misc]
    ]
    dice.shuffle(steps)
    for step in steps:
        step()
    got = (pages(index), index.stats(CaseFilter()), found(index, defect_class="hole"), found(index, reviewer="ben"))
    assert got == expected


def test_reviews_are_listed_the_newest_first_in_stable_pages(index: CaseIndex) -> None:
    cases = many(6)
    index.add_cases(cases)
    said = [review(case, reviewed_at_ns=START_NS + number // 2) for number, case in enumerate(cases)]
    for one in said:
        index.add_review(one, published=True)
    got: list[Review] = []
    token = ""
    while True:
        page = index.list_reviews(ReviewFilter(), limit=2, token=token)
        got += page.reviews
        token = page.next_token
        if not token:
            break
        index.add_review(review(cases[0], len(got), "ben", reviewed_at_ns=START_NS + 99), published=True)
    assert got == sorted(said, key=lambda one: (one.reviewed_at_ns, one.review_id), reverse=True)


def test_cases_are_given_by_their_ids_without_those_that_are_not_known(index: CaseIndex) -> None:
    cases = many(3)
    index.add_cases(cases[:2])
    index.claim(cases[0].case_id, "ada", until_ns=NOW_NS + 60 * SECOND_NS, now_ns=NOW_NS)
    found = index.cases_of([cases[2].case_id, cases[1].case_id, cases[0].case_id, cases[0].case_id])
    assert sorted(ids(found)) == sorted(ids(cases[:2]))
    assert {one.case_id: one.inspection for one in found} == {one.case_id: one.inspection for one in cases[:2]}
    assert {one.claimed_by for one in found} == {""}
    assert index.cases_of([]) == ()
    with pytest.raises(InvalidInputError, match="at most 1000 cases must be asked for at once, got 1001"):
        index.cases_of(["x"] * 1_001)


def test_each_filter_of_reviews_narrows(index: CaseIndex) -> None:
    cases = many(4)
    index.add_cases(cases)
    said = [review(case, 0, "ada" if number < 2 else "ben") for number, case in enumerate(cases)]
    skipped = review(cases[0], 1, "cleo", action=ReviewAction.SKIP)
    taken_back = undo(cases[1], said[1], 2)
    for one in (*said, skipped, taken_back):
        index.add_review(one, published=True)

    def listed(**where: object) -> set[Review]:
        return set(index.list_reviews(ReviewFilter(**where), limit=50).reviews)  # type: ignore[arg-type]

    assert listed(reviewer="ben") == set(said[2:])
    assert listed(line_id="line-0") == {said[0], said[2], skipped}
    assert listed(standing_only=True) == {said[0], said[2], said[3]}
    assert listed(since_ns=said[3].reviewed_at_ns) == {said[3], taken_back}
    assert listed(until_ns=said[1].reviewed_at_ns) == {said[0]}
    assert listed(reviewer="ada", line_id="line-1", standing_only=True) == set()


# ---- claims


def test_a_case_that_somebody_holds_is_kept_from_others(index: CaseIndex) -> None:
    cases = many(3)
    index.add_cases(cases)
    until_ns = NOW_NS + 60 * SECOND_NS
    index.claim(cases[0].case_id, "ada", until_ns=until_ns, now_ns=NOW_NS)
    with pytest.raises(ConflictError, match="which ada holds"):
        index.claim(cases[0].case_id, "ben", until_ns=until_ns, now_ns=NOW_NS)
    index.claim(cases[0].case_id, "ada", until_ns=until_ns + 1, now_ns=NOW_NS)
    held = index.find_case(cases[0].case_id)
    assert (held.claimed_by, held.claimed_until_ns) == ("ada", until_ns + 1)
    assert len(pages(index)) == 3
    assert set(ids(pages(index, not_held_from="ben"))) == set(ids(cases[1:]))
    assert set(ids(pages(index, not_held_from="ada"))) == set(ids(cases))


def test_a_claim_ends_at_its_time(index: CaseIndex) -> None:
    case = queued_case()
    index.add_cases([case])
    index.claim(case.case_id, "ada", until_ns=NOW_NS, now_ns=NOW_NS - 5)
    assert pages(index, not_held_from="ben") == [case], "it ended, and is not given any more"
    index.claim(case.case_id, "ben", until_ns=NOW_NS + 5, now_ns=NOW_NS)
    assert index.find_case(case.case_id).claimed_by == "ben"


def test_a_claim_is_given_back_by_its_holder_alone(index: CaseIndex) -> None:
    case = queued_case()
    index.add_cases([case])
    index.claim(case.case_id, "ada", until_ns=NOW_NS + 5, now_ns=NOW_NS)
    index.release(case.case_id, "ben")
    assert index.find_case(case.case_id).claimed_by == "ada"
    index.release(case.case_id, "ada")
    index.release(case.case_id, "ada")
    assert index.find_case(case.case_id) == case


def test_only_a_case_that_is_there_is_claimed(index: CaseIndex) -> None:
    with pytest.raises(NotFoundError, match="a case must be in the index"):
        index.claim(queued_case().case_id, "ada", until_ns=NOW_NS + 5, now_ns=NOW_NS)


def test_of_many_who_claim_at_once_one_gets_the_case(index: CaseIndex) -> None:
    case = queued_case()
    index.add_cases([case])
    refused: list[str] = []

    def claim(who: str) -> None:
        try:
            index.claim(case.case_id, who, until_ns=NOW_NS + 5, now_ns=NOW_NS)
        except ConflictError:
            refused.append(who)

    _at_once([lambda who=f"person-{n}": claim(who) for n in range(8)])  # type: ignore[misc]
    assert len(refused) == 7
    assert index.find_case(case.case_id).claimed_by not in refused


# ---- published, cleared, hostile, at once


def test_what_is_not_in_the_topic_yet_is_given_until_it_is(index: CaseIndex) -> None:
    cases = many(4)
    said = [review(case, reviewed_at_ns=START_NS + 10 - number) for number, case in enumerate(cases)]
    for one in said[:3]:
        index.add_review(one, published=False)
    index.add_review(said[3], published=True)
    assert index.unpublished(10) == tuple(said[2::-1])
    assert index.unpublished(1) == (said[2],)
    index.set_published([said[2].review_id, said[2].review_id, review(cases[0], 9).review_id])
    index.set_published([])
    assert index.unpublished(10) == (said[1], said[0])
    index.add_review(said[1], published=True)
    assert index.unpublished(10) == (said[0],), "one that comes back from the topic is in it"


def test_cleared_and_built_anew_it_answers_as_before_and_keeps_claims(index: CaseIndex) -> None:
    cases = many(12)
    said = [review(case, 0, "ada") for case in cases[:5]] + [wrong(cases[0], 1, "ben"), wrong(cases[7], 1, "ben")]

    def build() -> None:
        index.add_cases(cases)
        for one in said:
            index.add_review(one, published=True)

    def answers() -> tuple[object, ...]:
        return (
            [pages(index, order=order) for order in QueueOrder],
            index.stats(CaseFilter()),
            index.list_reviews(ReviewFilter(), limit=50),
            pages(index, CaseFilter(reviewer="ben")),
        )

    build()
    index.claim(cases[3].case_id, "cleo", until_ns=NOW_NS + 5, now_ns=NOW_NS)
    before = answers()
    index.clear()
    assert pages(index) == []
    assert index.stats(CaseFilter()) == ReviewStats(0, 0, 0, 0, 0, 0, 0)
    assert index.list_reviews(ReviewFilter(), limit=50).reviews == ()
    build()
    assert answers() == before
    assert index.find_case(cases[3].case_id).claimed_by == "cleo"


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_is_only_text(index: CaseIndex, text: str) -> None:
    case = queued_case(1, defect_class=text, detail=text)
    other = queued_case(2)
    index.add_cases([case, other])
    said = review(case, 0, text, note=text, defect_class=f"{text} too")
    index.add_review(said, published=False)
    index.claim(other.case_id, text, until_ns=NOW_NS + 5, now_ns=NOW_NS)
    assert index.find_case(case.case_id) == replace(case, state=CaseState.REVIEWED, settled_verdict=Verdict.FAIL)
    assert index.reviews_of(case.case_id) == index.unpublished(5) == (said,)
    for where in ({"reviewer": text}, {"defect_class": text}, {"defect_class": f"{text} too"}):
        assert found(index, **where) == {case.case_id}
        assert index.stats(CaseFilter(**where)).reviewed == 1
    assert index.list_reviews(ReviewFilter(reviewer=text), limit=5).reviews == (said,)
    assert found(index, line_id=text, camera_id=text, product=text, alias=text) == set()
    assert index.find_case(other.case_id).claimed_by == text
    index.release(other.case_id, text)
    with pytest.raises(NotFoundError):
        index.find_case(text)
    with pytest.raises(NotFoundError):
        index.find_review(text)


def test_threads_that_review_one_case_at_once_leave_it_as_if_in_turn(index: CaseIndex) -> None:
    case, other = queued_case(1), queued_case(2)
    people = [f"person-{number}" for number in range(6)]

    def answer(who: str) -> None:
        for number in range(5):
            one = review(case, number * 2, who)
            index.add_review(one, published=False)
            index.list_cases(CaseFilter(), QueueOrder.BY_GAIN, limit=5, now_ns=NOW_NS)
            if number < 4:
                index.add_review(undo(case, one, number * 2 + 1, who), published=False)

    def arrive() -> None:
        for _ in range(5):
            index.add_cases([case, other])
            index.stats(CaseFilter())

    _at_once([*(lambda who=who: answer(who) for who in people), arrive])  # type: ignore[misc]
    assert state_of(index, case) == (CaseState.REVIEWED, Verdict.FAIL)
    assert len(index.reviews_of(case.case_id)) == len(people) * 9
    assert index.stats(CaseFilter()) == ReviewStats(1, 1, 0, 1, 0, 0, 0)
    standing = index.list_reviews(ReviewFilter(standing_only=True), limit=50).reviews
    assert {one.reviewer for one in standing} == set(people)
    assert len(standing) == len(people)


def _at_once(calls: list[Callable[[], None]]) -> None:
    failed: list[BaseException] = []
    together = threading.Barrier(len(calls))

    def run(call: Callable[[], None]) -> None:
        together.wait(10)
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if failed:
        raise failed[0]
    assert not any(thread.is_alive() for thread in threads)


# ---- a fill from the record


def test_an_empty_index_needs_a_fill_and_one_with_a_case_does_not(index: CaseIndex) -> None:
    assert index.needs_fill()
    index.add_cases([queued_case()])
    assert not index.needs_fill()


def test_a_fill_that_began_and_has_not_ended_is_needed_still(index: CaseIndex) -> None:
    index.add_cases([queued_case()])
    index.note_fill(ended=False)
    index.note_fill(ended=False)
    assert index.needs_fill()
    index.note_fill(ended=True)
    assert not index.needs_fill()


def test_an_answer_says_how_far_people_are_and_ends_the_claim_of_whoever_gave_it(index: CaseIndex) -> None:
    case = queued_case()
    index.add_cases([case])
    index.claim(case.case_id, "ada", until_ns=HOUR_NS, now_ns=0)
    assert index.add_review(review(case, 0, "ben"), published=True, ends_claim=True) is CaseState.REVIEWED
    assert index.find_case(case.case_id).claimed_by == "ada", "a claim is its holder's"
    assert index.add_review(wrong(case, 1), published=True, ends_claim=True) is CaseState.DISPUTED
    assert index.find_case(case.case_id).claimed_by == ""
    assert index.add_review(wrong(case, 1), published=True) is CaseState.DISPUTED, "the same again says the same"


def test_an_answer_to_a_case_that_is_not_there_leaves_it_open(index: CaseIndex) -> None:
    assert index.add_review(review(queued_case()), published=True) is CaseState.OPEN


# ---- finding a part


def by_part(index: CaseIndex, text: str, limit: int = 50) -> list[str]:
    return ids(index.find_cases(text, limit=limit, now_ns=NOW_NS))


def test_a_part_is_found_by_the_beginning_of_its_id_in_capitals_or_not(index: CaseIndex) -> None:
    names = ["LOT7-0001", "LOT7-0002", "LOT70", "lot8", "LOT7-0001"]
    cases = [queued_case(number, part_id=name) for number, name in enumerate(names)]
    index.add_cases(list(reversed(cases)))
    assert by_part(index, "lot7-0001") == [cases[0].case_id, cases[4].case_id]
    assert by_part(index, "LOT7-") == ids([cases[0], cases[4], cases[1]])
    assert by_part(index, "lot7") == ids([cases[0], cases[4], cases[1], cases[2]])
    assert by_part(index, "lot", limit=2) == ids([cases[0], cases[4]])
    assert by_part(index, "ot7") == []


def test_a_case_and_every_case_of_a_frame_are_found_by_their_whole_ids(index: CaseIndex) -> None:
    cases = [queued_case(0, model_version=version) for version in (1, 2)] + [queued_case(1)]
    index.add_cases(cases)
    assert by_part(index, cases[2].case_id) == [cases[2].case_id]
    assert set(by_part(index, cases[0].inspection.frame_id.upper())) == {cases[0].case_id, cases[1].case_id}
    assert by_part(index, cases[0].case_id[:20]) == []


def test_a_case_that_is_explained_anew_is_found_once(index: CaseIndex) -> None:
    index.add_cases([queued_case(0)])
    index.add_cases([replace(queued_case(0), explained_at_ns=queued_case(0).explained_at_ns + 1)])
    assert by_part(index, "part-0") == [queued_case(0).case_id]
    index.clear()
    assert by_part(index, "part-0") == []


@pytest.mark.parametrize("text", ["", "%", "part_%", "' OR 1=1", "..", "x" * 200, "part\x000", "ä"])
def test_a_text_that_is_no_id_is_refused(index: CaseIndex, text: str) -> None:
    index.add_cases([queued_case(0)])
    with pytest.raises(InvalidInputError, match="text must"):
        by_part(index, text)


def test_claims_are_shown_with_what_is_by_part(index: CaseIndex) -> None:
    index.add_cases([queued_case(0)])
    index.claim(queued_case(0).case_id, "ada", until_ns=NOW_NS + 1, now_ns=NOW_NS)
    assert index.find_cases("part-0", limit=1, now_ns=NOW_NS)[0].claimed_by == "ada"
