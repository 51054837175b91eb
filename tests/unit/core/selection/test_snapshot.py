from __future__ import annotations

import itertools
import json

import pytest

from services.core.errors import InvalidInputError
from services.core.review import Answer, AreaPoint, QueuedCase, Review
from services.core.selection.snapshot import (
    AnsweredCase,
    ContradictionPolicy,
    LeftOutReason,
    Snapshot,
    make_snapshot,
)
from services.core.types import Verdict
from tests.support.cases import image_ref, queued_case, review, undo, wrong


def said(case: QueuedCase, *reviews: Review) -> AnsweredCase:
    return AnsweredCase(case, reviews)


def mask(text: str = "drawing") -> dict[str, object]:
    return {"mask_ref": image_ref(text), "mask_pixels": 40}


DEFECTIVE, GOOD = queued_case(1), queued_case(2, Verdict.PASS, defect_class="")


def only(snapshot: Snapshot):
    (item,) = snapshot.items
    return item


def test_an_accepted_reason_gives_the_map_that_was_on_screen_as_the_region() -> None:
    item = only(make_snapshot([said(DEFECTIVE, review(DEFECTIVE))]))
    assert item.label == "scratch"
    assert item.accepted_maps == ((DEFECTIVE.case_id, "invrise-soft"),)
    assert (item.verdict_wrong, item.reason_wrong) == (False, False)


def test_a_drawing_takes_the_maps_place_and_several_are_joined() -> None:
    one = review(DEFECTIVE, 1, "ada", reason_right=Answer.NO, **mask("a"))
    other = review(DEFECTIVE, 2, "ben", reason_right=Answer.NO, **mask("b"))
    item = only(make_snapshot([said(DEFECTIVE, one, other)]))
    assert item.mask_keys == tuple(sorted((image_ref("a").key, image_ref("b").key)))
    assert item.accepted_maps == ()
    assert item.reason_wrong
    assert item.review_ids == tuple(sorted((one.review_id, other.review_id)))


def test_a_false_reject_is_good_and_names_the_map_that_misled() -> None:
    item = only(make_snapshot([said(DEFECTIVE, wrong(DEFECTIVE))]))
    assert (item.label, item.verdict_wrong) == ("good", True)
    assert item.misleading_maps == ((DEFECTIVE.case_id, "invrise-soft"),)
    assert item.mask_keys == item.accepted_maps == ()


def test_an_escape_is_named_by_the_person_or_by_nobody() -> None:
    assert only(make_snapshot([said(GOOD, wrong(GOOD, defect_class="dent"))])).label == "dent"
    assert only(make_snapshot([said(GOOD, wrong(GOOD))])).label == "defect"


def test_a_part_that_the_model_asked_about_is_what_the_person_decides() -> None:
    asked = queued_case(3, Verdict.REVIEW)
    item = only(
        make_snapshot([said(asked, review(asked, corrected_verdict=Verdict.PASS, reason_right=Answer.NOT_ASKED))])
    )
    assert (item.label, item.verdict_wrong) == ("good", False)
    assert item.misleading_maps == ()


def test_an_answer_that_was_taken_back_leaves_no_trace_to_the_byte() -> None:
    others = [said(GOOD, review(GOOD)), said(queued_case(5), wrong(queued_case(5)))]
    given = wrong(DEFECTIVE, 1)
    never = make_snapshot([*others, said(DEFECTIVE)])
    undone = make_snapshot([*others, said(DEFECTIVE, given, undo(DEFECTIVE, given, 2))])
    assert make_snapshot([*others, said(DEFECTIVE, given)]).to_json() != never.to_json()
    assert undone.to_json() == never.to_json()
    assert undone.digest == never.digest


def test_what_an_undone_answer_had_replaced_counts_again() -> None:
    first = review(DEFECTIVE, 1)
    second = wrong(DEFECTIVE, 2, supersedes=first.review_id)
    back = undo(DEFECTIVE, second, 3)
    assert (
        make_snapshot([said(DEFECTIVE, first, second, back)]).to_json()
        == make_snapshot([said(DEFECTIVE, first)]).to_json()
    )


def test_the_order_in_which_cases_and_answers_come_does_not_matter() -> None:
    cases = [said(queued_case(n), review(queued_case(n), 1), review(queued_case(n), 2, "ben")) for n in range(3)]
    forms = {
        make_snapshot([AnsweredCase(one.case, one.reviews[::step]) for one in order]).to_json()
        for order in itertools.permutations(cases)
        for step in (1, -1)
    }
    assert len(forms) == 1


def contradiction() -> list[AnsweredCase]:
    return [said(DEFECTIVE, review(DEFECTIVE, 1, "ada"), review(DEFECTIVE, 2, "cleo"), wrong(DEFECTIVE, 3, "ben"))]


@pytest.mark.parametrize(
    ("policy", "label"),
    [
        (ContradictionPolicy.LEAVE_OUT, None),
        (ContradictionPolicy.NEWEST, "good"),
        (ContradictionPolicy.MAJORITY, "scratch"),
    ],
)
def test_a_contradiction_is_told_and_resolved_by_policy(policy: ContradictionPolicy, label: str | None) -> None:
    snapshot = make_snapshot(contradiction(), policy=policy)
    assert snapshot.contradicted == (DEFECTIVE.image_ref.sha256,)
    if label is None:
        (one,) = snapshot.left_out
        assert (one.reason, len(one.review_ids)) == (LeftOutReason.CONTRADICTED, 3)
        assert not snapshot.items
    else:
        assert only(snapshot).label == label


def test_a_tie_is_left_out_and_a_person_who_answers_twice_counts_once() -> None:
    other_model = queued_case(1, alias="other")
    twice = [
        said(DEFECTIVE, review(DEFECTIVE, 1, "ada"), wrong(DEFECTIVE, 3, "ben")),
        said(other_model, review(other_model, 2, "ada")),
    ]
    snapshot = make_snapshot(twice, policy=ContradictionPolicy.MAJORITY)
    assert snapshot.left_out[0].reason is LeftOutReason.CONTRADICTED


def test_two_models_cases_of_one_picture_are_one_item() -> None:
    other_model = queued_case(1, alias="other")
    snapshot = make_snapshot([said(DEFECTIVE, review(DEFECTIVE)), said(other_model, review(other_model, 1, "ben"))])
    assert len(only(snapshot).review_ids) == 2
    assert len(only(snapshot).accepted_maps) == 2


def test_parts_of_the_hold_out_are_never_trained_on() -> None:
    snapshot = make_snapshot([said(DEFECTIVE, wrong(DEFECTIVE))], held_out={"part-1"})
    assert not snapshot.items
    assert snapshot.left_out[0].reason is LeftOutReason.HELD_OUT


def test_not_sure_and_a_picture_that_cannot_be_decoded_are_left_out_with_their_reason() -> None:
    broken = queued_case(4, image_width_px=0, image_height_px=0)
    unsure = review(DEFECTIVE, verdict_right=Answer.NOT_SURE, reason_right=Answer.NOT_ASKED)
    snapshot = make_snapshot([said(DEFECTIVE, unsure), said(broken, wrong(broken))])
    assert {one.reason for one in snapshot.left_out} == {LeftOutReason.NOT_SURE, LeftOutReason.NO_PICTURE}


def test_one_picture_of_two_parts_is_refused() -> None:
    same = queued_case(7, image_ref=DEFECTIVE.image_ref)
    with pytest.raises(InvalidInputError, match="of one part"):
        make_snapshot([said(DEFECTIVE, review(DEFECTIVE)), said(same, review(same))])


def test_an_area_of_interest_is_kept_of_a_defective_part_and_the_newest_counts() -> None:
    corners = [tuple(AreaPoint(x, y) for x, y in ((1.0, 1.0), (9.0, 1.0), (9.0, side))) for side in (5.0, 7.5)]
    one, other = (review(DEFECTIVE, number, "ada", area=area) for number, area in enumerate(corners, 1))
    snapshot = make_snapshot([said(DEFECTIVE, one, other)])
    item = only(snapshot)
    assert item.area == ((1.0, 1.0), (9.0, 1.0), (9.0, 7.5))
    assert (item.product, item.camera_id) == (DEFECTIVE.inspection.product, DEFECTIVE.inspection.camera_id)
    assert Snapshot.from_json(snapshot.to_json()) == snapshot
    good = only(make_snapshot([said(DEFECTIVE, wrong(DEFECTIVE, area=corners[0]))]))
    assert (good.label, good.area) == ("good", ())


def test_its_one_form_is_json_that_names_its_layout_and_what_it_holds() -> None:
    snapshot = make_snapshot([said(DEFECTIVE, review(DEFECTIVE)), said(GOOD, review(GOOD))])
    document = json.loads(snapshot.to_json())
    assert document["schema"] == 1
    assert {item["label"] for item in document["items"]} == {"good", "scratch"}
    assert snapshot.classes == ("good", "scratch")
    assert len(snapshot.digest) == 64


def test_a_snapshot_comes_back_from_its_json_and_nothing_else_does() -> None:
    snapshot = make_snapshot([said(DEFECTIVE, wrong(DEFECTIVE)), *contradiction()])
    assert Snapshot.from_json(snapshot.to_json()) == snapshot
    for data in (
        b"",
        b"[]",
        b"{}",
        snapshot.to_json().replace(b'"schema":1', b'"schema":2'),
        snapshot.to_json() + b" ",
    ):
        with pytest.raises(InvalidInputError, match="a snapshot must"):
            Snapshot.from_json(data)
