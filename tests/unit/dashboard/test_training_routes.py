"""Training, as the page asks for it: runs, their progress, decisions, and who may ask for what."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from services.adapters.memory import MemoryBroker, MemoryObjectStore, MemoryRecordFetcher, MemoryTopicReader
from services.core import alias as transitions
from services.core import topics
from services.core.errors import BusyError, EventDecodeError, UnavailableError
from services.core.promotion import GateName
from services.core.training_run import RunOutcome, RunStage, TrainingRun
from services.core.types import AliasState
from services.dashboard.app import make_app, make_context
from services.dashboard.components import ComponentBoard
from services.dashboard.explanations import ExplanationIndex
from services.dashboard.live import LiveModel
from services.dashboard.models import ModelBoard
from services.dashboard.settings import DashboardSettings
from tests.support.accounts import PASSWORD, add_everybody, make_accounts
from tests.support.told_trainer import ToldTrainer
from tests.support.training_runs import ANSWERED, report, training_run
from tests.unit.dashboard.reviewing import OWN, reason

RUN = "0189abcd-0000-7000-8000-00000000000f"


def live_state(version: int = 2, previous: int = 1) -> AliasState:
    return AliasState("default", 3, version, previous, candidate_versions=(3,), actor="mira", at_ns=1_000_000_000)


class Site:
    """The application over a trainer that is told; with accounts where people sign in."""

    def __init__(self, static_dir: Path, trainer: ToldTrainer | None, *, signed: bool = False, **settings: Any) -> None:
        broker = MemoryBroker()
        self.board = ModelBoard()
        self.accounts = make_accounts() if signed else None
        if self.accounts:
            add_everybody(self.accounts)
        told: dict[str, Any] = {"web": {"mode": "network"}, "sign_in": {"method": "local"}} if signed else {}
        self.context = make_context(
            DashboardSettings(trainer={"timeout_s": 5.0, **settings}, **told),
            model=LiveModel(),
            board=ComponentBoard(["kafka"]),
            store=MemoryObjectStore(),
            fetcher=MemoryRecordFetcher(broker),
            open_reader=lambda: MemoryTopicReader(broker, [topics.VERDICTS]),
            explanations=ExplanationIndex(max_cases=10, max_bytes=1_000_000),
            open_explained=lambda: MemoryTopicReader(broker, [topics.EXPLAINED]),
            models=self.board,
            trainer=trainer,
            accounts=self.accounts,
            version="1.2.3",
            static_dir=static_dir,
        )
        self.client = self.browser()

    def browser(self, name: str | None = None) -> TestClient:
        """A browser, signed in as somebody if a name is given."""
        base_url = "https://wall.plant" if self.accounts else "http://127.0.0.1"
        client = TestClient(make_app(self.context), base_url=base_url)
        if name is not None:
            body = {"name": name, "password": PASSWORD}
            assert client.post("/api/v1/session", json=body, headers=OWN).status_code == 200
        return client

    def get(self, path: str) -> httpx.Response:
        return self.client.get(f"/api/v1/training{path}")

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.client.post(f"/api/v1/training{path}", json=body, headers=OWN)

    def events(self, run_id: str) -> list[tuple[str, Any]]:
        """What a browser that follows a run is told, to the end."""
        return events_of(self.get(f"/runs/{run_id}/progress").text)

    def close(self) -> None:
        self.context.training.close()
        self.context.reviewing.close()
        self.context.signing.close()
        self.context.picture_pool.shutdown()
        if self.accounts:
            self.accounts.close()


def events_of(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.partition(": ")[::2] for line in block.splitlines())
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


@pytest.fixture
def trainer() -> ToldTrainer:
    return ToldTrainer()


@pytest.fixture
def site(tmp_path: Path, trainer: ToldTrainer) -> Iterator[Site]:
    made = Site(tmp_path, trainer)
    yield made
    made.close()


@pytest.fixture
def signed(tmp_path: Path, trainer: ToldTrainer) -> Iterator[Site]:
    made = Site(tmp_path, trainer, signed=True)
    yield made
    made.close()


# ---- looking


def test_the_overview_tells_what_is_live_without_asking_the_trainer(site: Site, trainer: ToldTrainer) -> None:
    site.board.add(live_state())
    trainer.away = UnavailableError("the trainer is away")
    body = site.get("").json()
    assert (body["offered"], body["known"]) == (True, False)
    [alias] = body["aliases"]
    assert (alias["alias"], alias["live_version"], alias["previous_version"]) == ("default", 2, 1)


def test_without_a_trainer_the_page_is_told_so_and_nothing_can_be_asked(tmp_path: Path) -> None:
    site = Site(tmp_path, None)
    assert site.get("").json()["offered"] is False
    assert site.get("/notices?author=ada").json() == {"notices": []}
    for path in ("/runs", f"/runs/{RUN}"):
        assert reason(site.get(path)) == (503, "no_trainer")
    assert reason(site.post("/runs", {"alias": "default", "actor": "ada"})) == (503, "no_trainer")
    assert [name for name, _ in site.events(RUN)] == ["failed"]
    site.close()


def test_a_run_is_told_whole_and_figures_that_are_no_numbers_are_null(site: Site, trainer: ToldTrainer) -> None:
    run = trainer.put(training_run(seed=2**60 + 1))
    body = site.get(f"/runs/{run.run_id}").json()
    assert (body["stage"], body["outcome"], body["reason"]) == ("ended", "rolled_back", "flagged")
    assert body["seed"] == str(2**60 + 1)
    gates = {gate["name"]: gate for gate in body["report"]["gates"]}
    assert gates["mcc"] == {
        "name": "mcc",
        "state": "kept",
        "live": 0.8,
        "candidate": 0.85,
        "bound": 0.78,
        "low": -0.01,
        "high": 0.1,
        "parts": 40,
    }
    assert gates["explanation"]["candidate"] is None
    assert gates["latency"]["bound"] is None
    assert body["report"]["candidate"]["defective"] == {"pass": 1, "review": 1, "fail": 18}
    assert body["report"]["flips"][0]["frame_id"] is None
    assert body["shadow"]["flips"][0]["frame_id"]
    assert body["report"]["answered"][0]["honoured"] is True
    assert body["snapshot"]["left_out"] == [{"reason": "contradicted", "parts": 1}, {"reason": "held_out", "parts": 2}]


def test_runs_are_listed_page_by_page_with_the_answers_since_the_last_one(site: Site, trainer: ToldTrainer) -> None:
    runs = [trainer.put(training_run(at)) for at in range(3)]
    trainer.new_reviews = {"default": 7}
    first = site.get("/runs?limit=2").json()
    assert [run["run_id"] for run in first["runs"]] == [runs[2].run_id, runs[1].run_id]
    assert (first["new_reviews"], first["reviews_wanted"]) == ({"default": 7}, 20)
    assert first["runs"][0]["report"]["answered"] == []
    rest = site.get(f"/runs?limit=2&after={first['next']}").json()
    assert ([run["run_id"] for run in rest["runs"]], rest["next"]) == ([runs[0].run_id], None)


def test_runs_are_narrowed_to_an_alias_and_to_whose_answers_they_carry(site: Site, trainer: ToldTrainer) -> None:
    trainer.put(training_run(1, authors=("ada",)))
    trainer.put(training_run(2, "other", authors=("bob",)))
    assert [run["alias"] for run in site.get("/runs?alias=other").json()["runs"]] == ["other"]
    assert [run["alias"] for run in site.get("/runs?author=ada").json()["runs"]] == ["default"]
    assert [run["alias"] for run in site.get("/runs?author=bob&mine=true").json()["runs"]] == ["other"]
    assert reason(site.get("/runs?mine=true")) == (422, "invalid_input")


def test_mine_are_the_runs_of_whoever_is_signed_in_whatever_the_address_says(
    signed: Site, trainer: ToldTrainer
) -> None:
    trainer.put(training_run(1, authors=("Olga",)))
    trainer.put(training_run(2, authors=("Emil",)))
    olga = signed.browser("Olga")
    found = olga.get("/api/v1/training/runs?mine=true&author=Emil").json()["runs"]
    assert [run["authors"] for run in found] == [["Olga"]]


@pytest.mark.parametrize("path", ["/runs/x", "/runs/%00", f"/runs/{RUN.upper()}", "/runs?limit=0", "/runs?alias=.."])
def test_an_address_that_breaks_a_rule_is_refused_before_anybody_is_asked(site: Site, path: str) -> None:
    assert reason(site.get(path)) == (422, "invalid_input")


@pytest.mark.parametrize("error", [UnavailableError("away"), BusyError("full"), EventDecodeError("odd")])
def test_a_trainer_that_is_away_may_be_asked_again_later(site: Site, trainer: ToldTrainer, error: Exception) -> None:
    trainer.away = error  # type: ignore[assignment]
    answer = site.get("/runs")
    assert reason(answer) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "2"


def test_a_run_that_is_not_on_record_is_not_found(site: Site) -> None:
    assert reason(site.get(f"/runs/{RUN}")) == (404, "not_found")


# ---- progress


def test_progress_tells_the_run_as_it_is_and_ends_with_it(site: Site, trainer: ToldTrainer) -> None:
    run = trainer.put(training_run())
    told = site.events(run.run_id)
    assert [name for name, _ in told] == ["run", "end"]
    assert told[0][1]["run_id"] == run.run_id
    assert trainer.watching == 0


def test_progress_tells_why_it_cannot_go_on(site: Site, trainer: ToldTrainer) -> None:
    assert site.events(RUN)[0] == ("failed", site.events(RUN)[0][1])
    assert site.events(RUN)[0][1]["error"]["reason"] == "not_found"
    trainer.away = UnavailableError("the trainer is away")
    assert site.events(RUN)[0][1]["error"]["reason"] == "unavailable"


def test_no_more_browsers_than_allowed_follow_a_run(tmp_path: Path, trainer: ToldTrainer) -> None:
    site = Site(tmp_path, trainer, max_watchers=1)
    site.context.training._watchers = 1
    told = site.events(trainer.put(training_run()).run_id)
    assert (told[0][0], told[0][1]["error"]["reason"]) == ("failed", "busy")
    site.close()


async def _followed(site: Site, run_id: str, until: int, leave: list[bool]) -> list[str]:
    events = site.context.training.events(run_id, lambda: bool(leave))
    names = []
    async for chunk in events:
        if chunk.startswith(b"event: "):
            names.append(chunk.split(b"\n")[0].removeprefix(b"event: ").decode())
        if len(names) == until:
            leave.append(True)
    return names


def test_a_service_that_leaves_tells_whoever_follows_to_come_back(site: Site, trainer: ToldTrainer) -> None:
    run = trainer.put(training_run(ended=False))
    assert asyncio.run(_followed(site, run.run_id, 1, [])) == ["run", "bye"]
    assert _soon(lambda: trainer.watching == 0)


def _soon(holds: Any) -> bool:
    deadline_s = time.monotonic() + 5
    while not holds() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return bool(holds())


# ---- changing


def test_whoever_asks_stands_beside_what_was_asked(site: Site, trainer: ToldTrainer) -> None:
    started = site.post(
        "/runs", {"alias": "default", "actor": "ada", "note": "now", "recipe": "finetune", "loss": "ceod"}
    )
    assert (started.status_code, started.json()["stage"]) == (201, "waiting")
    run_id = started.json()["run_id"]
    assert site.post(f"/runs/{run_id}/cancel", {"actor": "ada"}).json()["outcome"] == "cancelled"
    assert site.post(f"/runs/{run_id}/resume", {"actor": "bob"}).json()["outcome"] is None
    assert trainer.asked == [
        ("start", "default", "ada", "now", "finetune", "ceod"),
        ("cancel", run_id, "ada"),
        ("resume", run_id, "bob"),
    ]


def test_a_version_goes_live_and_back(site: Site, trainer: ToldTrainer) -> None:
    trainer.point(transitions.add(live_state(), 4, actor="trainer", at_ns=2))
    answer = site.post("/aliases/default/promote", {"version": 4, "actor": "ada", "note": "it is better"})
    assert (answer.status_code, answer.json()["live_version"], answer.json()["previous_version"]) == (200, 4, 2)
    assert site.post("/aliases/default/rollback", {"actor": "ada"}).json()["live_version"] == 2
    assert trainer.asked == [
        ("promote", "default", 4, "ada", "it is better", False),
        ("roll_back", "default", "ada", ""),
    ]


def test_broken_gates_need_a_reason_and_are_said_to_be_broken(site: Site, trainer: ToldTrainer) -> None:
    trainer.point(transitions.add(live_state(), 4, actor="trainer", at_ns=2))
    trainer.put(training_run(candidate_version=4, report=report(broken=GateName.MCC), outcome=RunOutcome.REFUSED))
    ask = {"version": 4, "actor": "ada"}
    assert reason(site.post("/aliases/default/promote", ask)) == (409, "precondition")
    assert reason(site.post("/aliases/default/promote", {**ask, "despite_gates": True, "note": "  "})) == (
        422,
        "invalid_input",
    )
    said = {**ask, "despite_gates": True, "note": "the hold-out is old"}
    assert site.post("/aliases/default/promote", said).json()["live_version"] == 4


def test_a_second_run_of_an_alias_is_a_conflict(site: Site, trainer: ToldTrainer) -> None:
    trainer.put(training_run(ended=False))
    assert reason(site.post("/runs", {"alias": "default", "actor": "ada"})) == (409, "exists")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/runs", {"alias": "default", "recipe": "magic", "actor": "ada"}),
        ("/runs", {"alias": "default"}),
        ("/runs", {"alias": "..", "actor": "ada"}),
        ("/runs", {"alias": "default", "actor": "ada", "more": 1}),
        ("/aliases/default/promote", {"version": 0, "actor": "ada"}),
        ("/aliases/default/promote", {"actor": "ada"}),
        ("/aliases/A%20B/rollback", {"actor": "ada"}),
        ("/runs/x/cancel", {"actor": "ada"}),
    ],
)
def test_what_breaks_a_rule_changes_nothing(site: Site, trainer: ToldTrainer, path: str, body: Any) -> None:
    assert site.post(path, body).status_code in (404, 422)
    assert trainer.asked == []


def test_nothing_is_changed_for_a_foreign_page(site: Site, trainer: ToldTrainer) -> None:
    answer = site.client.post("/api/v1/training/runs", json={"alias": "default", "actor": "ada"})
    assert reason(answer) == (403, "foreign_page")
    assert trainer.asked == []


def test_only_engineers_change_models_and_the_audit_log_names_them_and_what_they_did(
    signed: Site, trainer: ToldTrainer
) -> None:
    trainer.point(transitions.add(live_state(), 4, actor="trainer", at_ns=2))
    olga, emil = signed.browser("Olga"), signed.browser("Emil")
    ask = {"alias": "default", "recipe": "head"}
    assert olga.get("/api/v1/training/runs").status_code == 200
    assert olga.post("/api/v1/training/runs", json=ask, headers=OWN).status_code == 403
    started = emil.post("/api/v1/training/runs", json=ask, headers=OWN).json()
    assert started["actor"] == "Emil"
    stranger = {**ask, "actor": "Olga"}
    assert reason(emil.post("/api/v1/training/runs", json=stranger, headers=OWN)) == (403, "other_person")
    run_id = started["run_id"]
    emil.post(f"/api/v1/training/runs/{run_id}/cancel", json={}, headers=OWN)
    emil.post("/api/v1/training/aliases/default/promote", json={"version": 4}, headers=OWN)
    emil.post("/api/v1/training/aliases/default/rollback", json={}, headers=OWN)
    assert signed.accounts is not None
    entries = [
        (one.who, one.action, one.target, one.outcome)
        for one in reversed(signed.accounts.entries(limit=100))
        if one.action not in ("sign_in", "refused")
    ]
    assert entries == [
        ("Emil", "train", "default recipe=head", "done"),
        ("Emil", "train", "", "refused"),
        ("Emil", "cancel_training", run_id, "done"),
        ("Emil", "promote", "default version=4", "done"),
        ("Emil", "roll_back", "default", "done"),
    ]


# ---- notices


def unheard(**changes: Any) -> TrainingRun:
    missed = replace(ANSWERED, verdict_right=False, reviewers=("ada",))
    told = replace(report(), answered=(missed, replace(ANSWERED, reviewers=("ada", "bob"))))
    return training_run(**{"report": told, "outcome": RunOutcome.PROMOTED, "reason": "", "detail": "", **changes})


def test_whoever_answered_is_told_of_a_refused_run(site: Site, trainer: ToldTrainer) -> None:
    run = trainer.put(training_run(outcome=RunOutcome.REFUSED, reason="mcc", detail="MCC falls to 0.500"))
    [notice] = site.get("/notices?author=ada").json()["notices"]
    assert notice | {"kind": "refused", "run_id": run.run_id, "reason": "mcc", "missed": 0, "mine": 1} == notice
    assert site.get("/notices?author=zoe").json() == {"notices": []}


def test_whoever_answered_is_told_where_their_answers_are_not_honoured(site: Site, trainer: ToldTrainer) -> None:
    trainer.put(unheard())
    [notice] = site.get("/notices?author=ada").json()["notices"]
    assert (notice["kind"], notice["missed"], notice["mine"]) == ("not_honoured", 1, 2)
    # What bob said is honoured.
    assert site.get("/notices?author=bob").json() == {"notices": []}


def test_a_run_that_goes_on_is_no_news_and_one_that_has_ended_is_asked_about_once(
    site: Site, trainer: ToldTrainer
) -> None:
    trainer.put(training_run(1, ended=False, stage=RunStage.SHADOW))
    trainer.put(unheard())
    asked: list[str] = []
    get_run = trainer.get_run

    def counted(run_id: str, timeout_s: float = 10.0) -> TrainingRun:
        asked.append(run_id)
        return get_run(run_id, timeout_s)

    trainer.get_run = counted  # type: ignore[method-assign]
    for _ in range(3):
        assert len(site.get("/notices?author=ada").json()["notices"]) == 1
    assert len(asked) == 1


def test_notices_are_for_whoever_is_signed_in(signed: Site, trainer: ToldTrainer) -> None:
    trainer.put(training_run(outcome=RunOutcome.REFUSED, reason="mcc", authors=("Olga",)))
    assert len(signed.browser("Olga").get("/api/v1/training/notices?author=Emil").json()["notices"]) == 1
    assert signed.browser("Emil").get("/api/v1/training/notices?author=Olga").json()["notices"] == []
