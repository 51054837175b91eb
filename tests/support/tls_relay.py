"""TLS before a server that speaks none: what arrives encrypted is passed on in plain text over loopback."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from services.local.process import LOOPBACK, free_port
from tests.support.machine_certificates import CertificatePair

_CHUNK_BYTES = 64 * 1024
_HANDSHAKE_TIMEOUT_S = 5.0


class TlsRelay:
    """Listens at a port of its own from the start on; a context manager that serves.

    Args:
        shows: Certificate of the server.
        target: ``host:port`` to pass on to; may be set later, before the first connection.
        asks: PEM file of the authorities of clients' certificates, which are then required.
    """

    def __init__(self, shows: CertificatePair, target: str = "", *, asks: Path | None = None) -> None:
        self.target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(shows.certificate, shows.key)
        if asks is not None:
            self._context.load_verify_locations(asks)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server((LOOPBACK, free_port()))
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False
        self.handshakes = 0
        """Connections that were encrypted."""

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    @property
    def address(self) -> str:
        """``host:port`` for clients."""
        return f"{LOOPBACK}:{self.port}"

    def __enter__(self) -> Self:
        """Begin to serve."""
        threading.Thread(target=self._accept, name="tls-relay", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut every connection."""
        with self._lock:
            self._closed = True
            left = list(self._open)
        # A thread that waits in accept or recv is woken by the shutdown alone, not by a close.
        for each in (self._listener, *left):
            _end(each)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), name="tls-relay", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(_HANDSHAKE_TIMEOUT_S)
            try:
                encrypted = self._context.wrap_socket(connection, server_side=True)
            except OSError:
                # The other side does not trust the certificate, or speaks no TLS.
                return
            encrypted.settimeout(None)
            host, port = self.target.rsplit(":", 1)
            with encrypted, socket.create_connection((host, int(port)), timeout=5) as plain:
                plain.settimeout(None)
                if not self._keep(encrypted, plain):
                    return
                _pass_on(encrypted, plain)
                self._forget(encrypted, plain)

    def _keep(self, *sockets: socket.socket) -> bool:
        with self._lock:
            self.handshakes += 1
            self._open.update(sockets)
            return not self._closed

    def _forget(self, *sockets: socket.socket) -> None:
        with self._lock:
            self._open.difference_update(sockets)


def _pass_on(encrypted: ssl.SSLSocket, plain: socket.socket) -> None:
    # One thread for both ways: OpenSSL does not read and write one connection at the same time.
    other = {encrypted: plain, plain: encrypted}
    try:
        while True:
            # What was decrypted already makes no socket readable.
            ready = [encrypted] if encrypted.pending() else select.select([encrypted, plain], [], [])[0]
            for source in ready:
                chunk = source.recv(_CHUNK_BYTES)
                if not chunk:
                    return
                other[source].sendall(chunk)
    except OSError:
        # One of the two sides is gone; the other is told by the close that follows.
        return


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Of the socket itself: SSLSocket's own would first forget its encryption, under the thread that uses it.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
