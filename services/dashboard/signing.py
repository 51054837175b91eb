"""Signing in and staying so: who asks, from where, with what cookie, and what is written down of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeVar

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Scope

from services.adapters.accounts import Accounts, AuditEntry, Session
from services.adapters.openid import OpenIdProvider
from services.core.access import Permission, Person, Role, name_key
from services.core.errors import (
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    SightlineError,
    UnavailableError,
)
from services.dashboard.attempts import Attempts, TooManyAttemptsError, address_key
from services.dashboard.settings import SignInSettings
from services.runtime import metrics
from services.runtime.logging import get_logger

LOG = get_logger(__name__)
T = TypeVar("T")

#: What the page sends while somebody is there; what it asks for by itself keeps no session alive.
ACTIVE_HEADER: Final = "x-sightline-active"
#: Of a person at the machine itself, where nobody signs in: every role, and the name that they type.
LOCAL_PERSON: Final = Person("", Role.ADMIN)

_CALLER: Final = "sightline.caller"
_ASKING_THREADS: Final = 4
# Each takes 32 MiB and a third of a second.
_HASHING_THREADS: Final = 2
_MAX_HASHING: Final = 16
_SWEEP_S: Final = 600.0
_RECHECK_S: Final = 30.0
_OPEN_TO_NOBODY: Final = frozenset({Permission.USERS, Permission.AUDIT})


class SignedOutError(SightlineError):
    """Nobody is signed in, or no longer."""

    reason = "signed_out"


class WrongCredentialsError(SightlineError):
    """Name and password do not belong together."""

    reason = "wrong_credentials"


class OtherPersonError(ForbiddenError):
    """What somebody says carries the name of somebody else."""

    reason = "other_person"


@dataclass(slots=True)
class Caller:
    """Whoever sent a request."""

    person: Person | None
    """None: nobody is signed in, and the address is open to everybody."""
    address: str
    session: Session | None = None
    """None where nobody has to sign in."""
    notes: list[str] = field(default_factory=list)
    """What a route adds to the audit log; never a secret."""


def caller_of(request: HTTPConnection) -> Caller:
    """Whoever sent a request that has come through the guard."""
    caller: Caller = request.scope[_CALLER]
    return caller


def set_caller(scope: Scope, caller: Caller) -> None:
    """Say who sent a request."""
    scope[_CALLER] = caller


def reviewer_of(request: HTTPConnection, given: str | None, field: str = "reviewer") -> str:
    """Whose name stands beside what a request says.

    Args:
        request: Through the guard.
        given: The name in its body; None where it has none.
        field: What the body calls it.

    Raises:
        OtherPersonError: When whoever is signed in gives another name than their own.
        InvalidInputError: When nobody has to sign in, and no name is given.
    """
    caller = caller_of(request)
    if caller.session is None:
        if given is None:
            raise InvalidInputError(f"{field} must be the name of whoever says this, got none")
        # For the log.
        caller.person = Person(given, LOCAL_PERSON.role)
        return given
    name = caller.session.person.name
    if given is not None and given != name:
        raise OtherPersonError(f"{field} must be whoever is signed in, {name!r}, got {given!r}")
    return name


class SigningIn:
    """Sessions, cookies and the audit log for the routes. Used from the event loop; waits on threads of its own."""

    def __init__(
        self,
        settings: SignInSettings,
        accounts: Accounts | None,
        provider: OpenIdProvider | None = None,
        *,
        clock_s: Callable[[], float] = time.monotonic,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Set up.

        Args:
            settings: How people sign in.
            accounts: The accounts; None exactly where nobody has to sign in.
            provider: The OpenID provider, for that method.
            clock_s: Counts waiting times.
            clock_ns: The present, nanoseconds since the epoch.
        """
        if (accounts is None) != (settings.method == "none") or (provider is None) != (settings.method != "oidc"):
            raise InvalidInputError(f"accounts and a provider must be there as sign_in.method {settings.method} needs")
        self.settings = settings
        self._accounts = accounts
        self._provider = provider
        self._clock_s = clock_s
        self._clock_ns = clock_ns
        self._asking = ThreadPoolExecutor(_ASKING_THREADS, thread_name_prefix="accounts")
        self._hashing = ThreadPoolExecutor(_HASHING_THREADS, thread_name_prefix="passwords")
        self._hashes = 0
        # A name's wait is short, or a stranger could keep its owner out; an address has more people behind it.
        self._by_name = Attempts(5, 60.0, clock_s=clock_s)
        self._by_address = Attempts(20, 300.0, clock_s=clock_s)
        self._swept_s = -_SWEEP_S
        #: How often a session is looked at again while an answer goes on, as the live stream does for hours.
        self.recheck_s = _RECHECK_S
        prefix = "__Host-" if settings.is_encrypted else ""
        self.cookie = f"{prefix}sightline"
        self.transaction_cookie = f"{prefix}sightline-oidc"

    def close(self) -> None:
        """Let go of the threads."""
        for pool in (self._asking, self._hashing):
            pool.shutdown(wait=False, cancel_futures=True)

    # ---- who asks

    @property
    def is_open(self) -> bool:
        """Nobody has to sign in."""
        return self._accounts is None

    @property
    def accounts(self) -> Accounts:
        """The accounts; raises ``NotFoundError`` where nobody has to sign in."""
        if self._accounts is None:
            raise NotFoundError("sign_in.method must be set for accounts, it is none")
        return self._accounts

    @property
    def provider(self) -> OpenIdProvider:
        """The provider; raises ``NotFoundError`` where there is none."""
        if self._provider is None:
            raise NotFoundError("sign_in.method must be oidc for signing in elsewhere")
        return self._provider

    def address_of(self, connection: HTTPConnection) -> str:
        """From where a request comes; what proxies say of it counts only as far as they are trusted."""
        direct = connection.client.host if connection.client else ""
        told = ",".join(connection.headers.getlist("x-forwarded-for")).split(",")
        trusted = self.settings.trusted_proxies
        # The nearest proxy writes last; whatever stands before what the trusted ones wrote, anybody may have sent.
        if trusted and len(told) >= trusted and told[-trusted].strip():
            return told[-trusted].strip()[:64]
        return direct

    async def session(self, connection: HTTPConnection, *, used: bool = False) -> Session | None:
        """The session of whoever sent a request; None when there is none."""
        token = connection.cookies.get(self.cookie, "")
        if not token or self._accounts is None:
            return None
        accounts = self._accounts
        return await self.ask(lambda: accounts.session(token, used=used))

    def may(self, person: Person | None) -> list[str]:
        """The permissions of whoever is signed in, or of everybody where nobody has to."""
        if self.is_open:
            return [one.value for one in Permission if one not in _OPEN_TO_NOBODY]
        return [] if person is None else [one.value for one in Permission if person.role.may(one)]

    # ---- signing in and out

    async def sign_in(self, name: str, password: str, address: str) -> tuple[str, Session]:
        """Begin a session of a local user; written down either way.

        Raises:
            TooManyAttemptsError: After too many failures, until a while has passed.
            WrongCredentialsError: When name and password do not belong together.
        """
        if self.settings.method != "local":
            raise NotFoundError("sign_in.method must be local for signing in by password")
        found = await self._attempt(name, address, lambda: self.accounts.sign_in(name, password))
        if found is None:
            # People type their password where their name belongs; only a name that there is is written down.
            await self.write(Caller(None, address), "sign_in", await self.ask(lambda: self._known(name)), "refused")
            raise WrongCredentialsError("name and password must belong together, got a pair that does not")
        await self.write(Caller(found[1].person, address), "sign_in", "", "done")
        await self._sweep()
        return found

    def _known(self, name: str) -> str:
        try:
            return self.accounts.find(name).name
        except NotFoundError:
            return ""

    async def sign_in_subject(self, subject: str, name: str, role: Role, address: str) -> tuple[str, Session]:
        """Begin a session of somebody whom the provider vouches for; written down either way."""
        try:
            found = await self.ask(lambda: self.accounts.sign_in_subject(subject, name, role))
        except SightlineError:
            await self.write(Caller(None, address), "sign_in", name, "refused")
            raise
        if found is None:
            await self.write(Caller(None, address), "sign_in", name, "refused")
            raise ForbiddenError(f"a user must be enabled to sign in, got {name!r}")
        await self.write(Caller(found[1].person, address), "sign_in", "", "done")
        await self._sweep()
        return found

    async def change_own_password(self, caller: Caller, old: str, new: str) -> tuple[str, Session]:
        """Change a password by whoever knows it, and begin a fresh session in place of all others."""
        person = caller.person
        if person is None or caller.session is None or not caller.session.is_local:
            raise NotFoundError("only a local user has a password to change here")

        def change() -> tuple[str, Session] | None:
            self.accounts.change_own_password(person.name, old, new)
            return self.accounts.sign_in(person.name, new)

        found = await self._attempt(person.name, caller.address, change)
        if found is None:
            raise SignedOutError("the session must not have ended meanwhile")
        return found

    async def sign_out(self, connection: HTTPConnection) -> None:
        """End the session of whoever sent a request, if there is one."""
        token = connection.cookies.get(self.cookie, "")
        session = await self.session(connection)
        if token and not self.is_open:
            await self.ask(lambda: self.accounts.end(token))
        if session is not None:
            await self.write(Caller(session.person, self.address_of(connection)), "sign_out", "", "done")

    def set_cookie(self, response: Response, token: str) -> None:
        """Give a browser its session.

        ``Strict`` holds with OpenID too: what comes from the provider opens the page, which is open to everybody, and
        the page's own requests carry the cookie.
        """
        response.set_cookie(
            self.cookie,
            token,
            max_age=int(self.settings.session_s),
            path="/",
            secure=self.settings.is_encrypted,
            httponly=True,
            samesite="strict",
        )

    def remove_cookie(self, response: Response) -> None:
        """Take a browser's session away."""
        response.delete_cookie(
            self.cookie, path="/", secure=self.settings.is_encrypted, httponly=True, samesite="strict"
        )

    # ---- what is written down

    async def write(self, caller: Caller, action: str, target: str, outcome: str) -> None:
        """Write down what somebody did: into the log, and where there are accounts into the audit log too.

        What cannot be written there stands in the log alone: what was done is done.
        """
        entry = AuditEntry(
            at_ns=self._clock_ns(),
            who=caller.person.name if caller.person else "",
            role=caller.person.role.value if caller.person else "",
            action=action,
            target=" ".join([target, *caller.notes]).strip(),
            address=caller.address,
            outcome=outcome,
        )
        values: Mapping[str, object] = {
            "who": entry.who,
            "role": entry.role,
            "action": entry.action,
            "target": entry.target,
            "address": entry.address,
            "outcome": entry.outcome,
        }
        LOG.info("audit: %s %s", action, outcome, extra={"audit": values})
        if action == "sign_in":
            metrics.DASHBOARD_SIGN_INS.labels(outcome).inc()
        if self._accounts is None:
            return
        accounts = self._accounts
        try:
            await self.ask(lambda: accounts.append(entry))
        except SightlineError as error:
            LOG.error("the audit log must be writable, this entry is in the log only: %s", error)  # noqa: TRY400

    # ---- threads

    async def ask(self, question: Callable[[], T]) -> T:
        """Ask the accounts on a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._asking, question)

    async def hash(self, work: Callable[[], T]) -> T:
        """Do what hashes a password on a thread; only so many may wait, as each takes long.

        Raises:
            UnavailableError: When too many wait.
        """
        if self._hashes >= _MAX_HASHING:
            raise UnavailableError(f"at most {_MAX_HASHING} people may sign in at once, try again")
        self._hashes += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._hashing, work)
        finally:
            self._hashes -= 1

    async def _attempt(self, name: str, address: str, work: Callable[[], T | None]) -> T | None:
        """Let a password be tried, unless there were too many failures; None and ``ForbiddenError`` are failures."""
        counted = (
            # Bounded, as anybody may send anything.
            (self._by_name, name_key(name[:200])),
            (self._by_address, address_key(address)),
        )
        begun: list[tuple[Attempts, str]] = []
        try:
            for attempts, key in counted:
                attempts.begin(key)
                begun.append((attempts, key))
        except TooManyAttemptsError:
            for attempts, key in begun:
                attempts.take_back(key)
            metrics.DASHBOARD_SIGN_INS.labels("too_many").inc()
            LOG.warning("a sign-in must wait after too many failures", extra={"address": address})
            raise
        try:
            found = await self.hash(work)
        except ForbiddenError:
            raise
        except SightlineError:
            for attempts, key in begun:
                attempts.take_back(key)
            raise
        if found is not None:
            for attempts, key in begun:
                attempts.succeeded(key)
        return found

    async def _sweep(self) -> None:
        if self._clock_s() - self._swept_s < _SWEEP_S:
            return
        self._swept_s = self._clock_s()
        try:
            await self.ask(self.accounts.sweep)
        except SightlineError as error:
            LOG.warning("old sessions and audit entries stay for now: %s", error)
