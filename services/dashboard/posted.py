"""What is sent to the dashboard: who may send it, how much of it, and in which form.

Nobody signs in to the page, so a foreign page that is open in somebody's browser must not be able to send anything: the
header ``X-Sightline`` is one that a browser sends across origins only if it was allowed to, which it never is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from services.core.errors import InvalidInputError, SightlineError, UnavailableError

M = TypeVar("M", bound=BaseModel)

#: Largest body of an answer, which may hold a mask.
MAX_ANSWER_BYTES: Final = 12_000_000
#: Largest body of anything else.
MAX_SMALL_BYTES: Final = 64_000

_AT_ONCE_BYTES: Final = 4 * MAX_ANSWER_BYTES
_BODY_TIMEOUT_S: Final = 30.0
# An area has 1 024 numbers at most and a note 2 000 characters; a body of many more values is none that is meant, and
# each value would cost many times its bytes.
_MAX_COMMAS: Final = 8_192
_SHOWN_ERRORS: Final = 5
_SHOWN_CHARACTERS: Final = 80


class ForeignPageError(SightlineError):
    """A request that the page itself would not have sent."""

    reason = "foreign_page"


class BodyTooLargeError(SightlineError):
    """More bytes than a request of its kind may have."""

    reason = "too_large"


class SlowBodyError(SightlineError):
    """A body that does not end."""

    reason = "too_slow"


class Bodies:
    """Reads bodies, so that all of them together stay within a bound. Used from the event loop only."""

    def __init__(self, at_once_bytes: int = _AT_ONCE_BYTES, timeout_s: float = _BODY_TIMEOUT_S) -> None:
        """Set up.

        Args:
            at_once_bytes: What all bodies that are being read or worked on may have.
            timeout_s: Longest time for one body to come.
        """
        self._at_once_bytes = at_once_bytes
        self._timeout_s = timeout_s
        self.held_bytes = 0

    @asynccontextmanager
    async def read(self, request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
        """Read the body of a request, and count it until the work on it is done.

        Args:
            request: Not read yet.
            max_bytes: Most bytes; no more than these are taken into memory.

        Raises:
            BodyTooLargeError: It is larger, or says so.
            SlowBodyError: It does not come in time.
            InvalidInputError: It breaks off.
            UnavailableError: Too many bodies are being worked on.
        """
        _require_size(request.headers.get("content-length", ""), max_bytes)
        body = bytearray()
        try:
            try:
                async with asyncio.timeout(self._timeout_s):
                    async for chunk in request.stream():
                        self._take(body, chunk, max_bytes)
            except TimeoutError:
                raise SlowBodyError(f"the body must come within {self._timeout_s:g} s, got a part of it") from None
            except ClientDisconnect:
                raise InvalidInputError("the body must come whole, got a part of it") from None
            yield bytes(body)
        finally:
            self.held_bytes -= len(body)

    def _take(self, body: bytearray, chunk: bytes, max_bytes: int) -> None:
        if len(body) + len(chunk) > max_bytes:
            raise BodyTooLargeError(f"the body must have at most {max_bytes} bytes, got more")
        if self.held_bytes + len(chunk) > self._at_once_bytes:
            raise UnavailableError("too many answers are being taken at once, send this one again")
        self.held_bytes += len(chunk)
        body += chunk


def require_own_page(headers: Mapping[str, str]) -> None:
    """Refuse what another page may have made a browser send.

    Args:
        headers: Of the request.

    Raises:
        ForeignPageError: With what is missing or wrong.
    """
    site = headers.get("sec-fetch-site", "same-origin")
    if site not in ("same-origin", "none"):
        raise ForeignPageError(f"only this page may send anything, got Sec-Fetch-Site {site[:_SHOWN_CHARACTERS]!a}")
    if headers.get("x-sightline") != "1":
        raise ForeignPageError("a request that changes something must have the header X-Sightline: 1, got none")
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise ForeignPageError(
            f"Content-Type must be application/json, got {content_type[:_SHOWN_CHARACTERS]!a}",
        )


def read_form(form: type[M], body: bytes) -> M:
    """Take a body as what it is meant to be.

    Args:
        form: Its shape.
        body: JSON.

    Raises:
        InvalidInputError: With the fields that are wrong.
    """
    if body.count(b",") > _MAX_COMMAS:
        raise InvalidInputError(f"the body must have at most {_MAX_COMMAS} values, got more")
    try:
        return form.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise InvalidInputError(what_is_wrong(found)) from None


def body_of(form: type[BaseModel]) -> dict[str, Any]:
    """The body in the interface's description: it is read by us, as only a bounded one is.

    Args:
        form: Its shape.
    """
    schema = {"schema": form.model_json_schema()}
    return {"requestBody": {"required": True, "content": {"application/json": schema}}}


def what_is_wrong(errors: Iterable[Mapping[str, Any]]) -> str:
    """Say which fields are wrong, in one line.

    Args:
        errors: As pydantic lists them.
    """
    listed = list(errors)
    said = [f"{'.'.join(str(part)[:_SHOWN_CHARACTERS] for part in one['loc'])}: {one['msg']}" for one in listed]
    more = [f"and {len(listed) - _SHOWN_ERRORS} more"] if len(listed) > _SHOWN_ERRORS else []
    return "; ".join([one.removeprefix(": ") for one in said[:_SHOWN_ERRORS]] + more)


def _require_size(declared: str, max_bytes: int) -> None:
    # Longer than any length that is meant; int() itself refuses some thousand digits.
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > max_bytes):
        raise BodyTooLargeError(f"the body must have at most {max_bytes} bytes, got {declared[:_SHOWN_CHARACTERS]}")
