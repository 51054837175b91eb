from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.dashboard.posted import MAX_ANSWER_BYTES, MAX_SMALL_BYTES
from services.dashboard.reviewing import Recent
from tests.unit.dashboard.reviewing import (
    ANSWER,
    GETS,
    HOSTILE_CASES,
    HOSTILE_REVIEWS,
    MASK,
    OWN,
    POSTS,
    REVIEW_ID,
    UNDO_ID,
    UNKNOWN,
    Feedback,
    Site,
    reason,
)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, Feedback())
    yield made
    made.context.picture_pool.shutdown()
    made.context.reviewing.close()


# ---- who may say something


@pytest.mark.parametrize(("path", "body"), POSTS)
def test_another_page_cannot_send_anything(site: Site, path: str, body: dict[str, Any]) -> None:
    foreign = [{"Sec-Fetch-Site": site} for site in ("cross-site", "same-site", "Cross-Site", "rubbish", "")]
    for headers in [*foreign, {"X-Sightline": "0"}, {"X-Sightline": ""}]:
        assert reason(site.post(path, body, headers)) == (403, "foreign_page"), headers
    without = {"Content-Type": "application/json"}
    assert reason(site.client.post(f"/api/v1{path}", json=body, headers=without)) == (403, "foreign_page")
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""):
        assert reason(site.post(path, body, {"Content-Type": content_type})) == (403, "foreign_page"), content_type
    assert site.feedback.asked == []
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        assert site.post(path, body, headers).status_code in (200, 201)
    assert site.post(path, body, {"Content-Type": "Application/JSON; charset=utf-8"}).status_code in (200, 201)


def test_a_preflight_from_elsewhere_is_not_allowed(site: Site) -> None:
    asked = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-sightline,content-type",
    }
    answer = site.client.options(f"/api/v1/cases/{UNKNOWN}/claim", headers=asked)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_nothing_is_said_by_looking(site: Site) -> None:
    for path, _ in POSTS:
        if not path.endswith(("/reviews", "/neighbours")):
            assert site.get(path).status_code in (404, 405)
    for method in ("put", "delete", "patch"):
        assert getattr(site.client, method)(f"/api/v1/cases/{UNKNOWN}/reviews", headers=OWN).status_code == 405
    assert site.feedback.asked == []


# ---- what may be said


@pytest.mark.parametrize(("path", "body"), POSTS)
def test_a_body_over_its_bound_is_refused_declared_or_not(site: Site, path: str, body: dict[str, Any]) -> None:
    most = MAX_ANSWER_BYTES if body is ANSWER else MAX_SMALL_BYTES
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(2 * most // 65_536 + 2):
            sent += 65_536
            yield b" " * 65_536

    declared = site.client.post(f"/api/v1{path}", content=b" " * (most + 1), headers=OWN)
    chunked = site.client.post(f"/api/v1{path}", content=chunks(), headers=OWN)
    assert (reason(declared), reason(chunked)) == ((413, "too_large"), (413, "too_large"))
    huge = {"Content-Length": "9" * 5_000}
    assert reason(site.client.post(f"/api/v1{path}", content=b"{}", headers=OWN | huge)) == (413, "too_large")
    assert (site.feedback.asked, site.context.bodies.held_bytes) == ([], 0)


def test_a_mask_within_the_bound_is_taken(site: Site) -> None:
    mask = MASK + bytes(8_900_000)
    body = ANSWER | {"mask_png": base64.b64encode(mask).decode()}
    assert site.post(f"/cases/{UNKNOWN}/reviews", body).status_code == 201
    assert (site.feedback.asked[0][2] == mask, site.context.bodies.held_bytes) == (True, 0)


RUBBISH = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"\xff\xfe",
    b"NaN",
    b"[" * 60_000,
    b'{"a":' * 10_000,
    b'{"reviewer": "\\ud800"}',
    b"[" + b"0," * 25_000 + b"0]",
    b"{" + b",".join(b'"k%d":0' % number for number in range(5_000)) + b"}",
]


@pytest.mark.parametrize(("path", "body"), POSTS)
@pytest.mark.parametrize("rubbish", RUBBISH, ids=lambda rubbish: repr(rubbish[:12]))
def test_rubbish_is_refused_in_a_short_sentence(site: Site, path: str, body: dict[str, Any], rubbish: bytes) -> None:
    answer = site.client.post(f"/api/v1{path}", content=rubbish, headers=OWN)
    assert reason(answer) == (422, "invalid_input")
    assert 0 < len(answer.json()["error"]["message"]) < 1_000
    assert site.feedback.asked == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"review_id": REVIEW_ID.upper()}, "review_id must be a lower-case UUID"),
        ({"review_id": 5}, "review_id: Input should be a valid string"),
        ({"action": "undo"}, "action: Input should be 'answer' or 'skip'"),
        ({"verdict_right": "maybe"}, "verdict_right: Input should be 'yes', 'no', 'not_sure' or 'not_asked'"),
        ({"reason_right": True}, "reason_right: Input should be"),
        ({"corrected_verdict": "review"}, "corrected_verdict: Input should be 'pass' or 'fail'"),
        ({"defect_class": "x" * 65}, "defect_class: String should have at most 64"),
        ({"area": [[1, 2, 3]]}, "area.0: Tuple should have at most 2"),
        ({"area": [[1, "2"]]}, "area.0.1: Input should be a valid number"),
        ({"area": [[0, 0]] * 513}, "area: List should have at most 512"),
        ({"note": "x" * 2_001}, "note: String should have at most 2000"),
        ({"reviewer": ""}, "reviewer must be a name"),
        ({"reviewer": "a\nb"}, "reviewer must hold printable"),
        ({"reviewer": "x" * 65}, "reviewer must have at most 64"),
        ({"said_at_ms": -1}, "said_at_ms: Input should be greater than or equal to 0"),
        ({"said_at_ms": 1.5}, "said_at_ms: Input should be a valid integer"),
        ({"said_at_ms": 10**30}, "said_at_ms: "),
        ({"shown_method": "x" * 65}, "shown_method: String should have at most 64"),
        ({"frame_id": UNKNOWN}, "frame_id: Extra inputs are not permitted"),
        ({"case_id": UNKNOWN}, "case_id: Extra inputs are not permitted"),
        ({"mask_png": "data:image/png;base64,iVBORw0KGgo="}, "mask_png must be base64 without a prefix"),
        ({"mask_png": "iVBORw0KGgo"}, "mask_png must be base64"),
        ({"mask_png": "iVBO Rw0KGgo="}, "mask_png must be base64"),
        ({"mask_png": "iVBORw0KGgo=\n"}, "mask_png must be base64"),
        ({"mask_png": "-_8="}, "mask_png must be base64"),
        ({"mask_png": "é"}, "mask_png must be base64"),
        ({"mask_png": ""}, "mask_png must be a PNG, got 0 bytes"),
        ({"mask_png": "AAAA"}, "mask_png must be a PNG, got 3 bytes"),
        ({"mask_png": [1]}, "mask_png: Input should be a valid string"),
    ],
)
def test_an_answer_with_a_field_that_breaks_a_rule_says_which(site: Site, changes: dict[str, Any], said: str) -> None:
    answer = site.post(f"/cases/{UNKNOWN}/reviews", ANSWER | changes)
    assert reason(answer) == (422, "invalid_input")
    assert said in answer.json()["error"]["message"]
    assert site.feedback.asked == []


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e400"])
def test_a_corner_that_is_no_number_is_refused(site: Site, number: bytes) -> None:
    body = b'{"review_id":"%s","action":"answer","reviewer":"Ada","area":[[%s,1]]}' % (REVIEW_ID.encode(), number)
    answer = site.client.post(f"/api/v1/cases/{UNKNOWN}/reviews", content=body, headers=OWN)
    assert reason(answer) == (422, "invalid_input")


def test_what_must_be_said_may_not_be_left_out(site: Site) -> None:
    for path, _ in POSTS:
        message = site.post(path, {}).json()["error"]["message"]
        assert "reviewer" in message or "review_id: Field required" in message


@pytest.mark.parametrize("hostile", HOSTILE_CASES)
def test_hostile_case_ids_are_refused_in_json(site: Site, hostile: str) -> None:
    answers = [site.get(path.replace(UNKNOWN, hostile)) for path in GETS if UNKNOWN in path]
    answers += [site.post(path.replace(UNKNOWN, hostile), body) for path, body in POSTS if UNKNOWN in path]
    assert {answer.status_code for answer in answers} <= {404, 405, 422}
    assert all(len(answer.json()["error"]["message"]) < 300 for answer in answers)
    assert site.feedback.asked == []


@pytest.mark.parametrize("hostile", HOSTILE_REVIEWS)
def test_hostile_review_ids_are_refused_in_json(site: Site, hostile: str) -> None:
    mask = site.get(f"/cases/{UNKNOWN}/reviews/{hostile}/mask.png")
    undo = site.post(f"/reviews/{hostile}/undo", {"review_id": UNDO_ID, "reviewer": "Ada"})
    assert {mask.status_code, undo.status_code} <= {404, 405, 422}
    assert all(len(answer.json()["error"]["message"]) < 300 for answer in (mask, undo))
    assert site.feedback.asked == []


# ---- bounds on what is done at once


async def _until(holds: Any) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


def _in_one_loop(site: Site, work: Any) -> None:
    async def scenario() -> None:
        transport = httpx.ASGITransport(site.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1/api/v1") as client:
            await work(client)

    asyncio.run(scenario())


def test_so_many_questions_wait_and_further_ones_are_told_to_come_again(tmp_path: Path) -> None:
    site = Site(tmp_path, Feedback(), max_at_once=2)
    site.feedback.gate = threading.Event()

    async def work(client: httpx.AsyncClient) -> None:
        asked = [asyncio.create_task(client.get("/queue")) for _ in range(2 + 16)]
        await _until(lambda: site.context.reviewing._waiting == 16)
        refused = await client.get("/queue")
        assert reason(refused) == (503, "unavailable")
        assert len(site.feedback.asked) == 2
        assert site.feedback.gate is not None
        site.feedback.gate.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
        assert (await client.get("/queue")).status_code == 200

    _in_one_loop(site, work)
    assert site.context.reviewing._waiting == 0


def test_a_question_that_gets_no_turn_in_time_is_given_up(tmp_path: Path) -> None:
    site = Site(tmp_path, Feedback(), max_at_once=1, timeout_s=0.2)
    site.feedback.gate = threading.Event()

    async def work(client: httpx.AsyncClient) -> None:
        first = asyncio.create_task(client.get("/queue"))
        await _until(lambda: len(site.feedback.asked) == 1)
        assert reason(await client.get("/queue")) == (503, "unavailable")
        assert site.feedback.gate is not None
        site.feedback.gate.set()
        assert (await first).status_code == 200

    _in_one_loop(site, work)
    assert len(site.feedback.asked) == 1


def test_bodies_together_stay_within_a_bound(tmp_path: Path) -> None:
    site = Site(tmp_path, Feedback())
    site.feedback.gate = threading.Event()
    body = ANSWER | {"mask_png": base64.b64encode(MASK + bytes(8_000_000)).decode()}

    async def work(client: httpx.AsyncClient) -> None:
        url = f"/cases/{UNKNOWN}/reviews"
        asked = [asyncio.create_task(client.post(url, json=body, headers=OWN)) for _ in range(4)]
        await _until(lambda: len(site.feedback.asked) == 4)
        assert reason(await client.post(url, json=body, headers=OWN)) == (503, "unavailable")
        assert site.feedback.gate is not None
        site.feedback.gate.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {201}

    _in_one_loop(site, work)
    assert site.context.bodies.held_bytes == 0


def test_a_body_that_does_not_end_is_given_up(site: Site) -> None:
    site.context.bodies._timeout_s = 0.1

    async def drips() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    assert asyncio.run(_post_slowly(site, drips())) == 408
    assert (site.feedback.asked, site.context.bodies.held_bytes) == ([], 0)


async def _post_slowly(site: Site, chunks: Any) -> int:
    """Speak ASGI itself: a client that sends its body while the answer comes."""
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        chunk = await anext(chunks, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(name.lower().encode(), value.encode()) for name, value in OWN.items()]
    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/api/v1/cases/{UNKNOWN}/claim",
        "raw_path": b"",
        "query_string": b"",
        "headers": [*headers, (b"host", b"127.0.0.1")],
        "scheme": "http",
        "http_version": "1.1",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }
    await site.app(scope, receive, send)
    return statuses[0]


def test_what_is_remembered_stays_within_its_bound() -> None:
    recent: Recent[str] = Recent(10, len)
    for name in ("a", "b"):
        recent.put(name, "12345")
    assert recent.get("a") == "12345"
    recent.put("c", "1234")
    assert (recent.get("b"), recent.get("a"), recent.get("c")) == (None, "12345", "1234")
    recent.put("c", "12345678901")
    assert recent.get("c") is None
    recent.put("a", "1")
    recent.put("d", "123456789")
    assert (recent.get("a"), recent.get("d")) == ("1", "123456789")
