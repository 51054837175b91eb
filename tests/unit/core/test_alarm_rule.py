"""Rules of alarms: what they refuse, and what they say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.core.alarm_rule import DEFAULT_RULES, AlarmKey, AlarmKind, AlarmPer, AlarmRule, Counted
from services.core.errors import InvalidInputError
from services.core.line_event import Light
from services.core.types import Verdict
from tests.support.outcomes import outcome, view

FAIL = frozenset({Counted.FAIL})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "a rule"}, "a rule's name must start with .*, got 'a rule'"),
        ({"n": 0}, r"rule r must have n in 1..1000, got 0"),
        ({"n": 1_001}, r"n in 1..1000, got 1001"),
        ({"k": 9}, "rule r must have no k, since it is of kind in_a_row, got 9"),
        ({"window_s": 60}, "no window_s, since it is of kind in_a_row, got 60"),
        ({"kind": AlarmKind.OF_LAST, "k": 2}, r"rule r must have k in n..1000, got 2 with n 3"),
        ({"kind": AlarmKind.OF_LAST, "k": 1_001}, r"k in n..1000, got 1001 with n 3"),
        ({"kind": AlarmKind.RATE}, "no n, since it is of kind rate, got 3"),
        ({"kind": AlarmKind.RATE, "n": 0, "share": 1.0}, r"a share in \[0, 1\), got 1.0"),
        ({"kind": AlarmKind.RATE, "n": 0, "share": float("nan")}, r"a share in \[0, 1\), got nan"),
        ({"kind": AlarmKind.RATE, "n": 0, "share": 0.2}, r"window_s in 1..604800, got 0"),
        ({"kind": AlarmKind.RATE, "n": 0, "share": 0.2, "window_s": 60}, "min_parts >= 1, got 0"),
        ({"verdicts": frozenset()}, "at least one verdict and one thing to count by, got 0 and 1"),
        ({"per": frozenset()}, "at least one verdict and one thing to count by, got 2 and 0"),
        ({"light": Light.GREEN}, "light AMBER or RED, got GREEN"),
        ({"product": "a disc"}, "product of rule r must start with"),
        ({"camera_id": "../left"}, "camera_id of rule r must start with"),
        ({"defect_class": "a\nb"}, r"a defect_class of at most 128 printable characters, got 'a\\nb'"),
        ({"verdicts": frozenset({Counted.LATE}), "per": frozenset({AlarmPer.CAMERA})}, "a part is late as a whole"),
    ],
)
def test_a_rule_that_cannot_be_kept_is_refused_with_what_it_says(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        AlarmRule(**({"name": "r", "kind": AlarmKind.IN_A_ROW, "n": 3} | values))


@pytest.mark.parametrize(
    ("rule", "key", "said"),
    [
        (
            AlarmRule("r", AlarmKind.IN_A_ROW, n=3, verdicts=FAIL),
            AlarmKey("line-1", camera_id="discs-left"),
            "3 parts in a row failed at camera discs-left",
        ),
        (AlarmRule("r", AlarmKind.IN_A_ROW, n=3), AlarmKey("line-1"), "3 parts in a row did not pass"),
        (
            AlarmRule("r", AlarmKind.OF_LAST, n=3, k=9, verdicts=frozenset({Counted.LATE, Counted.FAIL})),
            AlarmKey("line-1", product="disc"),
            "3 of the last 8 parts of product disc failed or were answered late",
        ),
        (
            AlarmRule("r", AlarmKind.RATE, share=0.2, window_s=600, min_parts=5, verdicts=FAIL),
            AlarmKey("line-1", defect_class="scratch"),
            "3 of 8 parts failed within 10 min with scratch",
        ),
        (
            AlarmRule("r", AlarmKind.RATE, share=0.2, window_s=90, min_parts=5, verdicts=frozenset({Counted.REVIEW})),
            AlarmKey("line-1"),
            "3 of 8 parts were for review within 90 s",
        ),
    ],
)
def test_an_alarm_says_in_words_what_happened(rule: AlarmRule, key: AlarmKey, said: str) -> None:
    assert rule.describe(key, 3, 8) == said


def test_one_part_is_no_row() -> None:
    rule = AlarmRule("r", AlarmKind.IN_A_ROW, n=1, verdicts=FAIL)
    assert rule.describe(AlarmKey("line-1"), 1, 1) == "1 part failed"


def test_a_part_counts_once_for_a_camera_however_many_views_it_has() -> None:
    rule = AlarmRule("r", AlarmKind.IN_A_ROW, n=3, per=frozenset({AlarmPer.CAMERA}))
    views = (view(Verdict.FAIL, "a"), view(Verdict.PASS, "a"), view(Verdict.PASS, "b"))
    assert rule.trials(outcome(Verdict.FAIL, views=views)) == {
        AlarmKey("line-1", "a"): {""},
        AlarmKey("line-1", "b"): set(),
    }


def test_a_camera_that_did_not_see_the_part_says_nothing_of_it() -> None:
    rule = AlarmRule("r", AlarmKind.IN_A_ROW, n=3, per=frozenset({AlarmPer.CAMERA}))
    part = outcome(Verdict.REVIEW, views=(view(Verdict.PASS, "a"),), missing_cameras=("b",))
    assert rule.trials(part) == {AlarmKey("line-1", "a"): set()}


def test_filters_leave_out_other_products_cameras_and_defects() -> None:
    rule = AlarmRule("r", AlarmKind.IN_A_ROW, n=3, product="disc", camera_id="a", defect_class="scratch")
    assert rule.trials(outcome(product="bolt")) == {}
    seen = (view(Verdict.FAIL, "a", defect_class="dent"), view(Verdict.FAIL, "b", defect_class="scratch"))
    assert rule.trials(outcome(views=seen)) == {AlarmKey("line-1", "a", "disc", "scratch"): set()}
    hit = (view(Verdict.FAIL, "a", defect_class="scratch"),)
    assert rule.trials(outcome(views=hit)) == {AlarmKey("line-1", "a", "disc", "scratch"): {""}}


def test_a_defect_without_a_name_is_not_the_same_defect() -> None:
    rule = AlarmRule("r", AlarmKind.IN_A_ROW, n=3, per=frozenset({AlarmPer.DEFECT_CLASS}))
    assert rule.trials(outcome(views=(view(Verdict.FAIL, "a"),))) == {AlarmKey("line-1"): set()}


def test_only_equal_rules_have_one_fingerprint() -> None:
    rules = [*DEFAULT_RULES, replace(DEFAULT_RULES[0], n=4), replace(DEFAULT_RULES[0], light=Light.AMBER)]
    assert len({rule.fingerprint() for rule in rules}) == len(rules)
    assert replace(DEFAULT_RULES[0]).fingerprint() == DEFAULT_RULES[0].fingerprint()
