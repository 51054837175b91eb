"""The lines, as the page asks for them, over an outcome service in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from services.adapters.memory import MemoryBroker, MemoryObjectStore, MemoryRecordFetcher, MemoryTopicReader
from services.core import topics
from services.core.line_event import LineEventKind
from services.core.types import Verdict
from services.dashboard.app import make_app, make_context
from services.dashboard.components import ComponentBoard
from services.dashboard.explanations import ExplanationIndex
from services.dashboard.lines import LineBoard, LinePoller, Lines
from services.dashboard.linestate import GrpcLineStates
from services.dashboard.live import LiveModel
from services.dashboard.outcomes import OutcomeBook
from services.dashboard.settings import DashboardSettings
from services.runtime.lifecycle import Shutdown
from tests.support.accounts import PASSWORD, add_everybody, make_accounts
from tests.support.lines import ALARM_ID, START_NS, ToldOutcomeService, line_event, line_state, outcome
from tests.unit.dashboard.reviewing import OWN, reason

ACKNOWLEDGE = f"/lines/line-a/alarms/{ALARM_ID}/acknowledge"


class Site:
    """The application over an outcome service; with accounts where people sign in."""

    def __init__(self, static_dir: Path, service: ToldOutcomeService | None, *, signed: bool = False) -> None:
        broker = MemoryBroker()
        self.accounts = make_accounts() if signed else None
        if self.accounts:
            add_everybody(self.accounts)
        told: dict[str, Any] = {"web": {"mode": "network"}, "sign_in": {"method": "local"}} if signed else {}
        self.book, self.board = OutcomeBook(), LineBoard()
        self.states = None if service is None else GrpcLineStates(service.address)
        (static_dir / "index.html").write_text("<!doctype html><title>Sightline</title>")
        self.context = make_context(
            DashboardSettings(**told),
            model=LiveModel(),
            board=ComponentBoard(["kafka"]),
            store=MemoryObjectStore(),
            fetcher=MemoryRecordFetcher(broker),
            open_reader=lambda: MemoryTopicReader(broker, [topics.VERDICTS]),
            explanations=ExplanationIndex(max_cases=10, max_bytes=1_000_000),
            open_explained=lambda: MemoryTopicReader(broker, [topics.EXPLAINED]),
            lines=Lines(self.states, self.board, self.book, timeout_s=5.0),
            accounts=self.accounts,
            version="1.2.3",
            static_dir=static_dir,
        )
        self.client = TestClient(
            make_app(self.context), base_url="https://wall.plant" if signed else "http://127.0.0.1"
        )

    def look(self) -> None:
        """Ask the service once, as the poller does."""
        assert self.states is not None
        LinePoller(self.states, self.board, interval_s=1.0, timeout_s=5.0).round()

    def sign_in(self, name: str) -> None:
        body = {"name": name, "password": PASSWORD}
        assert self.client.post("/api/v1/session", json=body, headers=OWN).status_code == 200

    def get(self, path: str) -> httpx.Response:
        return self.client.get(f"/api/v1{path}")

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
        return self.client.post(f"/api/v1{path}", json=body, headers=OWN if headers is None else headers)

    def close(self) -> None:
        if self.states:
            self.states.close()
        self.context.lines.close()
        self.context.training.close()
        self.context.reviewing.close()
        self.context.signing.close()
        self.context.picture_pool.shutdown()
        if self.accounts:
            self.accounts.close()


@pytest.fixture
def service() -> Iterator[ToldOutcomeService]:
    made = ToldOutcomeService(line_state())
    yield made
    made.close()


@pytest.fixture
def site(tmp_path: Path, service: ToldOutcomeService) -> Iterator[Site]:
    made = Site(tmp_path, service)
    yield made
    made.close()


def test_a_line_is_told_with_its_light_causes_connections_alarms_and_reference_parts(site: Site) -> None:
    site.look()
    told = site.get("/lines").json()
    assert (told["offered"], told["known"], told["away"]) == (True, True, None)
    line = told["lines"][0]
    assert (line["line_id"], line["product"], line["lot"], line["light"]) == ("line-a", "disc", "L-7", "red")
    assert [(one["token"], one["about"], one["light"]) for one in line["causes"]] == [
        ("connection", "mes", "red"),
        ("alarm", ALARM_ID, "amber"),
    ]
    press, mes = line["connections"]
    assert (press["handshake"], press["part_id"], press["error_code"], press["up"]) == ("result", "part-9", 3, True)
    assert (mes["handshake"], mes["waiting"], mes["oldest_waiting_ms"], mes["detail"]) == (None, 14, 93_000, "no")
    assert (line["alarms"][0]["repeats"], line["alarms"][0]["acknowledged_at_ms"]) == (2, None)
    assert (line["past_alarms"][0]["acknowledged_by"], line["past_alarms"][0]["note"]) == ("olga", "lens cleaned")
    assert line["reference"] == {
        "phase": "due",
        "occasion": "early",
        "due_at_ms": START_NS // 1_000_000,
        "ended_at_ms": None,
        "parts": [
            {"part_id": "good-1", "expected": "pass", "seen": "pass"},
            {"part_id": "bad-1", "expected": "fail", "seen": None},
        ],
    }


def test_before_the_first_answer_nothing_is_known(site: Site) -> None:
    told = site.get("/lines").json()
    assert (told["offered"], told["known"], told["lines"]) == (True, False, [])


def test_while_the_service_is_away_the_last_reading_stays_and_says_so(site: Site, service: ToldOutcomeService) -> None:
    site.look()
    service.away = True
    site.look()
    since = site.get("/lines").json()["away"]["since_ms"]
    site.look()
    told = site.get("/lines").json()
    assert told["away"]["since_ms"] == since
    assert "outcome service must answer" in told["away"]["detail"]
    assert told["lines"][0]["light"] == "red"
    service.away = False
    site.look()
    assert site.get("/lines").json()["away"] is None


def test_outcomes_come_page_by_page_with_the_line_s_figures(site: Site) -> None:
    now_ns = time.time_ns()
    site.book.add(
        outcome(
            f"part-{number}", began_at_ns=now_ns - (10 - number) * 1_000_000_000, took_ms=300 if number == 4 else 80
        )
        for number in range(5)
    )
    site.book.add(
        [outcome("part-4", revision=2, verdict=Verdict.FAIL, began_at_ns=now_ns - 6_000_000_000, took_ms=700)]
    )
    first = site.get("/lines/line-a/outcomes?limit=3").json()
    assert [one["part_id"] for one in first["parts"]] == ["part-4", "part-3", "part-2"]
    late, corrected = first["parts"][0]["revisions"]
    assert (late["in_time"], late["spare_ms"], corrected["verdict"]) == (False, -50.0, "fail")
    assert first["counts"] == {"window_s": 900, "passed": 5, "failed": 0, "reviewed": 0, "late": 1}
    assert (first["cycle"]["parts"], first["cycle"]["due"], first["cycle"]["in_time"]) == (5, 5, 4)
    rest = site.get(f"/lines/line-a/outcomes?limit=3&before={first['next']}").json()
    assert ([one["part_id"] for one in rest["parts"]], rest["next"]) == (["part-1", "part-0"], None)
    assert site.get("/lines/line-z/outcomes").json()["parts"] == []


def test_a_part_s_answer_has_what_the_line_was_told(site: Site) -> None:
    told = line_event(LineEventKind.ANSWERED, part_id="part-1", verdict=Verdict.REVIEW, revision=1, connection="press")
    site.book.add([outcome(verdict=Verdict.REVIEW), outcome(revision=2, took_ms=900)], [told])
    part = site.get("/parts/part-1/outcome?line=line-a").json()["part"]
    assert [one["verdict"] for one in part["revisions"]] == ["review", "pass"]
    assert (part["answered"]["verdict"], part["answered"]["connection"]) == ("review", "press")
    assert site.get("/parts/part-2/outcome").json() == {"part": None}
    assert site.get("/lines/line-a/events").json()["events"][0]["kind"] == "answered"


def test_an_alarm_is_acknowledged_in_a_person_s_name_and_that_is_seen_at_once(
    site: Site, service: ToldOutcomeService
) -> None:
    site.look()
    answer = site.post(ACKNOWLEDGE, {"person": "Olga Berg", "note": "lens cleaned"})
    assert answer.json()["alarm"]["acknowledged_by"] == "Olga Berg"
    assert service.asked == [("acknowledge", "line-a", ALARM_ID, "Olga Berg", "lens cleaned")]
    assert site.get("/lines").json()["lines"][0]["alarms"] == []
    # Somebody who was slower is told who was first.
    assert site.post(ACKNOWLEDGE, {"person": "Emil"}).json()["alarm"]["acknowledged_by"] == "Olga Berg"


def test_a_check_is_begun_in_a_person_s_name(site: Site, service: ToldOutcomeService) -> None:
    answer = site.post("/lines/line-a/reference-check", {"person": "Emil"})
    assert [part["seen"] for part in answer.json()["reference"]["parts"]] == [None, None]
    assert service.asked == [("reference", "line-a", "Emil")]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        (ACKNOWLEDGE, {}, 422, "person must be the name"),
        (ACKNOWLEDGE, {"person": ""}, 422, "a name"),
        (ACKNOWLEDGE, {"person": "Emil", "light": "green"}, 422, "light"),
        (ACKNOWLEDGE, {"person": "Emil", "note": "n" * 2_001}, 422, "note"),
        ("/lines/line-a/alarms/-/acknowledge", {"person": "Emil"}, 422, "alarm_id must start with"),
        ("/lines/line-a/alarms/0189abcd-0000-7000-8000-0000000000ff/acknowledge", {"person": "Emil"}, 404, "no alarm"),
        ("/lines/line-z/reference-check", {"person": "Emil"}, 404, "no line"),
        ("/lines/-/reference-check", {"person": "Emil"}, 422, "line must start with"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_rule(site: Site, path: str, body: Any, status: int, said: str) -> None:
    answer = site.post(path, body)
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]


def test_another_page_can_do_nothing_here(site: Site, service: ToldOutcomeService) -> None:
    answer = site.post(ACKNOWLEDGE, {"person": "Emil"}, {"Content-Type": "application/json"})
    assert reason(answer) == (403, "foreign_page")
    assert service.asked == []


def test_while_the_service_is_away_nothing_is_done_and_that_is_said(site: Site, service: ToldOutcomeService) -> None:
    service.away = True
    answer = site.post(ACKNOWLEDGE, {"person": "Emil"})
    assert (reason(answer), answer.headers["retry-after"]) == ((503, "unavailable"), "2")


def test_whoever_is_signed_in_acknowledges_in_their_own_name_and_that_is_on_record(
    tmp_path: Path, service: ToldOutcomeService
) -> None:
    site = Site(tmp_path, service, signed=True)
    assert site.get("/lines").status_code == 401
    assert site.post(ACKNOWLEDGE, {}).status_code == 401
    site.sign_in("Olga")
    assert reason(site.post(ACKNOWLEDGE, {"person": "Emil"})) == (403, "other_person")
    assert site.post(ACKNOWLEDGE, {}).json()["alarm"]["acknowledged_by"] == "Olga"
    assert site.accounts is not None
    newest = site.accounts.entries(limit=1)[0]
    assert (newest.who, newest.action, newest.target) == ("Olga", "acknowledge_alarm", f"line-a {ALARM_ID}")
    site.close()


def test_without_an_outcome_service_there_is_nothing_to_ask(tmp_path: Path) -> None:
    site = Site(tmp_path, None)
    assert site.get("/lines").json()["offered"] is False
    for path in ("/lines/line-a/outcomes", "/lines/line-a/events", "/parts/part-1/outcome"):
        assert reason(site.get(path)) == (503, "no_outcome_service")
    assert reason(site.post(ACKNOWLEDGE, {"person": "Emil"})) == (503, "no_outcome_service")
    site.close()


def test_the_page_is_served_at_its_addresses(site: Site) -> None:
    assert site.client.get("/lines").status_code == 200
    assert site.client.get("/line/line-a").status_code == 200
    assert site.client.get("/line/-").status_code == 404


def test_how_old_what_waits_is_does_not_disturb_every_page(site: Site, service: ToldOutcomeService) -> None:
    site.look()
    before = site.board.revision
    service.lines["line-a"].connections[1].oldest_waiting_ms += 500
    site.look()
    assert site.board.revision == before
    service.lines["line-a"].connections[1].waiting += 1
    site.look()
    assert site.board.revision == before + 1
    assert site.board.read().lines[0]["connections"][1]["oldest_waiting_ms"] == 93_500


def test_the_poller_asks_until_it_is_told_to_stop(service: ToldOutcomeService) -> None:
    states, board, shutdown = GrpcLineStates(service.address), LineBoard(), Shutdown()
    poller = LinePoller(states, board, interval_s=0.02, timeout_s=5.0)
    thread = threading.Thread(target=poller.run, args=(shutdown,))
    thread.start()
    try:
        end_s = time.monotonic() + 10
        while not board.read().known:
            assert time.monotonic() < end_s, "the poller must ask"
            shutdown.wait(0.005)
    finally:
        shutdown.request()
        thread.join(10)
        states.close()
    assert not thread.is_alive()
