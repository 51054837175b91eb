from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from services.adapters.codec import encode_inspection
from services.adapters.memory import MemoryBroker, MemoryObjectStore, MemoryRecordFetcher, MemoryTopicReader
from services.core import topics
from services.core.errors import UnavailableError
from services.core.identity import derive_frame_id
from services.core.imaging import encode_jpeg
from services.core.types import Inspection, Reason, StageTimings, Verdict
from services.dashboard.app import make_app, make_context
from services.dashboard.components import ComponentBoard, Reading, State
from services.dashboard.explanations import ExplanationIndex
from services.dashboard.live import LiveModel
from services.dashboard.settings import DashboardSettings
from tests.unit.dashboard.inspections import NOW_NS, inspection

JPEG = encode_jpeg(np.random.default_rng(1).integers(0, 255, (200, 300, 3), dtype=np.uint8))
UNKNOWN = "01890000-0000-7000-8000-000000000000"
HOSTILE = ["x", "..%2f..%2fetc%2fpasswd", "%00", "a" * 5_000, UNKNOWN.upper(), f"{UNKNOWN}%0a", "<script>", "' OR 1=1"]


class Site:
    def __init__(self, static_dir: Path) -> None:
        static_dir.mkdir()
        (static_dir / "index.html").write_text("<!doctype html><title>Sightline</title>")
        (static_dir / "theme.js").write_text("1")
        (static_dir / "assets").mkdir()
        (static_dir / "assets" / "index-abc.js").write_text("2")
        self.model = LiveModel()
        self.board = ComponentBoard(["kafka"])
        self.store = MemoryObjectStore()
        self.broker = MemoryBroker()
        self.context = make_context(
            DashboardSettings(),
            model=self.model,
            board=self.board,
            store=self.store,
            fetcher=MemoryRecordFetcher(self.broker),
            open_reader=lambda: MemoryTopicReader(self.broker, [topics.VERDICTS]),
            explanations=ExplanationIndex(max_cases=100, max_bytes=1_000_000),
            open_explained=lambda: MemoryTopicReader(self.broker, [topics.EXPLAINED]),
            version="1.2.3",
            static_dir=static_dir,
            clock_ns=lambda: NOW_NS,
        )
        self.client = TestClient(make_app(self.context), base_url="http://127.0.0.1")

    def add(self, number: int = 1, **changes: object) -> Inspection:
        one = inspection(number, image_ref=self.store.put(f"frames/{number}", JPEG), **changes)
        self.model.add([one], NOW_NS)
        return one


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "static")
    yield made
    made.context.picture_pool.shutdown()


def test_the_wall_tells_all_that_a_tile_shows(site: Site) -> None:
    one = site.add()
    wall = site.client.get("/api/v1/wall").json()
    [camera] = wall["lines"][0]["cameras"]
    assert camera["latest"][0]["frame_id"] == one.frame_id
    assert camera["latest"][0] | {"score": 0.2, "threshold": 0.6, "alias": "default"} == camera["latest"][0]
    assert (wall["revision"], wall["figures"]["passed"], wall["components"][0]["name"]) == (1, 1, "kafka")


def test_numbers_that_json_does_not_know_become_null(site: Site) -> None:
    one = site.add(score=float("nan"), timings=StageTimings(total_ms=float("inf")))
    part = site.client.get(f"/api/v1/parts/{one.frame_id}").json()
    assert (part["inspection"]["score"], part["timings"]["total_ms"]) == (None, None)


def test_a_split_panel_is_told_with_its_part_and_on_the_wall(site: Site) -> None:
    one = site.add(verdict=Verdict.REVIEW, reason=Reason.DISAGREEMENT, disagreement=2 / 3)
    part = site.client.get(f"/api/v1/parts/{one.frame_id}").json()
    assert (part["inspection"]["reason"], part["inspection"]["disagreement"]) == ("disagreement", 2 / 3)
    [camera] = site.client.get("/api/v1/wall").json()["lines"][0]["cameras"]
    assert camera["flagged"][0]["disagreement"] == 2 / 3


def test_a_wall_of_very_many_cameras_stays_bounded(site: Site) -> None:
    site.model.add(
        [inspection(number, camera=f"cam-{number % 100}", age_s=200 - number / 10) for number in range(2_000)], NOW_NS
    )
    wall = site.client.get("/api/v1/wall").json()
    shown = [len(camera["latest"]) for line in wall["lines"] for camera in line["cameras"]]
    assert (len(shown), min(shown), max(shown)) == (100, 4, 4)


def test_a_part_page_has_its_figures_place_and_neighbours(site: Site) -> None:
    first, second = site.add(1, age_s=9), site.add(2, age_s=8)
    part = site.client.get(f"/api/v1/parts/{first.frame_id}").json()
    assert part["next_frame_id"] == second.frame_id
    assert part["place"] | {"kind": "object", "key": "frames/1"} == part["place"]
    assert [one["part_id"] for one in part["neighbours"]] == ["part-1", "part-2"]


@pytest.mark.parametrize("frame_id", HOSTILE)
@pytest.mark.parametrize("path", ["/api/v1/parts/{}", "/api/v1/frames/{}/image", "/api/v1/frames/{}/thumbnail"])
def test_hostile_ids_are_refused_in_json(site: Site, path: str, frame_id: str) -> None:
    answer = site.client.get(path.format(frame_id))
    assert answer.status_code in (404, 422)
    assert "message" in answer.json()["error"]


@pytest.mark.parametrize("line", ["../x", "a" * 300, "%00", "a b"])
def test_hostile_line_names_are_refused(site: Site, line: str) -> None:
    assert site.client.get(f"/api/v1/wall?line={line}").status_code == 422
    assert site.client.get(f"/api/v1/stream?line={line}").status_code == 422


def test_an_unknown_frame_is_said_to_be_unknown(site: Site) -> None:
    for path in (f"/api/v1/parts/{UNKNOWN}", f"/api/v1/frames/{UNKNOWN}/image"):
        answer = site.client.get(path)
        assert (answer.status_code, answer.json()["error"]["reason"]) == (404, "frame_unknown")


def test_a_part_that_left_the_memory_is_found_in_kafka_with_its_picture(site: Site) -> None:
    one = inspection(5, image_ref=site.store.put("frames/5", JPEG))
    captured_at_ns = time.time_ns()
    one = replace(
        one,
        frame_id=derive_frame_id("cam-1", "old", 0, captured_at_ns),
        captured_at_ns=captured_at_ns,
        decided_at_ns=captured_at_ns,
    )
    for other in range(20):
        site.broker.append(topics.VERDICTS, key=b"x", value=encode_inspection(inspection(other)))
    site.broker.append(topics.VERDICTS, key=b"x", value=encode_inspection(one))
    part = site.client.get(f"/api/v1/parts/{one.frame_id}").json()
    assert part["inspection"]["part_id"] == "part-5"
    assert (part["previous_frame_id"], part["next_frame_id"]) == (None, None)
    assert site.client.get(f"/api/v1/frames/{one.frame_id}/image").content == JPEG
    assert site.client.get("/api/v1/wall").json()["figures"]["seen"] == 0


def test_a_part_looked_for_while_the_broker_is_away_is_not_called_unknown(site: Site) -> None:
    site.broker.unavailable = True
    answer = site.client.get(f"/api/v1/parts/{UNKNOWN}")
    assert (answer.status_code, answer.json()["error"]["reason"]) == (503, "unavailable")


def test_a_picture_is_kept_by_the_browser_and_asked_for_once(site: Site) -> None:
    one = site.add()
    answer = site.client.get(f"/api/v1/frames/{one.frame_id}/image")
    assert (answer.content, answer.headers["content-type"]) == (JPEG, "image/jpeg")
    assert "immutable" in answer.headers["cache-control"]
    site.store.unavailable = True
    again = site.client.get(f"/api/v1/frames/{one.frame_id}/image", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_thumbnail_has_one_of_three_sizes(site: Site) -> None:
    one = site.add()
    url = f"/api/v1/frames/{one.frame_id}/thumbnail"
    assert {site.client.get(f"{url}?size={size}").status_code for size in (160, 320, 640)} == {200}
    assert {site.client.get(f"{url}?size={size}").status_code for size in ("0", "-1", "161", "99999999", "x")} == {422}


def test_a_missing_picture_says_whether_it_will_come_back(site: Site) -> None:
    one, broken = site.add(1), site.add(2)
    url = "/api/v1/frames/{}/image"
    site.store.put("frames/2", b"no picture at all")
    refused = site.client.get(url.format(broken.frame_id))
    assert (refused.status_code, refused.json()["error"]["reason"]) == (415, "image_unsupported")
    site.store.unavailable = True
    away = site.client.get(url.format(one.frame_id))
    assert (away.status_code, away.json()["error"]["reason"], away.headers["retry-after"]) == (503, "unavailable", "2")
    assert away.headers["cache-control"] == "no-store"
    site.store.unavailable = False
    site.store.delete(["frames/1"])
    gone = site.client.get(url.format(one.frame_id))
    assert (gone.status_code, gone.json()["error"]["reason"]) == (410, "image_expired")


def test_every_answer_carries_the_security_headers(site: Site) -> None:
    one = site.add()
    paths = (
        "/",
        "/assets/index-abc.js",
        "/api/v1/wall",
        "/nothing",
        f"/api/v1/frames/{one.frame_id}/image",
        "/api/v1/x",
    )
    for path in paths:
        headers = site.client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_a_foreign_host_name_is_refused(site: Site) -> None:
    assert site.client.get("/api/v1/wall", headers={"Host": "evil.example"}).status_code == 400
    assert site.client.get("/api/v1/wall", headers={"Host": "localhost:8080"}).status_code == 200


def test_the_page_is_served_for_its_own_addresses_only(site: Site) -> None:
    own = ("/", f"/parts/{UNKNOWN}", "/review", f"/review/{UNKNOWN}", "/theme.js", "/assets/index-abc.js")
    assert [site.client.get(path).status_code for path in own] == [200] * 6
    assert {site.client.get(path).status_code for path in ("/parts/x", "/review/x", "/nothing")} == {404}
    assert "immutable" in site.client.get("/assets/index-abc.js").headers["cache-control"]
    assert site.client.get("/").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/..%2fapp.py", "/%2e%2e/app.py", "/assets/..%2f..%2fapp.py", "/index.html/../x"])
def test_no_path_leads_out_of_the_bundle(site: Site, path: str) -> None:
    answer = site.client.get(path)
    assert answer.status_code == 404
    assert b"FastAPI" not in answer.content


def test_without_a_bundle_the_page_says_what_to_do(site: Site) -> None:
    (site.context.static_dir / "index.html").unlink()
    answer = site.client.get("/")
    assert (answer.status_code, "make install" in answer.text) == (503, True)


def test_health_is_dated_and_ready_only_when_every_part_is_up(site: Site) -> None:
    assert site.client.get("/api/v1/health").json()["ready"] is False
    site.board.post("kafka", Reading(State.UP))
    site.add()
    health = site.client.get("/api/v1/health").json()
    assert (health["ready"], health["version"]) == (True, "1.2.3")
    assert health["components"][0]["checked_at_ms"] >= health["components"][0]["since_ms"] > 0
    assert health["last_verdict_at_ms"] == inspection(1).decided_at_ns // 1_000_000


def test_more_browsers_than_allowed_are_told_to_come_later(site: Site) -> None:
    site.context.stream.open_streams = site.context.settings.web.max_streams
    answer = site.client.get("/api/v1/stream")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_a_server_that_leaves_keeps_no_connection(site: Site) -> None:
    # A browser that was told goodbye would come back on the same connection and be waited for.
    assert "connection" not in site.client.get("/api/v1/wall").headers
    site.context.stream.drain()
    assert site.client.get("/api/v1/wall").headers["connection"] == "close"
    assert site.client.get("/api/v1/stream").headers["connection"] == "close"
    assert site.client.get("/").headers["connection"] == "close"


def test_nothing_may_be_changed_through_the_page(site: Site) -> None:
    for method in ("post", "put", "delete", "patch"):
        assert getattr(site.client, method)("/api/v1/wall").status_code == 405


def test_a_fault_of_ours_does_not_show_its_insides(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise UnavailableError("broker must answer, got nothing")

    monkeypatch.setattr(site.model, "part", away)
    answer = site.client.get(f"/api/v1/parts/{UNKNOWN}")
    assert (answer.status_code, answer.json()["error"]["reason"]) == (503, "unavailable")
