"""Alarms: when they are raised, that they stand until a person has seen them, and that a restart changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.alarm import MAX_STANDING, REMEMBERED_PARTS, Alarm, AlarmBoard
from services.core.alarm_count import MAX_CLASSES
from services.core.alarm_rule import DEFAULT_RULES, AlarmKind, AlarmPer, AlarmRule, Counted
from services.core.errors import InvalidInputError, NotFoundError
from services.core.line_event import Light
from services.core.outcome import Outcome
from services.core.types import Verdict
from tests.support.outcomes import NOW_NS, S_NS, outcome, outcomes, view

FAIL = frozenset({Counted.FAIL})
THREE = AlarmRule("three", AlarmKind.IN_A_ROW, n=3, verdicts=FAIL)
RATE = AlarmRule("rate", AlarmKind.RATE, share=0.2, window_s=60, min_parts=10, verdicts=FAIL)
SAME_DEFECT = AlarmRule(
    "same", AlarmKind.IN_A_ROW, n=3, verdicts=FAIL, per=frozenset({AlarmPer.CAMERA, AlarmPer.DEFECT_CLASS})
)


def feed(board: AlarmBoard, parts: Iterable[Outcome]) -> list[Alarm]:
    return [alarm for part in parts for alarm in board.take(part)]


def scratched(number: int, camera_id: str = "a", defect_class: str = "scratch") -> Outcome:
    return outcome(
        Verdict.FAIL, number, views=(view(Verdict.FAIL, camera_id, defect_class=defect_class, number=number),)
    )


# ---- when one is raised


def test_the_third_part_in_a_row_raises_an_alarm_that_says_all_of_it() -> None:
    board = AlarmBoard([THREE])
    assert feed(board, outcomes("FPFF")) == []
    (alarm,) = board.take(outcome(Verdict.FAIL, 5))
    assert (alarm.rule, alarm.light, alarm.text) == ("three", Light.AMBER, "3 parts in a row failed")
    assert (alarm.kind, alarm.count, alarm.of, alarm.window_s) == (AlarmKind.IN_A_ROW, 3, 3, 0)
    assert alarm.counted == (Counted.FAIL,)
    assert (alarm.line_id, alarm.part_id, alarm.raised_at_ns) == ("line-1", "part-5", NOW_NS + 5 * S_NS + S_NS // 2)
    assert board.standing == (alarm,)


def test_so_many_of_the_last_parts_need_not_be_in_a_row() -> None:
    rule = AlarmRule("of", AlarmKind.OF_LAST, n=3, k=5, verdicts=FAIL)
    assert feed(AlarmBoard([rule]), outcomes("FPPFPPF")) == []
    (alarm,) = feed(AlarmBoard([rule]), outcomes("FPFPF"))
    assert (alarm.count, alarm.of, alarm.text) == (3, 5, "3 of the last 5 parts failed")


def test_a_share_is_an_alarm_once_there_are_enough_parts_and_it_is_above_the_limit() -> None:
    assert feed(AlarmBoard([RATE]), outcomes("FFFFFFFFF")) == []
    assert feed(AlarmBoard([RATE]), outcomes("FPPPPFPPPP" + "PPPPFPPPPF")) == []
    (alarm,) = feed(AlarmBoard([RATE]), outcomes("FPPPPFPPPF"))
    assert (alarm.count, alarm.of, alarm.window_s) == (3, 10, 60)


def test_what_is_older_than_the_window_does_not_count() -> None:
    board = AlarmBoard([RATE])
    assert feed(board, outcomes("FFPPPPPPP")) == []
    assert feed(board, outcomes("PPPPPPPPPF", first=70)) == []


def test_a_clock_that_is_set_back_begins_the_window_anew() -> None:
    board = AlarmBoard([RATE])
    feed(board, outcomes("PPPPPPPPP", first=10_000))
    (alarm,) = feed(board, outcomes("FFFFFFFFFF"))
    assert (alarm.count, alarm.of) == (10, 10)


def test_review_counts_where_the_rule_says_so() -> None:
    both = AlarmRule("both", AlarmKind.IN_A_ROW, n=3)
    (alarm,) = feed(AlarmBoard([both]), outcomes("FRF"))
    assert (alarm.text, alarm.counted) == ("3 parts in a row did not pass", (Counted.FAIL, Counted.REVIEW))
    assert feed(AlarmBoard([THREE]), outcomes("FRF")) == []


def test_late_answers_count_whatever_they_were() -> None:
    (alarm,) = feed(AlarmBoard(DEFAULT_RULES), outcomes("PRP", in_time=False))
    assert (alarm.rule, alarm.light) == ("late-in-a-row", Light.RED)
    assert alarm.text == "3 parts in a row were answered late"


def test_the_same_defect_counts_for_each_camera_and_class() -> None:
    board = AlarmBoard([SAME_DEFECT])
    assert feed(board, [scratched(1), scratched(2, "b"), scratched(3), scratched(4, "a", "dent")]) == []
    # The dent has ended the row of scratches at this camera, and not that of the other camera.
    assert feed(board, [scratched(5), scratched(6), scratched(7, "b")]) == []
    (at_b,) = board.take(scratched(8, "b"))
    (at_a,) = board.take(scratched(9))
    assert (at_a.camera_id, at_a.defect_class, at_b.camera_id) == ("a", "scratch", "b")
    assert at_a.text == "3 parts in a row failed with scratch at camera a"


def test_a_share_of_a_defect_is_one_of_all_parts_and_not_of_those_since_it_was_first_seen() -> None:
    rule = replace(RATE, per=frozenset({AlarmPer.DEFECT_CLASS}))
    board = AlarmBoard([rule])
    feed(board, outcomes("P" * 20))
    raised = [number for number in range(21, 30) if board.take(scratched(number))]
    assert raised == [26], "6 of 26 is the first share above 20 %"


def test_products_have_counts_of_their_own_where_the_rule_says_so() -> None:
    board = AlarmBoard([replace(THREE, per=frozenset({AlarmPer.PRODUCT}))])
    mixed = [outcome(Verdict.FAIL, number, product=("disc", "bolt")[number % 2]) for number in range(1, 5)]
    assert feed(board, mixed) == []
    (alarm,) = board.take(outcome(Verdict.FAIL, 5, product="bolt"))
    assert (alarm.product, alarm.text) == ("bolt", "3 parts in a row of product bolt failed")


# ---- what does not count


def test_a_later_revision_counts_for_nothing() -> None:
    board = AlarmBoard([THREE])
    feed(board, outcomes("FF"))
    assert board.take(outcome(Verdict.FAIL, 3, revision=2)) == ()
    assert board.take(outcome(Verdict.PASS, 2, revision=2)) == ()
    assert len(board.take(outcome(Verdict.FAIL, 3))) == 1


def test_a_part_that_comes_again_counts_once() -> None:
    board = AlarmBoard([THREE])
    assert feed(board, [*outcomes("FF"), *outcomes("FF"), *outcomes("FF")]) == []


def test_only_the_last_parts_are_remembered() -> None:
    board = AlarmBoard([])
    feed(board, [outcome(number=number) for number in range(REMEMBERED_PARTS + 5)])
    assert len(json.loads(board.to_json())["parts"]) == REMEMBERED_PARTS


# ---- it stands until a person has seen it


def test_an_alarm_stands_through_good_parts_and_raises_no_second_one() -> None:
    board = AlarmBoard([THREE])
    (alarm,) = feed(board, outcomes("FFFFPPPFFF"))
    (standing,) = board.standing
    assert standing == replace(alarm, repeats=2)


def test_once_acknowledged_it_is_past_and_the_count_begins_anew() -> None:
    board = AlarmBoard([THREE])
    (alarm,) = feed(board, outcomes("FFFF"))
    seen = board.acknowledge(alarm.alarm_id, "Ada", NOW_NS, "tool changed")
    assert (seen.acknowledged_by, seen.acknowledged_at_ns, seen.note) == ("Ada", NOW_NS, "tool changed")
    assert (board.standing, board.past) == ((), (seen,))
    assert feed(board, outcomes("FF", first=5)) == []
    (second,) = board.take(outcome(Verdict.FAIL, 7))
    assert second.alarm_id != alarm.alarm_id


@pytest.mark.parametrize("rule", [RATE, AlarmRule("of", AlarmKind.OF_LAST, n=10, k=20, verdicts=FAIL), SAME_DEFECT])
def test_every_kind_of_count_begins_anew(rule: AlarmRule) -> None:
    board = AlarmBoard([rule])
    (alarm,) = feed(board, (scratched(number) for number in range(1, 11)))
    board.acknowledge(alarm.alarm_id, "Ada", NOW_NS)
    needed = rule.n or rule.min_parts
    raised = [number for number in range(1, 11) if board.take(scratched(10 + number))]
    assert raised == [needed]


def test_the_first_who_acknowledges_stays() -> None:
    board = AlarmBoard([THREE])
    (alarm,) = feed(board, outcomes("FFF"))
    first = board.acknowledge(alarm.alarm_id, "Ada", NOW_NS)
    assert board.acknowledge(alarm.alarm_id, "Bob", NOW_NS + 1, "me too") == first
    assert board.past == (first,)


@pytest.mark.parametrize(
    ("person", "note", "at_ns", "said"),
    [
        ("", "", 1, "must be a name"),
        ("Ada", "x" * 501, 1, "note must have at most 500 characters, got 501"),
        ("Ada", "\x00", 1, r"note must hold printable characters only, got '\\x00'"),
        ("Ada", "", 0, "at_ns must be >= 1, got 0"),
    ],
)
def test_an_acknowledgement_that_breaks_a_rule_leaves_the_alarm(person: str, note: str, at_ns: int, said: str) -> None:
    board = AlarmBoard([THREE])
    (alarm,) = feed(board, outcomes("FFF"))
    with pytest.raises(InvalidInputError, match=said):
        board.acknowledge(alarm.alarm_id, person, at_ns, note)
    assert board.standing == (alarm,)


def test_an_alarm_that_never_was_cannot_be_acknowledged() -> None:
    with pytest.raises(NotFoundError, match="an alarm must stand or be kept to be acknowledged, got 'no-such'"):
        AlarmBoard([THREE]).acknowledge("no-such", "Ada", NOW_NS)


def test_standing_and_past_alarms_come_the_newest_first() -> None:
    board = AlarmBoard([THREE, SAME_DEFECT], keep=1)
    one, other = feed(board, [scratched(1), scratched(2), scratched(3)])
    assert [alarm.alarm_id for alarm in board.standing] == [other.alarm_id, one.alarm_id]
    board.acknowledge(one.alarm_id, "Ada", NOW_NS)
    board.acknowledge(other.alarm_id, "Ada", NOW_NS)
    assert [alarm.alarm_id for alarm in board.past] == [other.alarm_id], "as many as are kept"


# ---- bounds


def test_what_counted_longest_ago_is_forgotten_first() -> None:
    board = AlarmBoard([replace(THREE, per=frozenset({AlarmPer.PRODUCT}))], max_keys=100)
    feed(board, outcomes("FF", product="old"))
    feed(board, [outcome(number=number, product=f"product-{number}") for number in range(10, 110)])
    assert len(json.loads(board.to_json())["counts"]) == 100
    assert board.take(outcome(Verdict.FAIL, 200, product="old")) == (), "its row was forgotten"


def test_a_place_keeps_counts_of_a_bounded_number_of_classes() -> None:
    board = AlarmBoard([SAME_DEFECT])
    feed(board, [scratched(number, defect_class=f"class-{number}") for number in range(300)])
    counts = json.loads(board.to_json())["counts"]
    assert len(counts) == MAX_CLASSES + 1
    assert counts[-1]["defect_class"] == "class-299"


def test_amber_alarms_without_end_are_bounded_and_leave_room_for_a_red_one() -> None:
    each = AlarmRule("each", AlarmKind.IN_A_ROW, n=1, verdicts=FAIL, per=frozenset({AlarmPer.PRODUCT}))
    board = AlarmBoard([each, replace(THREE, light=Light.RED, n=MAX_STANDING + 10)])
    feed(board, [outcome(Verdict.FAIL, number, product=f"product-{number}") for number in range(MAX_STANDING + 20)])
    lights = [alarm.light for alarm in board.standing]
    assert (lights.count(Light.AMBER), lights.count(Light.RED)) == (MAX_STANDING, 1)


def test_a_board_that_is_full_can_be_read_back() -> None:
    name = "x" * 120
    per = frozenset({AlarmPer.CAMERA, AlarmPer.PRODUCT})
    rule = AlarmRule(name, AlarmKind.RATE, share=0.0, window_s=604_800, min_parts=1, verdicts=FAIL, per=per)
    board = AlarmBoard([rule], max_keys=1_000, keep=200)
    for number in range(4_200):
        camera = f"{name}-{number % 1_000}"
        part = replace(scratched(number, camera), part_id=f"{name}-{number}", product=name)
        raised = board.take(replace(part, decided_at_ns=NOW_NS + number * 10**11))
        for alarm in raised[: number < 400]:
            board.acknowledge(alarm.alarm_id, "Ada" * 10, NOW_NS, "🔧" * 500)
    data = board.to_json()
    assert len(data) > 1_000_000
    assert AlarmBoard.from_json(data, [rule], max_keys=1_000, keep=200).to_json() == data


@pytest.mark.parametrize(
    ("rules", "max_keys", "keep", "said"),
    [
        ([THREE, THREE], 500, 100, "rules must have different names, got more than one three"),
        ([], 99, 100, r"max_keys must lie in 100..1000, got 99"),
        ([], 500, 201, r"keep must lie in 0..200, got 201"),
    ],
)
def test_a_board_that_cannot_be_kept_is_refused(
    rules: Sequence[AlarmRule], max_keys: int, keep: int, said: str
) -> None:
    with pytest.raises(InvalidInputError, match=said):
        AlarmBoard(rules, max_keys=max_keys, keep=keep)


# ---- restarts


RULES = (
    THREE,
    SAME_DEFECT,
    replace(RATE, per=frozenset({AlarmPer.CAMERA, AlarmPer.DEFECT_CLASS}), min_parts=4, window_s=20),
    AlarmRule("of", AlarmKind.OF_LAST, n=2, k=4, per=frozenset({AlarmPer.PRODUCT})),
    AlarmRule("late", AlarmKind.IN_A_ROW, n=2, verdicts=frozenset({Counted.LATE}), light=Light.RED),
)


@st.composite
def streams(draw: st.DrawFn) -> list[Outcome]:
    parts = []
    number = 0
    for _ in range(draw(st.integers(1, 40))):
        number += draw(st.integers(1, 5))
        verdict = draw(st.sampled_from(list(Verdict)))
        seen = view(
            verdict,
            draw(st.sampled_from("ab")),
            defect_class=draw(st.sampled_from(["", "dent", "scratch"])) if verdict is Verdict.FAIL else "",
            number=number,
        )
        product = draw(st.sampled_from(["disc", "bolt"]))
        parts.append(outcome(verdict, number, views=(seen,), product=product, in_time=draw(st.booleans())))
    return parts


def run(board: AlarmBoard, parts: Sequence[Outcome], seen_after: set[int], first: int = 0) -> list[Alarm]:
    raised = []
    for number, part in enumerate(parts, first):
        raised += board.take(part)
        if number in seen_after and board.standing:
            board.acknowledge(board.standing[0].alarm_id, "Ada", part.decided_at_ns)
    return raised


@settings(deadline=None, max_examples=150)
@given(streams(), st.integers(0, 40), st.integers(0, 10), st.sets(st.integers(0, 40)))
def test_a_restart_anywhere_raises_the_same_alarms_even_where_parts_come_again(
    parts: list[Outcome], cut: int, again: int, seen_after: set[int]
) -> None:
    whole = AlarmBoard(RULES)
    expected = run(whole, parts, seen_after)
    board = AlarmBoard(RULES)
    raised = run(board, parts[:cut], seen_after)
    board = AlarmBoard.from_json(board.to_json(), RULES)
    assert feed(board, parts[max(cut - again, 0) : cut]) == [], "what was counted comes again and counts for nothing"
    raised += run(board, parts[cut:], seen_after, first=cut)
    assert raised == expected
    assert (board.standing, board.past, board.to_json()) == (whole.standing, whole.past, whole.to_json())


def test_a_replay_from_the_beginning_raises_the_same_ids_and_leaves_what_was_acknowledged() -> None:
    board = AlarmBoard([THREE])
    (alarm,) = feed(board, outcomes("FFF"))
    assert feed(AlarmBoard([THREE]), outcomes("FFF"))[0].alarm_id == alarm.alarm_id
    board.acknowledge(alarm.alarm_id, "Ada", NOW_NS)
    stored = json.loads(board.to_json()) | {"parts": [], "counts": []}
    restored = AlarmBoard.from_json(json.dumps(stored).encode(), [THREE])
    assert feed(restored, outcomes("FFF")) == []


def test_a_rule_that_was_changed_counts_anew_and_its_alarm_stands() -> None:
    board = AlarmBoard([THREE, SAME_DEFECT])
    feed(board, outcomes("FFF"))
    restored = AlarmBoard.from_json(board.to_json(), [replace(THREE, n=2)])
    assert restored.standing == board.standing
    restored.acknowledge(restored.standing[0].alarm_id, "Ada", NOW_NS)
    assert restored.take(outcome(Verdict.FAIL, 4)) == ()
    assert len(restored.take(outcome(Verdict.FAIL, 5))) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "alarms.json: schema must be 1, got 2"),
        ({"more": 1}, "alarms.json must hold only known fields, got more"),
        ({"parts": [1]}, r"alarms.json.parts\[0\] must be of type str, got int"),
    ],
)
def test_a_board_of_another_kind_is_refused(change: dict[str, object], said: str) -> None:
    data = json.dumps(json.loads(AlarmBoard([THREE]).to_json()) | change).encode()
    with pytest.raises(InvalidInputError, match=said):
        AlarmBoard.from_json(data, [THREE])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"row": -1}, "row must be >= 0, got -1"),
        ({"last": "012"}, "last must hold only 0 and 1, got '012'"),
        ({"pieces": [[5, 2, 1]]}, r"hits <= parts, got \(5, 2, 1\)"),
        ({"pieces": [[5, 1]]}, r"its number, hits and parts"),
    ],
)
def test_a_count_that_cannot_have_been_is_refused(change: dict[str, object], said: str) -> None:
    board = AlarmBoard([THREE])
    board.take(outcome(Verdict.FAIL))
    stored = json.loads(board.to_json())
    stored["counts"][0] |= change
    with pytest.raises(InvalidInputError, match=said):
        AlarmBoard.from_json(json.dumps(stored).encode(), [THREE])
