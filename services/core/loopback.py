"""Which addresses stand for this machine alone."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1", "[::1]")


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address stands for this machine alone."""
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
