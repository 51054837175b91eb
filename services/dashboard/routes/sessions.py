"""Signing in, staying so and signing out; by password here, or elsewhere."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import asdict
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import Field

from services.adapters.accounts import Session
from services.adapters.openid import OpenIdRefusedError, Transaction
from services.core.access import MAX_PASSWORD_BYTES
from services.core.errors import ConflictError, ForbiddenError, InvalidInputError, SightlineError, UnavailableError
from services.dashboard.attempts import TooManyAttemptsError
from services.dashboard.context import Context
from services.dashboard.posted import MAX_SMALL_BYTES, read_form
from services.dashboard.routes.live import JsonBody
from services.dashboard.routes.review_forms import PostedForm
from services.dashboard.signing import Caller, SigningIn, caller_of
from services.dashboard.views import NS_PER_MS, Json, error_json
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

_MAX_BACK_LENGTH: Final = 500
_TRANSACTION_S: Final = 600
# A path of this page: no other host by two slashes, no backslash that browsers read as one, nothing unprintable.
_BACK = re.compile(r"/(?!/)[!-\[\]-~]*\Z", re.ASCII)


class SignInForm(PostedForm):
    """Who somebody says they are."""

    name: str = Field(max_length=1_000)
    password: str = Field(max_length=MAX_PASSWORD_BYTES)


class PasswordForm(PostedForm):
    """A new password, by whoever knows the old one."""

    old: str = Field(max_length=MAX_PASSWORD_BYTES)
    new: str = Field(max_length=MAX_PASSWORD_BYTES)


def session_routes(context: Context) -> APIRouter:
    """Build the routes."""
    router = APIRouter(prefix="/api/v1")
    router.include_router(_sessions(context))
    router.include_router(_elsewhere(context))
    return router


def _sessions(context: Context) -> APIRouter:
    router = APIRouter()
    signing = context.signing

    @router.get("/session")
    async def session(request: Request) -> Response:
        """How people sign in here, who is signed in, until when, and what they may do."""
        return JsonBody(_session_json(signing, caller_of(request).session))

    @router.post("/session")
    async def sign_in(request: Request) -> Response:
        """Sign in with name and password."""
        async with context.bodies.read(request, MAX_SMALL_BYTES) as body:
            form = read_form(SignInForm, body)
        try:
            token, begun = await signing.sign_in(form.name, form.password, caller_of(request).address)
        except TooManyAttemptsError as error:
            return _too_many(error)
        await _leave(signing, request)
        return _signed_in(signing, token, begun)

    @router.post("/session/end")
    async def sign_out(request: Request) -> Response:
        """Sign out; also where nobody is signed in any more."""
        await signing.sign_out(request)
        # Pictures that the browser keeps are not for whoever comes next.
        response = JsonBody(_session_json(signing, None), headers={"Clear-Site-Data": '"cache"'})
        signing.remove_cookie(response)
        return response

    @router.post("/session/password")
    async def change_password(request: Request) -> Response:
        """Change one's own password; all other sessions of the person end."""
        async with context.bodies.read(request, MAX_SMALL_BYTES) as body:
            form = read_form(PasswordForm, body)
        try:
            token, begun = await signing.change_own_password(caller_of(request), form.old, form.new)
        except TooManyAttemptsError as error:
            return _too_many(error)
        return _signed_in(signing, token, begun)

    return router


def _elsewhere(context: Context) -> APIRouter:
    router = APIRouter(prefix="/sign-in/oidc")
    signing = context.signing

    @router.get("")
    async def begin(back: Annotated[str, Query(description="The path to come back to.")] = "/") -> Response:
        """Go to the OpenID provider."""
        try:
            url, transaction = await signing.hash(signing.provider.begin)
        except UnavailableError as error:
            LOG.warning("nobody can sign in elsewhere: %s", error)
            return _back_with(safe_path(back), "unavailable")
        response = _redirect(url)
        # Lax: the browser comes back from another site, and must bring this along. It opens nothing by itself.
        response.set_cookie(
            signing.transaction_cookie,
            _packed(transaction, safe_path(back)),
            max_age=_TRANSACTION_S,
            path="/",
            secure=signing.settings.is_encrypted,
            httponly=True,
            samesite="lax",
        )
        return response

    @router.get("/callback")
    async def come_back(request: Request) -> Response:
        """Come back from there."""
        provider = signing.provider
        transaction, back = _unpacked(request.cookies.get(signing.transaction_cookie, ""))
        address = caller_of(request).address
        try:
            identity = await signing.hash(lambda: provider.finish(dict(request.query_params), transaction))
            token, _ = await signing.sign_in_subject(identity.subject, identity.name, identity.role, address)
        except OpenIdRefusedError as error:
            LOG.warning("somebody was refused: %s", error)
            await signing.write(Caller(None, address), "sign_in", error.reason, "refused")
            response = _back_with(back, error.reason)
        except SightlineError as error:
            LOG.warning("somebody was refused: %s", error)
            response = _back_with(back, _why(error))
        else:
            response = _redirect(back)
            signing.set_cookie(response, token)
        response.delete_cookie(
            signing.transaction_cookie,
            path="/",
            secure=signing.settings.is_encrypted,
            httponly=True,
            samesite="lax",
        )
        return response

    return router


def safe_path(back: str) -> str:
    """A path of this page; whatever else is given becomes its first one."""
    usable = len(back) <= _MAX_BACK_LENGTH and _BACK.match(back) is not None and not back.startswith("/api")
    return back if usable else "/"


def _session_json(signing: SigningIn, session: Session | None) -> Json:
    person = session.person if session else None
    return {
        "sign_in": signing.settings.method,
        "person": {"name": person.name, "role": person.role.value} if person else None,
        "expires_ms": session.expires_at_ns // NS_PER_MS if session else None,
        "has_password": session is not None and session.is_local,
        "may": signing.may(person),
    }


def _signed_in(signing: SigningIn, token: str, session: Session) -> Response:
    response = JsonBody(_session_json(signing, session))
    signing.set_cookie(response, token)
    return response


async def _leave(signing: SigningIn, request: Request) -> None:
    """A browser has one session: the one before ends with the next."""
    token = request.cookies.get(signing.cookie, "")
    if token:
        await signing.ask(lambda: signing.accounts.end(token))


def _too_many(error: TooManyAttemptsError) -> Response:
    wait_s = str(max(1, round(error.wait_s)))
    return JsonBody(error_json(error.reason, str(error)), 429, {"Retry-After": wait_s})


def _redirect(url: str) -> Response:
    return RedirectResponse(url, 303, {"Cache-Control": "no-store"})


def _back_with(back: str, reason: str) -> Response:
    joint = "&" if "?" in back else "?"
    return _redirect(f"{back.partition('#')[0]}{joint}sign_in={quote(reason)}")


def _why(error: SightlineError) -> str:
    if isinstance(error, UnavailableError):
        return "unavailable"
    if isinstance(error, ConflictError):
        return "name_taken"
    if isinstance(error, InvalidInputError):
        return "no_name"
    return "turned_away" if isinstance(error, ForbiddenError) else "provider_refused"


def _packed(transaction: Transaction, back: str) -> str:
    return base64.urlsafe_b64encode(json.dumps({**asdict(transaction), "back": back}).encode()).decode()


def _unpacked(cookie: str) -> tuple[Transaction | None, str]:
    """What the browser was sent away with; it may bring back anything."""
    try:
        found = json.loads(base64.urlsafe_b64decode(cookie.encode()))
        texts = [found[name] for name in ("state", "nonce", "verifier", "back")]
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError):
        return None, "/"
    if not all(isinstance(one, str) and one for one in texts):
        return None, "/"
    return Transaction(*texts[:3]), safe_path(texts[3])
