"""Connections to the page: so many in all and from one address, and none that is held open without asking anything.

uvicorn ends a connection that is idle between two requests, but waits for ever for a first one, and for the rest of one
whose headers come byte by byte.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

from services.dashboard.attempts import address_key
from services.dashboard.settings import WebSettings
from services.runtime import metrics
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

#: Longest line and headers of a request, in bytes.
MAX_HEADER_BYTES: Final = 32_768


class ConnectionBounds:
    """What all connections of a server share. Used from its event loop only."""

    def __init__(self, settings: WebSettings) -> None:
        self.settings = settings
        self.open = 0
        self.by_address: Counter[str] = Counter()

    def admit(self, address: str) -> str:
        """Count a connection in, or give the reason why it must go."""
        settings = self.settings
        if self.open >= settings.max_connections:
            return "total"
        if self.by_address[address] >= settings.max_connections_per_address:
            return "address"
        self.open += 1
        self.by_address[address] += 1
        return ""

    def leave(self, address: str) -> None:
        """Count a connection out."""
        self.open -= 1
        self.by_address[address] -= 1
        if not self.by_address[address]:
            del self.by_address[address]


def bounded_protocol(settings: WebSettings) -> type[asyncio.Protocol]:
    """Give the protocol that uvicorn makes one of for each connection.

    Args:
        settings: With the bounds.
    """
    bounds = ConnectionBounds(settings)

    class Bounded(_BoundedProtocol):
        _bounds = bounds

    return Bounded


class _BoundedProtocol(H11Protocol):
    _bounds: ConnectionBounds

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._address: str | None = None
        self._headers_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or end it where there are as many as may be."""
        super().connection_made(transport)
        address = address_key(self.client[0]) if self.client else ""
        refused = self._bounds.admit(address)
        if refused:
            metrics.DASHBOARD_REFUSED_CONNECTIONS.labels(refused).inc()
            transport.abort()
            return
        self._address = address
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of a connection."""
        self._have_headers()
        if self._address is not None:
            self._bounds.leave(self._address)
            self._address = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; while they make no whole request, time runs."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._have_headers()
        elif self._headers_timer is None:
            self._await_headers()

    def on_response_complete(self) -> None:
        """Wait for the next request; one that came with the last one may be under way already."""
        self._have_headers()
        super().on_response_complete()

    def _await_headers(self) -> None:
        self._headers_timer = self.loop.call_later(self._bounds.settings.header_timeout_s, self._give_up)

    def _have_headers(self) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _give_up(self) -> None:
        self._headers_timer = None
        metrics.DASHBOARD_REFUSED_CONNECTIONS.labels("slow").inc()
        self.transport.abort()
