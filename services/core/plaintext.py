"""The one rule about encryption: whatever leaves this machine is encrypted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from services.core.loopback import is_loopback

_ENCRYPTING_SSL_MODES = frozenset({"require", "verify-ca", "verify-full"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address that a service serves on or connects to.

    Attributes:
        setting: Name of the setting that holds it, for example ``SIGHTLINE_GRPC__HOST``.
        address: A host, ``host:port``, or several of these joined by commas; never holds a password.
        encrypted: Whether TLS is spoken there.
        remedy: What to set so that it is.
    """

    setting: str
    address: str
    encrypted: bool
    remedy: str


def host_of(address: str) -> str:
    """The host of ``host:port``, ``[IPv6]:port`` or a bare host."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.rpartition(":")[0] if address.count(":") == 1 else address


def leaves_this_machine(address: str) -> bool:
    """Tell whether any of the comma-separated addresses is not loopback."""
    return any(not is_loopback(host_of(one.strip())) for one in address.split(",") if one.strip())


def plain_text_problems(endpoints: Iterable[Endpoint]) -> list[str]:
    """One line for every endpoint that would send plain text to another machine.

    Args:
        endpoints: All that a service uses.
    """
    return [
        f"{one.setting}: must be loopback or encrypted, got {one.address!r} without TLS; {one.remedy}"
        for one in endpoints
        if not one.encrypted and leaves_this_machine(one.address)
    ]


def database_endpoint(setting: str, url: str) -> Endpoint | None:
    """The server that a database URL names; None where it is a file or a socket of this machine.

    Args:
        setting: Name of the setting.
        url: ``sqlite:///…`` or ``postgresql+psycopg://…``.
    """
    parts = urlsplit(url)
    if not parts.scheme.startswith("postgresql"):
        return None
    query = parse_qs(parts.query)
    hosts = [host for host in (parts.hostname or "", *query.get("host", ())) if host and not host.startswith("/")]
    if not hosts:
        return None
    modes = query.get("sslmode", [])
    encrypted = bool(modes) and all(mode in _ENCRYPTING_SSL_MODES for mode in modes)
    return Endpoint(setting, ",".join(hosts), encrypted, "add ?sslmode=verify-full&sslrootcert=FILE to the URL")
