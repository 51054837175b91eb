"""Whom a client trusts and what it shows over TLS; files that cannot be used are said before anything is connected."""

from __future__ import annotations

import ssl
from pathlib import Path

from services.core.errors import SettingsError


def client_context(
    ca_file: Path | None,
    certificate_file: Path | None = None,
    key_file: Path | None = None,
    *,
    prefix: str,
) -> ssl.SSLContext:
    """Make the context of a client that checks its server's certificate and name.

    Args:
        ca_file: PEM file of the authorities that are trusted, and no others; None trusts the system's.
        certificate_file: PEM file of the certificate that is shown where one is asked for.
        key_file: PEM file of its key; None takes it from ``certificate_file``.
        prefix: Of the settings' names, for errors: ``kafka.ssl_``.

    Raises:
        SettingsError: If a file cannot be used as it is now.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            raise SettingsError(f"{prefix}ca_file must hold PEM certificates, got {str(ca_file)!r}: {error}") from error
    if certificate_file is not None:
        try:
            context.load_cert_chain(certificate_file, key_file, password=_no_password)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"{prefix}certificate_file and {prefix}key_file must hold a PEM certificate and its unencrypted key, "
                f"got {str(certificate_file)!r} and {str(key_file or certificate_file)!r}: {error}"
            ) from error
    return context


def _no_password() -> str:
    # Without this, an encrypted key would ask at the terminal and hang.
    raise ValueError("the key is encrypted")
