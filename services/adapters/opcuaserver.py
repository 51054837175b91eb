"""asyncua's server with the bounds that it lacks: who may say what, how much, and for how long.

By itself it lets a session that nobody has vouched for read and write over an unsecured channel, whatever policies are
set, keeps every server and session that anybody registers, and gathers a message of four gigabytes.
"""

from __future__ import annotations

import asyncio
import contextvars
import hmac
from pathlib import Path
from typing import Any, Final

from asyncua import ua
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import Buffer, ServiceError
from asyncua.crypto import uacrypto
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.crypto.security_policies import SecurityPolicy, SecurityPolicyFactory, SecurityPolicyNone
from asyncua.server import Server
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession

from services.adapters.processimage import MalformedNotes, drop_when_dead

#: Address of whoever sent the message that is worked on.
PEER: Final[contextvars.ContextVar[str]] = contextvars.ContextVar("peer", default="unknown")

MAX_CHUNK_BYTES: Final = 65_535
MAX_MESSAGE_BYTES: Final = 256 * 1024
_MAX_CHUNKS: Final = 8
_MAX_SUBSCRIPTIONS: Final = 32
_MAX_QUEUED: Final = 100
_MAX_SESSIONS: Final = 32
_MAX_LEFT_SESSIONS: Final = 4
_MAX_SESSION_MS: Final = 60_000
_MAX_PENDING: Final = 64

_NOBODY: Final = User(role=UserRole.Anonymous)

# A header is type, chunk and size; what a channel carries has the channel's number too.
_HEADER_BYTES: Final = {b"HEL": 8, b"ERR": 8, b"OPN": 12, b"MSG": 12, b"CLO": 12}
_CHUNKS: Final = b"FCA"


def header_problem(data: bytes) -> str:
    """What is wrong with the first bytes of a message; empty where nothing is, or they are too few to tell."""
    kind = data[:3]
    known = any(each.startswith(kind) for each in _HEADER_BYTES)
    if not known:
        return f"a message must be one of HEL, OPN, MSG, CLO and ERR, got {kind.hex()}"
    if len(data) < 8:
        return ""
    if data[3] not in _CHUNKS:
        return f"a chunk must be one of F, C and A, got {data[3]:#x}"
    size = int.from_bytes(data[4:8], "little")
    if not _HEADER_BYTES[kind] < size <= MAX_CHUNK_BYTES:
        return f"a chunk must have {_HEADER_BYTES[kind] + 1} to {MAX_CHUNK_BYTES} bytes, got {size}"
    return ""


class GuardedProtocol(OPCUAProtocol):
    """One connection. What is no message ends it, and so does a message that is not whole in time."""

    notes: MalformedNotes
    message_timeout_s: float
    _opened = False
    _timer: asyncio.TimerHandle | None = None
    _ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, or refuse it where there are as many as may be."""
        super().connection_made(transport)
        if self.transport is None:
            self.notes.note(
                _host(self.peer_name), f"at most {self.iserver.max_connections} connections may be open, got one more"
            )
        else:
            drop_when_dead(transport.get_extra_info("socket"))

    def connection_lost(self, ex: BaseException | None) -> None:
        """Let go of a connection; half a message that it leaves is noted."""
        if self._buffer and not self._ended:
            self.notes.note(_host(self.peer_name), "a message must be whole, got the end of the connection within one")
        self._stop_timer()
        super().connection_lost(ex)

    def data_received(self, data: bytes) -> None:
        """Take bytes; refused ones are not looked at further."""
        if self._ended or self.transport is None:
            return
        before = len(self._buffer) + len(data)
        super().data_received(data)
        if not self._buffer:
            self._stop_timer()
            return
        problem = header_problem(self._buffer[:8])
        if problem:
            self._end(problem)
        elif self._timer is None or len(self._buffer) != before:
            # The message that is under way now began with these bytes.
            self._stop_timer()
            self._timer = asyncio.get_running_loop().call_later(self.message_timeout_s, self._end_slow)

    async def _process_one_msg(self, header: Any, buf: Buffer) -> bool:
        PEER.set(_host(self.peer_name))
        if header.MessageType == ua.MessageType.SecureMessage and not self._opened:
            # asyncua would answer it, with the rights of a channel that nobody has opened.
            self._end("a channel must be opened before messages, got a message")
            return False
        try:
            goes_on = await super()._process_one_msg(header, buf)
        except Exception:  # noqa: BLE001 - what garbage raises in a parser is not told anywhere
            self._end(f"a message must have its form, got {header.MessageType.decode()} that cannot be read")
            return False
        self._opened = self._opened or header.MessageType == ua.MessageType.SecureOpen
        if not goes_on and header.MessageType == ua.MessageType.SecureMessage and header.ChunkType == b"C":
            self._end(f"a message must have at most {MAX_MESSAGE_BYTES} bytes, got more")
        return goes_on

    def _end_slow(self) -> None:
        self._timer = None
        self._end(f"a message must be whole within {self.message_timeout_s:g} s, got a part of one")

    def _end(self, what: str) -> None:
        self._ended = True
        self._stop_timer()
        self.notes.note(_host(self.peer_name), what)
        if self.transport is not None:
            self.transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _GuardedBinaryServer(BinaryServer):
    def __init__(self, owner: GuardedServer, host: str, port: int) -> None:
        super().__init__(owner.iserver, host, port, owner.limits)
        self._owner = owner

    def _make_protocol(self) -> OPCUAProtocol:
        protocol = GuardedProtocol(self.iserver, self._policies, self.clients, self.closing_tasks, self.limits)
        protocol.notes = self._owner.notes
        protocol.message_timeout_s = self._owner.message_timeout_s
        return protocol


class _GuardedInternalServer(InternalServer):
    """Registers no other servers, and one session for each connection."""

    def __init__(self, admission: Admission) -> None:
        super().__init__(user_manager=admission)  # type: ignore[arg-type]
        self._closing: set[asyncio.Task[None]] = set()

    def register_server(self, server: Any, conf: Any = None) -> None:  # noqa: ARG002 - asyncua's
        raise ServiceError(ua.StatusCodes.BadServiceUnsupported)

    def create_session(
        self,
        name: Any,
        user: User = _NOBODY,
        external: bool = False,
    ) -> InternalSession:
        self._close_left_sessions()
        sessions = self._external_sessions.values()
        if len(sessions) >= _MAX_SESSIONS or any(session.name == name for session in sessions):
            raise ServiceError(ua.StatusCodes.BadTooManySessions)
        return super().create_session(name, user=user, external=external)

    def _close_left_sessions(self) -> None:
        # A session with subscriptions outlives its connection, for a client that comes back to it. One that comes back
        # with a new session each time would fill all places.
        here = {transport.get_extra_info("peername") for transport in self.asyncio_transports}
        left = [session for session in self._external_sessions.values() if session.name not in here]
        for session in left[:-_MAX_LEFT_SESSIONS]:
            task = asyncio.get_running_loop().create_task(session.close_session())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def stop(self) -> None:
        # It would wait for its clock's next second.
        if self.time_task is not None:
            self.time_task.cancel()
            self.time_task = None
        await super().stop()


class _OpenChannelFactory(SecurityPolicyFactory):
    """Channels without security. The certificate that a client may send there proves nothing, so nobody sees it."""

    def create(self, peer_certificate: bytes | None) -> SecurityPolicy:  # noqa: ARG002 - asyncua's
        policy: SecurityPolicy = super().create(None)  # type: ignore[no-untyped-call]
        return policy


class Admission:
    """Says who may use the server.

    Args:
        username: Who may, with the password; empty for everybody.
        password: Theirs.
        trusted: Certificates of clients that may, in DER; empty for all.
        secured: Whether only channels with security are let in.
    """

    def __init__(self, username: str, password: str, trusted: frozenset[bytes], *, secured: bool) -> None:
        self._username = username
        self._password = password
        self._trusted = trusted
        self._secured = secured

    def get_user(
        self,
        iserver: InternalServer,  # noqa: ARG002 - asyncua's
        username: str | None = None,
        password: str | None = None,
        certificate: bytes | None = None,
    ) -> User | None:
        """The user that a session has from then on; None where it is not let in."""
        if self._secured and certificate is None:
            return None
        if self._trusted and certificate not in self._trusted:
            return None
        if self._username:
            named = hmac.compare_digest((username or "").encode(), self._username.encode())
            knows = hmac.compare_digest((password or "").encode(), self._password.encode())
            if not (named and knows):
                return None
        return User(role=UserRole.User, name=username)


class GuardedServer(Server):
    """asyncua's server, bounded.

    Args:
        admission: Who may use it.
        notes: Where what is no message is noted.
        anonymous: Whether sessions need no name.
        max_connections: Further ones are refused.
        message_timeout_s: A message must be whole this long after its first byte.
        activation_timeout_s: A connection without a session for so long is ended.
    """

    def __init__(
        self,
        admission: Admission,
        notes: MalformedNotes,
        *,
        anonymous: bool,
        max_connections: int,
        message_timeout_s: float,
        activation_timeout_s: float,
    ) -> None:
        inner = _GuardedInternalServer(admission)
        inner.allow_remote_admin = False
        inner.max_connections = max_connections
        inner.max_pending_activation_seconds = activation_timeout_s
        inner.max_pending_messages_per_connection = _MAX_PENDING
        inner.max_subscriptions = _MAX_SUBSCRIPTIONS
        inner.max_monitored_item_queue_size = _MAX_QUEUED
        inner.max_unacked_messages_per_subscription = _MAX_QUEUED
        inner.max_session_timeout_ms = _MAX_SESSION_MS
        super().__init__(iserver=inner)
        self.notes = notes
        self.message_timeout_s = message_timeout_s
        self.limits = TransportLimits(MAX_CHUNK_BYTES, MAX_CHUNK_BYTES, _MAX_CHUNKS, MAX_MESSAGE_BYTES)
        self.set_identity_tokens([ua.AnonymousIdentityToken if anonymous else ua.UserNameIdentityToken])

    async def start(self) -> None:
        """Begin to listen; raises ``OSError`` when the address is taken."""
        await self._setup_server_nodes()
        # Where no policy is set for it, asyncua opens an unsecured channel all the same, so that clients may ask for
        # the endpoints, and checks no rights there. This one does, and comes last.
        self._policies.append(
            _OpenChannelFactory(  # type: ignore[no-untyped-call]
                SecurityPolicyNone, ua.MessageSecurityMode.None_, permission_ruleset=self._permission_ruleset
            )
        )
        await self.iserver.start()
        binary = _GuardedBinaryServer(self, *self._get_bind_socket_info())  # type: ignore[arg-type]
        binary.set_policies(self._policies)
        try:
            await binary.start()
        except OSError:
            await self.iserver.stop()
            raise
        self.bserver = binary


def _host(peer: Any) -> str:
    return str(peer[0]) if peer else "unknown"


async def certificate_bytes(path: Path) -> bytes:
    """A certificate, PEM or DER, in DER; raises ``OSError`` and ``ValueError``."""
    encoded: bytes = uacrypto.der_from_x509(await uacrypto.load_certificate(path))  # type: ignore[no-untyped-call]
    return encoded
