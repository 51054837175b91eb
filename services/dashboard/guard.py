"""The guard before every address under ``/api``: nobody comes through whom the access table does not let."""

from __future__ import annotations

import time
from typing import Final

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.routing import get_route_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.adapters.accounts import Session
from services.core.errors import ForbiddenError, SightlineError
from services.dashboard.access_table import Rule, is_guarded, rule_for, target_of
from services.dashboard.attempts import address_key
from services.dashboard.posted import ForeignPageError, require_own_page
from services.dashboard.rates import Rates, TooManyRequestsError
from services.dashboard.signing import ACTIVE_HEADER, LOCAL_PERSON, Caller, SigningIn, set_caller
from services.dashboard.views import encode, error_json
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

_UNSAFE: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class SessionEndedError(Exception):
    """The session ended while its answer was under way."""


class Guard:
    """Plain ASGI middleware, so that streams pass through unbuffered."""

    def __init__(self, app: ASGIApp, signing: SigningIn, rates: Rates) -> None:
        self._app = app
        self._signing = signing
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer why not."""
        if scope["type"] != "http" or not is_guarded(get_route_path(scope)):
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        method, path = scope["method"], get_route_path(scope)
        rule = rule_for(method, path)
        caller = Caller(None, self._signing.address_of(connection))
        set_caller(scope, caller)
        try:
            if rule is not None and method in _UNSAFE:
                require_own_page(connection.headers)
            refusal = await self._admit(connection, rule, caller)
        except ForeignPageError as error:
            refusal = _refusal(error, 403)
        except TooManyRequestsError as error:
            refusal = _refusal(error, 429)
            refusal.headers["Retry-After"] = str(error.wait_s)
        except ForbiddenError as error:
            await self._signing.write(caller, "refused", f"{method} {path}", "refused")
            refusal = _refusal(error, 403)
        except SightlineError as error:
            LOG.warning("who asks cannot be told now: %s", error)
            refusal = Response(
                encode(error_json("unavailable", "who is signed in cannot be looked up now")),
                503,
                {"Retry-After": "2", "Cache-Control": "no-store"},
                "application/json",
            )
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._pass(scope, receive, send, rule, caller)

    async def _admit(self, connection: HTTPConnection, rule: Rule | None, caller: Caller) -> Response | None:
        """Find out who asks; an answer where they are not let in."""
        if self._signing.is_open:
            # What no rule is for is no route either, which the router says.
            caller.person = LOCAL_PERSON
            return None
        used = connection.headers.get(ACTIVE_HEADER) == "1"
        caller.session = await self._signing.session(connection, used=used)
        caller.person = caller.session.person if caller.session else None
        # Before anything is written down of what somebody may not do.
        whose = f"address {address_key(caller.address)}" if caller.person is None else f"person {caller.person.name}"
        self._rates.take(whose, 1 if rule is None else rule.cost)
        if rule is not None and rule.permission is None:
            return None
        if caller.person is None:
            return _answer(401, "signed_out", "somebody must be signed in for this")
        if rule is None:
            return _answer(404, "not_found", "there is nothing at this address")
        if rule.permission is not None:
            caller.person.require(rule.permission)
        return None

    async def _pass(self, scope: Scope, receive: Receive, send: Send, rule: Rule | None, caller: Caller) -> None:
        status = 500
        watch = _Watch(self._signing, HTTPConnection(scope), caller.session)

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                await watch.require()
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except SessionEndedError:
            LOG.info("an answer was ended with the session that had asked for it")
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            if rule is not None and rule.audit:
                outcome = "done" if status < 400 else "refused" if status < 500 else "failed"
                await self._signing.write(caller, rule.audit, target_of(rule, get_route_path(scope)), outcome)


class _Watch:
    """Looks at a session again now and then while an answer is under way."""

    def __init__(self, signing: SigningIn, connection: HTTPConnection, session: Session | None) -> None:
        self._signing = signing
        self._connection = connection
        self._session = session
        self._next_s = time.monotonic() + signing.recheck_s

    async def require(self) -> None:
        """Raise ``SessionEndedError`` when the session is over, or nobody can say whether it is."""
        if self._session is None or time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + self._signing.recheck_s
        try:
            now = await self._signing.session(self._connection)
        except SightlineError:
            now = None
        if now is None or now.person != self._session.person:
            raise SessionEndedError


def _refusal(error: SightlineError, status_code: int) -> Response:
    return _answer(status_code, error.reason, str(error))


def _answer(status_code: int, reason: str, message: str) -> Response:
    return Response(encode(error_json(reason, message)), status_code, {"Cache-Control": "no-store"}, "application/json")
