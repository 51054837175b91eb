"""Who may sign in, who is signed in, and who did what: tables in a database that all replicas share."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, delete, insert, or_, select, update

from services.adapters.accounts_schema import ACCOUNTS, AUDIT, SESSIONS, USERS
from services.adapters.caseindex_database import Database, parse_url, sqlite_file
from services.adapters.passwords import Passwords
from services.core.access import Person, Role, check_new_password, name_key, password_bytes, validate_name
from services.core.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError

_NS_PER_S: Final = 1_000_000_000
# A session that is in use is written down again this often at most.
_USE_STEP_NS: Final = 60 * _NS_PER_S
_MAX_AUDIT_TEXT: Final = 200
# PostgreSQL indexes texts of up to 2 700 bytes.
_MAX_SUBJECT: Final = 600


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long things are kept."""

    idle_s: float = 1_800.0
    """A session that nobody uses for this long is over."""
    session_s: float = 43_200.0
    """A session is over after this long in any case."""
    audit_s: float = 400 * 86_400.0
    """Entries of the audit log go after this long."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may sign in, or may no longer."""

    name: str
    role: Role
    is_local: bool
    """Has a password here; others sign in elsewhere."""
    disabled: bool
    created_at_ns: int
    signed_in_at_ns: int
    """0 = never."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session that holds."""

    person: Person
    is_local: bool
    expires_at_ns: int
    """When it is over if nobody uses it until then."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Something that somebody did, or tried."""

    at_ns: int
    who: str
    """Empty where nobody was signed in."""
    role: str
    action: str
    target: str
    address: str
    outcome: str
    entry_id: int = 0
    """Counts up; 0 until it is kept."""


class Accounts:
    """The accounts. Thread-safe; every call may wait for the database, and raises ``UnavailableError`` when it is away.

    A session is a random token; the tables hold only its hash. Whatever ends sessions ends them for all replicas, as
    each request asks anew.
    """

    def __init__(
        self,
        url: str,
        *,
        lifetimes: Lifetimes = Lifetimes(),
        passwords: Passwords | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Open them; tables are made or brought up to date.

        Args:
            url: Of the database, as ``caseindex_database.Database`` takes it.
            lifetimes: How long things are kept.
            passwords: Makes and checks hashes.
            clock_ns: The present, nanoseconds since the epoch.

        Raises:
            InvalidInputError: For a wrong URL, or a database that a newer release has written.
            UnavailableError: When the database does not answer.
        """
        self._passwords = passwords or Passwords()
        self._lifetimes = lifetimes
        self._clock_ns = clock_ns
        _keep_private(url)
        self._database = Database(url, ACCOUNTS)

    def __str__(self) -> str:
        return str(self._database)

    @property
    def revisions(self) -> tuple[str | None, str | None]:
        """The schema that was found, None where there were no tables, and the one that it was brought to."""
        return self._database.revisions

    def close(self) -> None:
        """Let go of the database; idempotent."""
        self._database.close()

    # ---- users

    def add(self, name: str, role: Role, password: str) -> User:
        """Add a local user.

        Raises:
            InvalidInputError: For a name or a password that breaks a rule.
            ConflictError: When the name, or one that looks like it, is taken.
        """
        check_new_password(password)
        return self._insert(validate_name(name), role, self._passwords.hash(password), None)

    def users(self) -> tuple[User, ...]:
        """Everybody, by name."""
        with self._database.read() as connection:
            rows = connection.execute(select(USERS)).all()
        # Databases order letters as their locale says.
        return tuple(_user(row) for row in sorted(rows, key=lambda row: str(row.name_key)))

    def find(self, name: str) -> User:
        """One user; raises ``NotFoundError`` when there is none of this name."""
        with self._database.read() as connection:
            return _user(_row(connection, name))

    def change(
        self, name: str, *, role: Role | None = None, disabled: bool | None = None, password: str | None = None
    ) -> User:
        """Change a user; what is None stays. Whatever changes, the user's sessions end.

        Raises:
            NotFoundError: When there is none of this name.
            InvalidInputError: For a password that breaks a rule; for a role or password of who signs in elsewhere.
            ConflictError: When nobody could manage users any more.
        """
        values: dict[str, Any] = {}
        if role is not None:
            values["role"] = role.value
        if disabled is not None:
            values["disabled"] = disabled
        if password is not None:
            check_new_password(password)
            values["password_hash"] = self._passwords.hash(password)
        with self._database.write() as connection:
            row = _row(connection, name)
            if row.subject is not None and (role is not None or password is not None):
                raise InvalidInputError(f"only a local user's role and password are kept here, got {row.name!r}")
            if values:
                connection.execute(update(USERS).where(USERS.c.name_key == row.name_key).values(**values))
                _end_sessions(connection, row.name_key)
                if _managed(row) and not _anybody_manages(connection):
                    raise ConflictError(f"the last admin must stay one and stay enabled, got {row.name!r}")
            return _user(_row(connection, name))

    def change_own_password(self, name: str, old: str, new: str) -> None:
        """Change a password by whoever knows the old one; the user's sessions end.

        Raises:
            ForbiddenError: When the old one is wrong.
            InvalidInputError: For a new one that breaks a rule.
        """
        check_new_password(new)
        with self._database.read() as connection:
            kept = _row(connection, name).password_hash
        if not self._passwords.matches(old, kept):
            raise ForbiddenError("the present password must be right, got another one")
        self.change(name, password=new)

    # ---- sessions

    def sign_in(self, name: str, password: str) -> tuple[str, Session] | None:
        """Begin a session of a local user.

        Returns:
            The session's token and the session; None when name and password do not belong together, or the user is
            turned away. Which of these it was nobody is told, and each takes the same time.

        Raises:
            InvalidInputError: When the password is no text or longer than any may be.
        """
        password_bytes(password)
        with self._database.read() as connection:
            row = connection.execute(select(USERS).where(USERS.c.name_key == name_key(_storable(name)))).first()
        kept = row.password_hash if row is not None else ""
        matches = self._passwords.matches(password, kept)
        if row is None or not matches or row.disabled:
            return None
        if self._passwords.is_outdated(kept):
            renewed = self._passwords.hash(password)
            with self._database.write() as connection:
                same = and_(USERS.c.name_key == row.name_key, USERS.c.password_hash == kept)
                connection.execute(update(USERS).where(same).values(password_hash=renewed))
            kept = renewed
        return self._begin(row.name_key, USERS.c.password_hash == kept)

    def sign_in_subject(self, subject: str, name: str, role: Role) -> tuple[str, Session] | None:
        """Begin a session of somebody whom an identity provider vouches for.

        Args:
            subject: Issuer and subject, which never change; a known one keeps the name that its answers carry.
            name: What the provider calls them.
            role: What they are now.

        Returns:
            As :meth:`sign_in`; None when the user is turned away here.

        Raises:
            InvalidInputError: For a name or a subject that breaks a rule.
            ConflictError: When somebody else has that name.
        """
        _check_subject(subject)
        with self._database.read() as connection:
            row = connection.execute(select(USERS).where(USERS.c.subject == subject)).first()
        if row is None:
            self._insert(validate_name(name), role, "", subject)
            key = name_key(name)
        elif row.disabled:
            return None
        else:
            key = row.name_key
            if row.role != role.value:
                with self._database.write() as connection:
                    connection.execute(update(USERS).where(USERS.c.name_key == key).values(role=role.value))
                    _end_sessions(connection, key)
        return self._begin(key, USERS.c.subject == subject)

    def session(self, token: str, *, used: bool = False) -> Session | None:
        """The session of a token.

        Args:
            token: As the browser gave it.
            used: Somebody is there: the time without use begins anew.

        Returns:
            None when it is over, or never was.
        """
        now_ns, idle_ns = self._clock_ns(), int(self._lifetimes.idle_s * _NS_PER_S)
        hashed = _hash(token)
        asked = (
            select(USERS, SESSIONS.c.used_at_ns, SESSIONS.c.ends_at_ns)
            .join(SESSIONS, SESSIONS.c.name_key == USERS.c.name_key)
            .where(SESSIONS.c.token_sha256 == hashed)
        )
        with self._database.read() as connection:
            row = connection.execute(asked).first()
        if row is None or row.disabled or now_ns >= row.ends_at_ns or now_ns >= row.used_at_ns + idle_ns:
            return None
        used_at_ns = row.used_at_ns
        # Short idle times are kept to as well.
        if used and now_ns - used_at_ns >= min(_USE_STEP_NS, idle_ns // 10):
            used_at_ns = now_ns
            with self._database.write() as connection:
                connection.execute(update(SESSIONS).where(SESSIONS.c.token_sha256 == hashed).values(used_at_ns=now_ns))
        return _session(row, min(row.ends_at_ns, used_at_ns + idle_ns))

    def end(self, token: str) -> None:
        """End a session; does nothing where there is none."""
        with self._database.write() as connection:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.token_sha256 == _hash(token)))

    def sweep(self) -> None:
        """Remove sessions that are over, and entries of the audit log that are too old."""
        now_ns = self._clock_ns()
        unused = SESSIONS.c.used_at_ns <= now_ns - int(self._lifetimes.idle_s * _NS_PER_S)
        with self._database.write() as connection:
            connection.execute(delete(SESSIONS).where(or_(unused, SESSIONS.c.ends_at_ns <= now_ns)))
            connection.execute(delete(AUDIT).where(AUDIT.c.at_ns < now_ns - int(self._lifetimes.audit_s * _NS_PER_S)))

    # ---- audit

    def append(self, entry: AuditEntry) -> None:
        """Keep what somebody did."""
        texts = ("who", "role", "action", "target", "address", "outcome")
        values = {name: _storable(getattr(entry, name)) for name in texts}
        with self._database.write() as connection:
            connection.execute(insert(AUDIT).values(at_ns=entry.at_ns, **values))

    def entries(self, *, before: int = 0, limit: int = 50) -> tuple[AuditEntry, ...]:
        """What was done, the newest first.

        Args:
            before: Only entries older than this one; 0 begins with the newest.
            limit: Most of them.
        """
        asked = select(AUDIT).order_by(AUDIT.c.entry_id.desc()).limit(limit)
        if before:
            asked = asked.where(AUDIT.c.entry_id < before)
        with self._database.read() as connection:
            return tuple(AuditEntry(**row) for row in connection.execute(asked).mappings())

    # ---- within

    def _insert(self, name: str, role: Role, password_hash: str, subject: str | None) -> User:
        key = name_key(name)
        with self._database.write() as connection:
            known = connection.execute(select(USERS.c.name).where(USERS.c.name_key == key)).first()
            if known is not None:
                raise ConflictError(f"a name must belong to one person, got {name!r} beside {known.name!r}")
            connection.execute(
                insert(USERS).values(
                    name_key=key,
                    name=name,
                    role=role.value,
                    password_hash=password_hash,
                    subject=subject,
                    disabled=False,
                    created_at_ns=self._clock_ns(),
                    signed_in_at_ns=0,
                )
            )
            return _user(_row(connection, name))

    def _begin(self, key: str, unchanged: Any) -> tuple[str, Session] | None:
        token, now_ns = secrets.token_urlsafe(32), self._clock_ns()
        ends_at_ns = now_ns + int(self._lifetimes.session_s * _NS_PER_S)
        with self._database.write() as connection:
            # What was checked may have changed since.
            still = and_(USERS.c.name_key == key, USERS.c.disabled.is_(False), unchanged)
            row = connection.execute(select(USERS).where(still)).first()
            if row is None:
                return None
            connection.execute(update(USERS).where(USERS.c.name_key == key).values(signed_in_at_ns=now_ns))
            connection.execute(
                insert(SESSIONS).values(
                    token_sha256=_hash(token), name_key=key, used_at_ns=now_ns, ends_at_ns=ends_at_ns
                )
            )
        return token, _session(row, min(ends_at_ns, now_ns + int(self._lifetimes.idle_s * _NS_PER_S)))


def _keep_private(url: str) -> None:
    """Make the file of a SQLite database for its owner alone; the files beside it are made like it."""
    file = sqlite_file(parse_url(url, ACCOUNTS.what))
    if file is None or file.exists():
        return
    # What goes wrong here goes wrong again when the database is opened, which says it better.
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def _storable(text: str) -> str:
    # PostgreSQL keeps no NUL, and neither keeps half of a surrogate pair.
    return text[:_MAX_AUDIT_TEXT].replace("\0", "?").encode(errors="replace").decode()


def _check_subject(subject: str) -> None:
    # Whoever it is must stay told apart from everybody else, so that nothing is cut off or replaced here.
    if not 0 < len(subject) <= _MAX_SUBJECT or not subject.isprintable():
        raise InvalidInputError(f"a subject must have 1 to {_MAX_SUBJECT} printable characters, got {subject[:80]!a}")


def _row(connection: Connection, name: str) -> Row[Any]:
    row = connection.execute(select(USERS).where(USERS.c.name_key == name_key(_storable(name)))).first()
    if row is None:
        raise NotFoundError(f"a user must be known, got {name[:80]!a}")
    return row


def _user(row: Row[Any]) -> User:
    return User(
        row.name, Role(row.role), row.subject is None, bool(row.disabled), row.created_at_ns, row.signed_in_at_ns
    )


def _session(row: Row[Any], expires_at_ns: int) -> Session:
    return Session(Person(row.name, Role(row.role)), row.subject is None, expires_at_ns)


def _managed(row: Row[Any]) -> bool:
    return bool(row.role == Role.ADMIN.value and not row.disabled)


def _anybody_manages(connection: Connection) -> bool:
    asked = select(USERS.c.name).where(USERS.c.role == Role.ADMIN.value, USERS.c.disabled.is_(False)).limit(1)
    return connection.execute(asked).first() is not None


def _end_sessions(connection: Connection, key: str) -> None:
    connection.execute(delete(SESSIONS).where(SESSIONS.c.name_key == key))
