"""Tells a web service of outcomes and events: one signed POST each, answered before the next.

The receiver checks ``X-Sightline-Signature`` with ``services.core.signature.verify`` and drops what it has had before
by ``X-Sightline-Id``.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from services.core.errors import InvalidInputError, UnavailableError
from services.core.line_event import LineEvent
from services.core.loopback import is_loopback
from services.core.outcome import Outcome
from services.core.outcome_text import told_bytes, told_id
from services.core.signature import MIN_SECRET_CHARACTERS, sign

_MAX_ANSWER_BYTES: Final = 65_536
_MAX_URL_CHARACTERS: Final = 2048
# Timeout, too early, too many: the receiver says that it may take the same one later.
_LATER: Final = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class WebhookConnection:
    """How to reach a receiver. ``url`` must be https unless its host is this machine."""

    url: str = field(repr=False)
    """May hold a token in its path or query, so it is never shown whole."""
    secret: str = field(repr=False)
    """Signs each message; at least 16 characters."""
    ca_file: Path | None = None
    """Authorities that the receiver's certificate may be from; None takes the machine's own."""
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        parts = _parts(self.url)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise InvalidInputError(f"a web hook's URL must be https unless its host is loopback, got {self.origin}")
        if len(self.secret) < MIN_SECRET_CHARACTERS:
            raise InvalidInputError(
                f"a web hook's secret must have at least {MIN_SECRET_CHARACTERS} characters, got {len(self.secret)}"
            )
        if not 0 < self.timeout_s <= 60:
            raise InvalidInputError(f"timeout_s must lie in (0, 60], got {self.timeout_s}")

    @property
    def origin(self) -> str:
        """Scheme, host and port, for people."""
        parts = _parts(self.url)
        return f"{parts.scheme}://{parts.netloc}"


class WebhookSink:
    """An ``OutcomeSink`` that posts JSON. Keeps one connection alive; used from one thread."""

    def __init__(self, connection: WebhookConnection, clock_s: Callable[[], float] = time.time) -> None:
        """Set up; nothing is sent yet.

        Args:
            connection: Whom to tell.
            clock_s: The present, seconds since the epoch.

        Raises:
            InvalidInputError: If the file of authorities cannot be read.
        """
        parts = _parts(connection.url)
        self._connection = connection
        self._clock_s = clock_s
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._tls = _tls(connection) if parts.scheme == "https" else None
        self._open: http.client.HTTPConnection | None = None

    @property
    def address(self) -> str:
        """Whom it tells, for people; without what may be secret in the URL."""
        return self._connection.origin

    def deliver(self, told: Outcome | LineEvent) -> None:
        """Post one of them; returns once the receiver has answered 2xx.

        Raises:
            UnavailableError: When there is no whole answer in time, or it is a redirection, 408, 425, 429 or 5xx.
            InvalidInputError: When it is another 4xx: the receiver will never take it.
        """
        body = told_bytes(told)
        end_s = time.monotonic() + self._connection.timeout_s
        status = self._answered(told_id(told), body, end_s)
        if 200 <= status < 300:
            return
        if 400 <= status < 500 and status not in _LATER:
            raise InvalidInputError(f"{self.address} must take {told_id(told)} with 2xx, got HTTP {status}")
        # A redirection is not followed: it would carry the message to somebody whom nobody has named.
        raise UnavailableError(f"{self.address} must answer 2xx, got HTTP {status}")

    def close(self) -> None:
        """Close the connection; idempotent."""
        kept, self._open = self._open, None
        if kept is not None:
            kept.close()

    # ---- one exchange

    def _answered(self, message_id: str, body: bytes, end_s: float) -> int:
        reused = self._open is not None
        try:
            return self._exchange(message_id, body, end_s)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            # The receiver may have closed a connection that was idle; the id tells it if it has the message already.
            if not reused or time.monotonic() >= end_s:
                raise self._away(error) from error
        try:
            return self._exchange(message_id, body, end_s)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._away(error) from error

    def _exchange(self, message_id: str, body: bytes, end_s: float) -> int:
        kept = self._open if self._open is not None else self._connect(end_s)
        self._open = kept
        with _until(kept.sock, end_s):
            if self._tls is not None and isinstance(kept.sock, ssl.SSLSocket) and kept.sock.version() is None:
                kept.sock.do_handshake()
            kept.request("POST", self._path, body, self._headers(message_id, body))
            response = kept.getresponse()
            answer = response.read(_MAX_ANSWER_BYTES + 1)
        if len(answer) > _MAX_ANSWER_BYTES or response.will_close:
            # What is left of a long answer would be read as the next one's beginning.
            self.close()
        return response.status

    def _headers(self, message_id: str, body: bytes) -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "User-Agent": "sightline",
            "X-Sightline-Id": message_id,
            "X-Sightline-Signature": sign(self._connection.secret, body, int(self._clock_s())),
        }

    def _connect(self, end_s: float) -> http.client.HTTPConnection:
        sock = socket.create_connection((self._host, self._port), timeout=max(0.001, end_s - time.monotonic()))
        # Head and body are two writes; the second must not wait for the first one's acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made: http.client.HTTPConnection
        if self._tls is None:
            made = http.client.HTTPConnection(self._host, self._port)
        else:
            made = http.client.HTTPSConnection(self._host, self._port, context=self._tls)
            # Shaken hands later, where the deadline holds for all of it and not for each byte.
            sock = self._tls.wrap_socket(sock, server_hostname=self._host, do_handshake_on_connect=False)
        made.sock = sock
        return made

    def _away(self, error: Exception) -> UnavailableError:
        said = str(error)[:200] or "no answer in time"
        return UnavailableError(
            f"{self.address} must answer within {self._connection.timeout_s} s, got {type(error).__name__}: {said}"
        )


@contextlib.contextmanager
def _until(sock: socket.socket, end_s: float) -> Iterator[None]:
    """End whatever waits on the socket at a moment; a socket's own timeout begins anew with each byte."""
    left_s = max(0.001, end_s - time.monotonic())
    sock.settimeout(left_s)
    timer = threading.Timer(left_s, _shut_down, [sock])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut_down(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Not the TLS socket's own method, which would take the encryption away under a reader.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _tls(connection: WebhookConnection) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=connection.ca_file)
    except OSError as error:
        raise InvalidInputError(f"ca_file must hold certificates in PEM, got {connection.ca_file}: {error}") from error


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidInputError("a web hook's URL must be http(s)://host[:port]/path, got something else") from None
    if len(url) > _MAX_URL_CHARACTERS or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidInputError(
            f"a web hook's URL must have at most {_MAX_URL_CHARACTERS} printable ASCII characters, got {len(url)}"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise InvalidInputError(
            f"a web hook's URL must be http(s)://host[:port]/path, got scheme {parts.scheme[:20]!a}"
        )
    if "@" in parts.netloc or parts.fragment:
        raise InvalidInputError("a web hook's URL must have no user name and no fragment, got one")
    return parts
