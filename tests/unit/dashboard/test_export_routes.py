"""Archives on their way to the browser: refusals, a connection that is cut, and a browser that is slow or leaves."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from services.adapters.exportorder import ExportOrder, ExportPiece
from services.adapters.ports import CaseFilter
from services.core.errors import InvalidInputError, SightlineError, UnavailableError
from services.core.export_layout import Labels, Layout
from services.core.review import CaseState
from services.core.types import Verdict
from services.dashboard.app import make_app
from services.dashboard.settings import ExportSettings
from tests.unit.dashboard.reviewing import OWN, UNKNOWN, Feedback, Site

PIECE = bytes(1_000)


class Pieces:
    """Pieces that are given as told; an error in their place is raised."""

    def __init__(self, pieces: Sequence[bytes | SightlineError]) -> None:
        self._pieces = list(pieces)
        self.given = 0
        self.cancelled = threading.Event()

    def next(self) -> ExportPiece | None:
        if self.given == len(self._pieces) or self.cancelled.is_set():
            return None
        piece = self._pieces[self.given]
        self.given += 1
        if isinstance(piece, SightlineError):
            raise piece
        return ExportPiece(piece, self.given, len(self._pieces))

    def cancel(self) -> None:
        self.cancelled.set()


class ExportsOf:
    """An export service that gives what it is told."""

    def __init__(self, *pieces: bytes | SightlineError) -> None:
        self.pieces: Sequence[bytes | SightlineError] = pieces
        self.orders: list[ExportOrder] = []
        self.begun: list[Pieces] = []

    def export(self, order: ExportOrder) -> Pieces:
        self.orders.append(order)
        self.begun.append(Pieces(self.pieces))
        return self.begun[-1]


def site(tmp_path: Path, exports: ExportsOf | None) -> Site:
    return Site(tmp_path, Feedback(), exports=exports)


@contextlib.contextmanager
def served(made: Site) -> Iterator[str]:
    """The site at a real port: what a connection does is the server's."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(made.context), log_level="critical", lifespan="off", ws="none"))
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
    thread.start()
    wait_for(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(15)
        listener.close()


def wait_for(what: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline_s, "it must come true in time"
        time.sleep(0.01)


def read_into(got: bytearray, url: str) -> None:
    with httpx.stream("GET", url) as answer:
        for chunk in answer.iter_bytes():
            got += chunk


def test_a_filter_is_exported_as_a_file_to_keep(tmp_path: Path) -> None:
    exports = ExportsOf(b"PK", b"rest")
    made = site(tmp_path, exports)
    answer = made.get(
        "/exports?layout=mvtec&line=line-1&verdict=fail&state=reviewed&labels=settled-else-model&reviewers=true&camera="
    )
    assert (answer.status_code, answer.content) == (200, b"PKrest")
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"].startswith('attachment; filename="sightline-mvtec-2')
    assert answer.headers["cache-control"] == "no-store"
    where = CaseFilter(line_id="line-1", verdict=Verdict.FAIL, state=CaseState.REVIEWED)
    assert exports.orders == [ExportOrder(Layout.MVTEC, where, (), Labels.SETTLED_ELSE_MODEL, True)]
    assert made.context.exports.running == 0


def test_cases_that_are_named_are_exported(tmp_path: Path) -> None:
    exports = ExportsOf(b"PK")
    answer = site(tmp_path, exports).post("/exports", {"case_ids": [UNKNOWN], "layout": "coco"})
    assert (answer.status_code, answer.content) == (200, b"PK")
    assert exports.orders == [ExportOrder(Layout.COCO, case_ids=(UNKNOWN,))]


@pytest.mark.parametrize(
    "body",
    [
        {"layout": "coco"},
        {"case_ids": [], "layout": "coco"},
        {"case_ids": ["x"], "layout": "coco"},
        {"case_ids": [UNKNOWN] * 5_001, "layout": "coco"},
        {"case_ids": [UNKNOWN], "layout": "zip"},
        {"case_ids": [UNKNOWN], "layout": "coco", "line": "line-1"},
        {"case_ids": [UNKNOWN], "layout": "coco", "reviewers": "yes"},
        [],
        7,
    ],
)
def test_an_order_that_breaks_a_rule_is_refused_in_words(tmp_path: Path, body: Any) -> None:
    exports = ExportsOf(b"PK")
    answer = site(tmp_path, exports).post("/exports", body)
    assert answer.status_code == 422
    assert exports.orders == []


@pytest.mark.parametrize(
    "query", ["", "layout=zip", "layout=coco&verdict=bad", "layout=coco&line=../x", "layout=coco&since_ms=-1"]
)
def test_an_address_that_breaks_a_rule_is_refused_in_words(tmp_path: Path, query: str) -> None:
    answer = site(tmp_path, ExportsOf(b"PK")).get(f"/exports?{query}")
    assert (answer.status_code, answer.json()["error"]["reason"]) == (422, "invalid_input")


def test_only_the_page_itself_may_ask_for_an_export(tmp_path: Path) -> None:
    exports = ExportsOf(b"PK")
    made = site(tmp_path, exports)
    for site_of_it in ("cross-site", "same-site"):
        foreign = {"Sec-Fetch-Site": site_of_it}
        assert made.get("/exports?layout=coco", headers=foreign).status_code == 403
        assert made.post("/exports", {"case_ids": [UNKNOWN], "layout": "coco"}, foreign).status_code == 403
    assert made.client.post("/api/v1/exports", json={}, headers={}).status_code == 403
    assert exports.orders == []


@pytest.mark.parametrize(("error", "status"), [(UnavailableError("away"), 503), (InvalidInputError("a rule"), 422)])
def test_what_is_refused_at_once_is_told_as_a_refusal(tmp_path: Path, error: SightlineError, status: int) -> None:
    made = site(tmp_path, ExportsOf(error))
    answer = made.get("/exports?layout=coco")
    assert (answer.status_code, answer.json()["error"]["reason"]) == (status, error.reason)
    assert made.context.exports.running == 0


def test_without_a_service_there_are_no_exports(tmp_path: Path) -> None:
    answer = site(tmp_path, None).get("/exports?layout=coco")
    assert (answer.status_code, answer.json()["error"]["reason"]) == (503, "no_feedback")


def test_an_export_that_breaks_off_cuts_the_connection(tmp_path: Path) -> None:
    made = site(tmp_path, ExportsOf(PIECE, PIECE, UnavailableError("the store must answer")))
    with served(made) as url:
        got = bytearray()
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
            read_into(got, f"{url}/api/v1/exports?layout=coco")
        assert bytes(got) == PIECE + PIECE
        assert made.context.exports.running == 0


def test_a_browser_that_leaves_ends_the_work(tmp_path: Path) -> None:
    exports = ExportsOf(*[bytes(250_000)] * 4_000)
    made = site(tmp_path, exports)
    with served(made) as url:
        with httpx.stream("GET", f"{url}/api/v1/exports?layout=coco") as answer:
            next(answer.iter_bytes())
        assert exports.begun[0].cancelled.wait(10)
        wait_for(lambda: made.context.exports.running == 0)
    assert exports.begun[0].given < 4_000


def test_a_slow_browser_makes_the_service_wait_and_nothing_piles_up(tmp_path: Path) -> None:
    exports = ExportsOf(*[bytes(250_000)] * 4_000)
    made = site(tmp_path, exports)
    with served(made) as url:
        with httpx.stream("GET", f"{url}/api/v1/exports?layout=coco") as answer:
            next(answer.iter_bytes())
            seen = -1
            while seen != (seen := exports.begun[0].given):
                time.sleep(0.3)
            # What is on its way lies in the kernel's buffers: some megabytes of a gigabyte.
            assert seen < 200
        wait_for(lambda: made.context.exports.running == 0)


def test_a_browser_that_takes_nothing_is_left_after_a_while(tmp_path: Path) -> None:
    exports = ExportsOf(*[bytes(250_000)] * 4_000)
    made = site(tmp_path, exports)
    impatient = made.context.settings.model_copy(update={"exports": ExportSettings(stall_s=0.3)})
    made.context = replace(made.context, settings=impatient)
    with served(made) as url, httpx.stream("GET", f"{url}/api/v1/exports?layout=coco") as answer:
        next(answer.iter_bytes())
        assert exports.begun[0].cancelled.wait(10)
        wait_for(lambda: made.context.exports.running == 0)


def test_only_so_many_exports_run_at_once(tmp_path: Path) -> None:
    exports = ExportsOf(*[bytes(250_000)] * 4_000)
    made = site(tmp_path, exports)
    with served(made) as url, contextlib.ExitStack() as running:
        for _ in range(2):
            answer = running.enter_context(httpx.stream("GET", f"{url}/api/v1/exports?layout=coco"))
            assert answer.status_code == 200
        refused = httpx.get(f"{url}/api/v1/exports?layout=coco")
        assert (refused.status_code, refused.json()["error"]["reason"]) == (503, "busy")
        named = httpx.post(f"{url}/api/v1/exports", json={"case_ids": [UNKNOWN], "layout": "coco"}, headers=OWN)
        assert named.status_code == 503
