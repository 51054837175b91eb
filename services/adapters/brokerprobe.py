"""Whether a broker answers at all: what a reader alone cannot tell from a topic on which nothing is written."""

from __future__ import annotations

import socket
from collections.abc import Callable

from services.core.errors import SettingsError, UnavailableError


def tcp_probe(bootstrap_servers: str, timeout_s: float) -> Callable[[], None]:
    """A probe that one of several addresses must answer by taking a connection.

    Args:
        bootstrap_servers: Comma-separated ``host:port`` list.
        timeout_s: Longest wait for each.
    """
    addresses: list[tuple[str, int]] = []
    for one in bootstrap_servers.split(","):
        host, _, port = one.strip().rpartition(":")
        if not host or not port.isdigit():
            raise SettingsError(f"kafka.bootstrap_servers must list host:port, got {one!r}")
        addresses.append((host.strip("[]"), int(port)))

    def probe() -> None:
        error: OSError | None = None
        for address in addresses:
            try:
                with socket.create_connection(address, timeout=timeout_s):
                    return
            except OSError as caught:
                error = caught
        raise UnavailableError(f"a broker must answer at {bootstrap_servers}, got {error}")

    return probe
