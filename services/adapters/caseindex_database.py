"""The database under the case index: its tables brought up to date, its transactions, and what its errors mean.

Writers take turns, so that a count, a state and the reviews that it follows from never disagree: SQLite has one writer
at a time anyway (BEGIN IMMEDIATE), and in PostgreSQL each takes the same advisory lock. People write a few rows a
second and cases come at tens a second; a turn takes a millisecond or two.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from services.core.errors import InvalidInputError, UnavailableError

LOG = logging.getLogger(__name__)

REBUILD: Final = "run `sightline index rebuild`"

_BUSY_TIMEOUT_S: Final = 30
_CONNECT_TIMEOUT_S: Final = 5
_STATEMENT_TIMEOUT_S: Final = 30
_CACHE_KIB: Final = 16_384
_CONNECTIONS: Final = 4
# Any number, the same in every release: it is the lock's name. "sightcas" in ASCII.
_WRITE_LOCK: Final = 0x7369676874636173
_WRITES: Final = "sightline_writes"
_DAMAGED: Final = ("not a database", "malformed", "no such table", "no such column", "disk image")
# Alembic's context is one per process.
_upgrading = threading.Lock()


class IndexDamagedError(UnavailableError):
    """The index's file is no database, or lost its tables. Waiting does not help, building it anew does."""

    retriable = False
    reason = "index_damaged"


class Database:
    """SQLite or PostgreSQL; thread-safe."""

    def __init__(self, url: str) -> None:
        """Open it; tables are made or brought up to date.

        Args:
            url: As SQLAlchemy writes it: ``sqlite:///FOLDER/FILE``, ``sqlite://`` for one in memory, or
                ``postgresql://USER:PASSWORD@HOST/DATABASE``.

        Raises:
            InvalidInputError: For another URL, or a database that a newer release has written.
            IndexDamagedError: When the file is no database.
            UnavailableError: When the database does not answer.
        """
        self._url = parse_url(url)
        self._sqlite = self._url.get_backend_name() == "sqlite"
        in_memory = self._sqlite and self._file is None
        # A database in memory lives in one connection, so readers of it take turns with writers too.
        self._turn = threading.RLock()
        self._read_turn: contextlib.AbstractContextManager[Any] = self._turn if in_memory else contextlib.nullcontext()
        self._engine = self._make_engine(in_memory)
        self._writers = self._engine.execution_options(**{_WRITES: True})
        self._readers = (
            self._engine
            if self._sqlite
            # One view of the tables for all statements of a page.
            else self._engine.execution_options(isolation_level="REPEATABLE READ")
        )
        try:
            self._upgrade()
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return shown_url(self._url)

    @property
    def _file(self) -> Path | None:
        return sqlite_file(self._url)

    def _make_engine(self, in_memory: bool) -> Engine:
        # Parameters are people's words and names; errors go to the log without them.
        options: dict[str, Any] = {"hide_parameters": True}
        if in_memory:
            options |= {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
        elif self._sqlite:
            options |= {"pool_size": _CONNECTIONS, "connect_args": {"timeout": _BUSY_TIMEOUT_S}}
        else:
            limits = {
                "connect_timeout": _CONNECT_TIMEOUT_S,
                "options": f"-c statement_timeout={_STATEMENT_TIMEOUT_S}s",
            }
            given = {key: value for key, value in limits.items() if key not in self._url.query}
            options |= {"pool_size": _CONNECTIONS, "pool_pre_ping": True, "connect_args": given}
        try:
            if self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(self._url, **options)
        except OSError as error:
            raise UnavailableError(f"the case index {self} must have a folder, got {error.strerror}") from error
        except ModuleNotFoundError as error:
            raise InvalidInputError(
                f"a case index at {self} needs the package {error.name}: install sightline[postgres]"
            ) from error
        if self._sqlite:
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        return engine

    # ---- transactions

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees the tables as they were at its first statement."""
        with self._read_turn, self._explained(), self._readers.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that keeps other writers out until it ends; an error within takes everything back."""
        # SQLite's own waiting is by sleeping and has no order; within one process a lock is faster and fairer.
        turn: contextlib.AbstractContextManager[Any] = self._turn if self._sqlite else contextlib.nullcontext()
        with turn, self._explained(), self._writers.connect() as connection, connection.begin():
            if not self._sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:name)"), {"name": _WRITE_LOCK})
            yield connection

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise self._meaning(error) from error

    def _meaning(self, error: BaseException) -> UnavailableError:
        origin = getattr(error, "orig", None) or error
        said = (str(origin).strip() or type(origin).__name__).splitlines()[0]
        if self._url.password:
            said = said.replace(str(self._url.password), "***")
        if self._sqlite and any(sign in said for sign in _DAMAGED):
            return IndexDamagedError(f"the case index {self} must be a whole SQLite database, got {said!r}: {REBUILD}")
        return UnavailableError(f"the case index {self} must answer, got {said!r}")

    def close(self) -> None:
        """Let go of the connections; idempotent."""
        self._engine.dispose()

    # ---- tables

    def _upgrade(self) -> None:
        config = migrations()
        with _upgrading, self.write() as connection:
            script = ScriptDirectory.from_config(config)
            known = {revision.revision for revision in script.walk_revisions()}
            found = MigrationContext.configure(connection).get_current_revision()
            if found is not None and found not in known:
                raise InvalidInputError(
                    f"the case index {self} must have a schema that this release knows ({', '.join(sorted(known))}), "
                    f"got {found!r}: a newer release has written it"
                )
            if found == script.get_current_head():
                return
            if not self._sqlite:
                # A change of a large table takes as long as it takes.
                connection.execute(text("SET LOCAL statement_timeout = 0"))
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise InvalidInputError(f"the case index {self} must be upgradable, got {error}") from error
            LOG.info("case index %s brought from schema %s to %s", self, found, script.get_current_head())


def migrations() -> Config:
    """Alembic's configuration; there is no file of it."""
    config = Config()
    folder = Path(__file__).parent / "caseindex_migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def parse_url(url: str) -> URL:
    """Read a database's URL.

    Raises:
        InvalidInputError: If it is none, or of another kind than SQLite and PostgreSQL. Says nothing of what is in it:
            it may hold a password.
    """
    try:
        parsed = make_url(url)
        # A URL without a driver means the one that the extra ``postgres`` brings, in every release of SQLAlchemy.
        if parsed.drivername in {"postgresql", "postgres"}:
            parsed = parsed.set(drivername="postgresql+psycopg")
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise InvalidInputError("a case index must have a URL like sqlite:///FILE, got one that is none") from None
    if backend not in {"sqlite", "postgresql"}:
        raise InvalidInputError(f"a case index must lie in sqlite or postgresql, got {backend}")
    return parsed


def shown_url(url: URL) -> str:
    """Name a database in messages: where it is, without who asks and how they prove it."""
    if url.get_backend_name() == "sqlite":
        return str(sqlite_file(url) or "in memory")
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{url.host or ''}{port}/{url.database or ''}"


def sqlite_file(url: URL) -> Path | None:
    """The file of a SQLite database; None for one in memory and for PostgreSQL."""
    if url.get_backend_name() != "sqlite" or url.database in {None, "", ":memory:"}:
        return None
    return Path(str(url.database))


def remove_file(url: str) -> None:
    """Remove a SQLite database's file with what belongs to it, so that the next opening makes it anew.

    For a file that is damaged; nothing may have it open. Does nothing where there is no file.

    Raises:
        InvalidInputError: If the URL is none.
        UnavailableError: If the file system refuses.
    """
    path = sqlite_file(parse_url(url))
    if path is None:
        return
    try:
        for suffix in ("", "-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise UnavailableError(f"the case index {path} must be removable, got {error.strerror}") from error


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver would begin transactions by itself, and only before it writes.
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA journal_mode=WAL")
        # What is acknowledged, or its offset committed, must be here after a power cut: nobody would bring it back
        # unasked, and a review that is missing here would never be published. It costs 0.4 ms a commit.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    finally:
        cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
