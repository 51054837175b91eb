"""A web service on loopback that is told of outcomes, with switches for how it answers."""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.certificates import ServerCertificate

SECRET = "a secret of more than 16"


@dataclass(frozen=True)
class Posted:
    """One request that came."""

    path: str
    body: bytes
    signature: str
    message_id: str
    peer: tuple[str, int]


class WebhookReceiver:
    """The receiver.

    Attributes:
        posted: What came, in order.
        status: What it answers.
        answer: With what body.
        drops: After how many answers it closes the connection without saying so; 0 never.
        stalls: Set, it keeps the caller waiting until it is closed.
    """

    def __init__(self, port: int = 0, certificate: ServerCertificate | None = None) -> None:
        self.posted: list[Posted] = []
        self.status = 204
        self.answer = b""
        self.headers: dict[str, str] = {}
        self.drops = 0
        self.stalls = threading.Event()
        self._closed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.certificate, certificate.key)
            # Hands are shaken in the thread of the connection, so that a caller who never does holds up nobody.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_port
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}/hook?token=of-the-url"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Be away."""
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(receiver) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if receiver._closed.is_set():
                    self.close_connection = True
                    return
                receiver.posted.append(
                    Posted(
                        self.path,
                        body,
                        self.headers["X-Sightline-Signature"],
                        self.headers["X-Sightline-Id"],
                        self.client_address,
                    )
                )
                if receiver.stalls.is_set():
                    self._drip()
                    return
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(receiver.answer)))
                self.end_headers()
                self.wfile.write(receiver.answer)
                if receiver.drops and len(receiver.posted) % receiver.drops == 0:
                    self.close_connection = True

            def _drip(self) -> None:
                # A byte now and then: each alone is in time, all together never are.
                self.wfile.write(b"HTTP/1.1 ")
                try:
                    while not receiver._closed.wait(0.05):
                        self.wfile.write(b"2")
                except OSError:
                    pass
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler
