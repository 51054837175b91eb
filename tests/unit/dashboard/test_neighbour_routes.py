"""Neighbours of a case over REST."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.adapters.codec import encode_frame
from services.core import topics
from services.core.errors import NotFoundError, UnavailableError
from services.core.identity import case_id
from services.core.neighbours import Neighbour, Neighbours, Relation
from services.core.review import CaseState
from services.core.types import CaseKind, Frame, Inspection, Verdict
from tests.unit.dashboard.inspections import inspection
from tests.unit.dashboard.reviewing import HOSTILE_CASES, JPEG, UNKNOWN, Feedback, Site, reason


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, Feedback())
    yield made
    made.context.picture_pool.shutdown()
    made.context.reviewing.close()


def frame_on(site: Site, number: int = 7, *, inline: bool = True) -> Inspection:
    """A frame that is no case, with its picture."""
    seen = inspection(number, score=0.12, captured_at_ns=1_790_000_003_000_999_999)
    if not inline:
        return replace(seen, image_ref=site.store.put(f"frames/{number}.jpg", JPEG))
    frame = Frame(
        frame_id=seen.frame_id,
        part_id=seen.part_id,
        line_id=seen.line_id,
        camera_id=seen.camera_id,
        product=seen.product,
        sequence=seen.sequence,
        captured_at_ns=seen.captured_at_ns,
        image=JPEG,
    )
    return replace(seen, position=site.broker.append(topics.FRAMES, key=b"cam-1", value=encode_frame(frame)))


def of_frame(seen: Inspection, relation: Relation = Relation.NEAR_MISS) -> Neighbour:
    return Neighbour(relation, 0.8871, case_id(seen.frame_id, seen.alias, seen.model_version), seen)


def test_neighbours_say_what_they_are_and_where_their_pictures_lie(site: Site) -> None:
    asked, other = site.add(1), site.add(2, state=CaseState.REVIEWED, settled_verdict=Verdict.PASS)
    seen = frame_on(site)
    hit = Neighbour(Relation.NEAR_HIT, 0.9312, other.case_id, other.inspection, other)
    miss = of_frame(seen)
    site.feedback.found = Neighbours((hit, miss), 12_345, True)
    answer = site.get(f"/cases/{asked.case_id}/neighbours")
    assert answer.status_code == 200
    assert answer.json() == {
        "neighbours": [
            {
                "relation": "near_hit",
                "similarity": 0.9312,
                "neighbour_id": other.case_id,
                "case_id": other.case_id,
                "frame_id": other.inspection.frame_id,
                "part_id": "part-2",
                "verdict": "fail",
                "settled_verdict": "pass",
                "score": 0.9,
                "captured_at_ms": other.inspection.captured_at_ns // 1_000_000,
                "state": "reviewed",
                "thumbnail": f"/api/v1/cases/{other.case_id}/thumbnail",
                "image": f"/api/v1/cases/{other.case_id}/image",
            },
            {
                "relation": "near_miss",
                "similarity": 0.8871,
                "neighbour_id": miss.neighbour_id,
                "case_id": None,
                "frame_id": seen.frame_id,
                "part_id": "part-7",
                "verdict": "pass",
                "settled_verdict": None,
                "score": 0.12,
                "captured_at_ms": 1_790_000_003_000,
                "state": None,
                "thumbnail": f"/api/v1/cases/{asked.case_id}/neighbours/{miss.neighbour_id}/thumbnail",
                "image": f"/api/v1/cases/{asked.case_id}/neighbours/{miss.neighbour_id}/image",
            },
        ],
        "compared": 12_345,
        "exact": True,
    }
    assert site.feedback.asked == [("neighbours", asked.case_id, "", 5.0)]


@pytest.mark.parametrize("inline", [True, False])
def test_the_addresses_of_pictures_work(site: Site, inline: bool) -> None:
    asked, other = site.add(1), site.add(2)
    seen = frame_on(site, inline=inline)
    hit = Neighbour(Relation.NEAR_HIT, 0.9, other.case_id, other.inspection, other)
    site.feedback.found = Neighbours((hit, of_frame(seen)), 2, True)
    shown = site.get(f"/cases/{asked.case_id}/neighbours").json()["neighbours"]
    for one in shown:
        image = site.client.get(one["image"])
        assert (image.status_code, image.content) == (200, JPEG)
        small = site.client.get(one["thumbnail"], params={"size": 160})
        assert (small.status_code, small.headers["content-type"]) == (200, "image/jpeg")
        assert "private" in small.headers["cache-control"]
        again = site.client.get(
            one["thumbnail"], params={"size": 160}, headers={"If-None-Match": small.headers["etag"]}
        )
        assert again.status_code == 304
    # Where the pictures lie was told with the neighbours: nobody was asked again.
    assert [question[0] for question in site.feedback.asked] == ["neighbours"]


def test_a_dashboard_that_was_started_anew_asks_where_a_picture_lies(site: Site) -> None:
    asked, seen = site.add(1), frame_on(site)
    miss = of_frame(seen)
    site.feedback.found = Neighbours((miss,), 1, True)
    assert site.get(f"/cases/{asked.case_id}/neighbours/{miss.neighbour_id}/image").content == JPEG
    assert site.feedback.asked == [("neighbours", asked.case_id, "", 5.0)]
    assert reason(site.get(f"/cases/{asked.case_id}/neighbours/{UNKNOWN}/image")) == (404, "not_found")


def test_a_picture_that_is_gone_is_said_to_be_gone(site: Site) -> None:
    asked, seen = site.add(1), frame_on(site)
    miss = of_frame(seen)
    site.feedback.found = Neighbours((miss,), 1, True)
    for partition in site.broker.partitions(topics.FRAMES):
        site.broker.expire(partition, site.broker.end(partition))
    for what in ("image", "thumbnail"):
        answer = site.get(f"/cases/{asked.case_id}/neighbours/{miss.neighbour_id}/{what}")
        assert reason(answer) == (410, "image_expired")
    assert reason(site.get(f"/cases/{asked.case_id}/neighbours/{miss.neighbour_id}/thumbnail?size=99"))[0] == 422


def test_what_is_brought_into_the_queue_is_as_the_queue_shows_it(site: Site) -> None:
    asked, brought = site.add(1), site.add(2, kind=CaseKind.NEIGHBOUR, shown_method="", shown_grade=None)
    hit = Neighbour(Relation.NEAR_HIT, 0.9, brought.case_id, brought.inspection, brought)
    far = of_frame(frame_on(site), Relation.FARTHEST)
    site.feedback.found = Neighbours((hit, far), 2, False, (brought,))
    answer = site.post(f"/cases/{asked.case_id}/neighbours", {"reviewer": "Ada"})
    assert answer.status_code == 200
    body = answer.json()
    queue = {one["case_id"]: one for one in site.get("/queue").json()["cases"]}
    assert body["queued"] == [queue[brought.case_id]]
    assert body["queued"][0]["kind"] == "neighbour"
    assert [one["relation"] for one in body["neighbours"]] == ["near_hit", "farthest"]
    assert body["exact"] is False
    assert site.feedback.asked[0] == ("neighbours", asked.case_id, "Ada", 5.0)


def test_without_anybody_s_name_nothing_is_brought(site: Site) -> None:
    for body in ({}, {"reviewer": " "}, {"reviewer": 1}, {"reviewer": "Ada", "more": 1}, []):
        assert reason(site.post(f"/cases/{UNKNOWN}/neighbours", body)) == (422, "invalid_input"), body
    assert site.feedback.asked == []


@pytest.mark.parametrize("hostile", HOSTILE_CASES)
def test_ids_that_are_none_reach_nobody(site: Site, hostile: str) -> None:
    for answer in (
        site.get(f"/cases/{hostile}/neighbours"),
        site.post(f"/cases/{hostile}/neighbours", {"reviewer": "Ada"}),
        site.get(f"/cases/{UNKNOWN}/neighbours/{hostile}/image"),
        site.get(f"/cases/{UNKNOWN}/neighbours/{hostile}/thumbnail"),
    ):
        assert answer.status_code in (404, 405, 422)
    assert site.feedback.asked == []


def test_errors_of_the_service_are_passed_on(site: Site) -> None:
    site.feedback.error = NotFoundError("a case must be in the index, got none")
    assert reason(site.get(f"/cases/{UNKNOWN}/neighbours")) == (404, "not_found")
    site.feedback.error = UnavailableError("the feedback service must answer, got nothing")
    assert reason(site.post(f"/cases/{UNKNOWN}/neighbours", {"reviewer": "Ada"})) == (503, "unavailable")
