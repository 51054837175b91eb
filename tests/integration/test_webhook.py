"""A web hook on a real web service."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.adapters.webhook import WebhookConnection, WebhookSink
from services.core.errors import InvalidInputError, UnavailableError
from services.core.outcome_text import told_bytes
from services.core.signature import verify
from tests.support.certificates import loopback_certificate
from tests.support.told import an_event, an_outcome
from tests.support.webhook_receiver import SECRET, WebhookReceiver

pytestmark = pytest.mark.integration


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    made = WebhookReceiver()
    yield made
    made.close()


@pytest.fixture
def sink(receiver: WebhookReceiver) -> Iterator[WebhookSink]:
    made = WebhookSink(WebhookConnection(receiver.url, SECRET, timeout_s=20.0))
    yield made
    made.close()


def test_a_message_is_signed_and_named_so_that_the_receiver_can_check_it(
    receiver: WebhookReceiver, sink: WebhookSink
) -> None:
    sink.deliver(an_outcome())
    (posted,) = receiver.posted
    assert posted.path == "/hook?token=of-the-url"
    assert posted.body == told_bytes(an_outcome())
    assert posted.message_id == an_outcome().outcome_id
    assert verify(SECRET, posted.signature, posted.body, time.time(), tolerance_s=60)
    assert not verify(SECRET, posted.signature, posted.body + b" ", time.time(), tolerance_s=60)


def test_one_connection_carries_many_messages(receiver: WebhookReceiver, sink: WebhookSink) -> None:
    for number in range(5):
        sink.deliver(an_outcome(f"part-{number}"))
    sink.deliver(an_event())
    assert len(receiver.posted) == 6
    assert len({posted.peer for posted in receiver.posted}) == 1


def test_a_connection_that_the_receiver_closed_meanwhile_is_made_anew(
    receiver: WebhookReceiver, sink: WebhookSink
) -> None:
    receiver.drops = 1
    for number in range(3):
        sink.deliver(an_outcome(f"part-{number}"))
    assert len({posted.peer for posted in receiver.posted}) == 3


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_2xx_has_taken_it(receiver: WebhookReceiver, sink: WebhookSink, status: int) -> None:
    receiver.status = status
    sink.deliver(an_outcome())


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_what_may_be_taken_later_is_unavailable(receiver: WebhookReceiver, sink: WebhookSink, status: int) -> None:
    receiver.status = status
    with pytest.raises(UnavailableError, match=f"got HTTP {status}"):
        sink.deliver(an_outcome())
    receiver.status = 200
    sink.deliver(an_outcome())


@pytest.mark.parametrize("status", [400, 401, 404, 410, 413, 422])
def test_what_will_never_be_taken_is_invalid(receiver: WebhookReceiver, sink: WebhookSink, status: int) -> None:
    receiver.status = status
    with pytest.raises(InvalidInputError, match=f"got HTTP {status}"):
        sink.deliver(an_outcome())


def test_a_redirection_is_not_followed(receiver: WebhookReceiver, sink: WebhookSink) -> None:
    receiver.status, receiver.headers = 307, {"Location": f"http://127.0.0.1:{receiver.port}/elsewhere"}
    with pytest.raises(UnavailableError, match="got HTTP 307"):
        sink.deliver(an_outcome())
    assert [posted.path for posted in receiver.posted] == ["/hook?token=of-the-url"]


def test_a_receiver_that_sends_its_answer_byte_by_byte_is_late(receiver: WebhookReceiver) -> None:
    receiver.stalls.set()
    sink = WebhookSink(WebhookConnection(receiver.url, SECRET, timeout_s=0.5))
    began_s = time.monotonic()
    with pytest.raises(UnavailableError, match=r"must answer within 0\.5 s"):
        sink.deliver(an_outcome())
    assert time.monotonic() - began_s < 10
    sink.close()


def test_a_long_answer_is_not_read_to_its_end(receiver: WebhookReceiver, sink: WebhookSink) -> None:
    receiver.status, receiver.answer = 200, b"x" * 10_000_000
    sink.deliver(an_outcome("a"))
    receiver.answer = b""
    sink.deliver(an_outcome("b"))
    assert len(receiver.posted) == 2


def test_https_is_spoken_with_a_receiver_whose_authority_is_known(tmp_path: Path) -> None:
    files = loopback_certificate(tmp_path)
    receiver = WebhookReceiver(certificate=files)
    sink = WebhookSink(WebhookConnection(receiver.url, SECRET, ca_file=files.certificate, timeout_s=20.0))
    for number in range(3):
        sink.deliver(an_outcome(f"part-{number}"))
    assert len({posted.peer for posted in receiver.posted}) == 1
    assert len(receiver.posted) == 3
    sink.close()
    stranger = WebhookSink(WebhookConnection(receiver.url, SECRET, timeout_s=20.0))
    with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        stranger.deliver(an_outcome())
    stranger.close()
    receiver.close()


def test_a_receiver_that_never_shakes_hands_is_late(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        sink = WebhookSink(WebhookConnection(url, SECRET, timeout_s=0.3))
        with pytest.raises(UnavailableError, match=r"must answer within 0\.3 s"):
            sink.deliver(an_outcome())
        sink.close()


def test_a_file_of_authorities_that_cannot_be_read_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="ca_file must hold certificates"):
        WebhookSink(WebhookConnection("https://mes.example/", SECRET, ca_file=tmp_path / "missing.pem"))


def test_no_error_shows_the_secret_or_the_rest_of_the_url(receiver: WebhookReceiver, sink: WebhookSink) -> None:
    receiver.status = 500
    with pytest.raises(UnavailableError) as caught:
        sink.deliver(an_outcome())
    for text in (str(caught.value), repr(WebhookConnection(receiver.url, SECRET)), sink.address):
        assert SECRET not in text
        assert "of-the-url" not in text
    assert sink.address == f"http://127.0.0.1:{receiver.port}"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://mes.example/hook", "must be https"),
        ("ftp://mes.example/hook", "got scheme"),
        ("https://", "must be http"),
        ("https://user:word@mes.example/", "no user name"),
        ("https://mes.example/#part", "no fragment"),
        ("https://mes.example/a b", "printable ASCII"),
        ("https://mes.example/a\r\nX: y", "printable ASCII"),
        ("https://mes.example:port/", "got something else"),
    ],
)
def test_a_url_that_cannot_be_is_refused(url: str, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        WebhookConnection(url, SECRET)


def test_https_and_this_machine_are_taken_and_a_short_secret_is_not() -> None:
    for url in ("https://mes.example/hook", "http://localhost:1/", "http://[::1]:8080/x", "http://127.0.0.2/"):
        WebhookConnection(url, SECRET)
    with pytest.raises(InvalidInputError, match="at least 16 characters, got 5"):
        WebhookConnection("https://mes.example/hook", "short")
