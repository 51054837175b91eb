"""For admins: who may sign in, and who did what."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field

from services.adapters.accounts import AuditEntry, User
from services.core.access import MAX_PASSWORD_BYTES, Role
from services.dashboard.context import Context
from services.dashboard.posted import MAX_SMALL_BYTES, read_form
from services.dashboard.routes.live import JsonBody
from services.dashboard.routes.review_forms import PostedForm
from services.dashboard.signing import caller_of
from services.dashboard.views import NS_PER_MS, Json


class NewUserForm(PostedForm):
    """Somebody who may sign in from now on."""

    name: str = Field(max_length=1_000)
    role: Annotated[Role, Field(strict=False)]
    password: str = Field(max_length=MAX_PASSWORD_BYTES)


class UserForm(PostedForm):
    """What changes of a user; what is left out stays."""

    role: Annotated[Role, Field(strict=False)] | None = None
    disabled: bool | None = None
    password: str | None = Field(default=None, max_length=MAX_PASSWORD_BYTES)


def user_routes(context: Context) -> APIRouter:
    """Build the routes."""
    router = APIRouter(prefix="/api/v1")
    signing = context.signing

    @router.get("/users")
    async def users() -> Response:
        """Everybody who may sign in, or may no longer."""
        accounts = signing.accounts
        return JsonBody({"users": [_user_json(one) for one in await signing.ask(accounts.users)]})

    @router.post("/users", status_code=201)
    async def add(request: Request) -> Response:
        """Add a local user."""
        accounts = signing.accounts
        async with context.bodies.read(request, MAX_SMALL_BYTES) as body:
            form = read_form(NewUserForm, body)
        caller_of(request).notes += [form.name, f"role={form.role.value}"]
        user = await signing.hash(lambda: accounts.add(form.name, form.role, form.password))
        return JsonBody(_user_json(user), 201)

    @router.post("/users/{name:path}")
    async def change(name: str, request: Request) -> Response:
        """Change a role or a password, or turn somebody away; their sessions end."""
        accounts = signing.accounts
        async with context.bodies.read(request, MAX_SMALL_BYTES) as body:
            form = read_form(UserForm, body)
        notes = caller_of(request).notes
        notes += [f"role={form.role.value}"] if form.role else []
        notes += [f"disabled={form.disabled}".lower()] if form.disabled is not None else []
        notes += ["new password"] if form.password is not None else []
        user = await signing.hash(
            lambda: accounts.change(name, role=form.role, disabled=form.disabled, password=form.password)
        )
        return JsonBody(_user_json(user))

    @router.get("/audit")
    async def audit(
        after: Annotated[int, Query(ge=0, le=2**63 - 1, description="The `next` of an earlier page.")] = 0,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Response:
        """One page of what people did, the newest first."""
        accounts = signing.accounts
        found = await signing.ask(lambda: accounts.entries(before=after, limit=limit))
        following = found[-1].entry_id if len(found) == limit else None
        return JsonBody({"entries": [_entry_json(one) for one in found], "next": following})

    return router


def _user_json(user: User) -> Json:
    return {
        "name": user.name,
        "role": user.role.value,
        "is_local": user.is_local,
        "disabled": user.disabled,
        "created_at_ms": user.created_at_ns // NS_PER_MS,
        "signed_in_at_ms": user.signed_in_at_ns // NS_PER_MS or None,
    }


def _entry_json(entry: AuditEntry) -> Json:
    return {
        "entry_id": entry.entry_id,
        "at_ms": entry.at_ns // NS_PER_MS,
        "who": entry.who,
        "role": entry.role,
        "action": entry.action,
        "target": entry.target,
        "address": entry.address,
        "outcome": entry.outcome,
    }
