"""Asks this container's own service how it is: ``python -m services.runtime.probe [--live]``, for health checks.

Standard library only, and no settings are built: an image is asked every few seconds, and what is imported each time is
paid each time. The two variables that it reads are those of the service, with the same defaults.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys
from collections.abc import Mapping, Sequence

_TIMEOUT_S = 2.0
#: An address that is bound for everybody is asked through loopback.
_EVERYBODY = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not bound


def main(arguments: Sequence[str] = sys.argv[1:], environment: Mapping[str, str] = os.environ) -> int:
    """Ask once.

    Args:
        arguments: ``--live`` asks whether the service is alive; without it, whether it is ready.
        environment: Holds ``SIGHTLINE_OPS__HOST`` and ``SIGHTLINE_OPS__PORT``, and ``SIGHTLINE_TLS__CERTIFICATE_FILE``
            where the port speaks TLS.

    Returns:
        0 if it is, 1 if it is not or does not answer, 2 for wrong arguments; what it said goes to standard output.
    """
    if list(arguments) not in ([], ["--live"]):
        sys.stderr.write(f"probe: the only argument is --live, got {' '.join(arguments)!r}\n")
        return 2
    host = environment.get("SIGHTLINE_OPS__HOST", "127.0.0.1")
    host = "127.0.0.1" if host in _EVERYBODY else host
    port = int(environment.get("SIGHTLINE_OPS__PORT", "9100"))
    try:
        connection = _connection(host, port, encrypted=bool(environment.get("SIGHTLINE_TLS__CERTIFICATE_FILE")))
        connection.request("GET", "/livez" if arguments else "/readyz")
        answer = connection.getresponse()
        said = answer.read(10_000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"no answer at {host}:{port}: {error}\n")
        return 1
    sys.stdout.write(f"{answer.status} {said}\n")
    return 0 if answer.status == http.HTTPStatus.OK else 1


def _connection(host: str, port: int, *, encrypted: bool) -> http.client.HTTPConnection:
    if not encrypted:
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    # Its own certificate names the service, not the loopback address; nobody else listens there.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=context)


if __name__ == "__main__":
    sys.exit(main())
