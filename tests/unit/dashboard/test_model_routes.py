"""Models and what they changed, as the page asks for them."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.adapters.changesclient import ChangePage
from services.adapters.memory import MemoryBroker, MemoryTopicReader
from services.adapters.modelregistry import ModelRegistry
from services.core import topics
from services.core.errors import NotFoundError, UnavailableError
from services.core.model_change import (
    ChangeState,
    ChangeSummary,
    ComparedFrame,
    ComparedPart,
    Correction,
    CorrectionKind,
    FrameStratum,
    ModelChange,
    PartVerdict,
    summarise,
)
from services.core.types import AliasAction, OperatingPoint, Verdict
from services.dashboard.models import ModelBoard, ModelFeed
from services.runtime.lifecycle import Shutdown
from services.runtime.retry import Backoff
from tests.support.described_versions import put_version
from tests.support.detector_line import wait_until
from tests.support.model_changes import Models
from tests.unit.dashboard.reviewing import REVIEW_ID, UNKNOWN, Feedback, Site, reason

POINT = OperatingPoint(0.6, 0.5, 0.7)


def a_change(**changes: Any) -> ModelChange:
    part = ComparedPart(
        case_id=UNKNOWN,
        part_id="part-7",
        line_id="line-a",
        camera_id="cam-1",
        captured_at_ns=1_800_000_000_000_000_000,
        settled=Verdict.PASS,
        corrections=(
            Correction(REVIEW_ID, "ada", CorrectionKind.VERDICT, Verdict.PASS, "", 1_800_000_001_000_000_000),
        ),
        before=PartVerdict(Verdict.FAIL, 0.9, POINT, 1, "scratch"),
        after=PartVerdict(Verdict.PASS, float("nan"), POINT, 2),
    )
    made = ModelChange(
        alias="default",
        revision=4,
        live_version=2,
        previous_version=1,
        action=AliasAction.PROMOTE,
        actor="mira",
        at_ns=1_800_000_002_000_000_000,
        note="from May",
        state=ChangeState.DONE,
        parts=(part,),
        frames=(ComparedFrame(UNKNOWN, 1.0, Verdict.FAIL, Verdict.PASS),),
        strata=(FrameStratum(Verdict.FAIL, 1, 1.0),),
        frames_since_ns=1_799_000_000_000_000_000,
        frames_until_ns=1_800_000_000_000_000_000,
        began_at_ns=1_800_000_003_000_000_000,
        ended_at_ns=1_800_000_004_000_000_000,
    )
    return replace(made, **changes)


class Changes:
    """A feedback service that answers as it is told."""

    def __init__(self) -> None:
        self.change = a_change()
        self.waits_for = ""
        self.compares = True
        self.asked: list[tuple[Any, ...]] = []

    def list_changes(self, *, alias: str, reviewer: str, limit: int, token: str, timeout_s: float) -> ChangePage:
        self.asked.append((alias, reviewer, limit, token, timeout_s))
        return ChangePage((summarise(self.change, reviewer, self.waits_for),), "default:3", self.compares)

    def get_change(
        self, alias: str, revision: int, reviewer: str, timeout_s: float
    ) -> tuple[ChangeSummary, tuple[ComparedPart, ...]]:
        self.asked.append((alias, revision, reviewer, timeout_s))
        if revision != self.change.revision:
            raise NotFoundError(f"a change must be on record, got {alias} revision {revision}")
        return summarise(self.change, reviewer), self.change.parts


@pytest.fixture
def board() -> ModelBoard:
    return ModelBoard()


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
def site(tmp_path: Path, board: ModelBoard, changes: Changes) -> Iterator[Site]:
    made = Site(tmp_path, Feedback(), models=board, changes=changes)
    yield made
    made.context.picture_pool.shutdown()
    made.context.reviewing.close()


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def models(broker: MemoryBroker, board: ModelBoard) -> Iterator[Models]:
    """A topic that the board follows."""
    shutdown = Shutdown()
    feed = ModelFeed(
        lambda on_state: ModelRegistry(MemoryTopicReader(broker, [topics.MODELS]), timeout_s=1.0, on_state=on_state),
        board,
        backoff=Backoff(first_s=0.01, cap_s=0.02),
    )
    thread = threading.Thread(target=feed.run, args=(shutdown,), daemon=True)
    thread.start()
    yield Models(broker)
    shutdown.request()
    thread.join(10)
    assert not thread.is_alive()


# ---- models


def test_every_alias_comes_with_what_it_points_to_and_how_it_came_to_that(
    site: Site, board: ModelBoard, models: Models, tmp_path: Path
) -> None:
    for version in (1, 2):
        put_version(site.store, tmp_path / "made", version)
    models.promote(1)
    models.promote(2, note="learned from May")
    models.add(3)
    wait_until(lambda: len(board.aliases()) == 1 and board.aliases()[0].state.revision == 5, "all is read")
    wait_until(lambda: board.was_read, "it was read to its end")
    answer = site.get("/models").json()
    assert answer["known"] is True
    [alias] = answer["aliases"]
    assert (alias["alias"], alias["live_version"], alias["previous_version"]) == ("default", 2, 1)
    assert (alias["candidate_versions"], alias["stored_versions"]) == ([3], [1, 2])
    assert (alias["action"], alias["actor"], alias["revision"]) == ("add", "mira", 5)
    assert [(one["action"], one["live_version"], one["note"]) for one in alias["history"]] == [
        ("add", 2, ""),
        ("promote", 2, "learned from May"),
        ("add", 1, ""),
        ("promote", 1, ""),
        ("add", 0, ""),
    ]


def test_before_the_topic_was_read_the_page_is_told_so(site: Site) -> None:
    assert site.get("/models").json() == {"known": False, "aliases": []}


def test_what_points_where_is_told_while_the_store_is_away(site: Site, board: ModelBoard, models: Models) -> None:
    models.promote(1)
    wait_until(lambda: board.state("default") is not None and board.was_read, "the topic is read")
    site.store.unavailable = True
    [alias] = site.get("/models").json()["aliases"]
    assert alias["stored_versions"] is None
    assert site.get("/models/default/1").status_code == 503


def test_a_broker_that_comes_back_is_followed_again(broker: MemoryBroker, board: ModelBoard, models: Models) -> None:
    models.promote(1)
    wait_until(lambda: board.state("default") is not None, "the first")
    broker.unavailable = True
    broker.unavailable = False
    models.promote(2)
    wait_until(lambda: (board.aliases()[0].state.live_version) == 2, "the second")
    assert [state.revision for state in board.aliases()[0].history] == [4, 3, 2, 1]


def test_a_version_is_told_as_its_manifest_says(site: Site, tmp_path: Path) -> None:
    made = put_version(site.store, tmp_path / "made", 2)
    answer = site.get("/models/default/2").json()
    assert (answer["architecture"], answer["classes"]) == ("efficientnet-lite0", ["good", "scratch", "dent", "stain"])
    assert answer["metrics"]["auroc"] == dataclasses.asdict(made.metrics["auroc"])
    assert answer["lineage"]["parent"] == "default-v1"
    assert (answer["lineage"]["n_holdout"], answer["calibration"]["rule"]) == (480, "escape_rate")
    assert answer["preprocessing"]["mode"] == "letterbox"
    assert answer["size_bytes"] == sum(
        stat.size_bytes for stat in site.store.list("models/default/2/") if not stat.key.endswith("checksums.json")
    )
    # A version never changes: it is told while the store is away, too.
    site.store.unavailable = True
    assert site.get("/models/default/2").json() == answer


def test_a_manifest_that_cannot_be_read_is_told_as_the_store_s_fault(site: Site, tmp_path: Path) -> None:
    put_version(site.store, tmp_path / "made", 1)
    site.store.put("models/default/1/model.json", b"{}")
    answer = site.get("/models/default/1")
    assert reason(answer) == (502, "model_format")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/models/default/7", 404),
        ("/models/default/0", 422),
        ("/models/default/x", 422),
        ("/models/..%2f..%2fetc/1", 404),
        ("/models/Default/1", 422),
        ("/models/default/99999999999", 422),
    ],
)
def test_what_is_no_version_is_refused(site: Site, path: str, status: int) -> None:
    assert site.get(path).status_code == status


# ---- what they changed


def test_a_change_is_listed_with_its_counts(site: Site, changes: Changes) -> None:
    answer = site.get("/changes?reviewer=ada&alias=default&limit=5&after=default:9").json()
    assert changes.asked == [("default", "ada", 5, "default:9", 5.0)]
    assert (answer["next"], answer["compares"]) == ("default:3", True)
    [change] = answer["changes"]
    assert (change["live_version"], change["action"], change["actor"], change["state"]) == (
        2,
        "promote",
        "mira",
        "done",
    )
    assert change["counts"]["now_right"] == 1
    assert change["flips"] == [
        {
            "before": "fail",
            "after": "pass",
            "flipped": 1,
            "compared": 1,
            "estimate": {"value": 1.0, "low": 1.0, "high": 1.0},
        }
    ]
    assert change["flipped"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert (change["planned"], change["settled"], change["waits_for"]) == (2, 2, "")
    assert change["frames_until_ms"] == 1_800_000_000_000


def test_what_is_not_known_of_a_change_is_null(site: Site, changes: Changes) -> None:
    changes.change = a_change(
        action=None,
        state=ChangeState.COMPARING,
        frames=(),
        strata=(),
        frames_since_ns=0,
        frames_until_ns=0,
        ended_at_ns=0,
    )
    changes.waits_for = "detector"
    [change] = site.get("/changes").json()["changes"]
    assert (change["action"], change["flipped"], change["ended_at_ms"], change["frames_since_ms"]) == (None,) * 4
    assert change["waits_for"] == "detector"


def test_a_part_is_told_before_and_after(site: Site) -> None:
    answer = site.get("/changes/default/4").json()
    [part] = answer["parts"]
    assert answer["change"]["revision"] == 4
    assert (part["case_id"], part["settled"], part["outcome"], part["left_out"]) == (UNKNOWN, "pass", "now_right", "")
    assert (part["before"]["verdict"], part["before"]["score"], part["before"]["threshold"]) == ("fail", 0.9, 0.6)
    assert (part["after"]["verdict"], part["after"]["score"], part["after"]["model_version"]) == ("pass", None, 2)
    [said] = part["corrections"]
    assert (said["review_id"], said["reviewer"], said["kind"], said["withdrawn"]) == (
        REVIEW_ID,
        "ada",
        "verdict",
        False,
    )


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/changes?limit=51", 422),
        ("/changes?reviewer=%20ada", 422),
        ("/changes?alias=Not%20one", 422),
        ("/changes/default/7", 404),
        ("/changes/default/x", 422),
        ("/changes/Not%20one/4", 422),
    ],
)
def test_what_is_no_change_is_refused(site: Site, path: str, status: int) -> None:
    assert site.get(path).status_code == status


def test_without_a_feedback_service_nothing_is_compared_and_the_page_is_told_so(tmp_path: Path) -> None:
    site = Site(tmp_path, None)
    assert site.get("/changes").json() == {"changes": [], "next": None, "compares": False}
    assert reason(site.get("/changes/default/4")) == (503, "no_feedback")
    site.context.picture_pool.shutdown()
    site.context.reviewing.close()


def test_a_service_that_is_away_may_be_asked_again(
    site: Site, changes: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**_: Any) -> ChangePage:
        raise UnavailableError("the feedback service must answer, got UNAVAILABLE")

    monkeypatch.setattr(changes, "list_changes", away)
    answer = site.get("/changes")
    assert (reason(answer), answer.headers["retry-after"]) == ((503, "unavailable"), "2")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/models", 200),
        ("/changes", 200),
        ("/changes/default/4", 200),
        ("/changes/Not%20one/4", 404),
        ("/changes/a/b", 404),
    ],
)
def test_the_page_has_an_address_for_each(site: Site, tmp_path: Path, path: str, status: int) -> None:
    (tmp_path / "index.html").write_text("<title>Sightline</title>")
    assert site.client.get(path).status_code == status
