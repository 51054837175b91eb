"""What is kept of the lines' answers: in which order, how much of it, and the figures made of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.line_event import LineEventKind
from services.core.types import Verdict
from services.dashboard.outcomes import BARS, Counts, OutcomeBook, OutcomeBounds
from tests.support.lines import MS, START_NS, line_event, outcome

SECOND_NS = 1_000 * MS


def ids(book: OutcomeBook, line_id: str = "line-a", before: str = "", limit: int = 50) -> list[str]:
    found = book.outcomes(line_id, before=before, limit=limit)
    return [one.revisions[0].part_id for one in found]


def test_parts_are_listed_newest_first_whatever_the_order_in_which_they_come() -> None:
    book = OutcomeBook()
    parts = [outcome(f"part-{number}", began_at_ns=START_NS + number * SECOND_NS) for number in range(5)]
    book.add([parts[3], parts[0], parts[4], parts[1], parts[2]])
    assert ids(book) == ["part-4", "part-3", "part-2", "part-1", "part-0"]
    assert ids(book, "line-b") == []


def test_a_list_goes_on_after_a_part_and_ends_where_that_part_is_no_longer_kept() -> None:
    book = OutcomeBook(OutcomeBounds(parts_per_line=4))
    book.add(outcome(f"part-{number}", began_at_ns=START_NS + number * SECOND_NS) for number in range(6))
    assert ids(book, limit=2) == ["part-5", "part-4"]
    assert ids(book, before="part-4") == ["part-3", "part-2"]
    assert ids(book, before="part-0") == []


def test_revisions_of_a_part_stand_together_and_the_first_is_what_counts() -> None:
    book = OutcomeBook()
    book.add([outcome(revision=2, verdict=Verdict.FAIL, took_ms=900), outcome(verdict=Verdict.REVIEW, took_ms=250)])
    part = book.part("part-1", "line-a")
    assert part is not None
    assert [(one.revision, one.verdict) for one in part.revisions] == [(1, Verdict.REVIEW), (2, Verdict.FAIL)]
    assert book.counts("line-a", START_NS + SECOND_NS) == Counts(reviewed=1)
    assert book.cycle_times("line-a").parts == 1


def test_a_replay_changes_nothing() -> None:
    book = OutcomeBook()
    said, event = outcome(), line_event(LineEventKind.ANSWERED, part_id="part-1", verdict=Verdict.PASS)
    book.add([said], [event])
    before = book.revision
    book.add([said], [event])
    assert book.revision == before
    assert book.counts("line-a", START_NS) == Counts(passed=1)
    assert book.events("line-a") == (event,)


def test_a_part_that_is_shown_again_is_answered_anew() -> None:
    book = OutcomeBook()
    told = line_event(LineEventKind.ANSWERED, part_id="good-1", verdict=Verdict.FAIL)
    book.add([outcome("good-1", verdict=Verdict.FAIL)], [told])
    book.add([outcome("part-2", began_at_ns=START_NS + SECOND_NS)])
    book.add([outcome("good-1", began_at_ns=START_NS + 2 * SECOND_NS)])
    assert ids(book) == ["good-1", "part-2"]
    part = book.part("good-1")
    assert part is not None
    assert [one.verdict for one in part.revisions] == [Verdict.PASS]
    assert part.answered is None
    # The earlier showing again, as after an outage.
    book.add([outcome("good-1", verdict=Verdict.FAIL)])
    assert book.part("good-1") == part


@pytest.mark.parametrize("event_first", [True, False])
def test_what_the_line_was_told_stands_beside_its_part_whichever_comes_first(event_first: bool) -> None:
    book = OutcomeBook()
    told = line_event(LineEventKind.ANSWERED, part_id="part-1", verdict=Verdict.PASS, revision=1)
    if event_first:
        book.add(events=[told])
        book.add([outcome()])
    else:
        book.add([outcome()])
        book.add(events=[told])
    part = book.part("part-1")
    assert part is not None
    assert part.answered == told


def test_two_lines_that_count_alike_keep_their_parts_apart() -> None:
    book = OutcomeBook()
    book.add([outcome(), outcome(line_id="line-b", verdict=Verdict.FAIL, began_at_ns=START_NS + 1)])
    on_a, newest = book.part("part-1", "line-a"), book.part("part-1")
    assert on_a is not None
    assert on_a.revisions[0].verdict is Verdict.PASS
    assert newest is not None
    assert newest.revisions[0].line_id == "line-b"
    assert book.part("part-1", "line-c") is None


def test_counts_tell_of_the_last_quarter_of_an_hour() -> None:
    book = OutcomeBook()
    verdicts = (Verdict.PASS, Verdict.PASS, Verdict.FAIL, Verdict.REVIEW)
    for number, verdict in enumerate(verdicts):
        at_ns = START_NS + number * 60 * SECOND_NS
        book.add([outcome(f"part-{number}", verdict=verdict, began_at_ns=at_ns, took_ms=300 if number == 2 else 80)])
    assert book.counts("line-a", START_NS + 200 * SECOND_NS) == Counts(2, 1, 1, 1)
    assert book.counts("line-a", START_NS + 1_050 * SECOND_NS) == Counts(0, 0, 1, 0)
    assert book.counts("line-a", START_NS + 3_000 * SECOND_NS) == Counts()


def test_cycle_times_have_their_median_their_worst_and_the_share_in_time() -> None:
    book = OutcomeBook()
    book.add(outcome(f"part-{ms}", took_ms=ms, began_at_ns=START_NS + ms) for ms in range(1, 301))
    times = book.cycle_times("line-a")
    assert (times.parts, times.p50_ms, times.p99_ms) == (300, 150, 297)
    assert (times.due, times.in_time, times.deadlines_ms) == (300, 250, (250,))
    assert sum(bar.in_time for bar in times.bars) == 250
    assert sum(bar.late for bar in times.bars) == 50


def test_parts_without_a_deadline_are_in_no_share() -> None:
    book = OutcomeBook()
    book.add([outcome("part-1", due_ms=0), outcome("part-2", began_at_ns=START_NS + 1)])
    times = book.cycle_times("line-a")
    assert (times.parts, times.due, times.in_time) == (2, 1, 1)
    assert OutcomeBook().cycle_times("line-a").p50_ms is None


@given(st.lists(st.floats(0.01, 100_000), min_size=1, max_size=60), st.sampled_from([0.0, 3.0, 250.0, 4_000.0]))
def test_every_part_is_in_one_bar_and_the_deadline_is_among_them(took_ms: list[float], due_ms: float) -> None:
    book = OutcomeBook()
    book.add(
        outcome(f"part-{number}", took_ms=ms, due_ms=due_ms, began_at_ns=START_NS + number)
        for number, ms in enumerate(took_ms)
    )
    times = book.cycle_times("line-a")
    assert len(times.bars) == BARS
    assert sum(bar.in_time + bar.late for bar in times.bars) == len(took_ms)
    assert all(due < times.bars[-1].from_ms for due in times.deadlines_ms)


def test_everything_is_bounded() -> None:
    bounds = OutcomeBounds(max_lines=2, parts_per_line=3, events_per_line=2, cycles_per_line=4, max_parts=5)
    book = OutcomeBook(bounds)
    for number in range(20):
        part = outcome(f"part-{number}", line_id=f"line-{number % 3}", began_at_ns=START_NS + number)
        told = line_event(LineEventKind.ANSWERED, number + 1, line_id=part.line_id, part_id=part.part_id)
        book.add([part], [told])
        for revision in range(2, 40):
            book.add([outcome(part.part_id, revision=revision, line_id=part.line_id, began_at_ns=START_NS + number)])
    kept = book.part("part-19")
    assert kept is not None
    assert len(kept.revisions) <= 32
    assert kept.revisions[0].revision == 1
    assert book.part("part-14", "line-2") is None
    assert book.outcomes("line-2") == () or len(book.outcomes("line-2")) <= 3
    assert all(len(book.events(f"line-{number}")) <= 2 for number in range(3))
    assert all(book.cycle_times(f"line-{number}").parts <= 4 for number in range(3))
