"""Tokens that machines show: 256 random bits, of which only the SHA-256 is kept."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.core.call_scopes import Scope
from services.core.errors import InvalidInputError

#: So that a secret scanner, and a person, can tell what was found.
TOKEN_PREFIX: Final = "sightline_"  # noqa: S105 - a prefix, no secret
RANDOM_BYTES: Final = 32
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class MachineToken:
    """What is known of one token.

    Attributes:
        name: Of the machine, for the log.
        sha256: Of the token, in lower-case hexadecimal.
        scopes: What it permits.
        expires: Last day (UTC) on which it is taken.
    """

    name: str
    sha256: str
    scopes: frozenset[Scope]
    expires: datetime.date

    @classmethod
    def checked(cls, name: str, sha256: str, scopes: frozenset[Scope], expires: datetime.date) -> MachineToken:
        """Make one by the rules of the file.

        Raises:
            InvalidInputError: As :func:`parse_tokens`.
        """
        return _parse_entry(1, {"name": name, "sha256": sha256, "scopes": sorted(scopes), "expires": expires})


def make_token(random_bytes: bytes) -> str:
    """Write a token.

    Args:
        random_bytes: 32 bytes from the system's random source.

    Raises:
        InvalidInputError: If they are not 32.
    """
    if len(random_bytes) != RANDOM_BYTES:
        raise InvalidInputError(f"a token needs {RANDOM_BYTES} random bytes, got {len(random_bytes)}")
    return TOKEN_PREFIX + random_bytes.hex()


def hash_of(token: str) -> str:
    """SHA-256 of a token. A slow hash guards guessable words; 256 random bits are not guessed."""
    return hashlib.sha256(token.encode()).hexdigest()


def find_token(tokens: Iterable[MachineToken], shown: str) -> MachineToken | None:
    """The entry of a token that was shown, None where there is none.

    Compares with every entry in constant time, so that how long it takes tells nothing.
    """
    digest = hash_of(shown)
    found = None
    for token in tokens:
        if hmac.compare_digest(token.sha256, digest):
            found = token
    return found


def parse_tokens(document: object) -> tuple[MachineToken, ...]:
    """Read what the tokens file says.

    Args:
        document: The parsed YAML: ``tokens: [{name, sha256, scopes, expires}]``.

    Raises:
        InvalidInputError: Naming the entry, the rule and what was found; never a hash.
    """
    if not isinstance(document, Mapping) or set(document) != {"tokens"} or not isinstance(document["tokens"], list):
        raise InvalidInputError("a tokens file must hold one list named 'tokens', got something else")
    tokens = tuple(_parse_entry(place, entry) for place, entry in enumerate(document["tokens"], start=1))
    for field in ("name", "sha256"):
        values = [getattr(token, field) for token in tokens]
        if len(set(values)) != len(values):
            raise InvalidInputError(f"every token must have a {field} of its own, got one twice")
    return tokens


def _parse_entry(place: int, entry: Any) -> MachineToken:
    if not isinstance(entry, Mapping) or set(entry) != {"name", "sha256", "scopes", "expires"}:
        raise InvalidInputError(f"token {place} must have exactly name, sha256, scopes and expires")
    name, digest, scopes, expires = entry["name"], entry["sha256"], entry["scopes"], entry["expires"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"token {place}'s name must be 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit, "
            f"got {name!r}"
        )
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise InvalidInputError(f"token {name!r}'s sha256 must be 64 lower-case hexadecimal digits")
    if not isinstance(scopes, list) or not scopes:
        raise InvalidInputError(f"token {name!r} must have at least one scope, got {scopes!r}")
    if type(expires) is not datetime.date:
        raise InvalidInputError(f"token {name!r}'s expires must be a date such as 2027-01-31, got {expires!r}")
    return MachineToken(name, digest, parse_scopes(scopes), expires)


def parse_scopes(scopes: Iterable[str]) -> frozenset[Scope]:
    """Read scopes by name.

    Raises:
        InvalidInputError: Naming one that there is not.
    """
    known = {scope.value: scope for scope in Scope}
    for scope in scopes:
        if not isinstance(scope, str) or scope not in known:
            raise InvalidInputError(f"a scope must be one of {', '.join(known)}, got {scope!r}")
    return frozenset(known[scope] for scope in scopes)
