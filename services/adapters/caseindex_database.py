"""A database of ours: its tables brought up to date, its transactions, and what its errors mean.

The case index lies in one, the accounts of the dashboard in another; what tells them apart is a :class:`Tables`.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from services.core.errors import InvalidInputError, SightlineError, UnavailableError

LOG = logging.getLogger(__name__)

REBUILD: Final = "run `sightline index rebuild`"

_BUSY_TIMEOUT_S: Final = 30
_CONNECT_TIMEOUT_S: Final = 5
_STATEMENT_TIMEOUT_S: Final = 30
#: A writer that does nothing for so long keeps the others out no longer: its machine may be gone without a word.
_IDLE_WRITER_S: Final = 30
#: How soon a server is noticed that is gone without a word: after so long, then tries a second apart.
_SILENCE_S: Final = 10
_ENCODING: Final = "UTF8"
_CACHE_KIB: Final = 16_384
_CONNECTIONS: Final = 4
_WRITES: Final = "sightline_writes"
_DAMAGED: Final = ("not a database", "malformed", "no such table", "no such column", "disk image")
_TAKE_TURN: Final = text(
    "SELECT set_config('idle_in_transaction_session_timeout', :idle, true), pg_advisory_xact_lock(:name)"
)
# Alembic's context is one per process.
_upgrading = threading.Lock()


class IndexDamagedError(UnavailableError):
    """The index's file is no database, or lost its tables. Waiting does not help, building it anew does."""

    retriable = False
    reason = "index_damaged"


@dataclass(frozen=True, slots=True)
class Tables:
    """What lies in a database, and how messages speak of it."""

    what: str
    """For example ``case index``."""
    migrations: str
    """Folder of the migrations, beside this module."""
    write_lock: int
    """Name of the lock by which PostgreSQL's writers take turns: any number, the same in every release."""
    version_table: str = "alembic_version"
    """Where the schema's revision stands; two kinds of tables may share one PostgreSQL database."""
    damaged: type[UnavailableError] = UnavailableError
    """Raised where the file is no database."""
    repair: str = ""
    """What to do then."""


#: "sightcas" in ASCII.
CASE_INDEX: Final = Tables(
    "case index", "caseindex_migrations", 0x7369676874636173, damaged=IndexDamagedError, repair=REBUILD
)


class Database:
    """SQLite or PostgreSQL; thread-safe."""

    def __init__(self, url: str, tables: Tables = CASE_INDEX) -> None:
        """Open it; tables are made or brought up to date.

        Args:
            url: As SQLAlchemy writes it: ``sqlite:///FOLDER/FILE``, ``sqlite://`` for one in memory, or
                ``postgresql://USER:PASSWORD@HOST/DATABASE``.
            tables: What lies in it.

        Raises:
            InvalidInputError: For another URL, a database that a newer release has written, or one in PostgreSQL whose
                encoding is not UTF8.
            IndexDamagedError: When the file is no database.
            UnavailableError: When the database does not answer.
        """
        self._tables = tables
        self._url = parse_url(url, tables.what)
        self._sqlite = self._url.get_backend_name() == "sqlite"
        in_memory = self._sqlite and self._file is None
        # A database in memory lives in one connection, so readers of it take turns with writers too.
        self._turn = threading.RLock()
        self._read_turn: contextlib.AbstractContextManager[Any] = self._turn if in_memory else contextlib.nullcontext()
        self._engine = self._make_engine(in_memory)
        if self._sqlite:
            self._writers, self._readers = self._engine.execution_options(**{_WRITES: True}), self._engine
        else:
            # Each statement sees what the last holder of the turn has written, whatever the server's default is.
            self._writers = self._engine.execution_options(isolation_level="READ COMMITTED")
            # One view of the tables for all statements of a page.
            self._readers = self._engine.execution_options(isolation_level="REPEATABLE READ")
        try:
            self._revisions = self._upgrade()
        except BaseException:
            self.close()
            raise

    @property
    def revisions(self) -> tuple[str | None, str | None]:
        """The schema that was found, None where there were no tables, and the one that it was brought to."""
        return self._revisions

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
                "client_encoding": "utf8",
                "options": f"-c statement_timeout={_STATEMENT_TIMEOUT_S}s",
                "keepalives_idle": _SILENCE_S,
                "keepalives_interval": 1,
                "keepalives_count": 5,
                "tcp_user_timeout": (_SILENCE_S + 5) * 1_000,
            }
            given = {key: value for key, value in limits.items() if key not in self._url.query}
            options |= {"pool_size": _CONNECTIONS, "pool_pre_ping": True, "connect_args": given}
        try:
            if self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(self._url, **options)
        except OSError as error:
            raise UnavailableError(
                f"the {self._tables.what} {self} must have a folder, got {error.strerror}"
            ) from error
        except ModuleNotFoundError as error:
            raise InvalidInputError(
                f"a database at {self} needs the package {error.name}: install sightline[postgres]"
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
    def write(self, *, unhurried: bool = False) -> Iterator[Connection]:
        """A transaction that keeps other writers out until it ends; an error within takes everything back.

        Args:
            unhurried: Statements take as long as they take, once it is this writer's turn.
        """
        # SQLite's own waiting is by sleeping and has no order; within one process a lock is faster and fairer.
        turn: contextlib.AbstractContextManager[Any] = self._turn if self._sqlite else contextlib.nullcontext()
        with turn, self._explained(), self._writers.connect() as connection, connection.begin():
            if not self._sqlite:
                connection.execute(_TAKE_TURN, {"name": self._tables.write_lock, "idle": f"{_IDLE_WRITER_S}s"})
                if unhurried:
                    connection.execute(text("SET LOCAL statement_timeout = 0"))
            yield connection

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except UnicodeEncodeError:
            # A half of a surrogate pair; the error has the text.
            raise InvalidInputError(f"a text for the {self._tables.what} must be Unicode, got half a pair") from None
        except (DataError, IntegrityError) as error:
            # PostgreSQL quotes the row, which has people's words and names.
            raise self._meaning(error) from (error if self._sqlite else None)
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise self._meaning(error) from error

    def _meaning(self, error: BaseException) -> SightlineError:
        origin = getattr(error, "orig", None) or error
        said = (str(origin).strip() or type(origin).__name__).splitlines()[0]
        if self._url.password:
            said = said.replace(str(self._url.password), "***")
        if isinstance(error, DataError):
            # For example a NUL, which PostgreSQL does not keep: trying again would not help.
            return InvalidInputError(f"what is written to the {self._tables.what} must fit its columns, got {said!r}")
        if self._sqlite and any(sign in said for sign in _DAMAGED):
            repair = f": {self._tables.repair}" if self._tables.repair else ""
            return self._tables.damaged(
                f"the {self._tables.what} {self} must be a whole SQLite database, got {said!r}{repair}"
            )
        return UnavailableError(f"the {self._tables.what} {self} must answer, got {said!r}")

    def close(self) -> None:
        """Let go of the connections; idempotent."""
        # The one connection of a database in memory is not taken from under somebody who reads.
        with self._read_turn:
            self._engine.dispose()

    # ---- tables

    def _upgrade(self) -> tuple[str | None, str | None]:
        config = migrations(self._tables)
        what = self._tables.what
        # A change of a large table takes as long as it takes.
        with _upgrading, self.write(unhurried=True) as connection:
            self._check_encoding(connection)
            script = ScriptDirectory.from_config(config)
            known = {revision.revision for revision in script.walk_revisions()}
            found = MigrationContext.configure(
                connection, opts={"version_table": self._tables.version_table}
            ).get_current_revision()
            if found is not None and found not in known:
                raise InvalidInputError(
                    f"the {what} {self} must have a schema that this release knows ({', '.join(sorted(known))}), "
                    f"got {found!r}: a newer release has written it"
                )
            head = script.get_current_head()
            if found == head:
                return found, head
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise InvalidInputError(f"the {what} {self} must be upgradable, got {error}") from error
            LOG.info("%s %s brought from schema %s to %s", what, self, found, head)
            return found, head

    def _check_encoding(self, connection: Connection) -> None:
        if self._sqlite:
            return
        encoding = connection.scalar(text("SHOW server_encoding"))
        if encoding != _ENCODING:
            raise InvalidInputError(f"the {self._tables.what} {self} must be encoded in {_ENCODING}, got {encoding}")


def migrations(tables: Tables = CASE_INDEX) -> Config:
    """Alembic's configuration; there is no file of it."""
    config = Config()
    folder = Path(__file__).parent / tables.migrations
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def parse_url(url: str, what: str = CASE_INDEX.what) -> URL:
    """Read a database's URL.

    Args:
        url: As SQLAlchemy writes it.
        what: What lies there, for messages.

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
        raise InvalidInputError(f"the {what} must have a URL like sqlite:///FILE, got one that is none") from None
    if backend not in {"sqlite", "postgresql"}:
        raise InvalidInputError(f"the {what} must lie in sqlite or postgresql, got {backend}")
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
