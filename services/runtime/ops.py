"""The HTTP port for probes and metrics: ``/livez``, ``/readyz``, ``/metrics``."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from services.adapters.identity import Identity, ServerContext
from services.runtime.lifecycle import Health
from services.runtime.settings import OpsSettings

_HANDSHAKE_TIMEOUT_S = 5.0


class OpsServer:
    """Serves probes and metrics from a thread of its own."""

    def __init__(
        self,
        settings: OpsSettings,
        health: Health,
        registry: Collector = REGISTRY,
        *,
        identity: Identity | None = None,
    ) -> None:
        handler = type("BoundOpsHandler", (_OpsHandler,), {"health": health, "registry": registry})
        self._server = _OpsHttpServer((settings.host, settings.port), handler)
        if identity is not None and identity.has_certificate:
            self._server.tls = ServerContext(identity)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="ops", daemon=True)

    @property
    def port(self) -> int:
        """The port in use, also when 0 was asked for."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving; idempotent."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(timeout=5)
        self._server.server_close()


class _OpsHttpServer(ThreadingHTTPServer):
    tls: ServerContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        # In the thread of the connection: a caller that never finishes its handshake holds up nobody else.
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(_HANDSHAKE_TIMEOUT_S)
        try:
            encrypted = self.tls.current().wrap_socket(request, server_side=True)
        except OSError:
            # Plain text, an unknown authority, a port scan: nothing was asked.
            return
        with encrypted:
            super().finish_request(encrypted, client_address)


class _OpsHandler(BaseHTTPRequestHandler):
    health: Health
    registry: Collector
    timeout = 5

    def do_GET(self) -> None:
        path = self.path.split("?", 1)[0]
        if path == "/livez":
            alive = self.health.alive
            self._answer(200 if alive else 503, "application/json", json.dumps({"alive": alive}).encode())
        elif path == "/readyz":
            state = self.health.describe()
            self._answer(200 if state["ready"] else 503, "application/json", json.dumps(state).encode())
        elif path == "/metrics":
            self._answer(200, CONTENT_TYPE_LATEST, generate_latest(self.registry))
        else:
            self._answer(404, "text/plain", b"/livez /readyz /metrics\n")

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: a probe a second is not news."""
