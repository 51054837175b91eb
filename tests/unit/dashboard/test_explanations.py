from __future__ import annotations

from services.core.types import ExplainedCase, Inspection
from services.dashboard.explanations import ExplanationIndex, KeptExplanations, kept
from tests.support.explained import explained_case, explanation, hot_spot
from tests.unit.dashboard.inspections import SECOND_NS, inspection


def case(one: Inspection, **changes: object) -> KeptExplanations:
    made: ExplainedCase = explained_case(one, [explanation(), explanation("gradcam")], **changes)  # type: ignore[arg-type]
    return kept(made)


def test_explanations_are_found_by_frame_and_model_version() -> None:
    index = ExplanationIndex(max_cases=10, max_bytes=1_000_000)
    one = inspection(1)
    assert index.add([case(one)]) == 1
    found = index.find(one)
    assert found is not None
    assert [each.method for each in found.explanations] == ["invrise-soft", "gradcam"]
    assert index.find(inspection(1, model_version=2)) is None
    assert index.find(inspection(2)) is None


def test_a_case_that_comes_twice_changes_nothing_and_a_later_one_takes_its_place() -> None:
    index = ExplanationIndex(max_cases=10, max_bytes=1_000_000)
    one = inspection(1)
    index.add([case(one)])
    size_bytes = index.size_bytes
    assert index.add([case(one)]) == 0
    assert index.add([case(one, explained_at_ns=one.decided_at_ns - 1)]) == 0
    assert index.add([case(one, explained_at_ns=one.decided_at_ns + 9 * SECOND_NS, agreement=0.4)]) == 1
    found = index.find(one)
    assert found is not None
    assert (found.agreement, len(index), index.size_bytes) == (0.4, 1, size_bytes)


def test_the_number_of_cases_is_bounded_and_what_went_is_known_to_be_gone() -> None:
    index = ExplanationIndex(max_cases=3, max_bytes=1_000_000_000)
    parts = [inspection(number, age_s=100 - number) for number in range(5)]
    index.add([case(one) for one in parts])
    assert [index.find(one) is not None for one in parts] == [False, False, True, True, True]
    assert [index.holds_all_since(one.captured_at_ns) for one in parts] == [False, False, True, True, True]


def test_the_bytes_are_bounded_whatever_the_maps_size() -> None:
    index = ExplanationIndex(max_cases=1_000_000, max_bytes=300_000)
    big = explanation(map=hot_spot(0.5, 0.5, height=96, width=96))
    index.add(kept(explained_case(inspection(number), [big])) for number in range(100))
    assert 250_000 < index.size_bytes <= 300_000
    assert index.size_bytes >= len(index) * 96 * 96 * 2


def test_one_case_over_the_whole_bound_is_not_kept() -> None:
    index = ExplanationIndex(max_cases=10, max_bytes=10_000)
    index.add([kept(explained_case(inspection(1), [explanation(map=hot_spot(0.5, 0.5, height=96, width=96))]))])
    assert (len(index), index.size_bytes) == (0, 0)


def test_what_was_before_the_first_reading_is_not_called_held() -> None:
    index = ExplanationIndex(max_cases=10, max_bytes=1_000_000, since_ns=50)
    assert (index.holds_all_since(49), index.holds_all_since(50)) == (False, True)


def test_a_page_learns_which_frames_were_explained_since_it_last_asked() -> None:
    index = ExplanationIndex(max_cases=10, max_bytes=1_000_000, max_log=3)
    first, second = inspection(1), inspection(2)
    index.add([case(first)])
    assert index.since(0) == (1, [first.frame_id])
    index.add([case(second)])
    assert index.since(1) == (2, [second.frame_id])
    assert index.since(2) == (2, [])
    index.add([case(inspection(number)) for number in range(3, 8)])
    assert index.since(1) == (7, None), "more happened than is logged"
    assert index.since(99) == (7, None), "a cursor from another life"
