from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from services.adapters.codec_explained import encode_explained_case
from services.adapters.explainerclient import ExplainCall
from services.adapters.memory import MemoryBroker, MemoryObjectStore, MemoryRecordFetcher, MemoryTopicReader
from services.core import topics
from services.core.errors import NotFoundError, SightlineError, UnavailableError
from services.core.identity import derive_frame_id
from services.core.imaging import encode_jpeg
from services.core.types import Explanation, ExplanationStatus, Inspection, Verdict
from services.dashboard.app import make_app, make_context
from services.dashboard.components import ComponentBoard
from services.dashboard.explanations import ExplanationIndex, kept
from services.dashboard.live import LiveModel
from services.dashboard.settings import DashboardSettings
from tests.support.explained import explained_case, explanation, failed
from tests.unit.dashboard.inspections import NOW_NS, inspection

JPEG = encode_jpeg(np.random.default_rng(1).integers(0, 255, (90, 120, 3), dtype=np.uint8))
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Answers:
    """Gives maps, then fails if told to; remembers whether it was cancelled."""

    def __init__(self, steps: Sequence[tuple[Explanation, bool]], error: SightlineError | None) -> None:
        self._steps = list(steps)
        self._error = error
        self.cancelled = threading.Event()
        self.endless = not steps and error is None

    def next(self) -> tuple[Explanation, bool] | None:
        if self.endless:
            self.cancelled.wait(10)
            return None
        if self._steps:
            return self._steps.pop(0)
        if self._error is not None:
            raise self._error
        return None

    def cancel(self) -> None:
        self.cancelled.set()


class Service:
    """An explainer service that answers as it is told."""

    def __init__(self) -> None:
        self.calls: list[ExplainCall] = []
        self.steps: list[tuple[Explanation, bool]] = []
        self.error: SightlineError | None = None
        self.answers: list[Answers] = []

    def explain(self, call: ExplainCall, timeout_s: float) -> Answers:
        assert timeout_s > 0
        self.calls.append(call)
        self.answers.append(Answers(self.steps, self.error))
        return self.answers[-1]


class Site:
    def __init__(self, static_dir: Path, explainer: Service | None, since_ns: int = 0) -> None:
        self.model = LiveModel()
        self.store = MemoryObjectStore()
        self.broker = MemoryBroker()
        self.explanations = ExplanationIndex(max_cases=100, max_bytes=5_000_000, since_ns=since_ns)
        self.explainer = explainer
        self.context = make_context(
            DashboardSettings(),
            model=self.model,
            board=ComponentBoard(["kafka"]),
            store=self.store,
            fetcher=MemoryRecordFetcher(self.broker),
            open_reader=lambda: MemoryTopicReader(self.broker, [topics.VERDICTS]),
            explanations=self.explanations,
            open_explained=lambda: MemoryTopicReader(self.broker, [topics.EXPLAINED]),
            explainer=explainer,
            version="1.2.3",
            static_dir=static_dir,
            clock_ns=lambda: NOW_NS,
        )
        self.client = TestClient(make_app(self.context), base_url="http://127.0.0.1")

    def add(self, number: int = 1, **changes: Any) -> Inspection:
        changes = {"verdict": Verdict.FAIL, "score": 0.9, **changes}
        one = inspection(number, image_ref=self.store.put(f"frames/{number}", JPEG), **changes)
        self.model.add([one], NOW_NS)
        return one

    def explain(self, one: Inspection, *explanations: Explanation, **more: Any) -> None:
        self.explanations.add([kept(explained_case(one, explanations, **more))])

    def part(self, one: Inspection) -> dict[str, Any]:
        return self.client.get(f"/api/v1/parts/{one.frame_id}").json()  # type: ignore[no-any-return]

    def events(self, one: Inspection, method: str = "rise") -> list[tuple[str, Any]]:
        answer = self.client.get(f"/api/v1/frames/{one.frame_id}/explain?method={method}")
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [block.split("\n") for block in answer.text.strip().split("\n\n")]
        return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in events]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, Service())
    yield made
    made.context.picture_pool.shutdown()
    made.context.on_demand.close()


def test_a_part_tells_method_grade_passes_and_time_of_each_explanation(site: Site) -> None:
    one = site.add()
    site.explain(one, explanation(), explanation("gradcam", stability=float("nan"), passes=1), agreement=0.7)
    part = site.part(one)
    first, second = part["explanations"]
    expected = {"method": "invrise-soft", "status": "done", "grade": "B", "passes": 320, "seconds": 1.4}
    assert first | expected == first
    assert first["scale"] == {"calibrated": True, "low": 0.12, "high": 0.5}
    assert first["hottest"] == {"x": pytest.approx(0.78, abs=0.02), "y": pytest.approx(0.24, abs=0.02)}
    assert (second["method"], second["stability"], second["has_map"]) == ("gradcam", None, True)
    assert part["explained"] | {"state": "explained", "agreement": 0.7} == part["explained"]
    assert part["explained"]["at_ms"] == (one.decided_at_ns + 900_000_000) // 1_000_000


def test_a_method_that_failed_says_why_and_has_no_map(site: Site) -> None:
    one = site.add()
    site.explain(one, explanation(status=ExplanationStatus.PARTIAL), failed())
    partial, refused = site.part(one)["explanations"]
    assert partial["status"] == "partial"
    expected = {"status": "failed", "reason": "no_conv_layers", "has_map": False, "hottest": None, "grade": None}
    assert refused | expected == refused
    answer = site.client.get(f"/api/v1/frames/{one.frame_id}/explanations/gradcam.png")
    assert (answer.status_code, answer.json()["error"]["reason"]) == (404, "no_map")


def test_a_case_waits_for_its_explanation_and_a_good_part_has_none(site: Site) -> None:
    failing, passing = site.add(1), site.add(2, verdict=Verdict.PASS, score=0.1)
    assert site.part(failing)["explained"]["state"] == "pending"
    assert site.part(passing)["explained"]["state"] == "no_case"
    assert site.part(failing)["explanations"] == []


def test_the_explanation_of_another_model_version_is_not_shown_for_this_verdict(site: Site) -> None:
    one = site.add(model_version=2)
    site.explain(inspection(1, model_version=1), explanation())
    assert site.part(one)["explained"]["state"] == "pending"


def from_before(site: Site) -> Inspection:
    captured_at_ns = time.time_ns()
    frame_id = derive_frame_id("cam-1", "old", 0, captured_at_ns)
    return site.add(5, frame_id=frame_id, captured_at_ns=captured_at_ns, decided_at_ns=captured_at_ns)


def test_an_explanation_that_left_the_memory_is_found_in_kafka(tmp_path: Path) -> None:
    site = Site(tmp_path, None, since_ns=NOW_NS)
    one = from_before(site)
    for number in range(3):
        other = explained_case(inspection(number), [explanation()])
        site.broker.append(topics.EXPLAINED, key=b"x", value=encode_explained_case(other))
    assert site.part(one)["explained"]["state"] == "missing"
    site.broker.append(
        topics.EXPLAINED, key=b"x", value=encode_explained_case(explained_case(one, [explanation("rise")]))
    )
    part = site.part(one)
    assert (part["explained"]["state"], part["explanations"][0]["method"]) == ("explained", "rise")
    assert site.client.get(f"/api/v1/frames/{one.frame_id}/explanations/rise.png").status_code == 200


def test_a_part_still_has_its_page_while_its_explanation_cannot_be_looked_up(tmp_path: Path) -> None:
    site = Site(tmp_path, None, since_ns=NOW_NS)
    one = from_before(site)
    site.broker.unavailable = True
    part = site.part(one)
    assert (part["inspection"]["part_id"], part["explained"]["state"]) == ("part-5", "unavailable")


def test_a_map_is_a_picture_that_a_browser_keeps_until_it_is_made_anew(site: Site) -> None:
    one = site.add()
    site.explain(one, explanation())
    at_ms = site.part(one)["explained"]["at_ms"]
    url = f"/api/v1/frames/{one.frame_id}/explanations/invrise-soft.png"
    answer = site.client.get(f"{url}?at={at_ms}")
    assert (answer.content[:8], answer.headers["content-type"]) == (PNG_SIGNATURE, "image/png")
    assert "immutable" in answer.headers["cache-control"]
    for other in (url, f"{url}?at=1"):
        assert "immutable" not in site.client.get(other).headers["cache-control"]


def test_the_legend_is_a_picture(site: Site) -> None:
    assert site.client.get("/api/v1/explanations/legend.png").content[:8] == PNG_SIGNATURE


@pytest.mark.parametrize("method", ["..%2f..%2fetc", "%00", "a" * 300, "<script>", "RISE", ".png"])
def test_hostile_method_names_are_refused(site: Site, method: str) -> None:
    one = site.add()
    site.explain(one, explanation())
    assert site.client.get(f"/api/v1/frames/{one.frame_id}/explanations/{method}.png").status_code in (404, 422)
    assert site.client.get(f"/api/v1/frames/{one.frame_id}/explain?method={method}").status_code == 422


def test_a_map_on_request_comes_in_steps_with_its_picture(site: Site) -> None:
    one = site.add(model_version=3)
    assert site.explainer is not None
    site.explainer.steps = [
        (explanation("rise", status=ExplanationStatus.PARTIAL, passes=40, grade=None), False),
        (explanation("rise", passes=400), True),
    ]
    events = site.events(one)
    assert [name for name, _ in events] == ["step", "step", "end"]
    assert [data["explanation"]["passes"] for _, data in events[:2]] == [40, 400]
    assert [data["final"] for _, data in events[:2]] == [False, True]
    assert base64.b64decode(events[1][1]["png"])[:8] == PNG_SIGNATURE
    [call] = site.explainer.calls
    assert call == ExplainCall(JPEG, "default", 3, "rise", one.frame_id)
    assert site.explainer.answers[0].cancelled.is_set()


def test_a_map_on_request_that_fails_says_why(site: Site) -> None:
    one = site.add()
    assert site.explainer is not None
    site.explainer.error = NotFoundError("the version must be loaded, got none")
    [(name, data)] = site.events(one)
    assert (name, data["error"]["reason"]) == ("failed", "not_found")
    site.explainer.error = UnavailableError("the service must answer, got nothing")
    site.explainer.steps = [(explanation("rise"), False)]
    events = site.events(one)
    assert [name for name, _ in events] == ["step", "failed"]
    assert events[1][1]["error"]["reason"] == "unavailable"


def test_only_so_many_maps_are_made_at_once(site: Site) -> None:
    one = site.add()
    site.context.on_demand._running = site.context.settings.explainer.max_at_once
    [(name, data)] = site.events(one)
    assert (name, data["error"]["reason"]) == ("failed", "busy")


def test_a_frame_that_no_model_has_judged_or_whose_picture_is_gone_cannot_be_explained(site: Site) -> None:
    nobody, gone = site.add(1, model_version=0), site.add(2)
    site.store.delete(["frames/2"])
    assert site.part(nobody)["explained"]["methods"] == []
    assert site.events(nobody)[0][1]["error"]["reason"] == "no_model"
    assert site.events(gone)[0][1]["error"]["reason"] == "image_expired"


def test_without_an_explainer_service_no_method_is_offered(tmp_path: Path) -> None:
    site = Site(tmp_path, None)
    one = site.add()
    assert site.part(one)["explained"]["methods"] == []
    assert site.events(one)[0][1]["error"]["reason"] == "unavailable"
    with_service = Site(tmp_path, Service())
    assert "rise" in with_service.part(with_service.add())["explained"]["methods"]


def test_a_foreign_page_cannot_have_maps_made(site: Site) -> None:
    one = site.add()
    url = f"/api/v1/frames/{one.frame_id}/explain?method=rise"
    answer = site.client.get(url, headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, answer.json()["error"]["reason"]) == (403, "foreign_page")
    assert site.explainer is not None
    assert site.explainer.calls == []
    site.explainer.steps = [(explanation("rise"), True)]
    assert site.client.get(url, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_a_browser_that_leaves_ends_the_work_at_the_service(site: Site) -> None:
    one = site.add()
    assert site.explainer is not None

    async def scenario() -> None:
        call = ExplainCall(JPEG, "default", 1, "rise", one.frame_id)
        waiting = asyncio.create_task(anext(site.context.on_demand.events(call)))
        async with asyncio.timeout(5):
            while not (site.explainer and site.explainer.answers):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(scenario())
    [answers] = site.explainer.answers
    assert answers.cancelled.wait(5)
    assert site.context.on_demand._running == 0
