"""The page's port against clients that hold connections, over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import uvicorn

from services.dashboard.connections import MAX_HEADER_BYTES, ConnectionBounds, bounded_protocol
from services.dashboard.settings import WebSettings

TIMEOUT_S = 0.5
GET = b"GET / HTTP/1.1\r\nHost: wall\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers at once, or with ``/slow`` for three times as long as a request may take to come."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"transfer-encoding", b"chunked")]})
    if scope["path"] == "/slow":
        for _ in range(6):
            await send({"type": "http.response.body", "body": b"tick", "more_body": True})
            await asyncio.sleep(TIMEOUT_S / 2)
    await send({"type": "http.response.body", "body": b"done", "more_body": False})


@contextlib.contextmanager
def served(**bounds: int) -> Iterator[int]:
    settings = WebSettings(header_timeout_s=TIMEOUT_S, **bounds)
    config = uvicorn.Config(
        app,
        log_config=None,
        lifespan="off",
        ws="none",
        http=bounded_protocol(settings),
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        try:
            end_s = time.monotonic() + 10
            while not server.started and time.monotonic() < end_s:
                time.sleep(0.01)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)


def connect(port: int) -> AbstractContextManager[socket.socket]:
    return contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=5))


def ended_after_s(connection: socket.socket, drip: bytes = b"") -> float:
    """How long the server keeps a connection that says nothing, or one byte now and then."""
    began_s = time.monotonic()
    connection.settimeout(0.05)
    while time.monotonic() - began_s < 10 * TIMEOUT_S:
        try:
            if drip:
                connection.send(drip)
            if not connection.recv(65_536):
                return time.monotonic() - began_s
        except TimeoutError:
            continue
        except OSError:
            return time.monotonic() - began_s
    raise AssertionError("the connection is still open")


def answer(connection: socket.socket, request: bytes = GET) -> bytes:
    connection.sendall(request)
    got = b""
    while not got.endswith(b"0\r\n\r\n"):
        piece = connection.recv(65_536)
        assert piece, got
        got += piece
    return got


def test_a_connection_that_asks_nothing_is_ended() -> None:
    with served() as port, connect(port) as connection:
        assert ended_after_s(connection) >= TIMEOUT_S * 0.8


def test_a_request_that_comes_byte_by_byte_is_ended_the_first_and_any_later_one() -> None:
    with served() as port:
        with connect(port) as first:
            first.sendall(b"GET / HTTP/1.1\r\nX: ")
            assert ended_after_s(first, b"a") < 8 * TIMEOUT_S
        with connect(port) as second:
            assert b"200 OK" in answer(second)
            second.sendall(b"GET /")
            assert ended_after_s(second, b"a") < 8 * TIMEOUT_S


def test_a_body_that_nobody_reads_does_not_hold_a_connection_either() -> None:
    with served() as port, connect(port) as connection:
        assert b"done" in answer(connection, b"GET / HTTP/1.1\r\nHost: wall\r\nContent-Length: 1000\r\n\r\n")
        assert ended_after_s(connection, b"a") < 8 * TIMEOUT_S


def test_an_answer_may_take_longer_than_a_request() -> None:
    with served() as port, connect(port) as connection:
        got = answer(connection, GET.replace(b"/ ", b"/slow ", 1))
        assert got.count(b"tick") == 6
        assert b"done" in got
        assert b"200 OK" in answer(connection)


def test_headers_have_a_bound() -> None:
    with served() as port, connect(port) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * (MAX_HEADER_BYTES + 1_000))
        with contextlib.suppress(ConnectionError):
            assert connection.recv(100).startswith(b"HTTP/1.1 400")


def is_answered(port: int) -> bool:
    try:
        with connect(port) as connection:
            return b"200 OK" in answer(connection)
    except (OSError, AssertionError):
        return False


@pytest.mark.parametrize("bound", ["max_connections", "max_connections_per_address"])
def test_one_connection_too_many_is_refused_and_room_is_given_back(bound: str) -> None:
    with served(**{bound: 8}) as port:
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(connect(port)) for _ in range(8)]
            for connection in held:
                # Under way, so that its time is not over while others are tried.
                connection.sendall(GET.replace(b"/ ", b"/slow ", 1))
                assert connection.recv(10)
            assert not is_answered(port)
        end_s = time.monotonic() + 5
        while not is_answered(port):
            assert time.monotonic() < end_s


def test_addresses_are_counted_apart_and_forgotten() -> None:
    bounds = ConnectionBounds(WebSettings(max_connections=9, max_connections_per_address=8))
    assert [bounds.admit("a") for _ in range(9)] == [""] * 8 + ["address"]
    assert [bounds.admit(who) for who in "bc"] == ["", "total"]
    bounds.leave("b")
    assert bounds.admit("c") == ""
    for who in "aaaaaaaac":
        bounds.leave(who)
    assert bounds.open == 0
    assert not bounds.by_address
