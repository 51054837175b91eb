from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from services.core.errors import UnavailableError
from services.dashboard.components import (
    ComponentBoard,
    ComponentPoller,
    Reading,
    State,
    call_check,
    http_check,
    plain,
)


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/readyz"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_since_moves_only_when_the_state_does() -> None:
    now = [100]
    board = ComponentBoard(["kafka"], clock_ns=lambda: now[0])
    now[0] = 200
    board.post("kafka", Reading(State.UP))
    now[0] = 300
    board.post("kafka", Reading(State.UP))
    [kafka] = board.read()
    assert (kafka.since_ns, kafka.checked_at_ns) == (200, 300)
    now[0] = 400
    board.post("kafka", Reading(State.DOWN, "no answer"))
    [kafka] = board.read()
    assert (kafka.state, kafka.since_ns, kafka.detail) == (State.DOWN, 400, "no answer")


def test_a_part_that_was_never_asked_is_unknown_and_undated() -> None:
    [kafka] = ComponentBoard(["kafka"]).read()
    assert (kafka.state, kafka.checked_at_ns) == (State.UNKNOWN, 0)


def test_a_ready_answer_is_up() -> None:
    with answering(200, b"") as url:
        assert http_check(url, 2.0)() == Reading(State.UP)


def test_a_refusing_service_says_what_it_waits_for() -> None:
    with answering(503, b'{"ready": false, "waiting_for": {"triton": "no answer"}}') as url:
        assert http_check(url, 2.0)() == Reading(State.NOT_READY, "triton: no answer")


def test_an_answer_in_another_shape_gives_its_status() -> None:
    for body in (b"<html>", b"[]", b'{"waiting_for": 3}', b'{"waiting_for": {}}', b"[" * 2_000):
        with answering(503, body) as url:
            assert http_check(url, 2.0)() == Reading(State.NOT_READY, "HTTP 503")


def test_no_answer_is_down() -> None:
    with answering(200, b"") as url:
        pass
    found = http_check(url, 2.0)()
    assert found.state is State.DOWN
    assert "refused" in found.detail


def test_one_broken_check_does_not_stop_the_others() -> None:
    def broken() -> Reading:
        raise ZeroDivisionError("a bug")

    def away() -> None:
        raise UnavailableError("the store must answer, got nothing")

    board = ComponentBoard(["a", "b", "c"])
    poller = ComponentPoller(board, {"a": broken, "b": call_check(away), "c": call_check(lambda: True)}, 1.0)
    with ThreadPoolExecutor(3) as pool:
        poller.round(pool)
    assert [one.state for one in board.read()] == [State.UNKNOWN, State.DOWN, State.UP]


def test_text_from_elsewhere_is_one_short_printable_line() -> None:
    assert plain("a\x1b[31m\n b\u2028c") == "a [31m b c"
    assert len(plain("x" * 5_000)) == 200
