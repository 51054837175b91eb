"""Who this service is to others: its certificate, whom it trusts, its token; read anew when the files change."""

from __future__ import annotations

import logging
import ssl
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from services.adapters.watchedfile import WatchedFiles
from services.core.errors import SettingsError

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IdentityFiles:
    """Where the parts of an identity lie; what is None is not there."""

    certificate_file: Path | None = None
    key_file: Path | None = None
    ca_file: Path | None = None
    token_file: Path | None = None

    @property
    def all(self) -> dict[str, Path]:
        """Those that are there, by name."""
        named = {
            "certificate_file": self.certificate_file,
            "key_file": self.key_file,
            "ca_file": self.ca_file,
            "token_file": self.token_file,
        }
        return {name: path for name, path in named.items() if path is not None}


@dataclass(frozen=True, slots=True)
class IdentityContent:
    """What the files held, PEM as it stands; ``revision`` grows with each change."""

    revision: int
    certificate: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    authorities: bytes | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)


class Identity:
    """The identity as the files say now. Thread-safe.

    Files that become unreadable, or a certificate and key that do not belong together (one of them is renewed and
    the other not yet), keep what was read last, and the log says so.

    Args:
        files: Where it lies.
        every_s: Looks at the disk at most this often.

    Raises:
        SettingsError: If the files cannot be used as they are now.
    """

    def __init__(self, files: IdentityFiles, *, every_s: float = 1.0) -> None:
        self.files = files
        self._watch = WatchedFiles(tuple(files.all.values()), every_s=every_s)
        self._lock = threading.Lock()
        self._stale = False
        self._content = _read(files, 1)

    @property
    def speaks_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.files.ca_file is not None or self.files.certificate_file is not None

    @property
    def has_certificate(self) -> bool:
        """Whether a server can show one."""
        return self.files.certificate_file is not None

    def current(self) -> IdentityContent:
        """What the files hold, read anew if they changed."""
        with self._lock:
            # What could not be used is tried again at each look: a pair is renewed in two steps.
            if self._watch.changed() or self._stale:
                self._renew()
            return self._content

    def _renew(self) -> None:
        try:
            renewed = _read(self.files, self._content.revision + 1)
        except SettingsError as error:
            if not self._stale:
                LOG.error("the files of this service's identity must be usable, the last good ones are kept: %s", error)  # noqa: TRY400 - said once, the cause is in it
            self._stale = True
            return
        self._stale = False
        self._content = renewed
        LOG.info("certificates and token read anew", extra={"revision": renewed.revision})


class ServerContext:
    """The TLS context of an HTTPS server, whose certificate is renewed while it serves. Thread-safe.

    Args:
        identity: Whose certificate is shown; it must have one.

    Attributes:
        context: For a server that takes one context for good: at each handshake it hands over to :meth:`current`.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._lock = threading.Lock()
        first = identity.current()
        self._revision, self._context = first.revision, _server_context(first)
        self.context = _server_context(first)
        self.context.sni_callback = self._hand_over

    def current(self) -> ssl.SSLContext:
        """The context of this moment, for the connections that come; those that stand keep theirs."""
        with self._lock:
            content = self._identity.current()
            if content.revision != self._revision:
                try:
                    # A new one: between certificate and key, a connection that came to the old one would fail.
                    self._context = _server_context(content)
                    self._revision = content.revision
                except OSError as error:
                    LOG.error("a renewed certificate must be taken, the old one is shown: %s", error)  # noqa: TRY400 - the cause is in it
            return self._context

    def _hand_over(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        # Called at every handshake, also where the client names no host.
        del name, context
        connection.context = self.current()


def _read(files: IdentityFiles, revision: int) -> IdentityContent:
    held: dict[str, bytes] = {}
    for name, path in files.all.items():
        try:
            held[name] = path.read_bytes()
        except OSError as error:
            raise SettingsError(f"{name} must name a readable file, got {str(path)!r}: {error.strerror}") from error
    certificate, key, authorities = held.get("certificate_file"), held.get("key_file"), held.get("ca_file")
    if certificate is not None and key is not None:
        _checked(
            lambda: _load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key),
            f"certificate_file and key_file must be a PEM certificate and its unencrypted key, "
            f"got {str(files.certificate_file)!r} and {str(files.key_file)!r}",
        )
    if authorities is not None:
        _checked(
            lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=authorities.decode("ascii")),
            f"ca_file must hold PEM certificates, got {str(files.ca_file)!r}",
        )
    token = None
    if "token_file" in held:
        token = held["token_file"].decode("ascii", "replace").strip()
        if not token or not token.isascii() or any(letter.isspace() for letter in token):
            raise SettingsError(f"token_file must hold one token and nothing else, got {str(files.token_file)!r}")
    return IdentityContent(revision, certificate, key, authorities, token)


def _server_context(content: IdentityContent) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_pair(context, content.certificate or b"", content.key or b"")
    return context


def _checked(check: Callable[[], None], rule: str) -> None:
    try:
        check()
    except (ssl.SSLError, OSError, ValueError) as error:
        raise SettingsError(f"{rule}: {error}") from error


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # The ssl module reads pairs from files alone; these are the very bytes that were checked, gone at once.
    with tempfile.NamedTemporaryFile() as pair:
        pair.write(key.rstrip() + b"\n" + certificate)
        pair.flush()
        context.load_cert_chain(pair.name, password=_no_password)


def _no_password() -> str:
    # Without this, an encrypted key would ask at the terminal and hang.
    raise ValueError("the key is encrypted")
